"""The texts of one row: prompt, answer, fields, tool calls, record. A long one is shown a piece at a time."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson

from batchrun.datasets.fields import Column
from batchrun.datasets.labels import Label
from batchrun.records.answer import Result, refusal_of
from batchrun.records.prompt import Turn
from batchrun.viewer.facts import label_text

PIECE = 100_000
"""Characters of a text that are shown at once."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of a text. `part`: the name of the text; `next`: where the next piece begins, None for the last one.

    `left`: how many characters come after this piece.
    """

    part: str
    text: str
    next: int | None
    left: int


class RowTexts:
    """The texts of one row, by name. Each is made when it is asked for."""

    def __init__(self, result: Result, label: Label, fields: Sequence[Column], turns: Sequence[Turn] | None) -> None:
        self._made: dict[str, Callable[[], str]] = {
            "answer": lambda: result.text or refusal_of(result.body) or "",
            "error": lambda: "" if result.error is None else f"{result.error.code}: {result.error.message}",
            "reasoning": lambda: "\n\n".join(_summaries(result.body)),
            "raw": lambda: _indented(result.record),
        }
        for number, call in enumerate(result.tool_calls):
            self._made[f"call-{number}"] = partial(_indented, call.arguments)
        for number, field in enumerate(fields if label.is_ok else ()):
            self._made[f"value-{number}"] = partial(_value, field, label)
        for number, turn in enumerate(turns or ()):
            self._made[f"prompt-{number}"] = partial(str, turn.text)

    def piece(self, part: str, start: int = 0) -> Text | None:
        """A piece of a text, from a character on; None where there is no such text."""
        made = self._made.get(part)
        if made is None:
            return None
        text = made()
        end = start + PIECE
        return Text(part, text[start:end], end if end < len(text) else None, max(0, len(text) - end))

    def first(self, part: str) -> Text:
        """The first piece of a text, which is there."""
        piece = self.piece(part)
        assert piece is not None, part
        return piece


def _value(field: Column, label: Label) -> str:
    value = label_text(field.value(label.value))
    return "–" if value is None else value


def _summaries(body: Any) -> Iterator[str]:
    """What the model tells of its reasoning."""
    output = body.get("output") if isinstance(body, dict) else None
    for item in output if isinstance(output, list) else ():
        if isinstance(item, dict) and item.get("type") == "reasoning":
            parts = item.get("summary")
            for part in parts if isinstance(parts, list) else ():
                if isinstance(part, dict) and isinstance(part.get("text"), str):
                    yield part["text"]


_LONG_NUMBER = re.compile(rb"[0-9]{16}")


def _indented(text: str | bytes) -> str:
    """JSON with its lines indented; any other text as it is."""
    raw = text.encode(errors="replace") if isinstance(text, str) else text
    try:
        if _LONG_NUMBER.search(raw):  # slower, and every digit stays
            return json.dumps(json.loads(raw), indent=2, ensure_ascii=False).encode(errors="backslashreplace").decode()
        return orjson.dumps(orjson.loads(text), option=orjson.OPT_INDENT_2).decode()
    except (ValueError, TypeError, RecursionError):
        return text if isinstance(text, str) else text.decode(errors="replace")
