"""The circuit breaker alone: when it opens and closes, when it is an outage, when probes go."""

from __future__ import annotations

import pytest

from batchrun.limits.circuit_breaker import CircuitBreaker, OutageSignal


def breaker_after(story: str) -> tuple[CircuitBreaker, float]:
    """A circuit breaker that has seen these events, one a second; the time of the last.

    `a` line 1, model A failed · `b` line 2 · `c` line 3 · `x` line 9, model B failed · `r` a connection was
    refused · `s` line 4, which has failed in an earlier episode · `p` the probe failed · `!` a refusal
    `A`, `B` an answer to what was just sent · `o` one to what was sent at the very beginning
    """
    breaker, now = CircuitBreaker(), 0.0
    signals = {
        "a": OutageSignal(1, "A", "503"),
        "b": OutageSignal(2, "A", "503"),
        "c": OutageSignal(3, "A", "503"),
        "x": OutageSignal(9, "B", "503"),
        "r": OutageSignal(5, "A", "refused", connected=False),
        "s": OutageSignal(4, "A", "503", failed_in=-1),
    }
    for event in story:
        now += 1
        if event in signals:
            breaker.failed(signals[event], now, now, is_probe=False)
        elif event == "p":
            breaker.failed(signals["a"], now, now, is_probe=True)
        elif event == "!":
            breaker.answered(now, now)
        elif event == "o":
            breaker.answered(0.0, now, "A")
        else:
            breaker.answered(now, now, event)
    return breaker, now


@pytest.mark.parametrize(
    ("story", "is_open", "is_outage"),
    [
        ("", False, False),
        ("a", True, False),  # one signal opens it, but is no outage yet
        ("aaa", True, False),  # one line, however often
        ("ab", True, False),
        ("abc", True, True),  # three lines and nothing in between
        ("abAc", True, False),
        ("ab!c", True, False),  # a refusal is an answer, too
        ("abcA", False, False),
        ("abc!", False, False),
        ("r", True, True),  # one refused connection says it all
        ("Ar", True, True),
        ("rA", False, False),
        ("x", True, False),  # nobody has answered: any model counts
        ("Ax", False, False),  # this model alone has never answered
        ("Axxx", False, False),
        ("ABx", True, False),  # now it has
        ("Aabc", True, True),
        ("s", False, False),  # this line has failed by itself before
        ("sab", True, False),
        ("asb", True, False),
        ("abcs", True, True),
        ("ao", False, False),  # an old answer, too, while it is no outage
        ("abco", True, True),  # in an outage it may be from better times
        ("ro", True, True),
        ("abcoA", False, False),
    ],
)
def test_the_breaker_opens_at_a_signal_and_closes_at_an_answer(story: str, is_open: bool, is_outage: bool) -> None:
    breaker, _ = breaker_after(story)
    assert (breaker.is_open, breaker.is_outage) == (is_open, is_outage)


def test_probes_come_at_one_second_and_then_ever_later() -> None:
    breaker, now = breaker_after("abc")
    delays = []
    for _ in range(8):
        delays.append(breaker.next_probe_at - now)
        now = breaker.next_probe_at
        breaker.failed(OutageSignal(1, "A", "503"), now, now, is_probe=True)
    assert delays == [
        1,
        2,
        4,
        8,
        16,
        CircuitBreaker.MAX_PROBE_S,
        CircuitBreaker.MAX_PROBE_S,
        CircuitBreaker.MAX_PROBE_S,
    ]


def test_a_probe_puts_the_next_one_off_whatever_its_line() -> None:
    breaker, now = breaker_after("Aabc")
    for signal in (OutageSignal(9, "B", "503"), OutageSignal(4, "A", "503", failed_in=-1)):
        breaker.failed(signal, now + 10, now + 10, is_probe=True)
        assert breaker.next_probe_at > now + 10


def test_what_fails_beside_the_probe_does_not_put_it_off() -> None:
    breaker, now = breaker_after("abc")
    breaker.failed(OutageSignal(7, "A", "503"), now, now + 0.5, is_probe=False)
    assert breaker.next_probe_at == now + 1


def test_an_answer_from_better_times_brings_the_next_probe_nearer() -> None:
    breaker, now = breaker_after("abcpppp")
    assert breaker.next_probe_at - now == 16
    breaker.answered(0.0, now, "A")
    assert breaker.next_probe_at - now == 1
    breaker.answered(0.0, now + 0.5, "A")
    assert breaker.next_probe_at - now == 1, "probes stay a second apart"


def test_what_was_sent_together_with_the_failures_disproves_an_outage() -> None:
    breaker = CircuitBreaker()
    for line in range(3):
        breaker.failed(OutageSignal(line, "A", "503"), 5.0, 5.1, is_probe=False)
    breaker.answered(4.9, 5.5, "A")
    assert breaker.is_outage
    breaker.answered(5.0, 5.5, "A")
    assert not breaker.is_open


def test_the_episode_tells_whether_anything_was_answered_since() -> None:
    breaker = CircuitBreaker()
    assert breaker.failed(OutageSignal(1, "A", "503", failed_in=0), 1.0, 1.0, is_probe=False), (
        "nothing was answered since"
    )
    breaker.answered(2.0, 2.0, "A")
    assert not breaker.failed(OutageSignal(1, "A", "503", failed_in=0), 3.0, 3.0, is_probe=False)
    assert breaker.failed(OutageSignal(1, "A", "503", connected=False, failed_in=0), 3.0, 3.0, is_probe=False)


def test_the_second_outage_begins_like_the_first() -> None:
    breaker, now = breaker_after("abcpppA" + "abc")
    assert breaker.next_probe_at - now == 1
