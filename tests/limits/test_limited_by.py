"""What limits a run, as the limiter says it four times a second: "tail of the run" is said at the tail alone."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Concurrency, Limits
from tests.asking import in_virtual_time
from tests.limits.gateways import (
    Answer,
    Bucket,
    Capacity,
    Faulty,
    Gateway,
    Latency,
    Tokens,
    Unlimited,
    steady,
)

pytestmark = pytest.mark.slow

SAMPLE_S = 0.25


class SampledRun:
    """Workers, one for each slot as the engine has them, that send lines to a model gateway; sampled all the while."""

    def __init__(self, gateway: Gateway, limits: Limits, lines: int) -> None:
        self.said: list[LimitedBy] = []  # while there were lines left
        self.said_at_the_tail: list[LimitedBy] = []
        self._gateway, self._rng = gateway, random.Random(1)
        self._now = asyncio.get_running_loop().time
        self._began = self._now()
        self._limiter = Limiter(limits, self._now, lambda why: None)
        self._lines: Iterator[int] = iter(range(lines))
        self._workers: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        self._fill()
        while self._workers:
            await asyncio.sleep(SAMPLE_S)
            said = self.said if self._limiter.has_lines else self.said_at_the_tail
            said.append(self._limiter.limited_by)

    def _fill(self) -> None:
        while self._limiter.has_lines and len(self._workers) < self._limiter.slots:
            worker = asyncio.create_task(self._work())
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        while True:
            if next(self._lines, None) is None:
                self._limiter.has_lines = False
                return
            while await self._send() is not True:
                pass
            if len(self._workers) > self._limiter.slots:
                return
            self._fill()
            await asyncio.sleep(0)

    async def _send(self) -> bool:
        permit = await self._limiter.acquire(500.0)
        assert permit is not None
        answer: Answer = self._gateway.arrive(self._now() - self._began, self._rng)[0]
        await asyncio.sleep(0.002 + answer.after_s)
        if answer.status == 429:
            self._limiter.throttled(permit, answer.retry_after_s, answer.headers)
            return False
        if answer.status == 200:
            self._limiter.answered(permit, 500.0, answer.headers)
        else:
            self._limiter.refused(permit, 0.0)
        return True


FOUND_OUT = {LimitedBy.SLOW_START, LimitedBy.REQUESTS, LimitedBy.THROTTLED, LimitedBy.CAPACITY}
AUTO = Concurrency()


@pytest.mark.parametrize(
    ("limits", "gateway", "lines", "mostly", "share", "else_"),
    [
        # 240 a minute is one each quarter of a second: then the samples fall on the moments at which one may go.
        (Limits(64, 240), Unlimited(Latency(0.4)), 1_000, LimitedBy.OWN_REQUESTS, 1.0, set()),
        (Limits(AUTO, 600), Unlimited(Latency(0.1)), 1_500, LimitedBy.OWN_REQUESTS, 1.0, set()),
        (Limits(64, 1_200), Unlimited(Latency(2, 5)), 3_000, LimitedBy.OWN_REQUESTS, 0.95, {LimitedBy.MAXIMUM}),
        (Limits(64, None, 600_000), Unlimited(Latency(1)), 2_000, LimitedBy.OWN_TOKENS, 1.0, set()),
        (Limits(), Bucket(steady(30), 30, Latency(0.5)), 3_000, LimitedBy.REQUESTS, 0.75, FOUND_OUT),
        (Limits(), Bucket(steady(20), 20, Latency(2, 5), True), 3_000, LimitedBy.REQUESTS, 0.6, FOUND_OUT),
        (Limits(), Tokens(steady(600_000), 1000, Latency(2, 3)), 2_500, LimitedBy.TOKENS, 0.9, FOUND_OUT),
        (Limits(), Capacity(steady(10), Latency(0.5)), 1_500, LimitedBy.CAPACITY, 0.9, FOUND_OUT),
        (Limits(), Capacity(steady(10), Latency(0.5), queue=True), 1_500, LimitedBy.PLATEAU, 0.6, FOUND_OUT),
        (Limits(30), Faulty(Unlimited(Latency(1)), 0.2, 0.05), 2_000, LimitedBy.MAXIMUM, 0.3, FOUND_OUT),
    ],
)
def test_with_lines_left_it_is_never_the_tail_but_what_does_limit(
    limits: Limits, gateway: Gateway, lines: int, mostly: LimitedBy, share: float, else_: set[LimitedBy]
) -> None:
    async def play() -> None:
        run = SampledRun(gateway, limits, lines)
        await run.run()
        assert len(run.said) >= 150
        assert set(run.said) <= {mostly, *else_}, "and never the tail"
        assert run.said.count(mostly) >= share * len(run.said)

    in_virtual_time(play)


@pytest.mark.parametrize("limits", [Limits(64), Limits(), Limits(64, requests_per_minute=6_000)])
def test_at_the_tail_it_says_so(limits: Limits) -> None:
    """The last answers take ten seconds: for most of them nothing is left to send."""

    async def play() -> None:
        run = SampledRun(Unlimited(Latency(10)), limits, 500)
        await run.run()
        assert LimitedBy.TAIL not in run.said
        assert run.said_at_the_tail.count(LimitedBy.TAIL) >= 0.9 * len(run.said_at_the_tail) >= 0.9 * 20

    in_virtual_time(play)


def test_the_last_lines_that_wait_for_a_quota_are_no_tail_yet() -> None:
    async def play() -> None:
        limiter = Limiter(Limits(8, requests_per_minute=6), asyncio.get_running_loop().time, lambda why: None)
        first = await limiter.acquire(0)
        waits = asyncio.create_task(limiter.acquire(0))
        await asyncio.sleep(1)
        limiter.has_lines = False
        said = [limiter.limited_by]
        assert await waits is not None
        assert first is not None
        said.append(limiter.limited_by)
        assert said == [LimitedBy.OWN_REQUESTS, LimitedBy.TAIL]

    in_virtual_time(play)
