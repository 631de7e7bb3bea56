"""Opens a table: CSV, TSV, JSON lines, a JSON array, Parquet, a workbook; compressed ones too, and standard input."""

from __future__ import annotations

import contextlib
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path, PurePath
from typing import IO, Any, Protocol

from batchrun.datasets.delimited import Delimited
from batchrun.datasets.excel import ExcelTable
from batchrun.datasets.json_values import JsonTable, elements_of, lines_of
from batchrun.datasets.parquet import ParquetTable
from batchrun.datasets.row import Row
from batchrun.datasets.row_problems import RowProblems
from batchrun.datasets.text import Text
from batchrun.errors import UsageError
from batchrun.requests.by_offset import by_offset
from batchrun.requests.opened import opened

_PACKED = (".gz", ".zst", ".zstd")
_OTHERS = {b"PK\x03\x04": ("a zip archive, perhaps a workbook", "xlsx"), b"PAR1": ("Parquet", "parquet")}
_SHEET = re.compile(r"(.+\.xlsx)#(.+)", re.IGNORECASE | re.DOTALL)
_PIECE = 1 << 20


class Format(StrEnum):
    """How a table is written."""

    CSV = "csv"
    TSV = "tsv"
    JSONL = "jsonl"
    JSON = "json"
    PARQUET = "parquet"
    XLSX = "xlsx"


TEXT_FORMATS = (Format.CSV, Format.TSV)
_ENDINGS = {f".{kind}": kind for kind in Format} | {".ndjson": Format.JSONL}


@dataclass(frozen=True, slots=True)
class Source:
    """Where a table is, and how it is written.

    `path`: a file, or `-` for standard input; `book.xlsx#Sheet` is one sheet. `format` None: by the ending of the name.
    `encoding` None: UTF-8, or UTF-16 by its BOM. `delimiter` None: a comma, and a tab for TSV.
    """

    path: str
    format: Format | None = None
    encoding: str | None = None
    delimiter: str | None = None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "standard input" if self.path == "-" else self.path

    @property
    def file(self) -> str:
        """The path without the sheet."""
        found = _SHEET.fullmatch(self.path)
        return found[1] if found else self.path

    @property
    def sheet(self) -> str | None:
        """The sheet that is named; None is the first one."""
        found = _SHEET.fullmatch(self.path)
        return found[2] if found else None


class Rows(Protocol):
    """A reader of one format."""

    columns: list[str]

    def rows(self) -> Iterator[Row]:
        """Each row from the first; those that cannot be used are noted as problems."""


class Table:
    """An open table. `columns`: their names, in order. `name`: what messages call it.

    `folder`: where relative paths in its cells begin. `schema`: that of a Parquet file, else None. `other_sheets`:
    those of a workbook that are not read because none was named.

    `problems`: what was found wrong with it so far; whoever uses a row may add to them.
    """

    def __init__(self, source: Source, kind: Format, file: IO[bytes], reader: Rows, problems: RowProblems) -> None:
        self.source = source
        self.format = kind
        self.name = source.name
        self.folder = Path() if source.path == "-" else Path(source.file).parent
        self.columns = reader.columns
        self.schema: Any = reader.schema if isinstance(reader, ParquetTable) else None
        self.other_sheets = reader.other_sheets if isinstance(reader, ExcelTable) else ()
        self.problems = problems
        self._file = file
        self._reader = reader

    def rows(self) -> Iterator[Row]:
        """The rows, in order; it may be called again. Rows that cannot be used are left out.

        After the last one, raises `InputError` with the first problems if there are any, or there is no row. Whoever
        stops before must call `problems.raise_any()`.
        """
        row = None
        for row in self._reader.rows():
            yield row
        self.problems.raise_any()
        if row is None:
            self.problems.stop(1, None, "no rows; write at least one")

    def read_by(self, reader: Rows) -> Table:
        """The same table with other columns or rows, which `reader` makes of its own."""
        return Table(self.source, self.format, self._file, reader, self.problems)

    def digest(self) -> str:
        """The hash of its content, decompressed, as 32 hex digits (BLAKE2b, 128 bits)."""
        content, found = by_offset(self._file), blake2b(digest_size=16)
        while piece := content.read(_PIECE):
            found.update(piece)
        return found.hexdigest()


@contextlib.contextmanager
def open_table(source: Source) -> Iterator[Table]:
    """Open a table and read its header.

    Raises `UsageError` where it cannot be opened or its format is not known, `InputError` for a header that cannot be
    used.
    """
    kind = _format_of(source)
    _check_options(source, kind)
    problems = RowProblems(source.name)
    with contextlib.ExitStack() as files:
        try:
            file, _ = opened(source.file, source.name, files)
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"cannot read {source.name}: {getattr(error, 'strerror', None) or error}") from error
        yield Table(source, kind, file, _reader(file, kind, source, problems), problems)


def _reader(file: IO[bytes], kind: Format, source: Source, problems: RowProblems) -> Rows:
    if kind == Format.PARQUET:
        return ParquetTable(file, problems)
    if kind == Format.XLSX:
        return ExcelTable(file, source.sheet, problems)
    text = Text(file, problems, source.encoding)
    for magic, (what, instead) in _OTHERS.items():
        if text.start.startswith(magic):
            problems.stop(1, None, f"{what}, not {kind}; pass --format {instead}")
    if kind in TEXT_FORMATS:
        usual = "\t" if kind == Format.TSV else ","
        return Delimited(text, _delimiter(source.delimiter) if source.delimiter else usual, problems)
    return JsonTable(text, lines_of if kind == Format.JSONL else elements_of, problems)


def _format_of(source: Source) -> Format:
    if source.format is not None:
        return source.format
    words = "|".join(Format)
    if source.path == "-":
        raise UsageError(f"standard input has no name that tells its format; pass --format {words}")
    name = PurePath(source.file)
    ending = PurePath(name.stem).suffix if name.suffix.lower() in _PACKED else name.suffix
    found = _ENDINGS.get(ending.lower())
    if found is None:
        raise UsageError(f"{source.path}: its ending does not tell its format; pass --format {words}")
    return found


def _check_options(source: Source, kind: Format) -> None:
    if source.delimiter is not None and kind not in TEXT_FORMATS:
        raise UsageError(f"--delimiter is for csv and tsv; {source.path} is {kind}")
    if source.encoding is not None and kind in (Format.PARQUET, Format.XLSX):
        raise UsageError(f"--encoding is for text; {source.path} is {kind}")


def _delimiter(text: str) -> str:
    """One character; `tab` and `\\t` are a tab."""
    mark = "\t" if text in ("tab", "\\t") else text
    if len(mark) != 1 or mark in '"\r\n\0':
        raise UsageError(f"--delimiter {text}: write one character, such as ';', or tab")
    return mark
