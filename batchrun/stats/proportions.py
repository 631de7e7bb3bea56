"""Shares with 95% intervals, and the comparison of two shares over the same rows. Pure arithmetic.

Sources: Wilson 1927 (one share); Newcombe 1998, Statistics in Medicine 17:2635, method 10 (paired difference);
McNemar 1947, with the mid-p of Fagerland, Lydersen and Laake 2013; Holm 1979 (several tests); Kish 1965 (design
effect of clusters); Connor 1987 (power of paired shares).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from statistics import NormalDist

import msgspec

CONFIDENCE = 0.95
POWER = 0.8
Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)


class Interval(msgspec.Struct, frozen=True):
    """A figure and the bounds of its 95% interval. `value`, `lower` and `upper` are None where it is not defined."""

    value: float | None
    lower: float | None
    upper: float | None


UNDEFINED = Interval(None, None, None)


def wilson(hits: float, total: float, effective: float | None = None) -> Interval:
    """The share of hits among `total` rows, with Wilson's interval; undefined without rows.

    `effective`: as many independent rows the rows are worth, where they come in clusters.
    """
    if total <= 0:
        return UNDEFINED
    share, n = hits / total, total if effective is None else effective
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    margin = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2))
    lower = 0.0 if hits == 0 else max(0.0, centre - margin)  # rounding would leave -7e-18
    return Interval(share, lower, 1.0 if hits == total else min(1.0, centre + margin))


def weighted_share(hits: float, total: float, squares: float, effective: float | None = None) -> Interval:
    """The share of hits among rows that stand for different numbers of rows; undefined without rows.

    `hits`, `total`: sums of these numbers; `squares`: the sum of the squares of all. So many unequal rows are worth
    `total`² / `squares` equal ones (Kish), and the interval is Wilson's for these. `effective`: as many as they are
    worth at most, where they come in clusters.
    """
    if squares <= 0:
        return UNDEFINED
    worth = total**2 / squares
    return wilson(hits, total, worth if effective is None else min(worth, effective))


def f1_of_class(hits: float, gold: float, answered: float, worth: float = 1.0) -> Interval:
    """F1 of one class, which gold has in `gold` rows and the answers in `answered`; undefined where neither has it.

    Among the rows that have it on either side, the hits are a plain share s, and F1 is 2s / (1 + s): so the bounds
    are those of Wilson's interval of s. `worth`: as many independent rows a row is worth.
    """
    either = gold + answered - hits
    found = wilson(hits, either, either * worth)
    return Interval(*(None if share is None else 2 * share / (1 + share) for share in msgspec.structs.astuple(found)))


def clustered_error(clusters: Iterable[tuple[float, float]]) -> float:
    """The standard error of a share over clusters of rows, each given as its hits and its rows; NaN without rows."""
    pairs = list(clusters)
    total = sum(rows for _, rows in pairs)
    if not total:
        return math.nan
    share = sum(hits for hits, _ in pairs) / total
    return math.sqrt(sum((hits - share * rows) ** 2 for hits, rows in pairs)) / total


def effective_rows(clusters: Sequence[tuple[float, float]]) -> float:
    """As many independent rows the rows of these clusters are worth, at most as many as there are.

    Where all rows are hits, or none is, or all clusters have the same share, the errors say nothing: then each cluster
    counts as one row. One cluster alone says nothing of others, and counts as one, too.
    """
    total = sum(rows for _, rows in clusters)
    hits = sum(hits for hits, _ in clusters)
    alone = min(total, sum(1 for _, rows in clusters if rows))
    error = clustered_error(clusters)
    if not total or hits in (0, total) or alone <= 1 or error < 1e-12:
        return alone
    share = hits / total
    return min(total, share * (1 - share) / error**2)


class Pairs(msgspec.Struct, frozen=True):
    """Rows that two files answered: `both` right, `first_only`, `second_only`, `neither`."""

    both: int
    first_only: int
    second_only: int
    neither: int

    @property
    def rows(self) -> int:
        """All rows."""
        return self.both + self.first_only + self.second_only + self.neither


def paired_difference(pairs: Pairs) -> Interval:
    """The share of the second less the share of the first, with Newcombe's interval; undefined without rows."""
    n = pairs.rows
    if not n:
        return UNDEFINED
    first = wilson(pairs.both + pairs.first_only, n)
    second = wilson(pairs.both + pairs.second_only, n)
    assert first.value is not None and first.lower is not None and first.upper is not None  # noqa: PT018
    assert second.value is not None and second.lower is not None and second.upper is not None  # noqa: PT018
    phi = _correlation(pairs)
    low1, up1 = first.value - first.lower, first.upper - first.value
    low2, up2 = second.value - second.lower, second.upper - second.value
    difference = (pairs.second_only - pairs.first_only) / n
    down = math.sqrt(max(0.0, low2**2 - 2 * phi * low2 * up1 + up1**2))
    up = math.sqrt(max(0.0, up2**2 - 2 * phi * up2 * low1 + low1**2))
    return Interval(difference, max(-1.0, difference - down), min(1.0, difference + up))


def _correlation(pairs: Pairs) -> float:
    """Newcombe's phi: the correlation of the two, corrected towards 0 where it is positive."""
    a, b, c, d = pairs.both, pairs.first_only, pairs.second_only, pairs.neither
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if not margins:
        return 0.0
    covariance = float(a * d - b * c)
    if covariance > 0:
        covariance = max(covariance - pairs.rows / 2, 0.0)
    return covariance / math.sqrt(margins)


def mcnemar(pairs: Pairs) -> float:
    """The p-value of the exact McNemar test with mid-p: how likely so uneven flips are where neither is better."""
    fewer, flips = min(pairs.first_only, pairs.second_only), pairs.first_only + pairs.second_only
    if not flips or 2 * fewer == flips:
        return 1.0 if not flips else 1.0 - _binomial(fewer, flips)
    below = math.fsum(_binomial(count, flips) for count in range(fewer))
    return min(1.0, 2 * below + _binomial(fewer, flips))


def _binomial(count: int, total: int) -> float:
    """The chance of `count` heads in `total` tosses of a fair coin."""
    log = math.lgamma(total + 1) - math.lgamma(count + 1) - math.lgamma(total - count + 1) - total * math.log(2)
    return math.exp(log)


def holm(p_values: Sequence[float]) -> list[float]:
    """The p-values of several tests, corrected by Holm, in the same order."""
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[at]))
        corrected[at] = largest
    return corrected


def smallest_difference(pairs: Pairs, tests: int = 1) -> float | None:
    """The smallest difference of two shares that so many rows, of which so many flip, show at 80 % power.

    `tests`: as one of so many that are corrected for (by Holm, whose first step is Bonferroni's). None where they could
    have shown none, however large.
    """
    n = pairs.rows
    if not n:
        return None
    flips = (pairs.first_only + pairs.second_only + 1) / (n + 2)  # no flip among few rows does not mean that none is
    low, high = 0.0, 1.0
    z = NormalDist().inv_cdf(1 - (1 - CONFIDENCE) / (2 * tests))
    if _power(high, flips, n, z) < POWER:
        return None
    while high - low > 1e-6:
        middle = (low + high) / 2
        low, high = (low, middle) if _power(middle, flips, n, z) >= POWER else (middle, high)
    return high


def _power(difference: float, flips: float, rows: int, z: float) -> float:
    """The chance that McNemar's test finds a difference where so large a share of the rows flips, or just that much.

    `z`: how many standard errors it takes.
    """
    flips = max(flips, difference)
    spread = math.sqrt(max(1e-12, flips - difference**2))
    return NormalDist().cdf((difference * math.sqrt(rows) - z * math.sqrt(flips)) / spread)
