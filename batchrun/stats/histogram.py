"""Millions of durations in little memory: counted in buckets, read as quantiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable

import msgspec


class Latency(msgspec.Struct, frozen=True):
    """Seconds that attempts took, of those that ended in a record; within 1 %, None if there are none.

    `p50`, `p95`, `p99`: the median, the 95th and the 99th percentile.
    """

    p50: float | None
    p95: float | None
    p99: float | None


class Histogram:
    """Durations in seconds, counted in buckets that are each 2 % wider than the one before."""

    _LOG_STEP = math.log(1.02)

    def __init__(self) -> None:
        self._buckets: Counter[float] = Counter()

    def add(self, values: Iterable[float]) -> None:
        """Count values in seconds; a value below a microsecond counts as a microsecond."""
        log, step = math.log, self._LOG_STEP
        self._buckets.update([log(seconds if seconds > 1e-6 else 1e-6) // step for seconds in values])

    def merge(self, other: Histogram) -> None:
        """Count all that `other` counted."""
        self._buckets.update(other._buckets)

    def quantile(self, share: float) -> float | None:
        """The value in seconds, within 1 %, below which `share` (0 to 1) of all values lie; None without values."""
        left = share * self._buckets.total()
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return float(f"{math.exp((bucket + 0.5) * self._LOG_STEP):.3g}")
        return None

    def summary(self) -> Latency:
        """Median, 95th and 99th percentile."""
        return Latency(self.quantile(0.50), self.quantile(0.95), self.quantile(0.99))
