"""Millions of numbers in little memory: counted in buckets, read as quantiles."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import msgspec


class Latency(msgspec.Struct, frozen=True):
    """Seconds that attempts took, of those that ended in a record; within 1 %, None if there are none.

    `p50`, `p95`, `p99`: the median, the 95th and the 99th percentile.
    """

    p50: float | None
    p95: float | None
    p99: float | None


class Bucket(NamedTuple):
    """How many values (`number`) are from `lower` on and below `upper`."""

    lower: float
    upper: float
    number: int


class Histogram:
    """Numbers, such as durations in seconds, counted in buckets that are each 2 % wider than the one before.

    `width`: another one, as the ratio of two bounds; quantiles are within half of it.
    `least`: a smaller value counts as this one. Without another, it is a microsecond.
    `lowest`, `highest`: the extreme values themselves, infinite without values.
    """

    def __init__(self, least: float = 1e-6, width: float = 1.02) -> None:
        self.least = least
        self._log_step = math.log(width)
        self.lowest, self.highest = math.inf, -math.inf
        self._buckets: Counter[float] = Counter()

    def __len__(self) -> int:
        """How many values were counted."""
        return self._buckets.total()

    def add(self, values: Sequence[float]) -> None:
        """Count values."""
        self.lowest, self.highest = min(self.lowest, *values, math.inf), max(self.highest, *values, -math.inf)
        log, step, least = math.log, self._log_step, self.least
        self._buckets.update([log(value if value > least else least) // step for value in values])

    def merge(self, other: Histogram) -> None:
        """Count all that `other` counted."""
        self.lowest, self.highest = min(self.lowest, other.lowest), max(self.highest, other.highest)
        self._buckets.update(other._buckets)

    def quantile(self, share: float) -> float | None:
        """The value, within half a bucket, below which `share` (0 to 1) of all values lie; None without values."""
        left = share * self._buckets.total()
        for bucket in sorted(self._buckets):
            left -= self._buckets[bucket]
            if left <= 0:
                return float(f"{math.exp((bucket + 0.5) * self._log_step):.3g}")
        return None

    def buckets(self) -> list[Bucket]:
        """The buckets that have values, from the lowest on."""
        step = self._log_step
        found = sorted(self._buckets.items())
        return [Bucket(math.exp(at * step), math.exp((at + 1) * step), count) for at, count in found]

    def summary(self) -> Latency:
        """Median, 95th and 99th percentile."""
        return Latency(self.quantile(0.50), self.quantile(0.95), self.quantile(0.99))
