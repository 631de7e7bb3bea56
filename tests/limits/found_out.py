"""How soon a rate limit is found out: what a job of 30 s uses of it, counted from its first answer; and then.

`python -m tests.benchmarks found_out` prints the table of the manual.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass

from tests.limits.gateways import Bucket, FixedWindow, Gateway, Latency, Leaky, steady
from tests.limits.virtual_client import Client

SOON_S, THEN_S = 30.0, 60.0  # the job that finds it out, and what is measured after it


@dataclass(frozen=True, slots=True)
class Found:
    """`soon` and `then` are shares of the capacity, `refusals` and `refusals_then` 429s an answer."""

    soon: float
    refusals: float
    then: float
    refusals_then: float


@dataclass(frozen=True, slots=True)
class Unknown:
    """A gateway whose limit nobody told the client, and the least and most that must come of it."""

    name: str
    what: str
    gateway: Callable[[], Gateway]
    soon: float = 0.93
    refusals: float = 0.01
    then: float = 0.97

    def run(self, seed: int = 1) -> Found:
        return found_out(self.gateway(), seed)


def found_out(gateway: Gateway, seed: int = 1, *, soon_s: float = SOON_S, then_s: float = THEN_S) -> Found:
    """Run against a gateway whose work is requests."""
    outcome = Client(gateway, seed=seed, warm_up_s=0.0, keeps_times=True).run(soon_s + then_s + 15.0)
    first = outcome.answered_at[0]
    spans = list(itertools.pairwise((first, first + soon_s, first + soon_s + then_s)))
    answered = [sum(since <= at < until for at in outcome.answered_at) for since, until in spans]
    throttled = [sum(at < until for at in outcome.throttled_at) for _, until in spans]
    used = [count / gateway.capacity(*span) for count, span in zip(answered, spans, strict=True)]
    return Found(used[0], throttled[0] / answered[0], used[1], (throttled[1] - throttled[0]) / answered[1])


def _bucket(per_s: float, burst_s: float, latency_s: float, retry_after: bool | float, p99: float = 1.0) -> Unknown:
    asks = f"`Retry-After: {retry_after:.0f}`" if retry_after else "no `Retry-After`"
    return Unknown(
        f"{per_s:g}_{burst_s:g}_{latency_s:g}_{retry_after:g}{'_uneven' if p99 > 1 else ''}",
        f"{per_s:g}/s, {burst_s:g} s of burst, {latency_s:g} s{' (uneven)' if p99 > 1 else ''}, {asks}",
        lambda: Bucket(steady(per_s), per_s * burst_s, Latency(latency_s, p99), retry_after or False),
    )


UNKNOWN = [
    _bucket(150, 0.25, 0.05, 1.0),
    _bucket(150, 0.25, 0.1, 1.0),
    _bucket(150, 0.25, 0.1, 1.0, p99=5.0),
    _bucket(150, 0.25, 0.1, 0),
    _bucket(150, 1, 0.1, 1.0),
    _bucket(30, 0.25, 0.05, 1.0),
    _bucket(30, 1, 0.05, 1.0),
    Unknown(
        "leaky",
        "leaky bucket, 150/s, 0.25 s wait in it, 0.1 s, `Retry-After: 1`",
        lambda: Leaky(steady(150), 37.5, Latency(0.1), 1.0),
        soon=0.9,
    ),
    Unknown(
        "second",
        "150 in each second, 50 ms, `Retry-After`",
        lambda: FixedWindow(steady(150), 1, Latency(0.05), retry_after=True),
        soon=0.85,
        then=0.93,
    ),
    Unknown(
        "ten_seconds",
        "1,500 in each 10 s, 50 ms, `Retry-After`",
        lambda: FixedWindow(steady(1500), 10, Latency(0.05), retry_after=True),
    ),
    # As a gateway that tells of its rate by plain 503s: they come without a pause, and the job must not hammer it.
    Unknown(
        "plain_503",
        "30/s, 0.25 s of burst, 0.1 s, told by plain 503s",
        lambda: Bucket(steady(30), 7.5, Latency(0.1)),
        soon=0.85,
        refusals=0.1,
        then=0.85,
    ),
]
