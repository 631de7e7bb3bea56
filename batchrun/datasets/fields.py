"""The columns that a JSON schema makes: one for each field, nested ones as `a.b`, lists as JSON. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import orjson

from batchrun.errors import UsageError

_DEEPEST = 20
_Json = dict[str, Any]


class Kind(StrEnum):
    """What the values of a column are. `JSON`: lists, objects, or values of several kinds."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table. `path`: where its value stands in an answer; empty for the whole answer."""

    name: str
    kind: Kind = Kind.TEXT
    path: tuple[str, ...] = ()

    def value(self, answer: Any) -> Any:
        """Its value in an answer; None where that has none."""
        for name in self.path:
            if not isinstance(answer, dict):
                return None
            answer = answer.get(name)
        return answer


ANSWER = "answer"


def columns_of(schema: bytes | None) -> tuple[Column, ...]:
    """The columns for answers to a schema: None is any text, b"" any JSON. Without fields it is one, `answer`.

    Raises `UsageError` where two fields would make columns of the same name.
    """
    if schema is None:
        return (Column(ANSWER),)
    root = orjson.loads(schema) if schema else {}
    root = root if isinstance(root, dict) else {}
    columns = tuple(_leaves(root, root, ()))
    if len(columns) == 1 and not columns[0].path:
        return (Column(ANSWER, columns[0].kind),)
    refuse_clash([column.name for column in columns], "the schema has two fields that make the column")
    return columns


def refuse_clash(names: Sequence[str], what: str, way_out: str = "rename one") -> None:
    """Raise `UsageError` if a name occurs twice."""
    name, count = Counter(names).most_common(1)[0]
    if count > 1:
        raise UsageError(f'{what} "{name}"; {way_out}')


def _leaves(root: _Json, schema: Any, path: tuple[str, ...]) -> Iterator[Column]:
    """The columns of a part of a schema, in the order of its fields."""
    schema = _resolved(root, schema)
    fields = schema.get("properties")
    if isinstance(fields, dict) and fields and len(path) < _DEEPEST:
        for name, inner in fields.items():
            yield from _leaves(root, inner, (*path, name))
    else:
        yield Column(".".join(path), _kind(schema), path)


def _resolved(root: _Json, schema: Any) -> _Json:
    """A part of a schema without what stands around it: a reference within the document, a choice of it or null."""
    for _ in range(_DEEPEST):
        if not isinstance(schema, dict):
            return {}
        reference = schema.get("$ref")
        choices = schema.get("anyOf") or schema.get("oneOf")
        if isinstance(reference, str):
            schema = _referred(root, reference)
        elif isinstance(choices, list):
            others = [choice for choice in choices if choice != {"type": "null"}]
            if len(others) != 1:
                return {}
            schema = others[0]
        else:
            return schema
    return {}


def _referred(root: _Json, reference: str) -> Any:
    found: Any = root
    for name in reference.removeprefix("#").split("/")[1:] if reference.startswith("#") else ["?"]:
        found = found.get(name.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found


_KINDS = {
    frozenset({"string"}): Kind.TEXT,
    frozenset({"boolean"}): Kind.BOOLEAN,
    frozenset({"integer"}): Kind.INTEGER,
    frozenset({"number"}): Kind.NUMBER,
    frozenset({"integer", "number"}): Kind.NUMBER,
}
_TYPE_OF = {str: "string", bool: "boolean", int: "integer", float: "number"}


def _kind(schema: _Json) -> Kind:
    types = schema.get("type")
    if types is None and isinstance(values := schema.get("enum", [schema.get("const")]), list):
        types = [_TYPE_OF.get(type(value), "null" if value is None else "object") for value in values]
    named = {types} if isinstance(types, str) else set(filter(_is_text, types)) if isinstance(types, list) else set()
    return _KINDS.get(frozenset(named - {"null"}), Kind.JSON)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)
