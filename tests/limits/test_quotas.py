"""`--rpm` and `--tpm` as promises: by property, over whole minutes of made-up work."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.limits.quotas import RequestQuota, Reserved, TokenQuota
from tests.asking import most_in_a_minute

RATES = st.floats(0.5, 200_000)


def greedy(quota: RequestQuota, seconds: float, late: Callable[[], float]) -> list[float]:
    """When a client gets its turns that takes all it can, and whose timers are `late()` seconds late."""
    now, times = 0.0, list[float]()
    while now < seconds and len(times) < 20_000:
        if wait_s := quota.wait_s(now):
            now += wait_s + late()
        else:
            quota.take(now)
            times.append(now)
    return times


# ------------------------------------------------------------------------------------------ pace


@settings(deadline=None, max_examples=40)
@given(st.floats(0.5, 6_000), st.integers(0, 2**32), st.floats(0, 0.5))
def test_a_quota_never_gives_more_than_its_rate_in_any_minute(per_minute: float, seed: int, late_s: float) -> None:
    rng = random.Random(seed)
    times = greedy(RequestQuota(per_minute, 0.0), 130, lambda: rng.random() * late_s)
    assert most_in_a_minute(times, [1] * len(times)) <= per_minute + 1 + 1e-6


@settings(deadline=None)
@given(RATES, st.lists(st.tuples(st.floats(0, 20), st.integers(1, 50)), max_size=200))
def test_whatever_the_schedule_no_minute_has_more_than_the_rate(
    per_minute: float, schedule: list[tuple[float, int]]
) -> None:
    quota, now, times = RequestQuota(per_minute, 0.0), 0.0, []
    for pause_s, tries in schedule:
        now += pause_s
        for _ in range(tries):
            if quota.wait_s(now) == 0:
                quota.take(now)
                times.append(now)
    if times:
        assert most_in_a_minute(times, [1] * len(times)) <= per_minute + 1 + 1e-6


@pytest.mark.parametrize("per_minute", [1, 7, 60, 500, 600, 3_000, 6_000, 30_000, 60_000])
def test_a_greedy_client_with_late_timers_uses_what_it_may(per_minute: float) -> None:
    minutes = min(10.0, 15_000 / per_minute) if per_minute > 60 else 10.0
    times = greedy(RequestQuota(per_minute, 0.0), 60 * minutes, lambda: 0.001)
    assert 0.97 * per_minute * minutes <= len(times) <= per_minute * minutes + per_minute / 600 + 1


@settings(deadline=None)
@given(RATES)
def test_nothing_bursts_at_the_start_nor_after_a_pause(per_minute: float) -> None:
    quota = RequestQuota(per_minute, 0.0)
    for now in (0.0, 3600.0):
        burst = 0
        while quota.wait_s(now) == 0:
            quota.take(now)
            burst += 1
        assert burst <= max(1, per_minute / 600) + 1


def test_who_waits_exactly_as_told_is_let_through() -> None:
    """In virtual time nothing moves while a timer is set again and again: a rest of 1e-17 s would hang."""
    for per_minute in (7, 59.3, 1e5 / 3, 123_456.7):
        quota, now = RequestQuota(per_minute, 0.0), 1e6
        for _ in range(2_000):
            if wait_s := quota.wait_s(now):
                now += wait_s
                assert quota.wait_s(now) == 0
            quota.take(now)


# ------------------------------------------------------------------------------------------ tokens


@dataclass
class Client:
    """Takes all that a quota lets it, with so many in flight at most; each request says what it reserves and uses."""

    per_minute: float
    latency_s: float
    request: Callable[[random.Random], tuple[float, float]]
    in_flight: int = 10_000
    late_s: float = 0.001

    def run(self, seconds: float, seed: int = 0) -> tuple[list[float], list[float]]:
        """When requests were sent, and what each used."""
        quota, rng, now = TokenQuota(self.per_minute, 0.0), random.Random(seed), 0.0
        times, amounts = list[float](), list[float]()
        out = list[tuple[float, int, Reserved, float]]()
        while now < seconds:
            while out and out[0][0] <= now:
                _, _, reserved, used = heapq.heappop(out)
                quota.settle(reserved, used, now)
            wait_s = quota.wait_s(now)
            if wait_s == 0 and len(out) < self.in_flight:
                estimate, used = self.request(rng)
                ends = now + self.latency_s * rng.uniform(0.5, 1.5)
                heapq.heappush(out, (ends, len(times), quota.take(estimate, now), used))
                times.append(now)
                amounts.append(used)
                continue
            back_s = out[0][0] - now if out else 1e9
            now += max(1e-6, min(wait_s + rng.random() * self.late_s if wait_s else 1e9, back_s))
        return times, amounts

    def share_used(self, times: list[float], amounts: list[float], since: float, until: float) -> float:
        used = sum(amount for time, amount in zip(times, amounts, strict=True) if since <= time < until)
        return used / (self.per_minute * (until - since) / 60)


def exact(rng: random.Random) -> tuple[float, float]:
    used = rng.uniform(300, 1700)
    return used, used


def wrong_by_half(rng: random.Random) -> tuple[float, float]:
    estimate = rng.uniform(500, 1500)
    return estimate, estimate * rng.uniform(0.5, 1.5)


def too_low(rng: random.Random) -> tuple[float, float]:
    """A token for four bytes is too few for Chinese or code."""
    estimate = rng.uniform(200, 600)
    return estimate, 1.6 * estimate


def four_times_too_high(rng: random.Random) -> tuple[float, float]:
    used = rng.uniform(200, 400)
    return 4 * used, used


@pytest.mark.parametrize("request_", [exact, wrong_by_half, too_low], ids=lambda made: made.__name__)
@pytest.mark.parametrize("per_minute", [60_000, 600_000, 6_000_000])
def test_tokens_are_used_to_97_percent_and_never_passed(
    per_minute: float, request_: Callable[[random.Random], tuple[float, float]]
) -> None:
    client = Client(per_minute, 2.0, request_)
    times, amounts = client.run(240)
    # What is in flight while estimates are still found to be too low may be short by half of it.
    unknown = per_minute / 60 * 2 * 0.6 if request_ is not exact else 0
    assert most_in_a_minute(times, amounts) <= per_minute + max(amounts) + unknown
    assert client.share_used(times, amounts, 60, 240) >= 0.97
    second_by_second = [client.share_used(times, amounts, at, at + 1) for at in range(70, 230)]
    assert max(second_by_second) <= 1.1 + 2 * max(amounts) / (per_minute / 60)


@settings(deadline=None, max_examples=40)
@given(st.floats(600, 1e6), st.floats(0.01, 100), st.floats(1.0, 20.0), st.integers(0, 2**32))
def test_no_minute_ever_passes_the_limit_by_more_than_one_request(
    per_minute: float, latency_s: float, too_much: float, seed: int
) -> None:
    """What is reserved is never less than what is used: then there is no schedule that passes it."""

    def made(rng: random.Random) -> tuple[float, float]:
        used = rng.uniform(0, per_minute / 10)
        return used * too_much, used

    times, amounts = Client(per_minute, latency_s, made, late_s=0.05).run(200, seed)
    assert most_in_a_minute(times, amounts) <= per_minute + max(amounts) + 1e-6 * per_minute


def test_reserving_four_times_too_much_costs_only_what_is_in_flight() -> None:
    """Two seconds of sixty are reserved fourfold: 60 / (58 + 2 * 4) of the limit is left to use."""
    client = Client(600_000, 2.0, four_times_too_high)
    times, amounts = client.run(240)
    assert client.share_used(times, amounts, 60, 240) >= 0.97 * 60 / 66


def test_one_request_larger_than_the_limit_goes_and_then_nothing_for_its_time() -> None:
    quota = TokenQuota(1_000, 0.0)
    assert quota.wait_s(0.0) == 0
    reserved = quota.take(5_000, 0.0)
    assert quota.wait_s(1.0) > 55
    quota.settle(reserved, 100, 2.0)
    assert quota.wait_s(2.0) == pytest.approx(4.0, abs=0.2)


def test_what_was_not_sent_is_free_again_and_teaches_nothing() -> None:
    quota = TokenQuota(6_000, 0.0)
    quota.give_back(quota.take(3_000, 0.0), 0.0)
    assert quota.wait_s(0.0) == 0
    assert quota.take(100, 0.0).tokens == 100


def test_an_answer_that_takes_longer_than_a_minute_settles_nothing_any_more() -> None:
    quota = TokenQuota(6_000, 0.0)
    reserved = quota.take(5_000, 0.0)
    quota.settle(reserved, 1_000, 200.0)
    late = quota.take(1_000, 200.0)
    assert late.tokens == 1_000, "the limit holds nothing of long ago"


def test_a_lower_limit_counts_what_the_last_minute_used() -> None:
    quota = TokenQuota(6_000, 0.0)
    quota.settle(quota.take(3_000, 0.0), 3_000, 1.0)
    quota.change(2_000)
    assert quota.wait_s(31.0) == pytest.approx(29.1, abs=0.2)


# --------------------------------------------------------------------------------------------- earlier runs


@pytest.mark.parametrize("per_minute", [2, 60, 1000.0])
@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_requests_of_earlier_runs_count_and_are_forgotten_after_a_minute(per_minute: float, pace: float) -> None:
    """Whatever pace they had: with those of this run, no minute has more than one too many, or waits for over 60 s."""
    now = 1000.0
    earlier_s = [60 * number / (per_minute * pace) for number in range(int(per_minute * pace), -1, -1)]
    quota = RequestQuota(per_minute, now)
    quota.remember(earlier_s, now)
    times: list[float] = []
    while now < 1130:
        wait_s = quota.wait_s(now)
        now += wait_s
        quota.take(now)
        times.append(now)
        assert wait_s <= 60.001
    everything = sorted([1000 - age_s for age_s in earlier_s] + times)
    if pace <= 1:
        assert most_in_a_minute(everything, [1] * len(everything)) <= per_minute + 1 + 1e-9
    assert most_in_a_minute(times, [1] * len(times)) <= per_minute + 1 + 1e-9
    for time in times:
        assert sum(time - 60 < other <= time for other in everything) <= max(per_minute + 1, len(earlier_s) / pace + 2)


def test_tokens_of_earlier_runs_count_and_are_forgotten_after_a_minute() -> None:
    now = 1000.0
    quota = TokenQuota(600, now)
    quota.remember([(50.0, 300.0), (10.0, 200.0)], now)
    assert quota.wait_s(now) > 0, "they are sent evenly"
    quota = TokenQuota(600, now)
    quota.remember([(30.0, 6000.0)], now)
    assert 29 < quota.wait_s(now) <= 60
    quota.take(10, now + 60)
    assert quota.wait_s(now + 62) == 0
