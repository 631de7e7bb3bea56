"""Where a run's lines come from. Asynchronous: what comes next may depend on what has been answered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from batchrun.records.request import RequestLine


class LineSource(Protocol):
    """Hands out the lines of a run, one after the other."""

    async def next(self) -> RequestLine | None:
        """The next line; None where there are no more. Raises `InputError` where the input has changed."""


class FileSource:
    """The lines of a request file, in their order."""

    def __init__(self, lines: Iterator[RequestLine]) -> None:
        self._lines = lines

    async def next(self) -> RequestLine | None:
        """The next line of the file."""
        return next(self._lines, None)
