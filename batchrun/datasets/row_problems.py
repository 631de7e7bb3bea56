"""What is wrong with a table: the first problems are shown, with line and row, all are counted."""

from __future__ import annotations

from typing import NoReturn

from batchrun.errors import InputError
from batchrun.records.words import printable
from batchrun.requests.problems import SHOWN_PROBLEMS


class RowProblems:
    """The problems of one table, which messages call `name`, in the order in which they were found."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: list[str] = []
        self._count = 0

    def add(self, line_number: int, row: int | None, problem: str) -> None:
        """Add one: `data.csv:17 (row 16): …`. Without a row it is about the line alone, as in the header."""
        self._count += 1
        if len(self._first) < SHOWN_PROBLEMS:
            where = f"{self._name}:{line_number}" + (f" (row {row:,})" if row is not None else "")
            self._first.append(printable(f"{where}: {problem}"))

    def raise_any(self) -> None:
        """Raise `InputError` with the first problems if there are any."""
        if self._count:
            raise InputError(self._first, self._count)

    def stop(self, line_number: int, row: int | None, problem: str) -> NoReturn:
        """Add one after which nothing can be read, and raise `InputError` with the first problems."""
        self.add(line_number, row, problem)
        raise InputError(self._first, self._count)
