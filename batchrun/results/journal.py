"""The result file: locked, recovered, appended to. It is the journal and the checkpoint of the job.

1. A line is done when the file holds its whole record, newline included. Nothing else on disk counts.
2. A record is appended whole; a write that fails is taken back to the last good size and ends the run.
3. A sync that fails ends the run and is never tried again: the kernel may have dropped the pages already.
4. The file is only ever shortened at a torn tail; every other removal is a rewrite (temporary file, sync, rename).
5. A damaged line goes to `RESULTS.quarantine`; its request is sent again.
6. What is not ours is not touched: a file without a single record of batchrun's is refused.
7. Answers that come after the file has been removed, replaced or changed by somebody else go to `RESULTS.rescue`,
   which the next run takes in.

After kill -9 only what was in flight is lost. After a power cut the last second of records may be, too.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, Protocol

import msgspec

from batchrun.errors import DiskError, PipeError, ResultFileError
from batchrun.records.request import ResultHead, parse_result, parse_results
from batchrun.results.runlog import open_locked, write_whole

_OUR_START = b'{"id":"batch_req_'
_PIECE = 1 << 20
_BUFFER = 1 << 17
_BATCH = 1 << 16
_datasync = getattr(os, "fdatasync", os.fsync)  # macOS has no fdatasync


class Sink(Protocol):
    """Where records go."""

    def append_all(self, records: Sequence[bytes]) -> None:
        """Write whole records, newlines included. Raises `StopError`, which knows how many were written."""

    def sync(self) -> None:
        """Make what was appended durable. Raises `DiskError`. Safe in a thread of its own."""


class Stream:
    """Records to a pipe or standard output: nothing to lock, recover or sync."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file: IO[bytes] = getattr(file, "raw", file)  # a buffer would complain at exit about its unread rest

    def append(self, record: bytes) -> None:
        """Write one record, as `append_all`."""
        self.append_all([record])

    def append_all(self, records: Sequence[bytes]) -> None:
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


class Journal:
    """An open result file. Use as a context manager; one process at a time.

    `quarantined` counts the damaged lines that `records` set aside, `rescued` the answers that it took in.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(os.path.realpath(path))
        existed = self.path.exists()
        self.is_new = not existed and not self._beside("rescue").exists()
        self.quarantined = 0
        self.rescued = 0
        self._sync_error: DiskError | None = None
        self._lost_its_place = False
        if existed and not self.path.is_file():
            raise ResultFileError(f"{path} is not a regular file; choose another -o, or -o - for a pipe")
        with contextlib.ExitStack() as on_error:
            try:
                file = open_locked(self.path)
                if file is None:
                    raise ResultFileError(f"{path} is being written by another run; wait for it or choose another -o")
                on_error.callback(file.close)
                if not existed:
                    _sync_directory(self.path.parent)
                self._beside("rewrite").unlink(missing_ok=True)  # a rewrite that was killed
            except OSError as error:
                raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
            on_error.pop_all()
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, forget: bool = False) -> None:
        """Unlock and close; with `forget` a file that this process made and wrote nothing to goes with it."""
        if forget and self.is_new and self._size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    def clear(self) -> None:
        """Start over: all records are lost, those to be rescued too."""
        self._beside("rescue").unlink(missing_ok=True)
        self._truncate(0)

    # ---------------------------------------------------------------------------------------- recovery

    def records(self) -> Iterator[ResultHead]:
        """The heads of all records, one by one; see `batches`."""
        return chain.from_iterable(self.batches())

    def batches(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, in file order, after the file has been made whole.

        The torn tail is cut off; damaged lines are quarantined once the file has been read through.
        Raises `ResultFileError` where the file holds lines and none is a record.
        """
        self._mend_tail()
        self._take_in_rescued()
        good, damaged = 0, list[tuple[int, int]]()
        with self._opened() as lines:
            for heads, spans in _batches(lines):
                good += len(heads)
                damaged += spans
                yield heads
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
        with self._opened() as lines:
            for raw in lines:
                yield start, raw
                start += len(raw)

    def _opened(self) -> IO[bytes]:
        lines = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=_BUFFER)
        lines.seek(0)
        return lines

    def _mend_tail(self) -> None:
        """End the last line where it has no newline; cut it off where it is half a record, torn by a kill."""
        start = self._tail_start()
        if start == self._size:
            return
        begins_as_ours = self._read(start, len(_OUR_START)) == _OUR_START[: self._size - start]
        may_be_whole = self._read(self._size - 1, 1) == b"}"
        tail = self._read(start, self._size - start) if may_be_whole else b""
        is_torn = begins_as_ours and not _is_json(tail)
        if not (self._has_a_record() if start else is_torn or _is_record(tail)):
            raise self._foreign()
        if is_torn:
            self._truncate(start)
        else:
            self.append(b"\n")

    def _tail_start(self) -> int:
        """Where the bytes after the last newline begin."""
        end = self._size
        while end > 0:
            start = max(0, end - _PIECE)
            if (newline := self._read(start, end - start).rfind(b"\n")) >= 0:
                return start + newline + 1
            end = start
        return 0

    def _read(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`."""
        return b"".join(_pieces(self._file.fileno(), start, min(start + length, self._size)))

    def _has_a_record(self) -> bool:
        return any(_is_record(raw[:-1]) for _, raw in self._lines())

    def _foreign(self) -> ResultFileError:
        return ResultFileError(
            f"{self.path} holds no result of batchrun's; choose another -o (or --overwrite to lose it)"
        )

    def _take_in_rescued(self) -> None:
        """Append what an earlier run saved elsewhere; should that be killed, doubles are set aside later."""
        rescue = self._beside("rescue")
        if not rescue.is_file() or (self._size and not self._has_a_record()):
            return
        try:
            with rescue.open("rb") as saved:
                for raw in saved:
                    if raw.endswith(b"\n"):
                        write_whole(self._file, raw)
                        self.rescued += 1
            _datasync(self._file.fileno())
            rescue.unlink()
        except OSError as error:
            self._truncate(self._size)
            raise DiskError(f"cannot take {rescue} into {self.path}: {error.strerror}; make room") from error
        self._size = os.fstat(self._file.fileno()).st_size

    def _quarantine(self, spans: list[tuple[int, int]]) -> None:
        """Move lines into the quarantine file, first there, then away from here."""
        fd = self._file.fileno()
        try:
            with self._beside("quarantine").open("ab") as quarantine:
                for start, end in spans:
                    quarantine.writelines(_pieces(fd, start, end))
                quarantine.flush()
                os.fsync(quarantine.fileno())
        except OSError as error:
            raise DiskError(f"cannot write {self.path}.quarantine: {error.strerror}; make room") from error
        self._rewrite_without(spans)
        self.quarantined += len(spans)

    def _rewrite_without(self, spans: list[tuple[int, int]]) -> None:
        """Replace the file, atomically, by one that lacks the byte ranges `spans` (ascending)."""
        fd, temporary = self._file.fileno(), self._beside("rewrite")
        copy: IO[bytes] | None = None
        try:
            copy = open_locked(temporary)  # locked before it can be found under its final name
            assert copy is not None, "nobody else writes there while the result file is locked"
            start = 0
            for gap_start, gap_end in [*spans, (self._size, self._size)]:
                for piece in _pieces(fd, start, gap_start):
                    write_whole(copy, piece)
                start = gap_end
            os.fsync(copy.fileno())
            temporary.chmod(os.fstat(fd).st_mode & 0o777)
            temporary.replace(self.path)
            self._file, copy = copy, self._file
            self._size = os.fstat(self._file.fileno()).st_size
            _sync_directory(self.path.parent)
        except OSError as error:
            raise DiskError(f"cannot rewrite {self.path}: {error.strerror}; make room and run it again") from error
        finally:
            if copy is not None:
                copy.close()
            temporary.unlink(missing_ok=True)

    # --------------------------------------------------------------------------------------- appending

    def append(self, record: bytes) -> None:
        """Write one whole record, newline included. Raises `DiskError`; the file then ends where it did before."""
        self._check_in_place(record)
        self._write(record)

    def append_all(self, records: Sequence[bytes]) -> None:
        """Write several records with one write, or as many of them as there is room for. Raises `DiskError`."""
        together = b"".join(records)
        self._check_in_place(together)
        try:
            self._write(together)
        except DiskError as error:
            with contextlib.suppress(DiskError):
                for record in records if len(records) > 1 else ():
                    self._write(record)
                    error.written += 1
            raise

    def _write(self, whole: bytes) -> None:
        try:
            write_whole(self._file, whole)
        except OSError as error:
            raise DiskError(
                f"cannot write {self.path}: {error.strerror}; what is in it is whole. "
                "Make room and run the same command again"
            ) from error
        self._size += len(whole)

    def sync(self) -> None:
        """Everything appended before is on the disk when this returns, as far as the disk says the truth.

        Raises `DiskError`, after which the last records may not survive a power cut; then it does so for good.
        """
        if self._sync_error is not None:
            raise self._sync_error
        try:
            _datasync(self._file.fileno())
        except OSError as error:
            self._sync_error = DiskError(
                f"cannot sync {self.path}: {error.strerror}; check the disk, then run the same command again"
            )
            raise self._sync_error from error

    def _check_in_place(self, records: bytes) -> None:
        """The path must still lead to this file, at the size we left it; else `records` are saved elsewhere."""
        try:
            self._check_place()
        except DiskError as error:
            raise DiskError(f"{error}; {self._rescue(records)}") from None

    def _check_place(self) -> None:
        here = os.fstat(self._file.fileno())
        try:
            there = self.path.stat()
        except OSError:
            raise DiskError(f"{self.path} was removed while running") from None
        if not os.path.samestat(here, there):
            raise DiskError(f"{self.path} was replaced while running")
        if here.st_size != self._size:
            raise DiskError(f"{self.path} was changed by another program while running")

    def _rescue(self, records: bytes) -> str:
        """Save answers that have lost their file, with all of the file if that is gone; says where they are."""
        rescue, fd = self._beside("rescue"), self._file.fileno()
        try:
            with rescue.open("ab", buffering=0) as saved:
                if not self._lost_its_place and os.fstat(fd).st_nlink == 0:
                    for piece in _pieces(fd, 0, self._size):
                        write_whole(saved, piece)
                write_whole(saved, records)
        except OSError:
            return "run the same command again"
        self._lost_its_place = True
        return f"the answers are saved in {rescue.name}, which the same command takes in when it is run again"

    def _truncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError as error:
            raise DiskError(f"cannot shorten {self.path}: {error.strerror}") from error
        self._size = size

    def _beside(self, what: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{what}")


def _is_record(raw: bytes) -> bool:
    try:
        parse_result(raw)
    except ValueError:
        return False
    return True


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def _pieces(fd: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes from `start` to `end`, a piece at a time. Raises `OSError` where they are no longer there."""
    while start < end:
        os.lseek(fd, start, os.SEEK_SET)  # appends go to the end whatever the position (O_APPEND)
        piece = os.read(fd, min(_PIECE, end - start))
        if not piece:
            raise OSError(errno.EIO, "it became shorter while it was read")
        start += len(piece)
        yield piece


def _sync_directory(directory: Path) -> None:
    """Make a file's name durable; where directories cannot be opened or synced there is nothing to do."""
    try:
        fd = os.open(directory, os.O_RDONLY)
    except OSError:  # Windows
        return
    try:
        os.fsync(fd)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that has no such thing
            raise
    finally:
        os.close(fd)


def read_results(path: Path) -> Iterator[ResultHead | None]:
    """The records of a result file that is not opened to be written; None for each line that is none."""
    with path.open("rb", buffering=_BUFFER) as lines:
        for heads, damaged in _batches(lines):
            yield from heads
            yield from [None] * len(damaged)


def _batches(lines: IO[bytes]) -> Iterator[tuple[Sequence[ResultHead], list[tuple[int, int]]]]:
    """Records, many at a time, and the offsets of the lines among them that are none."""
    end = 0
    while batch := lines.readlines(_BATCH):
        start = end
        end += sum(map(len, batch))
        try:
            heads = parse_results(batch)
        except ValueError:
            yield _one_by_one(batch, start)
        else:
            yield heads, []


def _one_by_one(batch: list[bytes], start: int) -> tuple[Sequence[ResultHead], list[tuple[int, int]]]:
    heads, damaged = list[ResultHead](), list[tuple[int, int]]()
    for raw in batch:
        try:
            heads.append(parse_result(raw))
        except ValueError:
            damaged.append((start, start + len(raw)))
        start += len(raw)
    return heads, damaged
