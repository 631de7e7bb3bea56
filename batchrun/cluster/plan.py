"""`plan.json`: how the request file of a job is cut into shards, made once and never changed.

1. A shard is a range of bytes that begins and ends at the end of a line. Line numbers are those of the whole file.
2. The plan is written whole or not at all, and never over another one. Whoever comes later takes it as it is.
3. A request file that is not the one of the plan is refused: by its size, its first and last bytes before anything is
   read, and by the hash of each range before anything is sent.
"""

from __future__ import annotations

import os
import secrets
from hashlib import blake2b
from pathlib import Path
from typing import NamedTuple

import msgspec

from batchrun.errors import ResultFileError, UsageError
from batchrun.requests.part import Part
from batchrun.results.parts import PLAN, shard_path

VERSION = 1
MOST_SHARDS = 100_000
_EDGE_BYTES = 1 << 16
_PIECE_BYTES = 1 << 20
_PACKED = {b"\x1f\x8b": ("gzip", "gunzip -k"), b"\x28\xb5\x2f\xfd": ("zstd", "unzstd")}


class Shard(msgspec.Struct, frozen=True, omit_defaults=True):
    """One range of the request file.

    `start_bytes`, `end_bytes`: where it begins and ends. `first_line`: the number of its first line, from 1. `lines`:
    how many requests it has. `hash`: of its bytes. `before`: how often its bare bodies occur in earlier ranges, by id.
    """

    start_bytes: int
    end_bytes: int
    first_line: int
    lines: int
    hash: str
    before: dict[str, int] = {}


class Plan(msgspec.Struct, frozen=True):
    """How a request file is cut.

    `input`: what it was called. `size_bytes`, `head`, `tail`: its size, and the hashes of its first and last bytes.
    `lines`: how many requests it has. `options`: the options that change bodies with which it was checked.
    """

    v: int
    input: str
    size_bytes: int
    head: str
    tail: str
    lines: int
    options: dict[str, str]
    shards: list[Shard]

    def part(self, number: int) -> Part:
        """The lines of a shard."""
        shard = self.shards[number]
        before = {int(name.removeprefix("req-"), 16) or 1: count for name, count in shard.before.items()}
        return Part(shard.start_bytes, shard.end_bytes, shard.first_line, self.lines, before)

    def results(self, directory: Path, number: int) -> Path:
        """The result file of a shard."""
        return shard_path(directory, number)


class Range(NamedTuple):
    """Bytes of a file from `start` on, up to `end`."""

    start: int
    end: int


class Measured(NamedTuple):
    """How many lines a range has, and the hash of its bytes."""

    lines: int
    hash: str


def refuse_uncuttable(path: Path) -> None:
    """Raise `UsageError` for a request file that cannot be cut into ranges, with the way out."""
    if not path.is_file():
        if path.exists():
            raise UsageError(f"{path} is not a regular file, which shards need: write the requests to a file first")
        raise UsageError(f"cannot read {path}: No such file or directory")
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    for magic, (name, unpack) in _PACKED.items():
        if start.startswith(magic):
            raise UsageError(
                f"{path} is {name}-compressed and cannot be cut into shards; unpack it first: {unpack} {path}"
            )
    if not start:
        raise UsageError(f"{path}: no requests in it; write one JSON object a line")


def cut(path: Path, shards: int) -> list[Range]:
    """Cut a file into at most `shards` ranges of about the same size, each at the end of a line."""
    size = path.stat().st_size
    ends = list[int]()
    with path.open("rb") as file:
        for number in range(1, shards):
            file.seek(max(0, size * number // shards - 1))
            file.readline()
            ends.append(min(size, file.tell()))
    starts = sorted({0, *ends} - {size})
    return [Range(start, end) for start, end in zip(starts, [*starts[1:], size], strict=True)]


def measure(path: Path, part: Range) -> Measured:
    """Count the lines of a range and hash its bytes. A last line without a newline is one, too."""
    lines, left, found, last = 0, part.end - part.start, blake2b(digest_size=16), b"\n"
    with path.open("rb", buffering=0) as file:
        file.seek(part.start)
        while left > 0 and (piece := file.read(min(_PIECE_BYTES, left))):
            found.update(piece)
            lines += piece.count(b"\n")
            left -= len(piece)
            last = piece[-1:]
    return Measured(lines + (last != b"\n"), found.hexdigest())


def edges(path: Path) -> tuple[int, str, str]:
    """The size of a file, and the hashes of its first and last bytes."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        head = file.read(_EDGE_BYTES)
        file.seek(max(0, size - _EDGE_BYTES))
        tail = file.read(_EDGE_BYTES)
    return size, blake2b(head, digest_size=16).hexdigest(), blake2b(tail, digest_size=16).hexdigest()


def read_plan(directory: Path) -> Plan | None:
    """The plan of a directory; None if it has none. Raises `ResultFileError` for one that cannot be used."""
    path = directory / PLAN
    try:
        plan = msgspec.json.decode(path.read_bytes(), type=Plan)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ResultFileError(f"cannot read {path}: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise ResultFileError(f"{path} is no plan of batchrun ({error}); choose another -o") from error
    if plan.v != VERSION:
        raise ResultFileError(f"{path} has version {plan.v}; this batchrun reads version {VERSION}; choose another -o")
    return plan


def write_plan(directory: Path, plan: Plan) -> None:
    """Write a plan, whole or not at all. Raises `ResultFileError` if there is one already, or it cannot be written."""
    path, temporary = directory / PLAN, directory / f".{secrets.token_hex(8)}.plan"
    try:
        with temporary.open("xb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(plan), indent=1) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        raise ResultFileError(f"{path} was made by another run just now; run the same command again") from None
    except OSError as error:
        raise ResultFileError(f"cannot write {path}: {error.strerror}; choose another -o") from error
    finally:
        temporary.unlink(missing_ok=True)


def refuse_changed(plan: Plan, requests: Path, directory: Path) -> None:
    """Raise `ResultFileError` if a file is, at a glance, not the one that the plan was made for."""
    if edges(requests) != (plan.size_bytes, plan.head, plan.tail):
        raise changed(requests, directory)


def changed(requests: Path, directory: Path) -> ResultFileError:
    """The error for a request file that was changed after the plan was made."""
    return ResultFileError(
        f"{requests} is not the file that {directory / PLAN} was made for: it was changed, or it is another one. "
        "Put the old one back, or choose another -o and keep the answers that still fit: "
        f"batchrun merge {directory} -o OLD.jsonl, then run with --reuse OLD.jsonl"
    )
