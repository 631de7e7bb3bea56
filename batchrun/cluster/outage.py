"""Whether the gateway is gone for all shards, and which of them finds out when it is back. Pure.

1. A shard whose breaker is open says so. While others get answers, that is its own trouble: its machine, or its way to
   the gateway.
2. Else it is an outage for all: one shard goes on probing, and the others send nothing.
3. The first answer ends it.
"""

from __future__ import annotations

import math

from batchrun.cluster.lease import Report


class SharedOutage:
    """`prober` is the shard that probes; None while there is no outage."""

    SILENT_BEATS = 2  # without an answer to any shard, before one shard's trouble is everybody's

    def __init__(self) -> None:
        self.prober: int | None = None
        self._answered: dict[int, tuple[str, int]] = {}
        self._answered_at = -math.inf

    def hear(self, report: Report, beat_s: float, now: float) -> None:
        """A shard tells how many answers it got, and whether its breaker is open."""
        told = report.incarnation, report.answered
        before = self._answered.get(report.shard)
        if before != told:
            self._answered[report.shard] = told
            if report.answered and (before is None or before[0] != told[0] or before[1] < told[1]):
                self._answered_at, self.prober = now, None
                return
        if report.is_outage:
            if self.prober is None and now - self._answered_at > self.SILENT_BEATS * beat_s:
                self.prober = report.shard
        elif report.shard == self.prober:
            self.prober = None

    def gone(self, shard: int) -> None:
        """A shard is done, or dead: another one may probe."""
        self._answered.pop(shard, None)
        if shard == self.prober:
            self.prober = None
