"""Tables in workbooks of Excel (.xlsx). Cells are text, as in a CSV. Needs the extra `excel`."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import IO, Any

from batchrun.datasets.delimited import check_header
from batchrun.datasets.row import Row
from batchrun.datasets.row_problems import RowProblems
from batchrun.errors import UsageError
from batchrun.requests.by_offset import by_offset


class ExcelTable:
    """The rows of one sheet, the first one without a name. Rows without a single cell are blank lines.

    `other_sheets`: those that are not read because no sheet was named.

    Raises `UsageError` if python-calamine is not installed or there is no such sheet, `InputError` for what is none.
    """

    def __init__(self, file: IO[bytes], sheet: str | None, problems: RowProblems) -> None:
        try:
            import python_calamine
        except ImportError:
            way_out = "pip install 'batchrun[excel]', or save the table as CSV"
            raise UsageError(f"workbooks need python-calamine; {way_out}") from None
        self._problems = problems
        try:
            book = python_calamine.CalamineWorkbook.from_filelike(by_offset(file))
            if sheet is not None and sheet not in book.sheet_names:
                raise UsageError(f'there is no sheet "{sheet}"; the sheets are: {", ".join(book.sheet_names)}')
            self.other_sheets = tuple(book.sheet_names[1:]) if sheet is None else ()
            found = book.get_sheet_by_name(sheet) if sheet is not None else book.get_sheet_by_index(0)
            self._rows: list[list[Any]] = found.to_python(skip_empty_area=False)
        except (python_calamine.CalamineError, ValueError) as error:
            problems.stop(1, None, f"it cannot be read as a workbook ({error}); is the file complete?")
        self._first = next((at for at, cells in enumerate(self._rows) if _has_something(cells)), None)
        if self._first is None:
            problems.stop(1, None, "it is empty; write a header and a row")
        self.columns = list(map(cell_text, self._rows[self._first]))
        check_header(self.columns, self._first + 1, problems)

    def rows(self) -> Iterator[Row]:
        """Each row with the number that it has in the sheet."""
        number, first = 0, (self._first or 0) + 1
        for line, cells in enumerate(self._rows[first:], first + 1):
            if _has_something(cells):
                number += 1
                yield Row(number, line, dict(zip(self.columns, map(cell_text, cells), strict=True)))


def _has_something(cells: list[Any]) -> bool:
    return any(cell != "" for cell in cells)


def cell_text(value: Any) -> str:
    """A cell as text: a number without a fraction as a whole one, a time as ISO 8601 has it."""
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    return str(value)
