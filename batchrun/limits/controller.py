"""How many requests may be in flight, and how many a second: found out from answers and refusals alone.

1. Pure: `now` (seconds of a monotonic clock) is passed in; nothing waits, nothing is random.
2. Slow start doubles each round trip, while what is allowed is used, nothing is refused, and throughput rises.
3. A refusal cuts once an episode: requests that were sent before the cut do not cut again.
4. A concurrency limit refuses at a number in flight at which nothing succeeds: stay one below it, and try one more
   once there were enough answers to outweigh the refusal that this may cost.
5. A rate limit refuses at numbers in flight at which others succeed: leave the number, set a pace.
6. A queue refuses nothing: stay where more in flight brought no more answers (`plateau.py`), and look again.
7. Spurious throttles come however slowly requests are sent (`spurious.py`): send those again, change nothing else.
8. Whatever was found out is tried again after a time that grows to minutes at most: nothing is kept for good.
"""

from __future__ import annotations

import math

import msgspec

from batchrun.limits.concurrency import ConcurrencyLimit
from batchrun.limits.headers import HeaderLimits
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.limits.rate import RateEstimator
from batchrun.limits.spurious import SpuriousThrottles
from batchrun.records.outcome import RateHeaders


class Sent(msgspec.Struct, frozen=True, gc=False):
    """A request that was sent: when, how many were in flight with it, and its number in the order of sending."""

    at: float
    in_flight: int
    number: int
    ruled_at: float = math.inf  # up to when all was known that it was sent by, where that is sooner than it was sent


class Controller:
    """How many may be in flight, within the bounds given, and at what pace.

    Every request is announced by `sent`, and what became of it by exactly one of `succeeded`, `throttled` and
    `failed`. `slots`, `pace_per_s` and `paused_until` say what may go out.
    """

    # Votes for a rate limit: where a pace is set, and where it is dropped again. One refusal may mislead; a verdict
    # sets the votes to 3 or -3 (`MOST_VOTES`), so that one odd refusal does not reverse it.
    RATE_AT, CONCURRENCY_AT, MOST_VOTES = 2, 0, 3
    NO_RATE_VOTES = 2  # for a concurrency limit without doubt: then no pace is tried any more
    # Of the least number in flight refused so far: refused with fewer, while the pace rose from well below, it is a
    # rate limit.
    FEWER = 0.96
    # Times the rate at which answers come: enough to use every slot, also where latencies are uneven, and no clumps.
    SMOOTH, SMOOTH_UNEVEN = 1.03, 1.15
    SMOOTH_RISING = 2.5  # while the number doubles in each round trip: twice, and a quarter to spare
    # Latencies are even where they are off their mean by less than this share of it; fewer answers say little.
    EVEN_SPREAD, EVEN_FROM = 0.2, 8
    LATENCY_ANSWERS = 300  # in the mean latency: it is off by a few per cent, and follows a gateway that slows down
    # A pause without `Retry-After`: short, as most refusals are brief; doubled while nothing is admitted. With the
    # most, a gateway that refuses everything is asked some 100 times in ten minutes.
    FIRST_PAUSE_S, MAX_PAUSE_S = 0.1, 10.0
    # At most, until it is known whether anything is admitted again, and where all was refused thrice: one at a time.
    TRICKLE_PER_S = (50.0, 20.0)
    MAX_ASKED_S = 120.0  # of a `Retry-After`: limits are per minute, and one that asks for an hour is looked at again
    # The least `Retry-After` is 1 s, so one this short does not mean that long (see `_pause_s`).
    SHORT_ASKED_S = 2.0
    # Seconds that a refusal takes: a guess at first, then a mean in which each counts for a fifth, and for 5 s at most.
    FIRST_REFUSAL_S, REFUSAL_SHARE, MAX_REFUSAL_S = 0.01, 0.2, 5.0

    def __init__(self, bounds: Concurrency, now: float) -> None:
        self.concurrency = ConcurrencyLimit(bounds, now)
        self.paused_until = now
        self._estimator = RateEstimator(now)
        self._spurious = SpuriousThrottles()
        self._told = HeaderLimits()
        self._is_rate = False  # whether refusals come from a rate limit, as far as is known
        self._votes = 0
        self._number = 0
        self._cut_at = -math.inf
        self._answers_at: dict[int, int] = {}  # to requests sent since the last cut, by the number in flight
        self._floor, self._passed = 0, 0  # see `_vote`
        self._refused_in_a_row = 0  # episodes in which nothing was admitted
        self._refusal_s = self.FIRST_REFUSAL_S
        self._first_sent_at: float | None = None  # after the last cut
        self._is_trickling = False
        self._latency_s, self._spread_s, self._timed = 0.0, 0.0, 0  # means over so many answers
        self._now = now

    @property
    def slots(self) -> int:
        """Requests allowed in flight."""
        trial, slots = self._spurious.trial, self.concurrency.slots
        return slots if trial is None else max(self.concurrency.minimum, int(slots * trial.slower))

    @property
    def pace_per_s(self) -> float | None:
        """Requests a second, sent evenly; None: as they come."""
        if (  # nothing is known that sets a pace, as of most gateways: so this has to be quick
            self._estimator.per_s is None
            and self.concurrency.ceiling is None
            and not self._told.has_any
            and not self._is_trickling
            and self._spurious.trial is None
            and (self.concurrency.is_fixed or not self._is_first_rise)
        ):
            return None
        paces = list(self._rates())
        if self._spurious.trial is not None:
            paces.append(self._spurious.trial.pace_per_s)
        if self._is_trickling:
            # After a pause all may still be refused: 35 slots sent 16 requests before the first refusal was back.
            paces.append(min(0.5 / self._refusal_s, self.TRICKLE_PER_S[self._refused_in_a_row >= 3]))
        if (smooth := self._smooth) is not None:
            paces.append(smooth * self.slots / self._latency_s)
        return min((pace for pace in paces if pace is not None), default=None)

    def limited_by(self, in_flight: int, now: float, *, has_lines: bool = True) -> LimitedBy:
        """What limits the run with so many in flight; `has_lines` says whether more would go if they might."""
        if now < self.paused_until:
            return LimitedBy.THROTTLED
        if in_flight >= self.slots:
            return self.concurrency.limited_by
        if not has_lines:
            return LimitedBy.TAIL
        rates = self._rates()
        least = min((rate for rate in rates if rate is not None), default=None)
        if least is None or not self._estimator.is_used(least):
            return self.concurrency.limited_by
        return LimitedBy.TOKENS if least == rates[-1] else LimitedBy.REQUESTS

    @property
    def paced_by(self) -> LimitedBy:
        """What `pace_per_s` comes from, for a request that waits for it."""
        pace = self.pace_per_s
        estimated, requests, tokens = self._rates()
        trial = self._spurious.trial
        if pace is None:
            return self.concurrency.limited_by
        if pace == tokens:
            return LimitedBy.TOKENS
        if pace in (estimated, requests) or (trial is not None and pace == trial.pace_per_s):
            return LimitedBy.REQUESTS
        return LimitedBy.THROTTLED if self._is_trickling else self.concurrency.limited_by

    def sent(self, in_flight: int, now: float) -> Sent:
        """A request goes out; `in_flight` counts it too."""
        self._now = now
        self._number += 1
        self._estimator.sent(now)
        self._spurious.sent(now)
        self.concurrency.sent(in_flight, now)
        if self._first_sent_at is None:
            self._first_sent_at = now
        elif self._is_trickling and self._is_admitting(now):
            self._is_trickling = False
        return Sent(now, in_flight, self._number)

    def succeeded(self, sent: Sent, now: float) -> None:
        """An answer came."""
        self._now = now
        if self._spurious.trial is not None and (limit_per_s := self._spurious.answered(sent.at, now)) is not None:
            self._estimator.at_most(limit_per_s)
        self._time(now - sent.at)
        if sent.at >= self._cut_at:
            self._answers_at[sent.in_flight] = self._answers_at.get(sent.in_flight, 0) + 1
            if self._floor:
                self._passed += sent.in_flight >= int(self._floor * (1 + self._late))
            self._refused_in_a_row = 0
            self._is_trickling = False
        if self._spurious.trial is None:
            self.concurrency.succeeded(sent.at, sent.in_flight, now, sent.ruled_at)
        else:
            self.concurrency.plateau.back(sent.at, sent.in_flight, now - sent.at)

    def failed(self, sent: Sent, now: float) -> None:
        """It failed in a way that says nothing about limits (a 503, a reset, a bad request)."""
        self._now = now
        self._time(now - sent.at)
        self.concurrency.plateau.back(sent.at, sent.in_flight, None)

    def throttled(self, sent: Sent, retry_after_s: float | None, now: float) -> float:
        """It was refused as too much; returns the seconds for which nothing should be sent."""
        self._now = now
        if self._spurious.refused(sent.at, sent.number, self._estimator.admitted, now):
            if self._spurious.has_judged(now):
                self.forget_limits(now)
            self._estimator.refused()
            self.concurrency.plateau.back(sent.at, sent.in_flight, None)
            return 0.0
        self._refusal_s += self.REFUSAL_SHARE * (min(now - sent.at, self.MAX_REFUSAL_S) - self._refusal_s)
        self._estimator.refused()
        self._told.refused()
        self.concurrency.plateau.back(sent.at, sent.in_flight, None)
        is_new = sent.at >= self._cut_at
        asked_s = max(0.0, min(retry_after_s or 0.0, self.MAX_ASKED_S))
        self._estimator.found_empty(sent.at, self._number - sent.number, asked_s, now, is_new=is_new)
        if is_new:
            nothing_admitted = not self._answers_at and not self._is_admitting(sent.at)
            self._refused_in_a_row = self._refused_in_a_row + 1 if nothing_admitted else 0
            self._vote(sent.in_flight, now)
        pause_s = self._pause_s(is_new, retry_after_s)
        nothing_admitted = self._refused_in_a_row > 0
        if is_new and self._refused_in_a_row == 0 and self._is_unexplained(now):
            self._spurious.suspect(self._estimator.admitted, now)
        self._estimator.throttled(
            pause_s,
            asked_s,
            now,
            is_new=is_new,
            nothing_admitted=nothing_admitted,
            is_rate=True if self._is_rate else False if self._votes <= -self.NO_RATE_VOTES else None,
        )
        if is_new:
            if not self._is_rate:
                if self._votes <= -self.NO_RATE_VOTES:
                    self._estimator.drop()
                self.concurrency.cut(sent.at, sent.in_flight, sum(self._answers_at.values()), pause_s, now)
            self._cut_at = now
            self._answers_at.clear()
            self._first_sent_at = None
            self._is_trickling = pause_s > 0 and nothing_admitted
        self.paused_until = max(self.paused_until, now + pause_s)
        return pause_s

    def begin(self, per_s: float, slots: int, now: float) -> None:
        """Begin at a limit that is used up: that of a rate until refusals show something else, as most of a model."""
        self._is_rate, self._votes = True, self.RATE_AT
        self._estimator.begin_empty(per_s, now)
        self.concurrency.begin(slots)

    def begin_told(self, headers: RateHeaders, sent_at: float, in_flight: int, now: float) -> None:
        """Begin with what the headers of an answer tell, to a request that was sent by other limits."""
        self._told.read(headers, sent_at, 0, in_flight, now)

    def forget_headers(self) -> None:
        """What headers told are the limits of one model."""
        self._told = HeaderLimits()

    def resume(self, now: float) -> None:
        """The pause was not needed, so no limit of a rate asked for it."""
        self.paused_until = now
        if not self._is_rate:
            self._estimator.drop()

    @property
    def at_once(self) -> int:
        """How many requests are in flight at the rate that was found out; 0 where there is none."""
        rate = min((rate for rate in self._rates() if rate is not None), default=0.0)
        return min(self.slots, math.ceil(rate * self._latency_s))

    def forget_limits(self, now: float) -> None:
        """What was taken for a limit were spurious throttles, the 503s of an outage, or the limit of one model."""
        self._is_rate, self._votes, self._floor, self._passed = False, 0, 0, 0
        self._estimator.drop()
        self.concurrency.restore(now)
        self.paused_until = now

    def headers(self, sent: Sent, headers: RateHeaders, now: float) -> None:
        """What an answer's headers say of the limits."""
        self._told.read(headers, sent.at, sent.number, self._number - sent.number, now)

    # ------------------------------------------------------------------------------------------ inside

    def _rates(self) -> tuple[float | None, float | None, float | None]:
        return self._estimator.per_s, *self._told.paces_per_s(self._now)

    @property
    def _is_even(self) -> bool:
        """Whether answers take about the same time."""
        return self._timed >= self.EVEN_FROM and self._spread_s < self.EVEN_SPREAD * self._latency_s

    @property
    def _is_first_rise(self) -> bool:
        """Whether the number is being found out for the first time, by answers that come in clumps."""
        return not self.concurrency.is_fixed and self._cut_at == -math.inf and self._is_even

    @property
    def _smooth(self) -> float | None:
        """How many times faster than answers come requests may go; None: as they come.

        Answers of equal latency come in clumps, and so would requests. With 6 at once, ten times a second, a limit of
        150 a second with a burst of 5 looks like a concurrency limit of 5; and clumps stay clumps. While the number
        doubles at the beginning, a clump of 64 would get 40 refusals from that limit before the first one is back.
        """
        if self.concurrency.ceiling is None:
            return self.SMOOTH_RISING if self._is_first_rise else None
        if self._latency_s <= 0 or not (self._is_even or self._votes >= 0):
            return None
        return self.SMOOTH if self._is_even else self.SMOOTH_UNEVEN

    def _is_unexplained(self, now: float) -> bool:
        """Whether a refusal comes although nothing was raised since the last cut."""
        if self._estimator.is_exploring:
            return False
        if self._is_rate and self._estimator.per_s is not None:
            return self._estimator.is_holding(now)
        return not self.concurrency.is_raising and self._cut_at > -math.inf

    @property
    def _late(self) -> float:
        """How long a refusal takes, as a share of what an answer takes. For that time a request which is refused or
        done is in flight for the client only. So that share more may be in flight than the gateway allows."""
        return min(1.0, self._refusal_s / self._latency_s) if self._latency_s else 1.0

    def _time(self, seconds: float) -> None:
        if self._timed < self.LATENCY_ANSWERS:
            self._timed += 1
        off_s = seconds - self._latency_s
        self._latency_s += off_s / self._timed
        self._spread_s += (abs(off_s) - self._spread_s) / self._timed

    def _is_admitting(self, now: float) -> bool:
        """Whether requests have been admitted since the last cut: the first one would have been refused by now."""
        return self._first_sent_at is not None and now > self._first_sent_at + 2 * self._refusal_s

    def _pause_s(self, is_new: bool, asked_s: float | None) -> float:
        """What the gateway asks for, within reason; else a tenth of a second, doubled while nothing is admitted."""
        is_short = (asked_s or 0.0) <= self.SHORT_ASKED_S
        if self._refused_in_a_row == 0 and not self._is_rate and self._votes < 0 and is_short:
            # A concurrency limit has room as soon as an answer comes. The least Retry-After is 1 s: with 40 in flight
            # and 200 ms each, a pause of that would be idle for four round trips.
            return 0.0
        if asked_s is not None and asked_s > 0:
            return min(asked_s, self.MAX_ASKED_S)
        if not is_new or (self._refused_in_a_row == 0 and not self._is_rate):
            return 0.0
        return min(self.FIRST_PAUSE_S * 2.0 ** min(max(0, self._refused_in_a_row - 1), 9), self.MAX_PAUSE_S)

    def _height(self, level: int) -> float:
        """How many standard deviations `level` is above the mean number in flight; one is at least 5 %, and 1."""
        count = max(1, sum(self._answers_at.values()))
        mean = sum(at * answers for at, answers in self._answers_at.items()) / count
        variance = sum((at - mean) * (at - mean) * answers for at, answers in self._answers_at.items()) / count
        return (level - mean) / max(1.0, 0.05 * mean, math.sqrt(variance))

    def _vote(self, level: int, now: float) -> None:
        """Tell a rate limit from a concurrency limit by an episode's first refusal, sent with `level` in flight.

        `floor` is the least number in flight refused of late, `passed` counts what has succeeded there since then.
        """
        vote = self._vote_of(level)
        floor, has_passed = self._floor, self._has_passed
        self._votes = max(-self.MOST_VOTES, min(self._votes + vote, self.MOST_VOTES))
        if not floor or has_passed or level <= floor:
            self._floor, self._passed = level, 0
        if not self._is_rate and self._votes >= self.RATE_AT:
            self._is_rate, self._votes = True, self.MOST_VOTES
            self.concurrency.restore(now)
        elif self._is_rate and self._votes <= self.CONCURRENCY_AT:
            self._is_rate, self._votes = False, -self.MOST_VOTES
            self._estimator.drop()

    @property
    def _has_passed(self) -> bool:
        """Whether enough has succeeded at the least number refused: at least 8, and half a round trip of it."""
        return self._floor > 0 and self._passed >= max(8, self._floor / 2)

    def _vote_of(self, level: int) -> int:
        """1 for a rate limit, -1 for a concurrency limit, 0 where this refusal fits both."""
        floor, passed = self._floor, self._passed
        answers = sum(self._answers_at.values())
        here = sum(count for at, count in self._answers_at.items() if at >= level)
        if level <= 2 and self._refused_in_a_row >= 3:
            return self.RATE_AT  # alone in flight, and refused again and again: no concurrency limit does that
        if self._is_rate:
            # Paced, the number drifts: a concurrency limit refuses at its peaks, a rate limit anywhere. (While the
            # pace itself rises, everything is refused at a peak.) Fewer than 40 answers make no mean to compare with.
            if answers < 40 or not self._estimator.is_sure:
                return 0
            height = self._height(level)
            return 1 if height < 1 else -1 if height > 1.3 else 0
        if self._estimator.is_exploring:
            return self._vote_exploring(level, answers)
        # Half a round trip of answers where there should have been none, and not at a higher limit than before; or
        # refused below the number that was refused before, with answers in between.
        if (
            (self._has_passed and level <= 1.6 * floor)
            or here >= max(8, (0.5 + 1.5 * self._late) * level)
            or (level < floor <= answers)
        ):
            return 1
        # Refused at the same number again, and nothing succeeds there. (A bucket that is used up while the number
        # rises looks like that once, at a level that depends on how full it was.)
        if passed < max(2, floor / 8) and answers >= 2 * level and floor <= level <= 1.05 * floor + 1:
            return -1
        return 0

    def _vote_exploring(self, level: int, answers: int) -> int:
        """The same while the pace rose from well below.

        A concurrency limit refuses at its number, however fast requests come; a rate limit refuses at its rate, however
        many are in flight, and tells the same rate twice.
        """
        fewer = answers >= self._floor and level * (1 + self._late) <= self.FEWER * self._floor
        if fewer or self._estimator.is_told_again:
            return self.RATE_AT - min(0, self._votes)
        if answers < self._floor:
            return 0
        return -1 if level <= 1.05 * self._floor + 1 else 1
