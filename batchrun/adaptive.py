"""How many requests may be in flight, and how many a second: found out from answers and refusals alone.

1. Pure: `now` (seconds of a monotonic clock) is passed in; nothing waits, nothing is random.
2. Slow start doubles each round trip, while what is allowed is used, nothing is refused, and throughput rises.
3. A refusal cuts once an episode: requests that were sent before the cut do not cut again.
4. A capacity limit refuses above a number in flight at which nothing succeeds: stay one below it, and try one more
   when enough answers have paid for the refusal that this may cost.
5. A rate limit refuses at numbers in flight at which others succeed: leave the number, set a pace.
6. A queue refuses nothing: stay where more in flight brought no more answers (`plateau.py`), and look again.
7. Whatever was learnt is tried again after a time that grows to minutes at most: nothing is frozen for good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

from batchrun.pace import Allowance, LearntPace, RateHeaders
from batchrun.plateau import Plateau


class Bound(Enum):
    """What holds a run back."""

    LINES = "fewer lines in flight than allowed"
    SLOW_START = "still finding out"
    MAXIMUM = "the highest concurrency allowed"
    CAPACITY = "requests at once, as the gateway's refusals show"
    PLATEAU = "throughput, which more requests in flight do not raise"
    REQUESTS = "requests per second"
    TOKENS = "tokens per minute"
    THROTTLED = "a pause the gateway asked for"


@dataclass(frozen=True, slots=True)
class Sent:
    """What is asked later of a request that was sent: when, as the how-manieth in flight, and in all."""

    at: float
    in_flight: int
    number: int


class Controller:
    """Between `minimum` and `maximum` in flight, from `start` on.

    Every request is announced by `sent`, and what became of it by exactly one of `succeeded`, `throttled` and
    `failed`. `slots`, `pace_per_s` and `paused_until` say what may go out.
    """

    RATE_AT, CAPACITY_AT = 2, 0  # votes for a rate limit: where the pace is set, and where it is dropped again
    SMOOTH, SMOOTH_UNEVEN = 1.03, 1.15  # of what the answers' latency lets through: enough to use every slot
    FIRST_PAUSE_S, MAX_PAUSE_S, MAX_ASKED_S = 0.1, 10.0, 120.0

    def __init__(self, minimum: int, maximum: int, start: int, now: float) -> None:
        self.window = Window(minimum, maximum, start, now)
        self.paused_until = now
        self._learnt = LearntPace(now)
        self._requests = Allowance(1.0)
        self._tokens = Allowance(None)
        self._is_rate = False
        self._votes = 0
        self._number = 0
        self._cut_at = -math.inf
        self._answers_at: dict[int, int] = {}  # to requests sent since the last cut, by the number in flight
        self._floor, self._passed = 0, 0  # see `_vote`
        self._refused_in_a_row = 0
        self._refusal_s = 0.01
        self._opened_at: float | None = None
        self._is_trickling = False
        self._latency_s, self._spread_s, self._timed = 0.0, 0.0, 0  # means over the last 300, and how many so far
        self._now = now

    @property
    def slots(self) -> int:
        """Requests allowed in flight."""
        return self.window.slots

    @property
    def pace_per_s(self) -> float | None:
        """Requests a second, sent evenly; None: as they come."""
        paces = [*self._paces()]
        if self._is_trickling:
            # Behind a pause the door may still be shut: 35 slots sent 16 requests before the first refusal was back.
            paces.append(0.5 / self._refusal_s)
        if self.window.ceiling is not None and self._latency_s > 0:
            # Answers of like latency come in clumps, so would requests: 6 at once, ten times a second, look like a
            # capacity of 5 to who meets a limit of 150 a second with a burst of 5; and clumps stay clumps.
            even = self._spread_s < 0.2 * self._latency_s
            if even or self._votes >= 0:
                paces.append((self.SMOOTH if even else self.SMOOTH_UNEVEN) * self.slots / self._latency_s)
        return min((pace for pace in paces if pace is not None), default=None)

    def bound_by(self, in_flight: int, now: float) -> Bound:
        """What holds the run back, given how many are in flight."""
        if now < self.paused_until:
            return Bound.THROTTLED
        if in_flight >= self.slots:
            return self.window.bound_by
        learnt, requests, tokens = self._paces()
        least = min((pace for pace in (learnt, requests, tokens) if pace is not None), default=None)
        if least is None or not self._learnt.is_used(least):
            return self.window.bound_by if in_flight >= Window.SATURATED * self.slots else Bound.LINES
        return Bound.TOKENS if least == tokens else Bound.REQUESTS

    def sent(self, in_flight: int, now: float) -> Sent:
        """A request goes out; `in_flight` counts it too."""
        self._now = now
        self._number += 1
        self._learnt.sent(now)
        self.window.sent(in_flight, now)
        if self._opened_at is None:
            self._opened_at = now
        elif self._is_trickling and self._is_open(now):
            self._is_trickling = False
        return Sent(now, in_flight, self._number)

    def succeeded(self, sent: Sent, now: float) -> None:
        """An answer came."""
        self._now = now
        self._time(now - sent.at)
        if sent.at >= self._cut_at:
            self._answers_at[sent.in_flight] = self._answers_at.get(sent.in_flight, 0) + 1
            self._passed += sent.in_flight >= int(self._floor * (1 + self._late))
            self._refused_in_a_row = 0
            self._is_trickling = False
        self.window.succeeded(sent.at, sent.in_flight, now)

    def failed(self, sent: Sent, now: float) -> None:
        """It failed in a way that says nothing about limits (a 503, a reset, a bad request)."""
        self._now = now
        self._time(now - sent.at)
        self.window.plateau.back(sent.at, sent.in_flight, None)

    def throttled(self, sent: Sent, retry_after_s: float | None, now: float) -> float:
        """It was refused as too much; returns for how many seconds nothing should be sent."""
        self._now = now
        self._refusal_s += 0.2 * (min(now - sent.at, 5.0) - self._refusal_s)
        for limit in (self._learnt, self._requests, self._tokens):
            limit.refused()
        self.window.plateau.back(sent.at, sent.in_flight, None)
        is_new = sent.at >= self._cut_at
        if is_new:
            was_shut = not self._answers_at and not self._is_open(sent.at)
            self._refused_in_a_row = self._refused_in_a_row + 1 if was_shut else 0
        pause_s = self._pause_s(is_new, retry_after_s)
        if is_new:
            self._vote(sent.in_flight)
        is_shut = self._refused_in_a_row > 0
        self._learnt.throttled(pause_s, now, is_new=is_new, is_shut=is_shut, is_rate=self._is_rate)
        if is_new:
            if not self._is_rate:
                self.window.cut(sent.in_flight, sum(self._answers_at.values()), pause_s, now)
            self._cut_at = now
            self._answers_at.clear()
            self._opened_at = None
            self._is_trickling = pause_s > 0 and is_shut
        self.paused_until = max(self.paused_until, now + pause_s)
        return pause_s

    def headers(self, sent: Sent, headers: RateHeaders, now: float) -> None:
        """What an answer's headers say of the limits."""
        for allowance, limit, remaining, reset_s in (
            (self._requests, headers.limit_requests, headers.remaining_requests, headers.reset_requests_s),
            (self._tokens, headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_s),
        ):
            since = self._number - sent.number
            allowance.read(limit, remaining, reset_s, sent_at=sent.at, number=sent.number, sent_since=since, now=now)

    # ------------------------------------------------------------------------------------------ inside

    def _paces(self) -> tuple[float | None, float | None, float | None]:
        return self._learnt.per_s, self._requests.pace_per_s(self._now), self._tokens.pace_per_s(self._now)

    @property
    def _late(self) -> float:
        """How long a refusal takes, of what an answer does. For so long, what is refused or done is in flight at the
        client only: that share more may be in flight than the gateway allows."""
        return min(1.0, self._refusal_s / self._latency_s) if self._latency_s else 1.0

    def _time(self, seconds: float) -> None:
        self._timed += 1
        off_s = seconds - self._latency_s
        self._latency_s += off_s / min(self._timed, 300)
        self._spread_s += (abs(off_s) - self._spread_s) / min(self._timed, 300)

    def _is_open(self, now: float) -> bool:
        """Whether requests have been let in since the last cut: the first one would have been refused by now."""
        return self._opened_at is not None and now > self._opened_at + 2 * self._refusal_s

    def _pause_s(self, is_new: bool, asked_s: float | None) -> float:
        """The gateway's word, within reason; without one a tenth of a second, doubled while the door stays shut."""
        if self._refused_in_a_row == 0 and not self._is_rate and self._votes < 0 and (asked_s or 0) <= 2:
            # A capacity limit has room as soon as an answer comes. The least Retry-After is 1 s: with 40 in flight
            # and 200 ms each, a pause of that would idle for four round trips.
            return 0.0
        if asked_s is not None and asked_s > 0:
            return min(asked_s, self.MAX_ASKED_S)
        if not is_new or (self._refused_in_a_row == 0 and not self._is_rate):
            return 0.0
        return min(self.FIRST_PAUSE_S * 2.0 ** min(max(0, self._refused_in_a_row - 1), 9), self.MAX_PAUSE_S)

    def _height(self, level: int) -> float:
        """How many standard deviations above the mean number in flight `level` is; at least 5 % or one count as one."""
        count = max(1, sum(self._answers_at.values()))
        mean = sum(at * answers for at, answers in self._answers_at.items()) / count
        variance = sum((at - mean) * (at - mean) * answers for at, answers in self._answers_at.items()) / count
        return (level - mean) / max(1.0, 0.05 * mean, math.sqrt(variance))

    def _vote(self, level: int) -> None:
        """Tell a rate limit from a capacity limit by an episode's first refusal.

        `floor` is the least number in flight refused of late, `passed` what has succeeded at it or above since then.
        """
        floor, passed = self._floor, self._passed
        answers = sum(self._answers_at.values())
        here = sum(count for at, count in self._answers_at.items() if at >= level)
        has_passed = floor > 0 and passed >= max(8, floor / 2)
        if level <= 2 and self._refused_in_a_row >= 3:
            vote = self.RATE_AT  # alone in flight, and refused again and again: no capacity limit does that
        elif self._is_rate:
            # Paced, the number drifts: a capacity limit refuses at its peaks, a rate limit anywhere. (While the pace
            # itself rises, everything is refused at a peak.)
            height = self._height(level)
            vote = 0 if answers < 40 or not self._learnt.is_sure else 1 if height < 1 else -1 if height > 1.3 else 0
        elif (
            (has_passed and level <= 1.6 * floor)
            or here >= max(8, (0.5 + 1.5 * self._late) * level)
            or (level < floor <= answers)
        ):
            # Half a round trip of answers where there should have been none, and it is no higher limit that was met;
            # or refused below the number that was refused before, with answers in between.
            vote = 1
        elif passed < max(2, floor / 8) and answers >= 2 * level and floor <= level <= 1.05 * floor + 1:
            # Refused at the same number again, and nothing succeeds there. (A bucket that is used up while the number
            # rises looks like that once, at a level that depends on how full it was.)
            vote = -1
        else:
            vote = 0
        self._votes = max(-3, min(self._votes + vote, 3))
        if not floor or has_passed or level <= floor:
            self._floor, self._passed = level, 0
        if not self._is_rate and self._votes >= self.RATE_AT:
            self._is_rate, self._votes = True, 3
            self.window.restore()
        elif self._is_rate and self._votes <= self.CAPACITY_AT:
            self._is_rate, self._votes = False, -3
            self._learnt.drop()


class _Phase(Enum):
    RISING = "no ceiling known"
    RETURNING = "below the ceiling"
    HOLDING = "just below the ceiling, until a try is paid for"
    TRYING = "a step beyond the ceiling"
    PLATEAU = "where throughput ceased to rise"


class Window:
    """The number in flight. `ceiling` is the least number at which a request was refused."""

    SATURATED = 0.8  # of the limit: a lower peak proves nothing about the limit
    STEP = 0.03  # the first cut of a series, below the number refused; at least one
    AGAIN = 0.7  # the further ones, with less than half a round trip of answers between
    PAID_FIRST, PAID_MOST = 8, 200  # answers before a try beyond the ceiling: at worst 1 refusal in 200 in the end
    PAID_PER_PAUSE = 30.0  # seconds for each second the last refusal paused
    LOOK_AGAIN_S, LOOK_AGAIN_MOST_S = 10.0, 300.0
    LOOK_GAIN = 0.25  # slots per answer when looking again: doubling would fill the queue to four times its knee

    def __init__(self, minimum: int, maximum: int, start: int, now: float) -> None:
        self.minimum, self.maximum = minimum, maximum
        self.ceiling: int | None = None
        self.plateau = Plateau(now)
        self._limit = float(start)
        self._phase = _Phase.RISING
        self._gain = 1.0
        self._phase_at = now  # in RISING: since when the gain is what it is
        self._answers = 0
        self._price = self.PAID_FIRST
        self._paid_at = now
        self._before = float(start)
        self._full_at = now
        self._look_again_s = self.LOOK_AGAIN_S
        self._careful_until = 0.0

    @property
    def slots(self) -> int:
        """The limit now, a whole number."""
        return max(self.minimum, min(self.maximum, int(self._limit)))

    @property
    def bound_by(self) -> Bound:
        """What keeps the number where it is."""
        if self.slots >= self.maximum:
            return Bound.MAXIMUM
        if self._phase is _Phase.PLATEAU:
            return Bound.PLATEAU
        return Bound.SLOW_START if self._phase is _Phase.RISING else Bound.CAPACITY

    def sent(self, level: int, now: float) -> None:
        """A request went out as the `level`th in flight."""
        self.plateau.sent(level, now)
        if level >= self.SATURATED * self.slots:
            self._full_at = now

    def succeeded(self, sent_at: float, level: int, now: float) -> None:
        """It was answered: grow, hold or try, as the phase says."""
        self.plateau.back(sent_at, level, now - sent_at)
        self._answers += self._phase is not _Phase.TRYING or sent_at >= self._phase_at
        if sent_at > self._full_at:
            return
        match self._phase:
            case _Phase.RISING:
                self._rise(sent_at, now)
            case _Phase.RETURNING:
                self._return(now)
            case _Phase.HOLDING if self._answers >= self._price and now >= self._paid_at:
                self._enter(_Phase.TRYING, now)
                self._limit = self.slots + self._step
            case _Phase.TRYING:
                # A whole round trip beyond the ceiling, and nothing refused: there is no ceiling here.
                if self._answers >= self.slots:
                    self.ceiling, self._price = None, self.PAID_FIRST
                    self._start_rising(self._step / self._limit, 0.0, now)
            case _Phase.PLATEAU if now >= self._phase_at + self._look_again_s:
                self._look_again(now)
            case _:
                pass

    def cut(self, level: int, answers: int, pause_s: float, now: float) -> None:
        """A request was refused as the `level`th in flight, after so many answers since the last cut."""
        again = self.ceiling is not None and answers < level / 2
        if not again:
            self._before = self._limit
        moved = self.ceiling is None or abs(level / self.ceiling - 1) > 0.1
        self._price = self.PAID_FIRST if moved else min(2 * self._price, self.PAID_MOST)
        self.ceiling = level
        kept = level * self.AGAIN if again else min(level - max(1, self.STEP * level), level - 1)
        if self._phase is _Phase.TRYING and not again:
            kept = level - self._step
        self._limit = max(float(self.minimum), min(self._limit, kept))
        if not again:
            self._paid_at = now + pause_s * self.PAID_PER_PAUSE * self._price / self.PAID_MOST
        self._enter(_Phase.RETURNING, now)

    def restore(self) -> None:
        """The number was not the reason: take back the cuts of this series."""
        self._limit = max(self._limit, self._before)
        self.ceiling = None
        self._phase = _Phase.RISING

    # ------------------------------------------------------------------------------------------ inside

    @property
    def _step(self) -> int:
        return max(1, int(self._limit / 100))

    def _enter(self, phase: _Phase, now: float) -> None:
        self._phase, self._phase_at, self._answers = phase, now, 0

    def _start_rising(self, gain: float, careful_until: float, now: float) -> None:
        self._enter(_Phase.RISING, now)
        self._gain, self._careful_until = gain, careful_until
        self.plateau.clear(now)

    def _rise(self, sent_at: float, now: float) -> None:
        if self._answers % 8 == 0 and (knee := self.plateau.knee()) is not None:
            self._limit = max(float(self.minimum), min(self._limit, knee))
            self._enter(_Phase.PLATEAU, now)
            return
        self._limit = min(float(self.maximum), self._limit + self._gain)
        if sent_at < self._phase_at:
            return
        if self._gain < 1 and self._limit > self._careful_until:  # a round trip went well: go faster
            self._gain = min(1.0, 2 * self._gain)
            self._look_again_s = self.LOOK_AGAIN_S
            self._phase_at = now

    def _return(self, now: float) -> None:
        """Halve what is missing each round trip, up to one below the ceiling."""
        assert self.ceiling is not None, "there is a ceiling to return to"
        top = max(float(self.minimum), self.ceiling - 1.0)
        self._limit = min(top, self._limit + max(1.0, (top - self._limit) / 2) / self._limit)
        if self._limit >= top:
            self._enter(_Phase.HOLDING, now)

    def _look_again(self, now: float) -> None:
        """Begin again from below the knee with fresh latencies: old ones may be those of other answers."""
        self._look_again_s = min(2 * self._look_again_s, self.LOOK_AGAIN_MOST_S)
        knee, self._limit = self._limit, max(float(self.minimum), self._limit / 1.6)
        self._start_rising(self.LOOK_GAIN, 2 * knee, now)
