"""A share that an imperfect judge found, corrected by how often the judge errs. Pure arithmetic.

Sources: Rogan and Gladen 1978, American Journal of Epidemiology 107:71 (the corrected share); Lang and Reiczigel 2014,
Preventive Veterinary Medicine 113:13 (its interval, where the two rates of the judge are themselves estimated from few
rows); Zou and Donner 2008, Statistics in Medicine 27:1693 (the interval of a product, from those of its factors).
"""

from __future__ import annotations

import math

import msgspec

from batchrun.stats.proportions import UNDEFINED, Interval, Z


class Rate(msgspec.Struct, frozen=True):
    """So many `hits` of so many `rows`."""

    hits: float
    rows: float

    @property
    def share(self) -> float:
        """The hits as a share of the rows, which must be some."""
        return self.hits / self.rows


def corrected_share(
    passed: Rate, true_positives: Rate, true_negatives: Rate, effective: float | None = None
) -> Interval:
    """The share of rows that people would pass, with its 95% interval, both kept within 0 and 1.

    `passed`: what the judge passed. `true_positives`: of the rows that people passed, what the judge passed, and
    `true_negatives`: of those that people failed, what it failed. `effective`: as many independent rows the judged
    rows are worth, where they come in clusters. Undefined without rows of each kind, and for a judge that is no better
    than chance on them.
    """
    if not passed.rows or not true_positives.rows or not true_negatives.rows:
        return UNDEFINED
    youden = true_positives.share + true_negatives.share - 1
    if youden <= 0:
        return UNDEFINED
    value = _within((passed.share + true_negatives.share - 1) / youden)
    lower, upper = bounds(passed, true_positives, true_negatives, effective)
    return Interval(value, min(value, _within(lower)), max(value, _within(upper)))


def bounds(
    passed: Rate, true_positives: Rate, true_negatives: Rate, effective: float | None = None
) -> tuple[float, float]:
    """The interval as Lang and Reiczigel have it, which may reach beyond 0 and 1; endless where they give none."""
    n = passed.rows if effective is None else effective
    share = (passed.share * n + Z**2 / 2) / (n + Z**2)
    positive_rows, negative_rows = true_positives.rows + 2, true_negatives.rows + 2
    positive, negative = (true_positives.hits + 1) / positive_rows, (true_negatives.hits + 1) / negative_rows
    youden = positive + negative - 1
    if youden <= 0:
        return -math.inf, math.inf
    centre = (share + negative - 1) / youden
    of_positive = positive * (1 - positive) / positive_rows
    of_negative = negative * (1 - negative) / negative_rows
    variance = share * (1 - share) / (n + Z**2) + centre**2 * of_positive + (1 - centre) ** 2 * of_negative
    shift = 2 * Z**2 * (centre * of_positive - (1 - centre) * of_negative)
    margin = Z * math.sqrt(variance) / youden
    return centre + shift - margin, centre + shift + margin


def product(first: Interval, second: Interval) -> Interval:
    """The product of two independent shares, with its interval; undefined where one of them is."""
    if None in (*msgspec.structs.astuple(first), *msgspec.structs.astuple(second)):
        return UNDEFINED
    a, b = first, second
    assert a.value is not None and a.lower is not None and a.upper is not None  # noqa: PT018
    assert b.value is not None and b.lower is not None and b.upper is not None  # noqa: PT018
    value = a.value * b.value
    down = math.hypot((a.value - a.lower) * b.value, (b.value - b.lower) * a.value)
    up = math.hypot((a.upper - a.value) * b.value, (b.upper - b.value) * a.value)
    return Interval(value, max(0.0, value - down), min(1.0, value + up))


def _within(value: float) -> float:
    return min(1.0, max(0.0, value))
