"""Pauses, as the user sees them: said where nothing is sent for a while, for one model or at all."""

from __future__ import annotations

import math
from collections.abc import Callable

from batchrun.engine.attribution import Peers
from batchrun.engine.observer import Observer
from batchrun.records.outcome import Failure, describe

LONG_PAUSE_S = 3.0
TELL_PAUSE_EVERY_S = 60.0


class Pauses:
    """Says that nothing is sent for a while; again if it lasts."""

    def __init__(self, observer: Observer, now: Callable[[], float]) -> None:
        self._observer, self._now = observer, now
        self._told_at, self._longest_told_s = -math.inf, 0.0

    def tell(self, failure: Failure, peers: Peers) -> None:
        """A request to these peers was refused as too fast."""
        lane, gateway = peers.lane, peers.gateway
        until, now = max(lane.limits.controller.paused_until, lane.held_until), self._now()
        is_longer = until - now > 1.5 * self._longest_told_s
        if lane.is_closed or until - now < LONG_PAUSE_S or not (is_longer or now > self._told_at + TELL_PAUSE_EVERY_S):
            return
        self._told_at, self._longest_told_s = now, until - now
        is_of_all = len(gateway.limiter.lanes.limits) == 1 and until > lane.held_until
        whom = ([] if is_of_all else [lane.model]) + ([] if gateway.name is None else [gateway.name])
        shown = f" {' at '.join(whom)}" if whom else ""
        self._observer.notice(f"pausing{shown} for {until - now:.0f} s: {describe(failure)}")
