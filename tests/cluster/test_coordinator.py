"""The coordinator in virtual time: what is promised holds over all shards, and is used."""

from __future__ import annotations

import math

import pytest

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import Everything, Lease, Report
from batchrun.limits.options import Limits
from tests.cluster.virtual_cluster import Cluster, World

CALM = (math.inf, math.inf, math.inf, math.inf)


def calm(promised: Promised, **changes: object) -> World:
    """Four shards near their coordinator, and nothing dies."""
    facts = {"shards": 4, "alive": 4, "lines": 1_000_000, "lag_s": (0.002, 0.01), "loss": 0.0} | changes
    deaths = dict(zip(("shard_dies_s", "shard_freezes_s", "coordinator_dies_s", "driver_dies_s"), CALM, strict=True))
    return World(promised, **(facts | deaths))  # type: ignore[arg-type]


@pytest.mark.parametrize("most", [3, 40, 400])
def test_no_more_are_in_flight_than_the_job_may_have(most: int) -> None:
    outcome = Cluster(calm(Promised(Limits(most)))).run(60)
    assert outcome.most_in_flight == most


def test_a_minute_has_no_more_requests_than_promised_and_nearly_as_many() -> None:
    outcome = Cluster(calm(Promised(Limits(10_000, 6000)))).run(130)
    assert 0.97 * 6000 < outcome.busiest(60) <= 6000
    assert outcome.per_s(since=2) > 0.97 * 100


def test_a_shard_that_begins_waits_until_the_others_have_given_back() -> None:
    """Granting to a newcomer at once brought 833 in flight where 400 were allowed."""
    one = Coordinator(Promised(Limits(100)), 0.0)
    lease = first(one, 1, 0.0)
    assert lease.slots == 100
    lease = follow(one, 1, 2, lease, 0.2, in_flight=100)
    newcomer = first(one, 2, 0.2)
    assert newcomer.slots == 0
    lease = follow(one, 1, 3, lease, 0.4, in_flight=100)  # it is told to give back
    assert lease.slots == 50
    newcomer = follow(one, 2, 2, newcomer, 0.4)
    assert newcomer.slots == 0, "100 are in flight by the first, as far as is known"
    lease = follow(one, 1, 4, lease, 0.6, in_flight=50)
    assert follow(one, 2, 3, newcomer, 0.6).slots == 50


def first(one: Coordinator, shard: int, now: float, **facts: object) -> Lease:
    return one.beat(report(shard, 1, everything=Everything(), **facts), now)


def follow(one: Coordinator, shard: int, beat: int, held: Lease, now: float, **facts: object) -> Lease:
    return one.beat(report(shard, beat, epoch=held.epoch, version=held.version, **facts), now)


def report(shard: int, beat: int, **facts: object) -> Report:
    in_flight = facts.get("in_flight", 0)
    told = {"shard": shard, "incarnation": "a", "beat": beat, "left": 1000, "peak": in_flight} | facts
    return Report(**told)  # type: ignore[arg-type]
