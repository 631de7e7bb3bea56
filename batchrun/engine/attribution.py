"""Whose fault a failure is: the line's own, or that of what is behind the gateway. Pure; `now` is passed in.

The *peers* of a line are the lines with the same endpoint, path and model. Where a job has several endpoints, a line
has peers at each of them, and its failures at all of them count together.

1. Only a peer's success that was sent after the line's failure speaks against the line. A 4xx or a 429 does not:
   proxies mix them with 500s while what is behind them is dead.
2. Let p be the share of first attempts of the peers that fail so. A line is at fault after k failures with such a
   success behind them, where k is at least the policy's number and p^k is at most one in a million. So no line is
   lost where one of two backends is dead, and a line that always fails costs six attempts.
3. The same holds for a line that is throttled, from five times on. It is then sent a last time, alone, after 60 s
   without an answer for its model, because a large line starves under a limit of tokens.
4. Failures in a row, so many that p^n is at most one in a million, open the peers' circuit breaker. In an outage no
   failure counts.
5. Where no peer is left to speak, a request that has succeeded before is sent again: the *control*. Its answer speaks
   for the gateway for a minute.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchrun.engine.case import Case, Count, Firsts, Standing, Streak, verdict
from batchrun.limits.circuit_breaker import CircuitBreaker
from batchrun.limits.controller import Sent
from batchrun.limits.lanes import Lane
from batchrun.records.outcome import Failure, describe
from batchrun.records.request import RequestLine
from batchrun.transport.failures import classify
from batchrun.transport.words import tells_of_no_model

if TYPE_CHECKING:
    from batchrun.engine.gateways import Gateway

CHANCE = 1e-6  # of losing a line by chance
LEAST_IN_A_ROW, MOST_IN_A_ROW = 5, 60
THROTTLES = 5
ALIKE = 20  # refusals that are no longer the line's own
SILENCE_S = 60.0
CONTROL_EVERY_S = 30.0
VOUCHED_S = 60.0
BESIDE_OTHERS_PROBE_S = 5.0  # of one endpoint of several: a line that fails as a probe goes elsewhere at once


def failures_for(share: float) -> int:
    """How many failures in a row are no chance, where that share of them fails anyway."""
    if share <= 0:
        return 1
    return min(MOST_IN_A_ROW, math.ceil(math.log(CHANCE) / math.log(min(share, 0.99)) - 1e-9))


@dataclass(frozen=True, slots=True)
class Chances:
    """How often a line is tried: `usual` at the least, `most` if the user has said so."""

    usual: int
    most: int | None = None


def may_get_lines(routes: Iterable[Peers]) -> list[Peers]:
    """Those that are open, and not paused. It is asked for each line: so what `Peers.is_open` says is written out."""
    return [
        peers
        for peers in routes
        if peers.breaker.open_since is None
        and peers.missing is None
        and not peers.lane.is_closed
        and peers.gateway.shut_since is None
        and not peers.gateway.limiter.promises.is_paused
    ]


class Peers:
    """What is known of the lines with one endpoint, path and model; `lane` is where they are sent.

    `probed_by`: the line that is about to be sent as a probe, where there are several endpoints.
    """

    def __init__(self, chances: Chances, path: str, model: str, lane: Lane, gateway: Gateway) -> None:
        self.path, self.model, self.lane, self.gateway = path, model, lane, gateway
        self.breaker = CircuitBreaker() if gateway.name is None else CircuitBreaker(BESIDE_OTHERS_PROBE_S)
        self.in_flight = 0
        self.probed_by: Case | None = None
        self.control: RequestLine | None = None  # the smallest request that has succeeded
        self.may_find_control = False  # in the records of earlier runs
        self.control_at = -math.inf
        self.succeeded_at = -math.inf
        self.throttle: Failure | None = None  # the last one
        self.missing: Failure | None = None  # there is no such model: what the gateway says to each of its lines
        self.is_overloaded = False  # 503s have come since the last success, and were taken for throttles
        self._chances = chances
        self._failed, self._throttled = Firsts(), Firsts()
        self._unclear = 0  # failed first attempts since the last success
        self._success_sent_at = self._void_at = self._vouched_until = -math.inf
        self._control_bytes = 1 << 62
        self._not_found = 0
        self._barred, self._barred_at = list[int](), -math.inf

    # ---------------------------------------------------------------------------------- what came of a request

    def sent(self, sent: Sent) -> None:
        """A request goes out; while the breaker is open it is the probe."""
        self.in_flight += 1
        if self.breaker.open_since is not None:
            self.breaker.begin_probe(sent.number, sent.at)
            self.probed_by = None

    def succeeded(self, case: Case, line: RequestLine, sent: Sent, now: float) -> None:
        """An answer came."""
        self.in_flight -= 1
        self.succeeded_at = now
        if sent.at > self._success_sent_at:
            self._success_sent_at = sent.at
        if case.attempts == 1:
            self._failed.add(0)
            self._throttled.add(0)
        if len(line.body) < self._control_bytes:
            self.control, self._control_bytes = line, len(line.body)
        if self.breaker.open_since is not None:
            self.breaker.succeeded(sent.number, sent.at, now)
        self._unclear = 0
        self.is_overloaded = False

    def failed(self, case: Case, failure: Failure, sent: Sent, now: float) -> None:
        """It failed in a way that another attempt may not; many such failures together may be an outage."""
        self.in_flight -= 1
        if case.attempts == 1:
            self._failed.add(1)
            self._throttled.add(0)
            self._unclear += 1
        is_closed, is_its_own = self.breaker.open_since is None, classify(failure).is_of_the_line
        if now < self._vouched_until or is_its_own:
            self.breaker.refused(sent.number, now)
        else:
            needed = failures_for(self.failing_share)
            self.breaker.by_chance = max(CircuitBreaker.QUICK_PROBES, needed // 2)
            needed = max(LEAST_IN_A_ROW, needed)
            if self.breaker.failed(sent.number, case.number, now, describe(failure), needed):
                self.begin_outage(now)
        if is_closed:
            if case.failures is None:
                case.failures = Streak()
            case.failures.failed(now, self._failed, is_proven=is_its_own)

    def throttled(self, case: Case, sent: Sent, now: float) -> None:
        """It was refused as too fast."""
        self.in_flight -= 1
        if case.attempts == 1:
            self._failed.add(0)
            self._throttled.add(1)
        self.breaker.refused(sent.number, now)
        if case.refusals is None:
            case.refusals = Streak()
        case.refusals.failed(now, self._throttled)

    def refused(self, sent: Sent, now: float, failure: Failure | None = None) -> None:
        """It was refused for a reason of its own, or, again and again, because there is no such model."""
        self.in_flight -= 1
        if failure is not None and tells_of_no_model(failure) and self.succeeded_at == -math.inf:
            self._not_found += 1
            if self._not_found >= ALIKE:
                self.missing = failure
        self.breaker.refused(sent.number, now)

    def is_barred_again(self, line_number: int, now: float, *, is_last: bool) -> bool:
        """Another line is told that it is not paid for: whether two were, or twice the last one that is left, without
        an answer to what was sent after the first time."""
        if self._success_sent_at > self._barred_at:
            self._barred.clear()
        if not self._barred:
            self._barred_at = now
        self._barred.append(line_number)
        return len(self._barred if is_last else set(self._barred)) > 1

    def abandoned(self, sent: Sent, now: float) -> None:
        """It was given up, or not sent."""
        self.in_flight -= 1
        self.breaker.abandoned(sent.number, now)

    def vouch(self, sent_at: float, now: float) -> None:
        """The control was answered: for a minute, failures are the lines' own."""
        self._success_sent_at = max(self._success_sent_at, sent_at)
        self.succeeded_at = now
        self._vouched_until = now + VOUCHED_S
        self.breaker.close()

    def begin_outage(self, now: float, why: str = "", probe: int | None = None) -> None:
        """The gateway is gone: the failures without a success behind them do not count.

        `why` is given if the breaker does not know it yet; `probe` is the number of the probe that told so.
        """
        if why:
            self.breaker.open(now, why)
            self.breaker.probe_failed(probe, now, why)
        self._void_at = now
        self._failed.take_back(self._unclear)
        self._unclear = 0

    # ------------------------------------------------------------------------- where there are several endpoints

    @property
    def is_closed(self) -> bool:
        """Whether no line but a probe of a shut endpoint can be sent any more."""
        return self.lane.is_closed or self.missing is not None or self.gateway.shut_since is not None

    @property
    def is_open(self) -> bool:
        """Whether lines may be sent."""
        return self.breaker.open_since is None and not self.is_closed

    @property
    def probe_at(self) -> float:
        """From when on the next probe may be sent; never if none helps, or one is about to be sent."""
        if self.lane.is_closed or self.missing is not None or self.probed_by is not None:
            return math.inf
        return self.breaker.next_probe_at if self.gateway.shut_since is None else self.gateway.probe_at

    def speaks_for(self, other: Peers) -> bool:
        """Whether a probe of these tells of the others: they are the same, or at one endpoint that is shut."""
        return self is other or (self.gateway is other.gateway and self.gateway.shut_since is not None)

    def has_room(self, now: float) -> bool:
        """Whether a line that is bound to come here need not wait: there is room, or lines may not come here at all."""
        return not self.is_open or (self.gateway.shares.has_room and self.gateway.has_room(self.lane, now))

    # -------------------------------------------------------------------------------------------- judging

    def standing(self, case: Case, now: float) -> Standing:
        """What may become of a line that waits."""
        return verdict(self.throttles_of(case.refusals, now), self.failures_of(case.failures, case.last, now))

    def throttles_of(self, streak: Streak | None, now: float) -> Count | None:
        """How often a line was throttled here, and how often is too often."""
        if streak is None:
            return None
        streak.settle(self._success_sent_at, self._void_at, vouched=now < self._vouched_until)
        needed = THROTTLES
        if self._success_sent_at > -math.inf:
            needed = max(needed, failures_for(self._throttled.share_beside(streak)))
        return Count(streak.proven, streak.open, needed)

    def failures_of(self, streak: Streak | None, last: Failure | None, now: float) -> Count | None:
        """How often a line has failed here, `last` with this failure, and how often is no chance."""
        if streak is None:
            return None
        streak.settle(self._success_sent_at, self._void_at, vouched=now < self._vouched_until)
        decision = classify(last) if last is not None else None
        needed = (decision.max_attempts if decision is not None else None) or self._chances.usual
        if self._success_sent_at > -math.inf and not (decision is not None and decision.is_of_the_line):
            needed = max(needed, failures_for(self._failed.share_beside(streak)))
        return Count(streak.proven, streak.open, min(needed, self._chances.most or needed))

    def forget_throttles(self, case: Case, *, last_alone: bool = False) -> bool:
        """Take back what counts against a line that is in doubt because it is throttled; False if that is not why.

        `last_alone`: only the last throttle, so that the next one puts the line in doubt again.
        """
        streak = case.refusals
        if streak is None or not streak.open:
            return False
        streak.open = streak.open - 1 if last_alone else 0
        return True

    def is_known_to_be_throttled(self, case: Case) -> bool:
        """Whether a further refusal of this line says more about the line than about the pace."""
        streak = case.refusals
        if streak is None:
            return False
        streak.settle(self._success_sent_at, self._void_at, vouched=False)
        share = self._throttled.share_beside(streak)
        return bool(streak.proven) and share**streak.proven <= 0.01

    def alone_at(self, now: float) -> float:
        """From when on a line may be sent alone, if nothing else is in flight."""
        return max(now, self.succeeded_at + SILENCE_S)

    @property
    def failing_share(self) -> float:
        """The share of first attempts that fail while the gateway is there."""
        return self._failed.share(self._unclear)

    @property
    def is_surely_gone(self) -> bool:
        """Whether so many probes have failed that it is no chance."""
        return self.breaker.failed_probes >= self.breaker.by_chance

    @property
    def has_control(self) -> bool:
        """Whether a request has succeeded, as far as is known."""
        return self.control is not None or self.may_find_control

    def control_due(self) -> float:
        """From when on a control may be sent."""
        return self.control_at + CONTROL_EVERY_S
