"""The reference: a lean loop of aiohttp and uvloop that knows nothing of jobs, limits, prices or crashes.

python -m tests.benchmarks.bare_loop http://127.0.0.1:PORT requests.jsonl answers.jsonl 64

What a loop can do once it does once: one session without a cookie jar, the headers made beforehand, one timer for all
timeouts, few looks for garbage. Each answer goes into a line as it came, and all that came together go into the file
with one write.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import aiohttp
import orjson
from multidict import istr
from yarl import URL

from batchrun.job.event_loop import COLLECT_EVERY
from tests.benchmarks.machine import fast_loop

TIMEOUT_S = 600.0


def id_and_body(line: dict[str, Any]) -> tuple[bytes, bytes]:
    return orjson.dumps(line["custom_id"]), orjson.dumps(line["body"])


class Answers:
    """Writes what has come since the last turn of the event loop with one write."""

    def __init__(self, output: IO[bytes]) -> None:
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._lines: list[bytes] = []

    def add(self, custom_id: bytes, status: int, body: bytes) -> None:
        if not self._lines:
            self._loop.call_soon(self._write)
        self._lines.append(b'{"custom_id":%b,"response":{"status_code":%d,"body":%b}}\n' % (custom_id, status, body))

    def _write(self) -> None:
        lines, self._lines = self._lines, []
        self._output.write(b"".join(lines))


async def run(address: str, requests: Iterator[tuple[bytes, bytes]], output: IO[bytes], in_flight: int) -> None:
    url, answers, loop = URL(address), Answers(output), asyncio.get_running_loop()
    begun: dict[asyncio.Task[None], float] = {}  # the oldest first

    def end_overdue() -> None:
        for task, at in begun.items():
            if at + TIMEOUT_S > loop.time():
                break
            task.cancel()
        loop.call_later(1.0, end_overdue)

    end_overdue()
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None),
        headers={
            istr("Authorization"): "Bearer sk-benchmark-0123456789",
            istr("Content-Type"): "application/json",
            istr("Accept"): "application/json",
            istr("Accept-Encoding"): "gzip, deflate",
            istr("User-Agent"): "lean",
        },
    )
    async with session:

        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            for custom_id, body in requests:
                begun[task] = loop.time()
                response = await session.post(url, data=body, allow_redirects=False)
                answers.add(custom_id, response.status, await response.content.read())
                del begun[task]

        await asyncio.gather(*(work() for _ in range(in_flight)))
        await asyncio.sleep(0)  # the last write


def main() -> None:
    base, path, answers, in_flight = sys.argv[1:]
    gc.set_threshold(COLLECT_EVERY)
    with Path(path).open("rb") as lines:
        requests = list(map(id_and_body, map(orjson.loads, lines)))
    with Path(answers).open("wb", buffering=0) as output, asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(run(base + "/v1/responses", iter(requests), output, int(in_flight)))


if __name__ == "__main__":
    main()
