"""Connections that may carry a request: never one on which bytes have come that no request asked for.

A gateway that sends a second response to one request would have it taken for the answer to the next one: a success,
paid for, under the wrong line. What can be seen of that is refused here. What cannot be seen (bytes that come after
the next request has gone out) is named in docs/guarantees.md, with `--no-keepalive` as the way out.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

try:
    import fcntl
    import termios
except ImportError:  # Windows: only what the event loop has read is seen
    fcntl = None  # type: ignore[assignment]

KEEPALIVE_S = 30.0  # seconds that an idle connection is kept; gateways end theirs after about a minute


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections; a used one is looked at before it is used again.

    `keeps_alive` is False from the first stray byte on, or from the start: then no connection is used twice.
    `on_stray` is called at the first stray byte.
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
            assert protocol is not None, "a connection that was just handed out is open"
            if protocol not in self._used:
                self._used.add(protocol)
                return connection
            if self.keeps_alive and not self._has_strays(protocol):
                return connection
            connection.close()

    def _has_strays(self, protocol: ResponseHandler) -> bool:
        """Whether bytes have come on an idle connection, read by the event loop or still in the socket."""
        transport = protocol.transport
        if transport is None or not (protocol.should_close or _unread_bytes(transport.get_extra_info("socket"))):
            return False
        if transport.get_extra_info("ssl_object") is None or protocol.should_close:  # else it may be TLS saying goodbye
            self._note_stray()
        return True

    def _note_stray(self) -> None:
        if self.keeps_alive:
            self.keeps_alive = False
            self._on_stray()


def _unread_bytes(socket: object) -> int:
    """How many bytes wait in a socket; 0 where the system does not tell."""
    fileno = getattr(socket, "fileno", None)
    if fcntl is None or fileno is None:
        return 0
    waiting = array("i", [0])
    try:
        fcntl.ioctl(fileno(), termios.FIONREAD, waiting)
    except OSError:  # closed meanwhile: the next write tells
        return 0
    return waiting[0]
