"""A file that is open already, read at an offset of its own: beside its other reader, and in a thread."""

from __future__ import annotations

import io
import os
from typing import IO, Any


def by_offset(file: IO[bytes], buffer_bytes: int = io.DEFAULT_BUFFER_SIZE) -> io.BufferedReader:
    """An open file, from its beginning."""
    return io.BufferedReader(_ByOffset(file.fileno()), buffer_bytes)


class _ByOffset(io.RawIOBase):
    """Reads an open file at an offset of its own."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._offset = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Go to an offset from the beginning, from here or from the end; the offset from the beginning."""
        from_end = whence == os.SEEK_END
        start = os.fstat(self._descriptor).st_size if from_end else self._offset if whence == os.SEEK_CUR else 0
        self._offset = start + offset
        return self._offset

    def tell(self) -> int:
        """The offset of the next byte."""
        return self._offset

    def readinto(self, buffer: Any, /) -> int:
        """Fill `buffer` as far as the file goes; the number of bytes."""
        data = os.pread(self._descriptor, len(buffer), self._offset)
        buffer[: len(data)] = data
        self._offset += len(data)
        return len(data)
