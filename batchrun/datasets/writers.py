"""Writes tables: CSV, TSV, JSON lines, Parquet; by the ending of the name, and whole or not at all.

1. The columns of the table come first, then new ones. Cells of text go out as they came in.
2. A row that is a JSON object goes into JSON lines as it is written, with the new members at its end.
"""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

from batchrun.datasets.cells import cell_text, json_text
from batchrun.datasets.fields import Column, Kind
from batchrun.errors import UsageError
from batchrun.records.rawjson import encode_string, one_line
from batchrun.results.files import writing_whole

ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet")
_ROWS_A_GROUP = 10_000


class TableWriter(Protocol):
    """Writes rows: the cells of the table, then the values of the new columns.

    `source` is the row as a JSON object, if it is one.
    """

    def write(self, cells: Sequence[Any], values: Sequence[Any], source: str = "") -> None:
        """Write one row."""

    def finish(self) -> None:
        """Write what is left."""

    def drop(self) -> None:
        """Give up, after an error."""


def check_ending(path: Path) -> None:
    """Raise `UsageError` if the ending of the name is of no format that can be written."""
    if path.suffix.lower() not in ENDINGS:
        raise UsageError(f"{path}: its ending does not tell its format; write one of {', '.join(ENDINGS)}")


@contextlib.contextmanager
def writing(path: Path, given: Sequence[Column], new: Sequence[Column], schema: Any = None) -> Iterator[TableWriter]:
    """Write a table: the columns that were given, and new ones. It is there once the block has ended without an error.

    `schema`: what the columns that were given are in Parquet; None goes by their kinds.

    Raises `UsageError` for another ending, or if the file cannot be written.
    """
    check_ending(path)
    try:
        with writing_whole(path) as file:
            writer = _writer(path, file, given, new, schema)
            try:
                yield writer
                writer.finish()
            except BaseException:
                writer.drop()
                raise
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from error


def _writer(path: Path, file: IO[bytes], given: Sequence[Column], new: Sequence[Column], schema: Any) -> TableWriter:
    match path.suffix.lower():
        case ".jsonl":
            return _JsonLines(file, given, new)
        case ".parquet":
            return _Parquet(file, (*given, *new), schema)
        case ending:
            return _Delimited(file, (*given, *new), "\t" if ending == ".tsv" else ",")


class _Delimited:
    """CSV and TSV in UTF-8. Half a surrogate pair becomes an escape."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column], delimiter: str) -> None:
        self._text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="")
        self._write_row = csv.writer(_Lines(self._text), delimiter=delimiter, lineterminator="\r\n").writerow
        self._write_row([column.name for column in columns])

    def write(self, cells: Sequence[Any], values: Sequence[Any], source: str = "") -> None:
        self._write_row([*map(cell_text, cells), *map(cell_text, values)])

    def finish(self) -> None:
        self._text.detach()

    def drop(self) -> None:
        self._text.detach()


class _Lines:
    """Takes the lines of a CSV with CRLF at their ends, and writes them with LF.

    Before Python 3.12, `csv` quotes a CR in a cell only where it ends lines, and readers would end the row there.
    """

    def __init__(self, text: io.TextIOWrapper) -> None:
        self._write = text.write

    def write(self, line: str) -> int:
        return self._write(f"{line[:-2]}\n")


class _JsonLines:
    """One object a line."""

    def __init__(self, file: IO[bytes], given: Sequence[Column], new: Sequence[Column]) -> None:
        self._write = file.write
        self._names = [encode_string(column.name) for column in given]
        self._new_names = [encode_string(column.name) for column in new]

    def write(self, cells: Sequence[Any], values: Sequence[Any], source: str = "") -> None:
        new = _members(self._new_names, values)
        if source:
            start = one_line(source.strip().encode(errors="surrogatepass"))[:-1].rstrip()
        else:
            start = b"{" + _members(self._names, cells)
        comma = b"" if start.endswith(b"{") or not new else b","
        self._write(b"%b%b%b}\n" % (start, comma, new))

    def finish(self) -> None:
        pass

    def drop(self) -> None:
        pass


def _members(names: Sequence[bytes], values: Sequence[Any]) -> bytes:
    return b",".join([b"%b:%b" % (name, json_text(value)) for name, value in zip(names, values, strict=True)])


class _Parquet:
    """Parquet, each column by what it is. Raises `UsageError` if pyarrow is not installed."""

    def __init__(self, file: IO[bytes], columns: Sequence[Column], schema: Any) -> None:
        try:
            import pyarrow
            import pyarrow.parquet
        except ImportError:
            raise UsageError("Parquet needs pyarrow; pip install 'batchrun[parquet]', or write .csv") from None
        text = pyarrow.string()
        types = {Kind.INTEGER: pyarrow.int64(), Kind.NUMBER: pyarrow.float64(), Kind.BOOLEAN: pyarrow.bool_()}
        self._arrow = pyarrow
        known = list(schema) if schema is not None else []
        fields = [pyarrow.field(column.name, types.get(column.kind, text)) for column in columns[len(known) :]]
        self._schema = pyarrow.schema([*known, *fields])
        self._file = pyarrow.parquet.ParquetWriter(file, self._schema)
        self._convert = [_same for _ in known] + [_CONVERSIONS[column.kind] for column in columns[len(known) :]]
        self._rows: list[list[Any]] = []

    def write(self, cells: Sequence[Any], values: Sequence[Any], source: str = "") -> None:
        self._rows.append([*cells, *values])
        if len(self._rows) >= _ROWS_A_GROUP:
            self._write_group()

    def finish(self) -> None:
        self._write_group()
        self._file.close()

    def drop(self) -> None:
        with contextlib.suppress(OSError):
            self._file.close()  # else it would be closed after its file is

    def _write_group(self) -> None:
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = []
        for field, convert, column in zip(self._schema, self._convert, columns, strict=True):
            try:
                arrays.append(self._arrow.array(list(map(convert, column)), field.type))
            except (ValueError, TypeError, OverflowError):
                what = f"column {field.name} has a value that {field.type} of Parquet cannot hold"
                raise UsageError(f"{what}; write .jsonl or .csv") from None
        self._file.write_batch(self._arrow.record_batch(arrays, self._schema))
        self._rows.clear()


def _text_or_none(value: Any) -> str | None:
    """Null stays null; half a surrogate pair becomes an escape."""
    return None if value is None else cell_text(value).encode(errors="backslashreplace").decode()


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _same(value: Any) -> Any:
    return value


_CONVERSIONS: dict[Kind, Callable[[Any], Any]] = {
    Kind.TEXT: _text_or_none,
    Kind.JSON: _text_or_none,
    Kind.INTEGER: _whole,
    Kind.NUMBER: _number,
    Kind.BOOLEAN: _same,
}
