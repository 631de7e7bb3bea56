"""Where a job writes its records and reads those of earlier runs: the only access to result files.

A `FileStore` is a locked result file with its run log; a `StreamStore` writes records to a pipe and keeps nothing.
"""

from __future__ import annotations

import os
import select
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Protocol

from batchrun.errors import DiskError, PipeError, ResultFileError
from batchrun.records.result import ResultHead
from batchrun.results.files import write_whole
from batchrun.results.journal import Journal
from batchrun.results.last_run import LastRun
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import EventLog, NoLog, RunLog, written_at
from batchrun.results.scan import BUFFER_BYTES
from batchrun.results.tries import TriesFile


class ResultStore(Protocol):
    """The records of a job and the log of its runs. `paths` is None if the results go to a pipe."""

    @property
    def paths(self) -> ResultPaths | None:
        """The paths of its files."""

    @property
    def log(self) -> EventLog:
        """The log of its runs."""

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, many at a time. Raises `ResultFileError` for a file that is not this job's."""

    def append(self, records: Sequence[bytes]) -> None:
        """Write whole records, newlines included. Raises `StopError`; its `written` counts those that were written."""

    def append_tries(self, records: Sequence[bytes]) -> None:
        """Write answers whose lines are asked again, as `append` does, but not among the results."""

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Remove the records that `is_unwanted` selects, and return their number."""

    def sync(self) -> None:
        """Make what was appended durable. Raises `DiskError`. May be called in a thread."""

    def close(self) -> None:
        """Unlock and close."""


class StreamStore:
    """Records to a pipe or standard output: nothing to lock, recover or sync.

    `keeps`: a copy of them stays in a temporary file without a name, for those who read them.
    """

    paths = None

    def __init__(self, file: IO[bytes], *, keeps: bool = False) -> None:
        self.log = NoLog()
        self._file: IO[bytes] = getattr(file, "raw", file)  # a buffer would report its unwritten rest at exit
        self._kept = tempfile.TemporaryFile("a+b", buffering=0) if keeps else None  # noqa: SIM115

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """No heads: records that went into a pipe cannot be read back."""
        return iter(())

    def records(self) -> IO[bytes]:
        """The records that were kept, to be read until the next one is written."""
        assert self._kept is not None, "only a store that keeps its records is read"
        return os.fdopen(os.dup(self._kept.fileno()), "rb")

    def append(self, records: Sequence[bytes]) -> None:
        """Write records. Raises `PipeError` if the reader is gone, `DiskError` for all other errors."""
        together, written = b"".join(records), 0
        if self._kept is not None:
            self._keep(together)
        try:
            while written < len(together):
                count = self._file.write(together[written:])
                if count is None:  # another program made the pipe non-blocking, and it is full
                    select.select([], [self._file], [])
                else:
                    written += count
        except OSError as error:
            kind = PipeError if isinstance(error, BrokenPipeError) else DiskError
            failed = kind(f"cannot write standard output: {error.strerror}")
            failed.written = together.count(b"\n", 0, written)
            raise failed from error

    def _keep(self, records: bytes) -> None:
        assert self._kept is not None
        try:
            write_whole(self._kept, records)
        except OSError as error:
            raise DiskError(f"cannot write a temporary file: {error.strerror}; free some space") from error

    def append_tries(self, records: Sequence[bytes]) -> None:
        """Never called: a job whose results go to a pipe asks no line again."""
        raise AssertionError("a pipe has no place for earlier tries")

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Do nothing: a pipe keeps no records that could be removed."""
        return 0

    def sync(self) -> None:
        """Do nothing: the reader of the pipe must make the records durable."""

    def close(self) -> None:
        """Forget what was kept. The caller opened the stream and closes it."""
        if self._kept is not None:
            self._kept.close()


class FileStore:
    """A result file, its earlier `tries` and its run log, all locked. One process at a time.

    Raises `ResultFileError` if the directory does not exist, or another process has the lock.
    """

    def __init__(self, paths: ResultPaths) -> None:
        if not paths.results.parent.is_dir():
            raise ResultFileError(f"there is no directory {paths.results.parent}; create it, or choose another -o")
        paths.refuse_long_name()
        self.paths = paths
        results_written_at = written_at(paths.results)
        self.tries = TriesFile(paths)
        self.log = RunLog(paths.log, locks=paths.locks)
        if self.log.is_unused:  # where there are results, there was a log: it was rotated away
            self.log.last_run.recent.lost_at = results_written_at
        try:
            self._journal = Journal(paths)
        except BaseException:
            self.log.close()
            raise

    @property
    def quarantined(self) -> int:
        """The number of damaged and duplicate records that were moved to the quarantine file."""
        return self._journal.quarantined

    @property
    def cut_tail(self) -> bool:
        """Whether half a record was cut off at the end, as a kill or a power cut leaves it."""
        return self._journal.cut_tail

    @property
    def rescued(self) -> int:
        """The number of answers that were added from the rescue file of an earlier run."""
        return self._journal.rescued

    @property
    def size_bytes(self) -> int:
        """The size of the result file."""
        return self._journal.size_bytes

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, in file order; see `Journal.batches`."""
        return self._journal.batches()

    def clear(self) -> None:
        """Start over: discard all records, and forget what the log says about earlier runs."""
        self._journal.clear()
        self.tries.clear()
        self._forget_runs()

    def _forget_runs(self) -> None:
        """Forget what the log says about earlier runs, but not what they sent of late: a gateway does not forget it."""
        recent = self.log.last_run.recent
        self.log.last_run = LastRun()
        self.log.last_run.recent = recent

    def records(self) -> IO[bytes]:
        """The result file. Raises `DiskError` if it cannot be read."""
        try:
            return self.paths.results.open("rb", buffering=BUFFER_BYTES)
        except OSError as error:
            raise DiskError(f"cannot read {self.paths.results}: {error.strerror}") from error

    def append(self, records: Sequence[bytes]) -> None:
        """Write records; see `Journal.append`."""
        self._journal.append(records)

    def append_tries(self, records: Sequence[bytes]) -> None:
        """Write answers whose lines are asked again; see `TriesFile`."""
        self.tries.append(records)

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Rewrite the file without some records; see `Journal.remove`."""
        return self._journal.remove(is_unwanted, to_quarantine=to_quarantine)

    def sync(self) -> None:
        """Make records durable; see `Journal.sync`."""
        self._journal.sync()
        self.tries.sync()

    def close(self) -> None:
        """Unlock and close; remove files that this process made if no run has begun in them."""
        self.tries.close()
        self._journal.close(forget=self.log.is_unused)
        self.log.close()
