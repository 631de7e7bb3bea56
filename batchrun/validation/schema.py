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
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec
import orjson
from msgspec import Raw

from batchrun.records.answer import final_texts, refuse_doubled_keys, unfenced
from batchrun.records.request import ENDPOINTS, RESPONSES, RequestLine
from batchrun.records.words import shortened

if TYPE_CHECKING:
    from jsonschema_rs import Validator

WHY_LIMIT = 100  # characters
SHOWN = 200  # characters of each part of a mismatch
MOST_ERRORS = 5
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


class Mismatch(msgspec.Struct, frozen=True, gc=False):
    """One place where an answer does not fit: a JSON pointer, "" for all of it; what is wrong; what stands there."""

    where: str
    wrong: str
    came: str

    def in_words(self) -> str:
        """The same in up to 100 characters, without what stands there."""
        path = self.where.removeprefix("/").replace("/", ".")
        return _shortened(f"{path}: {self.wrong}" if path else self.wrong)


class Fit(NamedTuple):
    """How an answer fits: its text, or of several the first that does not fit, and the first `MOST_ERRORS` mismatches.

    `was_fenced`: a code fence was taken off.
    """

    text: str
    mismatches: tuple[Mismatch, ...] = ()
    was_fenced: bool = False


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
        if self._validator.is_valid(value):  # in half the time of asking for errors
            return None
        unfit = next(self._validator.iter_errors(value), None)
        if unfit is None:
            return None
        path = ".".join(map(str, unfit.instance_path))
        return _shortened(f"{path}: {unfit.message}" if path else unfit.message)

    def mismatches(self, value: Any) -> tuple[Mismatch, ...]:
        """The first places where a decoded value does not fit, `MOST_ERRORS` at most; none if it fits."""
        return tuple(
            Mismatch(_pointer(unfit.instance_path), _shortened(unfit.message, SHOWN), _as_shown(unfit.instance))
            for unfit in islice(self._validator.iter_errors(value), MOST_ERRORS)
        )


class _Asked(NamedTuple):
    """What an answer must fit: a schema; None is any JSON."""

    compiled: CompiledSchema | None


class MismatchCheck:
    """Checks answers one by one. `notice` is called once, for the first schema that cannot be checked."""

    def __init__(self, notice: Callable[[str], None]) -> None:
        self._notice = notice
        self._has_told = False
        self._compiled = lru_cache(KEPT_SCHEMAS)(_compiled)  # most files have one schema in all lines

    def why(self, line: RequestLine, answer: bytes) -> str | None:
        """Why a whole answer does not fit, in up to 100 characters; None if it does, or no schema was asked for."""
        asked = self._asked(line)
        if asked is None:
            return None
        for text in final_texts(orjson.loads(answer)):
            if (why := _why_unfit(text, asked.compiled)) is not None:
                return why
        return None

    def fit(self, line: RequestLine, answer: bytes) -> Fit | None:
        """How a whole answer fits, without the one code fence around its JSON; None if no schema was asked for.

        None as well for an answer that ends with a tool call, and where the schema cannot be checked.
        """
        asked = self._asked(line)
        if asked is None:
            return None
        fits = [_fit(text, asked.compiled) for text in final_texts(orjson.loads(answer))]
        if not fits:
            return None
        first = next((fit for fit in fits if fit.mismatches), fits[0])
        return first._replace(was_fenced=any(fit.was_fenced for fit in fits))

    def _asked(self, line: RequestLine) -> _Asked | None:
        """What a line asks of its answer; None for nothing, and for a schema that cannot be checked, which is told."""
        schema = wanted_schema(line.url, line.body)
        if schema is None:
            return None
        compiled = self._compiled(schema) if schema else None
        if isinstance(compiled, SchemaError):
            self._tell(f"line {line.line_number}: its JSON schema cannot be checked ({compiled}), nor its answer")
            return None
        return _Asked(compiled)

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
        value = _parsed(text)
    except ValueError as error:
        return _shortened(f"not strict JSON: {error}")
    return compiled.why_unfit(value) if compiled is not None else None


def _parsed(text: str) -> Any:
    """The value of a JSON text. Raises `ValueError`, also where a key stands twice in an object."""
    value = orjson.loads(text)
    refuse_doubled_keys(text, value)
    return value


def _fit(text: str, compiled: CompiledSchema | None) -> Fit:
    inner = unfenced(text)
    was_fenced = inner is not text
    if not inner.strip():
        return Fit(text, (Mismatch("", NO_TEXT, ""),), was_fenced)
    try:
        value = _parsed(inner)
    except ValueError as error:
        return Fit(text, (Mismatch("", _shortened(f"not strict JSON: {error}", SHOWN), ""),), was_fenced)
    return Fit(text, compiled.mismatches(value) if compiled is not None else (), was_fenced)


def _pointer(path: list[str | int]) -> str:
    """A JSON pointer (RFC 6901)."""
    steps = [str(step).replace("~", "~0").replace("/", "~1") for step in path]
    return _shortened("".join(f"/{step}" for step in steps), SHOWN)


def _as_shown(value: Any) -> str:
    try:
        return _shortened(orjson.dumps(value).decode(), SHOWN)
    except TypeError:  # a number that orjson does not write
        return ""


def _shortened(text: str, limit: int = WHY_LIMIT) -> str:
    """A message on one line, without control characters, and at most `limit` characters long."""
    text = "".join(char if char.isprintable() else " " for char in text)
    return shortened(" ".join(text.split()), limit)
