"""Where records go: the one door to files, and the stream behind `-o -`."""

from __future__ import annotations

import select
from collections.abc import Sequence
from typing import IO, Protocol

from batchrun.errors import DiskError, PipeError


class Sink(Protocol):
    """Where records go."""

    def append(self, records: Sequence[bytes]) -> None:
        """Write whole records, newlines included. Raises `StopError`, which knows how many were written."""

    def sync(self) -> None:
        """Make what was appended durable. Raises `DiskError`. Safe in a thread of its own."""


class Stream:
    """Records to a pipe or standard output: nothing to lock, recover or sync."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file: IO[bytes] = getattr(file, "raw", file)  # a buffer would complain at exit about its unread rest

    def append(self, records: Sequence[bytes]) -> None:
        """Write records. Raises `PipeError` where the reader has gone, `DiskError` for all else."""
        together, written = b"".join(records), 0
        try:
            while written < len(together):
                count = self._file.write(together[written:])
                if count is None:  # somebody made the pipe non-blocking, and it is full
                    select.select([], [self._file], [])
                else:
                    written += count
        except OSError as error:
            kind = PipeError if isinstance(error, BrokenPipeError) else DiskError
            failed = kind(f"cannot write standard output: {error.strerror}")
            failed.written = together.count(b"\n", 0, written)
            raise failed from error

    def sync(self) -> None:
        """Nothing to do: a pipe's durability is its reader's."""
