"""Deadlines in virtual time: who is cancelled, when, and whose cancellation goes on."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable
from importlib.util import find_spec

import pytest

from batchrun.transport.deadlines import Deadline, Deadlines, exact_clock, sleep_awake
from tests.asking import in_virtual_time
from tests.support import near


async def sleeps(deadlines: Deadlines, seconds: float) -> tuple[bool, float]:
    """Whether a block that sleeps so long ran out of time, and when it ended."""
    deadline, passed, start = Deadline(), False, asyncio.get_running_loop().time()
    deadlines.begin(deadline)
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        passed = deadline.ran_out()
        if not passed:
            raise
    finally:
        deadlines.end(deadline)
    return passed, asyncio.get_running_loop().time() - start


def test_each_block_has_its_own_time() -> None:
    async def test() -> None:
        deadlines = Deadlines(10)
        first = asyncio.create_task(sleeps(deadlines, 99))
        await asyncio.sleep(3)
        second, short = asyncio.create_task(sleeps(deadlines, 99)), asyncio.create_task(sleeps(deadlines, 9.5))
        assert await first == (True, near(10, abs=0.01))
        assert await second == (True, near(10, abs=0.01))
        assert await short == (False, near(9.5, abs=0.01))

    in_virtual_time(test)


def test_a_deadline_that_is_renewed_begins_anew_and_the_others_run_out_in_their_turn() -> None:
    async def test() -> None:
        deadlines = Deadlines(10)
        renewed = Deadline()

        async def work() -> float:
            deadlines.begin(renewed)
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(99)
            assert renewed.ran_out()
            deadlines.end(renewed)
            deadlines.renew(renewed)  # it is over: nothing of it is left
            return asyncio.get_running_loop().time()

        start = asyncio.get_running_loop().time()
        task, other = asyncio.create_task(work()), asyncio.create_task(sleeps(deadlines, 99))
        for _ in range(3):
            await asyncio.sleep(6)
            deadlines.renew(renewed)
        assert await other == (True, near(10, abs=0.01))
        assert await task - start == pytest.approx(28, abs=0.01)
        assert not (await sleeps(deadlines, 9))[0]

    in_virtual_time(test)


@pytest.mark.skipif(find_spec("uvloop") is None, reason="uvloop is not installed")
def test_latencies_are_exact_where_the_loop_has_whole_milliseconds() -> None:
    import uvloop

    async def steps(clock: Callable[[], float]) -> set[float]:
        found, until = set(), time.monotonic() + 0.002
        while time.monotonic() < until:
            found.add(clock())
        return found

    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert len(await steps(loop.time)) <= 4, "else exact_clock would not be needed"
        assert len(await steps(exact_clock(loop))) > 100

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())


def test_time_that_is_virtual_stays_so() -> None:
    async def test() -> None:
        loop = asyncio.get_running_loop()
        assert exact_clock(loop) == loop.time

    in_virtual_time(test)


def test_a_block_that_begins_after_a_long_quiet_runs_out_as_well() -> None:
    async def test() -> None:
        deadlines = Deadlines(10)
        assert not (await sleeps(deadlines, 1))[0]
        await asyncio.sleep(100)
        assert await sleeps(deadlines, 99) == (True, near(10, abs=0.01))

    in_virtual_time(test)


def test_a_task_that_ran_out_of_time_can_go_on_and_be_cancelled() -> None:
    async def test() -> None:
        deadlines, passed = Deadlines(10), list[bool]()

        async def work() -> None:
            passed.append((await sleeps(deadlines, 99))[0])
            passed.append((await sleeps(deadlines, 99))[0])

        task = asyncio.create_task(work())
        await asyncio.sleep(15)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (passed, task.cancelled()) == ([True], True)

    in_virtual_time(test)


def test_somebody_elses_cancellation_at_the_same_moment_goes_on() -> None:
    async def test() -> None:
        deadlines = Deadlines(10)
        task = asyncio.create_task(sleeps(deadlines, 99))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(10, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task

    in_virtual_time(test)


def test_work_that_ends_as_its_time_is_over_leaves_no_cancellation_behind() -> None:
    async def test() -> None:
        deadlines, deadline = Deadlines(10), Deadline()
        deadlines.begin(deadline)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(99)
        deadlines.end(deadline)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    in_virtual_time(test)


@pytest.mark.parametrize("kind", ["deadline", "sleep"])
async def test_what_lies_in_a_socket_is_read_before_the_time_is_over(kind: str) -> None:
    """The loop stands still past the end of the time, as after SIGSTOP, with an answer in the buffer."""
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    loop.call_soon(theirs.send, b"answer")
    loop.call_soon(time.sleep, 0.5)
    with ours, theirs:
        if kind == "sleep":
            reading = asyncio.create_task(loop.sock_recv(ours, 10))
            await sleep_awake(0.1)
            assert reading.done()
            assert await reading == b"answer"
            return
        deadlines, deadline = Deadlines(0.1), Deadline()
        deadlines.begin(deadline)
        try:
            await asyncio.sleep(0.05)  # as a task that has several steps to go
            assert await loop.sock_recv(ours, 10) == b"answer"
            await asyncio.sleep(0.05)
        finally:
            deadlines.end(deadline)
            deadlines.close()


async def test_time_is_over_soon_after_a_standstill_that_brought_nothing() -> None:
    loop = asyncio.get_running_loop()
    loop.call_soon(time.sleep, 0.5)
    passed, took_s = await sleeps(Deadlines(0.1), 99)
    assert passed
    assert took_s < 1.5
