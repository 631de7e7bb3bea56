"""Where requests go: the address, the key and the proxy, and the checks that refuse unusable ones.

No message here repeats a key or a password.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from yarl import URL

from batchrun import checks
from batchrun.errors import UsageError


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, and as whom. The key and the proxy are left out of its `repr`.

    `base_url`: the gateway's address, with or without `/v1`, with or without a slash at the end.
    `api_key`: the key; it is sent to the host of `base_url` and nowhere else. Empty sends none.
    `proxy`: address of an HTTP proxy, which may hold a login; None connects directly.
    `keepalive`: whether a connection may carry more than one request.
    """

    base_url: str
    api_key: str = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)
    keepalive: bool = True

    def __post_init__(self) -> None:
        """Raise `UsageError` for what is no text; no message repeats a key or a proxy."""
        checks.text("Endpoint.base_url", self.base_url, 'the gateway\'s address, such as "https://gateway.example/v1"')
        if not isinstance(self.api_key, str):
            raise UsageError(f'Endpoint.api_key is a {type(self.api_key).__name__}; write a string, or "" for no key')
        if self.api_key:
            checks.settle(self, api_key=check_key(self.api_key, "Endpoint.api_key"))
        if not isinstance(self.proxy, str | None):
            raise UsageError("Endpoint.proxy is no string; write its address, such as http://proxy.example:3128")
        checks.flag("Endpoint.keepalive", self.keepalive)

    @property
    def host(self) -> str:
        """Host and port of the base URL, without login, path and query: the `gateway` of a record."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def url(self, path: str) -> str:
        """The whole address of `path` (one of `records.ENDPOINTS`)."""
        base = self.base_url.rstrip("/")
        for ending in ("/responses", "/v1"):
            base = base.removesuffix(ending).rstrip("/")
        return base + path


def check_key(key: str, source: str) -> str:
    """Return the key without white space around it. Raises `UsageError`, which names `source` and never the key."""
    key = key.strip()
    if not key:
        raise UsageError(f"the key in {source} is empty")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError(f"the key in {source} holds a line break, a space or a non-ASCII character; set it again")
    return key


def check_base_url(url: str, *, insecure_http: bool = False) -> str | None:
    """Return a warning if the key would cross a private network unencrypted. Raises `UsageError` if unusable."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        URL(url)  # which refuses more: it is what sends
    except ValueError:
        host = ""
    if ":" not in host and not all(0 < len(label) < 64 for label in host.removesuffix(".").split(".")):
        host = ""  # no name can be so (RFC 1035); looked up, it would seem that the gateway is gone
    if not host or parts.scheme not in ("http", "https") or not url.isprintable() or " " in url:
        raise UsageError("the base URL must look like https://gateway.example/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise UsageError(f"the base URL of {host} must not hold a user, password, query or fragment")
    if parts.scheme == "https" or insecure_http or _is_loopback(host):
        return None
    if _is_private(host):
        return f"warning: the key goes to {host} in the clear (http)"
    raise UsageError(f"http:// would send the key to {host} in the clear; use https://, or --insecure-http if you must")


def check_proxy(url: str) -> None:
    """Raise `UsageError` for what is not an HTTP proxy's address, without repeating it: it may hold a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise UsageError("the proxy must look like http://proxy.example:3128")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_private(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_private
    except ValueError:
        return False
