"""Tables of text: CSV and TSV. Every cell is text as it is written; nothing is guessed, nothing is mended."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from typing import TextIO

from batchrun.datasets.row import Row
from batchrun.datasets.row_problems import RowProblems
from batchrun.datasets.text import Text

LONGEST_CELL = 64 << 20  # characters; Python's own bound of 131,072 is too low for texts
_OTHER_DELIMITERS = {";": "';'", "\t": "tab"}
_NUL = "a NUL character; was the file cut off by a crash?"


class Delimited:
    """The rows of a CSV or TSV. Raises `InputError` for a header that cannot be used."""

    def __init__(self, text: Text, delimiter: str, problems: RowProblems) -> None:
        self._text = text
        self._delimiter = delimiter
        self._problems = problems
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))  # it is one for the whole process
        with text.lines("") as lines:
            self.columns = self._header(lines)

    def _header(self, lines: TextIO) -> list[str]:
        records = self._records(lines, is_header=True)
        line, names = next((record for record in records if record[1]), (1, []))
        if not names:
            self._problems.stop(1, None, "it is empty; write a header and a row")
        check_header(names, line, self._problems)
        others = [mark for mark in _OTHER_DELIMITERS if mark in names[0] and mark != self._delimiter]
        if len(names) == 1 and others:
            mark = _OTHER_DELIMITERS[others[0]]
            self._problems.stop(line, None, f"one column, and its name holds {mark}; pass --delimiter {mark}")
        return names

    def rows(self) -> Iterator[Row]:
        """Each row; those that cannot be used are noted as problems."""
        columns, width, number = self.columns, len(self.columns), 0
        with self._text.lines("") as lines:
            records = self._records(lines)
            next(cells for _, cells in records if cells)  # the header
            for line, cells in records:
                if len(cells) != width:
                    if len(cells) <= 1 and not "".join(cells).strip():
                        continue  # a blank line
                    number += 1
                    self._problems.add(line, number, self._why_ragged(cells))
                    continue
                number += 1
                if "\0" in "".join(cells):
                    self._problems.add(line, number, _NUL)
                    continue
                yield Row(number, line, dict(zip(columns, cells, strict=True)))

    def _why_ragged(self, cells: Sequence[str]) -> str:
        count, width = len(cells), len(self.columns)
        told = f"{count} cell{'s' if count > 1 else ''}, and the header has {width}"
        if count > width:
            return f"{told}; quote a cell that holds the delimiter or a line break"
        return f"{told}; write the missing ones, if only as empty cells"

    def _records(self, lines: TextIO, *, is_header: bool = False) -> Iterator[tuple[int, list[str]]]:
        """The line where a record begins, and its cells."""
        reader = csv.reader(lines, delimiter=self._delimiter, strict=True)
        line = row = 0
        try:
            for cells in reader:
                yield line + 1, cells
                line = reader.line_num
                row += bool(cells)
        except csv.Error as error:
            self._problems.stop(line + 1, None if is_header or not row else row, _why_broken(str(error)))


def _why_broken(why: str) -> str:
    if "unexpected end of data" in why or "field larger" in why:
        return "the quote that opens in this row is never closed; close it, or write a quote inside a cell twice"
    if "expected after" in why:
        return "text after a closing quote; write a quote inside a cell twice"
    return f"{why}; write it as CSV"


def check_header(names: Sequence[str], line: int, problems: RowProblems) -> None:
    """Raise `InputError` for names of columns that are empty, twice the same, or hold a NUL."""
    seen = dict[str, int]()
    for place, name in enumerate(names, 1):
        if not name.strip():
            problems.add(line, None, f"column {place} has no name; give it one, or take the column out")
        elif "\0" in name:
            problems.add(line, None, f"column {place}: {_NUL}")
        elif name in seen:
            problems.add(line, None, f'columns {seen[name]} and {place} are both named "{name}"; rename one')
        seen.setdefault(name, place)
    problems.raise_any()
