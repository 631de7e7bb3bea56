"""Checks whether an answer fits the JSON schema that its request asked for. Pure.

1. The schema is in `text.format` of a Responses body, or in `response_format` of a chat completion. With a schema, the
   text must fit it; without one (`json_object`), the text must be JSON.
2. A request that asks for neither never has a mismatch, nor has an answer that ends with a tool call instead of text.
3. Nothing is fetched. A schema that refers to another document is not checked, nor is one that cannot be compiled.
4. Patterns are matched in linear time, so that no pattern can delay other lines. A pattern with look-around therefore
   does not compile.

jsonschema-rs, an optional extra, checks the schemas by the rules of JSON Schema: `format` alone is an annotation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec
import orjson
from msgspec import Raw

from batchrun.errors import UsageError
from batchrun.records.request import ENDPOINTS, RESPONSES, RequestLine

if TYPE_CHECKING:
    from jsonschema_rs import Validator

WHY_LIMIT = 100  # characters
KEPT_SCHEMAS = 64
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


class MismatchCheck:
    """Checks answers one by one. `notice` is called once, for the first schema that cannot be checked.

    Raises `UsageError` if jsonschema-rs is not installed.
    """

    def __init__(self, notice: Callable[[str], None]) -> None:
        try:
            import jsonschema_rs
        except ImportError:
            raise UsageError(
                "--max-errors-on schema_mismatch checks JSON schemas; pip install 'batchrun[schema]' for it"
            ) from None
        self._library = jsonschema_rs
        self._notice = notice
        self._has_told = False
        self._compiled = lru_cache(KEPT_SCHEMAS)(self._compile)  # most files have one schema in all lines

    def why(self, line: RequestLine, answer: bytes) -> str | None:
        """Why a whole answer does not fit, in up to 100 characters; None if it does, or no schema was asked for."""
        schema = wanted_schema(line.url, line.body)
        if schema is None:
            return None
        compiled = self._compiled(schema) if schema else None
        if isinstance(compiled, str):
            self._tell(f"line {line.line_number}: its JSON schema cannot be checked ({compiled}), nor its answer")
            return None
        for text in _texts(line.url, answer):
            if (why := _why_unfit(text, compiled)) is not None:
                return _shortened(why)
        return None

    def _compile(self, schema: bytes) -> Validator | str:
        """The compiled schema, or why it cannot be compiled."""
        linear = self._library.RegexOptions()
        try:
            return self._library.validator_for(
                orjson.loads(schema), retriever=_refuse, mask="the value", pattern_options=linear
            )
        except ValueError as error:
            return _shortened(str(error).partition("\n")[0])

    def _tell(self, text: str) -> None:
        if not self._has_told:
            self._has_told = True
            self._notice(f"{text}; answers to such schemas do not count as schema mismatches")


def _refuse(uri: str) -> NoReturn:
    raise ValueError("nothing is fetched")


def _texts(url: str, answer: bytes) -> Iterator[str]:
    """The texts that must fit: the last message of a response, each choice of a chat completion; never tool calls."""
    fields = orjson.loads(answer)
    if url == RESPONSES:
        said = [item for item in fields["output"] if isinstance(item, dict) and item.get("type") != "reasoning"]
        last = said[-1] if said else {"type": "message"}
        if last.get("type", "message") == "message":
            yield _joined(last.get("content"))
        return
    for choice in fields["choices"]:
        message = choice.get("message")
        message = message if isinstance(message, dict) else {}
        if not message.get("tool_calls") and not message.get("function_call"):
            yield _joined(message.get("content"))


def _joined(content: Any) -> str:
    """The text of a message, which is a string or a list of parts."""
    parts = [part.get("text") for part in content if isinstance(part, dict)] if isinstance(content, list) else [content]
    return "".join(part for part in parts if isinstance(part, str))


def _why_unfit(text: str, compiled: Validator | None) -> str | None:
    if not text.strip():
        return "it has no text"
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return f"not strict JSON: {error}"
    unfit = next(compiled.iter_errors(value), None) if compiled is not None else None
    if unfit is None:
        return None
    path = ".".join(map(str, unfit.instance_path))
    return f"{path}: {unfit.message}" if path else unfit.message


def _shortened(text: str) -> str:
    """A message on one line, without control characters, and at most `WHY_LIMIT` characters long."""
    text = "".join(char if char.isprintable() else " " for char in text)
    text = " ".join(text.split())
    return text if len(text) <= WHY_LIMIT else text[: WHY_LIMIT - 1] + "…"
