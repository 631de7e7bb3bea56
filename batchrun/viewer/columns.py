"""What the viewer knows of every row, held in memory: a code of one byte for a facet, a number for a range.

1. Rows are counted from 0, in the order of the file. A set of rows is a whole number whose bit n stands for row n, so
   that sets are joined by `&`, `|` and `~`, and counted by `int.bit_count`, in microseconds for a million rows.
2. A facet has at most 254 values of its own; all further ones are `OTHERS`. Code 0 is "no value".
3. Columns only grow. What was found for the rows before is kept, and made longer.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, compress, islice
from typing import Any

NO_VALUE, _OTHERS_CODE = 0, 255
OTHERS = "(other values)"
MOST_LABELS, LEAST_REPEATS = 50, 5
"""A field with more values, or fewer rows for each, has texts or numbers, and no labels."""
_ZERO, _ONE = b"0"[0], b"1"[0]


def rows_in(chosen: int, count: int) -> bytes:
    """A byte for each of `count` rows: 1 where it is in the set, else 0."""
    digits = f"{chosen:0{count}b}"[::-1].encode() if count else b""
    return digits.translate(bytes([*range(_ZERO), 0, 1, *range(_ONE + 1, 256)]))


def set_of(rows: Iterable[int], count: int) -> int:
    """The set of some of `count` rows."""
    flags = bytearray(b"0") * count
    for row in rows:
        flags[row] = _ONE
    return _from_digits(flags)


def everything(count: int) -> int:
    """The set of all rows."""
    return (1 << count) - 1


def window(flags: bytes, start: int, size: int) -> list[int]:
    """Some of the rows that have a flag, in the order of the file: `size` of them, after the first `start`."""
    return list(islice(compress(range(len(flags)), flags), start, start + size))


def _from_digits(digits: bytes | bytearray) -> int:
    return int(digits[::-1], 2) if digits else 0


class Facet:
    """A column with few values: each row has the code of one, or `NO_VALUE`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes = bytearray()
        self.values: list[str] = [""]  # by code
        self._code_of: dict[str, int] = {}
        self._sets: dict[int, tuple[int, int]] = {}  # by code: for how many rows, and which of them

    def code(self, value: str | None) -> int:
        """The code of a value, a new one where it has none yet."""
        if value is None:
            return NO_VALUE
        code = self._code_of.get(value)
        if code is None:
            code = len(self.values) if len(self.values) < _OTHERS_CODE else _OTHERS_CODE
            if code == _OTHERS_CODE:
                return code
            self.values.append(value)
            self._code_of[value] = code
        return code

    def is_full(self, code: int) -> bool:
        """Whether a code stands for all values that got none of their own."""
        return code == _OTHERS_CODE

    def having(self, value: str) -> int:
        """The rows that have a value."""
        code = _OTHERS_CODE if value == OTHERS else self._code_of.get(value)
        return 0 if code is None else self.rows(code)

    def counts(self, chosen: int) -> Iterator[tuple[str, int]]:
        """How many of some rows have each value, in the order in which the values were met."""
        for code, value in [*enumerate(self.values[1:], 1), (_OTHERS_CODE, OTHERS)]:
            if code != _OTHERS_CODE or len(self.values) == _OTHERS_CODE:
                yield value, (self.rows(code) & chosen).bit_count()

    @property
    def has_labels(self) -> bool:
        """Whether its values are few that return, and not texts of which nearly each is another."""
        return len(self.values) - 1 <= MOST_LABELS and (len(self.values) - 1) * LEAST_REPEATS <= len(self.codes)

    def value(self, row: int) -> str | None:
        """The value of a row; None where it has none."""
        code = self.codes[row]
        return None if code == NO_VALUE else OTHERS if code == _OTHERS_CODE else self.values[code]

    def rows(self, code: int) -> int:
        """The rows that have a code."""
        known, found = self._sets.get(code, (0, 0))
        if known < len(self.codes):
            table = bytes(_ONE if one == code else _ZERO for one in range(256))
            found |= _from_digits(bytes(self.codes[known:]).translate(table)) << known
            self._sets[code] = (len(self.codes), found)
        return found


NO_NUMBER = -1
"""What a row has that has no number; all others are 0 or more."""
_MOST_WHOLE = (1 << 31) - 1
_SPLITS = 256
_PART = 1 << 16  # rows


class Numbers:
    """A column of numbers. `code`: the type of its array: `i` for whole numbers, up to 2**31, `d` for others."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.values: array[Any] = array(code)

    def extend(self, values: Iterable[float | None]) -> None:
        """Add the numbers of more rows; None for a row without one."""
        if self.values.typecode == "d":
            self.values.extend([NO_NUMBER if value is None else value for value in values])
        else:
            self.values.extend([NO_NUMBER if value is None else min(int(value), _MOST_WHOLE) for value in values])

    def between(self, least: float | None, most: float | None) -> int:
        """The rows whose number is in a range, the ends included; a row without a number is in none."""
        low = 0 if least is None else max(0, least)
        high = float("inf") if most is None else most
        values, digits = iter(self.values), bytearray()
        while part := bytes([_ONE if low <= value <= high else _ZERO for value in islice(values, _PART)]):
            digits += part
        return _from_digits(digits)

    def order(self, known: Sequence[int] = ()) -> array[int]:
        """All rows by number, those without one last, equal ones as in the file. `known`: the order of before."""
        values = self.values
        rows = list(chain(known, range(len(known), len(values))))
        with_one = [row for row in rows if values[row] >= 0]
        without = [row for row in rows if values[row] < 0]
        return array("I", sorted(with_one, key=values.__getitem__) + without)

    def order_by_parts(self) -> array[int]:
        """The same order, made in little memory and in short steps, between which other threads go on."""
        values, count = self.values, len(self.values)
        sample = sorted(value for value in values[:: max(1, count // 8192)] if value >= 0)
        splits = sorted(set(sample[:: max(1, len(sample) // _SPLITS)]))
        parts, without = [array("I") for _ in range(len(splits) + 1)], array("I")
        for row, value in enumerate(islice(values, count)):
            (parts[bisect_right(splits, value)] if value >= 0 else without).append(row)
        order = array("I")
        for part in parts:
            if len(part) < _PART:
                order.extend(sorted(part, key=values.__getitem__))
                continue
            for rows in self._by_number(part):
                order.extend(rows)
        order.extend(without)
        return order

    def _by_number(self, part: Iterable[int]) -> Iterator[array[int]]:
        """The rows of a large part, which has few different numbers: those of each, from the least."""
        found: dict[float, array[int]] = {}
        for row in part:
            found.setdefault(self.values[row], array("I")).append(row)
        return (found[number] for number in sorted(found))

    def falling(self, order: array[int]) -> Iterator[int]:
        """The rows of an order from the greatest number down, those without one last."""
        with_one = bisect_left(order, True, key=lambda row: self.values[row] < 0)
        places = chain(range(with_one - 1, -1, -1), range(with_one, len(order)))
        return map(order.__getitem__, places)


class Columns:
    """All columns of a file, and where each record begins."""

    NUMBERS = (
        ("line", "i"),
        ("cost", "d"),
        ("input_tokens", "i"),
        ("output_tokens", "i"),
        ("latency", "d"),
        ("attempts", "i"),
    )
    FACETS = ("compared", "status", "model", "endpoint", "error", "verdict")

    def __init__(self, fields: Sequence[str]) -> None:
        self.offsets = array("Q")
        self.facets = {name: Facet(name) for name in (*self.FACETS, *(f"field.{field}" for field in fields))}
        self.shared = Facet("shared")  # the part of the prompt that many rows have in common
        self.numbers = {name: Numbers(name, code) for name, code in self.NUMBERS}

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def coded(self) -> list[Facet]:
        """All columns that have codes."""
        return [*self.facets.values(), self.shared]

    @property
    def are_compared(self) -> bool:
        """Whether the rows are those of two files."""
        return len(self.facets["compared"].values) > 1
