"""The problems of a request file: the first ones are shown, all are counted."""

from __future__ import annotations

from bisect import insort

from batchrun.records.words import printable

SHOWN_PROBLEMS = 20


class Problems:
    """The first problems of a file, by line, and how many there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: list[tuple[int, str]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int, problem: object) -> None:
        """Add one. The first pass adds its problems in order of lines, then the second pass does so again."""
        self._count += 1
        insort(self._first, (number, str(problem)))
        del self._first[SHOWN_PROBLEMS:]

    def first(self) -> tuple[list[str], int]:
        """The problems to show, as text, and the number of all problems."""
        return [printable(f"{self._name}:{number}: {problem}") for number, problem in self._first], self._count
