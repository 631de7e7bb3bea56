"""Models of gateways for virtual time: rate limits, concurrency limits, queues, faults; no sockets, no waiting.

A gateway decides about a request when it arrives. Since the network is a constant delay here, requests arrive in the
order in which they were sent, and one event per request is enough.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from batchrun.records.outcome import RateHeaders

Z_OF_P99 = 2.326


@dataclass(frozen=True, slots=True)
class Answer:
    """What becomes of a request: after how many seconds, and how."""

    after_s: float
    status: int = 200
    retry_after_s: float | None = None
    headers: RateHeaders | None = None


class Latency:
    """Seconds that a request is worked on: nearly constant (within 1 %), or lognormal with a p99."""

    def __init__(self, median_s: float, p99_ratio: float = 1.0) -> None:
        self.median_s = median_s
        self.sigma = math.log(p99_ratio) / Z_OF_P99

    @property
    def mean_s(self) -> float:
        return self.median_s * math.exp(self.sigma**2 / 2)

    def draw(self, rng: random.Random) -> float:
        spread = math.exp(self.sigma * rng.gauss(0, 1)) if self.sigma else rng.uniform(0.995, 1.005)
        return self.median_s * spread


@dataclass(frozen=True)
class Steps:
    """A value that changes at given times; the first holds from 0. `total` integrates it."""

    at: tuple[tuple[float, float], ...]

    def value(self, now: float) -> float:
        return self.at[max(0, bisect_right(self.at, (now, math.inf)) - 1)][1]

    def total(self, since: float, until: float) -> float:
        edges = [since, *(at for at, _ in self.at if since < at < until), until]
        return sum(self.value(a) * (b - a) for a, b in itertools.pairwise(edges))


def steady(value: float) -> Steps:
    return Steps(((0.0, value),))


class Gateway(Protocol):
    """A model of a gateway. `work` is what of its capacity an answer uses."""

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        """Decide about a request that arrives now: its answer, and the work in it."""

    def capacity(self, since: float, until: float) -> float:
        """The work that could have been done meanwhile."""


def asked_s(retry_after: bool | float, wait_s: float) -> float | None:
    """The `Retry-After` of a refusal: none, the wait in whole seconds, or always the same."""
    if isinstance(retry_after, bool):
        return float(max(1, math.ceil(wait_s))) if retry_after else None
    return retry_after


@dataclass
class Bucket:
    """`per_s` requests a second, `burst` at once, 429 beyond. Work is requests.

    `retry_after` says until when, in whole seconds; with a number it always says that. `tells`: answers have headers
    with its size and what is left in it.
    """

    per_s: Steps
    burst: float
    latency: Latency
    retry_after: bool | float = False
    tells: bool = False
    level: float = field(init=False)
    _now: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.burst

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        per_s = self.per_s.value(now)
        self.level = min(self.burst, self.level + (now - self._now) * per_s)
        self._now = now
        if self.level < 1:
            return Answer(0.0, 429, asked_s(self.retry_after, (1 - self.level) / per_s)), 0
        self.level -= 1
        left = float(int(self.level))
        headers = RateHeaders(limit_requests=self.burst, remaining_requests=left) if self.tells else None
        return Answer(self.latency.draw(rng), headers=headers), 1

    def capacity(self, since: float, until: float) -> float:
        return self.per_s.total(since, until)


@dataclass
class Leaky:
    """A leaky bucket: `per_s` requests a second leave it, evenly; `burst` wait in it, 429 beyond. Work is requests."""

    per_s: Steps
    burst: float
    latency: Latency
    retry_after: bool | float = False
    _next_at: float = 0.0  # when the next one would leave

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        per_s = self.per_s.value(now)
        leaves_at = max(now, self._next_at)
        if (leaves_at - now) * per_s > self.burst:
            return Answer(0.0, 429, asked_s(self.retry_after, leaves_at - now - self.burst / per_s)), 0
        self._next_at = leaves_at + 1 / per_s
        return Answer(leaves_at - now + self.latency.draw(rng)), 1

    def capacity(self, since: float, until: float) -> float:
        return self.per_s.total(since, until)


@dataclass
class FixedWindow:
    """`count` requests in each fixed `window_s`, 429 for the rest of it. Work is requests.

    `tells`: answers have headers with the limit and what is left of it, and nothing of when the next window begins, as
    those of LiteLLM's proxy.
    """

    count: Steps
    window_s: float
    latency: Latency
    retry_after: bool = False
    tells: bool = False
    _index: int = -1
    _used: int = 0

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        index = int(now / self.window_s)
        if index != self._index:
            self._index, self._used = index, 0
        if self._used >= self.count.value(now):
            wait_s = float(math.ceil((index + 1) * self.window_s - now))
            return Answer(0.0, 429, wait_s if self.retry_after else None), 0
        self._used += 1
        count = self.count.value(now)
        headers = RateHeaders(limit_requests=count, remaining_requests=count - self._used) if self.tells else None
        return Answer(self.latency.draw(rng), headers=headers), 1

    def capacity(self, since: float, until: float) -> float:
        return self.count.total(since, until) / self.window_s


@dataclass
class Capacity:
    """So many requests at once; one more is refused (`refuse_s` later), or queues. Work is seconds worked."""

    slots: Steps
    latency: Latency
    queue: bool = False
    retry_after: bool = False
    refuse_s: float = 0.0
    _busy: list[float] = field(default_factory=list)

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        slots = int(self.slots.value(now))
        busy = self._busy
        while busy and busy[0] <= now:
            heapq.heappop(busy)
        work_s = self.latency.draw(rng)
        if not self.queue:
            if len(busy) >= slots:
                return Answer(self.refuse_s, 429, 1.0 if self.retry_after else None), 0
            heapq.heappush(busy, now + work_s)
            return Answer(work_s), work_s
        # `busy` holds when each slot comes free, the queue included.
        while len(busy) > slots:
            heapq.heappop(busy)  # fewer slots: what was begun is finished, but only the last of them take new work
        start = heapq.heappop(busy) if len(busy) >= slots else now
        heapq.heappush(busy, start + work_s)
        return Answer(start + work_s - now), work_s

    def capacity(self, since: float, until: float) -> float:
        return self.slots.total(since, until)


@dataclass
class Tokens:
    """`per_minute` tokens, a minute's worth at once, described in headers. Work is tokens."""

    per_minute: Steps
    mean_tokens: float
    latency: Latency
    lies: Callable[[RateHeaders, random.Random], RateHeaders | None] = lambda headers, rng: headers
    retry_after: bool = True
    level: float = field(init=False)
    _now: float = 0.0

    def __post_init__(self) -> None:
        self.level = self.per_minute.value(0)

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        limit = self.per_minute.value(now)
        self.level = min(limit, self.level + (now - self._now) * limit / 60)
        self._now = now
        tokens = self.mean_tokens * rng.uniform(0.3, 1.7)
        refused = self.level < tokens
        wait_s = (tokens - self.level) / limit * 60
        if not refused:
            self.level -= tokens
        honest = RateHeaders(
            limit_tokens=limit,
            remaining_tokens=float(int(self.level)),
            reset_tokens_s=(limit - self.level) / limit * 60,
        )
        headers = self.lies(honest, rng)
        if refused:
            return Answer(0.0, 429, float(math.ceil(wait_s)) if self.retry_after else None, headers), 0
        return Answer(self.latency.draw(rng), headers=headers), tokens

    def capacity(self, since: float, until: float) -> float:
        return self.per_minute.total(since, until) / 60


@dataclass
class Unlimited:
    """Answers everything. Work is requests; there is no capacity to compare it with."""

    latency: Latency

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        return Answer(self.latency.draw(rng)), 1

    def capacity(self, since: float, until: float) -> float:
        return math.inf


@dataclass
class Batching:
    """Works on all at once, each the slower the more there are: latency rises from the first one on."""

    half_at: float
    latency: Latency
    _busy: list[float] = field(default_factory=list)

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        while self._busy and self._busy[0] <= now:
            heapq.heappop(self._busy)
        after_s = self.latency.draw(rng) * (1 + (len(self._busy) + 1) / self.half_at)
        heapq.heappush(self._busy, now + after_s)
        return Answer(after_s), self.latency.mean_s

    def capacity(self, since: float, until: float) -> float:
        return self.half_at * (until - since)


@dataclass
class Later:
    """Another gateway, to which a client comes so many seconds after it began."""

    behind: Gateway
    seconds: float

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        return self.behind.arrive(now + self.seconds, rng)

    def capacity(self, since: float, until: float) -> float:
        return self.behind.capacity(since + self.seconds, until + self.seconds)


@dataclass
class Refusing:
    """Another gateway, which refuses all for a while: an outage that is told by throttles."""

    behind: Gateway
    since: float
    until: float
    retry_after_s: float | None = None

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        if self.since <= now < self.until:
            return Answer(0.01, 429, self.retry_after_s), 0
        return self.behind.arrive(now, rng)

    def capacity(self, since: float, until: float) -> float:
        return self.behind.capacity(since, until)


@dataclass
class Faulty:
    """Another gateway behind random faults: shares of 503s and of spurious 429s, throttles at given times."""

    behind: Gateway
    share: float = 0.0
    spurious: float = 0.0
    throttle_at: tuple[float, ...] = ()
    retry_after_s: float | None = None
    _thrown: int = 0

    def arrive(self, now: float, rng: random.Random) -> tuple[Answer, float]:
        if self._thrown < len(self.throttle_at) and now >= self.throttle_at[self._thrown]:
            self._thrown += 1
            return Answer(0.0, 429, self.retry_after_s), 0
        if self.spurious and rng.random() < self.spurious:
            return Answer(0.01, 429, self.retry_after_s), 0
        if rng.random() < self.share:
            return Answer(0.01, 503), 0
        return self.behind.arrive(now, rng)

    def capacity(self, since: float, until: float) -> float:
        return self.behind.capacity(since, until)
