"""Another process that reads a large file, so that two processors work on its index: one reads, one writes words.

1. It is a copy of this one (`os.fork`), made before anything else runs here, and only sends blocks through a pipe.
2. It ends at the end of the file, where something is wrong, and as soon as nobody takes its blocks: its next write
   fails. Whoever takes them reads on from the last one, and meets himself what was wrong.
3. Where there is no such process to be had, this one reads by itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import IO

import msgspec

from batchrun.viewer.blocks import Block

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LEAST_BYTES = 1 << 25
"""With less to be read, no other process is made."""
_LENGTH_BYTES, _PIPE_BYTES = 8, 1 << 20

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Block).decode


def is_worthwhile(left_bytes: int) -> bool:
    """Whether another process would make the reading of so many bytes quicker."""
    return left_bytes >= LEAST_BYTES and hasattr(os, "fork") and (os.cpu_count() or 1) > 1


class ReadingProcess:
    """A process that makes blocks. Raises `OSError` where none can be made."""

    def __init__(self, make: Callable[[], Iterable[Block]]) -> None:
        ours, theirs = os.pipe()
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with contextlib.suppress(OSError):  # then they wait for one another more often
                fcntl.fcntl(ours, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # no lock of another thread is taken over there
                self.pid = os.fork()
        except OSError:
            os.close(ours)
            os.close(theirs)
            raise
        if not self.pid:
            os.close(ours)
            _send_all(theirs, make)
        os.close(theirs)
        self._pipe: IO[bytes] = os.fdopen(ours, "rb", buffering=0)

    def next(self) -> Block | None:
        """The next block; None where the process has ended."""
        length = self._piece(_LENGTH_BYTES)
        piece = self._piece(int.from_bytes(length, "little")) if len(length) == _LENGTH_BYTES else b""
        with contextlib.suppress(msgspec.DecodeError):  # half of one, as it was killed
            return _decode(piece)
        return None

    def close(self) -> None:
        """End the process."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)

    def _piece(self, size: int) -> bytearray:
        piece = bytearray(size)
        view, there = memoryview(piece), 0
        while there < size and (count := self._pipe.readinto(view[there:])):  # type: ignore[attr-defined]
            there += count
        return piece[:there]


def _send_all(pipe: int, make: Callable[[], Iterable[Block]]) -> None:
    """What the process does. It leaves without any of the work that the other one has to do at its own end."""
    code = 1  # something was wrong: the other one finds out what by reading on
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the other one
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        gc.disable()  # it ends soon, and makes nothing that refers to itself
        for piece in _pieces(make()):
            sent = 0
            while sent < len(piece):
                sent += os.write(pipe, memoryview(piece)[sent:])
        code = 0
    finally:
        os._exit(code)


def _pieces(blocks: Iterable[Block]) -> Iterator[bytes]:
    for block in blocks:
        encoded = _encode(block)
        yield len(encoded).to_bytes(_LENGTH_BYTES, "little")
        yield encoded
