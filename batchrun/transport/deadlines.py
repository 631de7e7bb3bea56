"""Thousands of deadlines with one timer: all have the same length, so the oldest always ends first.

`asyncio.timeout` sets and cancels a timer for each block, which costs a tenth of the processor time of a request.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def exact_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """A clock for latencies, in seconds: the loop's, or the system's if the loop's is coarse (uvloop: 1 ms)."""
    return time.monotonic if type(loop).__module__.partition(".")[0] == "uvloop" else loop.time


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

    def begin(self, deadline: Deadline) -> None:
        """Start the time of `deadline` for the running task."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can be cancelled"
        deadline.task, deadline.has_passed = task, False
        now = self._loop.time()
        self._open[deadline] = now + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._seconds, self._look)

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

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for deadline, over_at in list(self._open.items()):
            if over_at > now:
                self._timer = self._loop.call_at(over_at, self._look)
                return
            del self._open[deadline]
            deadline.has_passed = True
            deadline.task.cancel()
