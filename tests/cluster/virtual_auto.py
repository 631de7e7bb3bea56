"""Shards that find out together what a model gateway allows, in virtual time: real leases, no sockets.

`python -m tests.cluster.virtual_auto` prints the table.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.lease import Lease
from batchrun.cluster.tenant import Tenant
from batchrun.job.leased import Leased
from batchrun.limits.controller import Sent
from batchrun.limits.leased import LeasedPromises
from batchrun.limits.options import Limits
from batchrun.records.money import NOTHING
from tests.limits.gateways import Answer, Bucket, Capacity, Gateway, Latency, Unlimited, steady
from tests.limits.virtual_client import Outcome


class Shard:
    """A shard with lines without end, that sends as its lease lets it."""

    left, is_outage = 10**9, False

    def __init__(self, index: int, cluster: AutoCluster) -> None:
        self.cluster = cluster
        self.promises = LeasedPromises(cluster.limits, 0.0)
        self.leased: Leased | None = Leased(self.promises, None)
        self.tenant = Tenant(index, "a", self, lambda: cluster.now)
        self._wake_at = math.inf

    def send(self) -> None:
        """Send what may be sent now; otherwise set a timer."""
        promises, cluster = self.promises, self.cluster
        while True:
            now = cluster.now
            wait_s = promises.wait_s(NOTHING, now)
            if wait_s is None:
                return
            until = max(now + wait_s, promises.follower.paused_until)
            if until > now:
                if until < self._wake_at:
                    self._wake_at = until
                    cluster.at(until, self._wake)
                return
            promises.take(0.0, NOTHING, now)
            sent = promises.follower.sent(promises.in_flight, now)
            answer, work = cluster.gateway.arrive(now + cluster.net_s, cluster.rng)
            if now >= cluster.warm_up_s:
                cluster.outcome.work += work
            cluster.in_flight += 1
            cluster.outcome.most_in_flight = max(cluster.outcome.most_in_flight, cluster.in_flight)
            cluster.at(now + 2 * cluster.net_s + answer.after_s, self._ends(sent, answer))

    def _wake(self) -> None:
        self._wake_at = math.inf
        self.send()

    def _ends(self, sent: Sent, answer: Answer) -> Callable[[], None]:
        def end() -> None:
            now, outcome, follower = self.cluster.now, self.cluster.outcome, self.promises.follower
            self.cluster.in_flight -= 1
            self.promises.settle(None, None, NOTHING, NOTHING, now)
            if answer.status == 200:
                follower.succeeded(sent, now)
                outcome.answered += 1
                if sent.at >= self.cluster.warm_up_s:
                    outcome.time(now - sent.at)
            elif answer.status == 429:
                follower.throttled(sent, answer.retry_after_s, now)
                outcome.throttled += 1
            else:
                follower.failed(sent, now)
            self.send()

        return end

    def beat(self) -> None:
        """Report; the lease comes a moment later."""
        cluster = self.cluster
        report, sent_at = self.tenant.report(), cluster.now

        def arrive() -> None:
            lease = cluster.coordinator.beat(report, cluster.now)
            cluster.at(cluster.now + cluster.lag_s(), lambda: take(lease))

        def take(lease: Lease) -> None:
            self.tenant.take(lease, sent_at)
            self.send()
            cluster.at(max(cluster.now, sent_at + lease.beat_s), self.beat)

        cluster.at(cluster.now + cluster.lag_s(), arrive)


class AutoCluster:
    """`shards` of one job with `limits` at a model gateway."""

    def __init__(
        self,
        gateway: Gateway,
        shards: int = 4,
        limits: Limits = Limits(),
        *,
        seed: int = 0,
        lag_s: tuple[float, float] = (0.002, 0.01),
        warm_up_s: float = 10.0,
    ) -> None:
        self.gateway, self.limits, self.rng = gateway, limits, random.Random(seed)
        self.net_s, self.warm_up_s, self._lag = 0.001, warm_up_s, lag_s
        self.now, self.in_flight = 0.0, 0
        self.outcome = Outcome()
        self.coordinator = Coordinator(Promised(limits), 0.0)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        for index in range(shards):
            self.at(self.rng.uniform(0, 0.1), Shard(index, self).beat)

    def lag_s(self) -> float:
        return self.rng.uniform(*self._lag)

    def at(self, at: float, do: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (at, next(self._numbers), do))

    def run(self, seconds: float) -> Outcome:
        while self._heap[0][0] <= seconds:
            self.now, _, do = heapq.heappop(self._heap)
            do()
        self.outcome.ended_at = seconds
        self.outcome.capacity = self.gateway.capacity(self.warm_up_s, seconds)
        return self.outcome


GATEWAYS: dict[str, Callable[[], Gateway]] = {
    "40 at once, 0.2 s": lambda: Capacity(steady(40), Latency(0.2)),
    "40 at once, 0.5 s": lambda: Capacity(steady(40), Latency(0.5)),
    "150/s bucket, burst 5": lambda: Bucket(steady(150), 5, Latency(0.1)),
    "150/s bucket, burst 1 s": lambda: Bucket(steady(150), 150, Latency(0.1)),
    "queue beyond 40, 0.2 s": lambda: Capacity(steady(40), Latency(0.2), queue=True),
    "none, 1 s": lambda: Unlimited(Latency(1)),
}


def print_table(shards: int = 4, seconds: float = 120.0, seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    """Each gateway, the worst of a few seeds."""
    print(f"{'gateway':26} {'used':>6}  {'429s per answer':>15}  {'latency':>7}  {'in flight':>9}")
    for name, gateway in GATEWAYS.items():
        outcomes = [AutoCluster(gateway(), shards, seed=seed).run(seconds) for seed in seeds]
        used = min(outcome.used for outcome in outcomes) if name[0] != "n" else math.nan
        refusals = max(outcome.refusals for outcome in outcomes)
        latency_s = max(outcome.latency_s for outcome in outcomes)
        most = max(outcome.most_in_flight for outcome in outcomes)
        print(f"{name:26} {used:6.3f}  {refusals:15.4f}  {latency_s:7.2f}  {most:9}", flush=True)


if __name__ == "__main__":
    print_table()
