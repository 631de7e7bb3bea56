"""Whether what is behind the gateway is down: a breaker that is told what came of each request, in order of sending."""

from __future__ import annotations

import pytest

from batchrun.limits.circuit_breaker import CircuitBreaker

NEEDED = 5


def fail(breaker: CircuitBreaker, number: int, line: int | None = None, now: float = 0.0) -> bool:
    return breaker.failed(number, number if line is None else line, now, "HTTP 503", NEEDED)


def test_so_many_lines_that_fail_one_after_the_other_open_it() -> None:
    breaker = CircuitBreaker()
    for number in range(1, NEEDED):
        fail(breaker, number)
        assert not breaker.is_open
    fail(breaker, NEEDED)
    assert breaker.is_open
    assert not breaker.is_outage, "the first probe decides"


@pytest.mark.parametrize("order", [[5, 3, 1, 2, 4], [1, 2, 4, 5, 3]])
def test_the_order_of_sending_counts_not_that_of_the_failures(order: list[int]) -> None:
    breaker = CircuitBreaker()
    for number in order:
        fail(breaker, number)
    assert breaker.is_open


def test_what_is_still_in_flight_breaks_the_row() -> None:
    """Failures that come at once beside answers that take their time: one in ten requests fails."""
    breaker = CircuitBreaker()
    for number in range(0, 1000, 10):
        fail(breaker, number)
    assert not breaker.is_open


def test_one_line_that_fails_again_and_again_opens_nothing() -> None:
    breaker = CircuitBreaker()
    for number in range(100):
        fail(breaker, number, line=7)
    assert not breaker.is_open


def test_refusals_are_passed_over() -> None:
    """A proxy mixes 429s with 503s while what is behind it is dead."""
    breaker = CircuitBreaker()
    for number in range(2 * NEEDED):
        if number % 2:
            breaker.refused(number, 0.0)
        else:
            fail(breaker, number)
    assert breaker.is_open


def opened() -> CircuitBreaker:
    breaker = CircuitBreaker()
    for number in range(NEEDED):
        fail(breaker, number)
    return breaker


def test_probes_come_at_once_and_then_ever_later() -> None:
    breaker, now, waits = opened(), 0.0, list[float]()
    for number in range(10, 22):
        assert not breaker.may_pass(breaker.next_probe_at - 0.01)
        waits.append(breaker.next_probe_at - now)
        now = breaker.next_probe_at
        assert breaker.may_pass(now)
        breaker.begin_probe(number, now)
        assert not breaker.may_pass(now + 24.9), "one probe at a time"
        assert breaker.may_pass(now + 25), "unless it hangs"
        assert fail(breaker, number, now=now) is (number == 10), "the first probe that fails begins the outage"
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1, 1, 1, 2, 4, 8, 16, 25])


def test_a_probe_that_is_refused_is_followed_by_the_next_one() -> None:
    breaker = opened()
    breaker.begin_probe(10, 0.1)
    breaker.refused(10, 1.0)
    assert breaker.probe is None
    assert breaker.next_probe_at > 1.0


def test_a_hiccup_is_over_with_the_first_success() -> None:
    breaker = opened()
    assert breaker.succeeded(2, 0.0, 0.1), "it was sent among those that failed"
    assert not breaker.is_open


def test_in_an_outage_an_answer_from_better_times_only_brings_the_next_probe_nearer() -> None:
    breaker = opened()
    for number, now in enumerate((0.1, 0.3, 0.7, 1.5, 2.5, 3.5, 4.5, 6.5, 7.1), 10):
        breaker.begin_probe(number, now)
        fail(breaker, number, now=now)
    assert not breaker.succeeded(-1, -1.0, 8.0)
    assert breaker.is_open
    assert breaker.next_probe_at == 9.0
    assert breaker.succeeded(18, 7.1, 9.0)
    assert not breaker.is_open


def test_the_second_outage_begins_like_the_first() -> None:
    breaker = opened()
    breaker.begin_probe(10, 0.1)
    fail(breaker, 10, now=0.1)
    breaker.close()
    for number in range(20, 20 + NEEDED):
        fail(breaker, number, now=50.0)
    assert breaker.is_open
    assert not breaker.is_outage
    assert breaker.next_probe_at == 50.1
