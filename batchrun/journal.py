"""The result file: locked, recovered, appended to. It is the journal and the checkpoint of the job.

1. A line is done when the file holds its whole record, newline included. Nothing else on disk counts.
2. A record is appended whole; a write that fails is taken back to the last good size and ends the run.
3. A sync that fails ends the run and is never tried again: the kernel may have dropped the pages already.
4. The file is only ever shortened at a torn tail; every other removal is a rewrite (temporary file, sync, rename).
5. A damaged line in the middle goes to `RESULTS.quarantine`; its request is sent again.
6. What is not ours is not touched: a file without a single record of batchrun's is refused.

After kill -9 only what was in flight is lost. After a power cut the last second of records may be, too.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Protocol

from batchrun.errors import DiskError, ResultFileError
from batchrun.records import ResultHead, parse_result
from batchrun.runlog import lock

_OUR_START = b'{"id":"batch_req_'
_datasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Sink(Protocol):
    """Where records go."""

    def append(self, record: bytes) -> None:
        """Write one whole record, newline included. Raises `DiskError`."""

    def sync(self) -> None:
        """Make what was appended durable. Raises `DiskError`. Safe in a thread of its own."""


class Stream:
    """Records to a pipe or standard output: nothing to lock, recover or sync."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def append(self, record: bytes) -> None:
        """Write and flush one record. Raises `DiskError` where the reader has gone."""
        try:
            self._file.write(record)
            self._file.flush()
        except OSError as error:
            raise DiskError(f"cannot write standard output: {error.strerror}") from error

    def sync(self) -> None:
        """Nothing to do: a pipe's durability is its reader's."""


class Journal:
    """An open result file. Use as a context manager; one process at a time.

    `quarantined` counts the damaged lines that `records` set aside.
    """

    def __init__(self, path: Path, *, overwrite: bool = False) -> None:
        self.path = Path(os.path.realpath(path))
        self.is_new = not self.path.exists()
        self.quarantined = 0
        if not self.is_new and not self.path.is_file():
            raise ResultFileError(f"{path} is not a regular file; choose another -o, or -o - for a pipe")
        try:
            self._file = self._opened()
            if overwrite:
                self._file.truncate(0)
        except OSError as error:
            raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
        if self.is_new:
            _sync_directory(self.path.parent)
        self._size = os.fstat(self._file.fileno()).st_size

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Unlock and close; a file that this process made and wrote nothing to goes with it."""
        if self.is_new and self._size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    # ---------------------------------------------------------------------------------------- recovery

    def records(self) -> Iterator[ResultHead]:
        """The heads of all records, in file order, after the file has been made whole.

        The torn tail is cut off; damaged lines are quarantined once the file has been read through.
        Raises `ResultFileError` where the file holds lines and none is a record.
        """
        self._mend_tail()
        good, damaged = 0, list[tuple[int, int]]()
        for start, raw in self._lines():
            try:
                head = parse_result(raw[:-1])
            except ValueError:
                damaged.append((start, start + len(raw)))
            else:
                good += 1
                yield head
        if damaged:
            if not good:
                raise self._foreign()
            self._quarantine(damaged)

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Rewrite the file without the records that `is_unwanted` picks; returns how many those were."""
        spans = list[tuple[int, int]]()
        for start, raw in self._lines():
            with contextlib.suppress(ValueError):
                if is_unwanted(parse_result(raw[:-1])):
                    spans.append((start, start + len(raw)))
        if spans and to_quarantine:
            self._quarantine(spans)
        elif spans:
            self._rewrite_without(spans)
        return len(spans)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line with its newline) of every whole line."""
        start = 0
        with os.fdopen(os.dup(self._file.fileno()), "rb", buffering=1 << 20) as lines:
            lines.seek(0)
            for raw in lines:
                yield start, raw
                start += len(raw)

    def _mend_tail(self) -> None:
        """End the last record's line where just its newline is missing; cut it off where it is torn."""
        tail_start, tail = self._tail()
        if not tail:
            return
        ours = tail.startswith(_OUR_START) or _OUR_START.startswith(tail)
        if tail_start == 0 and not ours:
            raise self._foreign()
        try:
            parse_result(tail)
        except ValueError:
            if ours or self._begins_with_a_record():
                self._truncate(tail_start)
        else:
            self.append(b"\n")

    def _tail(self) -> tuple[int, bytes]:
        """(offset, bytes) of what stands after the last newline."""
        fd, end, tail = self._file.fileno(), self._size, b""
        while end > 0:
            start = max(0, end - (1 << 16))
            piece = _read_at(fd, start, end - start)
            cut = piece.rfind(b"\n")
            if cut >= 0:
                return start + cut + 1, piece[cut + 1 :] + tail
            end, tail = start, piece + tail
        return 0, tail

    def _begins_with_a_record(self) -> bool:
        first = next(self._lines(), (0, b""))[1]
        try:
            parse_result(first[:-1])
        except ValueError:
            raise self._foreign() from None
        return True

    def _foreign(self) -> ResultFileError:
        return ResultFileError(
            f"{self.path} holds no result of batchrun's; choose another -o (or --overwrite to lose it)"
        )

    def _quarantine(self, damaged: list[tuple[int, int]]) -> None:
        """Move damaged lines into the quarantine file, first there, then away from here."""
        fd = self._file.fileno()
        try:
            with self.path.with_name(self.path.name + ".quarantine").open("ab") as quarantine:
                for start, end in damaged:
                    quarantine.write(_read_at(fd, start, end - start))
                quarantine.flush()
                os.fsync(quarantine.fileno())
        except OSError as error:
            raise DiskError(f"cannot write {self.path}.quarantine: {error.strerror}") from error
        self._rewrite_without(damaged)
        self.quarantined += len(damaged)

    def _rewrite_without(self, spans: list[tuple[int, int]]) -> None:
        """Replace the file, atomically, by one that lacks the byte ranges `spans` (ascending)."""
        fd = self._file.fileno()
        temporary: Path | None = None
        try:
            with tempfile.NamedTemporaryFile(
                dir=self.path.parent, prefix=self.path.name + ".", suffix=".tmp", delete=False
            ) as copy:
                temporary = Path(copy.name)
                start = 0
                for gap_start, gap_end in [*spans, (self._size, self._size)]:
                    while start < gap_start:
                        piece = _read_at(fd, start, min(1 << 20, gap_start - start))
                        copy.write(piece)
                        start += len(piece)
                    start = gap_end
                copy.flush()
                os.fsync(copy.fileno())
            temporary.chmod(os.fstat(fd).st_mode & 0o777)
            temporary.replace(self.path)
            _sync_directory(self.path.parent)
        except OSError as error:
            if temporary is not None:
                temporary.unlink(missing_ok=True)
            raise DiskError(f"cannot rewrite {self.path}: {error.strerror}; make room and run it again") from error
        self._file.close()
        self._file = self._opened()
        self._size = os.fstat(self._file.fileno()).st_size

    # --------------------------------------------------------------------------------------- appending

    def append(self, record: bytes) -> None:
        """Write one whole record, newline included. Raises `DiskError`; the file then ends where it did before."""
        self._check_in_place()
        written = 0
        try:
            while written < len(record):
                written += self._file.write(record[written:])
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(self._size)
            raise DiskError(
                f"cannot write {self.path}: {error.strerror}; what is in it is whole. "
                "Make room and run the same command again"
            ) from error
        self._size += len(record)

    def sync(self) -> None:
        """Everything appended before is on the disk when this returns, as far as the disk says the truth.

        Raises `DiskError`, after which the last records may not survive a power cut.
        """
        try:
            _datasync(self._file.fileno())
        except OSError as error:
            raise DiskError(
                f"cannot sync {self.path}: {error.strerror}; check the disk, then run the same command again"
            ) from error

    def _check_in_place(self) -> None:
        """The path must still lead to this file, at the size we left it."""
        here = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            raise DiskError(f"{self.path} was removed while running; run the same command again") from None
        if (here.st_ino, here.st_dev) != (there.st_ino, there.st_dev):
            raise DiskError(f"{self.path} was replaced while running; run the same command again")
        if here.st_size != self._size:
            raise DiskError(f"{self.path} was changed by another program while running; run the same command again")

    def _truncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError as error:
            raise DiskError(f"cannot shorten {self.path}: {error.strerror}") from error
        self._size = size

    def _opened(self) -> IO[bytes]:
        file = self.path.open("a+b", buffering=0)
        if not lock(file):
            file.close()
            raise ResultFileError(f"{self.path} is being written by another run; wait for it or choose another -o")
        return file


def _read_at(fd: int, start: int, length: int) -> bytes:
    os.lseek(fd, start, os.SEEK_SET)  # appends go to the end whatever the position (O_APPEND)
    return os.read(fd, length)


def _sync_directory(directory: Path) -> None:
    """Make a file's name durable; where a directory cannot be opened (Windows) there is nothing to do."""
    with contextlib.suppress(OSError):
        fd = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def read_results(path: Path) -> Iterator[ResultHead | None]:
    """The records of a result file that is not opened to be written; None for each line that is none."""
    with path.open("rb", buffering=1 << 20) as lines:
        for raw in lines:
            try:
                yield parse_result(raw.removesuffix(b"\n"))
            except ValueError:
                yield None
