"""The coordinator of a job as an actor: all shards tell it how they go and get their leases, and the driver asks it.

1. It is an asynchronous actor that Ray starts anew wherever it dies. It keeps nothing: shards tell all anew, and the
   driver gives it again what only the driver has, as soon as it sees another `incarnation`.
2. A shard gets a lease only once the driver knows that it has begun. So the driver can tell the next coordinator of
   every shard that may still hold a lease.
3. The secrets of the job are here, in memory, for the workers that ask. They come by a call, which Ray does not keep.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import NamedTuple

from batchrun.cluster.coordinator import Coordinator, Promised
from batchrun.cluster.secrets import Secrets
from batchrun.cluster.shard import Order, Told
from batchrun.engine.observer import Status

STOPPED_BY_ALL = 3  # the exit code of a job that its shards stop: a limit of all is passed


class Heard(NamedTuple):
    """What the files of a shard say at a time `at` by the driver's clock: what it has `spent_usd` at worst, and what it
    has sent in the minute before, as (seconds ago, requests, tokens)."""

    spent_usd: Decimal
    recent: tuple[tuple[float, int, float], ...]
    at: float


@dataclass(frozen=True, slots=True)
class Held:
    """What only the driver knows.

    `secrets`: of the job. `order`: whether it is stopping. `promised`, `is_paused`: its limits, as tuned. `epoch`:
    greater than that of every coordinator before. `known`: the shards that may hold a lease, or whose spending is not
    known, and `quiet_s` for how many seconds no run log was written to, both for a coordinator that begins. `heard`:
    what the files say of shards that are not running. `now`: the driver's clock.
    """

    secrets: tuple[Secrets, ...]
    order: Order
    promised: Promised
    is_paused: bool
    epoch: int
    known: frozenset[int]
    quiet_s: float
    heard: Mapping[int, Heard]
    now: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the driver sees: who answers, the latest status of each shard that has told one since, lines for the
    screen with the number of their shard, the shards that have begun and that it may not know of, and those that no
    lease can be given for before somebody has read what they have spent (`unheard`)."""

    incarnation: str
    statuses: dict[int, Status]
    notices: list[tuple[int, str, bool]]
    begun: list[int]
    unheard: list[int]


class Desk:
    """The actor. Each method is called from another process."""

    def __init__(self) -> None:
        self._incarnation = secrets.token_hex(8)
        self._held: Held | None = None
        self._is_held = asyncio.Event()
        self._coordinator: Coordinator | None = None
        self._known = set[int]()
        self._begun = set[int]()
        self._statuses: dict[int, Status] = {}
        self._notices: list[tuple[int, str, bool]] = []

    async def hold(self, held: Held) -> bool:
        """Take what only the driver knows; True once it is taken."""
        now = time.monotonic()
        if self._coordinator is None:
            self._coordinator = Coordinator(
                held.promised, now, epoch=held.epoch, known=held.known, quiet_s=held.quiet_s
            )
            self._known |= held.known
        elif self._held is not None and (self._held.promised, self._held.is_paused) != (held.promised, held.is_paused):
            self._coordinator.change(held.promised, now, is_paused=held.is_paused)
        before = self._held.heard if self._held is not None else {}
        for shard, heard in held.heard.items():
            if before.get(shard) != heard:
                later_s = held.now - heard.at
                recent = [(age_s + later_s, count, tokens) for age_s, count, tokens in heard.recent]
                self._coordinator.heard(shard, heard.spent_usd, now, recent)
        self._held = held
        self._is_held.set()
        return True

    async def begin(self, number: int) -> tuple[Order, tuple[Secrets, ...]]:
        """Whether a shard may begin, and the secrets of the job; waits until the driver has told them."""
        await self._is_held.wait()
        assert self._held is not None, "it was told just now"
        if not self._held.order.stop:
            self._note_begun(number)
        return self._held.order, self._held.secrets

    async def tell(self, told: Told) -> Order:
        """A shard tells how it goes; what it is to do, and may do."""
        if told.status is not None:
            self._statuses[told.number] = told.status
        self._notices += [(told.number, text, is_detail) for text, is_detail in told.notices]
        self._note_begun(told.number)
        if self._held is None or self._coordinator is None:
            return Order()
        if told.report is None or told.number not in self._known:
            return self._held.order
        lease = self._coordinator.beat(told.report, time.monotonic())
        order = self._held.order
        if lease.stop and not order.stop:
            order = Order(lease.stop, STOPPED_BY_ALL)
        return Order(order.stop, order.exit_code, order.at_once, lease)

    async def look(self, known: Sequence[int]) -> Seen:
        """What the driver has not seen yet; it knows now that the shards `known` have begun."""
        self._known.update(known)
        self._begun.difference_update(known)
        unheard = sorted(self._coordinator.unheard) if self._coordinator is not None else []
        seen = Seen(self._incarnation, self._statuses, self._notices, sorted(self._begun), unheard)
        self._statuses, self._notices = {}, []
        return seen

    def _note_begun(self, number: int) -> None:
        if number not in self._known:
            self._begun.add(number)
