"""A controller that finds out nothing by itself: it follows the one that all shards share, and tells it what happens.

What it is told of each request is kept until the next report. A throttle pauses this shard until its next lease: the
shared controller knows only then. See `controller.py` for what is found out.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.records.outcome import RateHeaders


class Ending(NamedTuple):
    """A request that has ended: when it was sent and when it ended, under which version of the lease it was sent.

    `outcome`: "a" answered, "t" throttled, "f" failed in a way that says nothing about limits. `asked_s`: the wait that
    the gateway asked for.
    """

    sent_at: float
    ended_at: float
    version: int
    outcome: str
    asked_s: float | None


class Follower(Controller):
    """Follows leases: set `allowed`, how many may be in flight, and `version`, that of the lease.

    `endings`: the requests that ended since the last report; whoever reports takes them.
    """

    PAUSE_S = 2.0  # after a throttle, at the most: the next lease ends it

    def __init__(self, bounds: Concurrency, now: float) -> None:
        super().__init__(bounds, now)
        self.allowed = 1
        self.endings: list[Ending] = []
        self.answered = 0
        self._versions: deque[tuple[int, int]] = deque([(0, 0)])  # from which request on which lease ruled

    def lease(self, version: int, slots: int, paused_until: float) -> None:
        """Another lease rules from the next request on."""
        self.allowed = slots
        self.paused_until = paused_until
        self._versions.append((self._number + 1, version))
        if len(self._versions) > 5000:  # of a request that is in flight that long, the oldest known will do
            self._versions.popleft()

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
        return LimitedBy.TAIL

    def sent(self, in_flight: int, now: float) -> Sent:
        """A request goes out."""
        self._number += 1
        return Sent(now, in_flight, self._number)

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
        versions = self._versions
        while len(versions) > 1 and self._is_past(versions[1][0]):
            versions.popleft()
        version = next((version for first, version in reversed(versions) if first <= sent.number), 0)
        self.endings.append(Ending(sent.at, now, version, outcome, asked_s))

    def _is_past(self, first: int) -> bool:
        """Whether all that may still end was sent from that request on."""
        return self._number - first > 100_000
