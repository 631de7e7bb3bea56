"""The hash table behaves as a dict, the line set as a set, and both stay small."""

from __future__ import annotations

import io
import tempfile
import tracemalloc
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records import index as hashes
from batchrun.records.index import HashTable, LineSet, Repeats, hash64

LARGEST = 2**64 - 1
# few distinct low bits, so that keys meet in the same slots and wrap around the end of the table
keys = st.integers(1, LARGEST) | st.builds(
    lambda high, low: high << 10 | low, st.integers(1, 2**50), st.integers(1020, 1023)
)
values = st.integers(0, LARGEST)


@given(st.lists(st.tuples(keys, values)), st.lists(keys))
def test_a_table_answers_as_a_dict_does(pairs: list[tuple[int, int]], others: list[int]) -> None:
    table, model = HashTable(), dict[int, int]()
    for key, value in pairs:
        table.set(key, value)
        model[key] = value
        assert table.get(key) == value
        assert len(table) == len(model)
    for key in [*model, *others]:
        assert table.get(key) == model.get(key)


@given(st.lists(st.tuples(keys, values)), st.lists(keys))
def test_a_table_keeps_the_first_number_where_that_is_asked_for(
    pairs: list[tuple[int, int]], others: list[int]
) -> None:
    table, model = HashTable(slots=4), dict[int, int]()
    for key, value in pairs:
        assert table.setdefault(key, value) == model.setdefault(key, value)
        assert len(table) == len(model)
    asked = [*others, *model, *others]
    assert table.get_all(asked) == list(map(model.get, asked))


@given(st.integers(0, 2**40), st.integers(1, 60), st.integers(1, 300))
def test_a_table_keeps_everything_while_it_grows(start: int, step: int, count: int) -> None:
    table = HashTable(slots=4)
    for number in range(count):
        table.set(start + 1 + number * step, number)
        table.set(start + 1 + number * step, number + 1)
    assert len(table) == count
    assert [table.get(start + 1 + number * step) for number in range(count)] == list(range(1, count + 1))
    assert table.get(start + 1 + count * step) is None


def test_colliding_keys_survive_growing() -> None:
    table = HashTable(slots=4)
    colliding = [7 + (number << 40) for number in range(500)]
    for key in colliding:
        table.set(key, key >> 40)
    assert [table.get(key) for key in colliding] == list(range(500))


@pytest.mark.parametrize("value", [0, 1, LARGEST])
def test_any_64_bits_are_a_value_and_zero_is_not_none(value: int) -> None:
    table = HashTable()
    table.set(LARGEST, value)
    assert table.get(LARGEST) == value
    assert len(table) == 1


def test_a_million_entries_take_at_most_48_bytes_each() -> None:
    """16 bytes a slot, at least a third of the slots in use."""
    table = HashTable()
    for number in range(1, 100_001):
        table.set(number * 0x9E3779B97F4A7C15 & LARGEST, number)
    taken = sum(len(part) * part.itemsize for part in vars(table).values() if isinstance(part, array))
    assert taken / len(table) <= 48


@pytest.mark.parametrize("text", ["", "r-1", "\u2028\0\n", "😀", "x" * 1_000_000])
def test_a_hash_fits_the_table(text: str) -> None:
    assert 1 <= hash64(text) <= LARGEST


def test_no_hash_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    """0 marks a free slot; whatever the salt, some text has it."""
    monkeypatch.setattr(hashes, "hash", lambda text: 0, raising=False)
    assert hash64("r-1") == 1


def test_hashes_are_spread() -> None:
    assert len({hash64(f"r-{number}") for number in range(10_000)}) == 10_000
    assert len({hash64(f"r-{number}") & 1023 for number in range(10_000)}) > 1000


@given(st.lists(keys | st.integers(0, 9)))
def test_repeats_are_those_that_came_more_than_once(hashes_added: list[int]) -> None:
    repeats = Repeats()
    for key in hashes_added:
        repeats.add([key])
    assert set(repeats.found()) == {key for key in hashes_added if hashes_added.count(key) > 1}


@given(st.lists(keys | st.integers(0, 9)), st.lists(keys | st.integers(0, 9)))
def test_repeats_are_found_however_they_were_added(one_by_one: list[int], at_once: list[int]) -> None:
    repeats, added = Repeats(), one_by_one + at_once
    for key in one_by_one:
        repeats.add([key])
    repeats.add(at_once)
    assert set(repeats.found()) == {key for key in added if added.count(key) > 1}


@given(st.lists(keys | st.integers(0, 9)), st.lists(keys | st.integers(0, 9)))
def test_what_was_found_can_be_asked_for(added: list[int], others: list[int]) -> None:
    repeats = Repeats()
    repeats.add(added)
    found, expected = repeats.found(), {key for key in added if added.count(key) > 1}
    assert len(found) == len(expected)
    assert [key in found for key in (*added, *others)] == [key in expected for key in (*added, *others)]
    assert bool(found) is bool(expected)


@pytest.mark.parametrize("has_room", [True, False])
def test_repeats_are_found_in_what_was_laid_down(monkeypatch: pytest.MonkeyPatch, has_room: bool) -> None:
    """Across all that went into the file and what is still in memory; and where there is no room for a file."""
    monkeypatch.setattr(hashes, "_KEPT", 100)
    if not has_room:
        monkeypatch.setattr(tempfile, "TemporaryFile", lambda: (_ for _ in ()).throw(OSError("no room")))
    spread = [number * 0x9E3779B97F4A7C15 & LARGEST for number in range(1, 1050)]
    repeats = Repeats()
    for start in range(0, len(spread), 50):
        repeats.add(spread[start : start + 50])
    repeats.add([spread[0], spread[500], spread[0], spread[1048]])
    assert set(repeats.found()) == {spread[0], spread[500], spread[1048]}
    assert sum(map(len, repeats._parts)) == (53 if has_room else 1053)


def test_a_write_that_fails_half_way_costs_no_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def flush(self) -> None:
            raise OSError("no room")

    monkeypatch.setattr(hashes, "_KEPT", 10)
    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    repeats = Repeats()
    repeats.add([*range(1, 31)])
    repeats.add([7])
    assert set(repeats.found()) == {7}


def test_finding_repeats_takes_little_more_than_eight_bytes_a_hash() -> None:
    repeats = Repeats()
    tracemalloc.start()
    for number in range(1, 1_000_001):
        repeats.add([number * 0x9E3779B97F4A7C15 & LARGEST])
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken < 9 * 1_000_000
    assert not repeats.found()


@pytest.mark.slow
def test_finding_repeats_among_millions_takes_two_megabytes() -> None:
    repeats = Repeats()
    tracemalloc.start()
    for start in range(1, 2_000_000, 100):
        repeats.add([number * 0x9E3779B97F4A7C15 & LARGEST for number in range(start, start + 100)])
    repeated = repeats.found()
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2_500_000
    assert not repeated


@given(st.lists(st.integers(0, 100_000)), st.lists(st.integers(0, 200_000)))
def test_a_line_set_answers_as_a_set_does(numbers: list[int], others: list[int]) -> None:
    lines, model = LineSet(), set[int]()
    for number in numbers:
        assert lines.add(number) == (number not in model)
        model.add(number)
        assert len(lines) == len(model)
    for number in [*numbers, *others, *(number ^ 1 for number in numbers), *(number + 8 for number in numbers)]:
        assert (number in lines) == (number in model)


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 300))), st.sets(st.integers(0, 3300)))
def test_a_line_set_takes_ranges(ranges: list[tuple[int, int]], numbers: set[int]) -> None:
    lines, model = LineSet(), set(numbers)
    for number in numbers:
        lines.add(number)
    for start, length in ranges:
        lines.add_range(range(start, start + length))
        model.update(range(start, start + length))
        assert len(lines) == len(model)
    assert {number for number in range(3400) if number in lines} == model


@given(st.sets(st.integers(1, 40)), st.integers(0, 40))
def test_the_first_gap_of_a_line_set_is_the_lowest_number_that_is_not_in(numbers: set[int], full: int) -> None:
    lines = LineSet()
    for number in numbers.union(range(1, full)):
        lines.add(number)
    assert lines.first_gap() == next(number for number in range(1, 50) if number not in lines)


@given(st.sets(st.integers(0, 10_000)), st.integers(0, 200), st.integers(0, 10_000))
def test_what_is_missing_in_a_line_set_is_told_in_order(numbers: set[int], full: int, end: int) -> None:
    lines = LineSet()
    for number in numbers.union(range(full)):
        lines.add(number)
    assert list(lines.missing(end)) == [number for number in range(end) if number not in lines]


def test_a_line_set_holds_line_numbers_only() -> None:
    lines = LineSet()
    lines.add(1)
    assert "1" not in lines
    assert None not in lines


def test_a_line_set_takes_an_eighth_of_a_byte_a_line() -> None:
    lines = LineSet()
    for number in range(1, 1_000_001, 1000):
        lines.add(number)
    assert len(lines._bits) < 1_000_000 / 8 + 2048
