"""Why one of several endpoints gets no lines, for the bar and the report. Pure."""

from __future__ import annotations

from batchrun.engine.dispatcher import Dispatcher
from batchrun.engine.gateways import Gateway
from batchrun.limits.limited_by import LimitedBy


def why_idle(dispatcher: Dispatcher, name: str) -> LimitedBy | None:
    """Why an endpoint gets no lines but probes; None if it has some, or if they are done."""
    gateway = next(gateway for gateway in dispatcher.gateways if gateway.name == name)
    if gateway.shut_since is not None:
        return LimitedBy.SHUT
    its_peers = [peers for peers in dispatcher if peers.gateway is gateway]
    if any(peers.breaker.is_open for peers in its_peers) and not any(peers.is_open for peers in its_peers):
        return LimitedBy.OUTAGE
    if _has_lines(gateway) or (dispatcher.is_done and gateway.has_had_lines):
        return None
    return LimitedBy.LOWER_TIER if any(map(dispatcher.has_lower_tier, its_peers)) else LimitedBy.NO_LINES


def _has_lines(gateway: Gateway) -> bool:
    return any(limits.taken or limits.in_flight for limits in gateway.limiter.lanes.limits)
