"""Figures of a confusion table that was worked out by hand, and their intervals."""

from __future__ import annotations

import pytest

from batchrun.stats import confusion
from batchrun.stats.confusion import UNANSWERED, Cell, Figure, Sums, resample
from batchrun.stats.numbers import mean_absolute_error, rank_correlation, with_interval
from batchrun.stats.proportions import UNDEFINED

# gold 0: 6 right, 2 called 1, 2 unanswered; gold 1: 9 right, 1 called 0
TABLE: dict[Cell, int] = {(0, 0): 6, (0, 1): 2, (0, UNANSWERED): 2, (1, 1): 9, (1, 0): 1}


def sums(table: dict[Cell, int], labels: int = 2) -> Sums:
    return Sums(list(table), [float(count) for count in table.values()], labels)


@pytest.mark.parametrize(
    ("figure", "value"),
    [
        (lambda sums: confusion.f1_of(sums, 0), 12 / 17),  # 10 in gold, 7 called so
        (lambda sums: confusion.f1_of(sums, 1), 18 / 21),
        (confusion.f1_macro, (12 / 17 + 18 / 21) / 2),
        (confusion.f1_micro, 30 / 38),
        (confusion.f1_weighted, (12 / 17 + 18 / 21) / 2),
        (confusion.balanced_accuracy, 0.75),
        (confusion.kappa, (0.75 - 0.45) / 0.55),
        (confusion.mcc, (15 * 20 - 180) / (200 * (400 - 49 - 121 - 4)) ** 0.5),
        (confusion.alpha_nominal, 1 - 35 * 3 / (15 * 21)),
        (confusion.alpha_ordinal, 1 - 35 * 3 / (15 * 21)),
    ],
)
def test_unanswered_is_a_miss_and_nobodys_false_alarm(figure: Figure, value: float) -> None:
    assert figure(sums(TABLE)) == pytest.approx(value)


@pytest.mark.parametrize("figure", [confusion.alpha_nominal, confusion.alpha_ordinal])
def test_no_draw_of_an_alpha_is_above_1_however_few_rows_are_answered(figure: Figure) -> None:
    [drawn] = resample({(0, 1): 1, (2, UNANSWERED): 1}, 3, [figure]).intervals
    assert drawn.value == 0
    assert drawn.lower is not None
    assert drawn.upper is not None
    assert -1 <= drawn.lower <= drawn.upper <= 1


def test_an_ordinal_alpha_is_lower_the_farther_the_answers_are_off() -> None:
    near = {(0, 0): 10, (1, 1): 10, (2, 2): 10, (0, 1): 3}
    far = {(0, 0): 10, (1, 1): 10, (2, 2): 10, (0, 2): 3}
    near_by, far_off = confusion.alpha_ordinal(sums(near, 3)), confusion.alpha_ordinal(sums(far, 3))
    assert near_by is not None
    assert far_off is not None
    assert near_by > far_off + 0.1


@pytest.mark.parametrize("figure", [confusion.kappa, confusion.mcc, confusion.alpha_nominal])
def test_what_is_not_defined_is_no_number(figure: Figure) -> None:
    table = {(0, 0): 9}
    assert figure(sums(table, 1)) is None
    assert resample(table, 1, [figure], draws=50).intervals[0].value is None


def test_all_right_is_not_certain() -> None:
    interval = resample({(0, 0): 20, (1, 1): 20}, 2, [confusion.f1_macro]).intervals[0]
    assert interval.value == interval.upper == 1
    assert interval.lower is not None
    assert 0.85 < interval.lower < 0.99


def test_the_same_seed_gives_the_same_interval_and_clusters_a_wider_one() -> None:
    one = resample(TABLE, 2, [confusion.kappa])
    assert one == resample(TABLE, 2, [confusion.kappa])
    assert one != resample(TABLE, 2, [confusion.kappa], seed=15)
    wide = resample(TABLE, 2, [confusion.kappa], effective=5).intervals[0]
    assert one.intervals[0].lower is not None
    assert wide.lower is not None
    assert wide.lower < one.intervals[0].lower


def test_nothing_at_all_is_undefined() -> None:
    assert resample({}, 0, [confusion.f1_macro]).intervals[0].value is None


def test_errors_and_rank_correlation_of_numbers() -> None:
    pairs = {(1.0, 2.0): 2, (3.0, 3.0): 1, (5.0, 4.0): 1}
    assert mean_absolute_error(pairs) == 0.75
    assert rank_correlation(pairs) == pytest.approx(1.0)
    assert rank_correlation({(1.0, 2.0): 1, (1.0, 3.0): 1}) is None
    assert rank_correlation({}) is None


@pytest.mark.parametrize("pairs", [{(1.7e308, -1e308): 1, (2.0, 2.0): 3}, {(0.0, 1e308): 1, (1.0, 1e308): 1}])
def test_errors_beyond_all_numbers_are_undefined(pairs: dict[tuple[float, float], int]) -> None:
    assert with_interval(mean_absolute_error, pairs) == UNDEFINED
    nearly = with_interval(mean_absolute_error, {(0.0, 1.7e308): 1})
    assert nearly.value == 1.7e308


def test_figures_of_numbers_have_intervals_but_none_where_all_are_alike() -> None:
    pairs = {(float(at), float(at + at % 3)): 5 for at in range(20)}
    error = with_interval(mean_absolute_error, pairs)
    assert error.value is not None
    assert error.lower is not None
    assert error.upper is not None
    assert error.lower < error.value < error.upper
    # the error of a mean of 100 rows, whose errors are 0, 1 and 2 with a spread of 0.81
    assert error.upper - error.lower == pytest.approx(2 * 1.96 * 0.81 / 10, rel=0.1)
    wide = with_interval(mean_absolute_error, pairs, effective=25)
    assert wide.lower is not None
    assert wide.lower < error.lower
    all_right = with_interval(mean_absolute_error, {(1.0, 1.0): 5, (2.0, 2.0): 5})
    assert (all_right.value, all_right.lower, all_right.upper) == (0, None, None)
    assert with_interval(rank_correlation, {(1.0, 1.0): 5}).value is None
    assert mean_absolute_error({}) is None
