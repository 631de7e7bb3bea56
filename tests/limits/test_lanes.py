"""Whose limit a refusal tells of: one model's own, or that of the whole key."""

from __future__ import annotations

import heapq
import math
import random

import pytest

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.lanes import Lane, Lanes, Recent
from batchrun.limits.options import Concurrency
from batchrun.limits.whose_limit import WhoseLimit


def lanes(*models: str) -> tuple[Lanes, list[Lane]]:
    found = Lanes(Concurrency(1, 64), 0.0, has_several=True)
    return found, [found.of(model) for model in models]


def test_all_models_share_what_is_known_at_first() -> None:
    found, (one, other) = lanes("a", "b")
    assert one.limits is other.limits is found.shared
    assert found.limits == [found.shared]
    assert found.of("a") is one


def test_a_model_that_is_refused_alone_gets_limits_of_its_own() -> None:
    found, (slow, free) = lanes("slow", "free")
    refusals = 0
    for now in range(40):
        found.sent(slow if now % 5 == 0 else free)
        if now % 5 == 0 and found.holds(slow):
            refusals += 1
            found.refused(slow, now, now)
    assert 4 <= refusals <= 8
    assert slow.limits is not found.shared
    assert free.limits is found.shared
    assert not found.holds(slow)
    assert set(found.limits) == {slow.limits, free.limits}


def refused_by(rng: random.Random, models: dict[str, float], chances: dict[str, float], most: int) -> WhoseLimit:
    """Send requests with these shares, each model's refused with its chance, until something is known of a limit."""
    whose, refusals = WhoseLimit(), 0
    while refusals < most and not whose.own() and not whose.is_the_keys:
        (model,) = rng.choices(list(models), list(models.values()))
        whose.sent(model)
        if rng.random() < chances[model]:
            refusals += 1
            whose.refused(model)
    return whose


EQUAL = {f"m{number}": 1.0 for number in range(8)}
SKEWED = {"large": 0.8, "small": 0.15, "rare": 0.05}


@pytest.mark.parametrize("shares", [EQUAL, SKEWED, {"a": 0.5, "b": 0.5}, {"most": 0.95, "few": 0.05}])
def test_a_limit_of_the_key_is_told_from_limits_of_models(shares: dict[str, float]) -> None:
    """One request in ten is refused, whatever its model: within few refusals it is known whose limit that is."""
    for seed in range(50):
        whose = refused_by(random.Random(seed), shares, dict.fromkeys(shares, 0.1), most=150)
        assert (whose.is_the_keys, whose.own()) == (True, []), seed


@pytest.mark.parametrize("limited", [1, 2])
def test_the_limits_of_some_models_are_told_from_one_of_the_key(limited: int) -> None:
    """Of eight models, some are refused once in three times, and no other one ever."""
    for seed in range(50):
        chances = {model: 0.3 if int(model[1]) < limited else 0.0 for model in EQUAL}
        whose = refused_by(random.Random(seed), EQUAL, chances, most=150)
        assert whose.own(), seed
        assert all(int(model[1]) < limited for model in whose.own())


def test_a_limit_that_is_known_to_be_the_keys_is_seldom_doubted() -> None:
    for seed in range(20):
        rng, whose = random.Random(seed), refused_by(random.Random(seed), EQUAL, dict.fromkeys(EQUAL, 0.1), most=150)
        for _ in range(10_000):
            model = rng.choice(list(EQUAL))
            whose.sent(model)
            if rng.random() < 0.02:
                whose.refused(model)
        assert whose.own() == [], seed


def test_a_limit_that_was_taken_for_the_keys_is_found_to_be_a_models_own() -> None:
    whose = refused_by(random.Random(1), EQUAL, dict.fromkeys(EQUAL, 0.1), most=150)
    assert whose.is_the_keys
    refusals = 0
    while not whose.own():
        for model in EQUAL:
            whose.sent(model)
        whose.refused("m3")
        refusals += 1
    assert whose.own() == ["m3"]
    assert refusals <= 12


def test_a_burst_of_one_model_tells_less_than_refusals_one_by_one() -> None:
    """All that was sent of late is its own: whatever the limit is, no other model could be refused."""
    whose = WhoseLimit()
    for number in range(200):
        whose.sent("other" if number < 100 else "burst")
    for _ in range(12):
        whose.refused("burst")
    assert whose.own() == []


def test_the_rest_of_a_burst_does_not_speak_against_the_key_again() -> None:
    """They were sent before it was known that the limit is the key's."""
    found, (one, other) = lanes("one", "other")
    for lane in (one, other) * 20:
        found.sent(lane)
    for lane in (one, other) * 10:
        found.refused(lane, 0.0, 1.0)
    assert not found.holds(one), "it is the key's"
    for _ in range(100):
        found.refused(one, 0.0, 1.0)
    assert one.limits is found.shared
    for _ in range(100):
        found.refused(one, 1.0, 1.0)
    assert one.limits is not found.shared


def test_where_one_model_is_left_its_limit_is_the_keys() -> None:
    whose = WhoseLimit()
    for model in ("apart", "left"):
        whose.sent(model)
    whose.set_apart("apart")
    assert whose.is_the_keys
    for _ in range(1000):
        whose.sent("left")
        whose.refused("left")
    assert whose.own() == []


def test_a_refusal_may_come_long_after_its_request() -> None:
    whose = WhoseLimit()
    for model in ("late", *["other"] * 100_000):
        whose.sent(model)
    whose.refused("late")
    whose.set_apart("other")
    whose.refused("late")
    assert whose.own() == []


def test_a_lane_begins_with_what_was_answered_of_late() -> None:
    found, (slow, free) = lanes("slow", "free")
    for tenth in range(20):
        found.answered(slow, slow.limits, Sent(0.0, 1, tenth), None, tenth / 10)
    slow.taken = 20
    while slow.limits is found.shared:
        for lane in (slow, *[free] * 20):
            found.sent(lane)
        found.refused(slow, 2.0, 2.0)
    controller = slow.limits.controller
    assert controller.slots == 20
    assert controller.pace_per_s == pytest.approx(2 * 10, rel=0.05)
    assert slow.limits.wait_s(20, 2.0) == pytest.approx(0.05, rel=0.1), "what it had is used up"
    assert not slow.is_held(2.0)


def let_through(per_s: float, guess_per_s: float, seconds: float = 300.0) -> tuple[float, int]:
    """The share that is used of a bucket that is empty at first, with answers after half a second; and the refusals."""
    limits = EndpointLimits(Concurrency(1, 64), 0.0)
    limits.begin(guess_per_s, 8, 0.0)
    tokens, filled_at, now, order, refusals, answers = 0.0, 0.0, 0.0, 0, 0, 0
    back: list[tuple[float, int, bool, Sent]] = []
    while now < seconds:
        pace_per_s = limits.controller.pace_per_s
        wait_s = limits.wait_s(pace_per_s, now)
        if wait_s == 0:
            tokens, filled_at = min(max(1.0, per_s), tokens + per_s * (now - filled_at)), now
            is_let = tokens >= 1
            tokens -= is_let
            order += 1
            heapq.heappush(back, (now + (0.5 if is_let else 0.01), order, is_let, limits.sent(pace_per_s, now)))
            continue
        now = min(now + (math.inf if wait_s is None else wait_s), back[0][0] if back else math.inf)
        while back and back[0][0] <= now:
            _, _, is_let, sent = heapq.heappop(back)
            if is_let:
                answers += 1
                limits.answered(sent, None, now)
            else:
                refusals += 1
                limits.throttled(sent, None, None, now)
    return answers / (per_s * seconds), refusals


@pytest.mark.parametrize("per_s", [1.0, 2.0, 5.0, 10.0, 20.0])
@pytest.mark.parametrize("guessed", [1.0, 1.5, 2.0, 4.0])
def test_what_a_lane_begins_with_is_soon_right(per_s: float, guessed: float) -> None:
    """However roughly the first answers told it: a limit of 1 a second was used to 0.63 in the first ten minutes."""
    used, refusals = let_through(per_s, guessed * per_s)
    assert used >= 0.9
    assert refusals <= 15 + 0.01 * 300 * per_s


@pytest.mark.parametrize("guessed", [1.0, 1.5, 2.0, 2.5, 4.0])
def test_what_a_lane_begins_with_is_right_within_a_minute(guessed: float) -> None:
    used, _ = let_through(5.0, guessed * 5.0, seconds=60.0)
    assert used >= 0.95


def test_answers_are_counted_over_the_last_second_or_two() -> None:
    recent = Recent()
    assert recent.per_s(0.0) == 0.0
    for hundredth in range(500):
        recent.add(hundredth / 100)
    assert recent.per_s(5.0) == pytest.approx(100, rel=0.02)
    assert recent.per_s(5.9) == pytest.approx(100 / 1.9, rel=0.02)
    assert recent.per_s(9.0) == 0.0


def test_lanes_that_keep_places_free_for_one_another_do_not_all_wait() -> None:
    found, both = lanes("a", "b")
    for lane in both:
        lane.limits = EndpointLimits(Concurrency(1, 64), 0.0)
        lane.limits.due_soon = lambda now: 64  # type: ignore[method-assign]
        lane.waiters.append(None)
    assert found.kept_free(both[0].limits, 0.0) == found.kept_free(both[1].limits, 0.0) == 16


def test_one_model_is_as_it_always_was() -> None:
    found = Lanes(Concurrency(1, 64), 0.0)
    lane = found.of("a")
    for _ in range(50):
        assert not found.holds(lane)
        found.refused(lane, 0.0, 0.0)
    assert lane.limits is found.shared


def test_a_file_sorted_by_model_tells_nothing_apart() -> None:
    """The second model comes once the first is done: that it is not refused says nothing."""
    found, (first, second) = lanes("first", "second")
    for _ in range(40):
        found.sent(first)
        found.refused(first, 0.0, 0.0)
    for _ in range(1000):
        found.sent(second)
    assert len(found.limits) == 1


def test_a_lane_is_held_for_as_long_as_was_asked_for_and_one_request_tries_first() -> None:
    _, (lane, _) = lanes("a", "b")
    lane.hold(7.0, 0.0)
    assert lane.is_held(6.9)
    assert lane.has_room(7.0)
    lane.taken = 1
    assert not lane.has_room(7.0)
    lane.answered()
    assert lane.has_room(7.0)


def test_a_hold_that_nobody_asked_for_doubles_with_each_try() -> None:
    _, (lane, _) = lanes("a", "b")
    now, holds = 0.0, []
    for _ in range(12):
        lane.hold(None, now)
        lane.hold(None, now)  # one that was in flight, too
        holds.append(lane.held_until - now)
        now = lane.held_until
    assert holds == [pytest.approx(min(0.1 * 2**number, Controller.MAX_PAUSE_S)) for number in range(12)]


def test_a_lane_is_spent_after_three_refusals_one_after_the_other_that_ask_for_hours() -> None:
    _, (lane, _) = lanes("a", "b")
    for _ in range(8):
        lane.refused(10800.0, 0.0, 1.0)  # a burst counts once
    assert not lane.is_spent(1800.0, 1.0)
    lane.refused(10800.0, 2.0, 3.0)
    lane.refused(10800.0, 4.0, 5.0)
    assert lane.is_spent(1800.0, 5.0)
    assert not lane.is_spent(20000.0, 5.0)  # that long an outage may last
    lane.answered()
    assert not lane.is_spent(1800.0, 5.0)


def test_a_wait_that_is_followed_is_no_spent_quota_however_short_an_outage_may_be() -> None:
    _, (lane, _) = lanes("a", "b")
    for at in (0.0, 2.0, 4.0):
        lane.refused(60.0, at, at + 1)
    assert not lane.is_spent(6.0, 5.0)


def test_only_a_lane_that_was_refused_for_hours_is_asked_again_at_once() -> None:
    _, (lane, other) = lanes("a", "b")
    lane.refused(10800.0, 0.0, 1.0)
    lane.hold(10800.0, 1.0)
    other.refused(60.0, 0.0, 1.0)
    other.hold(60.0, 1.0)
    other.limits.controller.paused_until = 30.0
    other.ask_again(1800.0, 1.0)
    assert (other.held_until, other.limits.controller.paused_until) == (61.0, 30.0)
    lane.ask_again(1800.0, 1.0)
    assert lane.held_until == 2.0
