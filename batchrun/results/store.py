"""Where records go, and where those of earlier runs come from: the one door to result files.

A `FileStore` is a result file with its run log, locked; a `StreamStore` writes records to a pipe and keeps nothing.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Protocol

from batchrun.errors import DiskError, PipeError, ResultFileError
from batchrun.records.result import ResultHead
from batchrun.results.journal import Journal
from batchrun.results.last_run import LastRun
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import EventLog, NoLog, RunLog


class ResultStore(Protocol):
    """The records of a job and the log of its runs. `paths` is None where there is nothing to come back to."""

    @property
    def paths(self) -> ResultPaths | None:
        """Where its files lie."""

    @property
    def log(self) -> EventLog:
        """Where its runs tell what happens."""

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, many at a time. Raises `ResultFileError` for a file that is not this job's."""

    def append(self, records: Sequence[bytes]) -> None:
        """Write whole records, newlines included. Raises `StopError`, which knows how many were written."""

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Take out records; returns how many those were."""

    def sync(self) -> None:
        """Make what was appended durable. Raises `DiskError`. Safe in a thread of its own."""

    def close(self) -> None:
        """Unlock and close."""


class StreamStore:
    """Records to a pipe or standard output: nothing to lock, recover or sync."""

    paths = None

    def __init__(self, file: IO[bytes]) -> None:
        self.log = NoLog()
        self._file: IO[bytes] = getattr(file, "raw", file)  # a buffer would complain at exit about its unread rest

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """None: what has gone into a pipe is its reader's."""
        return iter(())

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

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Nothing: there are no records to come back to."""
        return 0

    def sync(self) -> None:
        """Nothing to do: a pipe's durability is its reader's."""

    def close(self) -> None:
        """Nothing to do: whoever opened the stream closes it."""


class FileStore:
    """A result file and its run log, both locked. One process at a time.

    Raises `ResultFileError` where there is no such folder, or where another process has the files.
    """

    def __init__(self, paths: ResultPaths) -> None:
        if not paths.results.parent.is_dir():
            raise ResultFileError(f"there is no directory {paths.results.parent}; create it, or choose another -o")
        self.paths = paths
        self.log = RunLog(paths.log)
        try:
            self._journal = Journal(paths)
        except BaseException:
            self.log.close()
            raise
        if self._journal.is_new:
            self.log.last_run = LastRun()  # its answers are gone, and what the log says of them counts no more

    @property
    def quarantined(self) -> int:
        """Damaged and doubled records that were set aside."""
        return self._journal.quarantined

    @property
    def rescued(self) -> int:
        """Answers that were taken in, which an earlier run had saved elsewhere."""
        return self._journal.rescued

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, in file order; see `Journal.batches`."""
        return self._journal.batches()

    def clear(self) -> None:
        """Start over: all records are lost, and what the log says of earlier runs counts no more."""
        self._journal.clear()
        self.log.last_run = LastRun()

    def append(self, records: Sequence[bytes]) -> None:
        """Write records; see `Journal.append`."""
        self._journal.append(records)

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Rewrite the file without some records; see `Journal.remove`."""
        return self._journal.remove(is_unwanted, to_quarantine=to_quarantine)

    def sync(self) -> None:
        """Make records durable; see `Journal.sync`."""
        self._journal.sync()

    def close(self) -> None:
        """Unlock and close. Files that this process made and no run has begun in go with it."""
        self._journal.close(forget=self.log.is_unused)
        self.log.close()
