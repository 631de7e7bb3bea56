"""Shares and their comparison: values that were published, and what holds at the edges."""

from __future__ import annotations

import math

import pytest

from batchrun.stats.proportions import (
    UNDEFINED,
    Pairs,
    clustered_error,
    effective_rows,
    holm,
    mcnemar,
    paired_difference,
    smallest_difference,
    wilson,
)


def test_wilsons_interval_as_newcombe_prints_it() -> None:
    """Newcombe 1998, Statistics in Medicine 17:857, table I."""
    interval = wilson(81, 263)
    assert (interval.lower, interval.upper) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    interval = wilson(15, 148)
    assert (interval.lower, interval.upper) == pytest.approx((0.0624, 0.1605), abs=5e-5)


def test_an_interval_at_the_edge_has_a_width_and_stays_within_0_and_1() -> None:
    none, every = wilson(0, 20), wilson(20, 20)
    assert (none.lower, none.upper) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert (every.lower, every.upper) == pytest.approx((0.8389, 1.0), abs=5e-5)
    assert wilson(0, 0) == UNDEFINED


def test_rows_in_clusters_are_worth_fewer() -> None:
    """Ten rows in five clusters, of which four are all of one kind."""
    alike = [(2.0, 2.0), (0.0, 2.0), (2.0, 2.0), (0.0, 2.0), (1.0, 2.0)]
    assert clustered_error(alike) == pytest.approx(0.2)
    assert effective_rows(alike) == pytest.approx(0.25 / 0.04)
    assert effective_rows([(1.0, 1.0), (0.0, 1.0)]) == pytest.approx(2)
    assert effective_rows([(3.0, 3.0), (3.0, 3.0)]) == 2, "all right says nothing of the errors: a cluster is a row"
    assert effective_rows([(29.0, 30.0)]) == 1, "one cluster alone says nothing of others"
    assert effective_rows([(10.0, 15.0), (10.0, 15.0)]) == 2, "nor do clusters that are alike"
    assert math.isnan(clustered_error([]))
    wide, narrow = wilson(5, 10, effective_rows(alike)), wilson(5, 10)
    assert wide.value == narrow.value == 0.5
    assert wide.lower is not None
    assert narrow.lower is not None
    assert wide.lower < narrow.lower


def test_newcombes_interval_of_a_paired_difference_as_he_prints_it() -> None:
    """Newcombe 1998, Statistics in Medicine 17:2635, table II, method 10: 36, 12, 2, 0 of 50."""
    interval = paired_difference(Pairs(both=36, first_only=2, second_only=12, neither=0))
    assert interval.value == 0.2
    assert (interval.lower, interval.upper) == pytest.approx((0.0569, 0.3404), abs=5e-5)


def test_no_difference_has_an_interval_too() -> None:
    interval = paired_difference(Pairs(30, 0, 0, 0))
    assert interval.value == 0
    assert interval.lower is not None
    assert interval.lower < 0 < -interval.lower
    assert paired_difference(Pairs(0, 0, 0, 0)) == UNDEFINED


@pytest.mark.parametrize(("first", "second", "p"), [(0, 0, 1.0), (1, 12, 0.00183), (12, 1, 0.00183), (5, 5, 0.7539)])
def test_mcnemars_mid_p(first: int, second: int, p: float) -> None:
    """2·(1 + ½·13)/2¹³ for 1 against 12; 1 − C(10, 5)/2¹⁰ where neither is ahead."""
    assert mcnemar(Pairs(7, first, second, 3)) == pytest.approx(p, abs=5e-6 + 5e-5 * (p > 0.1))


def test_many_flips_do_not_overflow() -> None:
    assert mcnemar(Pairs(0, 100_000, 100_400, 0)) == pytest.approx(0.3716, abs=5e-4)


def test_holm_corrects_the_smallest_most_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]


def test_more_rows_show_smaller_differences() -> None:
    few, many = smallest_difference(Pairs(80, 5, 5, 10)), smallest_difference(Pairs(8000, 500, 500, 1000))
    assert few is not None
    assert many is not None
    assert many < few / 8
    one_of_six = smallest_difference(Pairs(80, 5, 5, 10), tests=6)
    assert one_of_six is not None
    assert one_of_six > few
    assert smallest_difference(Pairs(0, 0, 0, 0)) is None
    assert smallest_difference(Pairs(3, 0, 0, 0)) is None, "three rows show nothing"
