"""The source of a run's lines. It is asynchronous, because the next line may depend on earlier answers."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator
from itertools import islice
from typing import Protocol

from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.requests.selection import AllBut


class LineSource(Protocol):
    """Gives the lines of a run, one after the other."""

    async def next(self) -> RequestLine | None:
        """The next line; None if there are no more. Raises `StopError` if the request file has changed."""

    def again(self, numbers: LineSet) -> LineSource:
        """Those lines again whose numbers are in the set, beside this source."""


class FileSource:
    """The lines of a request file, in order. `read(without, start)` reads those from `start` on that are not in a set,
    beside any other reader."""

    def __init__(
        self, lines: Iterator[RequestLine], read: Callable[[Container[int], int], Iterator[RequestLine]]
    ) -> None:
        self._lines = lines
        self._read = read

    async def next(self) -> RequestLine | None:
        """The next line of the file."""
        return next(self._lines, None)

    def again(self, numbers: LineSet) -> FileSource:
        """Read these lines again."""
        return FileSource(islice(self._read(AllBut(numbers), numbers.lowest()), len(numbers)), self._read)
