"""Whose limit a refusal tells of: one model's own, or that of the whole key."""

from __future__ import annotations

import random

import pytest

from batchrun.limits.controller import Controller
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.lanes import Lane, Lanes, Window
from batchrun.limits.options import Concurrency


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
    for now in range(3):
        assert found.holds(slow)
        found.refused(slow, now)
        for _ in range(9):
            found.admitted(free)
    found.refused(slow, 3)
    assert slow.limits is not found.shared
    assert free.limits is found.shared
    assert not found.holds(slow)
    assert set(found.limits) == {slow.limits, free.limits}


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_of_the_key_is_told_from_limits_of_models(seed: int) -> None:
    """One request in ten is refused, whatever its model: within few refusals it is known whose limit that is."""
    rng, models = random.Random(seed), [f"m{number}" for number in range(8)]
    found, all_lanes = lanes(*models)
    refusals = 0
    while found.holds(all_lanes[0]) and refusals < 100:
        lane = rng.choice(all_lanes)
        if rng.random() < 0.1:
            refusals += 1
            found.refused(lane, 0.0)
        else:
            found.admitted(lane)
    assert len(found.limits) == 1
    assert refusals < 80


@pytest.mark.parametrize("seed", range(20))
def test_a_limit_that_is_known_to_be_the_keys_is_seldom_doubted(seed: int) -> None:
    rng = random.Random(seed)
    found, all_lanes = lanes("a", "b", "c")
    for lane in all_lanes:
        found.refused(lane, 0.0)
    assert not found.holds(all_lanes[0])
    for _ in range(10_000):
        lane = rng.choice(all_lanes)
        if rng.random() < 0.02:
            found.refused(lane, 0.0)
        else:
            found.admitted(lane)
    assert len(found.limits) == 1


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
        found.refused(lane, 0.0)
    assert lane.limits is found.shared


def test_a_file_sorted_by_model_tells_nothing_apart() -> None:
    """The second model comes once the first is done: that it is not refused says nothing."""
    found, (first, second) = lanes("first", "second")
    for _ in range(40):
        found.refused(first, 0.0)
    for _ in range(1000):
        found.admitted(second)
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


def test_a_window_without_refusals_counts_nothing() -> None:
    window = Window()
    for _ in range(100):
        window.admitted("a")
    assert not window.hits_all
    assert not window.hits_some(1.0)
