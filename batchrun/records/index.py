"""Compact tables and sets for millions of 64-bit hashes and line numbers.

`HashTable` keeps hashes and numbers in two flat arrays, 16 bytes a slot. With a million ids it takes about 30 bytes
an id; a `dict` takes 143. Two ids with the same hash count as one: at 1,000,000 ids the odds are 3 in 100,000,000.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence, Set
from hashlib import blake2b
from itertools import chain
from typing import IO

from msgspec import Raw

_64_BITS = (1 << 64) - 1
_PARTS = 256
_FULL = 0xFF
_KEPT = 1 << 17


def hash_body(data: bytes | Raw) -> str:
    """The hash of a request body as 32 hex digits (BLAKE2b, 128 bits): wide enough to match bodies across files."""
    hashed = _blank()  # copied in less time than it takes to read the options again
    hashed.update(data)
    return hashed.hexdigest()


_blank = blake2b(digest_size=16).copy


def hash_bodies(bodies: Sequence[bytes | Raw]) -> list[str]:
    """The `hash_body` of each body, a tenth faster than one by one."""
    return [blake2b(body, digest_size=16).hexdigest() for body in bodies]


def hash64(text: str) -> int:
    """The hash of `text`, from 1 to 2**64 - 1. Valid only in this process: each process salts its hashes anew."""
    return hash(text) & _64_BITS or 1


def hash64_all(texts: Sequence[str]) -> list[int]:
    """The `hash64` of each text, in a third of the time."""
    return [hash(text) & _64_BITS or 1 for text in texts]


class HashTable:
    """Open addressing with linear probing, at most two thirds full. Keys are `hash64` values, never 0."""

    def __init__(self, slots: int = 1024) -> None:
        self._keys = array("Q", bytes(8 * slots))
        self._values = array("Q", bytes(8 * slots))
        self._mask = slots - 1
        self._used = 0

    @classmethod
    def of_size(cls, entries: int) -> HashTable:
        """A table that need not grow for so many entries: growing takes half as much memory again."""
        return cls(1 << max(10, (entries * 3 // 2).bit_length()))

    def __len__(self) -> int:
        return self._used

    def get(self, key: int) -> int | None:
        """The number under `key`, or None if there is none."""
        slot = self._slot(key)
        return self._values[slot] if self._keys[slot] else None

    def get_all(self, keys: Iterable[int]) -> list[int | None]:
        """The number under each key, in two thirds of the time."""
        taken, values, mask = self._keys, self._values, self._mask
        found = list[int | None]()
        for key in keys:
            slot = key & mask
            while (there := taken[slot]) and there != key:
                slot = (slot + 1) & mask
            found.append(values[slot] if there else None)
        return found

    def set(self, key: int, value: int) -> None:
        """Put `value` (0 to 2**64 - 1) under `key`."""
        slot = self._slot(key)
        if self._keys[slot]:
            self._values[slot] = value
        else:
            self._put(slot, key, value)

    def setdefault(self, key: int, value: int) -> int:
        """The number under `key`, which is `value` from now on if there was none."""
        slot = self._slot(key)
        if self._keys[slot]:
            return self._values[slot]
        self._put(slot, key, value)
        return value

    def _slot(self, key: int) -> int:
        keys, mask = self._keys, self._mask
        slot = key & mask
        while (found := keys[slot]) and found != key:
            slot = (slot + 1) & mask
        return slot

    def _put(self, slot: int, key: int, value: int) -> None:
        self._keys[slot], self._values[slot] = key, value
        self._used += 1
        if self._used * 3 > len(self._keys) * 2:
            self._grow()

    def _grow(self) -> None:
        larger = HashTable(2 * len(self._keys))
        keys, values, mask = larger._keys, larger._values, larger._mask
        for key, value in zip(self._keys, self._values, strict=True):
            if key:
                slot = key & mask
                while keys[slot]:
                    slot = (slot + 1) & mask
                keys[slot], values[slot] = key, value
        self._keys, self._values, self._mask = keys, values, mask


class Hashes(Set[int]):
    """A set of hashes of 64 bits, in 8 bytes each: sorted, in parts by their lowest bits."""

    def __init__(self, parts: Sequence[array[int]]) -> None:
        assert len(parts) == _PARTS
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[int]:
        return chain.from_iterable(self._parts)

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, int):
            return False
        part = self._parts[key & _PARTS - 1]
        at = bisect_left(part, key)
        return at < len(part) and part[at] == key


class Repeats:
    """Finds the hashes that were added more than once, in a megabyte or two of memory.

    More hashes than that go to a temporary file without a name. If the disk has no room, they stay in memory, at
    8 bytes a hash.
    """

    def __init__(self) -> None:
        self._parts = [array("Q") for _ in range(_PARTS)]  # by the lowest bits: equal hashes meet in one part
        self._count = 0
        self._until = _KEPT
        self._file: IO[bytes] | None = None
        self._spans: list[list[tuple[int, int]]] = [[] for _ in range(_PARTS)]  # (offset, bytes) in the file

    def add(self, keys: Sequence[int]) -> None:
        """Add hashes of 64 bits."""
        parts = self._parts
        for key in keys:
            parts[key & _PARTS - 1].append(key)
        self._count += len(keys)
        if self._count >= self._until:
            self._lay_down()

    def found(self) -> Hashes:
        """The hashes that were added more than once. Call it last: it closes the file."""
        repeated = []
        for part, spans in zip(self._parts, self._spans, strict=True):
            hashes = array("Q", part)
            for offset, size in spans:
                assert self._file is not None, "it was written before"
                self._file.seek(offset)
                hashes.frombytes(self._file.read(size))
            is_each_once = len(set(hashes)) == len(hashes)
            counts = () if is_each_once else Counter(hashes).items()
            repeated.append(array("Q", sorted(key for key, count in counts if count > 1)))
        if self._file is not None:
            self._file.close()
        return Hashes(repeated)

    def _lay_down(self) -> None:
        """Write what is in memory into the file."""
        self._until = self._count + _KEPT
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            offset = self._file.seek(0, os.SEEK_END)
            self._file.writelines(self._parts)
            self._file.flush()
        except OSError:
            return  # no span refers to a partial write; the hashes stay in memory
        for part, spans in zip(self._parts, self._spans, strict=True):
            spans.append((offset, 8 * len(part)))
            offset += 8 * len(part)
            del part[:]


class LineSet:
    """A set of line numbers as a bitmap: an eighth of a byte a line."""

    def __init__(self) -> None:
        self._bits = bytearray()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, number: int) -> bool:
        """Add line `number` (≥ 0); whether it was not in the set before."""
        index, bit = number >> 3, 1 << (number & 7)
        if index >= len(self._bits):
            self._bits.extend(bytes(index - len(self._bits) + 1024))
        if self._bits[index] & bit:
            return False
        self._bits[index] |= bit
        self._count += 1
        return True

    def add_range(self, numbers: range) -> None:
        """Add all lines of a range with step 1."""
        bits, index = ((1 << len(numbers)) - 1) << (numbers.start & 7), numbers.start >> 3
        size = (bits.bit_length() + 7) // 8
        if index + size > len(self._bits):
            self._bits.extend(bytes(index + size - len(self._bits) + 1024))
        before = int.from_bytes(self._bits[index : index + size], "little")
        self._bits[index : index + size] = (before | bits).to_bytes(size, "little")
        self._count += (bits & ~before).bit_count()

    def lowest(self) -> int:
        """The lowest number in the set; 0 if it is empty."""
        rest = self._bits.lstrip(b"\0")
        if not rest:
            return 0
        return 8 * (len(self._bits) - len(rest)) + (rest[0] & -rest[0]).bit_length() - 1

    def first_gap(self) -> int:
        """The lowest number from 1 on that is not in the set."""
        bits = bytearray(self._bits or b"\0")
        bits[0] |= 1
        full = len(bits) - len(bits.lstrip(b"\xff"))
        number = 8 * full
        while number in self or not number:
            number += 1
        return number

    def missing(self, end: int) -> Iterator[int]:
        """The numbers from 0 to `end` - 1 that are not in the set."""
        for index, byte in enumerate(self._bits.ljust((end + 7) // 8, b"\0")):
            if byte != _FULL:
                yield from (number for number in range(8 * index, min(8 * index + 8, end)) if number not in self)

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, int):
            return False
        index = number >> 3
        return index < len(self._bits) and bool(self._bits[index] & (1 << (number & 7)))


def digest(data: bytes | Raw) -> str:
    """The hash of `data` as 16 hex digits (BLAKE2b, 64 bits)."""
    return blake2b(data, digest_size=8).hexdigest()
