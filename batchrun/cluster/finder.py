"""One controller for all shards: how many requests may be in flight, and how many a second. Pure.

1. The controller is that of a plain run (`limits/controller.py`); shards tell what they sent and how it ended, and each
   of that is given to it in the order in which it happened, as far as beats allow.
2. What is found out takes a beat or two to reach all shards. A request that was sent under a lease granted before a cut
   was known counts as sent before the cut, so it does not cut again; nor does its answer say anything of a try.
3. Nothing is judged before the other shards have told what they did until then. A shard that is throttled sends nothing
   meanwhile: see `limits/follower.py`.
4. Reports of two shards are some milliseconds off one another. So a request that was refused counts as the last of all
   that were sent at about that time: taken for one below the limit, it would make the limit look like that of a rate.
5. Where the number is fixed, nothing is fed before the first throttle: most jobs never see one.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections import deque

from batchrun.cluster.lease import Ended, Report
from batchrun.limits.controller import Controller, Sent
from batchrun.limits.follower import Follower
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency

BEFORE_S = 1e-6


class Sendings:
    """What is known of one shard's requests in flight, by their number, and of the leases that they are sent by."""

    __slots__ = ("ending", "is_gone", "known", "ruled_at", "unjudged")

    def __init__(self) -> None:
        self.is_gone = False
        self.ending = 0  # of those that are known, but not yet looked at
        self.unjudged = 0  # throttles that are known, but not yet looked at
        self.known: dict[int, Sent] = {}
        self.ruled_at: dict[int, float] = {}  # the latest event that was known when a lease was granted, by its version


class Finder:
    """Finds out, within `bounds`, what the gateway allows, from what all shards report."""

    WAIT_S = 0.12  # for what other shards did meanwhile: a beat, and what it takes to come
    BLUR_S = 0.01  # by which two shards may be off: nobody knows which of their requests came first
    RECENT = 256  # requests of which is kept how many were in flight when they were sent
    LEASES = 64  # of one shard, of which is kept what was known when they were granted
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
        self._levels: deque[tuple[float, int]] = deque(
            maxlen=self.RECENT
        )  # in flight when those were sent: (at, level)

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

    def granted(self, sendings: Sendings, version: int) -> None:
        """A shard is granted a lease, by what is known now."""
        sendings.ruled_at[version] = self._now
        while len(sendings.ruled_at) > self.LEASES:
            del sendings.ruled_at[next(iter(sendings.ruled_at))]

    def pause_s(self, sendings: Sendings, now: float) -> float:
        """For how many seconds a shard may send nothing."""
        if sendings.unjudged:
            return Follower.PAUSE_S
        return max(0.0, self.controller.paused_until - now)

    def resize(self, bounds: Concurrency, now: float) -> None:
        """Other bounds, from `batchrun tune`."""
        self.controller.concurrency.resize(bounds, now)
        self.is_fixed = bounds.least == bounds.most
        self.is_fed = self.is_fed or not self.is_fixed

    def hear(self, sendings: Sendings, report: Report, now: float) -> None:
        """A shard tells what it sent, and what ended."""
        until = now - self.WAIT_S
        known = [one for one in report.ended if one.number < report.first_send]
        others = [one for one in report.ended if one.number >= report.first_send]
        # At the same moment an end comes first: what was sent took its place. But nothing ends before it was sent.
        self._push_ended(known, sendings, now)
        for number, (age_s, version) in enumerate(report.sends, report.first_send):
            self._push(now - age_s, sendings, number, sendings.ruled_at.get(version, -math.inf))
        self._push_ended(others, sendings, now)
        while self._events and self._events[0][0] <= until:
            at, _, whose, number, what = heapq.heappop(self._events)
            self._now = max(self._now, at)
            if isinstance(what, Ended):
                self._ended(whose, what)
            elif not whose.is_gone:
                self._in_flight += 1
                sent = self.controller.sent(self._in_flight, self._now)
                self._levels.append((at, self._in_flight))
                whose.known[number] = Sent(sent.at, sent.in_flight, sent.number, ruled_at=what)
        while len(sendings.known) - sendings.ending > report.in_flight:  # the report that told of their end was lost
            del sendings.known[next(iter(sendings.known))]
            self._in_flight -= 1

    def _push_ended(self, ended: list[Ended], sendings: Sendings, now: float) -> None:
        for one in ended:
            self._push(now - one.ended_s, sendings, one.number, one)
            sendings.ending += 1
            if one.outcome == "t":
                self.is_fed = True
                sendings.unjudged += 1

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
        sendings.unjudged -= one.outcome == "t"
        sent = sendings.known.pop(one.number, None)
        if sent is None:  # sent before this coordinator, or before anything was fed
            if one.outcome == "t":
                self._throttled(Sent(self._now, max(1, self._in_flight), 0), one.asked_s)
            return
        self._in_flight -= 1
        if sent.ruled_at < self._cut_at <= sent.at:
            sent = Sent(self._cut_at - BEFORE_S, sent.in_flight, sent.number, sent.ruled_at)
        if one.outcome == "a":
            self.controller.succeeded(sent, self._now)
        elif one.outcome == "t":
            self._throttled(Sent(sent.at, self._peak(sent), sent.number, sent.ruled_at), one.asked_s)
        else:
            self.controller.failed(sent, self._now)

    def _peak(self, sent: Sent) -> int:
        """How many were in flight when a request was sent that was refused: the most of about that time."""
        since, until = sent.at - self.BLUR_S, sent.at + self.BLUR_S
        levels = [level for at, level in self._levels if since <= at <= until]
        if self._now <= until:
            after = sorted(event for event in self._events if event[0] <= until)
            steps = (-1 if isinstance(event[4], Ended) else 1 for event in after)
            levels += itertools.accumulate(steps, initial=self._in_flight + 1)
        return min(self.slots, max(levels, default=sent.in_flight))

    def _throttled(self, sent: Sent, asked_s: float | None) -> None:
        is_new = sent.at >= self._cut_at
        self.controller.throttled(sent, asked_s, self._now)
        if is_new:
            self._cut_at = self._now
