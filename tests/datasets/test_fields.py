"""The columns of a schema, and the values of an answer in them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.datasets.fields import Column, Kind, columns_of
from batchrun.errors import UsageError
from tests.datasets.answers import GOOD, SCHEMA


def columns(schema: Any) -> list[tuple[str, Kind]]:
    return [(column.name, column.kind) for column in columns_of(json.dumps(schema).encode())]


def test_each_field_is_a_column_and_nested_ones_have_a_dot() -> None:
    assert columns(SCHEMA) == [
        ("topic", Kind.TEXT),
        ("urgent", Kind.BOOLEAN),
        ("tags", Kind.JSON),
        ("span.start", Kind.INTEGER),
        ("span.share", Kind.NUMBER),
    ]
    found = [column.value(GOOD) for column in columns_of(json.dumps(SCHEMA).encode())]
    assert found == ["billing", True, ["a", "b"], 3, 0.5]


def test_an_answer_without_a_field_has_none_in_its_place() -> None:
    column = Column("a.b", Kind.TEXT, ("a", "b"))
    answers: list[Any] = [{}, {"a": None}, {"a": 1}, {"a": {}}, None, "a"]
    assert [column.value(answer) for answer in answers] == [None] * 6


@pytest.mark.parametrize(
    ("field", "kind"),
    [
        ({"type": ["string", "null"]}, Kind.TEXT),
        ({"enum": ["a", "b", None]}, Kind.TEXT),
        ({"const": 3}, Kind.INTEGER),
        ({"enum": [1, 2.5]}, Kind.NUMBER),
        ({"enum": [1, "a"]}, Kind.JSON),
        ({"type": ["integer", "string"]}, Kind.JSON),
        ({"anyOf": [{"type": "boolean"}, {"type": "null"}]}, Kind.BOOLEAN),
        ({"anyOf": [{"type": "boolean"}, {"type": "string"}]}, Kind.JSON),
        ({"$ref": "#/$defs/word"}, Kind.TEXT),
        ({"$ref": "#/$defs/none"}, Kind.JSON),
        ({"$ref": "https://schemas.example/word"}, Kind.JSON),
        ({"type": "object"}, Kind.JSON),
        (True, Kind.JSON),
    ],
)
def test_the_kind_of_a_column_is_that_of_its_values(field: Any, kind: Kind) -> None:
    schema = {"type": "object", "properties": {"f": field}, "$defs": {"word": {"type": "string"}}}
    assert columns(schema) == [("f", kind)]


def test_a_nullable_object_and_a_reference_to_one_are_taken_apart() -> None:
    inner = {"type": "object", "properties": {"b": {"type": "string"}}}
    nullable = {"anyOf": [{"$ref": "#/$defs/inner"}, {"type": "null"}]}
    assert columns({"properties": {"a": nullable}, "$defs": {"inner": inner}}) == [("a.b", Kind.TEXT)]


def test_a_schema_that_goes_round_in_circles_ends() -> None:
    node = {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}
    (column,) = columns_of(
        json.dumps({"properties": {"a": {"$ref": "#/$defs/node"}}, "$defs": {"node": node}}).encode()
    )
    assert (column.kind, len(column.path)) == (Kind.JSON, 20)
    assert columns({"$ref": "#"}) == [("answer", Kind.JSON)]


def test_without_fields_there_is_one_column() -> None:
    assert columns_of(None) == (Column("answer", Kind.TEXT),)
    assert columns_of(b"") == (Column("answer", Kind.JSON),)
    assert columns({"enum": ["spam", "ham"]}) == [("answer", Kind.TEXT)]
    assert columns({"type": "object", "properties": {}}) == [("answer", Kind.JSON)]
    assert columns(True) == [("answer", Kind.JSON)]


def test_two_fields_of_one_column_are_refused() -> None:
    with pytest.raises(UsageError, match=r'two fields that make the column "a\.b"'):
        columns({"properties": {"a.b": {}, "a": {"properties": {"b": {}}}}})
