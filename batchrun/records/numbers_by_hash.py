"""Numbers by hash, several under one key, in 20 bytes each: lines by their bodies, records by the bodies they answer.

A key has 64 bits, and a tag 32 bits more, so that two keys that collide are told apart. Who must be sure compares what
the numbers lead to.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator

_PARTS = 256
NONE = (1 << 64) - 1
"""No number yet: a place for one."""


class NumbersByHash:
    """Add everything, then `sort` once, then look up. Numbers under one key keep the order in which they were added."""

    def __init__(self) -> None:
        self._parts = [_Part() for _ in range(_PARTS)]  # by the lowest bits of the key
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, key: int, tag: int, number: int) -> None:
        """Add a number from 0 to 2**64 - 1. `key` has 64 bits, `tag` 32."""
        part = self._parts[key & _PARTS - 1]
        part.keys.append(key)
        part.tags.append(tag)
        part.numbers.append(number)
        self._count += 1

    def add_all(self, keys: Iterable[int], tags: Iterable[int], numbers: Iterable[int]) -> None:
        """Add many, in half the time."""
        parts = self._parts
        for key, tag, number in zip(keys, tags, numbers, strict=True):
            part = parts[key & _PARTS - 1]
            part.keys.append(key)
            part.tags.append(tag)
            part.numbers.append(number)
            self._count += 1

    def sort(self) -> None:
        """Make everything ready to be looked up."""
        for part in self._parts:
            part.sort()

    def first(self, key: int, tag: int) -> int | None:
        """The first number under a key; None if there is none, or only `NONE`."""
        part = self._parts[key & _PARTS - 1]
        at = part.find(key, tag)
        return None if at is None or part.numbers[at] == NONE else part.numbers[at]

    def put(self, key: int, tag: int, number: int) -> bool:
        """Put another number in the place of the first one under a key; False if there is none."""
        part = self._parts[key & _PARTS - 1]
        at = part.find(key, tag)
        if at is not None:
            part.numbers[at] = number
        return at is not None

    def take(self, key: int, tag: int) -> int | None:
        """The next number under a key that was not taken yet; None if there is none."""
        (number,) = self.take_all((key,), (tag,))
        return number

    def left(self) -> Iterator[int]:
        """The numbers under all keys whose first one is not `NONE`."""
        for part in self._parts:
            for key, tag, number in zip(part.keys, part.tags, part.numbers, strict=True):
                if self.first(key, tag) is not None:
                    yield number

    def remove(self, key: int, tag: int, number: int) -> None:
        """Take one number under a key out of its turn."""
        part = self._parts[key & _PARTS - 1]
        at = bisect_left(part.keys, key)
        while at < len(part.keys) and part.keys[at] == key:
            if part.tags[at] == tag and part.numbers[at] == number:
                part.numbers[at] = NONE
                return
            at += 1

    def take_all(self, keys: Iterable[int], tags: Iterable[int]) -> list[int | None]:
        """The same for many keys, one after the other, in two thirds of the time."""
        parts, found = self._parts, list[int | None]()
        for key, tag in zip(keys, tags, strict=True):
            part = parts[key & _PARTS - 1]
            part_keys = part.keys
            start, end = bisect_left(part_keys, key), len(part_keys)
            number = None
            if start < end and part_keys[start] == key:
                at = start + part.taken[start]
                while at < end and part_keys[at] == key and part.numbers[at] == NONE:
                    at += 1
                    part.taken[start] += 1
                if at < end and part_keys[at] == key and part.tags[at] == tag:
                    part.taken[start] += 1
                    number = part.numbers[at]
            found.append(number)
        return found

    def groups(self) -> Iterator[tuple[int, int, list[int]]]:
        """Each key and tag that has more than one number, with its numbers."""
        for part in self._parts:
            if len(set(part.keys)) < len(part.keys):
                yield from part.groups()


class _Part:
    """The numbers whose keys have the same lowest bits."""

    __slots__ = ("keys", "numbers", "tags", "taken")

    def __init__(self) -> None:
        self.keys, self.tags, self.numbers = array("Q"), array("I"), array("Q")
        self.taken = array("I")  # at the first number of a key: how many of its numbers are taken

    def sort(self) -> None:
        order = sorted(range(len(self.keys)), key=self.keys.__getitem__)  # equal keys keep their order
        self.keys = array("Q", map(self.keys.__getitem__, order))
        self.tags = array("I", map(self.tags.__getitem__, order))
        self.numbers = array("Q", map(self.numbers.__getitem__, order))
        self.taken = array("I", bytes(self.taken.itemsize * len(order)))

    def find(self, key: int, tag: int) -> int | None:
        """Where the first number under a key is."""
        keys, at = self.keys, bisect_left(self.keys, key)
        while at < len(keys) and keys[at] == key:
            if self.tags[at] == tag:
                return at
            at += 1
        return None

    def groups(self) -> Iterator[tuple[int, int, list[int]]]:
        keys, start = self.keys, 0
        while start < len(keys):
            end = start + 1
            while end < len(keys) and keys[end] == keys[start]:
                end += 1
            if end > start + 1:
                by_tag: dict[int, list[int]] = {}
                for tag, number in zip(self.tags[start:end], self.numbers[start:end], strict=True):
                    by_tag.setdefault(tag, []).append(number)
                yield from ((keys[start], tag, numbers) for tag, numbers in by_tag.items() if len(numbers) > 1)
            start = end
