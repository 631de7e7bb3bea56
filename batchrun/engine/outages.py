"""Outages, as the user sees them: said once they last, over when something succeeds, given up after a while."""

from __future__ import annotations

import math
from collections.abc import Callable

from batchrun.engine.attribution import Peers
from batchrun.engine.dispatcher import Dispatcher
from batchrun.engine.observer import Observer
from batchrun.engine.stopping import why_none_is_left
from batchrun.limits.options import Limits
from batchrun.results.events import Back, Event, Outage

TELL_AFTER_S = 2.0  # a hiccup is over by then
SURE_AFTER_S = 30.0  # half of all requests may fail by chance, and so may some probes in a row
NEVER_ANSWERED_S = 120.0  # people start the server and the job together


class Outages:
    """Watches the circuit breakers."""

    def __init__(self, dispatcher: Dispatcher, observer: Observer, log: Callable[[Event], None]) -> None:
        self._dispatcher = dispatcher
        self._observer = observer
        self._log = log
        self._told: dict[Peers, str] = {}

    def longest_s(self, limits: Limits) -> float:
        """How many seconds an outage may last."""
        is_waited_for = (peers for peers in self._dispatcher if not peers.is_closed)
        if limits.max_outage_s is None and not any(peers.gateway.has_answered for peers in is_waited_for):
            return NEVER_ANSWERED_S
        return limits.longest_outage_s

    def look(self, now: float, limits: Limits) -> str | None:
        """Say what begins and what is over; returns why the run should stop, or None."""
        for gateway in self._dispatcher.gateways:
            if gateway.may_spend_more:
                gateway.open()
                self._observer.notice(f"{gateway.name} is back: its max_cost_usd was raised")
                self._log(Back(gateway.name))
        for peers in self._dispatcher:
            since = peers.breaker.open_since
            if since is not None and peers not in self._told and now >= self._tell_at(peers, since):
                who = self._who(peers)
                if peers.gateway.name is None or who not in self._told.values():  # of an endpoint it is said once
                    self._tell(peers, who, limits)
                self._told[peers] = who
            elif since is None and peers in self._told:
                who = self._told.pop(peers)
                if peers.gateway.name is None:
                    who = self._who(peers)
                if peers.gateway.name is None or who not in self._told.values():
                    self._observer.notice(f"{who} is back")
                    self._log(Back(peers.gateway.name))
        begun = self._stuck_since()
        longest_s = self.longest_s(limits)
        if begun is None or now - begun < longest_s:
            return None
        queue = self._dispatcher.remaining()[0]
        if queue.only is None:
            return why_none_is_left(self._dispatcher.left(), now)
        why = queue.only.breaker.why
        return f"no answer from the gateway for {longest_s:g} s ({why})"

    def next_at(self, limits: Limits) -> float:
        """When to look again."""
        untold = [
            self._tell_at(peers, peers.breaker.open_since)
            for peers in self._dispatcher
            if peers.breaker.open_since is not None and peers not in self._told
        ]
        begun = self._stuck_since()
        return min(min(untold, default=math.inf), begun + self.longest_s(limits) if begun is not None else math.inf)

    def _tell_at(self, peers: Peers, since: float) -> float:
        """When an outage that began at `since` may be said."""
        is_sure = peers.is_surely_gone or not peers.gateway.has_answered
        return since + (TELL_AFTER_S if is_sure else SURE_AFTER_S)

    def _stuck_since(self) -> float | None:
        """Since when nothing but probes can be sent; None if something can."""
        if not self._dispatcher.can_read_no_more:
            return None
        begun = [queue.away_since() for queue in self._dispatcher.remaining()]
        known = [since for since in begun if since is not None]
        return max(known) if known and len(known) == len(begun) else None

    def _tell(self, peers: Peers, who: str, limits: Limits) -> None:
        why, gateway = peers.breaker.why, peers.gateway
        if gateway.name is not None:
            self._observer.notice(f"{who} is gone ({why}); probing until it is back, its lines go elsewhere")
        elif gateway.has_answered:
            self._observer.notice(f"{who} is gone ({why}); probing until it is back, no line is lost")
        else:
            self._observer.notice(f"no answer yet ({why}); trying for {self.longest_s(limits):g} s")
        self._log(Outage(why.partition(":")[0][:100], gateway.name))

    def _who(self, peers: Peers) -> str:
        """The gateway, or a model of it while others are there."""
        gateway = peers.gateway
        others = [other for other in self._dispatcher if other is not peers and other.gateway is gateway]
        if peers.model and any(not other.breaker.is_open for other in others):
            return peers.model if gateway.name is None else f"{peers.model} at {gateway.name}"
        return gateway.name or "the gateway"
