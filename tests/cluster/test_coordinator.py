"""The coordinator in virtual time: what is promised holds over all shards, and is used."""

from __future__ import annotations

import math
from decimal import Decimal

import pytest

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import Everything, Lease, Report
from batchrun.cluster.share import BEAT_S, CALM_BEAT_S
from batchrun.engine.error_limit import MaxErrors
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


def test_a_shard_that_died_before_it_told_is_not_taken_for_one_that_has() -> None:
    """Its next incarnation had no cap at all."""
    promised = Promised(Limits(10, 600), Decimal(1))
    one = Coordinator(promised, 0.0, epoch=2, known={1})
    assert one.beat(report(1, 7, epoch=1, version=3), 0.1).wants_all
    lease = one.beat(report(1, 1, incarnation="b", everything=Everything(), needs_usd=Decimal("0.1")), 3.0)
    assert lease.version == 1
    assert lease.usd is not None
    assert lease.requests < math.inf


def test_a_coordinator_that_comes_back_grants_nothing_before_it_knows_who_holds_what() -> None:
    before = Coordinator(Promised(Limits(10)), 0.0)
    held = first(before, 1, 0.0)
    assert held.slots == 10
    one = Coordinator(Promised(Limits(10)), 1.0, epoch=2, known={1, 2})
    told = Everything(held, 1.0)
    assert one.beat(report(1, 2, epoch=1, version=1, in_flight=10), 1.1).wants_all
    assert one.beat(report(1, 3, epoch=1, version=1, in_flight=10, everything=told), 1.2).version == 0
    assert one.beat(report(3, 1, everything=Everything()), 1.3).version == 0
    # The longest lease has run out; what is in flight by the first stays its own, and the second may have as many
    # in flight as the first has not: for as long as they may take to be answered.
    assert one.beat(report(3, 2, epoch=2), 3.1).slots == 0


def test_a_shard_that_waits_with_others_for_a_coordinator_to_know_all_has_no_more_than_its_share() -> None:
    """One of 256 had the rate of all by then, and sent a fifth of a second's requests at once."""
    one = Coordinator(Promised(Limits(1000, 60_000)), 0.0, epoch=2, known=set(range(21)), quiet_s=100)  # 20 is dead
    for tenth in range(1, 20):
        everything = Everything() if tenth == 1 else None
        for shard in range(20):
            if everything is not None or shard == 0 or tenth % 8 == 1:
                assert one.beat(report(shard, tenth, epoch=2, everything=everything), tenth / 10).version == 0
    granted = one.beat(report(0, 20, epoch=2), 2.05).requests
    assert 0 < granted <= 1 + 2 * 1000 / 20 * 0.2


def test_an_outage_is_everybodys_once_nobody_gets_an_answer_and_one_shard_probes() -> None:
    one = Coordinator(Promised(Limits(10)), 0.0)
    leases = [first(one, shard, 0.0) for shard in (1, 2)]
    leases = [follow(one, shard, 2, leases[shard - 1], 0.2, answered=5) for shard in (1, 2)]
    own = follow(one, 1, 3, leases[0], 0.4, is_outage=True, answered=5)
    assert not own.is_outage, "the other one has just got an answer"
    leases[0] = follow(one, 1, 4, own, 1.0, is_outage=True, answered=5)
    leases[1] = follow(one, 2, 3, leases[1], 1.0, answered=5)
    assert leases[0].is_outage
    assert leases[0].slots > 0
    assert leases[1].slots == 0
    leases[0] = follow(one, 1, 5, leases[0], 1.2, answered=6)
    assert follow(one, 2, 4, leases[1], 1.2, answered=5).slots > 0


def test_a_dead_key_ends_the_whole_job_within_a_beat() -> None:
    one = Coordinator(Promised(Limits(10)), 0.0)
    leases = [first(one, shard, 0.0) for shard in (1, 2)]
    one.beat(report(1, 2, stop="the gateway refuses the key", is_done=True), 0.2)
    lease = follow(one, 2, 2, leases[1], 0.2)
    assert lease.stop == "the gateway refuses the key"
    assert lease.slots == 0


@pytest.mark.parametrize(("limit", "enough"), [("10", False), ("9", True), ("5%", True), ("20%", False)])
def test_errors_of_all_shards_count_together(limit: str, enough: bool) -> None:
    one = Coordinator(Promised(Limits(10), max_errors=MaxErrors.parse(limit)), 0.0)
    leases = [first(one, shard, 0.0) for shard in (1, 2)]
    for shard in (1, 2):
        leases[shard - 1] = follow(one, shard, 2, leases[shard - 1], 0.2, lines=60, errors=5)
    assert bool(leases[1].stop) is enough
    if limit == "10":
        assert leases[1].errors_left == 0
    assert "--max-errors" in leases[1].stop or not enough


def test_slots_are_whole_numbers_whatever_shards_want() -> None:
    one = Coordinator(Promised(Limits(10)), 0.0)
    leases = [first(one, shard, 0.0) for shard in (1, 2)]
    for beat in range(2, 9):
        for shard in (1, 2):
            leases[shard - 1] = follow(one, shard, beat, leases[shard - 1], beat / 5, in_flight=3, left=1000)
            assert isinstance(leases[shard - 1].slots, int)


def test_a_paused_job_pauses_every_shard() -> None:
    one = Coordinator(Promised(Limits(10)), 0.0)
    lease = first(one, 1, 0.0)
    one.change(Promised(Limits(4)), 0.1, is_paused=True)
    lease = follow(one, 1, 2, lease, 0.2)
    assert (lease.slots, lease.stop) == (0, "")
    one.change(Promised(Limits(4)), 0.3)
    assert follow(one, 1, 3, lease, 0.5).slots == 4


def test_what_a_shard_leaves_of_its_cap_is_there_for_the_others_once_it_is_done() -> None:
    """Else they wait for ever for money that nobody spends."""
    one = Coordinator(Promised(Limits(10), Decimal(1)), 0.0)
    lease = first(one, 1, 0.0, is_usd_sure=True)
    assert lease.usd == Decimal("0.5")
    spent = Decimal("0.1")
    follow(one, 1, 2, lease, 0.2, spent_usd=spent, is_usd_sure=True, is_done=True)
    assert first(one, 2, 0.4, needs_usd=Decimal("0.9"), is_usd_sure=True).usd == Decimal("0.9")


def test_what_a_dead_shard_has_spent_is_read_from_its_files() -> None:
    """Its worker may wait for room for a long time: until then its whole cap would be kept from the others."""
    one = Coordinator(Promised(Limits(10), Decimal(1)), 0.0)
    first(one, 1, 0.0, is_usd_sure=True)
    other = first(one, 2, 0.1, is_usd_sure=True)
    needs = Decimal("0.7")
    for beat, now in enumerate((1.0, 2.0, 3.0, 4.0), 2):
        other = follow(one, 2, beat, other, now, needs_usd=needs, is_usd_sure=True)
        assert other.usd is not None
        assert other.usd < needs
    assert one.unheard == {1}
    one.heard(1, Decimal("0.3"), 4.1, ())
    assert one.unheard == frozenset()
    assert follow(one, 2, 6, other, 4.2, needs_usd=needs, is_usd_sure=True).usd == needs


def test_shards_report_less_often_once_nothing_changes_and_at_once_more_often_when_something_does() -> None:
    """A beat costs milliseconds of the processor, where a process has to wake up for it."""
    one = Coordinator(Promised(Limits(400)), 0.0)
    leases, beats = {shard: first(one, shard, 0.0) for shard in (1, 2)}, dict.fromkeys((1, 2), 1)

    def beat(shard: int, now: float) -> float:
        beats[shard] += 1
        leases[shard] = follow(one, shard, beats[shard], leases[shard], now, in_flight=leases[shard].slots)
        return leases[shard].beat_s

    def beats_of(*tenths: int) -> set[float]:
        return {beat(shard, tenth / 10) for tenth in range(*tenths) for shard in (1, 2)}

    assert beats_of(2, 30, 2) == {BEAT_S}
    beats_of(30, 50, 2)
    assert beats_of(50, 100, 5) == {CALM_BEAT_S}
    first(one, 3, 10.0)
    assert beat(1, 10.2) == BEAT_S


@pytest.mark.parametrize(
    "promised",
    [
        Promised(Limits(400, 6000)),
        Promised(Limits(400, tokens_per_minute=60_000)),
        Promised(Limits(400), max_errors=MaxErrors.parse("10")),
    ],
)
def test_leases_that_are_used_up_by_sending_are_renewed_as_often_as_ever(promised: Promised) -> None:
    one = Coordinator(promised, 0.0)
    lease, beats = first(one, 1, 0.0), set[float]()
    for beat in range(2, 60):
        lease = follow(one, 1, beat, lease, beat / 5, in_flight=lease.slots)
        beats.add(lease.beat_s)
    assert beats == {BEAT_S}


def test_calm_shards_that_have_not_told_for_half_a_second_are_not_taken_for_shards_without_answers() -> None:
    """Else one shard's trouble stops them all for as long as it takes them to tell of their answers."""
    one = Coordinator(Promised(Limits(400)), 0.0)
    leases = [first(one, shard, 0.0, in_flight=200) for shard in (1, 2)]
    for beat in range(2, 22):
        for shard in (1, 2):
            leases[shard - 1] = follow(
                one, shard, beat, leases[shard - 1], beat / 2, in_flight=leases[shard - 1].slots, answered=100 * beat
            )
    assert leases[0].beat_s == CALM_BEAT_S
    first(one, 3, 10.6)  # from now on beats are as quick as ever
    own = follow(one, 1, 22, leases[0], 10.95, is_outage=True, answered=2100)
    assert not own.is_outage, "the other one tells of its answers in a moment"


def first(one: Coordinator, shard: int, now: float, **facts: object) -> Lease:
    return one.beat(report(shard, 1, everything=Everything(), **facts), now)


def follow(one: Coordinator, shard: int, beat: int, held: Lease, now: float, **facts: object) -> Lease:
    return one.beat(report(shard, beat, epoch=held.epoch, version=held.version, **facts), now)


def report(shard: int, beat: int, **facts: object) -> Report:
    in_flight = facts.get("in_flight", 0)
    told = {"shard": shard, "incarnation": "a", "beat": beat, "left": 1000, "peak": in_flight} | facts
    return Report(**told)  # type: ignore[arg-type]
