"""The schema of answers: from its short form or as JSON; and what strict mode makes of it. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from batchrun.datasets.short_form import parse_short_form
from batchrun.errors import UsageError
from batchrun.validation.schema import CompiledSchema, SchemaError

NAME = "answer"
_REFUSED = (
    *("allOf", "not", "if", "then", "else", "oneOf", "patternProperties", "dependentRequired", "dependentSchemas"),
    *("minLength", "maxLength", "uniqueItems", "contains", "minProperties", "maxProperties", "propertyNames"),
)
_UNSURE = (
    *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
    *("pattern", "format", "minItems", "maxItems"),
)
_DEEPEST = 10


@dataclass(frozen=True, slots=True)
class Schema:
    """A JSON schema for answers. `why_not_strict`: what strict mode refuses in it, "" where it takes it all."""

    schema: dict[str, Any]
    why_not_strict: str = ""

    @classmethod
    def parse(cls, text: str) -> Schema:
        """A schema as JSON, which begins with a brace, or in the short form. Raises `UsageError`."""
        if not text.lstrip().startswith("{"):
            return cls(parse_short_form(text))
        try:
            schema = json.loads(text)
            CompiledSchema(text.encode())
        except SchemaError as error:
            raise UsageError(f"the schema cannot be used ({error})") from None
        except (ValueError, RecursionError) as error:
            raise UsageError(f"the schema is not JSON: {error}") from None
        return cls(schema, next(_refusals(schema), ""))

    @property
    def format(self) -> dict[str, Any]:
        """The `text.format` of a request."""
        return {"type": "json_schema", "name": NAME, "strict": not self.why_not_strict, "schema": self.schema}

    def unenforced(self) -> list[str]:
        """What not every gateway enforces, though it may accept it: `score: minimum 1, maximum 5`."""
        found = []
        for path, node, _ in _nodes(self.schema):
            if told := [f"{key} {json.dumps(node[key], ensure_ascii=False)}" for key in _UNSURE if key in node]:
                found.append(f"{path or 'the answer'}: {', '.join(told)}")
        return found


def _refusals(schema: dict[str, Any]) -> Iterator[str]:
    """What strict mode refuses, and what to write instead."""
    if schema.get("type") != "object" or "anyOf" in schema:
        yield 'the schema is no object; write {"type": "object", "properties": …}'
    for path, node, depth in _nodes(schema):
        where = path or "the answer"
        if depth > _DEEPEST:
            yield f"{where}: nested deeper than {_DEEPEST} levels; flatten it"
        if "properties" in node or node.get("type") == "object":
            if node.get("additionalProperties") is not False:
                yield f'{where}: write "additionalProperties": false'
            properties, required = node.get("properties", {}), node.get("required", [])
            if optional := [name for name in properties if name not in required]:
                yield f'{where}: "{optional[0]}" is not in "required"; let it be null instead'
        for key in _REFUSED:
            if key in node:
                yield f'{where}: "{key}" is not allowed; take it out'


def _nodes(node: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, dict[str, Any], int]]:
    """Every schema in a schema, with its path and its depth."""
    if not isinstance(node, dict):
        return
    yield path, node, depth
    for name, inner in _members(node.get("properties")):
        yield from _nodes(inner, f"{path}.{name}" if path else name, depth + 1)
    for name, inner in (*_members(node.get("$defs")), *_members(node.get("definitions"))):
        yield from _nodes(inner, f"$defs.{name}", depth)
    for inner in node.get("anyOf") or ():
        yield from _nodes(inner, path, depth)
    yield from _nodes(node.get("items"), f"{path}[]", depth + 1)


def _members(value: Any) -> list[tuple[str, Any]]:
    return list(value.items()) if isinstance(value, dict) else []
