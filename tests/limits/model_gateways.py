"""What the controller must make of each kind of gateway: used, refusals, latency.

`python -m tests.limits.model_gateways` prints the table.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from tests.limits.gateways import (
    Bucket,
    Capacity,
    Faulty,
    FixedWindow,
    Gateway,
    Latency,
    Steps,
    Tokens,
    Unlimited,
    steady,
)
from tests.limits.virtual_client import Client, Outcome


@dataclass(frozen=True)
class Scenario:
    """A gateway, and what the controller must make of it."""

    name: str
    gateway: Callable[[], Gateway]
    latency_s: float
    run_s: float = 60.0
    warm_up_s: float = 10.0
    net_s: float = 0.001
    used: float = 0.95
    refusals: float = 0.01
    slower: float = math.inf

    def run(self, seed: int) -> Outcome:
        client = Client(self.gateway(), seed=seed, net_s=self.net_s, warm_up_s=self.warm_up_s)
        return client.run(self.run_s)

    def slowness(self, outcome: Outcome) -> float:
        """Mean latency, in those of the gateway without a queue."""
        return outcome.latency_s / (self.latency_s + 2 * self.net_s)


def _bucket(burst: float, *, retry_after: bool = False, per_s: Steps | None = None) -> Callable[[], Gateway]:
    return lambda: Bucket(per_s or steady(150), burst, Latency(0.1), retry_after)


def _capacity(
    slots: Steps, median_s: float = 0.2, p99: float = 1.0, *, queue: bool = False, retry_after: bool = False
) -> Callable[[], Gateway]:
    return lambda: Capacity(slots, Latency(median_s, p99), queue=queue, retry_after=retry_after)


LOGNORMAL = Latency(0.2, 5).mean_s / 0.2  # the mean of a median of 1
STEPS = Steps(((0, 60), (20, 20), (40, 80)))
HALVES = Steps(((0, 200), (120, 100), (240, 200)))

# The table, each kind of limit with and without Retry-After, near and far. All unknown to the client.
SCENARIOS = [
    Scenario("150/s bucket, 0.1 s, burst 5", _bucket(5), 0.1),
    Scenario("150/s bucket, 0.1 s, burst 1 s", _bucket(150), 0.1),
    Scenario("150/s bucket, 0.1 s, burst 60 s", _bucket(9000), 0.1),
    # Each refusal costs a whole second there, with nothing stored meanwhile: it takes longer to pay.
    Scenario("150/s bucket, 0.1 s, burst 5, Retry-After", _bucket(5, retry_after=True), 0.1, run_s=300, used=0.92),
    Scenario("150/s bucket, 0.1 s, burst 1 s, Retry-After", _bucket(150, retry_after=True), 0.1),
    Scenario("150/s bucket, 0.1 s, burst 60 s, Retry-After", _bucket(9000, retry_after=True), 0.1),
    Scenario("40 at once, 0.2 s, 429 beyond", _capacity(steady(40)), 0.2),
    Scenario("40 at once, 0.2 s, 429 beyond, Retry-After", _capacity(steady(40), retry_after=True), 0.2),
    Scenario("40 at once, lognormal 0.2 s, 429 beyond", _capacity(steady(40), p99=5), 0.2 * LOGNORMAL),
    Scenario(
        "40 at once, 0.2 s, 429 after as long",
        lambda: Capacity(steady(40), Latency(0.2), refuse_s=0.2),
        0.2,
    ),
    Scenario("40 at once, 0.2 s, queue beyond", _capacity(steady(40), queue=True), 0.2, refusals=0, slower=1.5),
    Scenario(
        "40 at once, lognormal 0.2 s, queue beyond",
        _capacity(steady(40), p99=5, queue=True),
        0.2 * LOGNORMAL,
        run_s=120,
        refusals=0,
        slower=1.65,  # a mean of so few answers is 8 % off, and each look beyond the knee takes longer to judge
    ),
    Scenario("steps 60, 20, 80 at once, 0.2 s", _capacity(STEPS), 0.2, used=0.9, refusals=0.03),
    Scenario(
        "steps 60, 20, 80 at once, 0.2 s, Retry-After",
        _capacity(STEPS, retry_after=True),
        0.2,
        used=0.88,
        refusals=0.03,
    ),
    # The first minute's worth is stored at the beginning: it counts as capacity from when it has been used.
    Scenario(
        "600,000 tokens/min with headers, 2 s",
        lambda: Tokens(steady(600_000), 1000, Latency(2, 3)),
        2.2,
        run_s=300,
        warm_up_s=60,
        used=0.97,
        refusals=0.002,
    ),
    Scenario(
        "600,000 tokens/min without headers, 2 s",
        lambda: Tokens(steady(600_000), 1000, Latency(2, 3), lies=lambda headers, rng: None),
        2.2,
        run_s=600,
        warm_up_s=120,
        refusals=0.015,
    ),
    Scenario(
        "40 at once, 2 s, 60 ms away, 429 beyond", _capacity(steady(40), 2), 2, 300, 30, 0.03, used=0.92, refusals=0.015
    ),
    Scenario(
        "400 at once, lognormal 2 s, 60 ms away, Retry-After",
        _capacity(steady(400), 2, 5, retry_after=True),
        2 * LOGNORMAL,
        150,
        30,
        0.03,
        used=0.85,
    ),
    Scenario("200, 100, 200 at once, lognormal 2 s", _capacity(HALVES, 2, 5), 2 * LOGNORMAL, 360, 30, used=0.92),
    Scenario(
        "20/s bucket, lognormal 2 s, 60 ms away, Retry-After",
        lambda: Bucket(steady(20), 20, Latency(2, 5), True),
        2 * LOGNORMAL,
        300,
        30,
        0.03,
        used=0.93,
        refusals=0.015,
    ),
    Scenario(
        "100 in each minute, 1 s",
        lambda: FixedWindow(steady(100), 60, Latency(1)),
        1,
        3600,
        180,
        used=0.9,
        refusals=0.03,
    ),
    Scenario(
        "100 in each minute, 1 s, Retry-After",
        lambda: FixedWindow(steady(100), 60, Latency(1), True),
        1,
        3600,
        180,
        used=0.9,
        refusals=0.02,
    ),
    Scenario(
        "40 at once, 0.2 s, every fifth a 503",
        lambda: Faulty(Capacity(steady(40), Latency(0.2)), share=0.2),
        0.2,
    ),
    # A relay with a spent channel: up to three times that share is sent again, so a limit behind it may refuse as many.
    Scenario(
        "150/s bucket, 0.1 s, 1 % refused anyway",
        lambda: Faulty(Bucket(steady(150), 150, Latency(0.1)), spurious=0.01),
        0.1,
        300,
        60,
        used=0.9,
        refusals=0.05,
    ),
    Scenario(
        "200 at once, 1 s, 5 % refused anyway, Retry-After",
        lambda: Faulty(Capacity(steady(200), Latency(1)), spurious=0.05, retry_after_s=1),
        1,
        400,
        200,
        used=0.85,
        refusals=0.15,
    ),
]


def print_table(seeds: tuple[int, ...] = (1, 2, 3)) -> None:
    """Each scenario, the worst of a few seeds."""
    print(f"{'gateway':54} {'used':>6} {'target':>6}  {'429s per answer':>15} {'target':>6}  {'latency':>7}")
    for scenario in SCENARIOS:
        outcomes = [scenario.run(seed) for seed in seeds]
        used = min(outcome.used for outcome in outcomes)
        refusals = max(outcome.refusals for outcome in outcomes)
        slower = max(scenario.slowness(outcome) for outcome in outcomes)
        print(
            f"{scenario.name:54} {used:6.3f} {scenario.used:6.2f}  {refusals:15.4f} {scenario.refusals:6.3f}"
            f"  {slower:6.2f}x"
        )
    for name, latency in (("unlimited, 1 s", Latency(1)), ("unlimited, lognormal 1 s", Latency(1, 5))):
        outcomes = [Client(Unlimited(latency), seed=seed).run(21) for seed in seeds]
        in_flight = min(outcome.seconds[20].in_flight for outcome in outcomes)
        throttled = max(outcome.throttled for outcome in outcomes)
        print(f"{name:54} {in_flight} in flight after 20 s (target 1500), {throttled} 429s")


if __name__ == "__main__":
    print_table()
