"""Connections that may carry a request: never one on which bytes have come that nothing asked for.

A gateway that sends a second response to one request would have it taken for the answer to the next one: a success,
paid for, under the wrong line. What can be seen of that is refused here; what cannot (bytes that come after the next
request has gone out) is named in docs/guarantees.md, with `--no-keepalive` as the way out.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

KEEPALIVE_S = 30.0


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool, whose used connections are looked at before they are used again.

    `keeps_alive` is False once a stray byte has been seen, or from the start: then no connection is used twice.
    `on_stray` is called at the first stray.
    """

    def __init__(self, on_stray: Callable[[], None], *, keeps_alive: bool = True) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S)  # the limiter has the limit
        self.keeps_alive = keeps_alive
        self._on_stray = on_stray
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(self, *arguments: object, **more: object) -> Connection:
        """A new connection, or a used one on which nothing has come since its last answer."""
        while True:
            connection: Connection = await super().connect(*arguments, **more)  # type: ignore[arg-type]
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                if protocol is not None:
                    self._used.add(protocol)
                return connection
            if self.keeps_alive and not self._has_come(protocol):
                return connection
            connection.close()

    def _has_come(self, protocol: ResponseHandler) -> bool:
        """Whether anything has come on an idle connection: bytes that nobody asked for, or its end."""
        if protocol.should_close:  # the event loop has read them
            self._stray()
            return True
        waiting = _peek(protocol)
        if waiting:
            self._stray()
        return waiting is not None

    def _stray(self) -> None:
        if self.keeps_alive:
            self.keeps_alive = False
            self._on_stray()


def _peek(protocol: ResponseHandler) -> bytes | None:
    """The first byte that waits in the socket; b"" at its end, or where TLS hides what it is; None where none waits."""
    transport = protocol.transport
    if transport is None or transport.is_closing():
        return b""
    ours = transport.get_extra_info("socket")
    if ours is None:
        return None
    theirs = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fileno=ours.fileno())
    try:
        byte = theirs.recv(1, socket.MSG_PEEK)
    except OSError:  # nothing there (the socket does not block), or broken, which the next write tells
        return None
    finally:
        theirs.detach()
    return b"" if transport.get_extra_info("ssl_object") is not None else byte
