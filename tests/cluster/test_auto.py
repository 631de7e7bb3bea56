"""`-c auto` over shards that are ordinary runs, at one gateway that says nothing of its limit."""

from __future__ import annotations

import asyncio
from pathlib import Path

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
