"""`--max-errors` over all shards: how many lines may go wrong before the job stops. Pure.

Shards report how many lines they have recorded and how many of them went wrong. The rules are those of
`engine/error_limit.py`; what shards record between two beats comes on top.
"""

from __future__ import annotations

import math
from collections import deque

from batchrun.engine.error_limit import JUDGED_FROM, WINDOW, MaxErrors
from batchrun.records.words import counted


class Mistakes:
    """Counts lines. `why_stopped` says that the limit is exceeded; empty while it is not."""

    def __init__(self, limit: MaxErrors) -> None:
        self.why_stopped = ""
        self._limit = limit
        self._lines = self._errors = 0
        self._last: deque[tuple[int, int]] = deque()
        self._last_lines = self._last_errors = 0

    @property
    def left(self) -> float:
        """How many more lines may go wrong; infinite where the limit is a share."""
        return math.inf if self._limit.count is None else max(0, self._limit.count - self._errors)

    def add(self, lines: int, errors: int) -> None:
        """So many more lines were recorded, and so many of them went wrong."""
        if not lines:
            return
        self._lines += lines
        self._errors += errors
        self._last.append((lines, errors))
        self._last_lines += lines
        self._last_errors += errors
        while self._last_lines - self._last[0][0] >= WINDOW:
            old_lines, old_errors = self._last.popleft()
            self._last_lines -= old_lines
            self._last_errors -= old_errors
        if not self.why_stopped:
            self._judge()

    def _judge(self) -> None:
        count, rate = self._limit.count, self._limit.rate
        if count is not None and self._errors > count:
            lines = counted(self._lines, "line")
            self.why_stopped = f"--max-errors {count} is exceeded: {self._errors:,} of {lines} of this run went wrong"
        elif rate is not None and self._last_lines >= JUDGED_FROM and self._last_errors > rate * self._last_lines:
            share = f"{rate:.2%}".replace(".00%", "%")
            self.why_stopped = (
                f"--max-errors {share} is exceeded: {self._last_errors:,} of the last {self._last_lines:,} lines"
            )
