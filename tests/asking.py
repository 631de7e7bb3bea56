"""Ways for tests to ask a gateway: by aiohttp, over a raw socket, under virtual time."""

import asyncio
import io
import json
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from itertools import accumulate
from typing import Any

import aiohttp
import looptime

from batchrun.simulator.app import Gateway

Json = dict[str, Any]

PLAIN: Json = {"model": "gpt-4.1", "input": "hi"}
STREAM: Json = PLAIN | {"stream": True}


class Answered:
    """An answer that has been read to its end."""

    def __init__(self, reply: aiohttp.ClientResponse, body: bytes) -> None:
        self.status, self.headers, self.body = reply.status, reply.headers, body

    @property
    def error(self) -> Json:
        error: Json = json.loads(self.body)["error"]
        return error


async def send(
    gateway: Gateway,
    body: Any = PLAIN,
    path: str = "/v1/responses",
    method: str = "POST",
    key: str | None = None,
) -> Answered:
    """One request by aiohttp; `body` may be bytes, to be sent as they are."""
    headers = {} if key is None else {"Authorization": f"Bearer {key}"}
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, gateway.root_url + path, data=io.BytesIO(data), headers=headers) as reply,
    ):
        return Answered(reply, await reply.read())


async def exchange(gateway: Gateway, body: Json, path: str = "/v1/responses") -> bytes:
    """One request over a fresh socket; everything that comes back until the connection ends."""
    reader, writer = await asyncio.open_connection("127.0.0.1", int(gateway.root_url.rpartition(":")[2]))
    try:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(data)}\r\n\r\n"
        writer.write(head.encode() + data)
        return await reader.read()
    finally:
        writer.close()


def parsed(answer: bytes) -> tuple[int, dict[str, str], bytes]:
    """Status, headers in lower case, and the body with its chunks put together, as far as they go."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        whole = b""
        while body:
            size, _, body = body.partition(b"\r\n")
            whole += body[: int(size or b"0", 16)]
            body = body[int(size or b"0", 16) + 2 :]
        body = whole
    return int(status.split()[1]), headers, body


async def until(holds: Callable[[], bool]) -> None:
    """Give the event loop its turns until this holds, for 5 seconds at most."""
    async with asyncio.timeout(5):
        while not holds():  # noqa: ASYNC110 - the gateway has no event to wait for
            await asyncio.sleep(0)


def in_virtual_time(test: Callable[[], Awaitable[None]]) -> None:
    """Run an asynchronous test in a loop whose waits take no time."""

    async def run() -> None:
        await test()

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(run())


def most_in_a_minute(times: list[float], amounts: list[float]) -> float:
    """The most that was taken in any 60 s."""
    sums = [0.0, *accumulate(amounts)]
    return max(sums[bisect_right(times, time + 59.999)] - sums[i] for i, time in enumerate(times))
