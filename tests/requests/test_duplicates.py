"""Which lines are equal, and which ids are repeats of one row."""

from __future__ import annotations

import pytest

from batchrun.records.request import RequestLine, parse_request
from batchrun.requests.duplicates import Duplicates, Equals, key_of, repeat_of
from tests.support import run_info


@pytest.mark.parametrize(
    ("custom_id", "repeat"),
    [("row#1", 1), ("row#12", 12), ("a#1#2", 2), ("row", 0), ("row#", 0), ("#1", 0), ("row#01", 0), ("row#٣", 0)],
)
def test_an_id_that_ends_in_a_number_after_a_sharp_is_a_repeat(custom_id: str, repeat: int) -> None:
    assert repeat_of(custom_id) == repeat


def line(number: int, custom_id: str, question: str, url: str = "/v1/responses") -> RequestLine:
    body = f'{{"model":"m","input":"{question}"}}'
    return parse_request(f'{{"custom_id":"{custom_id}","url":"{url}","body":{body}}}'.encode(), number)


LINES = [
    line(1, "a", "one"),
    line(2, "b", "one"),
    line(3, "c", "two"),
    line(4, "d", "one", "/v1/embeddings"),
    line(5, "e#1", "one"),
    line(6, "e#2", "one"),
    line(7, "f#2", "one"),
]


def test_equal_bodies_to_one_endpoint_are_equal_and_repeats_are_not() -> None:
    duplicates = Duplicates()
    for one in LINES:
        duplicates.add(key_of(one.custom_id, one.url, one.body_hash), one.line_number)
    assert sorted(numbers for _, numbers in duplicates.groups()) == [[1, 2], [6, 7]]


def test_a_line_is_new_if_none_before_it_and_no_record_is_equal() -> None:
    equals = Equals()
    assert [one.line_number for one in LINES if equals.is_new(one)] == [1, 3, 4, 5, 6]


def test_a_record_that_fails_for_a_while_is_no_answer_to_an_equal_line() -> None:
    from batchrun.records.result import ResultHead

    equals = Equals()
    equals.add([ResultHead("x", run_info(body_hash=LINES[0].body_hash))])
    equals.add([ResultHead("y", run_info(body_hash=LINES[2].body_hash, outcome="failed", retryable=True))])
    assert not equals.is_new(LINES[0])
    assert equals.is_new(LINES[2])
