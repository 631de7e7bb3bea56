"""Checks whether an answer fits the JSON schema that its request asked for. Pure.

1. The schema is in `text.format` of a Responses body, or in `response_format` of a chat completion. With a schema, the
   text must fit it; without one (`json_object`), the text must be JSON.
2. A request that asks for neither never has a mismatch, nor has an answer that ends with a tool call instead of text.
3. Nothing is fetched. A schema that refers to another document is not checked, nor is one that cannot be compiled.
4. Patterns are matched in linear time, so that no pattern can delay other lines. A pattern with look-around therefore
   does not compile.

jsonschema-rs checks the schemas by the rules of JSON Schema: `format` alone is an annotation.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import orjson
from msgspec import Raw

from batchrun.records.answer import final_texts
from batchrun.records.request import ENDPOINTS, RESPONSES, RequestLine

if TYPE_CHECKING:
    from jsonschema_rs import Validator

WHY_LIMIT = 100  # characters
KEPT_SCHEMAS = 64
NO_TEXT = "it has no text"
CHAT = ENDPOINTS[1]


class _Schema(msgspec.Struct):
    schema: Raw = Raw()


class _Format(_Schema):
    """What a body asks for; chat completions have the schema one level deeper."""

    type: Any = None
    json_schema: _Schema | None = None


class _Text(msgspec.Struct):
    format: _Format | None = None


class _Body(msgspec.Struct):
    text: _Text | None = None
    response_format: _Format | None = None


_decode_body = msgspec.json.Decoder(_Body).decode


def wanted_schema(url: str, body: bytes) -> bytes | None:
    """The JSON schema that a request asks its answer to fit; b"" if any JSON fits, None if any text does."""
    if b"json_" not in body:
        return None
    try:
        fields = _decode_body(body)
    except msgspec.ValidationError:
        return None  # not the shape of any endpoint's body
    wanted: _Format | None = None
    if url == RESPONSES:
        wanted = fields.text.format if fields.text else None
    elif url == CHAT:
        wanted = fields.response_format
    if wanted is None or wanted.type not in ("json_schema", "json_object"):
        return None
    if wanted.type == "json_object":
        return b""
    holder = wanted if url == RESPONSES else wanted.json_schema
    schema = bytes(holder.schema) if holder else b""
    return b"" if schema == b"null" else schema


class SchemaError(ValueError):
    """A schema cannot be compiled; the message says why."""


class CompiledSchema:
    """One JSON schema, ready to check values.

    Raises `SchemaError` if it cannot be compiled.
    """

    def __init__(self, schema: bytes) -> None:
        import jsonschema_rs

        linear = jsonschema_rs.RegexOptions()
        try:
            self._validator: Validator = jsonschema_rs.validator_for(
                orjson.loads(schema), retriever=_refuse, mask="the value", pattern_options=linear
            )
        except ValueError as error:
            raise SchemaError(_shortened(str(error).partition("\n")[0])) from None

    def why_unfit(self, value: Any) -> str | None:
        """The first place where a decoded value does not fit, in up to 100 characters; None if it fits."""
        unfit = next(self._validator.iter_errors(value), None)
        if unfit is None:
            return None
        path = ".".join(map(str, unfit.instance_path))
        return _shortened(f"{path}: {unfit.message}" if path else unfit.message)


class MismatchCheck:
    """Checks answers one by one. `notice` is called once, for the first schema that cannot be checked."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._has_told = False
        self._compiled = lru_cache(KEPT_SCHEMAS)(_compiled)  # most files have one schema in all lines

    def why(self, line: RequestLine, answer: bytes) -> str | None:
        """Why a whole answer does not fit, in up to 100 characters; None if it does, or no schema was asked for."""
        schema = wanted_schema(line.url, line.body)
        if schema is None:
            return None
        compiled = self._compiled(schema) if schema else None
        if isinstance(compiled, SchemaError):
            self._tell(f"line {line.line_number}: its JSON schema cannot be checked ({compiled}), nor its answer")
            return None
        for text in final_texts(orjson.loads(answer)):
            if (why := _why_unfit(text, compiled)) is not None:
                return why
        return None

    def _tell(self, text: str) -> None:
        if not self._has_told:
            self._has_told = True
            self._notice(f"{text}; answers to such schemas do not count as schema mismatches")


def _compiled(schema: bytes) -> CompiledSchema | SchemaError:
    try:
        return CompiledSchema(schema)
    except SchemaError as error:
        return error


def _refuse(uri: str) -> NoReturn:
    raise ValueError("nothing is fetched")


def _why_unfit(text: str, compiled: CompiledSchema | None) -> str | None:
    if not text.strip():
        return NO_TEXT
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _shortened(f"not strict JSON: {error}")
    return compiled.why_unfit(value) if compiled is not None else None


def _shortened(text: str) -> str:
    """A message on one line, without control characters, and at most `WHY_LIMIT` characters long."""
    text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split())
    return text if len(text) <= WHY_LIMIT else text[: WHY_LIMIT - 1] + "…"
