"""What one incarnation of a shard has of everything that is shared, and how often it reports."""

from __future__ import annotations

import math

from batchrun.cluster.finder import Sendings
from batchrun.cluster.lease import LIFETIME_S, Report
from batchrun.cluster.minute import Account
from batchrun.cluster.places import Seat
from batchrun.cluster.purse import Cap

BEAT_S, QUICK_BEAT_S, CALM_BEAT_S = 0.2, 0.1, 0.5
CALM_AFTER_S = 3.0  # without a change
BEATS_PER_S = 320.0  # a beat costs its carrier some 0.4 ms of processor time, and more where it has to wake up for it


def beat_s(shards: int, least_s: float = BEAT_S) -> float:
    """Seconds from one beat of a shard to the next, with so many shards alive."""
    return max(least_s, shards / BEATS_PER_S)


def lifetime_s(shards: int) -> float:
    """For how many seconds a lease is good, with so many shards alive."""
    return max(LIFETIME_S, 4 * beat_s(shards))


class Pulse:
    """How often shards report: quickly while limits are found out, seldom once nothing has changed for a while.

    A change is whatever makes a lease differ from the last one in a way that its shard would notice. A lease is good
    for four beats in any case, so that a late one does no harm.
    """

    def __init__(self, now: float) -> None:
        self._changed_at, self._shards = now, 0
        self._calm_until = -math.inf

    def changed(self, now: float) -> None:
        """A shard has another share than before, or waits for something."""
        self._changed_at = now

    def beat_s(self, shards: int, now: float, *, is_fed: bool, may_calm: bool) -> float:
        """Seconds from one beat of a shard to the next. `is_fed`: what is sent and answered is reported; `may_calm`:
        no lease has to be renewed only for the sending to go on."""
        if shards != self._shards:
            self._shards, self._changed_at = shards, now
        if is_fed:
            return beat_s(shards, QUICK_BEAT_S)
        if not may_calm or now - self._changed_at <= CALM_AFTER_S:
            return beat_s(shards)
        self._calm_until = now + 2 * CALM_BEAT_S
        return beat_s(shards, CALM_BEAT_S)

    def longest_s(self, beat_s: float, now: float) -> float:
        """For how long a shard that lives may not have told anything, where `beat_s` is what is asked for now."""
        return max(beat_s, CALM_BEAT_S) if now < self._calm_until else beat_s


class Share:
    """What one incarnation of a shard has. `version` is that of the last lease that it was granted."""

    __slots__ = (
        *("beat", "cap", "counted_at", "errors", "expires_at", "has_told", "incarnation", "lines", "period_s"),
        *("reported_at", "requests", "seat", "sendings", "tokens", "version"),
    )

    def __init__(self, report: Report, now: float) -> None:
        self.incarnation = report.incarnation
        self.beat = self.version = self.lines = self.errors = 0
        self.expires_at = self.reported_at = now
        self.period_s = BEAT_S
        self.has_told = False
        self.seat = Seat()
        self.requests: Account | None = None
        self.tokens: Account | None = None
        self.cap: Cap | None = None
        self.sendings = Sendings()
        self.counted_at: dict[int, float] = {}  # when what a report said was sent was counted, by its beat
