"""What held it back: on the screen, in the run log over time, in the report."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun.job.bottleneck import Bottleneck
from batchrun.limits.budget import Budget
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.limits.permit import Permit
from batchrun.records.outcome import RateHeaders
from batchrun.results.events import Limited
from batchrun.simulator.options import GatewayOptions
from tests.asking import in_virtual_time
from tests.support import GatewayThread, RunProcess, events, write_requests

# --------------------------------------------------------------------------------- what the limiter says


class Desk:
    """A limiter with more work than it lets through."""

    def __init__(self, limits: Limits, budget: Budget | None = None) -> None:
        self.limiter = Limiter(limits, asyncio.get_running_loop().time, lambda why: None, budget)
        self.waiting: list[asyncio.Task[Permit | None]] = []

    async def turn(self, tokens: float = 0, upper: int = 0) -> Permit:
        permit = await self.limiter.acquire(tokens, Decimal(upper))
        assert permit is not None
        return permit

    async def more_wait(self, tokens: float = 0, upper: int = 0) -> None:
        self.waiting.append(asyncio.create_task(self.limiter.acquire(tokens, Decimal(upper))))
        await asyncio.sleep(0.001)


async def few_lines(desk: Desk) -> None:
    await desk.turn()
    desk.limiter.has_lines = False


async def as_many_as_allowed(desk: Desk) -> None:
    for _ in range(4):
        await desk.turn()
    await desk.more_wait()


async def requests_a_minute(desk: Desk) -> None:
    await desk.turn()
    await desk.more_wait()


async def tokens_a_minute(desk: Desk) -> None:
    await desk.turn(tokens=900)
    await desk.more_wait(tokens=900)


async def a_pause(desk: Desk) -> None:
    desk.limiter.throttled(await desk.turn(), 30.0)
    await desk.more_wait()


async def an_outage(desk: Desk) -> None:
    desk.limiter.is_outage = True
    desk.limiter.failed(await desk.turn())
    await desk.more_wait()


async def a_budget(desk: Desk) -> None:
    await desk.turn(upper=7)
    await desk.more_wait(upper=7)


async def the_gateways_tokens(desk: Desk) -> None:
    for number in range(60):
        permit = await desk.turn()
        told = RateHeaders(limit_tokens=60_000, remaining_tokens=20_000 - 300 * number, reset_tokens_s=40)
        desk.limiter.answered(permit, 300, told)
        await asyncio.sleep(0.01)
    await desk.more_wait()
    await desk.more_wait()


@pytest.mark.parametrize(
    ("limits", "play", "bound"),
    [
        (Limits(4), few_lines, LimitedBy.TAIL),
        (Limits(4), as_many_as_allowed, LimitedBy.MAXIMUM),
        (Limits(4, requests_per_minute=6), requests_a_minute, LimitedBy.OWN_REQUESTS),
        (Limits(4, tokens_per_minute=1000), tokens_a_minute, LimitedBy.OWN_TOKENS),
        (Limits(4), a_pause, LimitedBy.THROTTLED),
        (Limits(4), an_outage, LimitedBy.OUTAGE),
        (Limits(4), a_budget, LimitedBy.BUDGET),
        (Limits(4), the_gateways_tokens, LimitedBy.TOKENS),
    ],
)
def test_the_limiter_says_what_holds_the_run_back(
    limits: Limits, play: Callable[[Desk], Any], bound: LimitedBy
) -> None:
    async def run() -> None:
        desk = Desk(limits, Budget(Decimal(10)))
        await play(desk)
        assert desk.limiter.limited_by is bound
        desk.limiter.close()
        await asyncio.gather(*desk.waiting)

    in_virtual_time(run)


# ------------------------------------------------------------------------------------- seconds, and the log


class Clock:
    """Two clocks that a test moves."""

    def __init__(self) -> None:
        self.wall_s = self.cpu_s = 0.0


def test_seconds_add_up_and_changes_are_logged_once_a_second() -> None:
    async def run() -> None:
        logged: list[Limited] = []
        clock = Clock()
        limiter = Limiter(Limits(4), asyncio.get_running_loop().time, lambda why: None)
        bottleneck = Bottleneck(lambda: clock.wall_s, lambda: clock.cpu_s)
        permits = [await limiter.acquire(0) for _ in range(4)]
        for _ in range(40):
            clock.wall_s += 0.25
            logged += filter(None, [bottleneck.note(limiter)])
        assert bottleneck.rounded() == {"concurrency_limit": 10.0}
        assert len(logged) == 1, "nothing has changed since"
        limiter.has_lines = False
        for permit in permits:
            assert permit is not None
            limiter.answered(permit, None)
        for _ in range(4):
            clock.wall_s += 0.25
            clock.cpu_s += 0.24
            logged += filter(None, [bottleneck.note(limiter)])
        assert bottleneck.rounded() == {"concurrency_limit": 10.0, "tail_of_the_run": 1.0}
        await limiter.acquire(0)
        assert [event.limited_by for event in logged] == ["concurrency_limit", "tail_of_the_run"]
        assert (logged[1].limited_s or {})["concurrency_limit"] == 10.0

    in_virtual_time(run)


def test_a_processor_that_can_do_no_more_is_what_holds_it_back() -> None:
    async def run() -> None:
        clock = Clock()
        limiter = Limiter(Limits(4), asyncio.get_running_loop().time, lambda why: None)
        bottleneck = Bottleneck(lambda: clock.wall_s, lambda: clock.cpu_s)
        for _ in range(4):
            await limiter.acquire(0)
        for cpu_s, bound in ((0.1, LimitedBy.MAXIMUM), (0.24, LimitedBy.CLIENT)):
            clock.wall_s, clock.cpu_s = clock.wall_s + 0.25, clock.cpu_s + cpu_s
            bottleneck.note(limiter)
            assert bottleneck.now is bound

    in_virtual_time(run)


def test_report_and_log_say_what_held_a_run_back(tmp_path: Path) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 90), tmp_path / "results.jsonl"
    with (
        GatewayThread(GatewayOptions(latency_median_s=0.1)) as gateway,
        RunProcess(gateway.base_url, requests, results, "-c", "4") as run,
    ):
        assert run.wait() == 0
        assert "limited by: concurrency limit " in run.screen
    report = json.loads((tmp_path / "results.jsonl.report.json").read_text())
    assert report["limited_s"]["concurrency_limit"] >= 1.0
    assert sum(report["limited_s"].values()) == pytest.approx(report["duration_s"], abs=0.6)
    found = [event for event in events(results) if event["event"] == "limits"]
    assert (found[0]["slots"], found[0]["limited_by"]) == (4, "concurrency_limit")
    again = subprocess.run([sys.executable, "-m", "batchrun", "report", results, "--json"], capture_output=True)
    assert json.loads(again.stdout)["limited_s"] == report["limited_s"]
