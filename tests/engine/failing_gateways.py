"""Gateways that fail, each in its own way, and what a job makes of them: whole jobs on real sockets, in virtual time.

    python -m tests.engine.failing_gateways

prints the table of failures.md; `python -m tests.docs failing` writes it there.
"""

from __future__ import annotations

import asyncio
import math
import random
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.engine.retry import RetryPolicy
from batchrun.limits.options import Limits
from tests.asking import in_virtual_time
from tests.engine.test_runner import BROKEN, Desk, Ran, error
from tests.engine.test_whose_fault import (
    BAD_GATEWAY,
    BADS,
    GONE_MODEL,
    TIMEOUTS,
    UNAVAILABLE,
    Away,
    Bad,
    Behaving,
    number_of,
)
from tests.hostile import reset
from tests.support import Json

LATENCY_S = 0.5  # of an answer of `Behaving`
CONCURRENCY = 8
Choose = Callable[[Json, int], Bad | None]


@dataclass(frozen=True)
class Measured:
    """What came of a job. `used`: the share of what the gateway could have answered, from the first answer to the last.

    `refusals`: failed attempts for each answer. `lost`: lines without an answer that the gateway would have given.
    """

    used: float
    refusals: float
    lost: int
    is_over: bool


@dataclass(frozen=True)
class Failing:
    """A gateway: `choose` makes what decides about each request. `bad` lines have no answer whoever asks.

    `per_s`: what it can answer in a second; None for as much as `CONCURRENCY` slots ask for. `away_s`: how long it is
    away. The goals hold for `Measured`. `jobs`: how many it takes to say what is usual, as backoff depends on chance.
    """

    name: str
    choose: Callable[[], Choose]
    lines: int = 1000
    bad: int = 0
    per_s: float | None = None
    away_s: float = 0.0
    least_used: float = 0.0
    most_refusals: float = math.inf
    automatic: bool = False
    jobs: int = 1

    def run(self) -> Measured:
        """Run the job. Takes seconds, whatever the virtual time."""
        ran, gateway = _run(self.choose(), self.lines, None if self.automatic else CONCURRENCY)
        of_lines = gateway.answers[: self.lines - self.bad]  # and no control after the last of them
        took_s = of_lines[-1] - of_lines[0] - self.away_s
        per_s = self.per_s or CONCURRENCY / LATENCY_S
        answered = len(gateway.answers)
        failed = len(gateway.asked) - answered
        lost = self.lines - self.bad - ran.outcomes["succeeded"]
        return Measured((len(of_lines) - 1) / per_s / took_s, failed / answered, lost, len(ran.records) == self.lines)

    def typical(self) -> tuple[Measured, bool]:
        """Run all jobs. Returns the median by use, and whether the goals were met by each."""
        measured = sorted((self.run() for _ in range(self.jobs)), key=lambda one: one.used)
        return measured[len(measured) // 2], all(map(self.is_met, measured))

    def is_met(self, measured: Measured) -> bool:
        """Whether the figures are as good as they should be: no line is lost, and the job ends."""
        good = measured.used >= self.least_used and measured.refusals <= self.most_refusals
        return good and measured.is_over and not measured.lost


def _run(choose: Choose, lines: int, concurrency: int | None) -> tuple[Ran, Behaving]:
    found = list[tuple[Ran, Behaving]]()
    limits = Limits(concurrency) if concurrency else Limits()

    async def run() -> None:
        gateway = Behaving(choose)
        with tempfile.TemporaryDirectory(prefix="batchrun-failing-") as folder:
            desk = Desk(Path(folder)).lines(lines)
            async with gateway.server:
                ran = await desk.run(gateway.server.base_url, limits=limits, retry=RetryPolicy(), timeouts=TIMEOUTS)
        found.append((ran, gateway))

    in_virtual_time(run)
    return found[0]


# ------------------------------------------------------------------------------------------ the gateways


def _by_chance(bad: Bad, share: float) -> Callable[[], Choose]:
    def make() -> Choose:
        rng = random.Random(1)
        return lambda *_: bad if rng.random() < share else None

    return make


def _chance(name: str, bad: Bad, share: float) -> Failing:
    """A gateway that fails this share of the requests, whatever they ask."""
    return Failing(name, _by_chance(bad, share), jobs=5)


def _lines(bad: Bad, *numbers: int) -> Callable[[], Choose]:
    return lambda: lambda body, _: bad if number_of(body) in numbers else None


def _bucket(per_s: float, refusal: Bad, burst: float = 5.0) -> Callable[[], Choose]:
    """So many requests a second, `burst` at once, and this refusal beyond."""

    def make() -> Choose:
        level, at = burst, 0.0

        def choose(body: Json, _: int) -> Bad | None:
            nonlocal level, at
            now = asyncio.get_running_loop().time()
            level, at = min(burst, level + per_s * (now - at)), now
            if level < 1:
                return refusal
            level -= 1
            return None

        return choose

    return make


def _at_once(most: int, refusal: Bad) -> Callable[[], Choose]:
    """So many requests at a time, and this refusal beyond."""

    def make() -> Choose:
        ends = list[float]()

        def choose(body: Json, _: int) -> Bad | None:
            now = asyncio.get_running_loop().time()
            ends[:] = [end for end in ends if end > now]
            if len(ends) >= most:
                return refusal
            ends.append(now + LATENCY_S)
            return None

        return choose

    return make


def _away(how: Bad, lines: int) -> Callable[[], Choose]:
    return lambda: Away(how, lines // 2)


def _outage(what: str, how: Bad) -> Failing:
    """A gateway that is away for ten minutes. When the last probe is due depends on chance."""
    return Failing(f"away for 600 s: {what}", _away(how, 1000), away_s=600, jobs=3)


def _limited(name: str, per_s: float, choose: Callable[[], Choose]) -> Failing:
    """A gateway with a rate, whose limits a job has to find out."""
    return Failing(name, choose, 3000, per_s=per_s, least_used=0.85, most_refusals=0.1, automatic=True)


def _few(name: str, most: int, lines: int) -> Failing:
    """A gateway that works on so many at a time and asks for a minute of silence, whatever it has to do."""
    per_s, choose = most / LATENCY_S, _at_once(most, PARALLEL)
    return Failing(name, choose, lines, per_s=per_s, least_used=0.9, most_refusals=0.1, automatic=True)


def _said(status: int, code: str, message: str, **headers: str) -> bytes:
    return error(status, code, message, **headers)


TOO_FAST_403 = _said(403, "forbidden", "Rate limit exceeded, please retry later")
ONE_SECOND: dict[str, Any] = {"Retry_After": "1"}
ONE_MINUTE: dict[str, Any] = {"Retry_After": "60"}

PARALLEL = _said(429, "rate_limit_error", "Max parallel request limit reached", **ONE_MINUTE)
IN_A_MINUTE = _said(429, "rate_limit_exceeded", "Rate limit reached", **ONE_MINUTE)
THROTTLED = _said(429, "rate_limit_exceeded", "Rate limit reached")
BUSY_1_S = _said(503, "server_error", "busy", **ONE_SECOND)

FAILING = [
    Failing("four lines always get a 500", _lines(BROKEN, 400, 401, 402, 403), bad=4),
    Failing("the last four lines always get a 500", _lines(BROKEN, 997, 998, 999, 1000), bad=4),
    Failing("four lines always lose their connection", _lines(reset, 400, 401, 402, 403), bad=4),
    Failing("one line always gets a 429: it is too large", _lines(BADS["429"], 5), bad=1),
    _chance("10 % of all requests get a 500", BROKEN, 0.1),
    _chance("30 % of all requests get a 500", BROKEN, 0.3),
    _chance("10 % of all requests get a 429", THROTTLED, 0.1),
    _chance("30 % of all requests get a 429", THROTTLED, 0.3),
    _chance("one of two backends answers 502", BAD_GATEWAY, 0.5),
    _limited("30 a second, else a plain 503", 30, _bucket(30, UNAVAILABLE)),
    _limited("30 a second, else a 503 with `Retry-After: 1`", 30, _bucket(30, BUSY_1_S)),
    _limited('30 a second, else a 403 that says "rate limit"', 30, _bucket(30, TOO_FAST_403)),
    _limited("30 a second, else a 429 with `Retry-After: 60`", 30, _bucket(30, IN_A_MINUTE)),
    _few("2 at a time, else a 429 with `Retry-After: 60`", 2, 1000),
    _few("the same with 100 lines", 2, 100),
    _few("10 at a time, else a 429 with `Retry-After: 60`", 10, 3000),
    _outage("every connection is reset", reset),
    _outage("every answer is a 503", UNAVAILABLE),
    _outage("every answer is a 400", GONE_MODEL),
]


def table() -> str:
    """The table of failures.md."""
    rows = ["| the gateway | used | failed attempts per answer | lines lost |", "|---|---|---|---|"]
    for failing in FAILING:
        measured, is_met = failing.typical()
        verdict = "" if is_met else " (not met)"
        rows.append(f"| {failing.name} | {measured.used:.2f} | {measured.refusals:.3f} | {measured.lost}{verdict} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
