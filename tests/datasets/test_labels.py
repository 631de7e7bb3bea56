"""The label of an answer, and the status of a row that has none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.datasets.labels import Label, LabelReader, RowStatus
from batchrun.records.answer import read_result
from tests.datasets.answers import GOOD, SCHEMA, answer, failure, message

ENCODED = json.dumps(SCHEMA).encode()


def label(record: bytes, schema: bytes | None = ENCODED) -> Label:
    return LabelReader(schema, pytest.fail).read(read_result(record.removesuffix(b"\n")))


def test_an_answer_that_fits_is_ok() -> None:
    assert label(answer("r-1", GOOD)) == Label(RowStatus.OK, GOOD)


def test_a_code_fence_is_taken_off_and_marked() -> None:
    assert label(answer("r-1", f"```json\n{json.dumps(GOOD)}\n```")) == Label(RowStatus.OK, GOOD, was_fenced=True)


def test_the_arguments_of_the_only_call_are_the_answer() -> None:
    call = {"type": "function_call", "name": "label", "arguments": json.dumps(GOOD), "call_id": "c"}
    assert label(answer("r-1", "", output=[call])) == Label(RowStatus.OK, GOOD)
    assert label(answer("r-1", "", output=[call, call])).status is RowStatus.INVALID


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"topic": "weather", "urgent": True}, "topic: "),
        ({"topic": "billing"}, '"urgent" is a required property'),
        ({"topic": "billing", "urgent": "yes"}, "urgent: "),
        ('{"topic": "billing", "urgent": tr', "not strict JSON"),
        ("The topic is billing.", "not strict JSON"),
        (f"Here you are: {json.dumps(GOOD)}", "not strict JSON"),
        ("", "it has no text"),
    ],
)
def test_an_answer_that_does_not_fit_is_invalid_and_says_why(said: Any, why: str) -> None:
    found = label(answer("r-1", said))
    assert (found.status, found.value) == (RowStatus.INVALID, None)
    assert why in found.error


@pytest.mark.parametrize("outcome", ["incomplete", "empty", "invalid"])
def test_an_answer_that_did_not_succeed_gives_no_value_even_if_it_fits(outcome: Any) -> None:
    found = label(answer("r-1", GOOD, outcome=outcome, error=("incomplete_max_output_tokens", "it stops early")))
    assert found == Label(RowStatus(outcome), None, "incomplete_max_output_tokens: it stops early")


def test_a_refusal_tells_what_the_model_said() -> None:
    refused = answer("r-1", "", outcome="refused", output=[message("I cannot\nhelp.", "refusal")])
    assert label(refused) == Label(RowStatus.REFUSED, None, "I cannot help.")


def test_a_failure_tells_its_code_on_one_line_and_a_row_without_a_record_is_missing() -> None:
    assert label(failure("r-1")) == Label(RowStatus.FAILED, None, "http_503: it is busy")
    assert LabelReader(ENCODED, pytest.fail).read(None) == Label(RowStatus.MISSING)


def test_without_a_schema_the_text_is_the_answer_whatever_it_is() -> None:
    fenced = "```json\n{}\n```"
    assert label(answer("r-1", fenced), None) == Label(RowStatus.OK, fenced)
    call = {"type": "function_call", "name": "label", "arguments": "{}", "call_id": "c"}
    assert label(answer("r-1", "", output=[call]), None).value == [{"name": "label", "arguments": "{}"}]


def test_any_json_is_enough_where_the_request_asks_for_json_only() -> None:
    assert label(answer("r-1", [1, None]), b"") == Label(RowStatus.OK, [1, None])
    assert label(answer("r-1", "one"), b"").status is RowStatus.INVALID


def test_a_schema_that_cannot_be_checked_is_told_once_and_takes_json() -> None:
    told: list[str] = []
    reader = LabelReader(b'{"$ref": "https://schemas.example/label"}', told.append)
    found = [reader.read(read_result(answer("r-1", said).removesuffix(b"\n"))) for said in ({"a": 1}, "no JSON")]
    assert [one.status for one in found] == [RowStatus.OK, RowStatus.INVALID]
    assert len(told) == 1
    assert "cannot be checked" in told[0]
