"""What this machine says about a connection that cannot be made: a proxy that is not used, trusted certificates."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from batchrun.records.outcome import FailureCode
from batchrun.transport.endpoint import Endpoint


def hints(endpoint: Endpoint) -> Mapping[FailureCode, str]:
    """What to add to the message of a failure, by its code."""
    found = {FailureCode.CERTIFICATE_REFUSED: _certificate_hint()}
    if endpoint.proxy is None and (host := _unused_proxy(endpoint.base_url)):
        proxy = f" (the environment's proxy {host} is not used; --proxy URL uses one)"
        found |= dict.fromkeys((FailureCode.DNS_FAILED, FailureCode.CONNECT_FAILED, FailureCode.CONNECT_TIMEOUT), proxy)
    return found


def _unused_proxy(base_url: str) -> str | None:
    """The host of the proxy that other programs would use for this address; without its login."""
    parts, proxies = urlsplit(base_url), getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy.rpartition("@")[2].partition("://")[2].strip("/") or proxy.rpartition("@")[2].strip("/")


def _certificate_hint() -> str:
    paths = ssl.get_default_verify_paths()
    trusted = paths.cafile or paths.capath or "no file"
    return f" (trusted is what is in {trusted}; {paths.openssl_cafile_env}=FILE names another file)"
