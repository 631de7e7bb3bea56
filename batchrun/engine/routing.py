"""Where a line goes that is sent now: the lines for one path and model, and the endpoints that serve them.

1. Open is an endpoint that is not shut, whose breaker for the model is closed, and which has the model.
2. A line that has failed goes where it has failed least. Of these, it goes to the lowest tier that is open, and there
   to the endpoint with room that has had the fewest lines for its weight.
3. A line that belongs to one endpoint (`homes.py`) goes there. While that is away, it goes to another and stays there,
   unless it may go nowhere else.
4. An endpoint that is away gets one line now and then, as a probe. While others are open, a line is that once.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from enum import Enum, auto

import msgspec

from batchrun.engine.attribution import Peers, may_get_lines
from batchrun.engine.case import Case, Standing, standing_of
from batchrun.engine.gateways import Gateway, Shares
from batchrun.engine.homes import beginning, drawn
from batchrun.records.outcome import Failure


class Queue:
    """The lines for one path and model that belong to the same endpoint. `left`: those that wait or are in flight.

    `routes`: the peers at each endpoint that they may go to; `only` is the one of a job with one endpoint, else None.
    `home`: the endpoint that they go to while it is open; None if that is all the same.
    """

    __slots__ = ("_has_tiers", "_shares", "home", "left", "model", "only", "routes")

    def __init__(self, routes: Sequence[Peers], shares: Shares, home: Gateway | None = None) -> None:
        self.routes = tuple(routes)
        self.model = routes[0].model
        self.only = routes[0] if routes[0].gateway.name is None else None
        self.home = home
        self.left = 0
        self._shares = shares
        self._has_tiers = len({peers.gateway.tier for peers in routes}) > 1

    # ----------------------------------------------------------------------------------------- choosing

    def has_room(self, now: float) -> bool:
        """Whether a line that has never failed could be given to a worker now, as far as room goes."""
        if self.only is not None:
            return self.only.missing is None and self.only.lane.has_room(now)
        return self._has_room(may_get_lines(self.routes), now)

    def _has_room(self, routes: list[Peers], now: float, *, may_probe: bool = True) -> bool:
        if not self._shares.has_room:
            return False
        if may_probe and len(routes) < len(self.routes) and self._due(now) is not None:
            return True
        return any(peers.gateway.has_room(peers.lane, now) for peers in self._first_choice(routes))

    def may_go(self, now: float, *, may_probe: bool = True) -> bool:
        """Whether such a line could be given to a worker now, and not as the probe of a gateway of which all is away.

        `may_probe`: whether it may be the probe of one endpoint while others are open, as each line is once.
        """
        if self.only is not None:
            return self.only.breaker.open_since is None and self.has_room(now)
        routes = may_get_lines(self.routes)
        return self._has_room(routes, now, may_probe=may_probe) if routes else self.has_room(now) and not self.is_away

    def route(self, case: Case, now: float) -> tuple[Peers | None, bool]:
        """Where a line goes, even if it has to wait for room there; and whether it may go there now.

        None if no endpoint is open for it.
        """
        if self.only is not None:
            peers = self.only
            if peers.breaker.open_since is not None and not peers.breaker.may_pass(now):
                return None, False
            return peers, peers.lane.has_room(now)
        routes = may_get_lines(self.routes)
        probed = self._due(now) if len(routes) < len(self.routes) else None
        if probed is not None and self._shares.has_room and not case.was_at(probed):
            return probed, True
        group = self._first_choice(routes, case if case.has_failed or self.home is not None else None)
        return self._in_turn(group, now) if group else (None, False)

    def any_room(self, case: Case, now: float) -> Peers | None:
        """An endpoint that has room, for a line that cannot wait."""
        routes = [peers for peers in may_get_lines(self.routes) if peers.gateway not in case.barred]
        chosen, has_room = self._in_turn(self._first_choice(routes), now) if routes else (None, False)
        return chosen if has_room else None

    def _in_turn(self, group: list[Peers], now: float) -> tuple[Peers, bool]:
        """The one of these open endpoints that has room and whose turn is next, and True; where none has room, False
        and the one whose turn is next."""
        first = chosen = self._shares.first(group)
        if not self._shares.has_room:
            return first, False
        while not chosen.gateway.has_room(chosen.lane, now):
            group = [peers for peers in group if peers is not chosen]
            if not group:
                return first, False
            chosen = self._shares.first(group)
        return chosen, True

    def _first_choice(self, routes: list[Peers], case: Case | None = None) -> list[Peers]:
        """Those of these endpoints, or of the open ones if all are paused, that come first for a line.

        `case` is one that has failed or has a home; None is any other.
        """
        if not routes:
            routes = [peers for peers in self.routes if peers.is_open]
        if case is not None and case.barred:
            routes = [peers for peers in routes if peers.gateway not in case.barred]
        if case is not None and routes:
            fewest = min(case.failures_at(peers) for peers in routes)
            routes = [peers for peers in routes if case.failures_at(peers) == fewest]
        if self._has_tiers and len(routes) > 1:
            lowest = min(peers.gateway.tier for peers in routes)
            routes = [peers for peers in routes if peers.gateway.tier == lowest]
        return routes if self.home is None else self._at_home(routes, case)

    def _at_home(self, routes: list[Peers], case: Case | None) -> list[Peers]:
        """The one of these where a line stays: where it was sent before, or its home, or the next one in its place."""
        if case is not None and case.peers in routes:
            return [case.peers]
        home = [peers for peers in routes if peers.gateway is self.home]
        if home or case is None or case.line is None or len(routes) < 2:
            return home or routes
        heir = drawn(beginning(case.line), (peers.gateway for peers in routes))
        return [peers for peers in routes if peers.gateway is heir]

    def _due(self, now: float) -> Peers | None:
        """An endpoint that is away, and to which the next probe is due."""
        if self.home is not None and any(peers.is_open for peers in self.routes if peers.gateway is self.home):
            return None
        return next((peers for peers in self.routes if not peers.is_open and peers.probe_at <= now), None)

    # ------------------------------------------------------------------------------------------ looking

    def standing(self, case: Case, now: float) -> Standing:
        """What may become of a line that has been sent."""
        return self.only.standing(case, now) if self.only is not None else standing_of(case, now)

    @property
    def missing(self) -> Failure | None:
        """What is said of the model where no endpoint has it."""
        if self.only is not None:
            return self.only.missing
        for peers in self.routes:
            if peers.missing is None:
                return None
        return self.routes[-1].missing

    def spokesman(self, case: Case | None) -> Peers:
        """The peers whose control says most about a line that is stuck: where it has failed and nobody has spoken."""
        routes: Sequence[Peers] = self.routes
        if self.only is None and case is not None and case.peers is not None:
            routes = case.doubted_at or routes
        routes = [peers for peers in routes if peers.is_open] or routes
        return next((peers for peers in routes if peers.has_control), routes[0])

    @property
    def in_flight(self) -> int:
        """How many requests for these lines, and others with the same peers, are in flight."""
        return sum(peers.in_flight for peers in self.routes)

    @property
    def is_closed(self) -> bool:
        """Whether these lines can get no record in this run, because no endpoint is left that they could go to."""
        if self.missing is not None:
            return False  # what is said of the model is their record
        if self.only is not None:
            return self.only.lane.is_closed
        return all(peers.is_closed for peers in self.routes)

    @property
    def is_spent(self) -> bool:
        """Whether they can get none because of their model, whatever becomes of the endpoints."""
        return self.missing is None and all(peers.lane.is_closed or peers.missing is not None for peers in self.routes)

    @property
    def is_away(self) -> bool:
        """Whether nothing but probes can be sent."""
        if self.only is not None:
            return self.only.breaker.open_since is not None
        return self.missing is None and not any(peers.is_open for peers in self.routes)

    def away_since(self) -> float | None:
        """Since when nothing but probes can be sent; None if a line can."""
        begun = [peers.breaker.open_since for peers in self.routes if not peers.is_closed or self.only is not None]
        known = [since for since in begun if since is not None]
        return max(known) if known and len(known) == len(begun) else None

    def has_other(self, peers: Peers) -> bool:
        """Whether another endpoint may have the model."""
        return any(other is not peers and other.missing is None for other in self.routes)

    def probe_times(self, now: float) -> Iterable[float]:
        """When the next probes of endpoints that are away are due."""
        return [peers.probe_at for peers in self.routes if not peers.is_open and now < peers.probe_at < math.inf]


class Step(Enum):
    """What lines that are stuck ask for."""

    PROBE = auto()  # the next probe of an outage is due
    EVIDENCE = auto()  # no peer is left to speak
    LAST_TRY = auto()  # a line may be sent alone


class Due(msgspec.Struct, frozen=True, gc=False):
    """A step that lines of `queue` ask for, for these peers, from `at` on."""

    step: Step
    queue: Queue
    peers: Peers
    at: float
