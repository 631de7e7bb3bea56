"""How long the lines that are left will take: by the pace of the last half minute in which the run was sending. Pure.

1. Time in an outage or a pause is left out: the guess stands still until the run goes on.
2. Where nothing has been recorded for half a minute, as in a long pause for a rate limit, the pace of the whole run
   counts.
3. A run that is stopping will not send what is left, so there is no guess.
4. Nor is there one where nothing has been recorded for longer than all that is left takes by the pace of the run: then
   it is held up, as the lines of one model that is away while others have gone on.
"""

from __future__ import annotations

from collections import deque

from batchrun.limits.limited_by import LimitedBy

WINDOW_S = 30.0
PATIENCE_S = 2.0  # a guess of less is not doubted before
_STANDING = (LimitedBy.OUTAGE, LimitedBy.PAUSED)


class Eta:
    """The time that is left, from what is recorded over time. Call `note` a few times a second."""

    def __init__(self) -> None:
        self._points = deque([(0.0, 0)])  # seconds of sending, and lines recorded by then
        self._at_s = 0.0
        self._sending_s = 0.0
        self._last_s = 0.0  # seconds of sending until the last record

    def note(self, recorded: int, elapsed_s: float, limited_by: LimitedBy) -> None:
        """Note how many lines the run has recorded after so many seconds, and what limits it."""
        if limited_by not in _STANDING:
            self._sending_s += max(0.0, elapsed_s - self._at_s)
        self._at_s = elapsed_s
        if recorded > self._points[-1][1]:
            self._last_s = self._sending_s
        if len(self._points) > 1 and self._points[-1][0] == self._sending_s:
            self._points.pop()
        self._points.append((self._sending_s, recorded))
        while len(self._points) > 2 and self._sending_s - self._points[0][0] > WINDOW_S:
            self._points.popleft()

    def left_s(self, lines: int, limited_by: LimitedBy) -> float | None:
        """Seconds for so many lines; None while nothing tells, and where they will not be sent."""
        per_s = self._per_s()
        if not lines or not per_s or limited_by is LimitedBy.STOPPING:
            return None
        is_held_up = self._sending_s - self._last_s > max(lines / max(per_s, self._mean_per_s), PATIENCE_S)
        return None if is_held_up else lines / per_s

    def _per_s(self) -> float:
        (start_s, start), (end_s, end) = self._points[0], self._points[-1]
        if end_s > start_s and end > start:
            return (end - start) / (end_s - start_s)
        return self._mean_per_s

    @property
    def _mean_per_s(self) -> float:
        end_s, end = self._points[-1]
        return end / end_s if end_s else 0.0
