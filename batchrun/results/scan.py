"""Reads result files line by line: records in batches, damaged lines by their place; other versions are refused."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import accumulate
from pathlib import Path
from typing import IO

from batchrun.errors import ResultFileError, UsageError
from batchrun.records.result import (
    VERSION,
    ResultHead,
    UnknownVersionError,
    parse_result,
    parse_results,
)
from batchrun.results.parts import BUFFER_BYTES as BUFFER_BYTES
from batchrun.results.parts import open_results, read_at
from batchrun.version import __version__

Batch = tuple[Sequence[ResultHead], list[tuple[int, int]]]
BATCH_BYTES = 1 << 17  # what stays in a core's cache with all that is made of it
_FIRST_PIECE = 1 << 12  # which most records fit into


def read_results(path: Path) -> Iterator[ResultHead | None]:
    """The records of a result file; None for each line that is not a record. See `read_many`."""
    for heads, damaged in read_many(path):
        yield from heads
        yield from [None] * len(damaged)


def read_many(path: Path) -> Iterator[Batch]:
    """The records of a result file, or of a directory of them, many at a time; opened only to be read.

    Raises `UsageError` if the file has lines and none is a record, `ResultFileError` if it has records of another
    version, `OSError` if it cannot be read.
    """
    is_any, is_damaged = False, False
    with open_results(path) as lines:
        for heads, damaged in read_batches(lines, path):
            yield heads, damaged
            is_any, is_damaged = is_any or bool(heads), is_damaged or bool(damaged)
    if is_damaged and not is_any:
        raise no_results(path)


def refuse_without_results(path: Path) -> None:
    """Read a file up to its first record. Raises as `read_many` does; half a line alone may become one."""
    with open_results(path) as lines:
        if not lines.readline().endswith(b"\n"):
            return
    next((heads for heads, _ in read_many(path) if heads), None)


def no_results(path: Path) -> UsageError:
    """The error for a file that has lines of which none is a record."""
    return UsageError(f"{path} contains no batchrun results")


def other_version(path: Path, error: UnknownVersionError) -> ResultFileError:
    """The error for a file whose records have a version that this program does not know."""
    return ResultFileError(
        f"{path} has {error}; batchrun {__version__} reads version {VERSION}. The file is left untouched: "
        "choose another -o, or use the batchrun that wrote it"
    )


def read_batches(lines: IO[bytes], path: Path, start: int = 0, end: int = sys.maxsize) -> Iterator[Batch]:
    """Batches of records, each with the offsets of its lines that are not records; from offset `start` to `end`."""
    while start < end and (batch := lines.readlines(BATCH_BYTES)):
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


def _one_by_one(batch: list[bytes], start: int) -> Batch:
    heads, damaged = list[ResultHead](), list[tuple[int, int]]()
    for raw in batch:
        try:
            heads.append(parse_result(raw))
        except ValueError:
            damaged.append((start, start + len(raw)))
        start += len(raw)
    return heads, damaged


def read_places(lines: IO[bytes], path: Path, start: int = 0) -> Iterator[tuple[ResultHead | None, int]]:
    """Every line of a result file from offset `start`, where `lines` stands, and where it begins.

    None stands for a line that is not a record. Raises `ResultFileError` for a record of another version.
    """
    while batch := lines.readlines(BATCH_BYTES):
        yield from zip(heads_of(batch, path), accumulate(map(len, batch), initial=start), strict=False)
        start += sum(map(len, batch))


def heads_of(lines: Sequence[bytes], path: Path) -> Sequence[ResultHead | None]:
    """The heads of some lines; None for a line that is not a record. Raises as `read_places` does."""
    try:
        return parse_results(lines)
    except ValueError:
        return [_record_or_none(raw, path) for raw in lines]


def record_at(lines: IO[bytes], offset: int) -> bytes:
    """The line that begins at an offset, without its newline; all that is left where there is none. Any number of
    threads may read so from one file."""
    size = _FIRST_PIECE
    while True:
        piece = read_at(lines, size, offset)
        if (end := piece.find(b"\n")) >= 0:
            return piece[:end]
        if len(piece) < size:
            return piece
        size *= 4


def _record_or_none(raw: bytes, path: Path) -> ResultHead | None:
    try:
        return parse_result(raw)
    except UnknownVersionError as error:
        raise other_version(path, error) from None
    except ValueError:
        return None


def lines_at(lines: IO[bytes], size: int, offset: int) -> tuple[list[bytes], bytes]:
    """The whole lines from an offset on, without their newlines: those in the next `size` bytes, or a longer one.

    Beside them what follows the last line where the file ends there: half a line, or nothing. Any number of threads
    and processes may read so from one file.
    """
    while True:
        piece = read_at(lines, size, offset)
        end = piece.rfind(b"\n")
        if end >= 0 or len(piece) < size:
            found = piece[:end].split(b"\n") if end >= 0 else []
            return found, piece[end + 1 :] if len(piece) < size else b""
        size *= 4
