"""The label in an answer, and what a row without one is: ok, invalid, refused, incomplete, empty, failed, missing.

1. Only an answer that is whole, and fits its schema where it has one, gives values. A failure never becomes a label.
2. The JSON of an answer is its last message, or the arguments of its only tool call; see `records.answer`.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import msgspec

from batchrun.records.answer import NotJsonError, Result, json_text_of, parse_json, refusal_of, unfenced
from batchrun.records.request import EMBEDDINGS
from batchrun.records.words import printable
from batchrun.validation.schema import NO_TEXT, CompiledSchema, SchemaError


class RowStatus(StrEnum):
    """What became of a row, in the order in which they are counted. `TIE`: its answers do not agree (`--votes`)."""

    OK = "ok"
    INVALID = "invalid"
    REFUSED = "refused"
    INCOMPLETE = "incomplete"
    EMPTY = "empty"
    FAILED = "failed"
    TIE = "tie"
    MISSING = "missing"


class Label(msgspec.Struct, frozen=True):
    """What an answer says of its row. `value`: its JSON, or its text; None unless `status` is ok.

    `error`: why there is no value, on one line. `was_fenced`: a code fence was taken off.
    """

    status: RowStatus
    value: Any = None
    error: str = ""
    was_fenced: bool = False

    @property
    def is_ok(self) -> bool:
        """Whether there is a value."""
        return self.status is RowStatus.OK


MISSING = Label(RowStatus.MISSING)


class LabelReader:
    """Reads the labels of answers to one schema: None takes any text, b"" any JSON.

    `notice` is called where the schema cannot be checked.
    """

    def __init__(self, schema: bytes | None, notice: Callable[[str], None]) -> None:
        self._wants_json = schema is not None
        self._compiled: CompiledSchema | None = None
        try:
            self._compiled = CompiledSchema(schema) if schema else None
        except SchemaError as error:
            notice(f"the JSON schema cannot be checked ({error}); answers that are JSON count as ok")

    def read(self, result: Result | None) -> Label:
        """The label of a result; of None, it is missing."""
        if result is None:
            return MISSING
        if result.outcome != "succeeded":
            return Label(RowStatus(result.outcome), error=_why(result))
        if not self._wants_json:
            return Label(RowStatus.OK, _answer(result))
        return self.read_json(json_text_of(result.body))

    def read_text(self, text: str) -> Label:
        """The label of an answer that succeeded, and that is this text and no more."""
        return self.read_json(text) if self._wants_json else Label(RowStatus.OK, text)

    def read_json(self, text: str | None) -> Label:
        """The label in the text of an answer that succeeded and should be JSON; None where it has no text."""
        if text is None:
            return Label(RowStatus.INVALID, error=NO_TEXT)
        inner = unfenced(text)
        try:
            value = parse_json(inner)
        except NotJsonError as error:
            return Label(RowStatus.INVALID, error=printable(f"not strict JSON: {error}"))
        why = self._compiled.why_unfit(value) if self._compiled is not None else None
        if why is not None:
            return Label(RowStatus.INVALID, error=why)
        return Label(RowStatus.OK, value, was_fenced=inner is not text)


def _why(result: Result) -> str:
    """Why a result has no label: its error, or what the model said when it refused."""
    if result.error is not None:
        return printable(f"{result.error.code}: {result.error.message}")
    said = result.run.schema_error or refusal_of(result.body) or ""
    return printable(said)


def _answer(result: Result) -> Any:
    """An answer without a schema: its text, else its tool calls, else its vector."""
    if (text := result.text) is not None:
        return text
    if calls := result.tool_calls:
        return [{"name": call.name, "arguments": call.arguments} for call in calls]
    if result.run.path == EMBEDDINGS:
        vectors = [item.get("embedding") for item in result.body["data"] if isinstance(item, dict)]
        return vectors[0] if len(vectors) == 1 else vectors
    return json_text_of(result.body)
