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
from itertools import chain, compress, islice, repeat
from typing import Any

NO_VALUE, OTHERS_CODE = 0, 255
OTHERS = "(other values)"
SHARED = "shared"
"""The name of the column of what many prompts have in common."""
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


class Codes(dict[str | None, int]):
    """The codes of values, by value: one that has none yet gets the next one, as long as there are any.

    `in_order`: those that have a code of their own, by code; that of `NO_VALUE` is "".
    """

    def __init__(self, values: Iterable[str] = ()) -> None:
        super().__init__({None: NO_VALUE})
        self.in_order = [""]
        for value in values:
            self[value]

    def of(self, values: Sequence[str | None]) -> bytes:
        """The codes of some values."""
        if len(self.in_order) == OTHERS_CODE:  # all further ones are others: nothing is to be noted
            return bytes(map(self.get, values, repeat(OTHERS_CODE)))
        return bytes(map(self.__getitem__, values))

    def __missing__(self, value: str | None) -> int:
        code = len(self.in_order)
        if value is None or code >= OTHERS_CODE:
            return OTHERS_CODE
        self.in_order.append(str(value))
        self[value] = code
        return code


class Facet:
    """A column with few values: each row has the code of one, or `NO_VALUE`."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.codes = bytearray()
        self.known = Codes()
        self._sets: dict[int, tuple[int, int]] = {}  # by code: for how many rows, and which of them

    @property
    def values(self) -> list[str]:
        """The values that have a code of their own, by code."""
        return self.known.in_order

    def learn(self, value: str, code: int) -> None:
        """A value has a code. Raises `ValueError` where it is not the next one."""
        if self.known[value] != code:
            raise ValueError(f"{value!r} does not have the code {code}")

    def is_among_others(self, value: str) -> bool:
        """Whether a value, if any row has it, is one of those without a code of their own."""
        return len(self.values) == OTHERS_CODE and value != OTHERS and value not in self.known

    def having(self, value: str) -> int:
        """The rows that have a value."""
        code = OTHERS_CODE if value == OTHERS else self.known.get(value)
        return 0 if code is None else self.rows(code)

    def counts(self, chosen: int) -> Iterator[tuple[str, int]]:
        """How many of some rows have each value, in the order in which the values were met."""
        for code, value in [*enumerate(self.values[1:], 1), (OTHERS_CODE, OTHERS)]:
            if code != OTHERS_CODE or len(self.values) == OTHERS_CODE:
                yield value, (self.rows(code) & chosen).bit_count()

    @property
    def has_labels(self) -> bool:
        """Whether its values are few that return, and not texts of which nearly each is another."""
        return len(self.values) - 1 <= MOST_LABELS and (len(self.values) - 1) * LEAST_REPEATS <= len(self.codes)

    def value(self, row: int) -> str | None:
        """The value of a row; None where it has none, or is not there any more."""
        code = self.codes[row] if row < len(self.codes) else NO_VALUE
        return None if code == NO_VALUE else OTHERS if code == OTHERS_CODE else self.values[code]

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


def numbers_of(code: str, values: Iterable[float | None]) -> array[Any]:
    """Numbers as a column has them; None: a row without one. `code`: the type of its array."""
    if code == "d":
        return array(code, [NO_NUMBER if value is None else value for value in values])
    return array(code, [NO_NUMBER if value is None else min(int(value), _MOST_WHOLE) for value in values])


class Numbers:
    """A column of numbers. `code`: the type of its array: `i` for whole numbers, up to 2**31, `d` for others."""

    def __init__(self, name: str, code: str) -> None:
        self.name = name
        self.values: array[Any] = array(code)

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
    FACETS = ("compared", "status", "status_b", "model", "endpoint", "error", "verdict")

    def __init__(self, fields: Sequence[str]) -> None:
        self.offsets = array("Q")
        self.facets = {name: Facet(name) for name in (*self.FACETS, *(f"field.{field}" for field in fields))}
        self.shared = Facet(SHARED)
        self.numbers = {name: Numbers(name, code) for name, code in self.NUMBERS}

    def __len__(self) -> int:
        return len(self.offsets)

    def learn(self, labels: Iterable[tuple[str, int, str]]) -> None:
        """Values have codes, by the names of their columns. Raises `ValueError` where those are not the next ones."""
        coded = {facet.name: facet for facet in self.coded}
        for name, code, value in labels:
            coded[name].learn(value, code)

    def append(self, rows: int, codes: bytes, numbers: bytes, offsets: bytes) -> None:
        """Add rows: their codes and their numbers, one column after the other, and where their records begin."""
        for place, facet in enumerate(self.coded):
            facet.codes += codes[place * rows : (place + 1) * rows]
        at = 0
        for column in self.numbers.values():
            size = column.values.itemsize * rows
            column.values.frombytes(numbers[at : at + size])
            at += size
        self.offsets.frombytes(offsets)

    @property
    def are_even(self) -> bool:
        """Whether all columns have as many rows."""
        counts = {*(len(one.codes) for one in self.coded), *(len(one.values) for one in self.numbers.values())}
        return counts == {len(self)}

    @property
    def coded(self) -> list[Facet]:
        """All columns that have codes."""
        return [*self.facets.values(), self.shared]

    @property
    def are_compared(self) -> bool:
        """Whether the rows are those of two files."""
        return len(self.facets["compared"].values) > 1
