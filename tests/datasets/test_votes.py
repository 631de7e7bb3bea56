"""The answers to the repeats of a row, folded into one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.fields import Column, Kind
from batchrun.datasets.labels import MISSING, Label, RowStatus
from batchrun.datasets.votes import fold, vote_columns

TOPIC, TAGS = Column("topic", Kind.TEXT, ("topic",)), Column("tags", Kind.JSON, ("tags",))
FAILED = Label(RowStatus.FAILED, error="http_503: it is busy")


def ok(**value: Any) -> Label:
    return Label(RowStatus.OK, value)


def test_each_field_has_three_columns() -> None:
    assert vote_columns([TOPIC]) == (TOPIC, Column("topic_share", Kind.NUMBER), Column("topic_all", Kind.JSON))


def test_the_value_that_most_have_wins() -> None:
    label, values = fold([ok(topic="a"), ok(topic="b"), ok(topic="a")], [TOPIC])
    assert (label.status, label.error) == (RowStatus.OK, "")
    assert values == ["a", 2 / 3, ["a", "b", "a"]]


@pytest.mark.parametrize("topics", [["a", "b"], ["a", "b", "b", "a"], ["a", "b", "c"]])
def test_where_two_values_have_as_many_votes_there_is_none(topics: list[str]) -> None:
    label, values = fold([ok(topic=topic) for topic in topics], [TOPIC])
    assert label.status is RowStatus.TIE
    assert values == [None, 1 / len(set(topics)), topics]


def test_one_field_without_a_winner_makes_the_row_a_tie_and_keeps_the_others() -> None:
    label, values = fold([ok(topic="a", tags=[1]), ok(topic="a", tags=[2])], [TOPIC, TAGS])
    assert label.status is RowStatus.TIE
    assert values == ["a", 1.0, ["a", "a"], None, 0.5, [[1], [2]]]


def test_what_is_not_ok_has_no_vote_and_is_told() -> None:
    label, values = fold([FAILED, ok(topic="a"), MISSING], [TOPIC])
    assert (label.status, label.error) == (RowStatus.OK, "2 of 3 answers are not ok; failed: http_503: it is busy")
    assert values == ["a", 1.0, [None, "a", None]]


def test_without_any_vote_the_row_is_what_most_of_its_answers_are() -> None:
    label, values = fold([MISSING, FAILED, FAILED], [TOPIC])
    assert (label.status, label.error) == (RowStatus.FAILED, "3 of 3 answers are not ok; missing")
    assert values == [None, None, [None, None, None]]


def test_null_is_a_value_that_can_win_and_order_of_members_does_not_count() -> None:
    assert fold([ok(topic=None), ok(topic=None), ok(topic="a")], [TOPIC]).label.status is RowStatus.OK
    label, values = fold([ok(tags={"a": 1, "b": 2}), ok(tags={"b": 2, "a": 1}), ok(tags=1)], [TAGS])
    assert (label.status, values[1]) == (RowStatus.OK, 2 / 3)


def test_true_is_not_one_and_text_is_no_number() -> None:
    assert fold([ok(topic=True), ok(topic=1), ok(topic="1")], [TOPIC]).label.status is RowStatus.TIE


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=9), st.randoms())
def test_the_order_of_the_repeats_changes_neither_winner_nor_share(topics: list[str], chance: Any) -> None:
    shuffled = chance.sample(topics, len(topics))
    one, other = (fold([ok(topic=topic) for topic in some], [TOPIC]) for some in (topics, shuffled))
    assert (one.label, one.values[:2]) == (other.label, other.values[:2])
    counts = sorted(map(topics.count, set(topics)))
    assert (one.values[0] is None) == (len(counts) > 1 and counts[-1] == counts[-2])
