"""Where requests go: the address, the key, the headers and the proxy, and the checks that refuse unusable ones.

No message here repeats a key, a password or the value of a header.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from yarl import URL

from batchrun import checks
from batchrun.errors import UsageError

OFFICIAL = "https://api.openai.com/v1"
AUTHS = ("bearer", "api-key", "none")
_ENDPOINT = re.compile(r"(/responses|/chat/completions|/embeddings)$")
_VERSION = re.compile(r"/v[0-9][^/]*(/|$)")
_AZURE = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_SECRETS = "auth authorization key apikey token secret password cookie sig signature code credential"
_SECRET = re.compile(rf"(^|[-_.])({_SECRETS.replace(' ', '|')})($|[-_.])")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_OWN = (
    *("accept", "accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect"),
    *("host", "keep-alive", "proxy-authorization", "te", "trailer", "transfer-encoding", "upgrade"),
)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where to send, and as whom. The key, the secret headers and the proxy are left out of its `repr`.

    `base_url`: the gateway's address, by default that of the official API. `/v1` is added unless the address is
    complete: it has a version in its path (`/api/v3`), or a query, or it is the whole address of an endpoint.
    `api_key`: the key; it is sent to the host of `base_url` and nowhere else. Empty sends none.
    `proxy`: address of an HTTP proxy, which may hold a login; None connects directly.
    `keepalive`: whether a connection may carry more than one request.
    `auth`: how the key is sent: `bearer` (`Authorization: Bearer KEY`), `api-key` (`api-key: KEY`, Azure's) or `none`.
    `headers`: more headers, by name. `secret_headers`: headers whose values are kept as secret as the key.
    """

    base_url: str = OFFICIAL
    api_key: str = field(default="", repr=False)
    proxy: str | None = field(default=None, repr=False)
    keepalive: bool = True
    auth: str = "bearer"
    headers: Mapping[str, str] = field(default_factory=dict)
    secret_headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Raise `UsageError` for what is no text; no message repeats a key or a proxy."""
        checks.text("Endpoint.base_url", self.base_url, 'the gateway\'s address, such as "https://gateway.example/v1"')
        checks.settle(self, base_url=self.base_url.strip())
        if not isinstance(self.api_key, str):
            raise UsageError(f'Endpoint.api_key is a {type(self.api_key).__name__}; write a string, or "" for no key')
        if self.api_key:
            checks.settle(self, api_key=check_key(self.api_key, "Endpoint.api_key"))
        if not isinstance(self.proxy, str | None):
            raise UsageError("Endpoint.proxy is no string; write its address, such as http://proxy.example:3128")
        checks.flag("Endpoint.keepalive", self.keepalive)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must never be shown."""
        return (self.api_key, *self.secret_headers.values())

    @property
    def host(self) -> str:
        """Host and port of the base URL, without login, path and query: the `gateway` of a record."""
        return urlsplit(self.base_url).netloc.rpartition("@")[2]

    def url(self, path: str) -> str:
        """The whole address of `path` (one of `records.ENDPOINTS`)."""
        parts = urlsplit(self.base_url)
        whole = parts.path.rstrip("/")
        base = _ENDPOINT.sub("", whole)
        is_complete = base != whole or bool(_VERSION.search(base)) or bool(base and parts.query)
        if not is_complete and (parts.hostname or "").endswith(_AZURE) and base in ("", "/openai"):
            base, is_complete = "/openai" if parts.query else "/openai/v1", True
        return parts._replace(path=base + (path.removeprefix("/v1") if is_complete else path)).geturl()


def check_key(key: str, source: str) -> str:
    """Return the key without white space around it. Raises `UsageError`, which names `source` and never the key."""
    key = key.strip()
    if not key:
        raise UsageError(f"the key in {source} is empty")
    if len(key) > 1 and key[0] == key[-1] and key[0] in "'\"":  # as some readers of .env files leave them
        raise UsageError(f"the key in {source} stands in quotation marks; set it without them")
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
    if parts.username or parts.password or parts.fragment:
        raise UsageError(f"the base URL of {host} must not hold a user, password or fragment")
    if any(is_secret(name) for name, _ in parse_qsl(parts.query, keep_blank_values=True)):
        raise UsageError(f"the base URL of {host} holds a secret in its query; send it with --header-env NAME=VAR")
    if parts.scheme == "https" or insecure_http or _is_loopback(host):
        return None
    if _is_private(host):
        return f"warning: the key goes to {host} in the clear (http)"
    raise UsageError(f"http:// would send the key to {host} in the clear; use https://, or --insecure-http if you must")


def check_endpoint(endpoint: Endpoint) -> None:
    """Raise `UsageError` for an address, a way to send the key or a header that cannot work. http is accepted."""
    check_base_url(endpoint.base_url, insecure_http=True)
    if endpoint.auth not in AUTHS:
        raise UsageError(f"{endpoint.auth!r} is no way to send the key; write one of {', '.join(AUTHS)}")
    names = [*endpoint.headers, *endpoint.secret_headers]
    if twice := {name.lower() for name in names if sum(name.lower() == other.lower() for other in names) > 1}:
        raise UsageError(f"the header {sorted(twice)[0]} is given twice")
    for name, value in (*endpoint.headers.items(), *endpoint.secret_headers.items()):
        check_header(name, value)


def check_header(name: str, value: str) -> None:
    """Raise `UsageError` for a header that cannot be sent, without repeating its value."""
    if not _TOKEN.fullmatch(name):
        raise UsageError("a header is written Name: value, and its name is letters, digits and hyphens")
    if name.lower() in _OWN:
        raise UsageError(f"the header {name} is batchrun's own; leave it out")
    if not value.isascii() or not value.isprintable() or value != value.strip():
        raise UsageError(f"the value of the header {name} holds a line break or a non-ASCII character")


def is_secret(name: str) -> bool:
    """Whether what goes by that name, in a header or a query, is a secret by all appearances."""
    return _SECRET.search(name.lower()) is not None


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
