"""What the engine needs of a transport: one attempt at a line. `http.py` makes it over HTTP, tests simulate it."""

from __future__ import annotations

from typing import Protocol

from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine


class Transport(Protocol):
    """Sends lines; `send` may run many times at once."""

    async def send(self, line: RequestLine) -> Reply | Failure:
        """Make one attempt at `line`. Never raises for what the network or the gateway does."""
        ...
