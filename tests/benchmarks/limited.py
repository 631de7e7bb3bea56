"""The simulated gateway in a process of its own, with limits that a schedule may change; tells what it was asked.

    python -m tests.benchmarks.limited '{"capacity": 60, "latency_median_s": 0.2}' '[[20, 20], [40, 80]]'

prints its port, then serves 127.0.0.1 until its standard input ends; then prints the arrivals as JSON columns. The
schedule, in seconds from the first request, sets the capacity.
"""

from __future__ import annotations

import asyncio
import json
import sys

from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions
from tests.benchmarks.machine import fast_loop, pin


async def serve(options: GatewayOptions, schedule: list[tuple[float, int]]) -> None:
    loop = asyncio.get_running_loop()
    async with Gateway(options) as gateway:

        async def change() -> None:
            while not gateway.ledger.rows:  # noqa: ASYNC110 - the gateway has no event for its first request
                await asyncio.sleep(0.001)
            first_s = gateway.ledger.rows[0].arrived_s
            for at_s, capacity in schedule:
                await asyncio.sleep(first_s + at_s - loop.time())
                gateway.capacity.limit = capacity

        changing = asyncio.create_task(change())
        print(gateway.root_url.rpartition(":")[2], flush=True)
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        changing.cancel()
        rows = gateway.ledger.rows
        first_s = rows[0].arrived_s if rows else 0.0
        columns = {"at_s": [row.arrived_s - first_s for row in rows], "status": [row.status for row in rows]}
        print(json.dumps(columns), flush=True)


def main() -> None:
    options, schedule = json.loads(sys.argv[1]), json.loads(sys.argv[2])
    pin(1)
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(serve(GatewayOptions(**options), schedule))


if __name__ == "__main__":
    main()
