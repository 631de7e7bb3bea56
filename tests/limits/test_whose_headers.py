"""Whose limits headers tell of: one model's own, or those of the whole key."""

from __future__ import annotations

import random

import pytest

from batchrun.limits.lanes import Lanes
from batchrun.limits.options import Concurrency
from batchrun.limits.whose_headers import WhoseHeaders
from batchrun.records.outcome import RateHeaders


def told(limit: float, left: float) -> RateHeaders:
    return RateHeaders(limit_requests=limit, remaining_requests=left)


def test_headers_on_the_answers_of_one_model_alone_are_its_own() -> None:
    whose = WhoseHeaders()
    for number in range(1, 4):
        whose.read("slow", told(60, 60 - number), number)
        assert not whose.is_own("slow"), number
        whose.read("free", None, number)
    assert whose.is_own("slow")
    assert not whose.is_own("free")


def test_other_numbers_are_other_limits() -> None:
    whose = WhoseHeaders()
    for number in range(3):
        whose.read("one", told(60, 60 - number), number)
        whose.read("two", told(500, 500 - number), number)
    assert whose.is_own("one")
    assert whose.is_own("two")


def test_numbers_that_change_with_each_answer_tell_nothing() -> None:
    """A relay copies what its upstreams say, which are several accounts."""
    whose = WhoseHeaders()
    for number in range(100):
        for model in ("one", "two"):
            whose.read(model, told(60 + number % 3, 50), number)
    assert not whose.is_own("one")


def test_one_model_alone_tells_nothing() -> None:
    whose = WhoseHeaders()
    for number in range(100):
        whose.read("one", told(1000, 1000 - number), number)
    assert not whose.is_own("one")


class Left:
    """What is left of a limit of so many a minute: of a bucket, or of a window."""

    def __init__(self, limit: float, *, is_refilled: bool) -> None:
        self.limit, self.left, self._at, self._is_refilled = limit, limit, 0.0, is_refilled

    def take(self, now: float) -> RateHeaders:
        if self._is_refilled:
            self.left = min(self.limit, self.left + (now - self._at) * self.limit / 60)
        self._at = now
        self.left -= 1
        return told(self.limit, int(self.left))


@pytest.mark.parametrize("is_refilled", [False, True])
@pytest.mark.parametrize("is_shared", [False, True])
@pytest.mark.parametrize("seed", range(10))
def test_with_the_same_numbers_it_tells_what_is_left(is_refilled: bool, is_shared: bool, seed: int) -> None:
    """Forty answers a second, of a limit of 600 a minute for each model, or for both together."""
    rng, whose = random.Random(seed), WhoseHeaders()
    limits = {model: Left(600, is_refilled=is_refilled) for model in ("one", "two")}
    for number in range(400):
        model, now = rng.choice(["one", "two"]), number / 40
        whose.read(model, limits["one" if is_shared else model].take(now), now)
    assert [whose.is_own(model) for model in limits] == [not is_shared] * 2


def test_a_model_whose_own_limit_is_far_away_shares_what_is_found_out() -> None:
    """Once half of it is used, it is paced by it, and the other one by nothing that it tells."""
    lanes = Lanes(Concurrency(1, 64), 0.0, has_several=True)
    slow, free = lanes.of("slow"), lanes.of("free")
    for number in range(1, 31):
        now = number / 100
        for lane in (slow, free):
            lanes.sent(lane)
        assert slow.limits is free.limits, number
        for lane, rate in ((slow, told(60, 60 - number)), (free, None)):
            limits = lane.limits
            sent = limits.sent(None, now)
            limits.answered(sent, lanes.answered(lane, limits, sent, rate, now), now)
    assert slow.limits is not free.limits
    assert free.limits.controller.pace_per_s is None
    pace_per_s = slow.limits.controller.pace_per_s
    assert pace_per_s is not None
    assert pace_per_s <= 3.6
