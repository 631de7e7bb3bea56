"""One controller for all shards: how many requests may be in flight, and how many a second. Pure.

1. The controller is that of a plain run (`limits/controller.py`); shards tell what they sent and how it ended, and each
   of that is given to it in the order in which it happened, as far as beats allow.
2. A cut takes a beat to reach all shards. A request that was sent under a lease granted before the cut counts as sent
   before it, so it does not cut again.
3. A shard that is throttled sends nothing until its next lease: see `limits/follower.py`.
4. Where the number is fixed, nothing is fed before the first throttle: most jobs never see one.
"""

from __future__ import annotations

import heapq
import math

from batchrun.cluster.lease import Ended, Report
from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency

BEFORE_S = 1e-6


class Sendings:
    """What is known of one shard's requests in flight, by their number: how they were sent, and when the lease that
    they were sent by was granted."""

    __slots__ = ("ending", "granted_at", "is_gone", "known")

    def __init__(self) -> None:
        self.is_gone = False
        self.ending = 0  # of those that are known, but not yet looked at
        self.known: dict[int, tuple[Sent, float]] = {}
        self.granted_at: dict[int, float] = {}  # leases, by their version

    def granted(self, version: int, now: float) -> None:
        """A lease is granted."""
        self.granted_at[version] = now
        while len(self.granted_at) > 64:
            del self.granted_at[next(iter(self.granted_at))]


class Finder:
    """Finds out, within `bounds`, what the gateway allows, from what all shards report."""

    WAIT_S = 0.12  # for what other shards did meanwhile; a throttle does not wait
    LOOSE = 1.15  # times what smooths the requests of one process: those of several smooth one another

    def __init__(self, bounds: Concurrency, now: float) -> None:
        self.controller = Controller(bounds, now)
        self.is_fixed = bounds.least == bounds.most
        self.is_fed = not self.is_fixed
        self._in_flight = 0
        self._cut_at = -math.inf
        self._now = now
        self._events: list[tuple[float, int, Sendings, int, float | Ended]] = []
        self._order = 0

    @property
    def slots(self) -> int:
        """How many may be in flight, over all shards."""
        return self.controller.slots

    @property
    def paces(self) -> tuple[float, float]:
        """How many may be sent a second, and how many a second for each request in flight, so that answers that come in
        clumps do not make clumps of requests: infinite where nothing is known that sets a pace."""
        pace = self.controller.pace_per_s
        if pace is None:
            return math.inf, math.inf
        if self.controller.paced_by in (LimitedBy.REQUESTS, LimitedBy.TOKENS, LimitedBy.THROTTLED):
            return pace, math.inf
        return math.inf, self.LOOSE * pace / self.controller.slots

    def pause_s(self, now: float) -> float:
        """For how many seconds nothing may be sent."""
        return max(0.0, self.controller.paused_until - now)

    def resize(self, bounds: Concurrency, now: float) -> None:
        """Other bounds, from `batchrun tune`."""
        self.controller.concurrency.resize(bounds, now)
        self.is_fixed = bounds.least == bounds.most
        self.is_fed = self.is_fed or not self.is_fixed

    def hear(self, sendings: Sendings, report: Report, now: float) -> None:
        """A shard tells what it sent, and what ended."""
        until = now - self.WAIT_S
        for number, (age_s, version) in enumerate(report.sends, report.first_send):
            granted_at = sendings.granted_at.get(version, -math.inf)
            self._push(now - age_s, sendings, number, granted_at)
        for one in report.ended:
            self._push(now - one.ended_s, sendings, one.number, one)
            sendings.ending += 1
            if one.outcome == "t":
                self.is_fed = True
                until = max(until, now - one.ended_s)
        while self._events and self._events[0][0] <= until:
            at, _, whose, number, what = heapq.heappop(self._events)
            self._now = max(self._now, at)
            if isinstance(what, Ended):
                self._ended(whose, what)
            elif not whose.is_gone:
                self._in_flight += 1
                whose.known[number] = self.controller.sent(self._in_flight, self._now), what
        while len(sendings.known) - sendings.ending > report.in_flight:  # the report that told of their end was lost
            del sendings.known[next(iter(sendings.known))]
            self._in_flight -= 1

    def _push(self, at: float, sendings: Sendings, number: int, what: float | Ended) -> None:
        self._order += 1
        heapq.heappush(self._events, (at, self._order, sendings, number, what))

    def gone(self, sendings: Sendings) -> None:
        """A shard is done, or dead: nothing more is heard of what it has in flight."""
        sendings.is_gone = True
        self._in_flight -= len(sendings.known)
        sendings.known.clear()

    def _ended(self, sendings: Sendings, one: Ended) -> None:
        sendings.ending -= 1
        known = sendings.known.pop(one.number, None)
        if known is None:  # sent before this coordinator, or before anything was fed
            if one.outcome == "t":
                self._throttled(Sent(self._now, max(1, self._in_flight), 0), one.asked_s)
            return
        sent, granted_at = known
        self._in_flight -= 1
        if granted_at < self._cut_at <= sent.at:
            sent = Sent(self._cut_at - BEFORE_S, sent.in_flight, sent.number)
        if one.outcome == "a":
            self.controller.succeeded(sent, self._now)
        elif one.outcome == "t":
            self._throttled(sent, one.asked_s)
        else:
            self.controller.failed(sent, self._now)

    def _throttled(self, sent: Sent, asked_s: float | None) -> None:
        is_new = sent.at >= self._cut_at
        self.controller.throttled(sent, asked_s, self._now)
        if is_new:
            self._cut_at = self._now
