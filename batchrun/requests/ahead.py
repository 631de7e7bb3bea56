"""Another process that prescans a large request file, while this one reads the records that go with it.

1. It has two open files, the requests and one without a name, into which it writes what it finds: ids, the hashes of
   bodies, and their sizes. Through a pipe it says how much has been written. Nothing else goes to it: no arguments but
   numbers, and only `PYTHONPATH` as its environment.
2. It ends at the end of the file, where something is wrong, and as soon as this process is gone: its next word fails.
3. Whatever ends it, this process reads on from where it was, and meets itself what was wrong.
"""

from __future__ import annotations

import contextlib
import gc
import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from itertools import islice
from typing import IO

import msgspec

from batchrun.requests.batches import Batch, batches
from batchrun.requests.by_offset import by_offset
from batchrun.requests.opened import BUFFER_BYTES
from batchrun.requests.prescan import Prescan

LEAST_BYTES = 1 << 26
"""With less to be read, of requests or of records, no other process is started."""
_QUIET_S = 10.0
"""A process that says nothing for so long is ended."""
MOST_UNKNOWN = 256
"""After so many batches in a row without a line that is known, the other process is ended: it is of no use."""
_GROUP = 16
_LENGTH_BYTES = 8
_SERVE = "from batchrun.requests.ahead import serve; serve()"


class _Found(msgspec.Struct, array_like=True, gc=False):
    """What was found in one batch."""

    first: int
    end_bytes: int
    ids: list[str]
    body_hashes: list[str]
    body_bytes: list[int]


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[_Found]).decode


def is_worthwhile(request_bytes: int, record_bytes: int) -> bool:
    """Whether another process would make the reading of two files quicker."""
    return min(request_bytes, record_bytes) >= LEAST_BYTES and hasattr(os, "pread") and _cores() > 1


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Ahead:
    """A process that prescans the lines of a file between two offsets. Raises `OSError` where none can be started.

    `number`: that of the line before them.
    """

    def __init__(self, file: IO[bytes], number: int, start_bytes: int, end_bytes: int) -> None:
        if not sys.executable:
            raise OSError("this program has no interpreter of its own")
        self._found = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
        self._read_bytes = 0
        descriptors = file.fileno(), self._found.fileno()
        numbers = *descriptors, number, start_bytes, end_bytes
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-c", _SERVE, *map(str, numbers)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                bufsize=0,
                env={"PYTHONPATH": os.pathsep.join(sys.path)},
                pass_fds=descriptors,
                start_new_session=True,  # so that Ctrl-C does not reach it
            )
        except BaseException:
            self._found.close()
            raise
        self.pid = self._process.pid

    def batches(self) -> Iterator[Batch]:
        """What it has found so far and finds from now on, until it ends."""
        while group := self._next():
            for one in group:
                yield Batch(one.first, [], one.end_bytes, Prescan(one.ids, one.body_hashes, one.body_bytes))

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        with self._process:  # closes its pipe, and waits for it
            self._found.close()

    def _next(self) -> list[_Found]:
        """What was found in the next batches; nothing where the process has ended, or says nothing more."""
        assert self._process.stdout is not None, "it was started with a pipe"
        said = select.poll()
        said.register(self._process.stdout, select.POLLIN)
        if not said.poll(_QUIET_S * 1000):
            return []
        length = self._process.stdout.read(_LENGTH_BYTES)
        size = int.from_bytes(length, "little")
        with contextlib.suppress(OSError, msgspec.DecodeError):
            piece = os.pread(self._found.fileno(), size, self._read_bytes)
            self._read_bytes += size
            return _decode(piece) if size else []
        return []


def serve() -> None:
    """Prescan what the arguments say. Runs in the other process."""
    gc.disable()  # it makes nothing that refers to itself
    requests, found, number, start_bytes, end_bytes = map(int, sys.argv[1:])
    with os.fdopen(requests, "rb") as file, os.fdopen(found, "wb", 0) as there, os.fdopen(1, "wb", 0) as pipe:
        lines = batches(by_offset(file, BUFFER_BYTES), number, start_bytes, end_bytes)
        while group := list(map(_prescanned, islice(lines, _GROUP))):
            encoded = _encode(group)
            there.write(encoded)
            pipe.write(len(encoded).to_bytes(_LENGTH_BYTES, "little"))


def _prescanned(batch: Batch) -> _Found:
    ids, body_hashes, body_bytes = batch.prescan()
    return _Found(batch.first, batch.end_bytes, ids, body_hashes, list(body_bytes))
