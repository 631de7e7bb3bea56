"""A limit that nobody told is found out within seconds, with few refusals, even where each of them costs a pause."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.limits.refill import Refill
from tests.limits.found_out import UNKNOWN, Unknown
from tests.limits.gateways import Bucket, Latency, Steps, steady
from tests.limits.virtual_client import Client

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("unknown", UNKNOWN, ids=lambda unknown: unknown.name)
def test_a_job_of_thirty_seconds_uses_a_limit_that_it_has_to_find_out(unknown: Unknown) -> None:
    found = unknown.run()
    assert found.soon >= unknown.soon
    assert found.refusals <= unknown.refusals
    assert found.then >= unknown.then
    assert found.refusals_then <= unknown.refusals


@pytest.mark.long
@pytest.mark.parametrize("latency_s", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("burst_s", [0.25, 1.0])
@pytest.mark.parametrize("per_s", [30, 150, 1000])
def test_other_rates_and_latencies_with_retry_after(per_s: float, burst_s: float, latency_s: float) -> None:
    unknown = Unknown("", "", lambda: Bucket(steady(per_s), per_s * burst_s, Latency(latency_s), 1.0))
    found = unknown.run()
    assert found.soon >= 0.9
    assert found.refusals <= 0.02
    assert found.then >= 0.95


def test_a_limit_that_halves_behind_retry_after_is_followed_though_two_refusals_told_the_old_one() -> None:
    outcome = Client(Bucket(Steps(((0, 150), (60, 75))), 20, Latency(0.1), 1.0)).run(121)
    answered = [outcome.seconds[at].answered for at in (80, 120)]
    assert answered[1] - answered[0] >= 0.85 * 75 * 40
    assert outcome.seconds[120].throttled - outcome.seconds[60].throttled <= 0.02 * 60 * 75


# ---------------------------------------------------------------------------------------- the refill alone


def refused(refill: Refill, bucket: Bucket, since: float, pace_per_s: float, rise: float) -> float:
    """Send from `since` on, ever faster, until the bucket refuses; when that was."""
    rng, now, pace = random.Random(1), since, pace_per_s
    while True:
        refill.sent(now)
        if bucket.arrive(now, rng)[0].status != 200:
            refill.refused(now, 0, is_new=True)
            return now
        now += 1 / pace
        pace += pace * rise / pace


@pytest.mark.parametrize("per_s", [5.0, 30.0, 150.0, 1000.0])
@pytest.mark.parametrize("burst_s", [0.1, 0.25, 0.5, 2.0])
def test_a_burst_and_a_slow_excess_tell_refill_and_size(per_s: float, burst_s: float) -> None:
    """The bucket runs over in the pause of a second, so what was admitted over the time in between tells too little."""
    size = max(2.0, per_s * burst_s)
    refill, bucket = Refill(0.0), Bucket(steady(per_s), size, Latency(0.1))
    at = refused(refill, bucket, 0.0, 5 * per_s, 0.0)
    assert refill.told() is None, "one refusal fits many buckets"
    refused(refill, bucket, at + 1.0, 0.7 * per_s, 0.2)
    told = refill.told()
    assert told is not None
    assert told.per_s == pytest.approx(per_s, rel=0.03 if per_s > 10 else 0.15)
    assert told.size == pytest.approx(size, rel=0.15, abs=2)


def test_what_spills_in_a_pause() -> None:
    refill, bucket = Refill(0.0), Bucket(steady(100), 25, Latency(0.1))
    at = refused(refill, bucket, 0.0, 1000, 0.0)
    refused(refill, bucket, at + 1.0, 80, 0.2)
    told = refill.told()
    assert told is not None
    assert told.spilt_s(1.0) == pytest.approx(0.75, abs=0.03)
    assert told.spilt_s(0.1) == 0.0


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.integers(0, 5)), max_size=80))
def test_whatever_comes_the_refill_is_a_positive_number_or_unknown(events: list[tuple[float, bool, int]]) -> None:
    refill, now, sent_at = Refill(0.0), 0.0, list[float]()
    for wait_s, is_refused, since in events:
        now += wait_s
        refill.sent(now)
        sent_at.append(now)
        if is_refused:
            before = min(since, len(sent_at) - 1)
            refill.refused(sent_at[-1 - before], before, is_new=since < 3)
        told = refill.told()
        assert told is None or (0 < told.per_s < 1e12 and told.size >= 0)
        assert refill.recent_per_s() >= 0


def test_a_day_without_a_refusal_is_kept_in_a_few_points() -> None:
    refill = Refill(0.0)
    for number in range(100_000):
        refill.sent(number * 0.86)
    refill.refused(99_999 * 0.86, 0, is_new=True)
    assert len(refill._spans[0].at_s) <= Refill.POINTS + 2
