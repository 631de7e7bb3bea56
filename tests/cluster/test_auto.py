"""Shards that are ordinary runs, at one gateway that says nothing of its limit, or is gone for a while."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from batchrun.limits.circuit_breaker import CircuitBreaker
from batchrun.limits.options import Limits
from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions
from tests.asking import in_virtual_time
from tests.cluster.in_process import Cluster


def test_shards_find_out_together_how_many_may_be_in_flight(tmp_path: Path) -> None:
    async def play() -> None:
        async with Gateway(GatewayOptions(latency_median_s=0.2, capacity=20, send_retry_after=False)) as gateway:
            cluster = Cluster(tmp_path, 4, 500, Limits())
            cluster.begin()
            began = asyncio.get_running_loop().time()
            await asyncio.gather(*(cluster.run(shard, gateway) for shard in range(4)))
            elapsed_s = asyncio.get_running_loop().time() - began
            statuses = gateway.ledger.statuses
            assert statuses["200"] == 2000
            assert statuses.get("429", 0) <= 0.03 * 2000
            assert 2000 * 0.2 / elapsed_s / 20 > 0.85, "the beginning and the tail are of it"

    in_virtual_time(play)


def test_an_outage_is_probed_by_one_shard_and_over_for_all_at_once(tmp_path: Path) -> None:
    async def play() -> None:
        clock = asyncio.get_running_loop().time
        options = GatewayOptions(latency_median_s=0.1, keep_bodies=True)
        async with Gateway(options) as before:
            cluster = Cluster(tmp_path, 4, 300, Limits(20))
            cluster.begin()
            running = [asyncio.create_task(cluster.run(shard, before)) for shard in range(4)]
            await asyncio.sleep(3)
        await asyncio.sleep(20)
        slots = [run.leased.promises.part.slots for run in cluster.runs.values() if run.leased is not None]
        assert sorted(bool(count) for count in slots) == [False, False, False, True], "one shard probes"
        port = int(before.base_url.rpartition(":")[2].partition("/")[0])
        async with Gateway(replace(options, port=port)) as after:
            back_at = clock()
            await asyncio.gather(*running)
        assert before.ledger.statuses["200"] + after.ledger.statuses["200"] >= 1200
        began: dict[int, float] = {}
        for row in after.ledger.rows:
            began.setdefault(shard_of(row.body or b""), row.arrived_s)
        first = min(began.values())
        assert first - back_at < CircuitBreaker.MAX_PROBE_S + 1
        assert max(began.values()) - first < 1.0, "the answer to one is news for all within a beat"

    in_virtual_time(play)


def shard_of(body: bytes) -> int:
    """Which shard sent a request: each has 300 questions."""
    return (int(body.partition(b"question ")[2].partition(b'"')[0]) - 1) // 300
