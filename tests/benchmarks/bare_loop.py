"""The reference: aiohttp and uvloop, nothing else. Reads bodies, posts them, writes the answers to a file.

python -m tests.benchmarks.bare_loop http://127.0.0.1:PORT requests.jsonl answers.jsonl 64
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import aiohttp
import orjson

from tests.benchmarks.machine import fast_loop


async def run(url: str, bodies: Iterator[bytes], output: IO[bytes], in_flight: int) -> None:
    connector = aiohttp.TCPConnector(limit=in_flight)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def work() -> None:
            headers = {"Content-Type": "application/json"}
            for body in bodies:
                async with session.post(url, data=body, headers=headers) as response:
                    output.write(await response.read() + b"\n")

        await asyncio.gather(*(work() for _ in range(in_flight)))


def main() -> None:
    base, requests, answers, in_flight = sys.argv[1:]
    with Path(requests).open("rb") as lines:
        bodies = [orjson.dumps(orjson.loads(line)["body"]) for line in lines]
    with Path(answers).open("wb") as output, asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(base + "/v1/responses", iter(bodies), output, int(in_flight)))


if __name__ == "__main__":
    main()
