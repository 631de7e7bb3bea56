"""The controller alone, and against `model_gateways.py`, in virtual time."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.records.outcome import RateHeaders
from tests.limits.gateways import (
    Bucket,
    Capacity,
    Faulty,
    FixedWindow,
    Gateway,
    Latency,
    Later,
    Refusing,
    Steps,
    Tokens,
    Unlimited,
    steady,
)
from tests.limits.model_gateways import HALVES, SCENARIOS, Scenario
from tests.limits.virtual_client import Client, Outcome


def meets(scenario: Scenario, outcome: Outcome) -> None:
    assert outcome.used >= scenario.used
    assert outcome.refusals <= scenario.refusals
    assert scenario.slowness(outcome) <= scenario.slower


def answered_between(outcome: Outcome, since: int, until: int) -> float:
    """Answers a second."""
    answered = [max(second.answered for second in outcome.seconds if second.at <= at) for at in (since, until)]
    return (answered[1] - answered[0]) / (until - since)


# ------------------------------------------------------------------------------------------- the targets


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_targets(scenario: Scenario) -> None:
    for seed in (1, 2):
        meets(scenario, scenario.run(seed))


@pytest.mark.long
@pytest.mark.parametrize("seed", range(3, 13))
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_targets_with_more_seeds(scenario: Scenario, seed: int) -> None:
    meets(scenario, scenario.run(seed))


@pytest.mark.parametrize("seed", [1, 2])
def test_no_limit_is_used_within_seconds(seed: int) -> None:
    outcome = Client(Unlimited(Latency(1)), seed=seed).run(15.5)
    assert outcome.seconds[15].in_flight >= 1500
    assert outcome.throttled == 0


def test_lognormal_latencies_without_a_limit_are_hardly_ever_taken_for_a_queue() -> None:
    reached = [Client(Unlimited(Latency(1, 5)), seed=seed, maximum=500).run(15.5).seconds[15] for seed in range(8)]
    assert sum(second.in_flight >= 400 for second in reached) >= 7


# ------------------------------------------------------------------------------------- limits that change


def test_a_rate_limit_ten_times_higher_is_found_within_two_minutes() -> None:
    outcome = Client(Bucket(Steps(((0, 15), (60, 150))), 15, Latency(0.1))).run(200)
    assert answered_between(outcome, 190, 199) >= 0.9 * 150


def test_a_concurrency_limit_ten_times_higher_is_found_within_a_minute() -> None:
    outcome = Client(Capacity(Steps(((0, 10), (60, 100))), Latency(0.2))).run(125)
    assert answered_between(outcome, 114, 124) >= 0.9 * 500


def test_a_queue_ten_times_shorter_is_found_within_five_minutes() -> None:
    outcome = Client(Capacity(Steps(((0, 10), (60, 100))), Latency(0.5), queue=True)).run(365)
    assert answered_between(outcome, 350, 360) >= 0.9 * 200


@pytest.mark.parametrize("retry_after", [False, True])
def test_a_rate_limit_that_halves_is_followed_within_seconds(retry_after: bool) -> None:
    outcome = Client(Bucket(Steps(((0, 150), (60, 75))), 75, Latency(0.1), retry_after)).run(121)
    assert outcome.seconds[120].throttled - outcome.seconds[60].throttled <= 0.02 * 60 * 75
    assert answered_between(outcome, 80, 120) >= 0.9 * 75


def test_a_concurrency_limit_that_halves_and_doubles_with_retry_after() -> None:
    outcome = Client(Capacity(HALVES, Latency(1, 5), retry_after=True), seed=1, warm_up_s=20).run(360)
    assert outcome.used >= 0.88
    assert outcome.refusals <= 0.01


# ---------------------------------------------------------------------------------------- nothing freezes


def test_one_long_retry_after_pauses_once_and_freezes_nothing() -> None:
    outcome = Client(Faulty(Capacity(steady(40), Latency(0.2)), throttle_at=(20.0,), retry_after_s=89)).run(180)
    assert answered_between(outcome, 22, 105) == 0
    assert answered_between(outcome, 115, 179) >= 0.95 * 200


def test_refusals_without_a_reason_do_not_wear_the_limit_down() -> None:
    faulty = Faulty(Unlimited(Latency(1)), throttle_at=tuple(float(at) for at in range(5, 120, 10)))
    outcome = Client(faulty, maximum=200).run(180)
    assert answered_between(outcome, 60, 179) >= 0.8 * 200


@pytest.mark.parametrize(
    ("share", "retry_after_s", "within_s"),
    [(0.005, None, 100), (0.005, 1, 300), (0.02, None, 100), (0.02, 1, 100), (0.1, None, 100), (0.1, 1, 100)],
)
def test_refusals_that_no_pace_avoids_do_not_slow_the_job_down(
    share: float, retry_after_s: float | None, within_s: int
) -> None:
    """One channel of a relay is spent: some are refused, however slowly they come. 200 a second are possible."""
    for seed in (1, 2):
        relay = Faulty(Unlimited(Latency(1)), spurious=share, retry_after_s=retry_after_s)
        outcome = Client(relay, seed=seed, maximum=200).run(within_s + 201)
        assert answered_between(outcome, within_s, within_s + 200) >= 0.85 * 200


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3])
def test_spurious_throttles_in_a_small_job_cost_less_than_half_of_it(share: float) -> None:
    for retry_after_s in (None, 1):
        relay = Faulty(Unlimited(Latency(1)), spurious=share, retry_after_s=retry_after_s)
        outcome = Client(relay, seed=1, maximum=20).run(301)
        assert answered_between(outcome, 100, 300) >= 0.5 * 20


@pytest.mark.long
@pytest.mark.parametrize("retry_after_s", [None, 1])
@pytest.mark.parametrize(
    ("share", "since_s", "used"),
    [(0.005, 300, 0.85), (0.02, 100, 0.85), (0.05, 100, 0.7), (0.1, 100, 0.85), (0.3, 200, 0.7)],
)
def test_refusals_that_no_pace_avoids_with_more_seeds(
    share: float, since_s: int, used: float, retry_after_s: float | None
) -> None:
    for seed in range(1, 13):
        relay = Faulty(Unlimited(Latency(1)), spurious=share, retry_after_s=retry_after_s)
        outcome = Client(relay, seed=seed, maximum=200).run(since_s + 201)
        assert answered_between(outcome, since_s, since_s + 200) >= used * 200


@pytest.mark.long
def test_spurious_throttles_are_still_known_after_ten_minutes() -> None:
    """What is believed is looked at again, and not found out from nothing."""
    for seed in range(1, 5):
        relay = Faulty(Unlimited(Latency(1)), spurious=0.1, retry_after_s=1)
        outcome = Client(relay, seed=seed, maximum=20).run(1001)
        assert answered_between(outcome, 600, 1000) >= 0.9 * 20


def test_a_real_limit_behind_spurious_throttles_is_still_kept() -> None:
    relay = Faulty(Bucket(steady(150), 150, Latency(0.1)), spurious=0.01)
    outcome = Client(relay, seed=1, warm_up_s=60).run(400)
    assert outcome.used >= 0.9
    assert outcome.refusals <= 0.05


def test_a_limit_that_falls_to_a_tenth_is_not_spurious() -> None:
    outcome = Client(Bucket(Steps(((0, 150), (60, 15))), 15, Latency(0.1)), seed=1).run(300)
    assert outcome.seconds[299].throttled - outcome.seconds[60].throttled <= 0.03 * 15 * 239
    assert answered_between(outcome, 120, 299) >= 0.9 * 15


def test_an_idle_hour_changes_nothing() -> None:
    client = Client(Bucket(steady(150), 150, Latency(0.1)))
    outcome = client.run(3800, idle=((100.0, 3700.0),))
    assert answered_between(outcome, 3720, 3790) >= 0.95 * 150
    assert outcome.refusals <= 0.01


def test_a_few_lines_are_sent_at_once() -> None:
    outcome = Client(Unlimited(Latency(1))).run(60, lines=8)
    assert outcome.answered == 8
    assert outcome.ended_at < 1.1


@pytest.mark.parametrize("gateway", [Bucket(steady(150), 150, Latency(0.1)), Capacity(steady(3), Latency(1))])
def test_the_bounds_hold(gateway: Gateway) -> None:
    outcome = Client(gateway, minimum=5, maximum=12).run(60)
    assert {second.slots for second in outcome.seconds} <= set(range(5, 13))
    assert outcome.most_in_flight <= 12


def test_a_gateway_that_refuses_everything_is_asked_ever_less_often() -> None:
    outcome = Client(FixedWindow(steady(0), 60, Latency(1))).run(600)
    assert outcome.answered == 0
    assert outcome.throttled <= 100


@pytest.mark.parametrize("count", [60, 300])
@pytest.mark.parametrize("left_s", [5, 35, 60])
def test_a_minute_that_is_spent_when_the_job_begins_is_no_rate(count: int, left_s: int) -> None:
    """Of 300 a minute, the next half an hour got one a minute: what was admitted until the first minute was over."""
    window = FixedWindow(steady(count), 60, Latency(0.5))
    gateway = Refusing(window, 0, left_s)
    outcome = Client(gateway, seed=1).run(60 * 15 + left_s)
    assert answered_between(outcome, left_s, 60 * 15 + left_s) >= 0.9 * count / 60
    assert outcome.refusals <= 0.08


@pytest.mark.parametrize("count", [60, 300, 3000])
@pytest.mark.parametrize("began_s", [0, 20, 40, 55])
def test_a_limit_that_begins_anew_each_minute_is_known_by_its_headers(count: int, began_s: int) -> None:
    """They tell how many are left, but not until when; of 60 a minute, 0.02 an answer were refused."""
    gateway = Later(FixedWindow(steady(count), 60, Latency(0.5), tells=True), began_s)
    outcome = Client(gateway, seed=1, warm_up_s=60).run(600)
    assert outcome.used >= 0.97
    assert outcome.throttled <= 8


@pytest.mark.parametrize("latency", [Latency(0.5), Latency(2, 5)])
def test_a_bucket_is_not_taken_for_a_limit_that_begins_anew(latency: Latency) -> None:
    """What is stored is used soon, and then its refill."""
    outcome = Client(Bucket(steady(10), 600, latency, tells=True), seed=1, warm_up_s=120).run(600)
    assert outcome.used >= 0.97
    assert outcome.throttled <= 8
    assert outcome.seconds[40].answered >= 600


@pytest.mark.parametrize("seconds", [20, 50, 100, 400])
@pytest.mark.parametrize("retry_after_s", [None, 1.0])
def test_a_rate_that_is_known_is_not_forgotten_while_all_is_refused(seconds: int, retry_after_s: float | None) -> None:
    """After 50 s of refusals, the next two minutes got less than a hundredth of their 100 a second."""
    gateway = Refusing(Bucket(steady(100), 100, Latency(0.5)), 300, 300 + seconds, retry_after_s)
    outcome = Client(gateway, seed=1).run(300 + seconds + 136)
    assert answered_between(outcome, 300 + seconds + 15, 300 + seconds + 135) >= 0.95 * 100


def test_refusals_after_an_idle_time_tell_of_no_slower_rate() -> None:
    """Nothing was admitted since it, and what was before it no longer counts."""
    gateway = Refusing(Bucket(steady(20), 20, Latency(0.5)), 100, 150)
    outcome = Client(gateway, seed=1).run(301, idle=((90.0, 101.0),))
    assert answered_between(outcome, 180, 300) >= 0.9 * 20


def test_refused_for_a_day_and_still_finite() -> None:
    """Doublings of pauses, waits and paces are bounded: 2.0**1024 would end the run after a night."""
    outcome = Client(FixedWindow(steady(0), 60, Latency(1))).run(86_400)
    assert outcome.throttled <= 10_000


def test_a_paced_day_and_still_finite() -> None:
    client = Client(Bucket(Steps(((0, 0.5), (300, 1e9))), 1, Latency(1)), maximum=4)
    client.run(20_000)
    pace = client.controller.pace_per_s
    assert pace is None or math.isfinite(pace)


# ---------------------------------------------------------------------------------------------- headers


def lying(headers: RateHeaders, rng: random.Random, kind: str) -> RateHeaders:
    match kind:
        case "unknown":
            return replace(headers, limit_tokens=-1, remaining_tokens=-1, reset_tokens_s=0)
        case "no limit":
            return replace(headers, limit_tokens=0, remaining_tokens=0, reset_tokens_s=0)
        case "nothing left":
            return replace(headers, remaining_tokens=0, reset_tokens_s=60)
        case "other accounts":
            return replace(headers, remaining_tokens=rng.choice([0, 1e5, 6e5]), reset_tokens_s=rng.choice([60, 10, 1]))
        case _:
            return replace(headers, limit_tokens=math.inf, remaining_tokens=math.nan, reset_tokens_s=math.inf)


@pytest.mark.parametrize("kind", ["unknown", "no limit", "nothing left", "other accounts", "not numbers"])
def test_headers_that_make_no_sense_slow_nothing_down_for_good(kind: str) -> None:
    gateway = Tokens(steady(600_000), 1000, Latency(2, 3), lies=lambda headers, rng: lying(headers, rng, kind))
    outcome = Client(gateway, seed=1, warm_up_s=120).run(400)
    assert outcome.used >= 0.9
    assert outcome.refusals <= 0.02


def test_headers_are_followed_when_the_limit_halves() -> None:
    limits = Steps(((0, 600_000), (120, 300_000), (240, 600_000)))
    outcome = Client(Tokens(limits, 1000, Latency(2, 3)), seed=1, warm_up_s=60).run(360)
    assert outcome.used >= 0.95
    assert outcome.refusals <= 0.002


def test_large_requests_against_a_token_limit() -> None:
    outcome = Client(Tokens(steady(600_000), 20_000, Latency(10, 3)), seed=1, warm_up_s=120).run(600)
    assert outcome.used >= 0.95
    assert outcome.refusals <= 0.02  # one request takes up to 6 % of what there is in a minute


# ------------------------------------------------------------------------------------- what limits it


@pytest.mark.parametrize(
    ("gateway", "limited_by"),
    [
        (Bucket(steady(150), 150, Latency(0.1)), LimitedBy.REQUESTS),
        (Capacity(steady(40), Latency(0.2)), LimitedBy.CAPACITY),
        (Capacity(steady(40), Latency(0.2), queue=True), LimitedBy.PLATEAU),
        (Tokens(steady(600_000), 1000, Latency(2, 3)), LimitedBy.TOKENS),
        (Unlimited(Latency(0.2)), LimitedBy.MAXIMUM),
    ],
    ids=lambda value: type(value).__name__,
)
def test_it_says_what_limits_it(gateway: Gateway, limited_by: LimitedBy) -> None:
    outcome = Client(gateway, maximum=100).run(60)
    said = [second.limited_by for second in outcome.seconds[20:]]
    assert said.count(limited_by) >= 0.7 * len(said)


def test_at_the_tail_few_lines_limit_it() -> None:
    controller = Controller(Concurrency(50, 100), 0.0)
    controller.sent(1, 0.0)
    assert controller.limited_by(1, 0.5, has_lines=False) is LimitedBy.TAIL


# ---------------------------------------------------------------------------------- the controller alone


def test_a_request_sent_before_the_cut_does_not_cut_again() -> None:
    controller = Controller(Concurrency(20, 20), 0.0)
    early = [controller.sent(number, 0.0) for number in range(1, 21)]
    controller.throttled(early[19], None, 0.1)
    slots = controller.slots
    for sent in early[:19]:
        controller.throttled(sent, None, 0.1)
    assert controller.slots == slots < 20


def test_answers_far_above_the_ceiling_take_it_back() -> None:
    """Eight at once, the third refused, the others answered: nobody has room for two only."""
    controller = Controller(Concurrency(), 0.0)
    sent = [controller.sent(number, number / 1000) for number in range(1, 9)]
    controller.throttled(sent[2], None, 0.03)
    assert controller.slots <= 4
    for request in sent[3:]:
        controller.succeeded(request, 1.0)
    assert controller.slots >= 8


def test_growth_needs_the_limit_to_be_used() -> None:
    """In flight below 80 % of the limit says nothing about what lies beyond it."""
    controller = Controller(Concurrency(20, 100), 0.0)
    for second in range(1, 200):
        controller.succeeded(controller.sent(10, float(second)), second + 0.5)
    assert controller.slots == 20


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ok", "429", "503", "headers"]),
            st.floats(0, 5),
            st.none() | st.floats(-10, 1e9),
            st.floats(allow_nan=True, allow_infinity=True),
        ),
        max_size=60,
    ),
    st.integers(1, 5),
    st.integers(0, 50),
)
def test_whatever_comes_it_stays_within_bounds(
    events: list[tuple[str, float, float | None, float]], minimum: int, more: int
) -> None:
    controller = Controller(Concurrency(minimum, minimum + more), 0.0)
    now, waiting = 0.0, list[Sent]()
    for kind, seconds, retry_after_s, number in events:
        waiting.append(controller.sent(len(waiting) + 1, now))
        now += seconds
        sent = waiting.pop(0)
        match kind:
            case "ok":
                controller.succeeded(sent, now)
            case "429":
                assert 0 <= controller.throttled(sent, retry_after_s, now) <= 120
            case "503":
                controller.failed(sent, now)
            case _:
                headers = RateHeaders(number, number / 2, seconds, number, abs(number) / 3, -seconds)
                controller.headers(sent, headers, now)
                controller.succeeded(sent, now)
        assert (minimum if more else 1) <= controller.slots <= minimum + more  # a fixed number is a highest one
        pace = controller.pace_per_s
        assert pace is None or pace > 0
        assert isinstance(controller.limited_by(len(waiting), now), LimitedBy)


# ------------------------------------------------------------------------------------------- long forms


@pytest.mark.long
def test_a_day_and_ten_million_lines() -> None:
    """A capacity that wanders between 100 and 400 all day, latencies lognormal, 1 % failures."""
    rng = random.Random(1)
    hours = Steps(tuple((hour * 3600.0, float(rng.randint(100, 400))) for hour in range(24)))
    gateway = Faulty(Capacity(hours, Latency(1.6, 5)), share=0.01)
    outcome = Client(gateway, seed=1, warm_up_s=60).run(86_400, lines=10_000_000)
    assert outcome.used >= 0.95
    assert outcome.refusals <= 0.01


@pytest.mark.long
def test_a_day_against_a_limit_per_minute() -> None:
    gateway = FixedWindow(steady(1000), 60, Latency(2, 5))
    outcome = Client(gateway, seed=1, warm_up_s=600).run(86_400)
    assert outcome.used >= 0.9
    assert outcome.refusals <= 0.015
