"""Which fields there are: what the schema or any answer names, in any order of the records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, GatewayOptions, Job, run
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.tables import Source
from batchrun.evaluation.agreement import agree
from batchrun.evaluation.compare import compare
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.figures import Evaluation
from batchrun.evaluation.gates import check, threshold
from batchrun.evaluation.verdict import Counts
from tests.evaluation.made import evaluated, write_gold, write_results

MANY = 210  # more answers than were once looked at
GATE = threshold("accuracy=0.9")


def _figures(found: Evaluation) -> Any:
    """All that is told, without the examples: these are the first ones in the file."""
    told = json.loads(found.to_json())
    for field in told["fields"].values():
        for pair in field.get("mix_ups", []):
            pair["example"] = ""
    return told


def test_a_field_that_is_null_in_every_answer_is_unanswered_and_the_gate_is_missed(tmp_path: Path) -> None:
    answers = {name: {"topic": "x", "urgent": None} for name in "ab"}
    found = evaluated(tmp_path, answers, [(name, "x", "true") for name in answers], "topic", "urgent")
    assert {name: one.counts for name, one in found.fields.items()} == {
        "topic": Counts(right=2),
        "urgent": Counts(unanswered=2),
    }
    assert [gate.passed for gate in check(found, [GATE]).gates or []] == [False]


def test_a_column_of_gold_that_no_answer_names_is_told_of_where_no_schema_is_known(tmp_path: Path) -> None:
    answers = {name: {"topic": "x"} for name in "ab"}
    rows = [(name, "x", "true", "de", name) for name in answers]
    found = evaluated(tmp_path, answers, rows, "topic", "urgent", "lang", "document", by="lang", cluster="document")
    assert list(found.fields) == ["topic"]
    (warning,) = [one for one in found.warnings if "no answer has" in one]
    assert "gold.csv: no answer has urgent, so not scored; no request file with a schema was found for" in warning
    assert "--score urgent=exact" in warning
    texts = evaluated(tmp_path, {"a": "x"}, [("a", "x", "n")], "answer", "note")
    assert not [one for one in texts.warnings if "no answer has" in one]


@pytest.mark.parametrize("closed", [{"additionalProperties": False}, {}])
def test_a_field_of_the_schema_that_no_answer_has_is_unanswered(tmp_path: Path, closed: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"topic": {"type": "string"}, "urgent": {"anyOf": [{"type": "boolean"}, {"type": "null"}]}}
    told = {"name": "s", "schema": {"type": "object", "properties": fields, **closed}}
    requests, results = tmp_path / "q.jsonl", tmp_path / "r.jsonl"
    body = {"model": "m", "input": "x", "text": {"format": {"type": "json_schema", **told}}}
    requests.write_text("".join(json.dumps({"custom_id": name, "body": body}) + "\n" for name in "ab"))
    run(Job(str(requests), results, Endpoint("http://127.0.0.1"), simulate=GatewayOptions()))
    write_results(results, {"a": {"topic": "x"}, "b": {"topic": "x"}})
    rows = [("a", "x", "true", "n", "z"), ("b", "x", "true", "n", "z")]
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic", "urgent", "notes", "answer"], rows)
    found = evaluate(results, Question(Source(str(gold))))
    assert {name: one.counts for name, one in found.fields.items()} == {
        "topic": Counts(right=2),
        "urgent": Counts(unanswered=2),
    }
    assert [gate.passed for gate in check(found, [GATE]).gates or []] == [False]
    assert not [one for one in found.warnings if "no answer has" in one]


@pytest.mark.parametrize(
    ("first", "then", "counts", "scorers"),
    [
        (
            {"topic": "x", "n": None},
            {"topic": "x", "n": 2},
            Counts(wrong=MANY + 1, unanswered=MANY),
            ["exact", "number"],
        ),
        ({"topic": "x"}, {"topic": "x", "n": 2}, Counts(wrong=MANY + 1, unanswered=MANY), ["exact", "number"]),
        ({"topic": "x", "n": "1"}, {"topic": "x", "n": 1.0}, Counts(right=2 * MANY + 1), ["exact", "number"]),
        ("Sorry", {"topic": "x", "n": 1}, Counts(right=MANY + 1, unanswered=MANY), ["exact", "number"]),
    ],
)
def test_the_order_of_the_records_changes_no_figure(
    tmp_path: Path, first: Any, then: Any, counts: Counts, scorers: list[str]
) -> None:
    pairs = [*((f"a{row}", first) for row in range(MANY)), *((f"b{row}", then) for row in range(MANY + 1))]
    rows = [(name, "x", "1") for name, _ in pairs]
    found = [evaluated(tmp_path, order, rows, "topic", "n") for order in (pairs, pairs[::-1])]
    for one in found:
        assert one.counts == counts
        assert [field.scorer for field in one.fields.values()] == scorers
    assert _figures(found[0]) == _figures(found[1])


@pytest.mark.parametrize(
    ("texts", "counts"), [(MANY - 1, Counts(right=MANY, unanswered=MANY - 1)), (MANY, Counts(right=2 * MANY))]
)
def test_whether_answers_are_texts_is_told_by_all_of_them(tmp_path: Path, texts: int, counts: Counts) -> None:
    pairs: list[tuple[str, Any]] = [(f"b{row}", {"answer": "x"}) for row in range(MANY)]
    pairs = [*pairs, *((f"a{row}", "x") for row in range(texts))]
    rows = [(name, "x") for name, _ in pairs]
    assert evaluated(tmp_path, pairs, rows).counts == counts
    assert evaluated(tmp_path, pairs[::-1], rows).counts == counts


def test_an_answer_that_is_no_object_makes_no_text_of_the_failures_of_others(tmp_path: Path) -> None:
    answers = {
        "a": {"answer": "yes"},
        "b": {"answer": "yes"},
        "c": {"foo": "yes"},
        "d": "I cannot say",
        "e": '{"answer":"no"',
        "f": '```json\n{"answer":"no"',
    }
    found = evaluated(tmp_path, answers, [(name, "yes") for name in answers])
    assert found.counts == Counts(right=2, unanswered=4)


def test_among_texts_a_cut_object_is_no_text_where_others_have_the_member(tmp_path: Path) -> None:
    answers = {"a": "yes", "b": "no", "c": {"answer": "yes"}, "d": {"foo": "yes"}, "e": '{"answer":"no"'}
    rows = [(name, "yes") for name in answers]
    assert evaluated(tmp_path, answers, rows).counts == Counts(right=2, wrong=1, unanswered=2)
    del answers["c"]
    assert evaluated(tmp_path, answers, rows[:2] + rows[3:]).counts == Counts(right=1, wrong=3)


def test_a_column_named_answer_beside_answers_that_are_objects_is_no_field(tmp_path: Path) -> None:
    answers = {"a": {"topic": "x"}, "b": {"topic": "x"}, "c": "Sorry"}
    found = evaluated(tmp_path, answers, [(name, "x", "in full") for name in answers], "topic", "answer")
    assert (list(found.fields), found.counts) == (["topic"], Counts(right=2, unanswered=1))


def test_an_object_is_held_against_the_column_of_its_name(tmp_path: Path) -> None:
    answers = {"a": {"d": {"k": 1, "l": "x"}}, "b": {"d": {"k": 2, "l": "x"}}, "c": {"d": None}}
    cell = '{"l": "x", "k": 1.0}'
    found = evaluated(tmp_path, answers, [(name, cell, "1") for name in answers], "d", "d.k")
    assert {name: (one.scorer, one.counts) for name, one in found.fields.items()} == {
        "d": ("json", Counts(right=1, wrong=1, unanswered=1)),
        "d.k": ("number", Counts(right=1, wrong=1, unanswered=1)),
    }


def test_objects_are_compared_whatever_single_answer_is_none(tmp_path: Path) -> None:
    answers = {f"r{row}": {"d": {"k": row}} for row in range(19)} | {"z": {"d": "none"}}
    found = evaluated(tmp_path, answers, [(name, '{ "k": 0 }') for name in answers], "d")
    assert (found.fields["d"].scorer, found.counts) == ("json", Counts(right=1, wrong=18, unanswered=1))


@pytest.mark.parametrize("order", [("one", "null", "more"), ("null", "one", "more"), ("more", "null", "one")])
def test_a_file_whose_values_are_all_null_is_compared_by_the_scorer_of_the_others(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    values = {"one": 1, "null": None, "more": 2}
    paths = [
        write_results(tmp_path / f"{told}.jsonl", {name: {"topic": "x", "n": values[told]} for name in "abc"})
        for told in order
    ]
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic", "n"], [(name, "x", "1.0") for name in "abc"])
    found = compare(paths, Question(Source(str(gold))), PriceBook())
    counts = {"one": Counts(right=3), "null": Counts(unanswered=3), "more": Counts(wrong=3)}
    assert [file.counts["n"] for file in found.files] == [counts[told] for told in order]
    assert not found.fields_left_out


def test_without_gold_the_fields_are_those_of_all_answers_and_no_objects(tmp_path: Path) -> None:
    pairs: list[tuple[str, Any]] = [(f"a{row}", "Sorry") for row in range(MANY)]
    pairs = [*pairs, ("b", {"topic": "x", "d": {"k": 1}}), ("c", {"topic": None, "d": None})]
    paths = [write_results(tmp_path / f"{name}.jsonl", pairs) for name in ("one", "other")]
    assert list(agree(paths, PriceBook()).fields) == ["d.k", "topic"]
