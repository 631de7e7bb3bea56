"""The requests that the gateway got and what it billed, so that a test can compare a client's figures with them.

A request is billed once the model has begun a full answer, even if the delivery fails: a model does not stop when a
connection breaks. Refusals and faults without an answer cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec


class Usage(msgspec.Struct, frozen=True, gc=False):
    """Tokens of one answer or of many. `cached_tokens` are part of the input, `reasoning_tokens` of the output."""

    input_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Input and output together."""
        return self.input_tokens + self.output_tokens

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
        )


class LedgerRow(msgspec.Struct):
    """One request that arrived. Its key is not kept, only whether it had one."""

    sequence: int
    """The number of the request in order of arrival, from 1."""
    arrived_s: float
    """The time of arrival by the event loop, in seconds."""
    method: str
    path: str
    authorized: bool
    """Whether it had an Authorization header."""
    body_bytes: int = 0
    body_sha256: str = ""
    body: bytes | None = None
    """The bytes of the body, if `keep_bodies` is set."""
    attempt: int = 0
    """How often the same body has arrived, including this time; 0 if it was not read or is not counted."""
    model: str | None = None
    streamed: bool = False
    outcome: str = ""
    """The word of the script that was played, `ok`, or the code of the refusal."""
    status: int | None = None
    """The status of the answer; None if there was none."""
    billed: Usage | None = None
    delivered: bool = False
    """Whether every byte of the answer was written to the connection."""
    client_gone: bool = False
    """Whether the client closed the connection before that."""


class Ledger:
    """All requests of one gateway, in order of arrival."""

    def __init__(self, keep_rows: bool = True, keep_bodies: bool = False) -> None:
        self.rows: list[LedgerRow] = []
        self.requests = 0
        self.billed_requests = 0
        self.in_flight = 0
        self.peak_in_flight = 0
        self.statuses: dict[str, int] = {}
        self._keep_rows = keep_rows
        self._keep_bodies = keep_bodies
        self._billed = Usage()

    def open(self, now: float, method: str, path: str, authorized: bool) -> LedgerRow:
        """Note a request that has just arrived; call `close` once it is answered or its client is gone."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)
        row = LedgerRow(self.requests, now, method, path, authorized)
        if self._keep_rows:
            self.rows.append(row)
        return row

    def note_body(self, row: LedgerRow, body: bytes, sha256: str) -> None:
        """Note the body of a request."""
        row.body_bytes = len(body)
        row.body_sha256 = sha256
        if self._keep_bodies:
            row.body = body

    def bill(self, row: LedgerRow, usage: Usage) -> None:
        """Bill one full answer."""
        row.billed = usage
        self.billed_requests += 1
        self._billed += usage

    def close(self, row: LedgerRow) -> None:
        """Note that a request is over, however it ended."""
        self.in_flight -= 1
        status = "none" if row.status is None else str(row.status)
        self.statuses[status] = self.statuses.get(status, 0) + 1

    def billed_usage(self) -> Usage:
        """The sum of everything that was billed so far."""
        return self._billed

    def summary(self) -> dict[str, Any]:
        """The counters and sums, as values that JSON can express."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "billed_requests": self.billed_requests,
            "billed": msgspec.to_builtins(self._billed),
            "statuses": self.statuses,
        }

    def json_lines(self) -> Iterator[bytes]:
        """Every row as one line of JSON; bodies are base64."""
        for row in self.rows:
            yield msgspec.json.encode(row) + b"\n"
