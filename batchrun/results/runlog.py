"""The run log, `RESULTS.log`: append-only JSONL beside the result file, and the lock of the job.

1. The log is never needed to read the result file: no answer is lost with it.
2. `open` names the process that has the lock; `start` begins a run, `stop` is its orderly end. If the last run of a log
   has no `stop`, its process died.
3. Each attempt is logged before it is sent (`sent`) and after it failed (`ended`). Lines with a record are logged only
   now and then (`recorded`), because the record itself says that they are done.
4. An attempt that was `sent`, and has neither an end nor a record, may have been billed without an answer.
5. `events.py` defines the events and what each of them says.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Protocol

from batchrun.errors import DiskError, LockedError, ResultFileError
from batchrun.results.events import Event, Open, encode_events
from batchrun.results.files import NoLocksError, open_locked, open_unlocked, write_whole
from batchrun.results.last_run import LastRun

_LOCK_TRIES, _LOCK_PAUSE_S = 5, 0.01


class EventLog(Protocol):
    """Takes the events of a run. `last_run` is what the log says about earlier runs."""

    last_run: LastRun

    def write(self, *events: Event) -> None:
        """Append events. Raises `DiskError` if they cannot be written."""


class NoLog:
    """The log of a job whose results go to a pipe: nothing is kept, so nothing can be resumed."""

    def __init__(self) -> None:
        self.last_run = LastRun()

    def write(self, *events: Event) -> None:
        """Ignore them."""


class RunLog:
    """An open, locked run log. `write` does not wait for a disk sync, so a power cut may lose the end of the log.

    `of`: what it is the log of, where that is not the file beside it. Raises `ResultFileError` if another process has
    the lock, or the log cannot be written.
    """

    def __init__(
        self, path: Path, clock: Callable[[], float] = time.monotonic, *, locks: bool = True, of: Path | None = None
    ) -> None:
        self.path = path
        self._of = path.with_suffix("") if of is None else of
        self._locks = locks
        self._clock = clock
        self._start = clock()
        log_written_at = written_at(path)
        self.is_unused = log_written_at is None
        try:
            self._file = self._opened()
        except NoLocksError as error:
            raise no_locks(path, error) from error
        except OSError as error:
            raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
        self.last_run = LastRun(self._lines())
        if self.last_run.recent.is_incomplete:
            self.last_run.recent.lost_at = log_written_at
        self._end_torn_line()
        with contextlib.suppress(DiskError):  # a job with nothing to send works on a full disk
            self._append((Open(pid=os.getpid(), at=round(time.time(), 3), clock=round(self._start, 3)),))

    def write(self, *events: Event) -> None:
        """Append events with one write. Raises `DiskError` if that fails; then none of them is in the log."""
        self.is_unused = False
        self._append(events)

    def close(self) -> None:
        """Unlock and close; remove the log if this process made it and no run has begun in it."""
        if self.is_unused:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    def _append(self, events: Sequence[Event]) -> None:
        now = self._now()
        for event in events:
            event.t = now
        try:
            write_whole(self._file, encode_events(events))
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror}; free some space and run it again") from error

    def _now(self) -> float:
        return round(self._clock() - self._start, 3)

    def _opened(self) -> IO[bytes]:
        if not self._locks:
            return open_unlocked(self.path)
        for _ in range(_LOCK_TRIES):
            if (file := open_locked(self.path)) is not None:
                return file
            time.sleep(_LOCK_PAUSE_S)  # `batchrun report` takes the lock briefly, to see whether a run is active
        with self.path.open("rb") as events:
            pid = LastRun(events).pid
        who = f"another run (process {pid})" if pid else "another run"
        raise LockedError(f"{self._of} is being written by {who}; wait for it, stop it, or choose another -o")

    def _lines(self) -> Iterable[bytes]:
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            yield from lines

    def _end_torn_line(self) -> None:
        """A kill during a write leaves half an event: end its line, so that the next event has its own line."""
        size = os.fstat(self._file.fileno()).st_size
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                with contextlib.suppress(OSError):
                    self._file.write(b"\n")


def written_at(path: Path) -> float | None:
    """When a file was last written (Unix time); None if there is none."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return None


def no_locks(path: Path, error: NoLocksError) -> ResultFileError:
    """The error for a disk without locks."""
    return ResultFileError(
        f"the disk of {path} has no file locks ({error.strerror}), so nothing would keep a second run away from it; "
        "choose another -o, or see to that yourself and pass --no-lock"
    )
