"""A part of a request file: whole lines between two offsets, with the numbers that they have in the whole file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Part:
    """Whole lines of a request file.

    `start_bytes`, `end_bytes`: where the first of them begins and the last one ends. `first_line`: the number of the
    first, from 1. `total_lines`: how many requests the whole file has. `before`: how often a bare body of this part
    occurs in earlier parts, by the 64 bits of its id.
    """

    start_bytes: int
    end_bytes: int
    first_line: int = 1
    total_lines: int = 0
    before: Mapping[int, int] = field(default_factory=dict)
