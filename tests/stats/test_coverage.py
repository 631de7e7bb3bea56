"""The intervals hold the truth about as often as they say."""

from __future__ import annotations

import pytest

from tests.benchmarks.coverage import (
    CASES,
    RATES,
    SIZES,
    Case,
    drawn_coverage,
    exact_coverage,
    quick_rows,
    resampled_coverage,
    resampled_rows,
)
from tests.docs.pages import MANUAL


@pytest.mark.parametrize("rows", SIZES)
@pytest.mark.parametrize("rate", RATES)
def test_wilsons_interval_holds_the_truth_as_often_as_it_should(rate: float, rows: int) -> None:
    exact = exact_coverage(rate, rows)
    assert drawn_coverage(rate, rows) == pytest.approx(exact, abs=0.015)
    assert exact > 0.92


def test_the_resampled_intervals_hold_the_truth_in_a_few_hundred_samples() -> None:
    """The short form: within three standard errors of 95 %."""
    for name, share in resampled_coverage(Case(3, 0.8, 300), trials=200).items():
        assert share == pytest.approx(0.95, abs=0.046), name


def manual() -> str:
    return MANUAL["evaluation"].text


def test_the_manual_shows_what_was_drawn() -> None:
    """The rows that take seconds; `python -m tests.docs coverage` writes all of them."""
    for row in quick_rows():
        assert row in manual(), "write the table anew: python -m tests.docs coverage"


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_resampled_intervals_hold_the_truth_in_93_to_97_percent_as_the_manual_shows(case: Case) -> None:
    shares = resampled_coverage(case)
    for name, share in shares.items():
        assert 0.93 <= share <= 0.97, (name, share)
    for row in resampled_rows(case, shares):
        assert row in manual()
