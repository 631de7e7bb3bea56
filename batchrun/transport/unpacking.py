"""Bodies that are compressed, unpacked as they come, a piece at a time, so that no small body fills the memory.

A body that is not compressed, whatever its header says, is passed on as it is.
"""

from __future__ import annotations

import zlib
from typing import Protocol

PIECE_BYTES = 1 << 20  # of what a piece unpacks to
_GZIP, _ZLIB, _RAW = 31, 15, -15  # zlib's names for the three formats
_PLAIN = (b"{", b"[", b"<", b"data:", b"event:", b":")


class Content(Protocol):
    """A body as it arrives; `aiohttp.StreamReader` is one."""

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        ...

    async def readany(self) -> bytes:
        """The bytes that are there; waits for some; empty at the end."""
        ...


class Unpacked:
    """The `Content` of `packed`, whose header names `encoding`. If it is broken, reading raises `ValueError`."""

    def __init__(self, packed: Content, encoding: str) -> None:
        self.packed = packed
        self._encoding = encoding.strip().lower()
        self._unzip = zlib.decompressobj(_GZIP)
        self._rest = b""
        self.has_more = self._is_begun = self._is_plain = False

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        return not self.has_more and self.packed.at_eof()

    async def readany(self) -> bytes:
        """The bytes that are there, unpacked, about a megabyte at most; waits for some; empty at the end."""
        while True:
            piece = self.unpack(b"" if self.has_more else await self.packed.readany())
            if piece or self.at_eof():
                return piece

    def unpack(self, packed: bytes) -> bytes:
        """The next bytes, unpacked; what is above `PIECE_BYTES` is kept for the next call."""
        if packed and not self._is_begun:
            self._begin(packed)
        if self._is_plain:
            return packed
        packed, self._rest = self._rest + packed, b""
        if self._unzip.eof:  # another part may follow; all else behind the end counts for nothing
            if not packed.startswith(b"\x1f\x8b"):
                self.has_more = False
                return b""
            self._unzip = zlib.decompressobj(_GZIP)
        try:
            piece = self._unzip.decompress(packed, PIECE_BYTES)
        except zlib.error:
            raise ValueError(f"broken {self._encoding}") from None
        self._rest = self._unzip.unused_data if self._unzip.eof else self._unzip.unconsumed_tail
        self.has_more = bool(self._rest) or len(piece) == PIECE_BYTES
        return piece

    def _begin(self, packed: bytes) -> None:
        """Choose the format by the first bytes: headers are wrong now and then, and deflate has two forms."""
        self._is_begun = True
        if packed[0] == 0x1F:
            return
        if self._encoding == "deflate" and not packed.lstrip().startswith(_PLAIN):
            is_zlib = packed[0] & 0x0F == 8 and packed[0] >> 4 <= 7
            self._unzip = zlib.decompressobj(_ZLIB if is_zlib else _RAW)
        else:
            self._is_plain = True
