"""A server that says exactly the bytes it is told, for what no HTTP library would let a test send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

KEY = "sk-canary-0123456789abcdef"
TEXT = "Grüße, 世界 🌍"
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-4.1",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": TEXT}]}],
    "usage": {"input_tokens": 7, "output_tokens": 5, "total_tokens": 12},
}
BODY = json.dumps(RESPONSE, ensure_ascii=False).encode()


@dataclass(frozen=True)
class Asked:
    """One request as it came."""

    head: str
    body: bytes

    @property
    def target(self) -> str:
        return self.head.split(" ", 2)[1]

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            key, _, value = line.partition(": ")
            if key.lower() == name.lower():
                return value
        return None


Say = Callable[[asyncio.StreamWriter, Asked], Awaitable[None]]
Answer = bytes | Say


class Hostile:
    """Answers the n-th request with the n-th answer, and the last one for ever; then it hangs up.

    An answer is the raw bytes, or a coroutine function that writes what it likes.
    """

    def __init__(self, *answers: Answer, ssl: Any = None) -> None:
        self.asked: list[Asked] = []
        self.connections = 0
        self.in_flight = self.peak_in_flight = 0
        self._answers = answers
        self._ssl = ssl
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Hostile:
        self.port = 0
        await self.listen()
        self.base_url = f"http{'s' if self._ssl else ''}://127.0.0.1:{self.port}/v1"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.vanish()

    async def listen(self) -> None:
        """Take connections, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, ssl=self._ssl, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]

    async def vanish(self) -> None:
        """Refuse connections, and break those there are."""
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            asked = await _read_request(reader)
            self.asked.append(asked)
            self.in_flight += 1
            self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
            try:
                answer = self._answers[min(len(self.asked), len(self._answers)) - 1]
                if isinstance(answer, bytes):
                    writer.write(answer)
                    await writer.drain()
                else:
                    await answer(writer, asked)
            finally:
                self.in_flight -= 1
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()
            with contextlib.suppress(Exception):
                await writer.wait_closed()


async def _read_request(reader: asyncio.StreamReader) -> Asked:
    head = (await reader.readuntil(b"\r\n\r\n")).decode().removesuffix("\r\n\r\n")
    asked = Asked(head, b"")
    length = int(asked.header("Content-Length") or 0)
    return Asked(head, await reader.readexactly(length))


def http(body: bytes = BODY, status: int = 200, content_type: str = "application/json", **headers: str) -> bytes:
    """A whole answer; `_` in a header's name stands for `-`."""
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode("latin-1") + body


def chunked(*pieces: bytes, content_type: str = "application/json", end: bytes = b"0\r\n\r\n", **headers: str) -> bytes:
    """A chunked answer, one chunk a piece; `end` is what closes it."""
    more = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\n{more}Connection: close\r\n"
    head += "Transfer-Encoding: chunked\r\n\r\n"
    return head.encode() + b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces) + end


def event(name: str, **fields: Any) -> bytes:
    """One server-sent event of the Responses API."""
    data = json.dumps({"type": name, **fields}, ensure_ascii=False)
    return f"event: {name}\ndata: {data}\n\n".encode()


def whole_stream(text: str = TEXT, **terminal: Any) -> list[bytes]:
    """The events of a stream that ends well."""
    started = {**RESPONSE, "status": "in_progress", "output": [], "usage": None}
    return [
        event("response.created", response=started),
        *(event("response.output_text.delta", item_id="m", output_index=0, content_index=0, delta=c) for c in text),
        event("response.completed", response={**RESPONSE, **terminal}),
    ]


def sse(*pieces: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    """A stream as an answer, one chunk a piece."""
    return chunked(*pieces, content_type="text/event-stream; charset=utf-8", end=end)


async def reset(writer: asyncio.StreamWriter, _: Asked) -> None:
    """Break the connection with RST."""
    duplicate = socket.socket(fileno=socket.dup(writer.get_extra_info("socket").fileno()))
    with duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def then_reset(first: bytes) -> Say:
    """Say this much, wait until it has been read, then break the connection."""

    async def say(writer: asyncio.StreamWriter, asked: Asked) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.02)  # RST throws away what the peer has not read yet
        await reset(writer, asked)

    return say


async def silence(writer: asyncio.StreamWriter, _: Asked) -> None:
    """Say nothing, for ever."""
    await asyncio.get_running_loop().create_future()


def then_silence(first: bytes) -> Say:
    """Say this much, and nothing more."""

    async def say(writer: asyncio.StreamWriter, asked: Asked) -> None:
        writer.write(first)
        await silence(writer, asked)

    return say


def slowly(first: bytes, piece: bytes, every_s: float) -> Say:
    """Say `first`, then `piece` again and again, for ever."""

    async def say(writer: asyncio.StreamWriter, _: Asked) -> None:
        writer.write(first)
        while True:
            await asyncio.sleep(every_s)
            writer.write(piece)
            await writer.drain()

    return say


def free_port() -> int:
    """A loopback port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
