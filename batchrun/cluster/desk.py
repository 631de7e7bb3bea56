"""The coordinator of a job: an actor to which all shards tell how they go, and which the driver asks.

1. It is an asynchronous actor that Ray starts anew wherever it dies. It keeps nothing: shards tell all anew, and the
   driver gives it again what only the driver has, as soon as it sees another `incarnation`.
2. The secrets of the job are here, in memory, for the workers that ask. They come by a call, which Ray does not keep.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass

from batchrun.cluster.secrets import Secrets
from batchrun.cluster.shard import Order, Told
from batchrun.engine.observer import Status


@dataclass(frozen=True, slots=True)
class Held:
    """What only the driver knows: the secrets of the job, and whether it is stopping."""

    secrets: tuple[Secrets, ...]
    order: Order


@dataclass(frozen=True, slots=True)
class Seen:
    """What the driver sees: who answers, the latest status of each shard that has told one since, lines for the
    screen with the number of their shard."""

    incarnation: str
    statuses: dict[int, Status]
    notices: list[tuple[int, str, bool]]


class Desk:
    """The actor. Each method is called from another process."""

    def __init__(self) -> None:
        self._incarnation = secrets.token_hex(8)
        self._held: Held | None = None
        self._is_held = asyncio.Event()
        self._statuses: dict[int, Status] = {}
        self._notices: list[tuple[int, str, bool]] = []

    async def hold(self, held: Held) -> None:
        """Take what only the driver knows."""
        self._held = held
        self._is_held.set()

    async def begin(self) -> tuple[Order, tuple[Secrets, ...]]:
        """Whether a shard may begin, and the secrets of the job; waits until the driver has told them."""
        await self._is_held.wait()
        assert self._held is not None, "it was told just now"
        return self._held.order, self._held.secrets

    async def tell(self, told: Told) -> Order:
        """A shard tells how it goes; what it is to do."""
        if told.status is not None:
            self._statuses[told.number] = told.status
        self._notices += [(told.number, text, is_detail) for text, is_detail in told.notices]
        return self._held.order if self._held is not None else Order()

    async def look(self) -> Seen:
        """What the driver has not seen yet."""
        seen = Seen(self._incarnation, self._statuses, self._notices)
        self._statuses, self._notices = {}, []
        return seen
