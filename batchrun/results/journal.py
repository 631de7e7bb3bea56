"""The result file: locked, recovered, appended to. It is the journal and the checkpoint of the job.

1. A line is done when the file contains its whole record, newline included. Nothing else on disk counts.
2. Records are appended whole. If a write fails, the file is cut back to its last good size and the run ends.
3. If a sync fails, the run ends and the sync is never tried again: the kernel may have dropped the pages already.
4. The file is only shortened at a torn tail; every other removal is a rewrite (temporary file, sync, rename).
5. A damaged line goes to `RESULTS.quarantine`, and its request is sent again.
6. A file without a single batchrun record is refused, and so is a file with records of another version. Nothing in
   such a file is changed.
7. If another program removes, replaces or changes the file during a run, the answers go to `RESULTS.rescue`. The next
   run adds them to the result file.

After `kill -9`, only the answers in flight are lost. After a power cut, the records of the last second may be lost too.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import msgspec

from batchrun.errors import DiskError, LockedError, ResultFileError
from batchrun.records.result import (
    ResultHead,
    UnknownVersionError,
    names_this_version,
    parse_result,
)
from batchrun.results.files import (
    PIECE_BYTES,
    NoLocksError,
    datasync,
    no_link,
    open_locked,
    open_unlocked,
    read_pieces,
    sync_directory,
    write_whole,
)
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import no_locks
from batchrun.results.scan import BUFFER_BYTES, Batch, other_version, read_batches

_OUR_START = b'{"id":"batch_req_'


class Journal:
    """An open result file. Use as a context manager; one process at a time.

    `quarantined` counts the lines that were moved to the quarantine file, `rescued` the answers that were added from
    the rescue file. Raises `ResultFileError` if the file cannot be opened to write, or another process has its lock.
    """

    def __init__(self, paths: ResultPaths) -> None:
        self.path = path = paths.results
        self._paths = paths
        existed = path.exists()
        self.is_new = not existed and not paths.rescue.exists()
        self.quarantined = 0
        self.rescued = 0
        self.cut_tail = False
        self._sync_error: DiskError | None = None
        self._lost_its_place = False
        if existed and not self.path.is_file():
            raise ResultFileError(f"{path} is not a regular file; choose another -o, or -o - for a pipe")
        with contextlib.ExitStack() as on_error:
            try:
                file = open_locked(self.path) if paths.locks else open_unlocked(self.path)
                if file is None:
                    raise LockedError(f"{path} is being written by another run; wait for it or choose another -o")
                on_error.callback(file.close)
                if not existed:
                    sync_directory(self.path.parent)
                self._paths.rewrite.unlink(missing_ok=True)  # a rewrite that was killed
            except NoLocksError as error:
                raise no_locks(path, error) from error
            except OSError as error:
                raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
            on_error.pop_all()
        self._file = file
        self._size = os.fstat(file.fileno()).st_size

    @property
    def size_bytes(self) -> int:
        """The size of the file."""
        return self._size

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self, *, forget: bool = False) -> None:
        """Unlock and close; `forget` also removes the file if this process made it and wrote nothing to it."""
        if forget and self.is_new and self._size == 0:
            with contextlib.suppress(OSError):
                self.path.unlink()
        self._file.close()

    def clear(self) -> None:
        """Start over: discard all records, and the rescue file too."""
        self._paths.rescue.unlink(missing_ok=True)
        self._truncate(0)

    # ---------------------------------------------------------------------------------------- recovery

    def batches(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records, in file order; the file is repaired once it has been read to its end.

        A torn tail is cut off, rescued answers are added, damaged lines are moved to the quarantine file. Raises
        `ResultFileError` if the file has lines and none is a record, or a record has another version; the file is then
        unchanged.
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
        """Rewrite the file without the records that `is_unwanted` selects, and return their number.

        `to_quarantine` moves them to the quarantine file. Raises `DiskError` if a file cannot be written.
        """
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

    def _read_records(self, start: int, end: int) -> Iterator[Batch]:
        with self._opened(start) as lines:
            yield from read_batches(lines, self.path, start, end)

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """(offset, line with its newline) of every whole line."""
        start = 0
        with self._opened() as lines:
            for raw in lines:
                yield start, raw
                start += len(raw)

    def _opened(self, start: int = 0) -> IO[bytes]:
        lines = os.fdopen(os.dup(self._file.fileno()), "rb", buffering=BUFFER_BYTES)
        lines.seek(start)
        return lines

    def _mend_tail(self, start: int, *, has_records: bool) -> None:
        """Add the missing newline to a last line that is whole; cut it off if a kill left half a record."""
        if start == self._size:
            return
        begins_as_ours = self._read(start, len(_OUR_START)) == _OUR_START[: self._size - start]
        may_be_whole = self._read(self._size - 1, 1) == b"}"
        tail = self._read(start, self._size - start) if may_be_whole else b""
        for _ in read_batches(io.BytesIO(tail), self.path):  # before anything is changed: is it of this version?
            pass
        is_torn = begins_as_ours and not _is_json(tail)
        if is_torn and not names_this_version(self._read(start, PIECE_BYTES)):
            raise other_version(self.path, UnknownVersionError("unknown, in its last line"))
        if not (has_records if start else is_torn or _is_record(tail)):
            raise self._foreign()
        if is_torn:
            self._truncate(start)
            self.cut_tail = True
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
        """Append the answers of the rescue file. If this is killed halfway, a later run quarantines the duplicates."""
        rescue = self._paths.rescue
        if not os.path.lexists(rescue) or (self._size and not self._has_a_record()):
            return
        try:
            with open(rescue, "rb", opener=no_link) as saved:
                for _ in read_batches(saved, rescue):  # raises for records of another version, before any change
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
        """Move lines to the quarantine file: write and sync them there, then remove them here."""
        fd = self._file.fileno()
        try:
            with open(self._paths.quarantine, "ab", opener=no_link) as quarantine:
                for start, end in spans:
                    quarantine.writelines(read_pieces(fd, start, end))
                quarantine.flush()
                os.fsync(quarantine.fileno())
        except OSError as error:
            raise DiskError(f"cannot write {self._paths.quarantine}: {error.strerror}; free some space") from error
        self._rewrite_without(spans)
        self.quarantined += len(spans)

    def _rewrite_without(self, spans: list[tuple[int, int]]) -> None:
        """Replace the file, atomically, by a copy without the byte ranges `spans` (ascending)."""
        fd, temporary = self._file.fileno(), self._paths.rewrite
        copy: IO[bytes] | None = None
        try:
            copy = (
                open_locked(temporary) if self._paths.locks else open_unlocked(temporary)
            )  # locked before it gets its final name
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
        """Append whole records, newlines included, with one write; if that fails, as many as there is room for.

        Raises `DiskError`, whose `written` counts the records that were written; the file ends after the last of them.
        The others are saved in the rescue file, if that can be written.
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
            what_next = self._rescue(b"".join(records[error.written :])) or "Make room and run the same command again"
            failed = DiskError(f"{error}; what is in it is whole. {what_next}")
            failed.written = error.written
            raise failed from error

    def _write(self, whole: bytes) -> None:
        try:
            write_whole(self._file, whole)
        except OSError as error:
            raise DiskError(f"cannot write {self.path}: {error.strerror}") from error
        self._size += len(whole)

    def sync(self) -> None:
        """Make everything that was appended durable, provided that the disk reports truthfully.

        Raises `DiskError` if that fails, and again at every later call; the last records may not survive a power cut.
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
        """Check that the path still leads to this file and that its size is as we left it; else rescue `records`."""
        try:
            self._check_place()
        except DiskError as error:
            raise DiskError(f"{error}; {self._rescue(records) or 'run the same command again'}") from None

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

    def _rescue(self, records: bytes) -> str | None:
        """Save `records` in the rescue file, after all of the result file if that was removed; returns what to do.

        None if that cannot be written either.
        """
        rescue, fd = self._paths.rescue, self._file.fileno()
        try:
            with open(rescue, "ab", buffering=0, opener=no_link) as saved:
                if not self._lost_its_place and os.fstat(fd).st_nlink == 0:
                    self._lost_its_place = True
                    for piece in read_pieces(fd, 0, self._size):
                        write_whole(saved, piece)
                write_whole(saved, records)
        except OSError:
            with contextlib.suppress(OSError):
                if not rescue.lstat().st_size:
                    rescue.unlink()  # an empty one would be told of as if it held answers
            return None
        return f"the answers are saved in {rescue.name}; run the same command again to add them to the results"

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
