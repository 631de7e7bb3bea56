"""The source of a run's lines. It is asynchronous, because the next line may depend on earlier answers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from typing import Protocol

from batchrun.records.request import RequestLine


class LineSource(Protocol):
    """Gives the lines of a run, one after the other."""

    async def next(self) -> RequestLine | None:
        """The next line; None if there are no more. Raises `StopError` if the request file has changed."""

    def again(self, numbers: Sequence[Container[int]]) -> None:
        """After the last line: give those lines again whose numbers are in one of the sets."""


class FileSource:
    """The lines of a request file, in order. `read` reads those that are not in a set, from the beginning."""

    def __init__(
        self, lines: Iterator[RequestLine], read: Callable[[Container[int]], Iterator[RequestLine]] | None = None
    ) -> None:
        self._lines = lines
        self._read = read

    async def next(self) -> RequestLine | None:
        """The next line of the file."""
        return next(self._lines, None)

    def again(self, numbers: Sequence[Container[int]]) -> None:
        """Read these lines again."""
        assert self._read is not None, "this source cannot be read again"
        self._lines = self._read(_AllBut(numbers))


class _AllBut:
    """All line numbers that are in none of the sets."""

    def __init__(self, sets: Sequence[Container[int]]) -> None:
        self._sets = sets

    def __contains__(self, number: object) -> bool:
        return not any(number in numbers for numbers in self._sets)
