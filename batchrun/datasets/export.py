"""`batchrun export`: the answers of a result file as a table, in the order of the requests.

1. With the request file, each request has a row, also one without a record, and its schema makes the columns.
2. Without it, each record has a row, by the number of its line; there are no columns but the text.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from batchrun.datasets.fields import Column, Kind, columns_of
from batchrun.datasets.labels import LabelReader
from batchrun.datasets.lookup import RecordFile, RecordsById, in_line_order
from batchrun.datasets.output import Counts, NewColumns, Wanted, refuse_overwriting
from batchrun.datasets.requests_of import find_requests, note_changed, sent_as
from batchrun.datasets.writers import check_ending, writing
from batchrun.records.answer import Result
from batchrun.records.request import Overrides, RequestLine
from batchrun.records.words import counted
from batchrun.requests.reader import RequestFile
from batchrun.validation.schema import wanted_schema

IDS = (Column("id"), Column("line", Kind.INTEGER))
TEXT = Column("text")


class _Line(NamedTuple):
    """One row: a request and its result, and the schema that its answer should fit."""

    custom_id: str
    number: int
    result: Result | None
    schema: bytes | None


class _Asked:
    """What the requests ask for: the reader of each schema, and the columns of all of them."""

    def __init__(self, wanted: Wanted) -> None:
        self._notice = wanted.notice
        self.readers: dict[bytes | None, LabelReader] = {}
        self.columns: dict[str, Column] = {}

    def add(self, schema: bytes | None) -> None:
        """Note the schema of a request."""
        if schema in self.readers:
            return
        self.readers[schema] = LabelReader(schema, self._notice)
        for column in columns_of(schema) if schema is not None else ():
            if self.columns.setdefault(column.name, column).kind is not column.kind:
                self.columns[column.name] = Column(column.name, Kind.JSON, column.path)

    def look(self, line: RequestLine) -> None:
        """Note the schema of a line of the request file."""
        self.add(wanted_schema(line.url, line.body))


def export(results: Path, requests: Path | None, wanted: Wanted) -> Counts:
    """Write the table; returns how its rows went. `requests` None: the file that the run log names.

    Raises `UsageError` for files that cannot be read or written, `InputError` for bad requests, `ResultFileError` for
    records of another version.
    """
    check_ending(wanted.out)
    found = find_requests(results, requests)
    refuse_overwriting(wanted.out, results, [("the request file", found)] if found is not None else [])
    asked, counts = _Asked(wanted), Counts()
    with contextlib.ExitStack() as files:
        file = files.enter_context(RecordFile(results))
        if found is None:
            wanted.notice(
                "the request file is not known, so there are no fields, nor rows without a record; --requests names it"
            )
            asked.add(None)
            lines = _recorded(file)
        else:
            sent = sent_as(results)
            overrides = replace(sent or Overrides(), model=(sent and sent.model) or "any")  # nothing is sent
            opened = files.enter_context(RequestFile(str(found), overrides))
            opened.check(asked.look)
            lines = _requested(opened, file, wanted, is_as_sent=sent is not None)
        columns = tuple(asked.columns.values())
        new = NewColumns(IDS, (*columns, TEXT), wanted)
        table = files.enter_context(writing(wanted.out, IDS, new.columns))
        for custom_id, number, result, schema in lines:
            label = asked.readers[schema].read(result)
            told = [column.value(label.value) for column in columns]
            text = None if result is None else result.text
            table.write((custom_id, number), new.values([*told, text], label, result, custom_id))
            counts.add(label)
        if file.damaged:
            wanted.notice(f"{counted(file.damaged, 'damaged line')} of {results} left out")
    return counts


def _recorded(file: RecordFile) -> Iterator[_Line]:
    """A row for each record."""
    for result in map(file.at, in_line_order(file)):
        yield _Line(result.custom_id, result.run.line, result, None)


def _requested(requests: RequestFile, file: RecordFile, wanted: Wanted, *, is_as_sent: bool) -> Iterator[_Line]:
    """A row for each request. `is_as_sent`: the requests are read with the changes with which they were sent."""
    records, found, changed = RecordsById(file), 0, 0
    for line in requests.requests():
        result = records.find(line.custom_id)
        if result is not None:
            found += 1
            changed += is_as_sent and result.run.body_hash != line.body_hash
        yield _Line(line.custom_id, line.line_number, result, wanted_schema(line.url, line.body))
    if left := len(records) - found:
        wanted.notice(f"{counted(left, 'record')} of no request in {requests.name} left out")
    note_changed(changed, wanted.notice)
