"""What one incarnation of a shard has of everything that is shared, and how often it reports."""

from __future__ import annotations

from batchrun.cluster.finder import Sendings
from batchrun.cluster.lease import LIFETIME_S, Report
from batchrun.cluster.minute import Account
from batchrun.cluster.places import Seat
from batchrun.cluster.purse import Cap

BEAT_S, QUICK_BEAT_S = 0.2, 0.1
BEATS_PER_S = 320.0  # a beat costs its carrier some 0.4 ms of processor time


def beat_s(shards: int, least_s: float = BEAT_S) -> float:
    """Seconds from one beat of a shard to the next, with so many shards alive."""
    return max(least_s, shards / BEATS_PER_S)


def lifetime_s(shards: int) -> float:
    """For how many seconds a lease is good, with so many shards alive."""
    return max(LIFETIME_S, 4 * beat_s(shards))


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
