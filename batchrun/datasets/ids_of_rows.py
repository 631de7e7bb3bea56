"""The ids of the requests that were made of a table, row by row: as `prepare` made them, wherever rows stand now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from batchrun.datasets.prepared import Prepared
from batchrun.datasets.row import Row
from batchrun.datasets.row_ids import RowKeys, with_repeats
from batchrun.datasets.tables import Format, Source, Table
from batchrun.datasets.template import FAILURES, Templates
from batchrun.errors import UsageError


def as_prepared(source: Source, prepared: Prepared) -> Source:
    """A table that is read as it was when it was prepared, but for what is said now."""
    data = prepared.data
    if source.path != data.name or source.format is not None:
        return source
    return Source(
        source.path, Format(data.format), source.encoding or data.encoding, source.delimiter or data.delimiter
    )


class RowIds:
    """The ids of the requests that were made of a row. Raises `UsageError` for a table that has other columns."""

    def __init__(self, table: Table, prepared: Prepared, notice: Callable[[str], None]) -> None:
        self._table = table
        self._prepared = prepared
        self._keys = RowKeys(prepared.columns)
        self._taken = 0
        self._limit = prepared.limit
        needed = [*prepared.columns, *([prepared.id_column] if prepared.id_column is not None else [])]
        if lacking := [name for name in needed if name not in table.columns]:
            raise UsageError(f'{table.name} has no column "{lacking[0]}", which the requests were made of')
        where = prepared.where
        self._holds = Templates(table.columns).condition("--where", where) if where is not None else None
        if table.digest() != prepared.data.hash:
            self._limit = None
            notice(f"{table.name} was changed since it was prepared: rows are found by their ids, wherever they stand")

    def of(self, row: Row, occurrence: Callable[[str], int]) -> Sequence[str]:
        """The ids of a row, one for each repeat; none if it was not asked. Problems are noted at the table.

        `occurrence`: counts how often an id was met so far, with this time.
        """
        if not self._is_taken(row):
            return ()
        custom_id = self._id(row)
        if custom_id is None:
            return ()
        count = occurrence(custom_id)
        if count > 1:
            if self._prepared.id_column is not None:
                told = f'the id "{custom_id}" is that of an earlier row, too; ids must be unique (--id)'
                self._table.problems.add(row.line_number, row.number, told)
                return ()
            custom_id = f"{custom_id}-{count}"
        return list(with_repeats(custom_id, self._prepared.repeat))

    def _is_taken(self, row: Row) -> bool:
        if self._limit is not None and self._taken == self._limit:
            return False
        is_taken = self._holds is None or self._meets(self._holds, row)
        self._taken += is_taken
        return is_taken

    def _meets(self, holds: Callable[[int, Mapping[str, Any]], bool], row: Row) -> bool:
        try:
            return holds(row.number, {name: row.cells.get(name) for name in self._table.columns})
        except FAILURES as error:
            self._table.problems.add(row.line_number, row.number, f"--where: {error}")
            return False

    def _id(self, row: Row) -> str | None:
        """The id that `prepare` gave to the first row with these cells; None for a row without an id."""
        if self._prepared.id_column is None:
            return self._keys.custom_id(self._keys.key(row.cells))
        given = row.cells.get(self._prepared.id_column)
        return None if given is None else str(given)
