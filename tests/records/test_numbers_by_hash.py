"""Numbers by hash: beside a plain dictionary, and where keys collide."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.numbers_by_hash import NONE, NumbersByHash

few_keys = st.tuples(st.sampled_from([0, 1, 256, (1 << 64) - 1]), st.sampled_from([0, 7, (1 << 32) - 1]))


@given(st.lists(st.tuples(few_keys, st.integers(0, 1000))))
def test_it_finds_what_a_dictionary_finds(added: list[tuple[tuple[int, int], int]]) -> None:
    numbers, expected = NumbersByHash(), defaultdict[tuple[int, int], list[int]](list)
    for key, number in added:
        numbers.add(*key, number)
        expected[key].append(number)
    numbers.index()
    assert len(numbers) == len(added)
    assert {(key, tag): found for key, tag, found in numbers.groups()} == {
        key: found for key, found in expected.items() if len(found) > 1
    }
    for key, found in expected.items():
        assert numbers.first(*key) == found[0]
    assert numbers.first(2, 0) is None


def test_the_numbers_under_a_key_are_taken_in_their_order_and_each_once() -> None:
    numbers = NumbersByHash()
    for number in (30, 10, 20):
        numbers.add(5, 1, number)
    numbers.add(5 + 256, 1, 99)
    numbers.index()
    assert [numbers.take(5, 1) for _ in range(4)] == [30, 10, 20, None]
    assert numbers.take(5 + 256, 1) == 99
    assert numbers.take(6, 1) is None


steps = st.lists(st.tuples(st.sampled_from(["take", "remove"]), few_keys, st.integers(0, 5)))


@given(st.lists(st.tuples(few_keys, st.integers(0, 5)), unique=True), steps)
def test_what_is_taken_and_removed_is_what_lists_would_give(
    added: list[tuple[tuple[int, int], int]], steps: list[tuple[str, tuple[int, int], int]]
) -> None:
    """In any order, among keys that stand in one place of the table and at its end."""
    numbers, left = NumbersByHash(), defaultdict[tuple[int, int], list[int]](list)
    for key, number in added:
        left[key].append(number)
    numbers.add_all([key for (key, _), _ in added], [tag for (_, tag), _ in added], [number for _, number in added])
    numbers.index()
    for step, key, number in steps:
        if step == "take":
            assert numbers.take(*key) == (left[key].pop(0) if left[key] else None)
        else:
            numbers.remove(*key, number)
            left[key] = [one for one in left[key] if one != number]
    assert {key: numbers.first(*key) for key in left} == {key: next(iter(of), None) for key, of in left.items()}


def test_of_two_bodies_that_collide_neither_takes_the_number_of_the_other() -> None:
    numbers = NumbersByHash()
    numbers.add(5, 1, 10)
    numbers.index()
    assert numbers.take(5, 2) is None
    assert numbers.first(5, 2) is None
    assert numbers.take(5, 1) == 10


def test_a_place_holds_no_number_until_one_is_put_there() -> None:
    numbers = NumbersByHash()
    numbers.add(5, 1, NONE)
    numbers.add(6, 1, 77)
    numbers.index()
    assert numbers.first(5, 1) is None
    assert list(numbers.left()) == [77]
    assert numbers.put(5, 1, 40)
    assert not numbers.put(5, 2, 41)
    assert numbers.first(5, 1) == 40
