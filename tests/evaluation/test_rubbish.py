"""A result file full of failures, refusals and rubbish gives no number that hides them, nor against another file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.tables import Source
from batchrun.errors import UsageError
from batchrun.evaluation.compare import Winner, compare
from batchrun.evaluation.compare_text import render
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.gates import against, check, missed, threshold
from batchrun.evaluation.verdict import Counts, Unanswered
from tests.evaluation.made import Outcome, write_gold, write_results

ROWS, BAD = 60, 40
RIGHT = '{"topic": "yes", "note": "x"}'
GOLD = ["yes", "no", "maybe"]


def text(told: str) -> Outcome:
    """An answer with exactly that text."""
    return Outcome("succeeded", told)


UNANSWERED = {
    **{name: Outcome(name, RIGHT) for name in ("failed", "refused", "incomplete", "empty", "invalid")},
    "misses its schema": Outcome("succeeded", RIGHT, "topic: not allowed"),
    "no text": text(""),
    "blanks": text(" \n\t\u00a0"),
    "null": text("null"),
    "a list": text(f"[{RIGHT}]"),
    "a text in JSON": text('"yes"'),
    "a number": text("1"),
    "cut short": text(RIGHT[:-3]),
    "two objects": text(RIGHT + RIGHT),
    "no JSON": text("topic: yes"),
    "not a number": text('{"topic": NaN}'),
    "bytes of no text": text('\x00\ufffe{"topic": "yes"'),
    "the field is null": {"topic": None, "note": "yes"},
    "another field": {"Topic": "yes", "topics": "yes"},
    "nested": {"answer": {"topic": "yes"}},
}
WRONG = {
    "another label": {"topic": "none of these"},
    "an object": {"topic": {"yes": True}},
    "the name of a count": {"topic": "unanswered"},
    "the gold of all": {"topic": "yes no maybe"},
    "the sign of an absent label": {"topic": "–"},
    "control characters": {"topic": "\x1b[2Jyes"},
}


def gold_of(row: int) -> str:
    return GOLD[row % 3]


def files(folder: Path, bad: Any) -> tuple[Path, Path, Source]:
    """A good file with five wrong answers, one that is rubbish in forty rows of sixty, and their gold."""
    right: dict[str, Any] = {f"r-{row}": {"topic": gold_of(row), "note": "x"} for row in range(ROWS)}
    good = right | {f"r-{row}": {"topic": "no" if gold_of(row) == "yes" else "yes"} for row in range(55, 60)}
    rubbish = right | {f"r-{row}": bad for row in range(BAD)}
    rows = [(f"r-{row}", gold_of(row), f"g{row % 4}", row // 5) for row in range(ROWS)]
    table = write_gold(folder / "gold.csv", ["custom_id", "topic", "group", "page"], rows)
    names = (folder / "good.jsonl", folder / "rubbish.jsonl")
    return write_results(names[0], good), write_results(names[1], rubbish), Source(str(table))


@pytest.mark.parametrize("policy", list(Unanswered))
def test_rubbish_is_in_the_counts_and_in_each_figure(tmp_path: Path, policy: Unanswered) -> None:
    """Each kind once, among as many right answers as there are kinds."""
    kinds = UNANSWERED | WRONG
    answers: dict[str, Any] = {f"r-{at}": bad for at, bad in enumerate(kinds.values())}
    rows = len(kinds)
    answers |= {f"r-{row}": {"topic": gold_of(row), "note": "x"} for row in range(rows, 2 * rows)}
    table = [(f"r-{row}", gold_of(row), f"g{row % 4}", row // 5) for row in range(2 * rows)]
    gold = Source(str(write_gold(tmp_path / "gold.csv", ["custom_id", "topic", "group", "page"], table)))
    results = write_results(tmp_path / "r.jsonl", answers)
    found = evaluate(results, Question(gold, by="group", cluster="page", policy=policy))
    assert found.counts == Counts(right=rows, wrong=len(WRONG), unanswered=len(UNANSWERED))
    assert found.accuracies.asked.value == 1 / 2
    assert found.accuracies.answered.value == rows / (rows + len(WRONG))
    for verdict in ("right", "wrong", "unanswered"):
        assert sum(getattr(one.counts, verdict) for one in found.groups.values()) == getattr(found.counts, verdict)
    labels = found.fields["topic"].labels
    assert labels is not None
    hidden = len(UNANSWERED) if policy is Unanswered.EXCLUDE else 0
    assert sum(map(sum, labels.confusion.cells)) + sum(labels.confusion.unanswered) == 2 * rows - hidden
    for figure in (labels.f1_macro, labels.f1_micro, labels.f1_weighted, labels.balanced_accuracy, labels.kappa):
        assert figure.value is not None
        assert figure.upper is not None
        assert figure.value < figure.upper < 1
    gates = check(found, [threshold("accuracy=0.85")]).gates
    assert missed(gates)


@pytest.mark.parametrize("name", [*UNANSWERED, *WRONG])
def test_rubbish_stands_against_no_other_file(tmp_path: Path, name: str) -> None:
    good, rubbish, gold = files(tmp_path, (UNANSWERED | WRONG)[name])
    question = Question(gold, by="group")
    found = compare([good, rubbish], question, PriceBook())
    (pair,) = found.fields["topic"]
    assert (pair.rows, pair.winner, pair.pairs.first_only, pair.pairs.second_only) == (ROWS, Winner.FIRST, BAD, 5)
    assert sum(group.rows for group in pair.groups.values()) == ROWS
    assert len(pair.flips) == 20
    assert not against(good, rubbish, question, None).passed
    assert not against(good, rubbish, question, 0.3).passed
    assert against(rubbish, good, question, 0.0).passed
    left_out = Question(gold, policy=Unanswered.EXCLUDE)
    found = compare([good, rubbish], left_out, PriceBook())
    (pair,) = found.fields["topic"]
    assert pair.rows + pair.left_out == ROWS
    assert pair.left_out == (BAD if name in UNANSWERED else 0)
    text = render(found)
    if name in UNANSWERED:  # of the twenty rows that it has answered more are right, and no more is said
        assert pair.winner is Winner.SECOND
        assert "is better than" in text
        assert "on the 20 rows that both answered, with 40 left out." in text
    else:
        assert pair.winner is Winner.FIRST
        assert "both answered" not in text


@pytest.mark.parametrize("name", UNANSWERED)
def test_nothing_but_rubbish_is_no_verdict(tmp_path: Path, name: str) -> None:
    """Whatever the policy, and on either side of a threshold against a base."""
    good, rubbish, gold = files(tmp_path, UNANSWERED[name])
    write_results(rubbish, {f"r-{row}": UNANSWERED[name] for row in range(ROWS)})
    for policy in Unanswered:
        question = Question(gold, columns={"topic": "topic"}, policy=policy)
        with pytest.raises(UsageError, match="nothing was answered"):
            evaluate(rubbish, question)
        for base, results in ((good, rubbish), (rubbish, good)):
            with pytest.raises(UsageError, match="nothing was answered"):
                against(base, results, question, None)
