"""A second result file beside the first: which rows differ, and how.

1. Rows are one where their ids are equal. Two rows differ where a field of theirs does, or what became of them; a field
   that only one of the files has makes no difference.
2. The rows that only the second file has stand behind those of the first.
3. Both files are compared as they were at that time (`forget`); `find` reads the second one as it is.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

from batchrun.datasets.fields import ANSWER, Column, columns_of
from batchrun.datasets.labels import Label, LabelReader, RowStatus
from batchrun.datasets.lookup import RecordFile, RecordsById
from batchrun.evaluation.asked import Asked
from batchrun.records.answer import Result
from batchrun.viewer.prompts import Requests


class Compared(StrEnum):
    """A row in both files, in the order in which rows are shown."""

    DIFFERS = "differs"
    ONLY_FIRST = "only in A"
    ONLY_SECOND = "only in B"
    SAME = "same"


@dataclass(frozen=True, slots=True)
class FieldPair:
    """A field of both files: its value in each, None where it has none."""

    name: str
    first: Any
    second: Any


class Second:
    """The second file. `requests`: its request file, if it is known.

    Raises `OSError` if it cannot be read; `open` raises as `RecordFile.places` does.
    """

    def __init__(self, results: Path, asked: Asked, requests: Requests | None) -> None:
        self.results, self.requests = results, requests
        encoded = None if asked.schema is None else orjson.dumps(asked.schema)
        self.labels = LabelReader(encoded, lambda text: None)
        self.fields: Sequence[Column] = columns_of(encoded)
        self.file = RecordFile(results)
        self._records: RecordsById | None = None
        self._found = array("Q")  # the offsets of the records whose ids the first file has

    def close(self) -> None:
        """Close the file, and its requests."""
        self.file.close()
        if self.requests is not None:
            self.requests.close()

    def open(self) -> RecordsById:
        """All ids of the file; it is read at the first call."""
        if self._records is None:
            self._records = RecordsById(self.file)
        return self._records

    def forget(self) -> None:
        """Nothing of the first file has been compared yet, and this one is read as it is now."""
        self._found = array("Q")
        if self._records is not None:
            self._records = RecordsById(self.file)  # whoever asks meanwhile has the one before

    def compare(self, result: Result, label: Label, fields: Sequence[Column]) -> tuple[Compared, RowStatus | None]:
        """How a row of the first file goes with this one, and what became of it here; it is noted as found."""
        records = self.open()
        other = records.find(result.custom_id)
        if other is None:
            return Compared.ONLY_FIRST, None
        self._found.append(records.offset(result.custom_id) or 0)
        their_label = self.labels.read(other)
        if label.status is not their_label.status:
            return Compared.DIFFERS, their_label.status
        pairs = field_pairs(label, fields, their_label, self.fields)
        differs = any(pair.first != pair.second for pair in pairs)
        return Compared.DIFFERS if differs else Compared.SAME, their_label.status

    def find(self, custom_id: str) -> Result | None:
        """The record of that id; None if there is none. Raises `StopError` if the file was changed since."""
        return self.open().find(custom_id)

    def left(self) -> Iterator[tuple[Result, int]]:
        """The records, and their offsets, whose ids the first file does not have. Of equal ids, the first counts."""
        records, found = self.open(), iter(sorted(self._found))
        next_found = next(found, None)
        with RecordFile(self.results) as file:  # `find` reads the other one meanwhile
            for result, offset in file.placed_results():
                while next_found is not None and next_found < offset:
                    next_found = next(found, None)
                if offset != next_found and records.offset(result.custom_id) == offset:
                    yield result, offset


def field_pairs(
    label: Label, fields: Sequence[Column], second_label: Label, second_fields: Sequence[Column]
) -> list[FieldPair]:
    """The fields that both have; the whole answers where there is none."""
    others = {field.name: field for field in second_fields}
    common = [field for field in fields if field.name in others]
    if not common:
        return [FieldPair(ANSWER, label.value, second_label.value)]
    return [
        FieldPair(field.name, field.value(label.value), others[field.name].value(second_label.value))
        for field in common
    ]
