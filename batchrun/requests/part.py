"""A part of a request file: whole lines between two offsets, with the numbers that they have in the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from zlib import crc32


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of a request file.

    `start_bytes`, `end_bytes`: where the first of them begins and the last one ends. `first_line`: the number of the
    first, from 1. `total_lines`: how many requests the whole file has. `before`: how often a bare body of this part
    occurs in earlier parts, by the 64 bits of its id. `repeated`: bodies that occur more than once in the whole file,
    by their `body_key`; known only where answers are reused. `highest_rank`: of the lines of a sample; None for all.
    """

    start_bytes: int
    end_bytes: int
    first_line: int = 1
    total_lines: int = 0
    before: Mapping[int, int] = field(default_factory=dict)
    repeated: frozenset[int] = frozenset()
    highest_rank: int | None = None


def body_key(body_hash: str, path: str) -> int:
    """64 bits of a body and of where it is sent, the same in every process."""
    return int(body_hash[:16], 16) ^ crc32(path.encode())
