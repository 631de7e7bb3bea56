"""Reads a request file in batches of lines: up to 64 KB, or one longer line.

Lines end only at the byte `\\n`. A BOM, a CR before the newline and blank lines are not content. A line is read up to
its size limit and no further.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO

from batchrun.records.request import MAX_LINE_BYTES
from batchrun.requests.prescan import Prescan, prescan

BATCH_BYTES = 1 << 16
STRIDE = 4096
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_SKIPPED_BYTES = 1 << 17


@dataclass(slots=True)
class Batch:
    """Some lines: the number of the first, their bytes without newlines (a blank line is empty), and the offset behind
    them. `prescanned`: what another process has found; then the bytes are not there."""

    first: int
    lines: list[bytes]
    end_bytes: int
    prescanned: Prescan | None = None

    @property
    def last(self) -> int:
        """The number of the last line."""
        found = self.prescanned
        return self.first - 1 + len(self.lines if found is None else found.ids)

    @property
    def ends_stride(self) -> bool:
        """Whether the last line is a multiple of `STRIDE`."""
        return not self.last % STRIDE

    def prescan(self) -> Prescan:
        """What a prescan tells of the lines."""
        return prescan(self.lines) if self.prescanned is None else self.prescanned


def batches(file: IO[bytes], number: int, start_bytes: int, end_bytes: int) -> Iterator[Batch]:
    """The lines between two offsets, or up to the end of the file; `number` is that of the line before them.

    Each multiple of `STRIDE` is the last line of its batch. Raises `OSError`.
    """
    left, longest = end_bytes - start_bytes, MAX_LINE_BYTES + 1
    lines, until = list[bytes](), left - BATCH_BYTES
    file.seek(start_bytes)
    while left > 0 and (raw := file.readline(longest if left > longest else left)):
        left -= len(raw)
        number += 1
        if len(raw) == longest:
            left -= _skip_line(file)
        if number == 1:
            raw = raw.removeprefix(_BOM)
        lines.append(raw.strip(_BLANK))
        if left <= until or not number % STRIDE:
            yield Batch(number - len(lines) + 1, lines, end_bytes - left)
            lines, until = [], left - BATCH_BYTES
    if lines:
        yield Batch(number - len(lines) + 1, lines, end_bytes - left)


def _skip_line(file: IO[bytes]) -> int:
    """Read past the rest of a line that is too long; returns the bytes skipped."""
    skipped = 0
    while piece := file.readline(_SKIPPED_BYTES):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped
