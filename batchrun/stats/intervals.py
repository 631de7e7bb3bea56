"""What the measured lines say about the rest: totals and shares with 90% intervals. Pure arithmetic.

The intervals assume that the measured lines are a random sample of all lines. If they are just the first ones, and
those have something in common, the intervals are too narrow. Sources: Cochran, Sampling Techniques, ch. 2, 6, 7
(finite population, ratio and regression estimators); Johnson 1978 (t intervals of skewed data); Wilson 1927.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

import msgspec

CONFIDENCE = 0.9
_AT_ONCE = 4096  # lines: their differences and products are in memory together
_Z = 1.6448536269514722  # 95 % of a standard normal distribution lie below it


class Range(msgspec.Struct, frozen=True):
    """A low, a likely and a high value; None if a value is unknown (no bound, no measurement)."""

    low: float | None
    likely: float | None
    high: float | None

    def __add__(self, other: Range) -> Range:
        return Range(_sum(self.low, other.low), _sum(self.likely, other.likely), _sum(self.high, other.high))

    def scaled(self, factor: float) -> Range:
        """Each value times `factor` (≥ 0)."""
        return Range(*(None if value is None else value * factor for value in self.values))

    @property
    def values(self) -> tuple[float | None, float | None, float | None]:
        """All three, in this order."""
        return self.low, self.likely, self.high


NONE = Range(0.0, 0.0, 0.0)


def _sum(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None else one + other


def t_value(degrees: int) -> float:
    """The value below which 95 % of Student's t distribution lie; within 0.3 % from 4 degrees of freedom on."""
    z, n = _Z, max(1, degrees)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / n + second / n**2 + third / n**3


class Moments:
    """Sums over pairs of a size x, known beforehand, and a measured value y: all that the estimates need."""

    __slots__ = ("_sums", "_x0", "_y0", "count")

    def __init__(self) -> None:
        self.count = 0
        self._x0 = self._y0 = 0.0
        self._sums = [0.0] * 9

    def add(self, x: float, y: float) -> None:
        """Add one line."""
        self.add_all((x,), (y,))

    def add_all(self, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Add lines. Differences from the first line are summed, because sums of raw values would lose digits."""
        if not self.count and len(xs):
            self._x0, self._y0 = xs[0], ys[0]
        self.count += len(xs)
        for start in range(0, len(xs), _AT_ONCE):
            x0, y0 = self._x0, self._y0
            x = [value - x0 for value in xs[start : start + _AT_ONCE]]
            y = [value - y0 for value in ys[start : start + _AT_ONCE]]
            xx, xy, yy = list(map(mul, x, x)), list(map(mul, x, y)), list(map(mul, y, y))
            thirds = map(mul, xx, x), map(mul, xx, y), map(mul, x, yy), map(mul, yy, y)
            for index, terms in enumerate((x, y, xx, xy, yy, *thirds)):
                self._sums[index] += sum(terms)

    @property
    def mean_y(self) -> float:
        """The mean of the measured values; 0 without any."""
        return self._y0 + self._sums[1] / self.count if self.count else 0.0

    def rest(self, count: int, sum_x: float) -> Range:
        """The total y of `count` more lines, whose x add up to `sum_x`. At least 3 lines must have been added.

        A regression on x. Its slope is kept between 0 (y does not depend on x) and y/x (y is proportional to x), so
        that first lines that are unlike the rest cannot lead it astray.
        """
        if not count:
            return NONE
        n = self.count
        x, y, *raw = (value / n for value in self._sums)
        sxx, sxy, syy, sxxx, sxxy, sxyy, syyy = _centred(x, y, *raw)
        mean_x, mean_y = self._x0 + x, self._y0 + y
        slope = 0.0
        if sxx > 1e-12 * mean_x**2 and mean_x > 0:
            slope = min(max(sxy / sxx, 0.0), mean_y / mean_x)
        variance = max(0.0, syy - 2 * slope * sxy + slope**2 * sxx) * n / (n - 1 - (slope > 0))
        third = syyy - 3 * slope * sxyy + 3 * slope**2 * sxxy - slope**3 * sxxx
        each = mean_y + slope * (sum_x / count - mean_x)
        t = t_value(n - 1 - (slope > 0))
        margin = t * math.sqrt(variance * (1 / n + 1 / count))
        # A small sample rarely has the rare expensive lines: add room above (Johnson), remove none below.
        skew = third / (6 * variance * n) * (1 + 2 * t**2) if variance > 0 else 0.0
        low, high = each - margin, each + margin + max(0.0, skew)
        return Range(*(max(0.0, count * value) for value in (low, each, high)))


def _centred(
    x: float, y: float, xx: float, xy: float, yy: float, xxx: float, xxy: float, xyy: float, yyy: float
) -> tuple[float, ...]:
    """Moments about the means, from those about 0."""
    return (
        xx - x * x,
        xy - x * y,
        yy - y * y,
        xxx - 3 * x * xx + 2 * x**3,
        xxy - y * xx - 2 * x * xy + 2 * x * x * y,
        xyy - x * yy - 2 * y * xy + 2 * x * y * y,
        yyy - 3 * y * yy + 2 * y**3,
    )


def share(hits: int, seen: int, total: int) -> Range:
    """The share of hits among all `total` lines, after `hits` of `seen`: Wilson's interval for a finite population."""
    if not seen:
        return Range(None, None, None)
    likely = hits / seen
    if seen >= total:
        return Range(likely, likely, likely)
    n = seen * (total - 1) / (total - seen)  # a sample of most lines says more than its size suggests
    centre = (likely + _Z**2 / (2 * n)) / (1 + _Z**2 / n)
    margin = _Z / (1 + _Z**2 / n) * math.sqrt(likely * (1 - likely) / n + _Z**2 / (4 * n**2))
    return Range(
        max(hits / total, centre - margin) if hits else 0.0,
        likely,
        min(1 - (seen - hits) / total, centre + margin),
    )
