"""A part of the lines: the first N that are not done, or N at random. Pure.

A sample is drawn by the hash of the `custom_id`: it is the same whenever it is drawn again, in whatever order the
lines stand and whichever of them are done, and a larger sample holds every smaller one. So a second run with the
same `--sample` goes on with the same lines, one with a larger number adds to them, and files with the same ids (for
two models, say) have the same sample.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from hashlib import blake2b
from itertools import islice

from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine

_SALT = b"sample"  # not the hash that `hashes.hash64` puts tables in order with


class Sampler:
    """Draws `size` of the lines that it is shown. Memory grows with the sample, not with the file."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._ranks = array("Q")
        self._numbers = array("Q")
        self._bar = 1 << 64

    def add(self, line: RequestLine) -> None:
        """Show it one line."""
        rank = int.from_bytes(blake2b(line.custom_id.encode(), digest_size=8, salt=_SALT).digest(), "little")
        if rank >= self._bar:
            return
        self._ranks.append(rank)
        self._numbers.append(line.line_number)
        if len(self._ranks) >= 2 * self.size + 1024:
            self._prune()

    def drawn(self) -> LineSet:
        """The numbers of the lines in the sample: `size` of them, or all that there are."""
        self._prune()
        lines = LineSet()
        for number in self._numbers:
            lines.add(number)
        return lines

    def _prune(self) -> None:
        """Keep the `size` lowest ranks; what is higher than all of them has no chance any more."""
        if len(self._ranks) <= self.size:
            return
        order = sorted(range(len(self._ranks)), key=self._ranks.__getitem__)[: self.size]
        self._bar = self._ranks[order[-1]] if order else 0
        self._ranks = array("Q", (self._ranks[index] for index in order))
        self._numbers = array("Q", (self._numbers[index] for index in order))


class Unwanted:
    """The numbers of the lines that are not to be sent: done ones, and those outside the sample."""

    def __init__(self, done: LineSet, sample: LineSet | None = None) -> None:
        self._done = done
        self._sample = sample

    def __bool__(self) -> bool:
        return bool(self._done) or self._sample is not None

    def __contains__(self, number: object) -> bool:
        return number in self._done or (self._sample is not None and number not in self._sample)


def first(lines: Iterable[RequestLine], limit: int | None) -> Iterator[RequestLine]:
    """The first `limit` lines; all of them where there is no limit."""
    return iter(lines) if limit is None else islice(lines, limit)


def count_pending(total: int, done: LineSet, sample: LineSet | None = None, limit: int | None = None) -> int:
    """How many lines will be sent, of `total` in the file."""
    pending = total - len(done) if sample is None else sum(number not in done for number in numbers(sample))
    return pending if limit is None else min(pending, limit)


def numbers(lines: LineSet) -> Iterator[int]:
    """The numbers in a set, in order."""
    left, number = len(lines), 0
    while left:
        if number in lines:
            left -= 1
            yield number
        number += 1
