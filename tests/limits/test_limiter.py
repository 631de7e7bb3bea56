"""When the next request may go: workers that wait for their turn, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import pairwise

import pytest

from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.limits.permit import Permit
from tests.asking import in_virtual_time, most_in_a_minute

Scene = Callable[["Desk"], Awaitable[None]]


class Desk:
    """A limiter in virtual time, and what it was asked."""

    def __init__(self, limits: Limits) -> None:
        self.now = asyncio.get_running_loop().time
        self.ended: list[str] = []
        self.limiter = Limiter(limits, self.now, self.ended.append)

    async def turn(self, tokens: float = 0) -> Permit:
        permit = await self.limiter.acquire(tokens)
        assert permit is not None
        return permit

    def asks(self, tokens: float = 0) -> asyncio.Task[Permit | None]:
        return asyncio.create_task(self.limiter.acquire(tokens))


def scene(limits: Limits, play: Scene) -> None:
    async def run() -> None:
        await play(Desk(limits))

    in_virtual_time(run)


async def until_then(holds: Callable[[], bool]) -> None:
    """Let half seconds of virtual time pass until this holds."""
    while not holds():  # noqa: ASYNC110 - the limiter has no event to wait for
        await asyncio.sleep(0.5)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_slots_are_given_first_come_first_served() -> None:
    async def play(desk: Desk) -> None:
        permits = [await desk.turn() for _ in range(3)]
        asking = [desk.asks() for _ in range(6)]
        order: list[int] = []
        for number, task in enumerate(asking):
            task.add_done_callback(partial(lambda number, _: order.append(number), number))
        await settle()
        assert order == []
        for permit in permits:
            desk.limiter.answered(permit, None)
        await settle()
        assert order == [0, 1, 2]
        assert desk.limiter.in_flight == 3
        for task in asking[:3]:
            given_permit = await task
            assert given_permit is not None
            desk.limiter.refused(given_permit, None)
        await settle()
        assert order == [0, 1, 2, 3, 4, 5]

    scene(Limits(concurrency=3), play)


@pytest.mark.parametrize("rpm", [30, 600, 900])
@pytest.mark.smoke
def test_requests_a_minute_are_paced(rpm: float) -> None:
    async def play(desk: Desk) -> None:
        times: list[float] = []

        async def work() -> None:
            while desk.now() < 100:
                permit = await desk.turn()
                times.append(desk.now())
                await asyncio.sleep(0.4)
                desk.limiter.answered(permit, None)

        started = desk.now()
        await asyncio.gather(*(work() for _ in range(64)))
        assert most_in_a_minute(times, [1] * len(times)) <= rpm + 1
        assert len(times) - 64 >= 0.97 * rpm * (times[-64] - started) / 60
        assert max(second - first for first, second in pairwise(times)) < 2.1 * 60 / rpm + 0.1

    scene(Limits(concurrency=64, requests_per_minute=rpm), play)


def test_tokens_a_minute_are_paced_and_what_is_not_used_comes_back() -> None:
    async def play(desk: Desk) -> None:
        used: list[tuple[float, float]] = []

        async def work(rng: random.Random) -> None:
            while desk.now() < 300:
                tokens = float(rng.randint(50, 400))
                permit = await desk.turn(tokens * 1.5)
                await asyncio.sleep(0.05)
                desk.limiter.answered(permit, tokens)
                used.append((desk.now(), tokens))

        await asyncio.gather(*(work(random.Random(seed)) for seed in range(16)))
        total = sum(tokens for _, tokens in used)
        assert most_in_a_minute([time for time, _ in used], [tokens for _, tokens in used]) <= 60_000 + 16 * 400
        assert total >= 0.9 * 60_000 * 5

    scene(Limits(concurrency=16, tokens_per_minute=60_000), play)


def test_a_waiter_that_is_cancelled_takes_nothing_with_it() -> None:
    async def play(desk: Desk) -> None:
        permit = await desk.turn()
        first, second, third = desk.asks(), desk.asks(), desk.asks()
        await settle()
        first.cancel()  # while it waits
        desk.limiter.answered(permit, None)
        second.cancel()  # after it was given its turn, before it could take it
        await settle()
        assert (await third) is not None
        assert desk.limiter.in_flight == 1

    scene(Limits(concurrency=1), play)


def test_a_turn_that_nobody_took_costs_no_pace() -> None:
    async def play(desk: Desk) -> None:
        permit = await desk.turn(10)
        asking = desk.asks(10_000)
        await asyncio.sleep(5)
        started = desk.now()
        desk.limiter.answered(permit, 10)
        asking.cancel()  # it has been given its turn
        await settle()
        await desk.turn(10)
        assert desk.now() - started < 0.01

    scene(Limits(concurrency=1, requests_per_minute=60, tokens_per_minute=600), play)


def test_a_throttle_pauses_the_whole_job_and_cuts_it_once() -> None:
    async def play(desk: Desk) -> None:
        permits = [await desk.turn() for _ in range(10)]
        await asyncio.sleep(1)
        started = desk.now()
        for permit in reversed(permits):
            desk.limiter.throttled(permit, 20.0)
        assert desk.limiter.slots == 9
        asking = [desk.asks() for _ in range(10)]
        await asyncio.sleep(19.9)
        assert not any(task.done() for task in asking)
        await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert desk.now() - started == pytest.approx(20, abs=0.01)
        await settle()
        (first,) = [task for task in asking if task.done()]
        first_permit = await first
        assert first_permit is not None
        desk.limiter.answered(first_permit, None)  # it admits requests again: all slots are free
        await asyncio.sleep(1)
        assert sum(task.done() for task in asking) == 10

    scene(Limits(concurrency=10), play)


def test_throttles_without_a_break_end_the_run_but_a_late_first_one_does_not() -> None:
    async def play(desk: Desk) -> None:
        permit = await desk.turn()
        await asyncio.sleep(500)  # one slow answer
        desk.limiter.throttled(permit, 0.0)
        assert desk.ended == []
        for _ in range(3):
            await asyncio.sleep(40)
            desk.limiter.throttled(await desk.turn(), 0.0)
        assert desk.ended == ["throttled without a break"]

    scene(Limits(concurrency=1, max_outage_s=100), play)


def test_an_answer_between_throttles_keeps_the_run_alive() -> None:
    async def play(desk: Desk) -> None:
        for number in range(20):
            permit = await desk.turn()
            if number % 3:
                desk.limiter.throttled(permit, 40.0)
            else:
                desk.limiter.answered(permit, None)
        assert desk.ended == []

    scene(Limits(concurrency=1, max_outage_s=100), play)


def test_closing_wakes_everybody_and_nobody_gets_a_turn_any_more() -> None:
    async def play(desk: Desk) -> None:
        permits = [await desk.turn(), await desk.turn()]
        asking = [desk.asks() for _ in range(5)]
        await settle()
        desk.limiter.close()
        assert await asyncio.gather(*asking) == [None] * 5
        assert await desk.limiter.acquire(0) is None
        for permit in permits:
            desk.limiter.failed(permit)
        assert desk.limiter.in_flight == 0

    scene(Limits(concurrency=2), play)


def test_no_permit_is_ever_lost() -> None:
    """Random workers, of which some are cancelled anywhere: at the end everything has been given back."""

    async def play(desk: Desk) -> None:
        rng = random.Random(4)
        peak = 0

        async def work() -> None:
            nonlocal peak
            permit = await desk.turn(50)
            try:
                peak = max(peak, desk.limiter.in_flight)
                assert desk.limiter.in_flight <= 8
                await asyncio.sleep(rng.random())
            except asyncio.CancelledError:
                desk.limiter.abandoned(permit)
                raise
            ending = rng.random()
            if ending < 0.6:
                desk.limiter.answered(permit, 40)
            elif ending < 0.7:
                desk.limiter.refused(permit, 0)
            elif ending < 0.8:
                desk.limiter.throttled(permit, rng.choice([None, 0.0, 0.5]))
            else:
                desk.limiter.failed(permit)

        tasks = []
        for _ in range(3_000):
            tasks.append(asyncio.create_task(work()))
            if rng.random() < 0.3:
                rng.choice(tasks[-20:]).cancel()
            if rng.random() < 0.2:
                await asyncio.sleep(rng.random())
        async with asyncio.timeout(20_000):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} <= {type(None), asyncio.CancelledError}
        assert desk.limiter.in_flight == 0
        assert peak == 8
        assert isinstance(await desk.turn(), Permit)

    limits = Limits(concurrency=8, requests_per_minute=6_000, tokens_per_minute=600_000, max_outage_s=1e9)
    scene(limits, play)


def test_a_run_of_which_all_that_is_left_waits_for_one_model_is_throttled_and_not_at_its_tail() -> None:
    async def play() -> None:
        now = asyncio.get_running_loop().time
        limiter = Limiter(Limits(8), now, lambda why: None, has_several_models=True)
        held, free = limiter.lanes.of("held"), limiter.lanes.of("free")
        refused, answered = await limiter.acquire(0, lane=held), await limiter.acquire(0, lane=free)
        assert refused is not None
        assert answered is not None
        limiter.throttled(refused, 60)
        limiter.has_lines = False
        found = [limiter.limited_by]  # one of another model is still in flight
        limiter.answered(answered, None)
        found.append(limiter.limited_by)
        await asyncio.sleep(61)
        found.append(limiter.limited_by)
        assert found == [LimitedBy.TAIL, LimitedBy.THROTTLED, LimitedBy.TAIL]

    in_virtual_time(play)
