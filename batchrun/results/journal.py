"""The result file: locked, recovered, appended to. It is the journal and the checkpoint of the job.

1. A line is done when the file holds its whole record, newline included. Nothing else on disk counts.
2. A record is appended whole; a write that fails is taken back to the last good size and ends the run.
3. A sync that fails ends the run and is never tried again: the kernel may have dropped the pages already.
4. The file is only ever shortened at a torn tail; every other removal is a rewrite (temporary file, sync, rename).
5. A damaged line goes to `RESULTS.quarantine`; its request is sent again.
6. What is not ours is not touched: a file without a single record of batchrun's is refused, and so is one that has
   records of another version, before anything in it is changed.
7. Answers that come after the file has been removed, replaced or changed by somebody else go to `RESULTS.rescue`,
   which the next run takes in.

After kill -9 only what was in flight is lost. After a power cut the last second of records may be, too.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

import msgspec

from batchrun.errors import DiskError, ResultFileError
from batchrun.records.result import VERSION, ResultHead, UnknownVersionError, parse_result, parse_results
from batchrun.results.files import PIECE_BYTES, datasync, open_locked, read_pieces, sync_directory, write_whole
from batchrun.results.paths import ResultPaths
from batchrun.version import __version__

_OUR_START = b'{"id":"batch_req_'
_BUFFER = 1 << 17
_BATCH = 1 << 16


class Journal:
    """An open result file. Use as a context manager; one process at a time.

    `quarantined` counts the damaged lines that `records` set aside, `rescued` the answers that it took in.
    """

    def __init__(self, paths: ResultPaths) -> None:
        self.path = path = paths.results
        self._paths = paths
        existed = path.exists()
        self.is_new = not existed and not paths.rescue.exists()
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
                    sync_directory(self.path.parent)
                self._paths.rewrite.unlink(missing_ok=True)  # a rewrite that was killed
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
        self._paths.rescue.unlink(missing_ok=True)
        self._truncate(0)

    # ---------------------------------------------------------------------------------------- recovery

    def batches(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, in file order; the file is made whole once it has been read through.

        The torn tail is cut off, rescued answers are taken in, damaged lines are quarantined. Raises `ResultFileError`
        where the file holds lines and none is a record, or one of another version: then nothing has been changed.
        """
        start, good, damaged = self._tail_start(), 0, list[tuple[int, int]]()
        for heads, spans in self._read_records(0, start):
            good += len(heads)
            damaged += spans
            yield heads
        self._mend_tail(start, has_records=good > 0)
        self._take_in_rescued()
        for heads, spans in self._read_records(start, self._size):
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

    def _read_records(self, start: int, end: int) -> Iterator[_Batch]:
        with self._opened(start) as lines:
            yield from _batches(lines, self.path, start, end)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line with its newline) of every whole line."""
        start = 0
        with self._opened() as lines:
            for raw in lines:
                yield start, raw
                start += len(raw)

    def _opened(self, start: int = 0) -> IO[bytes]:
        lines = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=_BUFFER)
        lines.seek(start)
        return lines

    def _mend_tail(self, start: int, *, has_records: bool) -> None:
        """End the last line where it has no newline; cut it off where it is half a record, torn by a kill."""
        if start == self._size:
            return
        begins_as_ours = self._read(start, len(_OUR_START)) == _OUR_START[: self._size - start]
        may_be_whole = self._read(self._size - 1, 1) == b"}"
        tail = self._read(start, self._size - start) if may_be_whole else b""
        for _ in _batches(io.BytesIO(tail), self.path):  # before anything is changed: is it of this version?
            pass
        is_torn = begins_as_ours and not _is_json(tail)
        if not (has_records if start else is_torn or _is_record(tail)):
            raise self._foreign()
        if is_torn:
            self._truncate(start)
        else:
            self.append((b"\n",))

    def _tail_start(self) -> int:
        """Where the bytes after the last newline begin."""
        end = self._size
        while end > 0:
            start = max(0, end - PIECE_BYTES)
            if (newline := self._read(start, end - start).rfind(b"\n")) >= 0:
                return start + newline + 1
            end = start
        return 0

    def _read(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`."""
        return b"".join(read_pieces(self._file.fileno(), start, min(start + length, self._size)))

    def _has_a_record(self) -> bool:
        return any(_is_record(raw[:-1]) for _, raw in self._lines())

    def _foreign(self) -> ResultFileError:
        return ResultFileError(
            f"{self.path} contains no batchrun results; choose another -o (or --overwrite to discard it)"
        )

    def _take_in_rescued(self) -> None:
        """Append what an earlier run saved elsewhere; should that be killed, doubles are set aside later."""
        rescue = self._paths.rescue
        if not rescue.is_file() or (self._size and not self._has_a_record()):
            return
        try:
            with rescue.open("rb") as saved:
                for _ in _batches(saved, rescue):  # before anything is changed: are they of this version?
                    pass
                saved.seek(0)
                for raw in saved:
                    if raw.endswith(b"\n"):
                        write_whole(self._file, raw)
                        self.rescued += 1
            datasync(self._file.fileno())
            rescue.unlink()
        except OSError as error:
            self._truncate(self._size)
            raise DiskError(f"cannot take {rescue} into {self.path}: {error.strerror}; free some space") from error
        self._size = os.fstat(self._file.fileno()).st_size

    def _quarantine(self, spans: list[tuple[int, int]]) -> None:
        """Move lines into the quarantine file, first there, then away from here."""
        fd = self._file.fileno()
        try:
            with self._paths.quarantine.open("ab") as quarantine:
                for start, end in spans:
                    quarantine.writelines(read_pieces(fd, start, end))
                quarantine.flush()
                os.fsync(quarantine.fileno())
        except OSError as error:
            raise DiskError(f"cannot write {self._paths.quarantine}: {error.strerror}; free some space") from error
        self._rewrite_without(spans)
        self.quarantined += len(spans)

    def _rewrite_without(self, spans: list[tuple[int, int]]) -> None:
        """Replace the file, atomically, by one that lacks the byte ranges `spans` (ascending)."""
        fd, temporary = self._file.fileno(), self._paths.rewrite
        copy: IO[bytes] | None = None
        try:
            copy = open_locked(temporary)  # locked before it can be found under its final name
            assert copy is not None, "nobody else writes there while the result file is locked"
            start = 0
            for gap_start, gap_end in [*spans, (self._size, self._size)]:
                for piece in read_pieces(fd, start, gap_start):
                    write_whole(copy, piece)
                start = gap_end
            os.fsync(copy.fileno())
            temporary.chmod(os.fstat(fd).st_mode & 0o777)
            temporary.replace(self.path)
            self._file, copy = copy, self._file
            self._size = os.fstat(self._file.fileno()).st_size
            sync_directory(self.path.parent)
        except OSError as error:
            raise DiskError(
                f"cannot rewrite {self.path}: {error.strerror}; free some space and run it again"
            ) from error
        finally:
            if copy is not None:
                copy.close()
            temporary.unlink(missing_ok=True)

    # --------------------------------------------------------------------------------------- appending

    def append(self, records: Sequence[bytes]) -> None:
        """Write whole records, newlines included, with one write, or as many as there is room for.

        Raises `DiskError`, which knows how many were written; the file then ends where it did before, or after those.
        """
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
            datasync(self._file.fileno())
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
        rescue, fd = self._paths.rescue, self._file.fileno()
        try:
            with rescue.open("ab", buffering=0) as saved:
                if not self._lost_its_place and os.fstat(fd).st_nlink == 0:
                    for piece in read_pieces(fd, 0, self._size):
                        write_whole(saved, piece)
                write_whole(saved, records)
        except OSError:
            return "run the same command again"
        self._lost_its_place = True
        return f"the answers are saved in {rescue.name}, and the same command takes them in when it is run again"

    def _truncate(self, size: int) -> None:
        try:
            self._file.truncate(size)
        except OSError as error:
            raise DiskError(f"cannot shorten {self.path}: {error.strerror}") from error
        self._size = size


def _is_record(raw: bytes) -> bool:
    try:
        parse_result(raw)
    except (ValueError, UnknownVersionError):
        return False
    return True


def _is_json(raw: bytes) -> bool:
    try:
        msgspec.json.decode(raw, type=msgspec.Raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def read_results(path: Path) -> Iterator[ResultHead | None]:
    """The records of a result file that is not opened to be written; None for each line that is none.

    Raises `ResultFileError` where the file holds records of another version.
    """
    with path.open("rb", buffering=_BUFFER) as lines:
        for heads, damaged in _batches(lines, path):
            yield from heads
            yield from [None] * len(damaged)


def other_version(path: Path, error: UnknownVersionError) -> ResultFileError:
    """The refusal of a file whose records this program does not know."""
    return ResultFileError(
        f"{path} has {error}; batchrun {__version__} reads version {VERSION}. The file is left untouched: "
        "choose another -o, or use the batchrun that wrote it"
    )


_Batch = tuple[Sequence[ResultHead], list[tuple[int, int]]]


def _batches(lines: IO[bytes], path: Path, start: int = 0, end: int = sys.maxsize) -> Iterator[_Batch]:
    """Records, many at a time, and the offsets of the lines among them that are none; from `start` up to `end`."""
    while start < end and (batch := lines.readlines(_BATCH)):
        size = sum(map(len, batch))
        while start + size > end:
            size -= len(batch.pop())
        try:
            heads = parse_results(batch)
        except ValueError:
            try:
                yield _one_by_one(batch, start)
            except UnknownVersionError as error:
                raise other_version(path, error) from None
        else:
            yield heads, []
        start += size


def _one_by_one(batch: list[bytes], start: int) -> _Batch:
    heads, damaged = list[ResultHead](), list[tuple[int, int]]()
    for raw in batch:
        try:
            heads.append(parse_result(raw))
        except ValueError:
            damaged.append((start, start + len(raw)))
        start += len(raw)
    return heads, damaged
