"""Who may ask the server for what: only the page that was opened with the token, in the browser of this machine.

1. The server listens on 127.0.0.1. Any page of the browser could ask it there, and any name could be made to lead to
   that address, so a request must name the host that was printed (DNS rebinding), and must not come from another page
   (`Origin`, `Sec-Fetch-Site`).
2. The token of the address becomes a cookie that no script reads and no other site sends, and leaves the address.
3. A change must be JSON, and have another secret in a header, which only a page of this server knows.
4. A browser is started with an address that works once: other users of the machine may see how programs are started.
5. Secrets are random, compared in constant time, and never written anywhere.
"""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field

TOKEN_BYTES = 32
SCRIPT_HEADER = "X-Batchrun-Token"
JSON = "application/json"
_OWN = ("same-origin", "none")
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
"""What every answer of the server has, beside its policy."""


class Refused(Exception):  # noqa: N818 (it is an answer, not a fault)
    """A request that gets nothing. `status`: of HTTP; the message is in words."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(message)


def _secret() -> str:
    return secrets.token_urlsafe(TOKEN_BYTES)


def _are_equal(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode(errors="replace"), secret.encode())


@dataclass(frozen=True, slots=True)
class Guard:
    """The secrets of one server, and what it refuses."""

    port: int
    token: str = field(default_factory=_secret, repr=False)
    script_token: str = field(default_factory=_secret, repr=False)
    _once: set[str] = field(default_factory=set, repr=False)

    @property
    def origin(self) -> str:
        """The address of the server, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> str:
        """The address to open, with the token."""
        return f"{self.origin}/?token={self.token}"

    def address_once(self) -> str:
        """An address to open that works once."""
        self._once.add(token := _secret())
        return f"{self.origin}/?token={token}"

    @property
    def cookie(self) -> str:
        """The name of its cookie: cookies do not know ports, and two servers may run."""
        return f"batchrun-{self.port}"

    def check_place(self, headers: Mapping[str, str], path: str) -> None:
        """Raise `Refused` for another host, also in the path (as a proxy is asked), and for what another page asks."""
        if headers.get("Host", "") != f"127.0.0.1:{self.port}" or not path.startswith("/"):
            raise Refused(421, "This server answers to 127.0.0.1 alone.")
        if headers.get("Origin", self.origin) != self.origin:
            raise Refused(403, "Another page asked for this.")

    def admit(self, token: str) -> None:
        """Raise `Refused` for a token that is none of an address, or was used up."""
        if token in self._once:
            self._once.discard(token)
        elif not _are_equal(token, self.token):
            raise Refused(403, "This address is not, or no longer, good. Open the one that batchrun view printed.")

    def check_reader(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> None:
        """Raise `Refused` for who has not opened the address with the token, and for pages of other servers here."""
        if headers.get("Sec-Fetch-Site", "none") not in _OWN:
            raise Refused(403, "Another page asked for this.")
        if not _are_equal(cookies.get(self.cookie, ""), self.token):
            raise Refused(403, "Open the address that batchrun view printed, with its token.")

    def check_change(self, headers: Mapping[str, str]) -> None:
        """Raise `Refused` for a change that no page of this server asks for."""
        if headers.get("Origin") is None:
            raise Refused(403, "Another page asked for this.")
        if not _are_equal(headers.get(SCRIPT_HEADER, ""), self.script_token):
            raise Refused(403, f"{SCRIPT_HEADER} is missing or wrong.")
        if headers.get("Content-Type", "").partition(";")[0].strip().lower() != JSON:
            raise Refused(415, f"A change must be {JSON}.")
