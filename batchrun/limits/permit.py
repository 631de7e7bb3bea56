"""The right to send one attempt, and a worker that waits for one."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import msgspec

from batchrun.limits.controller import Sent
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.lanes import Lane
from batchrun.limits.quotas import Reserved


class Permit(msgspec.Struct, gc=False):
    """The right to send one attempt in `lane`. `cost_usd` is what it cost, `upper_usd` until that is known."""

    lane: Lane
    endpoint: EndpointLimits
    sent: Sent
    upper_usd: Decimal
    cost_usd: Decimal
    tokens: Reserved | None
    tokens_of_whole: Reserved | None = None


class Waiter(msgspec.Struct, gc=False):
    """A worker that waits, in the `order` of asking."""

    order: int
    turn: asyncio.Future[Permit | None]
    tokens: float
    upper_usd: Decimal
