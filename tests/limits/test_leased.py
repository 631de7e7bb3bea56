"""What a shard may do by its lease, and what it may not."""

from __future__ import annotations

from decimal import Decimal

from batchrun.limits.leased import LeasedBudget, LeasedPromises, Part
from batchrun.limits.options import Limits
from batchrun.records.money import NOTHING


def test_nothing_is_sent_without_a_lease_nor_after_its_end() -> None:
    promises = LeasedPromises(Limits(10), 100.0)
    assert promises.wait_s(NOTHING, 100.0) is None
    promises.take_part(Part(1, 102.0, 10, 1000), 100.1)
    assert promises.wait_s(NOTHING, 101.9) == 0
    assert promises.may_go(101.9)
    assert promises.wait_s(NOTHING, 102.0) is None
    assert not promises.may_go(102.0), "the process stood still between its permit and the request"
    assert promises.is_paused, "so that an outage is not given up meanwhile"


def test_a_part_of_no_slots_is_a_pause() -> None:
    promises = LeasedPromises(Limits(10), 0.0)
    promises.take_part(Part(1, 2.0, 0, 1000), 0.0)
    assert promises.wait_s(NOTHING, 0.1) is None
    assert promises.is_paused
    woken: list[bool] = []
    promises.woken = woken.append
    promises.take_part(Part(2, 2.2, 3, 1000), 0.2)
    assert woken == [False]
    assert promises.wait_s(NOTHING, 0.2) == 0


def test_requests_are_counted_in_all_and_spread_over_time() -> None:
    promises = LeasedPromises(Limits(10, 600), 0.0)
    promises.take_part(Part(1, 9.0, 10, requests=2, per_s=10.0), 0.0)
    promises.take(0.0, NOTHING, 0.0)
    assert 0 < (promises.wait_s(NOTHING, 0.0) or 0) <= 0.1
    promises.take(0.0, NOTHING, 0.1)
    promises.settle(None, None, NOTHING, NOTHING, 0.2)
    assert promises.wait_s(NOTHING, 5.0) is None, "an answer gives back its place, and not its request"
    promises.take_part(Part(2, 9.0, 10, requests=3, per_s=10.0), 5.0)
    assert promises.wait_s(NOTHING, 5.0) == 0
    assert promises.recent(5.0) == ((4.9, 2, 0.0),)
    assert promises.recent(70.0) == ()


def test_a_request_that_would_take_more_tokens_than_granted_waits_and_says_so() -> None:
    promises = LeasedPromises(Limits(10, None, 60_000), 0.0)
    promises.take_part(Part(1, 9.0, 10, 1000, tokens=1000), 0.0)
    reserved = promises.take(600, NOTHING, 0.0)
    assert promises.wait_s(NOTHING, 0.1, 600) is None
    assert promises.needs_tokens == 600
    promises.settle(reserved, 100, NOTHING, NOTHING, 0.2)
    assert promises.corrections == {1: -500}
    assert promises.wait_s(NOTHING, 0.3, 600) is None, "what came back is the coordinator's to grant"


def test_a_line_waits_for_money_while_other_shards_may_leave_some() -> None:
    budget = LeasedBudget(Decimal(10), Decimal(2))
    promises = LeasedPromises(Limits(10), 0.0, budget)
    promises.take_part(Part(1, 9.0, 10, 1000, usd=Decimal(3), usd_left=Decimal(5)), 0.0)
    assert promises.wait_s(Decimal(2), 0.0) is None
    assert promises.needs_usd == 2
    assert not promises.never_fit(Decimal(2))
    assert promises.never_fit(Decimal(6))
    assert not budget.is_used
    promises.take_part(Part(2, 9.0, 10, 1000, usd=Decimal(4), usd_left=Decimal("0.5")), 0.0)
    assert promises.wait_s(Decimal(2), 0.0) == 0
    assert budget.is_used


def test_a_process_has_no_more_in_flight_than_it_may_open() -> None:
    promises = LeasedPromises(Limits(500), 0.0)
    promises.most_here = 100
    promises.take_part(Part(1, 2.0, 400, 1000), 0.0)
    assert promises.part.slots == promises.most_in_flight == 100
