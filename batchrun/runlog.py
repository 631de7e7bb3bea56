"""The run log, `RESULTS.log`: append-only JSONL beside the result file, and the lock of the job.

1. It adds to the result file and is never needed to read it: losing it loses no answer.
2. The first event of a run is `start`, with the process id; an orderly end is `stop`. A log whose last run has
   no `stop` tells that the process died.
3. Each attempt is logged before it is sent (`sent`) and after it failed (`ended`); one that was answered has
   its record in the result file. What is `sent` only may have been billed when the process died.
4. Nothing secret is ever passed to it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson

from batchrun.errors import DiskError, ResultFileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process until it is closed; False where another process has it."""
    if fcntl is None:
        return True  # no flock: one run a file is then the user's own promise
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


class LogEvent(msgspec.Struct, frozen=True):
    """The facts of an event that a later run looks at."""

    event: str = ""
    pid: int = 0
    started: str = ""
    line: int = 0
    model: str = ""
    body_bytes: int = 0
    max_output_tokens: int | None = None


_decode_event = msgspec.json.Decoder(LogEvent).decode


class LastRun(msgspec.Struct, frozen=True):
    """How the run before ended: `sent` holds the attempts, by line, whose end is not in the log.

    Those that were answered have their record in the result file; the others were in flight when it died.
    """

    started: str
    pid: int
    stopped: bool
    sent: dict[int, LogEvent]


class RunLog:
    """An open, locked run log. `write` never blocks on a disk sync: the log may lose its end with the power.

    Raises `ResultFileError` where another process has the lock.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.is_new = not path.exists()
        try:
            self._file: IO[bytes] = path.open("a+b", buffering=0)
        except OSError as error:
            raise ResultFileError(f"cannot write {path}: {error.strerror}") from error
        if not lock(self._file):
            pid = self.last_run().pid
            self._file.close()
            raise ResultFileError(
                f"{path.with_suffix('')} is being written by another run (process {pid}); "
                "wait for it, stop it, or choose another -o"
            )
        self._clock = clock
        self._start = clock()
        self._end_torn_line()

    def write(self, event: str, **facts: Any) -> None:
        """Append one event. Raises `DiskError` where it cannot be written."""
        record = orjson.dumps({"t": round(self._clock() - self._start, 3), "event": event, **facts})
        try:
            self._file.write(record + b"\n")
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror}; make room and run it again") from error

    def last_run(self) -> LastRun:
        """What the log says of its last run; unreadable lines say nothing."""
        started, pid, stopped = "", 0, True
        sent: dict[int, LogEvent] = {}
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            for raw in lines:
                try:
                    event = _decode_event(raw)
                except (msgspec.DecodeError, UnicodeDecodeError):
                    continue
                if event.event == "start":
                    started, pid, stopped = event.started, event.pid, False
                    sent.clear()
                elif event.event == "sent":
                    sent[event.line] = event
                elif event.event == "ended":
                    sent.pop(event.line, None)
                elif event.event == "stop":
                    stopped = True
        return LastRun(started, pid, stopped, {} if stopped else sent)

    def close(self, *, forget: bool = False) -> None:
        """Unlock and close; `forget` removes a log that this process made and wrote nothing to."""
        if forget and self.is_new and os.fstat(self._file.fileno()).st_size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    def _end_torn_line(self) -> None:
        """A kill inside a write leaves half an event: end its line, so that the next event stands alone."""
        size = os.fstat(self._file.fileno()).st_size
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                with contextlib.suppress(OSError):
                    self._file.write(b"\n")
