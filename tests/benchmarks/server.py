"""A gateway far cheaper than any client: a bare `asyncio.Protocol` with one fixed answer, in a process of its own.

    python -m tests.benchmarks.server --answer-bytes 600 --latency-median 0.2 --latency-p99 1.5

prints its port, then serves 127.0.0.1 until its standard input ends, and prints the latencies that it drew, summed
up, and when the first request came (seconds since 1970). With `--together 32` it waits for 32 requests and answers
them all: then every run takes the same steps, however busy the machine is.
"""

from __future__ import annotations

import argparse
import asyncio
import math
import random
import sys
import time
from typing import ClassVar, cast

from tests.benchmarks.machine import fast_loop, pin


def answer(size: int) -> bytes:
    """A whole HTTP answer whose body has `size` bytes."""
    start = (
        b'{"id":"resp_1","object":"response","status":"completed","model":"gpt-4.1","output":[{"type":"message",'
        b'"role":"assistant","content":[{"type":"output_text","text":"'
    )
    end = (
        b'"}]}],"usage":{"input_tokens":120,"input_tokens_details":{"cached_tokens":0},"output_tokens":80,'
        b'"output_tokens_details":{"reasoning_tokens":0},"total_tokens":200}}'
    )
    body = start + b"x" * max(0, size - len(start) - len(end)) + end
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


class Answers(asyncio.Protocol):
    """One connection: an answer for every request, at once or after a drawn latency."""

    first_at = 0.0  # when any connection had its first request
    waiting: ClassVar[list[Answers]] = []  # requests of all connections, by the connection

    def __init__(self, answer: bytes, latency: Latency, together: int) -> None:
        self._answer = answer
        self._latency = latency
        self._together = together
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's does not say so

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end].lower()
            at = head.find(b"content-length:") + 15
            whole = end + 4 + int(head[at:].split(b"\r\n", 1)[0])
            if len(self._buffer) < whole:
                return
            self._buffer = self._buffer[whole:]
            Answers.first_at = Answers.first_at or time.time()
            seconds = self._latency.draw()
            if seconds:
                asyncio.get_running_loop().call_later(seconds, self._transport.write, self._answer)
            else:
                self.waiting.append(self)
        if len(self.waiting) >= self._together:
            for connection in self.waiting:
                connection._transport.write(self._answer)
            self.waiting.clear()


class Latency:
    """Log-normal seconds with a median and a 99th percentile; 0 where the median is 0."""

    def __init__(self, median_s: float, p99_s: float) -> None:
        self._mu = math.log(median_s) if median_s else 0.0
        self._sigma = math.log(p99_s / median_s) / 2.3263 if median_s else 0.0
        self._random = random.Random(1)
        self._is_zero = not median_s
        self.drawn_s = 0.0

    def draw(self) -> float:
        if self._is_zero:
            return 0.0
        seconds = self._random.lognormvariate(self._mu, self._sigma)
        self.drawn_s += seconds
        return seconds


async def serve(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    latency = Latency(options.latency_median, options.latency_p99)
    whole = answer(options.answer_bytes)
    server = await loop.create_server(lambda: Answers(whole, latency, options.together), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.buffer.read)
    print(latency.drawn_s, Answers.first_at, flush=True)
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--answer-bytes", type=int, default=600)
    parser.add_argument("--latency-median", type=float, default=0.0)
    parser.add_argument("--latency-p99", type=float, default=0.0)
    parser.add_argument("--together", type=int, default=1)
    parser.add_argument("--core", type=int, default=1)
    options = parser.parse_args()
    pin(options.core)
    with asyncio.Runner(loop_factory=fast_loop()) as runner:
        runner.run(serve(options))


if __name__ == "__main__":
    main()
