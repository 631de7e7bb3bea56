"""Connections that may carry a request: never one on which bytes have come that no request asked for.

A gateway that sends a second response to one request would have it taken for the answer to the next one: a success,
paid for, under the wrong line. What can be seen of that is refused here. What cannot be seen (bytes that come after
the next request has gone out) is named in docs/guarantees.md, with `--no-keepalive` as the way out.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import Callable
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection

from batchrun.transport.deadlines import Deadline, Deadlines

try:
    import fcntl
    import termios
except ImportError:  # Windows: only what the event loop has read is seen
    fcntl = None  # type: ignore[assignment]

BROKEN = (aiohttp.ClientError, OSError, ValueError)  # what reading raises for a connection or framing that is broken
KEEPALIVE_S = 30.0  # seconds that an idle connection is kept; gateways end theirs after about a minute


class Connector(aiohttp.TCPConnector):
    """aiohttp's pool of connections; a used one is looked at before it is used again.

    `keeps_alive` is False from the first stray byte on, or from the start: then no connection is used twice.
    `on_stray` is called at the first stray byte. `connecting` limits how long a new connection may take.
    """

    def __init__(
        self, on_stray: Callable[[], None], *, keeps_alive: bool = True, connecting: Deadlines | None = None
    ) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEPALIVE_S)  # the limiter has the limit
        self._connecting = connecting
        self.keeps_alive = keeps_alive
        self._on_stray = on_stray
        self._forget_at = 64
        self._sockets: dict[ResponseHandler, int] = {}  # file descriptors of the connections in use, and in the pool

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Connection:
        """A new connection, or a used one on which nothing has come since its last answer."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            assert protocol is not None, "a connection that was just handed out is open"
            descriptor = self._sockets.get(protocol)
            if descriptor is None:
                self._remember(protocol)
                return connection
            if self.keeps_alive and not protocol.should_close and not _unread_bytes(descriptor):
                return connection
            self._note_stray(protocol)
            connection.close()

    async def _create_connection(self, req: Any, traces: Any, timeout: Any) -> ResponseHandler:
        """A new connection, or `TimeoutError`. The deadline is ours because aiohttp's runs on while this process stands
        still, although the connection may have been made meanwhile."""
        if self._connecting is None:
            return await super()._create_connection(req, traces, timeout)
        deadline = Deadline()
        self._connecting.begin(deadline)
        try:
            return await super()._create_connection(req, traces, timeout)
        except asyncio.CancelledError:
            if not deadline.ran_out():
                raise
            raise TimeoutError from None
        finally:
            self._connecting.end(deadline)

    def _remember(self, protocol: ResponseHandler) -> None:
        """A new connection. Those that have ended are forgotten now and then."""
        if len(self._sockets) >= self._forget_at:
            self._sockets = {known: fd for known, fd in self._sockets.items() if known.is_connected()}
            self._forget_at = 2 * len(self._sockets) + 64
        socket = protocol.transport.get_extra_info("socket") if protocol.transport is not None else None
        self._sockets[protocol] = socket.fileno() if socket is not None else -1

    def _note_stray(self, protocol: ResponseHandler) -> None:
        transport = protocol.transport
        is_tls = transport is not None and transport.get_extra_info("ssl_object") is not None
        if self.keeps_alive and (protocol.should_close or not is_tls):  # what waits under TLS may be its goodbye
            self.keeps_alive = False
            self._on_stray()


_WAITING = array("i", [0])


def _unread_bytes(descriptor: int) -> int:
    """How many bytes wait in a socket; 0 where the system does not tell."""
    if fcntl is None or descriptor < 0:
        return 0
    try:
        fcntl.ioctl(descriptor, termios.FIONREAD, _WAITING)
    except OSError:  # closed meanwhile: the next write tells
        return 0
    return _WAITING[0]


def salvaged(content: object) -> bytes:
    """What came before the error that ended a body; nothing if it is no body of aiohttp's."""
    if not isinstance(content, aiohttp.StreamReader):
        return b""
    content.set_exception(cast("BaseException", None))  # it keeps what came before it from being read
    return content.read_nowait()
