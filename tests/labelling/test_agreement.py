"""How answers agree with gold while they come, held against what `evaluate` finds in the end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.datasets.prepare import prepare
from batchrun.datasets.prepared import read_prepared
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Source
from batchrun.errors import InputError, UsageError
from batchrun.labelling.agreement import Agreement, gold_columns, refuse_shown
from tests.evaluation.made import FAILED, Outcome, write_results

FIELDS, COLUMNS = ["topic", "urgent"], ["id", "text", "right", "urgent"]


@pytest.mark.parametrize(
    ("told", "fields", "found"),
    [
        (["topic=right"], FIELDS, {"topic": "right"}),
        (["urgent"], FIELDS, {"urgent": "urgent"}),
        (["topic=right", "urgent"], FIELDS, {"topic": "right", "urgent": "urgent"}),
        (["right"], ["topic"], {"topic": "right"}),
        (["right"], [], {"answer": "right"}),
        ([], FIELDS, {}),
    ],
)
def test_a_column_is_that_of_the_field_it_names(told: list[str], fields: list[str], found: dict[str, str]) -> None:
    assert gold_columns(told, fields, COLUMNS) == found


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (["topic=wrong"], "the table has no column 'wrong'; it has id, text, right, urgent"),
        (["tpoic=right"], "say which field: --gold FIELD=right; the fields are topic, urgent"),
        (["right"], "say which field: --gold FIELD=right"),
        (["topic=right", "topic=text"], "topic is told twice"),
    ],
)
def test_what_names_no_column_or_no_field_is_refused(told: list[str], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        gold_columns(told, FIELDS, COLUMNS)


def test_a_column_whose_own_name_has_an_equals_sign_can_be_named() -> None:
    assert gold_columns(["a=b"], ["topic"], ["a=b"]) == {"topic": "a=b"}


def test_a_prompt_must_not_show_the_right_answer() -> None:
    with pytest.raises(UsageError, match="the model is told the right answer"):
        refuse_shown({"topic": "right"}, ["text", "right"])
    refuse_shown({"topic": "right"}, ["text"])


def begun(folder: Path, rows: str, schema: str | None = "topic enum(a|b)") -> tuple[Agreement, Path, list[str]]:
    """A job whose answers are still to come: how they agree, the result file, and the ids of the requests."""
    data, requests, results = folder / "data.csv", folder / "requests.jsonl", folder / "results.jsonl"
    data.write_text(rows)
    source = Source(str(data))
    prepare(source, Recipe("{{ text }}", schema=Schema.parse(schema) if schema else None, model="m"), requests)
    prepared = read_prepared(requests)
    assert prepared is not None
    columns = {"topic" if schema else "answer": "right"}
    ids = [json.loads(line)["custom_id"] for line in requests.read_bytes().splitlines()]
    return Agreement(source, results, prepared, columns), results, ids


def answers(folder: Path, ids: list[str], labels: str) -> bytes:
    """A record for each id: a label, or a failure where it is `-`."""
    told = [Outcome(FAILED) if label == "-" else {"topic": label} for label in labels]
    return write_results(folder / "made.jsonl", zip(ids, told, strict=True)).read_bytes()


ROWS = "text,right\n" + "".join(f"message {number},{right}\n" for number, right in enumerate("aabb"))


@pytest.mark.smoke
def test_it_reads_on_while_records_come_and_waits_for_the_rest_of_a_line(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, ROWS)
    with agreement:
        assert agreement.look() == ""  # there is no file yet
        whole = answers(tmp_path, ids, "aaa-")
        first = whole.index(b"\n") + 1
        results.write_bytes(whole[: first + 20])
        assert agreement.look() == "gold 100% (21–100%)"
        results.write_bytes(whole[:-1])
        assert agreement.look() == "gold 67% (21–94%)"
        results.write_bytes(whole)
        assert agreement.look() == "gold 50% (15–85%)"  # a row without an answer is not right
        assert agreement.so_far.value == 0.5


def test_a_row_without_gold_is_in_no_denominator(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, "text,right\none,a\ntwo,\nthree,\n")
    results.write_bytes(answers(tmp_path, ids, "abb"))
    with agreement:
        agreement.look()
        assert agreement.so_far.value == 1.0


def test_a_later_answer_to_a_row_takes_the_place_of_the_earlier_one(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, "text,right\none,a\n")
    with agreement:
        results.write_bytes(answers(tmp_path, ids, "-"))
        agreement.look()
        assert agreement.so_far.value == 0.0
        results.write_bytes(answers(tmp_path, ids, "-") + answers(tmp_path, ids, "a"))
        agreement.look()
        assert agreement.so_far.value == 1.0


def test_an_answer_that_misses_its_schema_is_not_right_though_its_field_is(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, ROWS, "topic enum(a|b), urgent bool")
    results.write_bytes(answers(tmp_path, ids, "aabb"))  # none of them says whether it is urgent
    with agreement:
        assert agreement.look() == "gold 0% (0–49%)"


def test_another_file_in_its_place_is_read_from_its_start(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, "text,right\none,a\n")
    results.write_bytes(answers(tmp_path, ids, "b"))
    with agreement:
        agreement.look()
        results.unlink()
        results.write_bytes(answers(tmp_path, ids, "a"))
        agreement.begin_anew()
        assert agreement.look() == "gold 100% (21–100%)"


def test_one_look_reads_so_many_records_at_the_most(tmp_path: Path) -> None:
    rows = "text,right\n" + "".join(f"message {number},a\n" for number in range(Agreement.MOST_AT_ONCE + 1))
    agreement, results, ids = begun(tmp_path, rows)
    results.write_bytes(answers(tmp_path, ids, "a" * Agreement.MOST_AT_ONCE + "b"))
    with agreement:
        agreement.look()
        assert agreement.so_far.value == 1.0
        agreement.look()
        assert agreement.so_far.value == Agreement.MOST_AT_ONCE / (Agreement.MOST_AT_ONCE + 1)


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, "text,right\none,a\n")
    results.write_bytes(b"not a record\n" + answers(tmp_path, ids, "a"))
    with agreement:
        assert agreement.look() == "gold 100% (21–100%)"


def test_without_a_schema_the_text_is_compared(tmp_path: Path) -> None:
    agreement, results, ids = begun(tmp_path, "text,right\none,yes\ntwo,no\n", None)
    write_results(results, [(ids[0], " yes\n"), (ids[1], "yes")])
    with agreement:
        agreement.look()
        assert agreement.so_far.value == 0.5


def test_gold_that_cannot_be_read_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'maybe' is not true or false"):
        begun(tmp_path, "text,right\none,maybe\n", "topic bool")
