"""The arithmetic against the libraries that have it: on random tables, to nine digits."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.stats import confusion, numbers
from batchrun.stats.confusion import UNANSWERED, Cell, Sums
from batchrun.stats.corrected import Rate, bounds
from batchrun.stats.proportions import (
    Interval,
    Pairs,
    Z,
    clustered_error,
    f1_of_class,
    holm,
    mcnemar,
    paired_difference,
    smallest_difference,
    wilson,
)

pytestmark = pytest.mark.oracle
EXACT = 1e-9
LABELS = 4

cells = st.dictionaries(
    st.tuples(st.integers(0, LABELS - 1), st.integers(UNANSWERED, LABELS - 1)), st.integers(1, 40), min_size=1
)
pairs = st.builds(Pairs, *[st.integers(0, 60)] * 4)


def rows_of(table: dict[Cell, int]) -> tuple[list[int], list[int]]:
    """The table as two columns, as the libraries want it."""
    rows = [cell for cell, count in table.items() for _ in range(count)]
    return [gold for gold, _ in rows], [answer for _, answer in rows]


def sums_of(table: dict[Cell, int]) -> Sums:
    return Sums(list(table), [float(count) for count in table.values()], LABELS)


def seen_in(table: dict[Cell, int]) -> list[int]:
    return sorted({label for cell in table for label in cell} - {UNANSWERED})


def close(ours: float | None, theirs: float) -> bool:
    return ours is not None and math.isclose(ours, theirs, rel_tol=0, abs_tol=EXACT)


# ------------------------------------------------------------------------------------------------- tables


@given(cells)
def test_f1_of_every_kind_and_balanced_accuracy(table: dict[Cell, int]) -> None:
    from sklearn import metrics

    gold, answers = rows_of(table)
    seen, sums = seen_in(table), sums_of(table)
    told = {"labels": seen, "zero_division": 0}
    of_classes = metrics.f1_score(gold, answers, average=None, **told)
    assert all(close(confusion.f1_of(sums, label), one) for label, one in zip(seen, of_classes, strict=True))
    for average, ours in [
        ("macro", confusion.f1_macro),
        ("micro", confusion.f1_micro),
        ("weighted", confusion.f1_weighted),
    ]:
        assert close(ours(sums), metrics.f1_score(gold, answers, average=average, **told)), average
    for label, theirs in zip(seen, of_classes, strict=True):
        of_class = f1_of_class(sums.hits[label], sums.gold[label], sums.answered[label])
        assert close(of_class.value, theirs)
        assert of_class.lower is not None
        assert of_class.upper is not None
        assert of_class.lower <= theirs <= of_class.upper
        assert of_class.upper - of_class.lower > 0.01
    recalls = metrics.recall_score(gold, answers, average=None, labels=sorted(set(gold)), zero_division=0)
    assert close(confusion.balanced_accuracy(sums), sum(recalls) / len(recalls))


@given(cells)
def test_kappa_and_matthews_correlation(table: dict[Cell, int]) -> None:
    from sklearn import metrics

    gold, answers = rows_of(table)
    sums = sums_of(table)
    if len({*gold, *answers}) == 1:
        assert confusion.kappa(sums) is confusion.mcc(sums) is None
        return
    assert close(confusion.kappa(sums), metrics.cohen_kappa_score(gold, answers))
    theirs = metrics.matthews_corrcoef(gold, answers)
    if min(len(set(gold)), len(set(answers))) == 1:
        assert (confusion.mcc(sums), theirs) == (None, 0)
    else:
        assert close(confusion.mcc(sums), theirs)


@given(cells)
def test_alpha_nominal_and_ordinal(table: dict[Cell, int]) -> None:
    import krippendorff

    gold, answers = rows_of(table)
    both = [(one, other) for one, other in zip(gold, answers, strict=True) if other != UNANSWERED]
    if len({label for pair in both for label in pair}) < 2:
        assert confusion.alpha_nominal(sums_of(table)) is None
        return
    data: Any = [gold, [math.nan if answer == UNANSWERED else answer for answer in answers]]
    levels: list[tuple[Any, confusion.Figure]] = [
        ("nominal", confusion.alpha_nominal),
        ("ordinal", confusion.alpha_ordinal),
    ]
    for level, ours in levels:
        theirs = krippendorff.alpha(reliability_data=data, level_of_measurement=level)
        assert close(ours(sums_of(table)), theirs), level


def of_numpy(table: dict[Cell, int], draws: int) -> dict[str, tuple[float, float]]:
    """Intervals of kappa and macro F1 by a Dirichlet distribution over all cells, in arrays."""
    import numpy

    labels = max(max(cell) for cell in table) + 1
    shape = numpy.full((labels, labels), 0.5 / labels**2)  # half a row, as the manual says
    for (gold, answer), count in table.items():
        shape[gold, answer] += count
    drawn = numpy.random.default_rng(1).dirichlet(shape.ravel(), draws).reshape(draws, labels, labels)
    hits, gold_sums, answer_sums = numpy.einsum("dii->di", drawn), drawn.sum(2), drawn.sum(1)
    by_chance = (gold_sums * answer_sums).sum(1)
    figures = {
        "kappa": (hits.sum(1) - by_chance) / (1 - by_chance),
        "f1_macro": (2 * hits / (gold_sums + answer_sums)).mean(1),
    }
    return {name: tuple(numpy.quantile(drawn, [0.025, 0.975])) for name, drawn in figures.items()}


@pytest.mark.parametrize(
    "table",
    [
        {(0, 0): 45, (0, 1): 5, (1, 0): 10, (1, 1): 40},
        {(0, 0): 200, (1, 1): 150},
        {(0, 0): 90, (0, 1): 6, (1, 1): 80, (1, 2): 9, (2, 0): 4, (2, 2): 70},
        {(0, 0): 500, (0, 1): 40, (1, 1): 300, (2, 2): 200, (2, 3): 30, (3, 3): 100, (3, 0): 10},
    ],
)
def test_intervals_by_resampling(table: dict[Cell, int]) -> None:
    labels = max(max(cell) for cell in table) + 1
    figures = [confusion.kappa, confusion.f1_macro]
    ours = confusion.resample(table, labels, figures, draws=20_000).intervals
    theirs = of_numpy(table, 200_000)
    for name, interval in zip(("kappa", "f1_macro"), ours, strict=True):
        assert (interval.lower, interval.upper) == pytest.approx(theirs[name], abs=0.005), name


# ------------------------------------------------------------------------------------------------- shares


@given(st.integers(1, 2000), st.data())
def test_wilson(total: int, data: st.DataObject) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = data.draw(st.integers(0, total))
    ours = wilson(hits, total)
    lower, upper = proportion_confint(hits, total, method="wilson")
    assert ours.value == hits / total
    assert close(ours.lower, lower)
    assert close(ours.upper, upper)


@given(pairs)
def test_mcnemar(table: Pairs) -> None:
    """The exact test of statsmodels, less half of the chance of the table itself: that is the mid-p."""
    from scipy.stats import binom
    from statsmodels.stats.contingency_tables import mcnemar as of_statsmodels

    exact = of_statsmodels([[table.both, table.first_only], [table.second_only, table.neither]], exact=True).pvalue
    flips, fewer = table.first_only + table.second_only, min(table.first_only, table.second_only)
    itself = float(binom.pmf(fewer, flips, 0.5))
    if not flips:
        assert mcnemar(table) == exact == 1
    elif table.first_only == table.second_only:
        assert close(mcnemar(table), 1 - itself)
    else:
        assert close(mcnemar(table), exact - itself)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm(p_values: list[float]) -> None:
    from statsmodels.stats.multitest import multipletests

    theirs = multipletests(p_values, method="holm")[1]
    assert all(close(one, other) for one, other in zip(holm(p_values), theirs, strict=True))


@given(st.integers(30, 400), st.integers(2, 20), st.randoms(use_true_random=False))
def test_clustered_errors(rows: int, clusters: int, rng: random.Random) -> None:
    """A regression on nothing but a constant, with errors by cluster and no correction for few clusters."""
    import numpy
    from statsmodels.regression.linear_model import OLS

    groups = [rng.randrange(clusters) for _ in range(rows)]
    hits = [float(rng.random() < (group + 1) / (clusters + 2)) for group in groups]
    told = {"groups": numpy.array(groups), "use_correction": False, "df_correction": False}
    fitted = OLS(numpy.array(hits), numpy.ones(rows)).fit(cov_type="cluster", cov_kwds=told)
    by_cluster = [
        (sum(hit for hit, own in zip(hits, groups, strict=True) if own == group), float(groups.count(group)))
        for group in sorted(set(groups))
    ]
    assert math.isclose(clustered_error(by_cluster), float(fitted.bse[0]), abs_tol=EXACT)


def newcombe(table: Pairs) -> tuple[float, float]:
    """Method 10 from the intervals of statsmodels, in the notation of the paper: p1 − p2."""
    from statsmodels.stats.proportion import proportion_confint

    a, b, c, d = table.both, table.first_only, table.second_only, table.neither
    n = a + b + c + d
    p1, p2 = (a + b) / n, (a + c) / n
    (l1, u1), (l2, u2) = (proportion_confint(hits, n, method="wilson") for hits in (a + b, a + c))
    product = (a + b) * (c + d) * (a + c) * (b + d)
    numerator = a * d - b * c - min(n / 2, max(a * d - b * c, 0))
    phi = numerator / math.sqrt(product) if product else 0
    delta = math.sqrt((p1 - l1) ** 2 - 2 * phi * (p1 - l1) * (u2 - p2) + (u2 - p2) ** 2)
    epsilon = math.sqrt((u1 - p1) ** 2 - 2 * phi * (u1 - p1) * (p2 - l2) + (p2 - l2) ** 2)
    return p1 - p2 - delta, p1 - p2 + epsilon


@given(pairs.filter(lambda table: table.rows > 0))
def test_newcombes_paired_difference(table: Pairs) -> None:
    ours = paired_difference(table)
    lower, upper = newcombe(table)
    assert ours.value == (table.second_only - table.first_only) / table.rows
    assert close(ours.lower, max(-1.0, -upper))
    assert close(ours.upper, min(1.0, -lower))


@settings(max_examples=20)
@given(st.builds(Pairs, st.just(200), st.integers(15, 40), st.integers(15, 40), st.integers(0, 100)), st.integers(1, 6))
def test_the_smallest_difference_is_found_in_80_percent(table: Pairs, tests: int) -> None:
    """Tables are drawn with that difference; the plain McNemar test is made of each, corrected for so many tests."""
    import numpy
    import scipy.stats

    difference, n = smallest_difference(table, tests), table.rows
    assert difference is not None
    flips = (table.first_only + table.second_only + 1) / (n + 2)
    second, first = (flips + difference) / 2, (flips - difference) / 2
    drawn = numpy.random.default_rng(1).multinomial(n, [first, second, 1 - flips], 20_000)
    gap, total = drawn[:, 1] - drawn[:, 0], drawn[:, 0] + drawn[:, 1]
    found = numpy.mean(gap > scipy.stats.norm.isf(0.025 / tests) * numpy.sqrt(numpy.maximum(total, 1)))
    assert found == pytest.approx(0.8, abs=0.05)


@given(st.integers(1, 3000), st.data())
def test_a_corrected_share_of_a_judge_without_a_fault(total: int, data: st.DataObject) -> None:
    from statsmodels.stats.proportion import proportion_confint

    hits = data.draw(st.integers(0, total))
    faultless = Rate(10**15, 10**15)
    lower, upper = bounds(Rate(hits, total), faultless, faultless)
    theirs = proportion_confint(hits, total, method="agresti_coull")
    assert (max(0.0, lower), min(1.0, upper)) == pytest.approx((max(0.0, theirs[0]), min(1.0, theirs[1])), abs=EXACT)


@given(st.data())
def test_a_corrected_share_of_very_many_rows_is_as_uncertain_as_its_parts(data: st.DataObject) -> None:
    """There the interval is that of the delta method, whose derivatives are taken by numbers."""
    from scipy.optimize import approx_fprime

    rows = 10**6
    tpr, tnr = (data.draw(st.floats(0.7, 0.99)) for _ in range(2))
    truth = data.draw(st.floats(0.1, 0.9))
    share = truth * tpr + (1 - truth) * (1 - tnr)
    parts = [share, tpr, tnr]
    slopes = approx_fprime(parts, lambda at: (at[0] + at[2] - 1) / (at[1] + at[2] - 1), 1e-7)
    error = math.sqrt(sum(slope**2 * at * (1 - at) / rows for slope, at in zip(slopes, parts, strict=True)))
    passed, positives, negatives = (Rate(at * rows, rows) for at in parts)
    lower, upper = bounds(passed, positives, negatives)
    assert (lower + upper) / 2 == pytest.approx(truth, abs=1e-4)
    assert (upper - lower) / 2 == pytest.approx(Z * error, rel=1e-3)


# ------------------------------------------------------------------------------------------------ numbers


@given(st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=2, max_size=60))
def test_errors_and_rank_correlation_of_numbers(values: Sequence[tuple[int, int]]) -> None:
    from scipy.stats import spearmanr
    from sklearn.metrics import mean_absolute_error

    gold, answers = [one for one, _ in values], [other for _, other in values]
    table = {(float(gold), float(answer)): values.count((gold, answer)) for gold, answer in values}
    assert close(numbers.mean_absolute_error(table), mean_absolute_error(gold, answers))
    ours = numbers.rank_correlation(table)
    if min(len(set(gold)), len(set(answers))) < 2:
        assert ours is None
    else:
        assert close(ours, spearmanr(gold, answers).statistic)


def test_the_comparison_can_fail() -> None:
    assert not close(None, 0.5)
    assert not close(0.5, 0.5 + 1e-8)
    assert wilson(0, 0) == Interval(None, None, None)
