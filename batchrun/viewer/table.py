"""The table of which the requests were made: its cells beside each row of the results, found as `join` finds them.

1. The cells go to a temporary database, by id: a table need not fit into memory.
2. They are read a few rows at a time, while nothing else is to be done. Until all are there, a row may have none.
3. What is wrong with the table is told, and the rows that can be used are shown.
"""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import orjson

from batchrun.datasets.ids_of_rows import RowIds, as_prepared
from batchrun.datasets.prepared import prepared_path, read_prepared
from batchrun.datasets.tables import Source, open_table
from batchrun.errors import BatchrunError, UsageError
from batchrun.records.index import HashTable, hash64

_STEP_ROWS = 500
LONGEST_CELL = 100_000
"""Characters that are kept of a cell."""


class DataTable:
    """The table at a path, beside the results of some requests. `columns`: its names.

    `not_asked`: those that no request has; `problem`: what is wrong with it.

    Raises `UsageError` or `InputError` where it cannot be opened, or is none that the requests were made of.
    """

    def __init__(self, path: Path, requests: Path | None, notice: Callable[[str], None]) -> None:
        if requests is None:
            raise UsageError("--data needs the request file; name it with --requests FILE")
        prepared = read_prepared(requests)
        if prepared is None:
            raise UsageError(
                f"{prepared_path(requests)} is not there: it tells which row has which id; prepare writes it"
            )
        self._files = contextlib.ExitStack()
        self.problem = ""
        self.is_read = False
        self._counts = HashTable()
        self._cells = sqlite3.connect("", isolation_level=None, check_same_thread=False)  # on disk, without a name
        self._files.callback(self._cells.close)
        self._cells.execute("PRAGMA journal_mode = OFF")
        self._cells.execute("CREATE TABLE cells (id TEXT PRIMARY KEY, cells BLOB) WITHOUT ROWID")
        try:
            self._table = self._files.enter_context(open_table(as_prepared(Source(str(path)), prepared)))
            self._ids = RowIds(self._table, prepared, notice)
        except BaseException:
            self._files.close()
            raise
        self.columns: Sequence[str] = self._table.columns
        self.not_asked = frozenset(self.columns) - {*prepared.columns, prepared.id_column}
        self._left = self._rows()

    def close(self) -> None:
        """Close the table."""
        self._files.close()

    def read_on(self) -> bool:
        """Read some more rows; False where all are there."""
        if self.is_read:
            return False
        try:
            next(self._left)
        except StopIteration:
            self.is_read = True
        except BatchrunError as error:
            self.is_read, self.problem = True, str(error)
        return True

    def cells(self, custom_id: str) -> list[str] | None:
        """The cells of the row of a request, in words, by column; None where there is none, or it is not read yet."""
        found = self._cells.execute("SELECT cells FROM cells WHERE id = ?", (custom_id,)).fetchone()
        return None if found is None else orjson.loads(found[0])

    def _rows(self) -> Iterator[None]:
        made = list[tuple[str, bytes]]()
        try:
            for row in self._table.rows():
                cells = orjson.dumps([_in_words(row.cells.get(name)) for name in self.columns])
                made += [(custom_id, cells) for custom_id in self._ids.of(row, self._occurrence)]
                if len(made) >= _STEP_ROWS:
                    self._keep(made)
                    made = []
                    yield
        except BatchrunError:  # what is wrong is told after the last row
            self._keep(made)
            raise
        self._keep(made)

    def _keep(self, made: Sequence[tuple[str, bytes]]) -> None:
        self._cells.execute("BEGIN")
        self._cells.executemany("INSERT OR IGNORE INTO cells VALUES (?, ?)", made)
        self._cells.execute("COMMIT")

    def _occurrence(self, custom_id: str) -> int:
        key = hash64(custom_id)
        count = (self._counts.get(key) or 0) + 1
        self._counts.set(key, count)
        return count


def _in_words(cell: Any) -> str:
    if cell is None:
        return ""
    text = cell if isinstance(cell, str) else json.dumps(cell, ensure_ascii=False, default=str)
    return text[:LONGEST_CELL].encode(errors="replace").decode()
