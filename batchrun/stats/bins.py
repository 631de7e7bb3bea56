"""Bars of a histogram for people to look at: few, of even width on their axis, with round numbers beside it. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from batchrun.stats.histogram import Bucket

MOST_BARS = 30
LOG_FROM = 12.0  # largest value by smallest: below that, an even scale shows more
EVEN_TO = 150  # whole numbers up to this one: an even scale has room for them
_LEAST_WIDTH = 0.025  # of the largest value: the buckets are 2 % wide, and would leave gaps between narrower bars
_MOST_TICKS = 7


class Bars(NamedTuple):
    """Bars from the lowest to the highest. `is_log`: they are of even width on a logarithmic axis.

    `zeros`: values of 0, which such an axis has no place for. `ticks`: round numbers on the axis.
    """

    bars: list[Bucket]
    is_log: bool
    zeros: int
    ticks: list[float]


def bars_of(buckets: Sequence[Bucket], *, is_whole: bool, least: float) -> Bars | None:
    """The bars of the buckets of a histogram; None without a value above 0.

    `is_whole`: its values are whole numbers. `least`: values up to this one are 0.
    """
    zeros = sum(bucket.number for bucket in buckets if bucket.lower < least)
    values = [bucket for bucket in buckets if bucket.lower >= least]
    if not values:
        return None
    middles = [_middle(bucket, is_whole=is_whole) for bucket in values]
    low, high = (middles[0], middles[-1]) if is_whole else (values[0].lower, values[-1].upper)
    is_log = high / low > LOG_FROM and not (is_whole and high <= EVEN_TO)
    edges = _log_edges(low, high, is_whole=is_whole) if is_log else _even_edges(low, high, is_whole=is_whole)
    counts = [0] * (len(edges) - 1)
    at = 0
    for middle, bucket in zip(middles, values, strict=True):
        while at < len(counts) - 1 and middle >= edges[at + 1]:
            at += 1
        counts[at] += bucket.number
    bars = [Bucket(edges[i], edges[i + 1], count) for i, count in enumerate(counts)]
    return Bars(bars, is_log, zeros, ticks(edges[0], edges[-1], is_log=is_log, is_whole=is_whole))


def _middle(bucket: Bucket, *, is_whole: bool) -> float:
    middle = math.sqrt(bucket.lower * bucket.upper)
    return max(1.0, float(round(middle))) if is_whole else middle


def _log_edges(low: float, high: float, *, is_whole: bool) -> list[float]:
    """Edges from `low` to beyond `high`, in even steps of the axis; between whole numbers."""
    step = (high / low) ** (1 / MOST_BARS)
    if not is_whole:
        return [low * step**index for index in range(MOST_BARS)] + [high]
    edges, width = [low - 0.5], 1
    while edges[-1] < high:
        width = max(width, round(edges[-1] * (step - 1)))
        edges.append(edges[-1] + width)
    return edges


def _even_edges(low: float, high: float, *, is_whole: bool) -> list[float]:
    width = _round_up(max((high - low) / MOST_BARS, _LEAST_WIDTH * high))
    if is_whole:
        width = max(1.0, math.ceil(width))
    shift = 0.5 if is_whole else 0.0
    first = math.floor(low / width) * width - shift
    count = max(1, math.ceil((high + shift - first) / width))
    return [first + index * width for index in range(count + 1)]


def _round_up(value: float) -> float:
    """The next number of 1, 2 or 5 with zeros."""
    unit = 10.0 ** math.floor(math.log10(value))
    return next((step * unit for step in (1, 2, 5) if step * unit >= value * (1 - 1e-9)), 10 * unit)


def ticks(low: float, high: float, *, is_log: bool = False, is_whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`, at most seven or so."""
    if is_log:
        first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
        for steps in ((1, 2, 5), (1, 3), (1,)):
            found = [step * 10.0**power for power in range(first, last + 1) for step in steps]
            found = [tick for tick in found if low <= tick <= high]
            if len(found) <= _MOST_TICKS:
                return found
        return found[:: math.ceil(len(found) / _MOST_TICKS)]
    if high <= low:
        return [low]
    step = _round_up((high - low) / _MOST_TICKS)
    step = max(1.0, step) if is_whole else step
    return [step * index for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]
