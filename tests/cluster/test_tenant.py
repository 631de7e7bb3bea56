"""Shards that are ordinary runs, over real sockets to one gateway: the limits of their job hold over all of them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from batchrun.limits.options import Limits
from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions
from tests.asking import in_virtual_time, most_in_a_minute
from tests.cluster.in_process import Cluster
from tests.support import events, ids


async def all_of(cluster: Cluster, gateway: Gateway) -> None:
    cluster.begin()
    await asyncio.gather(*(cluster.run(shard, gateway) for shard in range(len(cluster.requests))))


def test_requests_in_flight_are_those_of_the_job(tmp_path: Path) -> None:
    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.1)) as gateway:
            cluster = Cluster(tmp_path, 4, 300, Limits(10))
            began = asyncio.get_running_loop().time()
            await all_of(cluster, gateway)
            assert gateway.ledger.peak_in_flight == 10
            assert gateway.ledger.requests == 1200
            used = 1200 * 0.1 / (asyncio.get_running_loop().time() - began) / 10
            assert used > 0.9
        assert sorted(one for shard in range(4) for one in ids(cluster.results(shard))) == sorted(
            f"r-{number}" for number in range(1, 1201)
        )

    in_virtual_time(play)


def test_a_minute_has_the_requests_that_the_job_may_send_through_a_death_of_the_coordinator(tmp_path: Path) -> None:
    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.1)) as gateway:
            cluster = Cluster(tmp_path, 3, 300, Limits(50, requests_per_minute=600))

            async def die() -> None:
                await asyncio.sleep(30)
                cluster.coordinator = None
                await asyncio.sleep(1.5)
                cluster.begin()

            dying = asyncio.create_task(die())
            began = asyncio.get_running_loop().time()
            await all_of(cluster, gateway)
            elapsed_s = asyncio.get_running_loop().time() - began
            await dying
            times = [row.arrived_s for row in gateway.ledger.rows]
            assert most_in_a_minute(times, [1] * len(times)) <= 601
            assert 900 / elapsed_s > 0.95 * 10
            seconds = [int(time) for time in times]
            assert max(map(seconds.count, set(seconds))) <= 13

    in_virtual_time(play)


def test_without_a_coordinator_nothing_is_sent_once_the_lease_has_run_out(tmp_path: Path) -> None:
    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.1)) as gateway:
            cluster = Cluster(tmp_path, 2, 200, Limits(4))
            cluster.begin()
            clock = asyncio.get_running_loop().time
            running = [asyncio.create_task(cluster.run(shard, gateway)) for shard in range(2)]
            await asyncio.sleep(5)
            died, cluster.coordinator = clock(), None
            await asyncio.sleep(20)
            assert not any(task.done() for task in running), "it waits, and does not end"
            last = max(row.arrived_s for row in gateway.ledger.rows)
            assert died < last <= died + 2.0
            cluster.begin()
            await asyncio.gather(*running)
            assert gateway.ledger.requests == 400
            assert gateway.ledger.peak_in_flight == 4

    in_virtual_time(play)


def test_the_bill_of_all_shards_stays_below_the_cap_and_uses_it(tmp_path: Path) -> None:
    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.1)) as gateway:
            cap = Decimal("0.2")
            cluster = Cluster(tmp_path, 3, 600, Limits(12), max_cost_usd=cap)
            await all_of(cluster, gateway)
            billed = gateway.ledger.billed_usage()
            spent = (2 * (billed.input_tokens - billed.cached_tokens) + Decimal("0.5") * billed.cached_tokens) / 10**6
            spent += Decimal(8 * billed.output_tokens) / 10**6
            assert 0.85 * float(cap) < spent <= cap
            assert gateway.ledger.requests < 1800
        assert any(
            "--max-cost 0.20 is used up" in event.get("why", "")
            for shard in range(3)
            for event in events(cluster.results(shard))
        )

    in_virtual_time(play)


def test_a_shard_without_places_says_that_it_waits_for_its_share_and_paused_where_the_user_paused_it(
    tmp_path: Path,
) -> None:
    """Four shards share one place: three of them wait, and nobody has paused them."""

    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.1)) as gateway:
            cluster = Cluster(tmp_path, 4, 100, Limits(1))
            sending = asyncio.create_task(all_of(cluster, gateway))
            await asyncio.sleep(5)
            assert sorted(limited_by(cluster)) == ["concurrency_limit", "shards", "shards", "shards"]
            assert cluster.coordinator is not None
            now = asyncio.get_running_loop().time()
            cluster.coordinator.change(cluster.promised, now, is_paused=True)
            await asyncio.sleep(2)
            assert limited_by(cluster) == ["paused"] * 4
            cluster.coordinator.change(cluster.promised, now + 2)
            await sending

    in_virtual_time(play)


def limited_by(cluster: Cluster) -> list[str]:
    """What limits each shard now."""
    runners = [run._runner for run in cluster.runs.values()]
    return [runner.limiter.limited_by.value for runner in runners if runner is not None]
