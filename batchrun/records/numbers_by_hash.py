"""Numbers by hash, several under one key, in about 30 bytes each: lines by their bodies, records by the bodies they
answer.

A key has 64 bits, and a tag 32 bits more, so that two keys that collide are told apart. Who must be sure compares what
the numbers lead to.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from itertools import islice

NONE = (1 << 64) - 1
"""No number yet: a place for one."""


class NumbersByHash:
    """Add everything, then `index` once, then look up. Numbers under one key keep the order in which they were added.

    What was added stands in arrays, in its order. A table with open addressing, at most two thirds full, leads from a
    key to the place of its first number, and `_next` from there to the place of the next one; at place 0 there is none.
    """

    def __init__(self) -> None:
        self._keys, self._tags, self._numbers = array("Q", [0]), array("I", [0]), array("Q", [NONE])
        self._table, self._next = array("I", [0]), array("I")

    def __len__(self) -> int:
        return len(self._keys) - 1

    def add(self, key: int, tag: int, number: int) -> None:
        """Add a number from 0 to 2**64 - 1. `key` has 64 bits, `tag` 32."""
        self._keys.append(key)
        self._tags.append(tag)
        self._numbers.append(number)

    def add_all(self, keys: Iterable[int], tags: Iterable[int], numbers: Iterable[int]) -> None:
        """Add many, as many of each, in a tenth of the time."""
        self._keys.extend(keys)
        self._tags.extend(tags)
        self._numbers.extend(numbers)
        assert len(self._keys) == len(self._tags) == len(self._numbers)

    def index(self) -> None:
        """Make everything ready to be looked up."""
        keys, tags, next_of = self._keys, self._tags, array("I")
        mask = (1 << (len(self) * 3 // 2).bit_length()) - 1
        table = array("I", bytes(4 * (mask + 1)))
        for at, key in zip(range(len(self), 0, -1), reversed(keys), strict=False):  # the first one of a key comes last
            slot = key & mask
            while found := table[slot]:
                if keys[found] == key and tags[found] == tags[at]:
                    next_of = next_of or array("I", bytes(4 * len(keys)))
                    next_of[at] = found
                    break
                slot = slot + 1 & mask
            table[slot] = at
        self._table, self._next = table, next_of

    def first(self, key: int, tag: int) -> int | None:
        """The first number under a key; None if there is none, or only `NONE`."""
        number = self._numbers[self._table[self._slot(key, tag)]]
        return None if number == NONE else number

    def put(self, key: int, tag: int, number: int) -> bool:
        """Put another number in the place of the first one under a key; False if there is none."""
        at = self._table[self._slot(key, tag)]
        if at:
            self._numbers[at] = number
        return at > 0

    def take(self, key: int, tag: int) -> int | None:
        """The next number under a key that was not taken yet; None if there is none. Who takes does not `put`."""
        (number,) = self.take_all((key,), (tag,))
        return number

    def take_all(self, keys: Iterable[int], tags: Iterable[int]) -> list[int | None]:
        """The same for many keys, one after the other, in half the time."""
        table, mask, numbers, taken = self._table, len(self._table) - 1, self._numbers, list[int | None]()
        their_keys, their_tags, has_next = self._keys, self._tags, len(self._next) > 0
        for key, tag in zip(keys, tags, strict=True):
            slot = key & mask
            while (at := table[slot]) and (their_keys[at] != key or their_tags[at] != tag):
                slot = slot + 1 & mask
            if (number := numbers[at]) == NONE:
                taken.append(None)
                continue
            taken.append(number)
            numbers[at] = NONE
            if has_next:
                self._go_on(slot)
        return taken

    def remove(self, key: int, tag: int, number: int) -> None:
        """Take one number under a key out of its turn."""
        slot = self._slot(key, tag)
        at = self._table[slot]
        while at and self._numbers[at] != number:
            at = self._next_of(at)
        if at:
            self._numbers[at] = NONE
            self._go_on(slot)

    def left(self) -> Iterator[int]:
        """The numbers under all keys whose first one is not `NONE`."""
        for key, tag, number in islice(zip(self._keys, self._tags, self._numbers, strict=True), 1, None):
            if self.first(key, tag) is not None:
                yield number

    def groups(self) -> Iterator[tuple[int, int, list[int]]]:
        """Each key and tag that has more than one number, with its numbers."""
        for first in filter(None, self._table if self._next else ()):
            at, numbers = first, list[int]()
            while at:
                numbers.append(self._numbers[at])
                at = self._next[at]
            if len(numbers) > 1:
                yield self._keys[first], self._tags[first], numbers

    def _slot(self, key: int, tag: int) -> int:
        """Where the table has a key, or would have it."""
        table, mask = self._table, len(self._table) - 1
        slot = key & mask
        while (at := table[slot]) and (self._keys[at] != key or self._tags[at] != tag):
            slot = slot + 1 & mask
        return slot

    def _go_on(self, slot: int) -> None:
        """Lead from a key past its numbers that are taken, to the next one that is not; to its last one if all are."""
        at = self._table[slot]
        while self._numbers[at] == NONE and (following := self._next_of(at)):
            at = following
        self._table[slot] = at

    def _next_of(self, at: int) -> int:
        return self._next[at] if self._next else 0
