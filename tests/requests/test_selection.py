"""`--limit` and `--sample`: which lines are sent, again and again the same ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.requests.selection import Sampler, Unwanted, count_pending, first, numbers


def line(number: int, custom_id: str | None = None) -> RequestLine:
    return RequestLine(number, custom_id or f"r-{number}", "/v1/responses", b"{}", "0" * 16, "m", False, False)


def line_set(members: Iterable[int]) -> LineSet:
    lines = LineSet()
    for number in members:
        lines.add(number)
    return lines


def draw(size: int, lines: Iterable[RequestLine]) -> list[int]:
    sampler = Sampler(size)
    for one in lines:
        sampler.add(one)
    return list(numbers(sampler.drawn()))


FILE = [line(number) for number in range(1, 10_001)]


def test_a_sample_has_the_size_asked_for() -> None:
    assert len(draw(100, FILE)) == 100
    assert draw(100, FILE[:30]) == list(range(1, 31))
    assert draw(1, FILE[:1]) == [1]
    assert draw(5, []) == []


def test_a_sample_is_the_same_whenever_it_is_drawn_and_in_any_order() -> None:
    assert draw(100, FILE) == draw(100, reversed(FILE))


def test_a_sample_goes_by_the_ids_not_by_the_line_numbers() -> None:
    """So lines that are put in or taken out move nothing else."""
    chosen = {f"r-{number}" for number in draw(100, FILE)}
    shifted = [line(number + 7, f"r-{number}") for number in range(1, 10_001)]
    assert {f"r-{number - 7}" for number in draw(100, shifted)} == chosen


def test_a_larger_sample_holds_the_smaller_one() -> None:
    small, large = draw(100, FILE), draw(1000, FILE)
    assert len(large) == 1000
    assert set(small) < set(large)


def test_a_sample_is_spread_over_the_file_and_no_line_is_favoured() -> None:
    """1,000 of 10,000: each tenth of the file holds 100, give or take 4 standard deviations (10)."""
    chosen = draw(1000, FILE)
    tenths = [sum(1000 * tenth < number <= 1000 * (tenth + 1) for number in chosen) for tenth in range(10)]
    assert all(60 < count < 140 for count in tenths)
    assert len(set(tenths)) > 3, "as even as that is not by chance"


@given(count=st.integers(0, 5000), size=st.integers(1, 1500))
@settings(max_examples=40)
def test_a_sample_holds_the_lines_of_the_lowest_ranks(count: int, size: int) -> None:
    """Whatever is pruned on the way: the same lines as when all of them are sorted at once."""
    everything = Sampler(10_000)
    for one in FILE[:count]:
        everything.add(one)
    ranked = sorted(zip(everything._ranks, everything._numbers, strict=True))
    assert draw(size, FILE[:count]) == sorted(number for _, number in ranked[:size])


def test_the_memory_of_a_small_sample_does_not_grow_with_the_file() -> None:
    tracemalloc.start()
    try:
        sampler = Sampler(50)
        for number in range(30_000):
            sampler.add(line(number))
        size, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (size < 100_000, peak < 300_000) == (True, True)


def test_done_lines_and_lines_outside_the_sample_are_not_sent() -> None:
    unwanted = Unwanted(line_set([2, 3]), line_set([3, 4]))
    assert [number for number in range(1, 6) if number not in unwanted] == [4]
    assert [number for number in range(1, 6) if number not in Unwanted(line_set([2, 3]))] == [1, 4, 5]


def test_a_second_run_with_the_same_sample_goes_on_with_it() -> None:
    """40 of 100 were sent when it was stopped: the next run sends the other 60, the one after it none."""
    sample = draw(100, FILE)
    done = line_set(sample[:40])
    again = line_set(draw(100, FILE))
    assert [one.line_number for one in FILE if one.line_number not in Unwanted(done, again)] == sample[40:]
    assert count_pending(len(FILE), done, again) == 60
    assert count_pending(len(FILE), line_set(sample), again) == 0


def test_a_limit_takes_the_first_lines_and_reads_no_further() -> None:
    lines = iter(FILE)
    assert [one.line_number for one in first(lines, 3)] == [1, 2, 3]
    assert next(lines).line_number == 4
    assert len(list(first(FILE, None))) == len(FILE)


def test_what_will_be_sent_is_counted() -> None:
    done = line_set([1, 2, 9])
    assert count_pending(10, done) == 7
    assert count_pending(10, done, limit=5) == 5
    assert count_pending(10, done, limit=50) == 7
    assert count_pending(10, done, line_set([2, 3, 9, 10])) == 2
    assert count_pending(10, done, line_set([2, 3, 9, 10]), limit=1) == 1


def test_the_numbers_of_a_set_come_in_order() -> None:
    assert list(numbers(line_set([70_000, 3, 8]))) == [3, 8, 70_000]
