"""The run log, `RESULTS.log`: append-only JSONL beside the result file, and the lock of the job.

1. It adds to the result file and is never needed to read it: losing it loses no answer.
2. `open` names the process that has the lock; `start` begins a run, `stop` is its orderly end. A log whose last
   run has no `stop` tells that the process died.
3. Each attempt is logged before it is sent (`sent`) and after it failed (`ended`); those that have their record are
   named now and then (`recorded`), for the record itself tells. What is `sent` only, and has no record, may have been
   billed, though nothing of it is in the result file.
4. `unbilled_usd` of any event is money that may have been spent and is on no bill: attempts that failed half way,
   answers without a usage (`unmeasured`), records that were taken out (`replaced`).
5. `limits` tells of the limits as they change, and what holds the run back; `tuned` of limits that were changed.
6. `start` carries the sums of both over all runs before, so that one look at the last run tells the whole.
7. Nothing secret is ever passed to it.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

import msgspec
import orjson

from batchrun.billing.exposure import BilledTwice, InFlight
from batchrun.billing.prices import NOTHING, total_usd
from batchrun.errors import DiskError, ResultFileError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_LOCK_TRIES, _LOCK_PAUSE_S = 5, 0.01


def lock(file: IO[bytes]) -> bool:
    """Lock an open file for this process until it is closed; False where another process has it."""
    if fcntl is None:
        return True  # no flock: one run a file is then the user's own promise
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def open_locked(path: Path) -> IO[bytes] | None:
    """The file at `path`, made if need be, opened to append and locked; None where another process has it."""
    while True:
        file = path.open("a+b", buffering=0)
        if not lock(file):
            file.close()
            return None
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # removed or replaced between the opening and the locking


def is_running(log: Path) -> bool:
    """Whether a process has the run log at `log`. Raises `OSError` where there is none."""
    with log.open("rb") as file:
        return fcntl is None or not lock(file)


def write_whole(file: IO[bytes], data: bytes) -> None:
    """Append all of `data` to an unbuffered file; where that raises `OSError`, none of it stays."""
    written = 0
    try:
        while written < len(data):
            written += file.write(data[written:])
    except OSError:
        if written:
            with contextlib.suppress(OSError):
                file.truncate(os.fstat(file.fileno()).st_size - written)
        raise


class Sent(msgspec.Struct, tag_field="event", tag="sent", gc=False):
    """The event of an attempt that is about to be sent: what a later run looks at where nothing became of it."""

    line: int
    attempt: int
    model: str
    body_bytes: int
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    t: float = 0.0


_encode_lines = msgspec.json.Encoder().encode_lines


class _Event(msgspec.Struct, frozen=True):
    """The facts of an event that a later run looks at."""

    event: str = ""
    pid: int = 0
    started: str = ""
    possibly_billed_twice: BilledTwice | None = None
    line: int = 0
    numbers: tuple[int, ...] = ()
    model: str = ""
    body_bytes: int = 0
    max_output_tokens: int | None = None
    upper_usd: Decimal | None = None
    unbilled_usd: Decimal = NOTHING
    held_s: dict[str, float] | None = None


_decode_event = msgspec.json.Decoder(_Event).decode


class LastRun:
    """How the run before ended: `sent` holds the attempts, by line, that have no end; a record is one, see `settle`.

    `billed_before` is what earlier runs left in flight, `unbilled_usd` what all runs may have spent on no bill, in
    USD. `held_s` are seconds by what held it back. `pid` is the process that had the log last.
    """

    def __init__(self, events: Iterable[bytes] = ()) -> None:
        self.started, self.pid, self.stopped = "", 0, True
        self.sent: dict[int, InFlight] = {}
        self.billed_before = BilledTwice()
        self.unbilled_usd = NOTHING
        self.held_s: dict[str, float] | None = None
        for raw in events:
            try:
                self._add(_decode_event(raw))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue  # half an event, or none: it says nothing

    def _add(self, event: _Event) -> None:
        match event.event:
            case "open":
                self.pid = event.pid
            case "start":
                self.started, self.pid, self.stopped = event.started, event.pid, False
                self.billed_before = event.possibly_billed_twice or BilledTwice()
                self.unbilled_usd = NOTHING  # of what came before, the event holds the sum
                self.sent.clear()
                self.held_s = None
            case "sent":
                attempt = InFlight(event.model, event.body_bytes, event.max_output_tokens, event.upper_usd)
                self.sent[event.line] = attempt
            case "ended":
                self.sent.pop(event.line, None)
            case "stop":
                self.stopped = True
        for line in event.numbers:
            self.sent.pop(line, None)
        if event.held_s is not None:
            self.held_s = event.held_s
        if event.unbilled_usd:
            self.unbilled_usd = total_usd((self.unbilled_usd, event.unbilled_usd))

    def settle(self, started: str, line: int) -> None:
        """A record of that run and line is in the result file, even if the log does not say so."""
        if started == self.started:
            self.sent.pop(line, None)

    @classmethod
    def read(cls, path: Path) -> LastRun | None:
        """The last run by the log at `path`; None where there is no log, `sent` empty while the run goes on."""
        try:
            with path.open("rb") as file:
                last, is_over = cls(file), lock(file)
        except OSError:
            return None
        if not is_over:
            last.sent.clear()
        return last


class RunLog:
    """An open, locked run log. `write` never blocks on a disk sync: the log may lose its end with the power.

    Raises `ResultFileError` where another process has the lock.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self._clock = clock
        self._start = clock()
        self._is_unused = not path.exists()
        try:
            self._file = self._opened()
        except OSError as error:
            raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
        self.last_run = LastRun(self._lines())
        self._end_torn_line()
        with contextlib.suppress(DiskError):  # a job that has nothing to send needs no room
            self._append("open", pid=os.getpid())

    def write(self, event: str, **facts: Any) -> None:
        """Append one event. Raises `DiskError` where it cannot be written; then nothing of it is."""
        self._is_unused = False
        self._append(event, **facts)

    def write_sent(self, attempts: Sequence[Sent]) -> None:
        """Append the events of attempts with one write; else as `write`."""
        now = self._now()
        for attempt in attempts:
            attempt.t = now
        self._is_unused = False
        self._append_lines(_encode_lines(attempts))

    def close(self, *, forget: bool = False) -> None:
        """Unlock and close; `forget` removes a log that this process made and no run has begun in."""
        if forget and self._is_unused:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    def _append(self, event: str, **facts: Any) -> None:
        self._append_lines(orjson.dumps({"t": self._now(), "event": event, **facts}) + b"\n")

    def _now(self) -> float:
        return round(self._clock() - self._start, 3)

    def _append_lines(self, lines: bytes) -> None:
        try:
            write_whole(self._file, lines)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror}; make room and run it again") from error

    def _opened(self) -> IO[bytes]:
        for _ in range(_LOCK_TRIES):
            if (file := open_locked(self.path)) is not None:
                return file
            time.sleep(_LOCK_PAUSE_S)  # `batchrun report` has it for a moment, to see whether a run goes on
        with self.path.open("rb") as events:
            pid = LastRun(events).pid
        who = f"another run (process {pid})" if pid else "another run"
        raise ResultFileError(
            f"{self.path.with_suffix('')} is being written by {who}; wait for it, stop it, or choose another -o"
        )

    def _lines(self) -> Iterable[bytes]:
        self._file.seek(0)
        with os.fdopen(os.dup(self._file.fileno()), "rb") as lines:
            yield from lines

    def _end_torn_line(self) -> None:
        """A kill inside a write leaves half an event: end its line, so that the next event stands alone."""
        size = os.fstat(self._file.fileno()).st_size
        if size:
            self._file.seek(size - 1)
            if self._file.read(1) != b"\n":
                with contextlib.suppress(OSError):
                    self._file.write(b"\n")
