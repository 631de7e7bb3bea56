"""The HTTP client, opened: aiohttp's own, by its public options. The only module that opens one.

1. The environment's proxies are not used, no cookie is kept.
2. The headers here are the same for every gateway and hold no secret: aiohttp sends them to a proxy as well.
3. Replacing parts of aiohttp does not pay. Without its copying of a request's headers, its default headers, its
   wrapping of bodies and its cookies a request takes 1.6 %, 0 %, 0.5 % and 0 % fewer instructions, 3 % together
   (valgrind, over whole runs of `batchrun run`): aiohttp does all of that itself.
"""

from __future__ import annotations

import aiohttp
from multidict import CIMultiDict, istr

from batchrun.transport.connections import Connector
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.redact import Secret
from batchrun.version import __version__


def open_session(connector: Connector) -> aiohttp.ClientSession:
    """A session for JSON requests to one gateway; whoever opens it closes it."""
    return aiohttp.ClientSession(
        connector=connector,
        headers={  # the names as `istr`, which aiohttp need not fold for each request
            istr("Content-Type"): "application/json",
            istr("Accept"): "application/json",
            istr("Accept-Encoding"): "gzip, deflate",
            istr("User-Agent"): f"batchrun/{__version__}",
        },
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # `deadlines.py` has all of them
        auto_decompress=False,  # `unpacking.py` does it: headers are wrong now and then
        trust_env=False,
        read_bufsize=1 << 18,
        max_field_size=1 << 16,
    )


def request_headers(endpoint: Endpoint) -> CIMultiDict[str]:
    """The headers that only the gateway gets, with its key. A header that the user gives replaces the same one."""
    headers = CIMultiDict[str]()
    if endpoint.api_key and endpoint.auth == "bearer":
        headers[istr("Authorization")] = Secret(f"Bearer {endpoint.api_key}")
    if endpoint.api_key and endpoint.auth == "api-key":
        headers[istr("api-key")] = Secret(endpoint.api_key)
    for name, value in endpoint.headers.items():
        headers[name] = value
    for name, value in endpoint.secret_headers.items():
        headers[name] = Secret(value)
    return headers
