"""Result files that many machines wrote side by side: a directory is read as the one file that it stands for.

1. A directory is one of results if it has a `plan.json`. Its result files are `shard-00000.jsonl`, `shard-00001.jsonl`
   and so on; each is a result file like any other, with its own run log beside it.
2. `open_results` is the one way in which result files are opened to be read. A directory is read as if its files
   stood one after the other, in the order of their names; offsets count through all of them.
3. What is read is what the files had when they were opened. A file may end in half a line: it is given a newline, so
   that the next file begins on a line of its own.
"""

from __future__ import annotations

import contextlib
import io
import os
from bisect import bisect_right
from pathlib import Path
from typing import IO, Any

from batchrun.results.paths import ResultPaths

PLAN = "plan.json"
BUFFER_BYTES = 1 << 17


def is_directory_of_results(path: Path) -> bool:
    """Whether a directory holds the results of many machines."""
    return os.path.isfile(path / PLAN)  # noqa: PTH113 (pathlib raises for long names)


def shard_path(directory: Path, number: int) -> Path:
    """The result file of a shard, by its number from 0."""
    return directory / f"shard-{number:05}.jsonl"


def files_of(results: Path) -> list[Path]:
    """The result files that are there: the file itself, or those in a directory, in order."""
    if not is_directory_of_results(results):
        return [results]
    found = [path for path in results.glob("shard-*.jsonl") if path.name[6:-6].isdecimal()]
    return sorted(found, key=lambda path: int(path.name[6:-6]))


def parts_of(results: Path) -> list[ResultPaths]:
    """The result files that are there, each with what belongs to it."""
    return [ResultPaths.of(path) for path in files_of(results)]


def open_results(results: Path) -> IO[bytes]:
    """A result file, or all those of a directory as one, opened to be read. Raises `OSError`."""
    if not is_directory_of_results(results):
        return results.open("rb", buffering=BUFFER_BYTES)
    return io.BufferedReader(_ManyFiles(files_of(results)), BUFFER_BYTES)


def read_at(file: IO[bytes], size: int, offset: int) -> bytes:
    """Up to `size` bytes of what `open_results` gave, from an offset on. Any number of threads may read so."""
    raw = getattr(file, "raw", None)
    if isinstance(raw, _ManyFiles):
        return raw.read_at(size, offset)
    return os.pread(file.fileno(), size, offset)


def bytes_of(results: Path) -> int:
    """The size of a result file, or of all those of a directory; those that cannot be looked at have none."""
    size = 0
    for path in files_of(results):
        with contextlib.suppress(OSError):
            size += path.stat().st_size
    return size


def size_of(file: IO[bytes]) -> int:
    """The bytes of what `open_results` gave: of one file those that it has now."""
    raw = getattr(file, "raw", None)
    return raw.size_bytes if isinstance(raw, _ManyFiles) else os.fstat(file.fileno()).st_size


def identity_of(file: IO[bytes]) -> str:
    """What tells the file, or the files, that `open_results` gave from all others."""
    raw = getattr(file, "raw", None)
    if isinstance(raw, _ManyFiles):
        return raw.identity
    status = os.fstat(file.fileno())
    return f"{status.st_dev} {status.st_ino}"


def is_still(file: IO[bytes], results: Path, read_bytes: int) -> bool:
    """Whether what `open_results` gave is still what that path leads to, with all that was read of it.

    Of a directory, no file may have grown: offsets would be others. What was removed stays as it was opened.
    """
    raw = getattr(file, "raw", None)
    try:
        if isinstance(raw, _ManyFiles):
            return raw.identity == ", ".join(_identity(path.stat()) for path in files_of(results))
        status = results.stat()
    except OSError:
        return True
    opened = os.fstat(file.fileno())
    return os.path.samestat(status, opened) and opened.st_size >= read_bytes


def _identity(status: os.stat_result) -> str:
    return f"{status.st_dev} {status.st_ino} {status.st_size}"


class _ManyFiles(io.RawIOBase):
    """Files read as one, each as long as it was when this was made, and each ended by a newline."""

    def __init__(self, paths: list[Path]) -> None:
        super().__init__()
        self._starts, self._sizes, self._files = list[int](), list[int](), list[IO[bytes]]()
        self._identities = list[str]()
        self._offset = self.size_bytes = 0
        try:
            for path in paths:
                self._add(path)
        except BaseException:
            self.close()
            raise

    def _add(self, path: Path) -> None:
        file = path.open("rb", buffering=0)
        self._files.append(file)
        status = os.fstat(file.fileno())
        size = status.st_size
        self._identities.append(_identity(status))
        self._starts.append(self.size_bytes)
        self._sizes.append(size)
        is_torn = size > 0 and os.pread(file.fileno(), 1, size - 1) != b"\n"
        self.size_bytes += size + is_torn

    @property
    def identity(self) -> str:
        """The files, and how long each was."""
        return ", ".join(self._identities)

    def close(self) -> None:
        """Close all files."""
        for file in self._files:
            file.close()
        super().close()

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the beginning, from here or from the end; the offset from the beginning."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._offset, os.SEEK_END: self.size_bytes}[whence]
        self._offset = base + offset
        return self._offset

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as one file goes; the number of bytes."""
        data = self._piece(len(buffer), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def read_at(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes from an offset on; fewer at the end of all."""
        pieces = []
        while size > 0 and (piece := self._piece(size, offset)):
            pieces.append(piece)
            size, offset = size - len(piece), offset + len(piece)
        return b"".join(pieces)

    def _piece(self, size: int, offset: int) -> bytes:
        """Up to `size` bytes of the one file in which an offset lies; none at the end of all."""
        if offset >= self.size_bytes:
            return b""
        number = bisect_right(self._starts, offset) - 1  # of empty files that begin there, the one that follows them
        inside = offset - self._starts[number]
        if inside == self._sizes[number]:
            return b"\n"
        return os.pread(self._files[number].fileno(), min(size, self._sizes[number] - inside), inside)
