"""`batchrun join`: the rows of a table with the labels that a result file has for them.

1. The rows stay as they are and where they are: none is dropped, shifted or made up.
2. A row's result is found by its id, which is made as `prepare` made it: so rows may have been sorted, inserted or
   given further columns since.
3. `--where` counts as it did then. `--limit` counts while the table is as it was: else rows may have moved beyond it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from batchrun.datasets.changed import ChangedAnswers
from batchrun.datasets.corrections import Decisions, corrected, read_corrections
from batchrun.datasets.fields import Column, columns_of
from batchrun.datasets.ids_of_rows import RowIds, as_prepared
from batchrun.datasets.labels import MISSING, Label, LabelReader
from batchrun.datasets.lookup import RecordFile, RecordsById
from batchrun.datasets.output import Counts, NewColumns, Wanted, check_outputs
from batchrun.datasets.prepared import Prepared, prepared_path, read_prepared
from batchrun.datasets.requests_of import find_requests, note_changed, sent_as
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Source, Table, open_table
from batchrun.datasets.votes import fold, vote_columns
from batchrun.datasets.writers import TableWriter, writing
from batchrun.errors import UsageError
from batchrun.records.answer import Result
from batchrun.records.request import Overrides
from batchrun.records.words import counted

_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


@dataclass(frozen=True, slots=True)
class Joined:
    """What `join` reads, and what else it writes.

    `requests`: the request file, if the run log does not tell it. `failures`: a table of the rows that are not ok.
    `votes`: whether the answers to the repeats of a row are folded into one. `corrections`: what people decided,
    which counts more than the answers.
    """

    source: Source
    results: Path
    requests: Path | None = None
    failures: Path | None = None
    votes: bool = False
    corrections: Path | None = None


def join(joined: Joined, wanted: Wanted) -> Counts:
    """Write the table with its labels; returns how the rows went.

    Raises `UsageError` for files that do not go together, or cannot be read or written; `InputError` for a table that
    cannot be read, `ResultFileError` for records of another version.
    """
    requests = _requests(joined)
    prepared = read_prepared(requests)
    if prepared is None:
        raise UsageError(f"{prepared_path(requests)} is not there: it tells which row has which id; prepare writes it")
    if prepared.repeat > 1 and not joined.votes:
        raise UsageError(f"each row was asked {prepared.repeat} times; fold the answers with --votes")
    _check_outputs(joined, wanted, requests)
    source = as_prepared(joined.source, prepared)
    with contextlib.ExitStack() as files:
        table = files.enter_context(open_table(source))
        file = files.enter_context(RecordFile(joined.results))
        work = _Work(table, prepared, wanted, votes=joined.votes)
        if joined.corrections is not None:
            work.correct(joined.corrections)
        work.compare(requests, sent_as(joined.results))
        given = [Column(name) for name in table.columns]
        out = files.enter_context(writing(wanted.out, given, work.new.columns, table.schema))
        failed = None
        if joined.failures is not None:
            failed = files.enter_context(writing(joined.failures, given, (), table.schema))
        records = RecordsById(file)
        counts = work.write(records, out, failed)
        if file.damaged:
            wanted.notice(f"{counted(file.damaged, 'damaged line')} of {joined.results} left out")
    return counts


def _requests(joined: Joined) -> Path:
    found = find_requests(joined.results, joined.requests)
    if found is None:
        raise UsageError(f"the request file of {joined.results} is not known; name it with --requests FILE")
    return found


def _check_outputs(joined: Joined, wanted: Wanted, requests: Path) -> None:
    read = [("the request file", requests), ("what was prepared", prepared_path(requests))]
    if joined.corrections is not None:
        read.append(("the file of corrections", joined.corrections))
    if joined.source.path != "-":
        read.append(("the table that is read", Path(joined.source.file)))
    check_outputs(wanted.out, joined.failures, joined.results, read)


class _Work:
    """The way of each row: its ids, its results, its label, out. `new` are the columns that are added."""

    def __init__(self, table: Table, prepared: Prepared, wanted: Wanted, *, votes: bool) -> None:
        schema = (prepared.format or {}).get("schema")
        encoded = orjson.dumps(schema) if schema is not None else None
        self._table = table
        self._notice = wanted.notice
        self._reader = LabelReader(encoded, wanted.notice)
        self._fields = columns_of(encoded)
        self._votes = votes
        self._repeat = prepared.repeat
        self.new = NewColumns([Column(name) for name in table.columns], self._told(), wanted)
        self._ids = RowIds(table, prepared, wanted.notice)
        self._changed: ChangedAnswers | None = None
        self._decisions = Decisions({})

    def correct(self, path: Path) -> None:
        """Take decisions on labels. Raises `UsageError` where they cannot be read, or there are votes."""
        if self._votes:
            raise UsageError("--corrections says what is right in one answer; it does not go with --votes")
        self._decisions = read_corrections(path)
        if self._decisions.damaged:
            self._notice(f"{counted(self._decisions.damaged, 'damaged line')} of {path} left out")

    def compare(self, requests: Path, sent: Overrides | None) -> None:
        """Count the answers to requests that were changed since, if it is known how they were sent."""
        if sent is not None:
            self._changed = ChangedAnswers(requests, sent)

    def _told(self) -> Sequence[Column]:
        return vote_columns(self._fields) if self._votes else self._fields

    def write(self, records: RecordsById, out: TableWriter, failed: TableWriter | None) -> Counts:
        """Write every row."""
        counts, found = Counts(), 0
        for row in self._table.rows():
            ids = self._ids.of(row, records.occurrence)
            results = list(map(records.find, ids))
            found += len(results) - results.count(None)
            if self._changed is not None:
                self._changed.look(ids, results)
            label, values = self._label(results, ids)
            cells = _cells(row, self._table.columns)
            out.write(cells, values, row.source)
            counts.add(label)
            if failed is not None and not label.is_ok:
                failed.write(cells, (), row.source)
        if left := len(records) - found:
            self._notice(f"{counted(left, 'record')} of no row of {self._table.name} left out")
        note_changed(self._changed.count if self._changed is not None else 0, self._notice)
        return counts

    def _label(self, results: Sequence[Result | None], ids: Sequence[str]) -> tuple[Label, list[Any]]:
        """The label of a row, and the values of its new columns. A row that was not asked has no results."""
        if self._votes:
            labels = [self._reader.read(result) for result in results] or [MISSING] * self._repeat
            label, told = fold(labels, self._fields)
            return label, self.new.folded(told, label, results, ids)
        result, custom_id = (results[0], ids[0]) if ids else (None, None)
        label = self._reader.read(result)
        if custom_id is not None:
            label = corrected(label, self._decisions.of(custom_id), self._fields)
        told = [field.value(label.value) for field in self._fields]
        return label, self.new.values(told, label, result, custom_id)


def _cells(row: Row, columns: Sequence[str]) -> Sequence[Any]:
    """The cells of a row in the order of the columns; lists and objects as they are written, if they are JSON."""
    if not row.source:
        return list(row.cells.values()) if len(row.cells) == len(columns) else [row.cells.get(name) for name in columns]
    written: dict[str, Raw] | None = None
    cells = [row.cells.get(name) for name in columns]
    for place, cell in enumerate(cells):
        if type(cell) in (list, dict):
            written = written or _decode_members(row.source)
            cells[place] = written.get(columns[place], cell)
    return cells
