"""What is promised holds at any interleaving: beats that are late or lost, shards and coordinators that die.

The shards here are as greedy as their leases let them be: each sends all that it may at once, at any moment at which it
may. What the gateway sees is counted apart from what anybody reports.
"""

from __future__ import annotations

import random
from collections import deque
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import LIFETIME_S, Everything, Lease, Report
from batchrun.cluster.minute import Account, Flow
from batchrun.cluster.places import Seat
from batchrun.limits.options import Limits

MOST = 8
FEW, MANY = 20, 10_000  # requests a minute, or US dollars
SHARDS = 4


class Greedy:
    """One incarnation of a shard. Each request may cost 1 USD."""

    def __init__(self, index: int, name: int, spent: int, recent: list[float]) -> None:
        self.index, self.name = index, str(name)
        self.spent, self.recent = spent, recent
        self.lease: Lease | None = None
        self.expires_at = 0.0
        self.epoch = self.beat = self.sent = 0
        self.in_flight: deque[float] = deque()
        self.tells_all = True
        self.waits: tuple[int, float, Lease] | None = None  # an answer on its way: of which beat, sent when

    def report(self, now: float) -> Report:
        self.beat += 1
        held = self.lease if self.lease is not None and now < self.expires_at else None
        everything = None
        if self.tells_all:
            recent = tuple((now - at, 1, 0.0) for at in self.recent)
            everything = Everything(held, max(0.0, self.expires_at - now), recent)
        return Report(
            shard=self.index,
            incarnation=self.name,
            beat=self.beat,
            epoch=self.epoch if held is None else held.epoch,
            version=0 if held is None else held.version,
            in_flight=len(self.in_flight),
            peak=MOST,
            left=1000,
            sent=self.sent,
            spent_usd=Decimal(self.spent),
            reserved_usd=Decimal(len(self.in_flight)),
            needs_usd=Decimal(1),
            is_usd_sure=self.spent > 0,
            everything=everything,
        )

    def take(self, lease: Lease, sent_at: float) -> None:
        self.epoch, self.tells_all = lease.epoch, lease.wants_all
        if lease.version:
            self.lease, self.expires_at = lease, sent_at + lease.lifetime_s

    def may_send(self, now: float) -> int:
        lease = self.lease
        if lease is None or now >= self.expires_at:
            return 0
        assert lease.usd is not None
        usd = int(lease.usd) - self.spent - len(self.in_flight)
        return max(0, min(lease.slots - len(self.in_flight), int(lease.requests) - self.sent, usd))


class Play:
    """A job of four shards, step by step."""

    def __init__(self, rpm: int, cap: int) -> None:
        self.rpm, self.cap = rpm, Decimal(cap)
        self.now = 100.0
        self.names = self.epoch = 0
        self.spent = [0] * SHARDS  # by the files
        self.recent: list[list[float]] = [[] for _ in range(SHARDS)]
        self.sent_at: list[float] = []
        self.at_gateway: list[float] = []  # by when each is answered at the latest
        self.started: set[int] = set()
        self.one: Coordinator | None = None
        self.shards = [self.incarnation(index) for index in range(SHARDS)]
        self.begin()

    def incarnation(self, index: int) -> Greedy:
        self.names += 1
        return Greedy(index, self.names, self.spent[index], self.recent[index])

    def begin(self) -> None:
        self.epoch += 1
        promised = Promised(Limits(MOST, self.rpm), self.cap)
        quiet_s = self.now - max(self.sent_at, default=-1000.0)
        self.one = Coordinator(promised, self.now, epoch=self.epoch, known=set(self.started), quiet_s=quiet_s)

    def step(self, what: str, index: int, amount: int) -> None:
        shard = self.shards[index]
        if what == "round":
            self.beat(shard, is_lost=amount == 0)
            self.take(shard)
            self.send(shard)
        elif what == "beat":
            self.beat(shard, is_lost=amount == 0)
        elif what == "lease":
            self.take(shard)
        elif what == "send":
            self.send(shard)
        elif what == "answer":
            self.answer(shard, amount)
        elif what == "wait":
            self.wait(amount * 0.3)
            if self.one is None:
                self.begin()
        elif what == "rounds":
            self.rounds(senders=amount)
        elif what == "kill" and amount < 4:
            self.spent[index] = shard.spent + len(shard.in_flight)  # what was in flight may be billed
            self.shards[index] = self.incarnation(index)
        elif what == "coordinator" and amount == 0:
            self.begin()
        elif what == "coordinator" and amount == 1:
            self.one = None
        self.check()

    def rounds(self, senders: int) -> None:
        """Ten seconds in which all shards keep their leases, and those whose bit of `senders` is set send."""
        for _ in range(10):
            for shard in self.shards:
                self.beat(shard, is_lost=False)
                self.take(shard)
                if senders >> shard.index & 1:
                    self.send(shard)
            self.check()
            self.wait(1.0)

    def beat(self, shard: Greedy, *, is_lost: bool) -> None:
        """Report, which gives up the answer to the report before. The answer to this one comes with "lease"."""
        self.started.add(shard.index)
        report = shard.report(self.now)
        shard.waits = None
        if self.one is not None:
            lease = self.one.beat(report, self.now)
            shard.waits = None if is_lost else (report.beat, self.now, lease)

    def take(self, shard: Greedy) -> None:
        if shard.waits is not None and shard.waits[0] == shard.beat:
            shard.take(shard.waits[2], shard.waits[1])
            shard.waits = None

    def send(self, shard: Greedy) -> None:
        for _ in range(shard.may_send(self.now)):
            shard.sent += 1
            shard.in_flight.append(self.now)
            shard.recent.append(self.now)
            self.sent_at.append(self.now)
            self.at_gateway.append(self.now + LIFETIME_S)

    def answer(self, shard: Greedy, count: int) -> None:
        for _ in range(min(count, len(shard.in_flight))):
            at = shard.in_flight.popleft()
            self.at_gateway.remove(at + LIFETIME_S)
            shard.spent += 1
            self.spent[shard.index] = shard.spent

    def wait(self, seconds: float) -> None:
        """Time passes; each answer comes within a lease's life, also those to shards that are dead."""
        self.now += seconds
        for shard in self.shards:
            self.answer(shard, sum(at + LIFETIME_S <= self.now for at in shard.in_flight))
        self.at_gateway = [until for until in self.at_gateway if until > self.now]

    def check(self) -> None:
        assert len(self.at_gateway) <= MOST
        assert sum(at > self.now - 60 for at in self.sent_at) <= self.rpm
        billed = sum(self.spent[shard.index] + len(shard.in_flight) for shard in self.shards)
        assert billed <= self.cap


WHAT = ("round", "round", "beat", "lease", "send", "answer", "wait", "kill", "coordinator", *3 * ("rounds",))
STEPS = st.tuples(st.sampled_from(WHAT), st.integers(0, SHARDS - 1), st.integers(0, 15))


@settings(max_examples=60)
@pytest.mark.parametrize(("rpm", "cap"), [(MANY, MANY), (FEW, MANY), (MANY, FEW)])
@given(steps=st.lists(STEPS, min_size=40, max_size=100))
def test_nothing_is_granted_that_another_may_still_have(rpm: int, cap: int, steps: list[tuple[str, int, int]]) -> None:
    play = Play(rpm, cap)
    for step in steps:
        play.step(*step)


def play_at_random(rpm: int, rng: random.Random) -> None:
    for _ in range(200):
        play = Play(rpm, MANY)
        for _ in range(70):
            play.step(rng.choice(WHAT), rng.randrange(SHARDS), rng.randrange(16))


room = Flow.room


def room_beside_what_is_granted(flow: Flow, now: float) -> float:
    return room(flow, now) + flow.outstanding


def forget(flow: Flow, account: Account, at: float, now: float) -> None:
    flow.outstanding -= account.outstanding
    account.granted = account.used


def free_at_once(one: Coordinator, seat: Seat, expires_at: float, now: float) -> None:
    one._places.leave(seat)


BROKEN = {
    "what is granted counts only once it is told": (Flow, "room", room_beside_what_is_granted, FEW),
    "what a lease had that ran out counts for nothing": (Flow, "write_off", forget, FEW),
    "the places of a dead shard are free at once": (Coordinator, "_free_later", free_at_once, MANY),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_coordinator_that_breaks_a_promise_is_found_out(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps above lead to where it matters: each of these mistakes brings more than was promised."""
    owner, method, mistake, rpm = BROKEN[name]
    monkeypatch.setattr(owner, method, mistake)
    rng = random.Random(1)
    with pytest.raises(AssertionError):
        play_at_random(rpm, rng)


def test_greedy_shards_get_all_that_there_is() -> None:
    """The invariants above are not kept by granting nothing."""
    play = Play(MANY, 60)
    most = 0
    for _ in range(60):
        for index in range(SHARDS):
            for what in ("beat", "lease", "send"):
                play.step(what, index, 1)
        most = max(most, len(play.at_gateway))
        for index in range(SHARDS):
            play.step("answer", index, 10)
        play.wait(0.2)
    assert most == MOST
    assert sum(play.spent) == play.cap
