"""`evaluate` as a whole, from files to figures, against the libraries that have these figures."""

from __future__ import annotations

import math
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.verdict import Counts
from tests.evaluation.made import OUTCOMES, Outcome, evaluated

pytestmark = pytest.mark.oracle
LABELS = ("a", "b", "c")
NONE = "no answer"
rows = st.lists(st.tuples(st.sampled_from(LABELS), st.sampled_from((*LABELS, *OUTCOMES))), min_size=2, max_size=60)


def evaluation_of(pairs: list[tuple[str, str]]) -> Evaluation:
    """The evaluation of these rows, each gold and an answer or an outcome, with the results in random order."""
    answers: list[tuple[str, Any]] = [
        (f"r-{at}", Outcome(said, '{"topic": "a"}') if said in OUTCOMES else {"topic": said})
        for at, (_, said) in enumerate(pairs)
    ]
    random.Random(1).shuffle(answers)
    with tempfile.TemporaryDirectory() as folder:
        return evaluated(Path(folder), answers, [(f"r-{at}", gold) for at, (gold, _) in enumerate(pairs)], "topic")


@settings(max_examples=60)
@given(rows.filter(lambda pairs: any(said in LABELS for _, said in pairs)))
def test_every_figure_of_labels(pairs: list[tuple[str, str]]) -> None:
    import krippendorff
    from sklearn import metrics
    from statsmodels.stats.proportion import proportion_confint

    gold = [one for one, _ in pairs]
    said = [NONE if other in OUTCOMES else other for _, other in pairs]
    seen = sorted({*gold, *said} - {NONE})
    found = evaluation_of(pairs)
    labels = found.fields["topic"].labels
    assert labels is not None
    right = sum(one == other for one, other in zip(gold, said, strict=True))
    assert found.counts == Counts(right=right, wrong=len(pairs) - right - said.count(NONE), unanswered=said.count(NONE))
    assert (found.accuracy.lower, found.accuracy.upper) == near(proportion_confint(right, len(pairs), method="wilson"))
    told = {"labels": seen, "zero_division": 0}
    assert labels.f1_macro.value == near(metrics.f1_score(gold, said, average="macro", **told))
    assert labels.f1_micro.value == near(metrics.f1_score(gold, said, average="micro", **told))
    assert labels.f1_weighted.value == near(metrics.f1_score(gold, said, average="weighted", **told))
    for name, one in labels.classes.items():
        of_class = told | {"labels": [name], "average": None}
        assert one.f1.value == near(metrics.f1_score(gold, said, **of_class)[0])
        assert one.support == gold.count(name)
        if one.recall.value is not None:
            assert one.recall.value == near(metrics.recall_score(gold, said, **of_class)[0])
        if one.precision.value is not None:
            assert one.precision.value == near(metrics.precision_score(gold, said, **of_class)[0])
    table = metrics.confusion_matrix(gold, said, labels=[*seen, NONE]).tolist()
    assert labels.confusion.cells == [row[:-1] for row in table[:-1]]
    assert labels.confusion.unanswered == [row[-1] for row in table[:-1]]
    if len({*gold, *said}) > 1:
        assert labels.kappa.value == near(metrics.cohen_kappa_score(gold, said))
    if labels.mcc.value is not None:
        assert labels.mcc.value == near(metrics.matthews_corrcoef(gold, said))
    both = [(one, other) for one, other in zip(gold, said, strict=True) if other != NONE]
    if len({label for pair in both for label in pair}) > 1:
        data: Any = [[LABELS.index(one) for one, _ in both], [LABELS.index(other) for _, other in both]]
        theirs = krippendorff.alpha(reliability_data=data, level_of_measurement="nominal")
        assert labels.alpha_nominal.value == near(theirs)


def near(expected: Any) -> Any:
    return pytest.approx(expected, rel=0, abs=1e-9)


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=2, max_size=40))
def test_every_figure_of_numbers(pairs: list[tuple[int, int]]) -> None:
    import krippendorff
    from scipy.stats import spearmanr
    from sklearn.metrics import mean_absolute_error

    gold, said = [one for one, _ in pairs], [other for _, other in pairs]
    answers = {f"r-{at}": {"score": other} for at, other in enumerate(said)}
    with tempfile.TemporaryDirectory() as folder:
        rows = [(f"r-{at}", one) for at, one in enumerate(gold)]
        found = evaluated(Path(folder), answers, rows, "score").fields["score"]
    assert found.numbers is not None
    assert found.labels is not None
    assert found.numbers.mean_absolute_error.value == near(mean_absolute_error(gold, said))
    if min(len(set(gold)), len(set(said))) > 1:
        assert found.numbers.rank_correlation.value == near(spearmanr(gold, said).statistic)
    if len({*gold, *said}) > 1:
        theirs = krippendorff.alpha(reliability_data=[gold, said], level_of_measurement="ordinal")
        assert found.labels.alpha_ordinal is not None
        assert found.labels.alpha_ordinal.value == near(theirs)
        assert not math.isnan(theirs)
