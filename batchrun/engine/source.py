"""The source of a run's lines. It is asynchronous, because the next line may depend on earlier answers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from batchrun.records.request import RequestLine


class LineSource(Protocol):
    """Gives the lines of a run, one after the other."""

    async def next(self) -> RequestLine | None:
        """The next line; None if there are no more. Raises `StopError` if the request file has changed."""


class FileSource:
    """The lines of a request file, in order."""

    def __init__(self, lines: Iterator[RequestLine]) -> None:
        self._lines = lines

    async def next(self) -> RequestLine | None:
        """The next line of the file."""
        return next(self._lines, None)
