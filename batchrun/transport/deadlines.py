"""Thousands of deadlines with one timer: all have the same length, so the oldest always ends first.

1. `asyncio.timeout` sets and cancels a timer for each block, which costs a tenth of the processor time of a request.
2. Time in which this process stood still (SIGSTOP, Ctrl-Z, a closed laptop) is nobody's delay: it does not count. What
   came meanwhile lies in the buffers of the sockets, may be paid for, and is read before anything is timed out.
3. A process that stands still cannot notice it. A timer that goes off far too late can.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from batchrun import checks

LOOK_EVERY_S = 0.5
LATE_S = 0.25  # a timer that is later than this tells that the process stood still, or had far too much to do
CATCH_UP_S = 2.0  # then everything that is due gets so much time: enough to read what lies in the buffers


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an attempt may take, in seconds.

    `attempt_s`: from sending the request to the last byte of its answer.
    `connect_s`: until a connection is made.
    `idle_s`: between two events of a stream. Comments that only keep the connection open do not count.
    """

    attempt_s: float = 600.0
    connect_s: float = 10.0
    idle_s: float = 120.0

    def __post_init__(self) -> None:
        """Raise `UsageError` for a time that is none."""
        for name in ("attempt_s", "connect_s", "idle_s"):
            checks.settle(self, **{name: checks.seconds(f"Timeouts.{name}", getattr(self, name))})


def exact_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """A clock for latencies, in seconds: the loop's, or the system's if the loop's is coarse (uvloop: 1 ms)."""
    return time.monotonic if type(loop).__module__.partition(".")[0] == "uvloop" else loop.time


async def sleep_awake(seconds: float) -> None:
    """Sleep so many seconds, not counting those in which the process stood still."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while (left_s := until - loop.time()) > 0:
        due = loop.time() + min(left_s, LOOK_EVERY_S)
        await asyncio.sleep(due - loop.time())
        if (late_s := loop.time() - due) > LATE_S:
            until = max(until + late_s, loop.time() + min(seconds, CATCH_UP_S))


class Deadline:
    """A time limit on a piece of work; the task that began it is cancelled when the time is over."""

    __slots__ = ("has_passed", "task")

    task: asyncio.Task[object]
    has_passed: bool

    def ran_out(self) -> bool:
        """Whether only this deadline cancelled the task. If so, the cancellation is taken back."""
        if not self.has_passed:
            return False
        self.has_passed = False
        return self.task.uncancel() == 0


class Deadlines:
    """Deadlines of `seconds` each: `begin` one, and `end` it however the work ended."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._open: dict[Deadline, float] = {}  # when they are over, the next one first
        self._timer: asyncio.TimerHandle | None = None
        self._look_at = 0.0

    def begin(self, deadline: Deadline) -> None:
        """Start the time of `deadline` for the running task."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can be cancelled"
        deadline.task, deadline.has_passed = task, False
        now = self._loop.time()
        self._open[deadline] = now + self._seconds
        if self._timer is None:
            self._set_timer(now, now + self._seconds)

    def renew(self, deadline: Deadline) -> None:
        """Start its time again, unless it is over."""
        if self._open.pop(deadline, None) is not None:
            self._open[deadline] = self._loop.time() + self._seconds

    def end(self, deadline: Deadline) -> None:
        """The work is done. The timer stays set: when it goes off, it looks for the next deadline."""
        self._open.pop(deadline, None)
        if deadline.has_passed:
            deadline.ran_out()

    def close(self) -> None:
        """Cancel the timer; no deadline may begin after this."""
        if self._timer is not None:
            self._timer.cancel()

    def _set_timer(self, now: float, over_at: float) -> None:
        """Look when the next deadline is over, and often enough to notice that the process stood still."""
        self._look_at = min(over_at, now + LOOK_EVERY_S)
        self._timer = self._loop.call_at(self._look_at, self._look)

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        if now - self._look_at > LATE_S:
            self._stood_still(now - self._look_at, now)
        for deadline, over_at in list(self._open.items()):
            if over_at > now:
                self._set_timer(now, over_at)
                return
            del self._open[deadline]
            deadline.has_passed = True
            deadline.task.cancel()

    def _stood_still(self, late_s: float, now: float) -> None:
        """Time in which nothing could be read does not count; their order stays."""
        earliest = now + min(self._seconds, CATCH_UP_S)
        self._open = {deadline: max(over_at + late_s, earliest) for deadline, over_at in self._open.items()}
