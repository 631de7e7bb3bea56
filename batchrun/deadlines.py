"""Deadlines by the thousand, for one timer: all are equally far away, so the oldest runs out first.

`asyncio.timeout` sets a timer for each block and takes it back; that costs a tenth of what a whole request may.
"""

from __future__ import annotations

import asyncio
from types import TracebackType


class Deadline:
    """One block of a task, entered by `with`: cancelled once its time is over.

    `has_passed` tells so in an `except asyncio.CancelledError`; anybody else's cancellation goes on.
    """

    __slots__ = ("_cancellations", "_deadlines", "_task", "has_passed", "start_s")

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self.has_passed = False

    def __enter__(self) -> Deadline:
        task = asyncio.current_task()
        assert task is not None, "only a task can be cancelled"
        self._task, self._cancellations = task, task.cancelling()
        self.start_s = self._deadlines.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Ends a block that ran out of time without an exception; `has_passed` says so."""
        self._deadlines.remove(self)
        if not self.has_passed:
            return False
        is_ours_alone = self._task.uncancel() <= self._cancellations
        return is_ours_alone and kind is asyncio.CancelledError

    def pass_now(self) -> None:
        """Its time is over."""
        self.has_passed = True
        self._task.cancel()


class Deadlines:
    """Blocks that may each take `seconds`."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._loop = asyncio.get_running_loop()
        self._open: dict[Deadline, float] = {}  # the oldest first
        self._timer: asyncio.TimerHandle | None = None

    def add(self, deadline: Deadline) -> float:
        """A block begins; returns when that is, by the loop's clock."""
        now = self._open[deadline] = self._loop.time()
        if self._timer is None:
            self._timer = self._loop.call_at(now + self._seconds, self._look)
        return now

    def remove(self, deadline: Deadline) -> None:
        """A block has ended. The timer stays: it is set anew when it goes off."""
        self._open.pop(deadline, None)

    def close(self) -> None:
        """No block begins any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        self._timer = None
        now = self._loop.time()
        for deadline, start_s in list(self._open.items()):
            if start_s + self._seconds > now:
                self._timer = self._loop.call_at(start_s + self._seconds, self._look)
                return
            del self._open[deadline]
            deadline.pass_now()
