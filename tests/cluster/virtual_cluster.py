"""A cluster in virtual time: the real coordinator, and shards that send by their leases in aggregate; a day in minutes.

A shard acts when it reports and when it gets a lease: it sends what it may at once. What the gateway sees is counted
exactly: requests in flight, in each minute, and the bill, those of shards that were killed included.

`python -m tests.cluster.virtual_cluster` prints the table; `--hours 24` is the long form.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from time import perf_counter

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import Everything, Lease, Report
from batchrun.cluster.share import lifetime_s
from batchrun.limits.options import Limits

BIN_S = 0.05
CENT = Decimal("0.01")


@dataclass(frozen=True, slots=True)
class World:
    """What happens to a cluster: how many shards, how many alive at once, and how often what dies (mean seconds)."""

    promised: Promised
    shards: int = 1000
    lines: int = 100_000  # of each shard
    alive: int = 256
    lag_s: tuple[float, float] = (0.05, 0.5)  # of each message
    latency_s: tuple[float, float] = (0.5, 1.9)  # of an answer
    loss: float = 0.001  # of messages
    shard_dies_s: float = 7200.0
    shard_freezes_s: float = 7200.0
    coordinator_dies_s: float = 3600.0
    driver_dies_s: float = 6 * 3600.0
    tokens: tuple[int, int, int] = (0, 0, 0)  # reserved for each request; and what it uses, from and to
    cents: tuple[int, int, int] = (0, 0, 0)  # the same, of money


@dataclass
class Outcome:
    """What the gateway saw. `bins`: requests by the twentieth of a second; `token_bins`: the tokens they used."""

    seconds: float = 0.0
    answered: int = 0
    most_in_flight: int = 0
    billed_usd: Decimal = Decimal(0)
    bins: Counter[int] = field(default_factory=Counter)
    token_bins: Counter[int] = field(default_factory=Counter)
    slot_seconds: float = 0.0
    jain: list[float] = field(default_factory=list)
    beats: int = 0
    beat_s: float = 0.0  # of processor time, in all
    deaths: Counter[str] = field(default_factory=Counter)
    is_done: bool = False

    def busiest(self, seconds: float, *, tokens: bool = False) -> int:
        """The most requests, or tokens, in so many seconds, from any twentieth of a second on."""
        bins = self.token_bins if tokens else self.bins
        width = round(seconds / BIN_S)
        most = total = 0
        last: deque[tuple[int, int]] = deque()
        for at in sorted(bins):
            last.append((at, bins[at]))
            total += bins[at]
            while last[0][0] <= at - width:
                total -= last.popleft()[1]
            most = max(most, total)
        return most

    def per_s(self, since: float = 0.0) -> float:
        """Requests a second."""
        return sum(count for at, count in self.bins.items() if at * BIN_S >= since) / (self.seconds - since)

    @property
    def beat_us(self) -> float:
        """Microseconds of processor time that the coordinator takes for a beat."""
        return 1e6 * self.beat_s / max(1, self.beats)


class Shard:
    """One incarnation of a shard: it sends by its lease, and by nothing else."""

    def __init__(self, index: int, incarnation: int, left: int, spent: int, recent: deque[list[float]]) -> None:
        self.index, self.incarnation = index, str(incarnation)
        self.left, self.spent, self.recent = left, spent, recent
        self.lease: Lease | None = None
        self.expires_at = -math.inf
        self.epoch = self.beats = self.in_flight = self.peak = self.sent = 0
        self.tokens = 0.0
        self.corrections: dict[int, float] = {}
        self.beat_sent_at = -math.inf
        self.frozen_until = -math.inf
        self.is_dead = False
        self.is_new = True
        self.wants_all = True
        self.paced, self.paced_at = 1.0, 0.0
        self.needs = False
        self.sent_in_span = 0
        self.recent_until = -math.inf


class Cluster:
    """Runs a `World` for so many seconds, or until all lines are done."""

    def __init__(self, world: World, seed: int = 0) -> None:
        self.world, self.rng = world, random.Random(seed)
        self.outcome = Outcome()
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0
        self.now = 0.0
        self._in_flight = 0
        self._left = [world.lines] * world.shards
        self._spent = [0] * world.shards  # cents, by the files
        self._recent: list[deque[list[float]]] = [deque() for _ in range(world.shards)]
        self._queue = deque(range(world.shards))
        self._started: set[int] = set()
        self._running: dict[int, Shard] = {}
        self._incarnations = self._epoch = 0
        self._coordinator: Coordinator | None = None
        self._sent_at = self._began = 0.0

    def run(self, seconds: float) -> Outcome:
        self._start_coordinator()
        for _ in range(self.world.alive):
            self._at(self.rng.uniform(0, 1), self._start_next)
        self._again("shard", self.world.shard_dies_s / max(1, self.world.alive), self._kill_shard)
        self._again("freeze", self.world.shard_freezes_s / max(1, self.world.alive), self._freeze_shard)
        self._again("coordinator", self.world.coordinator_dies_s, self._kill_coordinator)
        self._again("driver", self.world.driver_dies_s, self._kill_driver)
        self._at(60.0, self._look_at_shares)
        while self._heap:
            at, _, do = heapq.heappop(self._heap)
            if at > seconds:
                break
            self.outcome.slot_seconds += self._in_flight * (at - self.now)
            self.now = at
            do()
            if self.outcome.is_done:
                break
        self.outcome.seconds = self.now
        return self.outcome

    # ---------------------------------------------------------------------------------------- the shards

    def _start_next(self) -> None:
        """A worker takes the next shard."""
        if not self._queue or len(self._running) >= self.world.alive:
            return
        index = self._queue.popleft()
        self._incarnations += 1
        self._started.add(index)
        shard = Shard(index, self._incarnations, self._left[index], self._spent[index], self._recent[index])
        self._running[index] = shard
        self._beat(shard)

    def _beat(self, shard: Shard) -> None:
        """Report, and come back when it is time for the next one."""
        if shard.is_dead:
            return
        if shard.frozen_until > self.now:
            self._at(shard.frozen_until - self.now, lambda: self._beat(shard))
            return
        self._send(shard)
        shard.beats += 1
        shard.beat_sent_at = self.now
        report = self._report(shard)
        if self.rng.random() >= self.world.loss:
            self._at(self._lag(), lambda: self._arrive(shard, report))
        beats = shard.beats
        self._at(1.5, lambda: self._give_up(shard, beats))
        if report.is_done:
            self._finish(shard)

    def _give_up(self, shard: Shard, beats: int) -> None:
        """No answer came to a beat: send the next one."""
        if shard.beats == beats and shard.beat_sent_at > -math.inf:
            self._beat(shard)

    def _report(self, shard: Shard) -> Report:
        world, lease = self.world, shard.lease
        holds = lease is not None and self.now < shard.expires_at
        everything = None
        if shard.wants_all:
            recent = tuple((self.now - at, int(count), tokens) for at, count, tokens in shard.recent)
            everything = Everything(lease if holds else None, max(0.0, shard.expires_at - self.now), recent)
        corrections, shard.corrections = tuple(shard.corrections.items()), {}
        report = Report(
            shard=shard.index,
            incarnation=shard.incarnation,
            beat=shard.beats,
            epoch=lease.epoch if holds and lease is not None else shard.epoch,
            version=lease.version if holds and lease is not None else 0,
            in_flight=shard.in_flight,
            peak=shard.peak,
            left=shard.left,
            sent=shard.sent,
            tokens=shard.tokens,
            corrections=corrections,
            needs_tokens=world.tokens[0],
            spent_usd=CENT * shard.spent,
            reserved_usd=CENT * (shard.in_flight * world.cents[0]),
            needs_usd=CENT * world.cents[0] if shard.needs else Decimal(0),
            is_usd_sure=shard.left < world.lines,
            is_done=shard.left == 0,
            everything=everything,
        )
        shard.peak = shard.in_flight
        return report

    def _arrive(self, shard: Shard, report: Report) -> None:
        """A report arrives at the coordinator, if there is one."""
        if self._coordinator is None:
            return
        began = perf_counter()
        lease = self._coordinator.beat(report, self.now)
        self.outcome.beat_s += perf_counter() - began
        self.outcome.beats += 1
        if self.rng.random() >= self.world.loss:
            self._at(self._lag(), lambda: self._take(shard, report.beat, lease))

    def _take(self, shard: Shard, beat: int, lease: Lease) -> None:
        """A lease arrives: it rules from when the beat was sent."""
        if shard.is_dead or beat != shard.beats or shard.beat_sent_at == -math.inf:
            return
        if shard.frozen_until > self.now:
            self._at(shard.frozen_until - self.now, lambda: self._take(shard, beat, lease))
            return
        shard.wants_all, shard.epoch = lease.wants_all, lease.epoch
        if lease.version:
            shard.lease, shard.expires_at = lease, shard.beat_sent_at + lease.lifetime_s
        self._send(shard)
        next_at = shard.beat_sent_at + (0.05 if lease.wants_all else lease.beat_s)
        shard.beat_sent_at = -math.inf
        self._at(max(0.0, next_at - self.now), lambda: self._beat(shard))

    def _send(self, shard: Shard) -> None:
        """Send what the lease allows now."""
        lease = shard.lease
        if lease is None or self.now >= shard.expires_at:
            return
        if lease.per_s < math.inf:
            elapsed_s, shard.paced_at = self.now - shard.paced_at, self.now
            shard.paced = min(max(1.0, 0.5 * lease.per_s), shard.paced + elapsed_s * lease.per_s)
        else:
            shard.paced = math.inf
        world = self.world
        count = min(
            lease.slots - shard.in_flight, shard.left - shard.in_flight, lease.requests - shard.sent, shard.paced
        )
        if world.tokens[0]:
            count = min(count, (lease.tokens - shard.tokens) / world.tokens[0])
        if lease.usd is not None:
            free = int(lease.usd / CENT) - shard.spent - shard.in_flight * world.cents[0]
            shard.needs = free < world.cents[0]
            count = min(count, free // world.cents[0])
        number = int(count + 1e-9)
        if number <= 0:
            return
        shard.paced -= number
        self._go(shard, number)

    def _go(self, shard: Shard, number: int) -> None:
        world = self.world
        shard.in_flight += number
        shard.peak = max(shard.peak, shard.in_flight)
        shard.sent += number
        shard.sent_in_span += number
        shard.tokens += number * world.tokens[0]
        if not shard.recent or self.now >= shard.recent_until:
            shard.recent.append([self.now, 0, 0])
            shard.recent_until = self.now + 0.5
            while shard.recent[0][0] < self.now - 61:
                shard.recent.popleft()
        recent = shard.recent[-1]
        recent[0] = self.now
        recent[1] += number
        recent[2] += number * world.tokens[0]
        self._in_flight += number
        self._sent_at = self.now
        self.outcome.most_in_flight = max(self.outcome.most_in_flight, self._in_flight)
        used = number * self.rng.randint(*world.tokens[1:]) if world.tokens[0] else 0
        self.outcome.bins[int(self.now / BIN_S)] += number
        if used:
            self.outcome.token_bins[int(self.now / BIN_S)] += used
        beat = shard.beats + 1  # its report is the first to tell of them
        cents = number * self.rng.randint(*world.cents[1:]) if world.cents[0] else 0
        self._at(self.rng.uniform(*world.latency_s), lambda: self._answered(shard, number, beat, used, cents))

    def _answered(self, shard: Shard, number: int, beat: int, used: int, cents: int) -> None:
        """So many requests are answered, and billed, whether their shard lives or not."""
        self._in_flight -= number
        self.outcome.billed_usd += CENT * cents
        if shard.is_dead:
            return
        self.outcome.answered += number
        shard.in_flight -= number
        shard.left -= number
        shard.spent += cents
        self._left[shard.index], self._spent[shard.index] = shard.left, shard.spent
        if used:
            correction = used - number * self.world.tokens[0]
            shard.corrections[beat] = shard.corrections.get(beat, 0.0) + correction
        if shard.lease is not None and shard.lease.requests == math.inf and shard.frozen_until <= self.now:
            self._send(shard)

    def _finish(self, shard: Shard) -> None:
        shard.is_dead = True
        del self._running[shard.index]
        self.outcome.is_done = not self._queue and not self._running
        self._at(self.rng.uniform(0.2, 2.0), self._start_next)

    # ------------------------------------------------------------------------------------------- deaths

    def _kill(self, shard: Shard) -> None:
        """Its next incarnation counts what was in flight at its worst, and sends it again."""
        shard.is_dead = True
        del self._running[shard.index]
        self._spent[shard.index] = shard.spent + shard.in_flight * self.world.cents[0]
        self._queue.appendleft(shard.index)

    def _kill_shard(self) -> None:
        if self._running:
            self._kill(self.rng.choice(list(self._running.values())))
            self._at(self.rng.uniform(1, 30), self._start_next)

    def _freeze_shard(self) -> None:
        if self._running:
            shard = self.rng.choice(list(self._running.values()))
            shard.frozen_until = self.now + self.rng.uniform(0.5, 30)
            shard.is_new = True

    def _kill_coordinator(self) -> None:
        if self._coordinator is not None:
            self._coordinator = None
            self._at(self.rng.uniform(0.5, 5), self._start_coordinator)

    def _kill_driver(self) -> None:
        """With it, all shards and the coordinator."""
        for shard in list(self._running.values()):
            self._kill(shard)
        self._coordinator = None
        back_s = self.rng.uniform(2, 30)
        self._at(back_s, self._start_coordinator)
        for _ in range(self.world.alive):
            self._at(back_s + self.rng.uniform(1, 3), self._start_next)

    def _start_coordinator(self) -> None:
        if self._coordinator is not None:
            return
        self._epoch += 1
        self._began = self.now
        known = set(self._started)
        quiet_s = self.now - self._sent_at
        one = self._coordinator = Coordinator(
            self.world.promised, self.now, epoch=self._epoch, known=known, quiet_s=quiet_s
        )
        self._at(1.0, lambda: self._read_files(one))

    def _read_files(self, one: Coordinator) -> None:
        """What a shard has spent, and sent of late, is in its files: once it is dead, or its lease has run out."""
        if self._coordinator is not one:
            return
        may_all = self.now - self._began >= lifetime_s(len(self._started))
        for index in one.unheard:
            if index in self._running:
                if not may_all or self._running[index].epoch == one.epoch:
                    continue
                shard = self._running[index]
                self._spent[index] = shard.spent + shard.in_flight * self.world.cents[0]
            recent = [(self.now - at, int(count), tokens) for at, count, tokens in self._recent[index]]
            one.heard(index, CENT * self._spent[index], self.now, recent)
        self._at(1.0, lambda: self._read_files(one))

    # -------------------------------------------------------------------------------------------- inside

    def _look_at_shares(self) -> None:
        """Jain's index of what shards with lines sent in the last minute."""
        counts = [shard.sent_in_span for shard in self._running.values() if not shard.is_new]
        squares = sum(count * count for count in counts)
        if squares:
            self.outcome.jain.append(sum(counts) ** 2 / (len(counts) * squares))
        for shard in self._running.values():
            shard.sent_in_span, shard.is_new = 0, shard.frozen_until > self.now
        self._at(60.0, self._look_at_shares)

    def _again(self, name: str, mean_s: float, do: Callable[[], None]) -> None:
        """Do it again and again, by chance."""
        if mean_s == math.inf:
            return

        def happen() -> None:
            self.outcome.deaths[name] += 1
            do()
            self._again(name, mean_s, do)

        self._at(self.rng.expovariate(1 / mean_s), happen)

    def _lag(self) -> float:
        return self.rng.uniform(*self.world.lag_s)

    def _at(self, after_s: float, do: Callable[[], None]) -> None:
        self._number += 1
        heapq.heappush(self._heap, (self.now + after_s, self._number, do))


# --------------------------------------------------------------------------------------------- the table


SCENARIOS = {
    "--rpm 70000": World(Promised(Limits(10_000, 70_000))),
    "--tpm 60M": World(Promised(Limits(10_000, None, 60_000_000)), tokens=(1500, 300, 1700)),
    "-c 1500": World(Promised(Limits(1500))),
}


@dataclass(frozen=True, slots=True)
class Row:
    """What must hold of one scenario: shares of what is promised."""

    name: str
    most: float  # in flight, or of the busiest minute
    second: float  # the busiest, of what a second may have
    used: float
    jain: float  # the median of all minutes
    beat_us: float
    lines: int
    beats: int
    deaths: int

    @classmethod
    def of(cls, name: str, world: World, outcome: Outcome) -> Row:
        limits = world.promised.limits
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        most = second = math.nan
        if rpm is not None:
            most, second = outcome.busiest(60) / rpm, outcome.busiest(1) * 60 / rpm
            used = outcome.per_s() * 60 / rpm
        elif tpm is not None:
            most = outcome.busiest(60, tokens=True) / tpm
            second = outcome.busiest(1, tokens=True) * 60 / tpm
            used = sum(outcome.token_bins.values()) / outcome.seconds * 60 / tpm
        else:
            most = outcome.most_in_flight / limits.bounds.most
            used = outcome.slot_seconds / outcome.seconds / limits.bounds.most
        jain = sorted(outcome.jain)[len(outcome.jain) // 2] if outcome.jain else math.nan
        deaths = sum(outcome.deaths.values())
        return cls(name, most, second, used, jain, outcome.beat_us, outcome.answered, outcome.beats, deaths)


def print_table(hours: float, names: list[str], seed: int = 0) -> None:
    """Each scenario: 1,000 shards, 256 of them alive at once, 50 to 500 ms each way, and things that die."""
    heads = f"{'most':>6} {'second':>6} {'used':>6} {'Jain':>6} {'us/beat':>7} {'lines':>12} {'beats':>11}"
    print(f"{'promise':12} {heads} deaths")
    for name in names or SCENARIOS:
        row = Row.of(name, SCENARIOS[name], Cluster(SCENARIOS[name], seed).run(hours * 3600))
        print(
            f"{row.name:12} {row.most:6.4f} {row.second:6.3f} {row.used:6.3f} {row.jain:6.3f} {row.beat_us:7.1f}"
            f" {row.lines:12,} {row.beats:11,} {row.deaths:6}",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.cluster.virtual_cluster", description=print_table.__doc__)
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SCENARIOS)}; all without")
    parser.add_argument("--hours", type=float, default=0.5)
    options = parser.parse_args()
    print_table(options.hours, options.names)
