"""What has become of a line: its failures, at each place where it was sent, and what may become of it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable
from enum import Enum, auto
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from batchrun.engine.asked import Asked
from batchrun.records.outcome import Failure
from batchrun.records.request import RequestLine

if TYPE_CHECKING:
    from batchrun.engine.attribution import Peers
    from batchrun.engine.gateways import Gateway
    from batchrun.engine.routing import Queue


class Standing(Enum):
    """What may become of a line that has failed."""

    AGAIN = auto()  # it is sent again
    IN_DOUBT = auto()  # it has had its attempts, and no peer has spoken yet
    LAST_TRY = auto()  # it has had its throttles, and is sent once more, alone
    AT_FAULT = auto()  # its last failure is its record


class Streak(msgspec.Struct, gc=False):
    """Failures of one kind of one line: those with a success of a peer behind them, and those still without.

    `seen` and `bad` are what `Firsts` had counted before the first of them.
    """

    proven: int = 0
    open: int = 0
    at: float = -math.inf
    seen: int = 0
    bad: int = 0

    def failed(self, now: float, firsts: Firsts, *, is_proven: bool = False) -> None:
        """One more. `is_proven`: what it says is of this line alone."""
        if not self.proven and not self.open:
            self.seen, self.bad = firsts.seen, firsts.bad
        if is_proven:
            self.proven += 1
        else:
            self.open += 1
        self.at = now

    def settle(self, success_sent_at: float, void_at: float, *, vouched: bool) -> None:
        """Prove those that a success was sent after; forget those of an outage."""
        if self.open and self.at <= void_at:
            self.open = 0
        elif self.open and (vouched or success_sent_at > self.at):
            self.proven, self.open = self.proven + self.open, 0


class Case(msgspec.Struct, gc=False):
    """A line and what has become of it. `line` and `last`, its last failure, are None while only its number is kept.

    `due` is when it may be sent again, in seconds of the run's clock. Where there are several endpoints, `failures` and
    `refusals` are those at `peers`, to which it was sent last; those `elsewhere` are kept by peers.
    """

    number: int
    line: RequestLine | None
    queue: Queue
    last: Failure | None = None
    attempts: int = 0
    throttles: int = 0
    failures: Streak | None = None
    refusals: Streak | None = None  # as too fast
    is_last_try: bool = False
    due: float = -math.inf
    peers: Peers | None = None
    elsewhere: dict[Peers, _Streaks] | None = None
    barred: tuple[Gateway, ...] = ()  # endpoints whose own budget has no room for it
    asked: Asked | None = None  # its answers so far, where they missed its schema

    @property
    def doubted_at(self) -> list[Peers]:
        """Where it has failed without a success of a peer behind that."""
        return [peers for peers, streaks in self.streaks() if any(one is not None and one.open for one in streaks)]

    @property
    def ask(self) -> int:
        """How often it is asked with its next request."""
        return 1 if self.asked is None else len(self.asked.tries) + 1

    @property
    def request(self) -> RequestLine:
        """The line as it is sent next."""
        assert self.line is not None, "a line is read again before it is sent"
        return self.line if self.asked is None else self.asked.request(self.line)

    @property
    def held_bytes(self) -> int:
        """What it holds in memory."""
        assert self.line is not None, "only a line in memory is asked for this"
        return len(self.line.body) + (0 if self.asked is None else len(self.asked.reply.body))

    def go(self, peers: Peers) -> None:
        """It is sent to these peers now."""
        if peers is self.peers:
            return
        if self.peers is not None and (self.failures is not None or self.refusals is not None):
            self.elsewhere = self.elsewhere or {}
            self.elsewhere[self.peers] = self.failures, self.refusals
        self.failures, self.refusals = (self.elsewhere or {}).pop(peers, (None, None))
        self.peers = peers

    @property
    def has_failed(self) -> bool:
        """Whether it has failed anywhere in a way that counts."""
        return self.failures is not None or bool(self.elsewhere) or bool(self.barred)

    def failures_at(self, peers: Peers) -> int:
        """How often it has failed there."""
        failures = self.failures if peers is self.peers else (self.elsewhere or {}).get(peers, (None, None))[0]
        return 0 if failures is None else failures.proven + failures.open

    def was_at(self, peers: Peers) -> bool:
        """Whether it has been sent there and failed, also in an outage, which is forgotten."""
        return peers is self.peers or (self.elsewhere is not None and peers in self.elsewhere)

    def streaks(self) -> Iterable[tuple[Peers, _Streaks]]:
        """Its failures and refusals at all peers that it was sent to."""
        assert self.peers is not None, "it has been sent"
        return [(self.peers, (self.failures, self.refusals)), *(self.elsewhere or {}).items()]


_Streaks = tuple[Streak | None, Streak | None]


class Firsts:
    """How the first attempts of lines ended, for one kind of failure: over the whole run, and lately."""

    WINDOW, JUDGED_FROM = 400.0, 20

    def __init__(self) -> None:
        self.seen = self.bad = 0
        self._lately = self._lately_bad = 0.0

    def add(self, bad: int) -> None:
        """One first attempt more; `bad` is 1 if it failed so."""
        self.seen += 1
        self._lately += 1.0
        if bad:
            self.bad += 1
            self._lately_bad += 1.0
        if self._lately > self.WINDOW:
            self._lately /= 2
            self._lately_bad /= 2

    def take_back(self, bad: int) -> None:
        """So many failed first attempts were those of an outage."""
        self.seen, self.bad = self.seen - bad, self.bad - bad
        self._lately_bad = max(0.0, self._lately_bad - bad)
        self._lately = max(self._lately_bad, self._lately - bad)

    def share_beside(self, streak: Streak) -> float:
        """The share that failed, lately or since the streak began, without the streak's own line."""
        lately = max(0.0, self._lately_bad - 1) / max(1.0, self._lately - 1)
        since, bad = self.seen - streak.seen, self.bad - streak.bad
        return max(lately, bad / since) if since > self.JUDGED_FROM and bad < since else lately

    def share(self, unclear: int) -> float:
        """The share that fails while all is as usual; a tenth while nothing is known. `unclear` do not count."""
        return (max(0.0, self._lately_bad - unclear) + 0.5) / (max(0.0, self._lately - unclear) + 5.0)


class Count(NamedTuple):
    """Failures of one kind: proven to be a line's fault, still open, and how many it takes."""

    proven: int
    open: int
    needed: int


def verdict(throttles: Count | None, failures: Count | None) -> Standing:
    """What may become of a line with so many throttles and failures."""
    if throttles is not None:
        if throttles.proven >= throttles.needed:
            return Standing.LAST_TRY
        if throttles.proven + throttles.open >= throttles.needed:
            return Standing.IN_DOUBT
    if failures is not None:
        if failures.proven >= failures.needed:
            return Standing.AT_FAULT
        if failures.proven + failures.open >= failures.needed:
            return Standing.IN_DOUBT
    return Standing.AGAIN


def standing_of(case: Case, now: float) -> Standing:
    """What may become of a line that has been sent to several endpoints: its failures at all of them count together."""
    streaks = case.streaks()
    throttles = [peers.throttles_of(refusals, now) for peers, (_, refusals) in streaks]
    failures = [peers.failures_of(failures, case.last, now) for peers, (failures, _) in streaks]
    return verdict(_together(throttles), _together(failures))


def _together(counts: Iterable[Count | None]) -> Count | None:
    known = [count for count in counts if count is not None]
    if not known:
        return None
    return Count(sum(one.proven for one in known), sum(one.open for one in known), max(one.needed for one in known))
