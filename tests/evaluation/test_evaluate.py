"""Answers held against gold: the five counts, the fields, the figures, the repeats, and what is refused."""

from __future__ import annotations

import csv
import json
import random
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from batchrun.datasets.tables import Source
from batchrun.errors import InputError, UsageError
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.gates import check, threshold
from batchrun.evaluation.gold import gold_column
from batchrun.evaluation.rows_file import RowTable
from batchrun.evaluation.scorers import of_function, scorer_of
from batchrun.evaluation.text import render, share
from batchrun.evaluation.verdict import Counts, Unanswered
from batchrun.stats.proportions import Interval, wilson
from tests.evaluation.made import OUTCOMES, Outcome, evaluated, write_gold, write_results

YES, NO = {"topic": "yes"}, {"topic": "no"}

# ------------------------------------------------------------------------------------------- the five counts


@pytest.mark.smoke
def test_the_five_counts_are_never_mixed(tmp_path: Path) -> None:
    answers = {"r": YES, "w": NO, "u": Outcome("failed"), "no gold": YES, "empty gold": YES}
    rows = [("r", "yes"), ("w", "yes"), ("u", "yes"), ("empty gold", ""), ("not asked", "yes")]
    found = evaluated(tmp_path, answers, rows, "topic")
    assert found.counts == Counts(not_asked=1, right=1, wrong=1, unanswered=1, unscored=2)
    assert found.fields["topic"].counts == found.counts
    assert found.accuracies.asked == found.accuracy == wilson(1, 3)
    assert found.accuracies.answered == wilson(1, 2)


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_answer_that_did_not_succeed_is_unanswered_though_its_text_is_right(tmp_path: Path, outcome: str) -> None:
    answers = {"a": YES, "b": Outcome(outcome, '{"topic": "yes"}')}
    found = evaluated(tmp_path, answers, [("a", "yes"), ("b", "yes")], "topic")
    assert found.counts == Counts(right=1, unanswered=1)
    assert found.fields["topic"].unanswered == {outcome: 1}
    assert found.accuracy.value == 0.5


def test_an_answer_that_its_run_marked_as_missing_its_schema_is_unanswered(tmp_path: Path) -> None:
    answers = {"a": YES, "b": Outcome("succeeded", '{"topic": "yes"}', schema_error="$.note: missing")}
    found = evaluated(tmp_path, answers, [("a", "yes"), ("b", "yes")], "topic")
    assert found.counts == Counts(right=1, unanswered=1)
    assert found.fields["topic"].unanswered == {"invalid": 1}


@pytest.mark.parametrize("rubbish", ["", "not JSON", "[1]", "7", '{"other": 1}', '{"topic": null}', '{"topic": '])
def test_rubbish_is_unanswered(tmp_path: Path, rubbish: str) -> None:
    found = evaluated(tmp_path, {"a": YES, "b": rubbish}, [("a", "yes"), ("b", "yes")], "topic")
    assert found.counts == Counts(right=1, unanswered=1)
    assert found.fields["topic"].unanswered == {"missing field": 1}


@pytest.mark.parametrize("text", ['{"topic": "no", "topic": "yes"}', '{"topic": "yes", "why": {"a": 1, "\\u0061": 2}}'])
def test_an_answer_that_says_two_things_under_one_key_is_invalid(tmp_path: Path, text: str) -> None:
    found = evaluated(tmp_path, {"a": YES, "b": text}, [("a", "yes"), ("b", "yes")], "topic")
    assert found.counts == Counts(right=1, unanswered=1)
    assert found.fields["topic"].unanswered == {"invalid": 1}


@pytest.mark.parametrize("empty", ["", " \n"])
def test_a_field_that_is_empty_is_unanswered(tmp_path: Path, empty: str) -> None:
    answers = {"a": {"topic": empty, "n": 1}, "b": {"topic": "yes", "n": empty}}
    found = evaluated(tmp_path, answers, [("a", "yes", 1), ("b", "yes", 1)], "topic", "n")
    assert {name: one.counts for name, one in found.fields.items()} == {
        "topic": Counts(right=1, unanswered=1),
        "n": Counts(right=1, unanswered=1),
    }


@pytest.mark.parametrize("torn", ['{"answer": "yes', '{"other": "yes"}', '{"answer": "no", "answer": "yes"}', "yes"])
def test_where_answers_are_objects_a_text_is_no_field_of_them(tmp_path: Path, torn: str) -> None:
    told = {"scorers": {"answer": scorer_of("includes")}}
    answers = {"a": {"answer": "yes"}, "b": {"answer": "yes"}, "c": torn}
    found = evaluated(tmp_path, answers, [(name, "yes") for name in answers], **told)
    assert found.counts == Counts(right=2, unanswered=1)


def test_where_answers_are_texts_an_object_among_them_is_read_too(tmp_path: Path) -> None:
    answers = {"a": "yes", "b": "yes", "c": {"answer": "yes"}, "d": {"answer": None}, "e": {"answer": ""}}
    found = evaluated(tmp_path, answers, [(name, "yes") for name in answers])
    assert found.counts == Counts(right=3, unanswered=2)


def test_a_deep_object_is_read_as_far_as_it_has_fields(tmp_path: Path) -> None:
    deep = '{"topic": "yes", "a": ' + '{"a": ' * 900 + "1" + "}" * 901
    assert evaluated(tmp_path, {"a": deep}, [("a", "yes")], "topic").counts == Counts(right=1)
    lists = "[" * 700 + "]" * 700
    told = {"scorers": {"answer": scorer_of("json")}}
    found = evaluated(tmp_path, {"a": lists, "b": "[]"}, [("a", lists), ("b", "[]")], **told)
    assert found.counts == Counts(right=1, unanswered=1)


def test_a_file_full_of_rubbish_gives_no_number_that_hides_it(tmp_path: Path) -> None:
    """Two right answers among failures, refusals and rubbish: no figure is near 1."""
    bad: list[Any] = [Outcome("failed"), Outcome("refused"), "?", Outcome("empty"), {"topic": None}]
    answers = {"r-0": YES, "r-1": NO} | {f"r-{at}": bad[at % 5] for at in range(2, 60)}
    rows = [(f"r-{at}", "no" if at % 2 else "yes") for at in range(60)]
    found = evaluated(tmp_path, answers, rows, "topic")
    labels = found.fields["topic"].labels
    assert found.accuracy.value == 2 / 60
    assert labels is not None
    for interval in (labels.f1_macro, labels.f1_weighted, labels.balanced_accuracy, labels.kappa, labels.f1_micro):
        assert interval.value is not None
        assert interval.value < 0.1
    assert labels.confusion.unanswered == [29, 29]
    assert found.fields["topic"].unanswered == {"missing field": 24, "empty": 12, "failed": 11, "refused": 11}


def test_unanswered_rows_may_be_left_out_and_both_figures_are_shown(tmp_path: Path) -> None:
    answers = {"a": YES, "b": NO, "c": Outcome("refused")}
    rows = [("a", "yes"), ("b", "no"), ("c", "yes")]
    found = evaluated(tmp_path, answers, rows, "topic", policy=Unanswered.EXCLUDE)
    assert found.accuracy == found.accuracies.answered == wilson(2, 2)
    assert found.accuracies.asked == wilson(2, 3)
    assert found.counts.unanswered == 1
    labels = found.fields["topic"].labels
    assert labels is not None
    assert labels.f1_macro.value == 1
    assert labels.confusion.unanswered == [0, 0]


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"a": Outcome("failed"), "b": "?"}, "nothing was answered: 2 rows with gold, none with an answer"),
        ({"x": YES}, "nothing was scored: no record of .* has gold"),
    ],
)
def test_nothing_answered_or_scored_is_no_verdict(tmp_path: Path, answers: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        evaluated(tmp_path, answers, [("a", "yes"), ("b", "yes")], "topic", columns={"topic": "topic"})


@pytest.mark.parametrize(
    ("answers", "words"),
    [
        ({"a": Outcome("failed"), "b": Outcome("failed"), "c": Outcome("refused")}, "2 failed, 1 refused"),
        ({}, "no records"),
    ],
)
def test_a_file_without_any_answer_is_told_of_as_such(tmp_path: Path, answers: dict[str, Any], words: str) -> None:
    """And not as one whose answers have other fields than gold."""
    with pytest.raises(UsageError, match=rf"nothing was answered: .* has no answer \({words}\)"):
        evaluated(tmp_path, answers, [("a", "yes")], "topic")


@pytest.mark.parametrize("columns", [{}, {"topic": "topic"}])
def test_a_file_without_records_says_so_though_the_fields_are_known(tmp_path: Path, columns: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"nothing was answered: .* has no answer \(no records\)"):
        evaluated(tmp_path, {}, [("a", "yes")], "topic", columns=columns)


def test_the_first_record_of_an_id_counts_and_damaged_lines_are_told_of(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", [("a", YES), ("a", NO), ("b", NO)])
    results.write_bytes(results.read_bytes() + b"damaged\n")
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic"], [("a", "yes"), ("b", "no")])
    found = evaluate(results, Question(Source(str(gold))))
    assert (found.counts, found.duplicates, found.damaged_lines) == (Counts(right=2), 1, 1)
    assert found.warnings[-1].startswith("1 damaged line without an id that can be read: what was asked there counts")


def test_what_a_damaged_record_was_about_was_asked_and_is_unanswered(tmp_path: Path) -> None:
    """Unless another record has its id, before or after it."""
    ids = ["a", 'b "\u00e9', "c", "d", "no gold"]
    results = write_results(tmp_path / "r.jsonl", dict.fromkeys(ids, YES))
    lines = results.read_bytes().splitlines(keepends=True)
    torn = [line[: len(line) // 2] + b"\n" for line in lines]
    results.write_bytes(b"".join([lines[0], torn[1], torn[2], lines[2], torn[0], torn[4], torn[3][:20]]))
    rows = [(custom_id, "yes") for custom_id in ids[:4]]
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic"], rows)
    table = RowTable(tmp_path / "rows.csv")
    with table:
        found = evaluate(results, Question(Source(str(gold))), [table])
    assert found.counts == Counts(right=2, unanswered=1, not_asked=1, unscored=1)
    assert (found.fields["topic"].unanswered, found.damaged_lines) == ({"damaged record": 1}, 5)
    assert json.loads(found.to_json())["fields"]["topic"]["unanswered"] == {"damaged record": 1}
    assert "5 damaged lines: unanswered where the id can be read and no other record has it" in render(found)
    told_of = next(text for text in found.warnings if "damaged" in text)
    assert told_of.startswith("1 damaged line without an id that can be read")
    with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
        told = {row["custom_id"]: (row["verdict"], row["topic_why"]) for row in csv.DictReader(file)}
    assert told['b "\u00e9'] == ("unanswered", "damaged record")


# ------------------------------------------------------------------------------------------------- fields


def test_several_fields_are_scored_each_by_its_values_and_all_together(tmp_path: Path) -> None:
    answers = {
        "a": {"topic": "x", "urgent": True, "score": 3, "tags": ["p", "q"], "to": {"city": "Ulm"}},
        "b": {"topic": "y", "urgent": False, "score": 4, "tags": [], "to": {"city": "Bonn"}},
    }
    rows = [("a", "x", "TRUE", "3.0", "q|p", "Ulm"), ("b", "x", "false", "4", "", "Bonn")]
    found = evaluated(tmp_path, answers, rows, "topic", "urgent", "score", "tags", "to.city")
    assert {name: (one.scorer, one.counts.right) for name, one in found.fields.items()} == {
        "topic": ("exact", 1),
        "urgent": ("exact", 2),
        "score": ("number", 2),
        "tags": ("set", 1),
        "to.city": ("exact", 2),
    }
    assert found.counts == Counts(right=1, wrong=1)  # b has no gold for its tags, and is wrong without it


def test_a_row_is_scored_by_the_fields_that_have_gold(tmp_path: Path) -> None:
    """What is wrong or failed never leaves the figures because gold lacks another field."""
    answers: dict[str, Any] = {
        "a": {"topic": "x", "urgent": "y"},
        "b": {"topic": "x", "urgent": "z"},
        "c": {"topic": "z", "urgent": "y"},
        "d": Outcome("failed"),
        "e": {"topic": "x", "urgent": "y"},
    }
    rows = [("a", "x", "y"), ("b", "x", ""), ("c", "x", ""), ("d", "x", ""), ("e", "", "")]
    found = evaluated(tmp_path, answers, rows, "topic", "urgent")
    assert found.counts == Counts(right=2, wrong=1, unanswered=1, unscored=1)
    assert found.accuracy.value == 0.5


def test_a_field_that_no_answer_has_leaves_the_figures_of_the_others(tmp_path: Path) -> None:
    answers, rows = {"a": {"topic": "x"}, "b": {"topic": "x"}}, [("a", "x", "1"), ("b", "y", "2")]
    found = evaluated(tmp_path, answers, rows, "topic", "n", scorers={"n": scorer_of("number")})
    assert (found.fields["topic"].counts, found.counts) == (Counts(right=1, wrong=1), Counts(unanswered=2))


def test_one_class_that_is_all_right_leaves_no_certain_figure(tmp_path: Path) -> None:
    found = evaluated(tmp_path, {"a": {"topic": "x"}, "b": {"topic": "x"}}, [("a", "x"), ("b", "x")], "topic")
    labels = found.fields["topic"].labels
    assert labels is not None
    for one in (labels.f1_macro, labels.f1_micro, labels.balanced_accuracy):
        assert (one.value, one.lower, one.upper) == (1.0, None, None)
    gate = threshold("lower(topic.f1_macro)=0.5")
    with pytest.raises(UsageError, match="there is no verdict"):
        check(found, [gate])


@pytest.mark.parametrize(
    ("topic", "urgent", "counts"),
    [
        ("x", True, Counts(right=2)),
        ("x", False, Counts(right=1, wrong=1)),
        ("x", None, Counts(right=1, unanswered=1)),
        ("y", None, Counts(right=1, unanswered=1)),
    ],
)
def test_a_row_is_right_where_each_field_is(tmp_path: Path, topic: str, urgent: Any, counts: Counts) -> None:
    answers = {"a": {"topic": "x", "urgent": True}, "b": {"topic": topic, "urgent": urgent}}
    rows = [("a", "x", "true"), ("b", "x", "true")]
    assert evaluated(tmp_path, answers, rows, "topic", "urgent").counts == counts


def test_a_plain_text_is_the_field_answer(tmp_path: Path) -> None:
    rows = [("a", "Paris"), ("b", "Rome")]
    answers = {"a": " Paris\n", "b": "It is Rome."}
    assert evaluated(tmp_path, answers, rows).counts == Counts(right=1, wrong=1)
    loose = evaluated(
        tmp_path, answers, rows, "capital", columns={"answer": "capital"}, scorers={"answer": scorer_of("includes")}
    )
    assert loose.counts == Counts(right=2)
    assert loose.fields["answer"].labels is None


def test_a_field_that_is_named_answer_is_that_field_and_not_the_text_around_it(tmp_path: Path) -> None:
    rows = [("a", "x"), ("b", "y"), ("c", "x"), ("d", "x")]
    answers = {"a": {"answer": "x"}, "b": {"answer": "x"}, "c": {"answer": None}, "d": '```json\n{"answer": "x"}\n```'}
    found = evaluated(tmp_path, answers, rows)
    assert found.counts == Counts(right=2, wrong=1, unanswered=1)
    labels = found.fields["answer"].labels
    assert labels is not None
    assert labels.confusion.labels == ["x", "y"]


def test_a_list_in_gold_holds_several_right_answers(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", {"a": "UK", "b": "France"})
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"custom_id": "a", "answer": ["Britain", "UK"]}\n{"custom_id": "b", "answer": ["Spain"]}\n')
    found = evaluate(results, Question(Source(str(gold))))
    assert found.counts == Counts(right=1, wrong=1)


@pytest.mark.parametrize("gold", [[50, 0.5], [0.5, 50], [50, 7], [0.5, 7], [7, 0.5], [7, 8]])
def test_of_several_right_answers_the_order_does_not_matter_where_one_is_in_doubt(tmp_path: Path, gold: Any) -> None:
    results = write_results(tmp_path / "r.jsonl", {"a": {"n": "50%"}, "b": {"n": 1}})
    table = tmp_path / "gold.jsonl"
    table.write_text(f'{{"custom_id": "a", "n": {gold}}}\n{{"custom_id": "b", "n": 1}}\n')
    found = evaluate(results, Question(Source(str(table)), scorers={"n": scorer_of("number")})).counts
    verdict = "right" if 50 in gold else "unanswered" if 0.5 in gold else "wrong"
    assert getattr(found, verdict) == 1 + (verdict == "right")


def test_a_list_in_gold_that_names_no_answer_is_no_gold_and_an_empty_set_is_one(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", {"a": {"t": "x", "s": []}, "b": {"t": "x", "s": ["p"]}, "c": YES})
    gold = tmp_path / "gold.jsonl"
    rows = [("a", [], []), ("b", [None, ""], []), ("c", None, ["q"])]
    gold.write_text("".join(json.dumps({"custom_id": name, "t": t, "s": s}) + "\n" for name, t, s in rows))
    found = evaluate(results, Question(Source(str(gold))))
    assert found.fields["t"].counts == Counts(unscored=3)
    assert found.fields["s"].counts == Counts(right=1, wrong=1, unanswered=1)


def test_gold_may_be_a_huge_number_or_lists_in_lists(tmp_path: Path) -> None:
    huge, deep = str(10**30), "[" * 400 + "1" + "]" * 400
    answers = {"a": f'{{"n": {huge}}}', "b": f'{{"n": {deep}}}', "c": '{"n": 1}'}
    results = write_results(tmp_path / "r.jsonl", answers)
    gold = tmp_path / "gold.jsonl"
    rows = [("a", huge), ("b", deep), ("c", deep)]
    gold.write_text("".join(f'{{"custom_id": "{name}", "n": {n}, "lang": {n}}}\n' for name, n in rows))
    question = Question(Source(str(gold)), scorers={"n": scorer_of("json")}, by="lang")
    found = evaluate(results, question)
    assert (found.counts.right, found.counts.wrong, len(found.groups)) == (2, 1, 2)


def test_gold_that_is_nested_too_deeply_is_an_error_with_its_row(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", {"a": {"d": []}})
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"custom_id": "a", "d": ' + "[" * 5000 + "]" * 5000 + "}\n")
    with pytest.raises(InputError, match=r"gold\.jsonl:1 \(row 1\): nested too deeply"):
        evaluate(results, Question(Source(str(gold))))


def test_a_cell_of_parquet_is_what_json_says_it_to_be(tmp_path: Path) -> None:
    """Dates, times, decimal numbers and bytes, alone and in lists; as gold, and as what groups the rows."""
    day, number = date(2024, 1, 2), Decimal("1.10")
    gold = {
        "custom_id": ["a", "b"],
        "day": [day, day],
        "at": [datetime(2024, 1, 2, 3), None],
        "price": [number, Decimal("2.00")],
        "text": [number, Decimal("2.00")],
        "raw": [b"\x00\x01", None],
        "days": [[day], []],
        "object": [{"on": day, "price": number}, None],
        "due": [day, day],
    }
    pyarrow.parquet.write_table(pyarrow.table(gold), tmp_path / "gold.parquet")
    answer = {"day": "2024-01-02", "at": "2024-01-02T03:00:00", "price": 1.1, "text": "1.1", "raw": "AAE="}
    answer |= {"days": ["2024-01-02"], "object": {"price": 1.1, "on": "2024-01-02"}, "due": "2024-01-02T09:30:00"}
    other = answer | {"price": 2, "text": "2", "days": []}
    results = write_results(tmp_path / "r.jsonl", {"a": answer, "b": other})
    question = Question(Source(str(tmp_path / "gold.parquet")), scorers={"due": scorer_of("date")}, by="day")
    found = evaluate(results, question)
    assert {name: one.counts.right for name, one in found.fields.items()} == {
        "day": 2, "at": 1, "price": 2, "text": 2, "raw": 1, "days": 2, "object": 1, "due": 2
    }  # fmt: skip
    assert found.counts == Counts(right=2)
    assert list(found.groups) == ["2024-01-02"]


def test_what_is_no_number_in_a_column_of_numbers_is_no_gold() -> None:
    column = gold_column("n", scorer_of("exact"))
    column.append(float("nan"))
    assert column.at(0) is None


def test_a_function_that_fails_is_told_of_with_row_and_field(tmp_path: Path) -> None:
    def fails(gold: Any, answer: Any) -> bool:
        raise KeyError("weights\nof it")

    told = {"scorers": {"topic": of_function("mine:score", fails)}}
    words = "the field topic of 'a' cannot be scored: mine:score raised KeyError: .* for gold 'yes' and the answer 'no'"
    with pytest.raises(UsageError, match=words):
        evaluated(tmp_path, {"a": NO}, [("a", "yes")], "topic", **told)


def test_numbers_have_errors_and_ranks_and_whole_ones_an_order(tmp_path: Path) -> None:
    answers = {str(at): {"score": at % 5 + (at % 7 == 0)} for at in range(40)}
    found = evaluated(tmp_path, answers, [(str(at), at % 5) for at in range(40)], "score")
    figures = found.fields["score"]
    assert figures.numbers is not None
    assert figures.numbers.mean_absolute_error.value == 6 / 40
    assert figures.numbers.rank_correlation.value == pytest.approx(0.97, abs=0.02)
    assert figures.labels is not None
    assert figures.labels.alpha_ordinal is not None
    assert list(figures.labels.classes) == ["0", "1", "2", "3", "4", "5"]
    fractions = evaluated(tmp_path, {"a": {"score": 1.5}}, [("a", 1.5)], "score").fields["score"]
    assert fractions.labels is None


def test_the_worst_mix_ups_come_first_with_an_example_each(tmp_path: Path) -> None:
    said = ["b"] * 3 + ["c"] * 2 + ["a"]
    answers = {f"r-{at}": {"topic": label} for at, label in enumerate(said)}
    found = evaluated(tmp_path, answers, [(f"r-{at}", "a") for at in range(6)], "topic").fields["topic"].labels
    assert found is not None
    assert [(one.gold, one.answer, one.count, one.example) for one in found.mix_ups] == [
        ("a", "b", 3, "r-0"),
        ("a", "c", 2, "r-3"),
    ]


def test_ten_mix_ups_are_shown(tmp_path: Path) -> None:
    answers = {f"r-{at}": {"topic": f"label {at}"} for at in range(11)}
    found = evaluated(tmp_path, answers, [(f"r-{at}", "a") for at in range(11)], "topic").fields["topic"].labels
    assert found is not None
    assert len(found.mix_ups) == 10


def test_free_text_has_no_classes(tmp_path: Path) -> None:
    answers = {f"r-{at}": f"text {at}" for at in range(300)}
    found = evaluated(tmp_path, answers, [(f"r-{at}", f"text {at}") for at in range(300)])
    assert found.fields["answer"].labels is None
    assert found.accuracy.value == 1
    assert any("more than 200 different labels" in warning for warning in found.warnings)


def test_a_class_with_few_rows_is_warned_of(tmp_path: Path) -> None:
    answers = {f"r-{at}": YES for at in range(20)}
    rows = [(f"r-{at}", "no" if at < 3 else "yes") for at in range(20)]
    warning = evaluated(tmp_path, answers, rows, "topic").warnings[0]
    assert warning.startswith("topic: fewer than 10 rows of gold for no (3);")
    assert not evaluated(tmp_path, answers, [(f"r-{at}", "yes") for at in range(20)], "topic").warnings


def test_a_long_label_does_not_flood_the_warnings(tmp_path: Path) -> None:
    answers = {"a": {"topic": "x" * 10_000}, "b": {"topic": "y"}}
    found = evaluated(tmp_path, answers, [("a", "y"), ("b", "y")], "topic")
    assert max(map(len, found.warnings)) < 200


def test_gold_whose_cells_are_all_empty_says_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing was scored: .*; every cell of gold is empty"):
        evaluated(tmp_path, {"a": YES}, [("a", "")], "topic")


def test_gold_that_was_not_asked_is_warned_of(tmp_path: Path) -> None:
    rows = [(f"r-{at}", "yes") for at in range(30)]
    found = evaluated(tmp_path, {f"r-{at}": YES for at in range(20)}, rows, "topic")
    assert found.warnings == ["10 rows of gold not asked: no figure speaks of them"]


# ------------------------------------------------------------------------------ groups, clusters, repeats


def test_groups_have_counts_and_accuracies_of_their_own(tmp_path: Path) -> None:
    answers = {"a": YES, "b": NO, "c": YES}
    rows = [("a", "yes", "de"), ("b", "yes", "de"), ("c", "yes", "fr"), ("d", "yes", "fr")]
    found = evaluated(tmp_path, answers, rows, "topic", "lang", by="lang")
    assert {name: one.counts for name, one in found.groups.items()} == {
        "de": Counts(right=1, wrong=1),
        "fr": Counts(right=1, not_asked=1),
    }
    assert found.groups["de"].accuracy == wilson(1, 2)
    assert found.fields["topic"].groups == found.groups


@pytest.mark.parametrize(("policy", "rows"), [(Unanswered.WRONG, 3), (Unanswered.EXCLUDE, 2)])
def test_an_unanswered_row_of_a_group_counts_by_the_policy(tmp_path: Path, policy: Unanswered, rows: int) -> None:
    answers = {"a": YES, "b": NO, "c": Outcome("failed")}
    gold = [(custom_id, "yes", "de") for custom_id in answers]
    found = evaluated(tmp_path, answers, gold, "topic", "lang", by="lang", policy=policy)
    assert found.groups["de"].accuracy == wilson(1, rows)


def test_rows_of_a_cluster_widen_every_interval(tmp_path: Path) -> None:
    """Ten documents of ten rows each, every one all right or all wrong: they say as much as ten rows."""
    answers = {f"r-{at}": YES if at // 10 % 2 else NO for at in range(100)}
    rows = [(f"r-{at}", "yes" if at % 10 else "no", at // 10) for at in range(100)]
    alone = evaluated(tmp_path, answers, rows, "topic", "document")
    together = evaluated(tmp_path, answers, rows, "topic", "document", cluster="document")
    for one in ("accuracy", "labels.f1_macro", "labels.kappa"):
        narrow, wide = (_figure(found.fields["topic"], one) for found in (alone, together))
        assert narrow.value == wide.value
        assert wide.upper - wide.lower > 1.5 * (narrow.upper - narrow.lower), one


def test_groups_have_the_intervals_of_all_rows_with_repeats_and_clusters(tmp_path: Path) -> None:
    """A group of all rows is as uncertain as these: repeats, or rows of one document, are no rows of their own."""
    answers = {f"r-{row}#{number}": YES if row % 2 else NO for row in range(10) for number in range(1, 11)}
    repeated = evaluated(
        tmp_path, answers, [(f"r-{row}", "yes", "de") for row in range(10)], "topic", "lang", by="lang"
    )
    assert repeated.groups["de"].accuracy == repeated.accuracy == wilson(50, 100, 10)
    alone = {f"r-{at}": YES if at // 10 % 2 else NO for at in range(100)}
    rows = [(f"r-{at}", "yes", at // 10, "de" if at < 60 else "fr") for at in range(100)]
    told = {"by": "lang", "cluster": "document"}
    clustered = evaluated(tmp_path, alone, rows, "topic", "document", "lang", **told)
    assert clustered.groups["de"].accuracy == wilson(30, 60, 6)
    assert clustered.fields["topic"].groups["fr"].accuracy == wilson(20, 40, 4)


def test_a_field_that_no_row_answers_has_no_figures_beside_one_that_all_answer(tmp_path: Path) -> None:
    """Also in clusters and with unanswered rows left out: nothing is divided by nothing, and no reason is made up."""
    answers = {f"r-{at}": {"topic": "yes"} for at in range(20)}
    rows = [(f"r-{at}", "yes", "b", at // 5) for at in range(20)]
    told: dict[str, Any] = {"cluster": "page", "scorers": {"b": scorer_of("exact")}, "policy": Unanswered.EXCLUDE}
    found = evaluated(tmp_path, answers, rows, "topic", "b", "page", **told)
    field = found.fields["b"]
    assert (field.counts, field.accuracy) == (Counts(unanswered=20), Interval(None, None, None))
    assert field.labels is not None
    assert field.labels.f1_macro == Interval(None, None, None)
    assert not any("different labels" in warning for warning in found.warnings)


def test_a_record_without_gold_that_is_there_twice_is_counted_once(tmp_path: Path) -> None:
    found = evaluated(tmp_path, [("a", YES), ("x", YES), ("x", YES), ("a", NO)], [("a", "yes")], "topic")
    assert (found.counts, found.duplicates) == (Counts(right=1, unscored=1), 2)


def _figure(figures: Any, name: str) -> Any:
    for part in name.split("."):
        figures = getattr(figures, part)
    return figures


def test_repeats_belong_to_their_row(tmp_path: Path) -> None:
    said: dict[str, list[Any]] = {"a": [YES, YES, NO], "b": [YES, YES, YES], "c": [NO, Outcome("failed"), YES]}
    answers = {f"{row}#{number}": one for row, tries in said.items() for number, one in enumerate(tries, 1)}
    found = evaluated(tmp_path, answers, [("a", "yes"), ("b", "yes"), ("c", "yes")], "topic")
    repeats = found.fields["topic"].repeats
    assert found.counts == Counts(right=6, wrong=2, unanswered=1)
    assert repeats is not None
    assert repeats.rows == 3
    assert repeats.mean.value == pytest.approx((2 / 3 + 1 + 1 / 3) / 3)
    assert repeats.majority == wilson(2, 3)  # c says three things: a tie is no vote
    assert repeats.flips == wilson(2, 3)
    assert repeats.pass_at == pytest.approx({"1": 2 / 3, "2": (1 + 1 + 2 / 3) / 3, "3": 1})
    assert repeats.pass_all == pytest.approx({"1": 2 / 3, "2": (1 / 3 + 1) / 3, "3": 1 / 3})
    assert repeats.least_share == pytest.approx(1 / 3)
    assert found.repeats is not None
    assert found.repeats.mean == repeats.mean


def test_unanswered_repeats_count_by_the_policy_and_are_told(tmp_path: Path) -> None:
    answers = {"a#1": YES, "a#2": Outcome("failed"), "a#3": Outcome("failed"), "b#1": NO, "c#1": Outcome("refused")}
    rows = [("a", "yes"), ("b", "yes"), ("c", "yes")]
    wrong, left_out = (
        evaluated(tmp_path, answers, rows, "topic", policy=policy) for policy in (Unanswered.WRONG, Unanswered.EXCLUDE)
    )
    assert wrong.repeats is not None
    assert left_out.repeats is not None
    assert (wrong.repeats.rows, wrong.repeats.unanswered, wrong.repeats.least_share) == (3, 3, 0)
    assert (wrong.repeats.majority, wrong.repeats.flips) == (wilson(0, 3), wilson(1, 3))
    assert wrong.repeats.mean.value == pytest.approx(1 / 9)
    assert (left_out.repeats.rows, left_out.repeats.unanswered) == (2, 3)
    assert (left_out.repeats.majority, left_out.repeats.flips) == (wilson(1, 2), wilson(0, 2))
    assert left_out.repeats.pass_all == {"1": 0.5}
    assert "3 rows with 1 to 3 repeats each; 3 unanswered repeats counted as wrong" in render(wrong)
    assert "2 rows with 1 repeat each; 3 unanswered repeats left out" in render(left_out)
    assert "not every row has 3 repeats that count: pass@k is shown up to 1" in wrong.warnings


def test_repeats_are_no_further_rows_of_gold_where_a_class_has_few(tmp_path: Path) -> None:
    answers = {f"r-{row}#{number}": YES for row in range(4) for number in range(1, 6)}
    found = evaluated(tmp_path, answers, [(f"r-{row}", "yes") for row in range(4)], "topic")
    assert any("fewer than 10 rows of gold for yes (4)" in warning for warning in found.warnings)
    mixed: dict[str, Any] = {
        f"r-{row}#{number}": YES if number == 1 else Outcome("failed") for row in range(12) for number in (1, 2)
    }
    rows = [(f"r-{row}", "yes") for row in range(12)]
    assert evaluated(tmp_path, mixed, rows, "topic", policy=Unanswered.EXCLUDE).warnings == []


@pytest.mark.parametrize("number", ["1" * 5000, "99999999999", "1"])
def test_an_id_that_ends_with_any_number_is_read(tmp_path: Path, number: str) -> None:
    found = evaluated(tmp_path, {"a#2": YES, f"a#{number}": YES}, [("a", "yes")], "topic")
    assert found.counts.right + found.counts.unscored == 2


def test_the_figures_of_repeats_know_of_clusters_as_the_accuracy_does(tmp_path: Path) -> None:
    """Ten documents with four rows of two repeats each, right or wrong together: ten rows' worth, in each figure."""
    answers = {f"{at}#{repeat}": {"topic": "a" if at % 20 < 8 else "b"} for at in range(40) for repeat in (1, 2)}
    rows = [(at, "a", at // 4) for at in range(40)]
    found = evaluated(tmp_path, answers, rows, "topic", "document", cluster="document")
    repeats = found.fields["topic"].repeats
    assert repeats is not None
    assert repeats.mean == found.accuracy == wilson(16, 40, 10)
    assert (repeats.majority, repeats.flips) == (wilson(16, 40, 10), wilson(0, 40, 10))


def test_a_row_with_several_right_answers_is_a_row_of_each_that_the_class_table_counts(tmp_path: Path) -> None:
    results = write_results(tmp_path / "r.jsonl", {f"z#{at}": said for at, said in enumerate(("x", "x", "a", "b"), 1)})
    gold = tmp_path / "gold.jsonl"
    gold.write_text('{"custom_id": "z", "answer": ["a", "b"]}')
    found = evaluate(results, Question(Source(str(gold))))
    labels = found.fields["answer"].labels
    assert labels is not None
    assert {name: one.support for name, one in labels.classes.items()} == {"a": 3, "b": 1, "x": 0}
    assert any("fewer than 10 rows of gold for a (1), b (1), x (0);" in told for told in found.warnings)


def test_a_row_without_a_record_is_called_a_row_also_where_others_have_repeats(tmp_path: Path) -> None:
    """Nobody knows how often a row was to be asked, so neither b#1, b#3 nor c#1 is told of as one that is missing."""
    answers = {name: {"topic": "x"} for name in ("a#1", "a#2", "a#3", "b#2")}
    found = evaluated(tmp_path, answers, [(name, "x") for name in "abc"], "topic")
    assert found.counts.not_asked == 1
    assert "1 row of gold not asked: no figure speaks of them" in found.warnings
    assert "not every row has 3 repeats that count: pass@k is shown up to 1" in found.warnings


@pytest.mark.parametrize("told", [{}, {"scorers": {"u": scorer_of("exact")}}])
@pytest.mark.parametrize("stray", [[], ["true", "TRUE", "False"]])
def test_a_boolean_is_right_however_gold_writes_it_and_whatever_chose_the_scorer(
    tmp_path: Path, told: dict[str, Any], stray: list[str]
) -> None:
    """Texts among the booleans of the answers, as many as change what a field is taken for, change no verdict."""
    said = [True, False, True, True, *stray]
    rows = [(at, gold) for at, gold in enumerate(["TRUE", "False", "true", "FALSE", "True", "true", "FALSE"])]
    found = evaluated(tmp_path, {str(at): {"u": one} for at, one in enumerate(said)}, rows[: len(said)], "u", **told)
    assert (found.counts.right, found.counts.wrong) == (len(said) - 1, 1)
    labels = found.fields["u"].labels
    assert labels is not None
    assert [name.lower() for name in labels.classes] == ["false", "true"]


def test_true_and_false_keep_the_spelling_of_gold_and_are_one_label_in_any(tmp_path: Path) -> None:
    """Also among other labels of a text, as of what follows from a premise, and in repeats."""
    answers = {"a#1": "TRUE", "a#2": "true", "b#1": "false", "b#2": "False", "c#1": "Neither", "c#2": "neither"}
    found = evaluated(tmp_path, answers, [("a", "True"), ("b", "True"), ("c", "Neither")])
    labels, repeats = found.fields["answer"].labels, found.repeats
    assert labels is not None
    assert repeats is not None
    assert {name: one.support for name, one in labels.classes.items()} == {
        "Neither": 2, "True": 4, "false": 0, "neither": 0
    }  # fmt: skip
    assert repeats.flips == wilson(1, 3)  # as another text has to be written alike
    assert any("fewer than 10 rows of gold for Neither (1), True (2), false (0)" in one for one in found.warnings)


def test_repeats_that_say_the_same_words_are_one_vote(tmp_path: Path) -> None:
    answers = {
        "a#1": {"topic": "Paris."},
        "a#2": {"topic": "PARIS"},
        "a#3": {"topic": "Rome"},
        "b#1": {"topic": "Oslo"},
    }
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic"], [("a", "paris"), ("b", "oslo")])
    results = write_results(tmp_path / "r.jsonl", answers)
    repeats = evaluate(results, Question(Source(str(gold)), scorers={"topic": scorer_of("match")})).repeats
    assert repeats is not None
    assert repeats.majority == wilson(2, 2)


def test_right_answers_in_other_words_are_one_vote(tmp_path: Path) -> None:
    """Two of three say it, each in words of its own; a third of the votes would be a tie."""
    answers = {"a#1": {"topic": "It is Paris."}, "a#2": {"topic": "Paris, I think"}, "a#3": {"topic": "Rome"}}
    answers |= {"b#1": {"topic": "Oslo"}, "b#2": {"topic": "Rome"}, "b#3": {"topic": "Rome"}}
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "topic"], [("a", "paris"), ("b", "oslo")])
    question = Question(Source(str(gold)), scorers={"topic": scorer_of("includes")})
    repeats = evaluate(write_results(tmp_path / "r.jsonl", answers), question).repeats
    assert repeats is not None
    assert repeats.majority == wilson(1, 2)


def test_a_tie_of_repeats_is_no_vote_also_where_the_right_answer_came_first(tmp_path: Path) -> None:
    repeats = evaluated(tmp_path, {"a#1": YES, "a#2": NO}, [("a", "yes")], "topic").repeats
    assert repeats is not None
    assert repeats.majority == wilson(0, 1)


def test_repeats_do_not_pass_for_more_rows(tmp_path: Path) -> None:
    answers = {f"r-{row}#{number}": YES if row % 2 else NO for row in range(10) for number in range(1, 11)}
    found = evaluated(tmp_path, answers, [(f"r-{row}", "yes") for row in range(10)], "topic")
    assert found.accuracy == wilson(50, 100, 10)


@pytest.mark.parametrize("ids", [("a", "a#1"), ("a#2", "a")])
def test_a_row_that_was_asked_alone_and_as_repeats_is_refused_in_any_order(
    tmp_path: Path, ids: tuple[str, str]
) -> None:
    words = (
        r"the results have an answer to 'a' and answers to repeats of it \(a#1, …\), .*; keep the records of one kind"
    )
    with pytest.raises(UsageError, match=words):
        evaluated(tmp_path, dict.fromkeys(ids, YES), [("a", "yes")], "topic")
    found = evaluated(tmp_path, dict.fromkeys(ids, YES), [(custom_id, "yes") for custom_id in ids], "topic")
    assert found.counts == Counts(right=2)  # two rows of gold, and no repeats


# --------------------------------------------------------------------------------------------------- gold


def test_ids_that_differ_in_blanks_are_two(tmp_path: Path) -> None:
    answers, rows = {"a": YES, "a ": NO, " b": YES}, [("a", "yes"), ("a ", "no"), ("b", "yes")]
    found = evaluated(tmp_path, answers, rows, "topic")
    assert found.counts == Counts(right=2, unscored=1, not_asked=1)
    assert found.duplicates == 0


def test_gold_is_matched_in_any_order_and_by_any_column(tmp_path: Path) -> None:
    answers = [(f"r-{at}", YES if at % 3 else NO) for at in range(50)]
    random.Random(3).shuffle(answers)
    results = write_results(tmp_path / "r.jsonl", answers)
    rows = [(f"r-{at}", "yes" if at % 3 else "no") for at in range(50)]
    gold = write_gold(tmp_path / "gold.csv", ["id", "right"], rows)
    found = evaluate(results, Question(Source(str(gold)), key="id", columns={"topic": "right"}))
    assert found.counts == Counts(right=50)


@pytest.mark.parametrize(
    ("columns", "rows", "told", "words"),
    [
        (["id", "topic"], [("a", "yes")], {}, "has no column custom_id; pass --key COLUMN"),
        (["custom_id", "topic"], [("a", "yes")], {"key": "id"}, "has no column 'id'; its columns are custom_id, topic"),
        (["custom_id", "other"], [("a", "yes")], {}, "is named like a field of the answers .topic."),
        (["custom_id", "topic"], [("a", "yes")], {"columns": {"topic": "x"}}, "--gold-column topic=x: .* no column"),
        (["custom_id", "topic"], [("a", "yes")], {"by": "lang"}, "--by lang: .*; it has custom_id, topic"),
        (["custom_id", "topic"], [("a", "yes")], {"cluster": "doc"}, "--cluster doc: .* has no such column"),
        (["custom_id", "topic"], [("a", "yes")], {"scorers": {"x": scorer_of("exact")}}, "pass --gold-column x=COLUMN"),
    ],
)
def test_a_table_that_cannot_serve_is_refused(
    tmp_path: Path, columns: list[str], rows: list[tuple[str, str]], told: dict[str, Any], words: str
) -> None:
    results = write_results(tmp_path / "r.jsonl", {"a": YES})
    gold = write_gold(tmp_path / "gold.csv", columns, rows)
    with pytest.raises(UsageError, match=words):
        evaluate(results, Question(Source(str(gold)), **told))


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "1"), ("a", "2")], r"gold.csv:3 \(row 2\): custom_id 'a' is that of row 1, too"),
        ([("a", "1"), ("", "2")], r"gold.csv:3 \(row 2\): custom_id is empty or no text"),
        ([("a", "1"), ("b", "two")], r"gold.csv:3 \(row 2\): score: 'two' is no number"),
    ],
)
def test_a_row_of_gold_that_cannot_be_used_is_named(tmp_path: Path, rows: list[tuple[str, str]], words: str) -> None:
    with pytest.raises(InputError, match=words):
        evaluated(tmp_path, {"a": {"score": 1}}, rows, "score")


def test_the_json_has_the_figures_of_a_field_side_by_side(tmp_path: Path) -> None:
    answers = {f"r-{at}": YES if at % 4 else NO for at in range(40)}
    found = evaluated(tmp_path, answers, [(f"r-{at}", "yes" if at % 5 else "no") for at in range(40)], "topic")
    told = json.loads(found.to_json())
    field = told["fields"]["topic"]
    assert told["v"] == 1
    assert told["counts"] == {"not_asked": 0, "right": 26, "wrong": 14, "unanswered": 0, "unscored": 0}
    assert told["seed"] == 14
    assert field["accuracy"].keys() == field["f1_macro"].keys() == {"value", "lower", "upper"}
    assert field["accuracy"]["value"] == 0.65
    assert field["classes"]["yes"]["support"] == 32
    assert field["confusion"] == {"labels": ["no", "yes"], "cells": [[2, 6], [8, 24]], "unanswered": [0, 0]}
    assert found.to_json() == found.to_json()


def test_copies_are_told_of_where_an_interval_takes_them_for_answers_of_their_own(tmp_path: Path) -> None:
    rows = [(f"r-{at}", "yes", "one") for at in range(4)]
    answers = {f"r-{at}": YES for at in range(4)}
    write_gold(tmp_path / "gold.csv", ("custom_id", "topic", "text"), rows)
    results = write_results(tmp_path / "results.jsonl", answers)
    lines = results.read_bytes().splitlines(keepends=True)
    marked = [line.replace(b'"attempts":1', b'"attempts":0,"source":{"kind":"copied","line":1}') for line in lines[1:]]
    results.write_bytes(b"".join([lines[0], *marked]))

    def warnings(**told: Any) -> list[str]:
        question = Question(Source(str(tmp_path / "gold.csv")), **told)
        return [text for text in evaluate(results, question).warnings if "copied" in text]

    assert len(warnings()) == 1
    assert warnings()[0].startswith("3 answers copied from equal requests")
    assert warnings(cluster="text") == []


@pytest.mark.parametrize("value", [-0.0001, -0.0, 0.0])
def test_what_rounds_to_nothing_has_no_sign(value: float) -> None:
    assert share(Interval(0.0004, value, 0.001)) == "0.000 (0.000 to 0.001)"
    assert share(Interval(-0.0106, -0.02, value)) == "-0.011 (-0.020 to 0.000)"
