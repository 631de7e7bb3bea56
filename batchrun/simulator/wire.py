"""Sends a reply over the connection, whole or in one of the ways in which connections fail."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from collections.abc import Awaitable, Callable

from aiohttp import web

from batchrun.simulator.replies import PING, Delivery, Reply

PING_INTERVAL_S = 0.1
"""Seconds between the comments of a stream that has nothing else."""
DRIP_INTERVAL_S = 1.0
"""Seconds between the bytes of an answer that is sent byte by byte."""
_SPLIT_MOST_PIECES = 4000


async def deliver(request: web.BaseRequest, reply: Reply, latency_s: float) -> web.StreamResponse:
    """Send the reply within `latency_s` seconds. Returns the response that aiohttp expects; it is already sent."""
    if reply.delivery is Delivery.RESET:
        return _reset(request)
    if reply.delivery is Delivery.STALL:
        await _silence()
    if reply.delivery is Delivery.PINGS:
        return await _ping_for_ever(request, reply)
    if reply.delivery is not Delivery.WHOLE:
        await asyncio.sleep(latency_s)
        return await _MANNERS[reply.delivery](request, reply)
    if reply.streamed:
        return await _stream(request, reply, latency_s)
    if latency_s:
        await asyncio.sleep(latency_s)
    response = web.Response(status=reply.status, body=reply.parts[0], headers=_headers(reply))
    await response.prepare(request)
    await response.write_eof()
    return response


def _headers(reply: Reply) -> dict[str, str]:
    return {"Content-Type": reply.content_type, **reply.headers}


async def _silence() -> None:
    """Wait until this is cancelled: the client closes the connection, or the gateway closes."""
    await asyncio.get_running_loop().create_future()


def _transport(request: web.BaseRequest) -> asyncio.Transport:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client hung up")
    return transport


def _reset(request: web.BaseRequest) -> web.StreamResponse:
    transport = _transport(request)
    # A linger time of 0 makes the kernel send RST instead of FIN. The option belongs to the connection, so it can be
    # set on a duplicate; that also works with event loops that do not expose their socket.
    with socket.socket(fileno=socket.dup(transport.get_extra_info("socket").fileno())) as duplicate:
        duplicate.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
    return web.Response()


async def _opened(request: web.BaseRequest, reply: Reply, length: int | None) -> web.StreamResponse:
    """Send the head of an answer with this length, or with chunked encoding if it is None."""
    response = web.StreamResponse(status=reply.status, headers=_headers(reply))
    if length is None:
        response.enable_chunked_encoding()
    else:
        response.content_length = length
    await response.prepare(request)
    return response


async def _stream(request: web.BaseRequest, reply: Reply, latency_s: float) -> web.StreamResponse:
    response = await _opened(request, reply, None)
    if latency_s:
        pause_s = latency_s / len(reply.parts)
        for part in reply.parts:
            await asyncio.sleep(pause_s)
            await response.write(part)
    else:
        await response.write(b"".join(reply.parts))
    await response.write_eof()
    return response


async def _ping_for_ever(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = await _opened(request, reply, None)
    while True:
        await response.write(PING)
        await asyncio.sleep(PING_INTERVAL_S)


async def _half(request: web.BaseRequest, reply: Reply, chunked: bool) -> tuple[web.StreamResponse, bytes]:
    """Send the head and the first half of the body, and return the other half."""
    body = b"".join(reply.parts)
    response = await _opened(request, reply, None if chunked or reply.streamed else len(body))
    middle = len(body) // 2
    await response.write(body[:middle])
    return response, body[middle:]


async def _cut(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response, _ = await _half(request, reply, chunked=False)
    _transport(request).close()
    return response


async def _cut_chunk(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response, rest = await _half(request, reply, chunked=True)
    transport = _transport(request)
    transport.write(b"%x\r\n" % len(rest) + rest[: len(rest) // 2])
    transport.close()
    return response


async def _hang(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response, _ = await _half(request, reply, chunked=False)
    await _silence()
    return response


async def _drip(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    body = b"".join(reply.parts)
    response = await _opened(request, reply, None if reply.streamed else len(body))
    for index in range(len(body)):
        await response.write(body[index : index + 1])
        await asyncio.sleep(DRIP_INTERVAL_S)
    await response.write_eof()
    return response


async def _split(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    body = b"".join(reply.parts)
    response = await _opened(request, reply, None if reply.streamed else len(body))
    rng = random.Random(len(body))
    largest = max(7, 2 * len(body) // _SPLIT_MOST_PIECES)
    start = 0
    while start < len(body):
        end = start + rng.randint(1, largest)
        await response.write(body[start:end])
        # Let the event loop run once, so that a client in the same loop can read this piece alone.
        await asyncio.sleep(0)
        start = end
    await response.write_eof()
    return response


_MANNERS: dict[Delivery, Callable[[web.BaseRequest, Reply], Awaitable[web.StreamResponse]]] = {
    Delivery.CUT: _cut,
    Delivery.CUT_CHUNK: _cut_chunk,
    Delivery.HANG: _hang,
    Delivery.DRIP: _drip,
    Delivery.SPLIT: _split,
}
