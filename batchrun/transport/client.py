"""The HTTP client, opened: aiohttp's, without what every request would do again. The only module that opens one.

1. The environment's proxies are not used, no cookie is kept.
2. The key goes into one header of a request and nowhere else: no proxy is told it.
3. What aiohttp does for each request with the same headers and bodies' wrappings is done once. Where a later aiohttp
   does not ask `_Request` any more, requests go out all the same, at aiohttp's own cost; without the key, though.
"""

from __future__ import annotations

from collections.abc import Iterable
from http.cookies import SimpleCookie
from typing import Any

import aiohttp
from aiohttp.abc import AbstractStreamWriter
from aiohttp.typedefs import LooseHeaders
from multidict import CIMultiDict
from yarl import URL

from batchrun.records.request import RESPONSES
from batchrun.transport.endpoint import Endpoint
from batchrun.version import __version__


def open_session(endpoint: Endpoint, connect_timeout_s: float) -> aiohttp.ClientSession:
    """A session for requests to `endpoint`; whoever opens it closes it."""

    headers = {
        "Host": str(URL(endpoint.url(RESPONSES)).host_port_subcomponent),
        "Content-Type": "application/json",
        "Accept": "application/json",
        "Accept-Encoding": "gzip, deflate",
        "User-Agent": f"batchrun/{__version__}",
    }
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),  # the limiter has the limit
        headers=headers,
        request_class=_Request,
        cookie_jar=_NoCookies(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_timeout_s),
        trust_env=False,
        read_bufsize=1 << 18,
        max_field_size=1 << 16,
    )


class _NoCookies(aiohttp.DummyCookieJar):
    """Keeps none, and makes no empty jar for each request either."""

    _none = SimpleCookie()

    def filter_cookies(self, _: object) -> SimpleCookie:
        """None."""
        return self._none


class _Body(aiohttp.Payload):
    """The bytes of a line. aiohttp's own kind makes headers for each, which are the session's already."""

    _HEADERS = CIMultiDict({"Content-Type": "application/json"})

    def __init__(self, body: bytes) -> None:
        self._body = body

    @property
    def headers(self) -> CIMultiDict[str]:
        """Those that go without saying."""
        return self._HEADERS

    @property
    def size(self) -> int:
        """Bytes."""
        return len(self._body)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """As text."""
        return self._body.decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send it whole."""
        await writer.write(self._body)


class _Request(aiohttp.ClientRequest):
    """Has the session's headers as they are: aiohttp puts them in anew, one by one, for each request."""

    def update_headers(self, headers: LooseHeaders | None) -> None:
        """The session has made this copy of its headers for this request, `Host` among them."""
        if isinstance(headers, CIMultiDict) and "Host" in headers:
            self.headers = headers
        else:
            super().update_headers(headers)

    def update_auto_headers(self, _: Iterable[str] | None) -> None:
        """None are missing."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """A small body is sent as it is; a large one is a file, which aiohttp sends piece by piece."""
        super().update_body_from_data(_Body(body) if isinstance(body, bytes) else body, _stacklevel)
