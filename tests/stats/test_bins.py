"""Bars of histograms: none lost, few, of even width on their axis; round numbers beside it."""

from __future__ import annotations

import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.stats.bins import EVEN_TO, LOG_FROM, MOST_BARS, Bars, bars_of, ticks
from batchrun.stats.histogram import Histogram


def bars(values: list[float], *, is_whole: bool = False) -> Bars:
    histogram = Histogram(least=0.5 if is_whole else 1e-6)
    histogram.add(values)
    found = bars_of(histogram.buckets(), is_whole=is_whole, least=0.6 if is_whole else 1e-6)
    assert found is not None
    return found


@given(st.lists(st.floats(1e-3, 1e5), min_size=1, max_size=200))
def test_every_value_is_in_a_bar(values: list[float]) -> None:
    found = bars(values)
    assert sum(bar.number for bar in found.bars) == len(values)
    assert len(found.bars) <= MOST_BARS + 2
    assert all(one.upper == other.lower for one, other in pairwise(found.bars))


@given(st.lists(st.integers(0, 100_000), min_size=1, max_size=200).filter(any))
def test_every_whole_number_is_in_a_bar_that_has_one(values: list[int]) -> None:
    found = bars([float(value) for value in values], is_whole=True)
    zeros = found.zeros if found.zeros else 0
    assert sum(bar.number for bar in found.bars) + zeros == len(values)
    assert zeros == values.count(0)
    assert all(math.floor(bar.upper) > math.floor(bar.lower) for bar in found.bars), "else it would always be empty"


def test_small_whole_numbers_are_exactly_where_they_are() -> None:
    found = bars([12.0] * 3 + [13.0] * 5 + [15.0], is_whole=True)
    assert {bar.lower + 0.5: bar.number for bar in found.bars} == {12: 3, 13: 5, 14: 0, 15: 1}


@pytest.mark.parametrize(("high", "is_log"), [(LOG_FROM - 1, False), (LOG_FROM + 1, True)])
def test_a_wide_range_has_a_logarithmic_axis(high: float, is_log: bool) -> None:
    assert bars([1.0, high]).is_log == is_log
    assert not bars([1.0, high], is_whole=True).is_log, f"up to {EVEN_TO} there is room for whole numbers"


def test_a_bell_looks_like_a_bell() -> None:
    """No gap between the bars where there is none between the values: buckets and bars do not beat."""
    rng = random.Random(1)
    for spread in (0.1, 0.3, 1.0):
        found = bars([rng.lognormvariate(5, spread) for _ in range(20_000)])
        counts = [bar.number for bar in found.bars]
        for before, count, after in zip(counts, counts[1:], counts[2:], strict=False):
            assert count > 0.6 * min(before, after) or count < 0.05 * max(counts), (spread, counts)


def test_nothing_above_zero_makes_no_bars() -> None:
    histogram = Histogram(least=0.5)
    histogram.add([0.0, 0.0])
    assert bars_of(histogram.buckets(), is_whole=True, least=0.6) is None


@pytest.mark.parametrize(
    ("low", "high", "is_log", "expected"),
    [
        (0, 100, False, [0, 20, 40, 60, 80, 100]),
        (0.03, 40, True, [0.03, 0.1, 0.3, 1, 3, 10, 30]),
        (0.4, 7, True, [0.5, 1, 2, 5]),
        (12, 18, False, [12, 13, 14, 15, 16, 17, 18]),
        (5, 5, False, [5]),
    ],
)
def test_ticks_are_round(low: float, high: float, is_log: bool, expected: list[float]) -> None:
    assert ticks(low, high, is_log=is_log) == pytest.approx(expected)
