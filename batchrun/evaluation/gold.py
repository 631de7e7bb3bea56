"""Gold: the rows of a table, by the id of the request that asked about them. Each distinct cell is kept once."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from datetime import date, time
from decimal import Decimal
from typing import Any

import orjson

from batchrun.datasets.cells import cell_text
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Table
from batchrun.errors import UsageError
from batchrun.evaluation.as_text import as_text
from batchrun.evaluation.asked import Asked, IdColumn, IdOfCells
from batchrun.evaluation.scorers import NONE_RIGHT, Scorer
from batchrun.records.index import HashTable, hash64, hash64_all

CUSTOM_ID = "custom_id"
NO_CELL = -1
REPEAT = re.compile(r"(.*)#([1-9][0-9]{0,5})", re.DOTALL)


def _is_empty(cell: Any) -> bool:
    """Null, a text of blanks, and what is no number where others are (NaN)."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)


def _in_json(cell: Any) -> Any:
    """A cell as an answer in JSON would say it: Parquet has dates, decimal numbers and bytes, also in lists."""
    if isinstance(cell, Decimal):
        return int(cell) if cell.is_finite() and cell == cell.to_integral_value() else float(cell)
    if isinstance(cell, list):
        return list(map(_in_json, cell))
    if isinstance(cell, dict):
        return {name: _in_json(one) for name, one in cell.items()}
    return cell_text(cell) if isinstance(cell, (date, time, bytes)) else cell


def _as_key(cell: Any) -> bytes | str:
    try:
        return orjson.dumps(cell, default=str)
    except TypeError:  # a whole number beyond 64 bits, or lists in lists
        return repr(cell)


class Column:
    """One column: a small number for the cell of each row, and the values that the numbers stand for.

    `read` makes a value of a cell, or raises `ValueError`. An empty cell, null and a missing key are `NO_CELL`, and a
    cell of which it makes None.
    """

    def __init__(self, name: str, read: Callable[[Any], Any]) -> None:
        self.name = name
        self.codes = array("i")
        self.values: list[Any] = []
        self._read = read
        self._known: dict[Any, int] = {}

    def append(self, cell: Any) -> None:
        """Add the cell of the next row. Raises `ValueError` in words for one that cannot be read; it counts as none."""
        if not isinstance(cell, str):
            cell = _in_json(cell)
        if _is_empty(cell):
            self.codes.append(NO_CELL)
            return
        known = cell if isinstance(cell, str) else (type(cell), _as_key(cell))
        code = self._known.get(known, NO_CELL)
        if code == NO_CELL:
            try:
                value = self._read(cell)
            except ValueError:
                self.codes.append(NO_CELL)
                raise
            if value is not None:
                self.values.append(value)
                code = self._known[known] = len(self.values) - 1
        self.codes.append(code)

    def at(self, row: int) -> Any:
        """The value of a row, None where it has none."""
        code = self.codes[row]
        return None if code == NO_CELL else self.values[code]


def gold_column(name: str, scorer: Scorer) -> Column:
    """A column of gold: each value is a tuple of the answers that are right. A list that names none is no gold."""

    def read(cell: Any) -> tuple[Any, ...] | None:
        if cell is NONE_RIGHT:
            return ()
        if scorer.takes_many and isinstance(cell, list):
            return tuple(scorer.read_gold(one) for one in cell if not _is_empty(one)) or None
        return (scorer.read_gold(cell),)

    return Column(name, read)


def group_column(name: str) -> Column:
    """A column by which rows are grouped."""
    return Column(name, as_text)


def ids_of(table: Table, told: str | None, asked: Asked) -> IdColumn | IdOfCells:
    """How the ids of rows are told: by the column that was named, `custom_id`, or what was prepared.

    Where the table is the one that was prepared, as that was; else a column `custom_id` goes first.

    Raises `UsageError` where none of these can serve.
    """
    columns, prepared = table.columns, asked.prepared
    if told is not None and told not in columns:
        raise UsageError(f"{table.name} has no column {told!r}; its columns are {', '.join(columns)}")
    if told is not None:
        return IdColumn(told)
    if CUSTOM_ID in columns and (prepared is None or prepared.data.hash != table.digest()):
        return IdColumn(CUSTOM_ID)
    if prepared is not None and prepared.id_column is not None and prepared.id_column in columns:
        return IdColumn(prepared.id_column)
    if prepared is not None and prepared.id_column is None and set(prepared.columns) <= set(columns):
        return IdOfCells(prepared)
    raise UsageError(
        f"{table.name} has no column {CUSTOM_ID}; pass --key COLUMN, the one that holds the custom_id of each request"
    )


class _Ids:
    """The ids of rows, one after another in one block of memory."""

    def __init__(self) -> None:
        self._text, self._ends = bytearray(), array("Q", [0])

    def append(self, custom_id: str) -> None:
        self._text += custom_id.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._text))

    def at(self, row: int) -> str:
        return self._text[self._ends[row] : self._ends[row + 1]].decode("utf-8", "surrogatepass")


class Gold:
    """All rows of a gold table, by id.

    `expected`: about how many rows there are; 0 where nobody knows. `keep_ids`: `id_of` can tell the id of a row.

    Reading raises `InputError` where rows cannot be used: no id, an id twice, a cell that a scorer cannot read.
    """

    def __init__(
        self,
        table: Table,
        ids: IdColumn | IdOfCells,
        columns: Iterable[Column],
        expected: int = 0,
        *,
        keep_ids: bool = False,
    ) -> None:
        self._ids = _Ids() if keep_ids else None
        self._rows = HashTable.of_size(expected)
        self._count = 0
        wanted = list({id(column): column for column in columns}.values())
        for row in table.rows():
            self._add_id(table, row, ids)
            for column in wanted:
                try:
                    column.append(row.cells.get(column.name))
                except ValueError as error:
                    table.problems.add(row.line_number, row.number, f"{column.name}: {error}")
            self._count += 1
        table.problems.raise_any()

    def __len__(self) -> int:
        return self._count

    def _add_id(self, table: Table, row: Row, ids: IdColumn | IdOfCells) -> None:
        try:
            custom_id = ids.of(row)
        except ValueError as error:
            table.problems.add(row.line_number, row.number, str(error))
            return
        if self._ids is not None:
            self._ids.append(custom_id)
        first = self._rows.setdefault(hash64(custom_id), self._count)
        if first != self._count:
            told = f"{ids.name} {custom_id[:60]!r} is that of row {first + 1:,}, too"
            table.problems.add(row.line_number, row.number, told)

    def forget_ids(self) -> None:
        """Free the memory of the ids; no row is found any more."""
        self._rows = HashTable()

    def id_of(self, row: int, repeat: int = 0) -> str:
        """The id of the request that asks about a row, or of a repeat of it; "" where ids are not kept."""
        if self._ids is None:
            return ""
        return f"{self._ids.at(row)}#{repeat}" if repeat else self._ids.at(row)

    def find(self, custom_id: str) -> tuple[int | None, int]:
        """The row, from 0, of a request, None without gold; and which repeat it is, from 1, or 0 where it is none."""
        return self.find_all([custom_id])[0]

    def find_all(self, custom_ids: Sequence[str]) -> list[tuple[int | None, int]]:
        """The same of many requests, faster than one by one."""
        rows = self._rows.get_all(hash64_all(custom_ids))
        return [
            self._of_repeat(custom_id) if row is None else (row, 0)
            for custom_id, row in zip(custom_ids, rows, strict=True)
        ]

    def _of_repeat(self, custom_id: str) -> tuple[int | None, int]:
        repeat = REPEAT.fullmatch(custom_id)
        row = None if repeat is None else self._rows.get(hash64(repeat[1]))
        return (None, 0) if repeat is None or row is None else (row, int(repeat[2]))
