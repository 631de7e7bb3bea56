"""The accuracy that a judge found, corrected by how often the judge errs."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.stats.corrected import Rate, bounds, corrected_share, product
from batchrun.stats.proportions import UNDEFINED, Interval, Z, wilson
from tests.benchmarks.coverage import JUDGE_CASES, JudgeCase, corrected_coverage

MANY = 10**9


@st.composite
def rates(draw: st.DrawFn, least: int = 0) -> Rate:
    rows = draw(st.integers(least, 300))
    return Rate(draw(st.integers(0, rows)), rows)


def test_the_share_is_that_of_rogan_and_gladen() -> None:
    """By hand: 0.9 x 0.8 + 0.3 x 0.2 = 0.78 passes where 0.8 is true, with rates of 0.9 and 0.7."""
    found = corrected_share(Rate(780, 1000), Rate(90, 100), Rate(70, 100))
    assert found.value == pytest.approx(0.8)


def test_a_judge_without_a_fault_leaves_the_share_as_it_is() -> None:
    """Then the interval is that of Agresti and Coull, which adds two hits and two misses."""
    found = corrected_share(Rate(80, 100), Rate(MANY, MANY), Rate(MANY, MANY))
    centre = (80 + Z**2 / 2) / (100 + Z**2)
    margin = Z * math.sqrt(centre * (1 - centre) / (100 + Z**2))
    assert found.value == pytest.approx(0.8)
    assert found.lower == pytest.approx(centre - margin, abs=1e-6)
    assert found.upper == pytest.approx(centre + margin, abs=1e-6)


def test_the_interval_by_hand_as_lang_and_reiczigel_print_the_formula() -> None:
    """Written out once more, step by step, for 60 of 200 passed, 45 of 50 and 40 of 50 right."""
    n, p = 200 + Z**2, (60 + Z**2 / 2) / (200 + Z**2)
    se, sp = 46 / 52, 41 / 52
    j = se + sp - 1
    prevalence = (p + sp - 1) / j
    se_part, sp_part = se * (1 - se) / 52, sp * (1 - sp) / 52
    sd = math.sqrt(p * (1 - p) / n + prevalence**2 * se_part + (1 - prevalence) ** 2 * sp_part) / j
    shift = 2 * Z**2 * (prevalence * se_part - (1 - prevalence) * sp_part)
    lower, upper = bounds(Rate(60, 200), Rate(45, 50), Rate(40, 50))
    assert lower == pytest.approx(prevalence + shift - Z * sd, abs=1e-12)
    assert upper == pytest.approx(prevalence + shift + Z * sd, abs=1e-12)


@given(rates(1), rates(1), rates(1))
def test_share_and_interval_stay_within_0_and_1_and_hold_each_other(passed: Rate, pos: Rate, neg: Rate) -> None:
    found = corrected_share(passed, pos, neg)
    if found == UNDEFINED:
        assert pos.share + neg.share <= 1
        return
    assert found.value is not None
    assert found.lower is not None
    assert found.upper is not None
    assert 0 <= found.lower <= found.value <= found.upper <= 1


@pytest.mark.parametrize(
    ("pos", "neg"),
    [
        (Rate(0, 0), Rate(9, 10)),  # people passed nothing
        (Rate(9, 10), Rate(0, 0)),  # people failed nothing
        (Rate(5, 10), Rate(5, 10)),  # a coin
        (Rate(1, 10), Rate(2, 10)),  # worse than a coin: turning it round would be a guess
    ],
)
def test_what_cannot_be_corrected_is_undefined(pos: Rate, neg: Rate) -> None:
    assert corrected_share(Rate(50, 100), pos, neg) == UNDEFINED


def test_no_rows_at_all_are_undefined() -> None:
    assert corrected_share(Rate(0, 0), Rate(9, 10), Rate(9, 10)) == UNDEFINED


def test_a_handful_of_rows_of_people_says_next_to_nothing() -> None:
    """A single row of each kind, and a judge that is just above chance on many: anything may be true."""
    assert corrected_share(Rate(50, 100), Rate(1, 1), Rate(1, 90)) == Interval(0.0, 0.0, 1.0)
    few, many = (
        corrected_share(Rate(50, 100), Rate(rows * 9 // 10, rows), Rate(rows * 9 // 10, rows)) for rows in (10, 1000)
    )
    assert few.upper is not None
    assert few.lower is not None
    assert many.upper is not None
    assert many.lower is not None
    assert few.upper - few.lower > 1.5 * (many.upper - many.lower)


def test_rows_in_clusters_widen_the_interval() -> None:
    alone = bounds(Rate(80, 100), Rate(45, 50), Rate(40, 50))
    clustered = bounds(Rate(80, 100), Rate(45, 50), Rate(40, 50), effective=20)
    assert clustered[1] - clustered[0] > 1.3 * (alone[1] - alone[0])


def test_a_product_is_as_uncertain_as_its_factors() -> None:
    answered, right = wilson(90, 100), wilson(80, 100)
    found = product(answered, right)
    assert found.value == pytest.approx(0.72)
    exact = Interval(1.0, 1.0, 1.0)
    assert product(exact, right) == right
    assert found.lower is not None
    assert right.lower is not None
    assert found.lower < 0.9 * right.lower
    assert product(UNDEFINED, right) == UNDEFINED
    assert product(Interval(0.0, 0.0, 0.3), Interval(0.0, 0.0, 0.3)).lower == 0.0


@pytest.mark.parametrize("case", JUDGE_CASES, ids=str)
def test_the_interval_holds_the_truth_at_least_as_often_as_it_says(case: JudgeCase) -> None:
    """Within three standard errors of 95 %, or above: it is wide where people have judged few rows."""
    held, undefined = corrected_coverage(case, trials=400)
    assert held >= 0.95 - 0.033
    assert undefined < 0.2
