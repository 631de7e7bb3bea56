"""The simulated gateway's latency, limits and ledger."""

import asyncio
import itertools
import json
import statistics

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.simulator.app import Gateway
from batchrun.simulator.ledger import Usage
from batchrun.simulator.limits import Latency, TokenBucket, duration_text
from batchrun.simulator.options import GatewayOptions
from tests.asking import PLAIN, in_virtual_time, send, until

# How fast it is


@pytest.mark.parametrize("stream", [False, True])
def test_an_answer_takes_its_latency(stream: bool) -> None:
    async def timed() -> None:
        async with Gateway(GatewayOptions(latency_median_s=30)) as gateway:
            started = asyncio.get_running_loop().time()
            await send(gateway, PLAIN | {"stream": stream})
            assert asyncio.get_running_loop().time() - started == pytest.approx(30, abs=0.5)

    in_virtual_time(timed)


def test_a_stream_spreads_its_latency_over_its_events() -> None:
    async def timed() -> None:
        loop = asyncio.get_running_loop()
        async with (
            Gateway(GatewayOptions(latency_median_s=30)) as gateway,
            aiohttp.ClientSession() as session,
            session.post(gateway.base_url + "/responses", json=PLAIN | {"stream": True}) as reply,
        ):
            arrivals = [loop.time() async for _ in reply.content.iter_any()]
            pauses = [later - earlier for earlier, later in itertools.pairwise(arrivals)]
            assert max(pauses) < 5

    in_virtual_time(timed)


def test_latencies_have_the_median_and_the_tail_they_were_given() -> None:
    latency = Latency(median_s=2.0, p99_s=10.0, seed=0)
    drawn = sorted(latency.of(b"%d" % number, 1) for number in range(20_000))
    assert statistics.median(drawn) == pytest.approx(2.0, rel=0.05)
    assert drawn[int(len(drawn) * 0.99)] == pytest.approx(10.0, rel=0.1)
    assert latency.of(b"7", 1) == latency.of(b"7", 1) != latency.of(b"7", 2)


# What is too much


def test_the_official_429_of_requests_per_minute() -> None:
    async def limited() -> None:
        async with Gateway(GatewayOptions(rpm=3)) as gateway:
            answers = [await send(gateway, PLAIN | {"input": str(number)}) for number in range(4)]
            assert [answer.status for answer in answers] == [200, 200, 200, 429]
            headers, error = answers[0].headers, answers[3].error
            assert (headers["x-ratelimit-limit-requests"], headers["x-ratelimit-remaining-requests"]) == ("3", "2")
            assert headers["x-ratelimit-reset-requests"] == "20s"
            assert error["message"].startswith(
                "Rate limit reached for gpt-4.1 in organization org-sim on requests per min (RPM): "
                "Limit 3, Used 3, Requested 1. Please try again in 20s."
            )
            assert (error["type"], error["code"]) == ("requests", "rate_limit_exceeded")
            assert answers[3].headers["Retry-After"] == "20"
            assert answers[3].headers["x-ratelimit-remaining-requests"] == "0"
            await asyncio.sleep(20)
            assert (await send(gateway)).status == 200
            assert (await send(gateway)).status == 429
            assert (await send(gateway, PLAIN | {"model": "gpt-5"})).status == 200

    in_virtual_time(limited)


def test_less_than_a_minutes_worth_may_be_spent_at_once_and_nothing_be_told_of_it() -> None:
    async def limited() -> None:
        options = GatewayOptions(rpm=120, burst_s=2, send_rate_headers=False, send_retry_after=False)
        async with Gateway(options) as gateway:
            answers = [await send(gateway, PLAIN | {"input": str(number)}) for number in range(6)]
            assert [answer.status for answer in answers] == [200] * 4 + [429] * 2
            assert not any(name.lower().startswith("x-ratelimit") for name in answers[0].headers)
            assert "Retry-After" not in answers[5].headers
            await asyncio.sleep(0.5)
            assert [(await send(gateway)).status for _ in range(2)] == [200, 429]

    in_virtual_time(limited)


@pytest.mark.parametrize("burst_s", [0, -1, 61])
def test_a_burst_is_of_seconds_within_a_minute(burst_s: float) -> None:
    with pytest.raises(ValueError, match="burst_s"):
        GatewayOptions(burst_s=burst_s)


def test_the_official_429_of_tokens_per_minute() -> None:
    async def limited() -> None:
        async with Gateway(GatewayOptions(tpm=1000, send_retry_after=False)) as gateway:
            body = PLAIN | {"max_output_tokens": 900}
            answers = [await send(gateway, body) for _ in range(2)]
            too_large = await send(gateway, PLAIN | {"max_output_tokens": 2000})
            assert [answer.status for answer in answers] == [200, 429]
            assert answers[1].error["type"] == too_large.error["type"] == "tokens"
            assert "Retry-After" not in answers[1].headers
            assert "tokens per min (TPM): Limit 1000, Used 910" in answers[1].error["message"]
            assert too_large.error["message"].startswith("Request too large for gpt-4.1")
            assert gateway.ledger.billed_requests == 1

    in_virtual_time(limited)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 10)), max_size=60))
def test_a_bucket_never_lets_more_through_than_its_rate(steps: list[tuple[float, int]]) -> None:
    bucket = TokenBucket(60, now=0.0)
    now = spent = 0.0
    for pause, amount in steps:
        now += pause
        if bucket.wait_s(amount, now) == 0:
            bucket.spend(amount, now)
            spent += amount
        assert spent <= 60 + now + 1e-6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0ms"), (0.12, "120ms"), (1, "1s"), (50.529, "50.529s"), (60, "1m0s"), (360, "6m0s"), (7261.5, "2h1m1.5s")],
)
def test_durations_are_written_as_in_the_official_headers(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize("status", [429, 503])
async def test_beyond_its_capacity_it_refuses(status: int) -> None:
    options = GatewayOptions(capacity=2, capacity_status=status, latency_median_s=0.05)
    async with Gateway(options) as gateway:
        answers = await asyncio.gather(*(send(gateway, PLAIN | {"input": str(n)}) for n in range(5)))
        refused = [answer for answer in answers if answer.status != 200]
        assert [answer.status for answer in refused] == [status] * 3
        assert {answer.error["code"] for answer in refused} == {"slow_down"}
        assert gateway.ledger.peak_in_flight > 2


def test_or_it_lets_them_wait() -> None:
    async def queued() -> None:
        async with Gateway(GatewayOptions(capacity=2, queue=True, latency_median_s=10)) as gateway:
            started = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(send(gateway, PLAIN | {"input": str(n)}) for n in range(6)))
            assert {answer.status for answer in answers} == {200}
            assert asyncio.get_running_loop().time() - started == pytest.approx(30, abs=1)

    in_virtual_time(queued)


# What it bills


async def test_the_bill_is_the_sum_of_the_usages() -> None:
    async with Gateway(GatewayOptions(script="ok; 500 ok")) as gateway:
        total = Usage()
        for number in range(6):
            answered = await send(gateway, PLAIN | {"input": str(number), "reasoning": {"effort": "low"}})
            if answered.status == 200:
                usage = json.loads(answered.body)["usage"]
                total += Usage(
                    usage["input_tokens"],
                    usage["input_tokens_details"]["cached_tokens"],
                    usage["output_tokens"],
                    usage["output_tokens_details"]["reasoning_tokens"],
                )
        assert gateway.ledger.billed_usage() == total
        assert (gateway.ledger.requests, gateway.ledger.billed_requests) == (6, 3)
        assert gateway.ledger.statuses == {"200": 3, "500": 3}


async def test_a_client_that_leaves_early_pays_all_the_same() -> None:
    async with Gateway(GatewayOptions(latency_median_s=60)) as gateway:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(gateway)
        await until(lambda: not gateway.ledger.in_flight)
        row = gateway.ledger.rows[0]
        assert (row.client_gone, row.delivered) == (True, False)
        assert row.billed == gateway.ledger.billed_usage() != Usage()


async def test_rows_tell_of_each_request_and_of_no_secret() -> None:
    async with Gateway(GatewayOptions(keep_bodies=True)) as gateway:
        await send(gateway, key="sk-secret-secret-secret")
        (row,) = gateway.ledger.rows
        assert (row.sequence, row.attempt, row.path, row.model) == (1, 1, "/v1/responses", "gpt-4.1")
        assert row.body == json.dumps(PLAIN).encode()
        assert (row.outcome, row.status, row.delivered) == ("ok", 200, True)
        assert b"secret" not in b"".join(gateway.ledger.json_lines())


async def test_a_long_run_need_not_keep_rows() -> None:
    async with Gateway(GatewayOptions(keep_rows=False)) as gateway:
        ids = {json.loads((await send(gateway)).body)["id"] for _ in range(3)}
        assert len(ids) == 3
        assert gateway.ledger.rows == []
        assert gateway.ledger.billed_requests == 3


async def test_the_ledger_can_be_asked_over_http() -> None:
    async with Gateway() as gateway:
        await send(gateway)
        summary = json.loads((await send(gateway, path="/_sim/ledger", method="GET")).body)
        rows = (await send(gateway, path="/_sim/ledger?full=1", method="GET")).body.splitlines()
        assert summary["requests"] == summary["billed_requests"] == len(rows) == 1
        assert summary["billed"] == json.loads(rows[0])["billed"]
        assert summary["statuses"] == {"200": 1}


def test_the_capacity_may_change_while_requests_wait() -> None:
    async def queued() -> None:
        async with Gateway(GatewayOptions(capacity=1, queue=True, latency_median_s=10)) as gateway:
            clock = asyncio.get_running_loop().time
            started, ended = clock(), list[float]()

            async def ask(number: int) -> None:
                assert (await send(gateway, PLAIN | {"input": str(number)})).status == 200
                ended.append(clock() - started)

            asking = [asyncio.create_task(ask(number)) for number in range(5)]
            await asyncio.sleep(5)
            gateway.capacity.limit = 3
            await asyncio.sleep(7)
            gateway.capacity.limit = 1  # what is being worked on is finished
            await asyncio.gather(*asking)
            assert ended == pytest.approx([10, 15, 15, 20, 30], abs=0.5)

    in_virtual_time(queued)


def test_who_hangs_up_in_the_queue_takes_no_slot_with_it() -> None:
    async def queued() -> None:
        async with Gateway(GatewayOptions(capacity=1, queue=True, latency_median_s=10)) as gateway:
            asking = [asyncio.create_task(send(gateway, PLAIN | {"input": str(number)})) for number in range(3)]
            await asyncio.sleep(1)
            asking[1].cancel()
            await asyncio.sleep(1)
            assert (await asking[2]).status == 200
            assert (await send(gateway)).status == 200

    in_virtual_time(queued)
