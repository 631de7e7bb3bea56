"""Opens a file, standard input or a pipe, compressed or not, as one that can be read again and again.

What cannot be read twice (standard input, a pipe, a compressed file) is first copied to a temporary file without a
name. The first bytes of a file decide whether it is compressed, not its name.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import select
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from batchrun.errors import UsageError

BUFFER_BYTES = 1 << 17
_HEED_MS = 200
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


def opened(path: str, name: str, files: contextlib.ExitStack) -> tuple[IO[bytes], os.stat_result | None]:
    """The file at `path` (`-` is standard input), seekable and decompressed; and the status of its source, if any.

    `name` is what messages call it; `files` closes it. Raises `UsageError`, `OSError`, `EOFError` and `zlib.error`.
    """
    if path == "-" and sys.stdin is None:
        raise UsageError("standard input is closed; name a file")
    source = sys.stdin.buffer if path == "-" else files.enter_context(Path(path).open("rb", BUFFER_BYTES))  # noqa: SIM115
    try:
        status = os.fstat(source.fileno())
    except io.UnsupportedOperation:  # standard input is not a file
        status = None
    if path == "-" or status is None or not stat.S_ISREG(status.st_mode):
        source = _copy(source, files)
    magic = source.read(4)
    source.seek(0)
    if magic.startswith(_GZIP):
        source = _copy(cast("IO[bytes]", gzip.GzipFile(fileobj=source)), files)
    elif magic == _ZSTD:
        source = _unpacked_zstd(source, name, files)
    return source, status


def _copy(source: IO[bytes], files: contextlib.ExitStack) -> IO[bytes]:
    copy = files.enter_context(tempfile.TemporaryFile(buffering=BUFFER_BYTES))  # noqa: SIM115
    copy.writelines(_arriving(source))
    copy.seek(0)
    return copy


def _arriving(source: Any) -> Iterator[bytes]:
    """The pieces of a pipe or a file as they arrive, without a blocking read: Python would handle a signal that comes
    just before such a read only after it, which may be never."""
    wait = None
    with contextlib.suppress(io.UnsupportedOperation, AttributeError):  # not a file; Windows has no poll
        poll = select.poll()
        poll.register(source.fileno(), select.POLLIN)
        wait = poll.poll
    while True:
        if wait is not None and not wait(_HEED_MS):
            continue
        if not (piece := source.read1(BUFFER_BYTES)):
            return
        yield piece


def _unpacked_zstd(source: IO[bytes], name: str, files: contextlib.ExitStack) -> IO[bytes]:
    """An unpacked copy of a zstd file, made frame by frame: zstandard's own reader accepts a torn file as whole."""
    try:
        import zstandard
    except ImportError:
        raise UsageError(f"{name} is zstd-compressed; pip install zstandard, or unpack it first") from None
    copy = files.enter_context(tempfile.TemporaryFile(buffering=BUFFER_BYTES))  # noqa: SIM115
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while piece := source.read(1024):  # even so few bytes can unpack to 32 MiB
            while piece:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                copy.write(frame.decompress(piece))
                piece = frame.unused_data
    except zstandard.ZstdError as error:
        raise UsageError(f"cannot read {name}: {error}") from error
    if not frame.eof:
        raise EOFError("the zstd data ends too early; is the file complete?")
    copy.seek(0)
    return copy
