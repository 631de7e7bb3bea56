"""A controller that finds out nothing by itself: it follows the one that all shards share, and tells it what happens.

What it is told of each request is kept until the next report. A throttle pauses this shard until its next lease: the
shared controller knows only then. See `controller.py` for what is found out.
"""

from __future__ import annotations

from typing import NamedTuple

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.records.outcome import RateHeaders


class Ending(NamedTuple):
    """A request that has ended: its number in the order of sending, and when it ended.

    `outcome`: "a" answered, "t" throttled, "f" failed in a way that says nothing about limits. `asked_s`: the wait that
    the gateway asked for.
    """

    number: int
    ended_at: float
    outcome: str
    asked_s: float | None


class Follower(Controller):
    """Follows leases: `allowed` is how many may be in flight, and `version` that of the lease.

    `endings`: the requests that ended since the last report, and `sends` when those were sent, and under which version,
    that were sent since then; `number` is that of the last one. Whoever reports takes them. Without `keeps_events` only
    throttles are kept.
    """

    PAUSE_S = 2.0  # after a throttle, at the most: the next lease ends it

    def __init__(self, bounds: Concurrency, now: float) -> None:
        super().__init__(bounds, now)
        self.allowed = 1
        self.version = self.number = self.answered = 0
        self.keeps_events = False
        self.sends: list[tuple[float, int]] = []
        self.endings: list[Ending] = []

    def take_events(self) -> tuple[int, list[tuple[float, int]], list[Ending]]:
        """What happened since the last call: the number of the first request that was sent, those sent, those ended."""
        first, sends, endings = self.number - len(self.sends) + 1, self.sends, self.endings
        self.sends, self.endings = [], []
        return first, sends, endings

    def lease(self, version: int, slots: int, paused_until: float, *, keeps_events: bool) -> None:
        """Another lease rules from the next request on."""
        self.version, self.allowed, self.paused_until = version, slots, paused_until
        self.keeps_events = keeps_events
        if not keeps_events:
            self.sends.clear()

    @property
    def slots(self) -> int:
        """Requests allowed in flight; one at least, which waits for the lease."""
        return max(1, self.allowed)

    @property
    def pace_per_s(self) -> float | None:
        """None: the pace is the lease's."""
        return None

    @property
    def at_once(self) -> int:
        """0: the pace is the lease's."""
        return 0

    @property
    def paced_by(self) -> LimitedBy:
        """What the pace comes from."""
        return LimitedBy.MAXIMUM

    def limited_by(self, in_flight: int, now: float, *, has_lines: bool = True) -> LimitedBy:
        """What limits the shard with so many in flight."""
        if now < self.paused_until:
            return LimitedBy.THROTTLED
        if in_flight >= self.allowed or has_lines:
            return LimitedBy.MAXIMUM
        return LimitedBy.SHARDS

    def sent(self, in_flight: int, now: float) -> Sent:
        """A request goes out."""
        self.number += 1
        if self.keeps_events:
            self.sends.append((now, self.version))
        return Sent(now, in_flight, self.number)

    def succeeded(self, sent: Sent, now: float) -> None:
        """An answer came."""
        self.answered += 1
        self._note(sent, now, "a")

    def failed(self, sent: Sent, now: float) -> None:
        """It failed in a way that says nothing about limits."""
        self._note(sent, now, "f")

    def throttled(self, sent: Sent, retry_after_s: float | None, now: float) -> float:
        """It was refused as too much; returns the seconds for which nothing should be sent."""
        self._note(sent, now, "t", retry_after_s)
        self.paused_until = max(self.paused_until, now + self.PAUSE_S)
        return self.PAUSE_S

    def headers(self, sent: Sent, headers: RateHeaders, now: float) -> None:
        """What an answer's headers say of the limits is not shared yet."""

    def suppose_rate(self) -> None:
        """Nothing to do: it supposes nothing."""

    def forget_limits(self, now: float) -> None:
        """Nothing to do: it knows of none."""

    def resume(self, now: float) -> None:
        """The pause was not needed."""
        self.paused_until = now

    def _note(self, sent: Sent, now: float, outcome: str, asked_s: float | None = None) -> None:
        if self.keeps_events or outcome == "t":
            self.endings.append(Ending(sent.number, now, outcome, asked_s))
