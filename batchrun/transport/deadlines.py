"""Deadlines by the thousand, for one timer: all are equally far away, so the oldest runs out first.

`asyncio.timeout` sets a timer for each block and takes it back; that costs a tenth of what a whole request may.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable


def exact_clock(loop: asyncio.AbstractEventLoop) -> Callable[[], float]:
    """Seconds, for latencies: by the loop's clock, or the system's where the loop's has whole milliseconds (uvloop)."""
    return time.monotonic if type(loop).__module__.partition(".")[0] == "uvloop" else loop.time


class Deadline:
    """One stretch of work of the task that begins it; the task is cancelled once its time is over."""

    __slots__ = ("has_passed", "task")

    task: asyncio.Task[object]
    has_passed: bool

    def ran_out(self) -> bool:
        """Whether a cancellation was this deadline's alone. Then it is taken back, and the task may go on."""
        if not self.has_passed:
            return False
        self.has_passed = False
        return self.task.uncancel() == 0


class Deadlines:
    """Stretches of work that may each take `seconds`: `begin` one, and `end` it whatever became of it."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._open: dict[Deadline, float] = {}  # when they are over, the next one first
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, deadline: Deadline) -> None:
        """The running task begins."""
        task = asyncio.current_task(self._loop)
        assert task is not None, "only a task can be cancelled"
        deadline.task, deadline.has_passed = task, False
        now = self._loop.time()
        self._open[deadline] = now + self._seconds
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._seconds, self._look)

    def renew(self, deadline: Deadline) -> None:
        """Its time begins anew, unless it is over."""
        if self._open.pop(deadline, None) is not None:
            self._open[deadline] = self._loop.time() + self._seconds

    def end(self, deadline: Deadline) -> None:
        """The task is done with it. The timer stays: it is set anew when it goes off."""
        self._open.pop(deadline, None)
        if deadline.has_passed:
            deadline.ran_out()

    def close(self) -> None:
        """Nothing begins any more."""
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
