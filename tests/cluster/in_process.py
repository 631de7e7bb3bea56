"""Shards as real runs over real sockets, with a coordinator in the same event loop: a cluster without machines."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.tenant import Tenant
from batchrun.engine.observer import Silent
from batchrun.job.job import Job
from batchrun.job.leased import Leased
from batchrun.job.prepare import prepare
from batchrun.job.run import Ended, Run
from batchrun.limits.options import Limits
from batchrun.simulator.app import Gateway
from batchrun.transport.endpoint import Endpoint
from tests.support import write_prices, write_requests

_incarnations = itertools.count(1)


class Cluster:
    """`shards` result files of `lines` lines each in `folder`, and what their job may do. `coordinator` may be None:
    then it is dead."""

    def __init__(self, folder: Path, shards: int, lines: int, limits: Limits, **options: Any) -> None:
        self.folder, self.limits, self.options = folder, limits, options
        self.prices = write_prices(folder)
        self.requests = [
            write_requests(folder / f"{shard}.jsonl", lines, first=1 + shard * lines, max_output_tokens=100)
            for shard in range(shards)
        ]
        self.promised = Promised(limits, options.get("max_cost_usd"))
        self.coordinator: Coordinator | None = None
        self.started: set[int] = set()
        self.epoch = 0
        self.runs: dict[int, Run] = {}

    def results(self, shard: int) -> Path:
        return self.folder / f"{shard}.results.jsonl"

    def begin(self, **facts: Any) -> None:
        """A coordinator begins, or comes back with nothing."""
        self.epoch += 1
        now = asyncio.get_running_loop().time()
        self.coordinator = Coordinator(self.promised, now, epoch=self.epoch, known=set(self.started), **facts)

    async def run(self, shard: int, gateway: Gateway) -> Ended:
        """One incarnation of a shard, to its end."""
        clock = asyncio.get_running_loop().time
        job = Job(
            self.requests[shard],
            self.results(shard),
            Endpoint(gateway.base_url),
            limits=self.limits,
            prices=self.prices,
            **self.options,
        )
        with contextlib.ExitStack() as files:
            prepared = prepare(job, Silent(), files)
            run = self.runs[shard] = Run(prepared, Silent(), Leased.of(prepared, clock()))
            tenant = Tenant(shard, f"{shard}-{next(_incarnations)}", run, clock)
            self.started.add(shard)
            beating = asyncio.create_task(self._beats(tenant, run, clock))
            try:
                ended = await run.send()
            finally:
                beating.cancel()
            stop = "" if ended.stopped is None else ended.stopped.why
            if self.coordinator is not None:
                self.coordinator.beat(tenant.report(stop=stop, is_done=True), clock())
            return ended

    async def _beats(self, tenant: Tenant, run: Run, clock: Callable[[], float]) -> None:
        while True:
            wait_s = 0.2
            report, sent_at = tenant.report(), clock()
            await asyncio.sleep(0.01)
            if self.coordinator is not None:
                lease = self.coordinator.beat(report, clock())
                await asyncio.sleep(0.01)
                tenant.take(lease, sent_at)
                wait_s = 0.0 if lease.wants_all else lease.beat_s
                if lease.stop:
                    run.stop(lease.stop, 3)
            await asyncio.sleep(wait_s)
