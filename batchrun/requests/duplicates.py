"""Equal requests: which lines of a file ask for the same thing, and so need one answer together.

Two lines are equal if their bodies, as they are sent, have the same bytes, go to the same endpoint, and are not two
repeats of one row: ids that end in `#1`, `#2`, … ask the same thing several times on purpose.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from batchrun.records.index import HashTable, hash64
from batchrun.records.numbers_by_hash import NumbersByHash
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead


def repeat_of(custom_id: str) -> int:
    """Which repeat of its row a line is, by its id: 2 for `row#2`; 0 if it is none."""
    stem, _, number = custom_id.rpartition("#")
    is_repeat = stem and number.isascii() and number.isdigit() and not number.startswith("0")
    return int(number[:18]) if is_repeat else 0


def key_of(custom_id: str, path: str, body_hash: str) -> tuple[int, int]:
    """A key and a tag that are the same for equal lines, in this process."""
    repeat = repeat_of(custom_id) if "#" in custom_id else 0
    return hash64(f"{body_hash}{path}#{repeat}"), int(body_hash[:8], 16)


class Duplicates:
    """Finds the lines that are equal to an earlier one, at 20 bytes a line."""

    def __init__(self) -> None:
        self._lines = NumbersByHash()

    def add(self, key: tuple[int, int], number: int) -> None:
        """Add a line by its key; lines come in the order of the file."""
        self._lines.add(*key, number)

    def groups(self) -> Iterator[tuple[tuple[int, int], list[int]]]:
        """The key and the numbers of lines that are equal, first line first. Call it last."""
        self._lines.index()
        for key, tag, numbers in self._lines.groups():
            yield (key, tag), numbers


class Equals:
    """Tells which lines equal none before them, one by one, in about 40 bytes for each of these."""

    def __init__(self) -> None:
        self._known = HashTable()

    def add(self, heads: Iterable[ResultHead]) -> None:
        """Add the lines of records, which are before all others. Those that fail again are sent again."""
        for head in heads:
            if not head.run.retryable:
                self._known.set(key_of(head.custom_id, head.run.path, head.run.body_hash)[0], 1)

    def is_new(self, line: RequestLine) -> bool:
        """Whether no line before this one is equal; ask once for each line."""
        key, _ = key_of(line.custom_id, line.url, line.body_hash)
        is_new = self._known.get(key) is None
        self._known.set(key, 1)
        return is_new
