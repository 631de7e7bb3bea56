"""A part of the lines: the first N that are not done, or N at random. Pure.

A sample is drawn by the hash of the `custom_id`. It is the same each time it is drawn, whatever the order of the lines
and whichever of them are done, and a larger sample contains every smaller one. So a second run with the same
`--sample` continues with the same lines, a run with a larger number adds to them, and files with the same ids (for
two models, say) have the same sample.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Container, Iterable, Iterator
from hashlib import blake2b
from itertools import islice

from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.requests.duplicates import Equals

_SALT = b"sample"  # keeps these hashes apart from those of ids and bodies in `records.index`


def rank(custom_id: str) -> int:
    """Where an id stands in the random order of all ids, from 0 to 2**64 - 1; a sample has the lowest ranks."""
    return int.from_bytes(blake2b(custom_id.encode(), digest_size=8, salt=_SALT).digest(), "little")


class Sampler:
    """Draws `size` of the lines that are added. Memory grows with the sample, not with the file."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._ranks = array("Q")
        self._numbers = array("Q")
        self._bar = 1 << 64

    def add(self, line: RequestLine) -> None:
        """Add one line to draw from."""
        place = rank(line.custom_id)
        if place >= self._bar:
            return
        self._ranks.append(place)
        self._numbers.append(line.line_number)
        if len(self._ranks) >= 2 * self.size + 1024:
            self._prune()

    def drawn(self) -> LineSet:
        """The numbers of the lines in the sample: `size` of them, or all if there are fewer."""
        self._prune()
        lines = LineSet()
        for number in self._numbers:
            lines.add(number)
        return lines

    def ranks(self) -> list[int]:
        """The ranks of the lines in the sample, the lowest first."""
        self._prune()
        return sorted(self._ranks)

    def _prune(self) -> None:
        """Keep the `size` lowest ranks; a line with a higher rank can no longer get into the sample."""
        if len(self._ranks) <= self.size:
            return
        order = sorted(range(len(self._ranks)), key=self._ranks.__getitem__)[: self.size]
        self._bar = self._ranks[order[-1]] if order else 0
        self._ranks = array("Q", (self._ranks[index] for index in order))
        self._numbers = array("Q", (self._numbers[index] for index in order))


def draw(lines: Iterable[RequestLine], size: int) -> LineSet:
    """The sample: `size` of the lines of a request file, the same in every run."""
    sampler = Sampler(size)
    for line in lines:
        sampler.add(line)
    return sampler.drawn()


def ranked(lines: Iterable[RequestLine], highest: int) -> LineSet:
    """The lines whose rank is not above the highest one of a sample: those of a part that belong to it."""
    drawn = LineSet()
    for line in lines:
        if rank(line.custom_id) <= highest:
            drawn.add(line.line_number)
    return drawn


class Chosen:
    """Tells which of the lines that are left a run will send: those of the sample, the first `limit` of them.

    With `equals` a line that equals another one is not sent, and with `is_answered` none that is.
    """

    def __init__(
        self,
        sample: LineSet | None,
        limit: int | None,
        equals: Equals | None = None,
        is_answered: Callable[[RequestLine], bool] | None = None,
    ) -> None:
        self._sample = sample
        self._left = limit
        self._equals = equals
        self._is_answered = is_answered

    def takes(self, line: RequestLine) -> bool:
        """Whether the run will send this line. Ask once for each line that is left, in the order of the file."""
        if self._sample is not None and line.line_number not in self._sample:
            return False
        if self._left is not None:
            self._left -= 1
        is_within = self._left is None or self._left >= 0
        if line.endpoint is not None:
            return is_within  # it is always sent there
        is_new = is_within and (self._equals is None or self._equals.is_new(line))
        return is_new and (self._is_answered is None or not self._is_answered(line))


class Unwanted:
    """The numbers of the lines that will not be sent: lines that are done, and lines outside the sample."""

    def __init__(self, done: LineSet, sample: LineSet | None = None) -> None:
        self._done = done
        self._sample = sample

    def __bool__(self) -> bool:
        return bool(self._done) or self._sample is not None

    def __contains__(self, number: object) -> bool:
        return number in self._done or (self._sample is not None and number not in self._sample)


class AllBut:
    """All line numbers that are not in a set."""

    def __init__(self, numbers: Container[int]) -> None:
        self._numbers = numbers

    def __contains__(self, number: object) -> bool:
        return number not in self._numbers


def first(lines: Iterable[RequestLine], limit: int | None) -> Iterator[RequestLine]:
    """The first `limit` lines; all of them if there is no limit."""
    return iter(lines) if limit is None else islice(lines, limit)


def count_pending(total: int, done: LineSet, sample: LineSet | None = None, limit: int | None = None) -> int:
    """How many of the `total` lines of the file will be sent."""
    pending = total - len(done) if sample is None else sum(number not in done for number in numbers(sample))
    return pending if limit is None else min(pending, limit)


def numbers(lines: LineSet) -> Iterator[int]:
    """The numbers in a set, in order."""
    left, number = len(lines), lines.lowest()
    while left:
        if number in lines:
            left -= 1
            yield number
        number += 1
