"""One row in two result files, as a page shows it: each field of both, and the words in which they differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from batchrun.datasets.fields import Column
from batchrun.datasets.labels import Label
from batchrun.records.answer import Result, refusal_of
from batchrun.viewer.facts import label_text
from batchrun.viewer.second import Second, field_pairs
from batchrun.viewer.word_diff import Piece, word_diff

LONGEST_COMPARED = 50_000
"""Characters of a text that are compared word by word."""


@dataclass(frozen=True, slots=True)
class ShownPair:
    """A field of both files. `pieces`: both values as one text; none where they are equal.

    `is_cut`: whether these are the beginnings of longer texts.
    """

    name: str
    first: str
    second: str
    pieces: Sequence[Piece]
    is_cut: bool = False


@dataclass(frozen=True, slots=True)
class Comparison:
    """A row in both files. `first`, `second`: what it is there; `differs`: whether a field or that does."""

    first: str
    second: str
    pairs: Sequence[ShownPair]
    differs: bool


@dataclass(frozen=True, slots=True)
class RowOfBoth:
    """A row of the first file beside its row of the second, if that has it."""

    label: Label
    result: Result
    second_label: Label
    second_result: Result | None

    def values(self, fields: Sequence[Column], second: Second) -> list[str | None]:
        """The values of the second file for the fields of the first, in words; None where there is none to compare."""
        theirs = {field.name: field for field in second.fields}
        if self.second_result is None or not self.second_label.is_ok:
            return [None] * len(fields)
        return [
            label_text(theirs[one.name].value(self.second_label.value)) if one.name in theirs else None
            for one in fields
        ]

    def comparison(self, fields: Sequence[Column], second: Second) -> Comparison | None:
        """Field by field; None where only one file has the row. An answer without a label is shown as it is."""
        if self.second_result is None:
            return None
        both_ok = self.label.is_ok and self.second_label.is_ok
        if both_ok:
            pairs = field_pairs(self.label, fields, self.second_label, second.fields)
            shown = [_pair(pair.name, _text(pair.first), _text(pair.second)) for pair in pairs]
        else:
            shown = [_pair("answer", _said(self.result), _said(self.second_result))]
        statuses = str(self.label.status), str(self.second_label.status)
        differs = statuses[0] != statuses[1] or (both_ok and any(pair.pieces for pair in shown))
        return Comparison(*statuses, shown, differs)


def _pair(name: str, first: str, second: str) -> ShownPair:
    ours, theirs = first[:LONGEST_COMPARED], second[:LONGEST_COMPARED]
    is_cut = len(first) > LONGEST_COMPARED or len(second) > LONGEST_COMPARED
    return ShownPair(name, ours, theirs, word_diff(ours, theirs) if first != second else (), is_cut)


def _text(value: Any) -> str:
    return label_text(value) or ""


def _said(result: Result) -> str:
    """What an answer says where it has no label: its text, its refusal, or its error."""
    if result.error is not None:
        return f"{result.error.code}: {result.error.message}"
    return result.text or refusal_of(result.body) or ""
