"""How many requests a second a rate limit lets through: learnt from throttles, or read from its headers.

1. At a throttle the gateway's bucket is empty, whatever its size. So what was admitted between two throttles, over
   the time between them, is the refill itself: no guess about bursts or windows is needed.
2. The pace stays just under that, then creeps up, slowly at first, until the next throttle measures it again.
3. Headers are believed while they make sense, and left alone for a while once answers show that they don't.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


class Spacing:
    """Requests sent evenly, at a pace that may change at any time; who comes late catches up by 10 ms, no more."""

    CATCH_UP_S = 0.01

    def __init__(self, now: float) -> None:
        self._next_at = now

    def wait_s(self, now: float) -> float:
        """Seconds until the next may go."""
        return max(0.0, self._next_at - now)

    def take(self, per_s: float, now: float) -> None:
        """One went, at a pace of `per_s`."""
        self._next_at = max(self._next_at, now - self.CATCH_UP_S) + 1 / per_s


@dataclass(slots=True)
class _Mark:
    """A throttle: when, how much had been admitted and how long nothing had been sent until then."""

    at: float
    admitted: int
    paused_s: float


class LearntPace:
    """Requests a second, from what was admitted between throttles."""

    MARGIN = 0.99  # of the measured rate: at 1.0 every hiccup of the network is a throttle
    ENOUGH = 30  # admitted, for a measurement: it is off by one request, 3 %
    CREEP, CREEP_DOUBLES, MAX_CREEP = 0.005, 6.0, 0.15  # a second; see `_creep`
    UNSURE_HOLD_S, FIRST_HOLD_S, MAX_HOLD_S = 1.0, 5.0, 60.0
    HOLD_PER_PAUSE = 30.0  # a pause of 1 s every 30 s costs 3 % of the time
    HOLD_ADMITTED = 200.0  # between throttles: 1 throttle in 200 answers at worst
    USED = 0.85  # of the pace: below that it is not what holds the run back

    def __init__(self, now: float) -> None:
        self.per_s: float | None = None
        self.admitted = 0
        self._marks: deque[_Mark] = deque([_Mark(now, 0, 0.0)], maxlen=32)
        self._paused_s = 0.0
        self._hold_s = self.FIRST_HOLD_S
        self._fast_until = 0.0
        self._was_soon = False
        self._measured = 0.0
        self._creep_at = now
        self._expected_at = now
        self._tick_at = now
        self._tick_admitted = 0
        self._sent_per_s = 0.0

    def is_used(self, per_s: float) -> bool:
        """Whether about so many requests a second were sent of late."""
        return self._sent_per_s >= self.USED * per_s

    def sent(self, now: float) -> None:
        """One more went out. What nobody wanted to send says nothing of the limit: a long gap starts afresh."""
        if now > self._expected_at:
            self._marks.clear()
            self._marks.append(_Mark(now, self.admitted, self._paused_s))
            self._tick_at, self._tick_admitted = now, self.admitted
        self._expected_at = now + 2.0 + (2 / self.per_s if self.per_s is not None else 0.0)
        self.admitted += 1
        elapsed_s = now - self._tick_at
        if elapsed_s >= max(0.5, 4 / self.per_s if self.per_s is not None else 0.0):
            self._sent_per_s = (self.admitted - self._tick_admitted) / elapsed_s
            self._tick_at, self._tick_admitted = now, self.admitted
            if self.per_s is not None:
                self._creep(self.per_s, elapsed_s, now)

    def refused(self) -> None:
        """One that was sent was not admitted."""
        self.admitted -= 1

    def throttled(self, pause_s: float, now: float, *, is_new: bool, is_shut: bool, is_rate: bool) -> None:
        """The limit is used up now: measure, and where it is a rate limit, step back to just under it.

        `is_new` opens an episode; `is_shut` says that nothing has been let in since the last one.
        """
        if is_new and is_rate:
            self._step_back(is_shut, now)
            self._hold(pause_s, now)
        if not is_new:
            self._marks.pop()
        self._marks.append(_Mark(now, self.admitted, self._paused_s))
        if is_new:
            self._paused_s += pause_s
        self._expected_at = max(self._expected_at, now + pause_s + 2.0)

    def at_most(self, per_s: float) -> None:
        """So many a second are the limit, as far as is known in another way."""
        if self.per_s is not None:
            self.per_s = min(self.per_s, per_s * self.MARGIN)

    def drop(self) -> None:
        """It is no rate limit after all."""
        self.per_s = None

    @property
    def is_sure(self) -> bool:
        """Whether the pace is about what the limit is, as far as is known."""
        return self.per_s is not None and self.per_s >= self._fast_until

    def is_held(self, now: float) -> bool:
        """Whether the pace has not risen since it was set: it passed, as far as is known."""
        return now < self._creep_at

    # ------------------------------------------------------------------------------------------ inside

    def _hold(self, pause_s: float, now: float) -> None:
        """Stay at this pace for a while, the pause not counted; much longer where it seems to be the right one."""
        assert self.per_s is not None, "there is a pace to hold"
        hold_s = max(self.UNSURE_HOLD_S, self.ENOUGH / self.per_s)
        if self.is_sure:
            paid_s = self.HOLD_PER_PAUSE * min(pause_s, 2.0) * min(1.0, self._hold_s / (4 * self.FIRST_HOLD_S))
            hold_s = max(self._hold_s, paid_s, self.HOLD_ADMITTED / self.per_s)
        self._creep_at = now + pause_s + hold_s

    def _step_back(self, is_shut: bool, now: float) -> None:
        low, high = self._measure(now)
        measured = high if high <= 1.15 * low else low
        agrees = abs(measured - self._measured) < 0.3 * self._measured
        per_s, was_fast = self.per_s, self._fast_until > 0
        is_soon, was_soon = self.admitted - self._marks[-1].admitted < self.ENOUGH, self._was_soon
        self._measured, self._fast_until, self._was_soon = measured, 0.0, is_soon
        if per_s is None:
            # Most of the time may have been a pause: it flowed back meanwhile (`low`), or ran over (`high`).
            high = min(high, 10 * low)
            self.per_s = math.cbrt(low * high * high) * self.MARGIN
            self._fast_until = math.inf
        elif is_shut:  # what was admitted until now has to last until it opens
            self.per_s = min(per_s, low * self.MARGIN)
            if not agrees:
                self._fast_until = 0.9 * per_s
        elif is_soon and was_soon:  # it is another limit than the one that was measured
            self.per_s = min(max(measured * self.MARGIN, 0.6 * per_s), 0.85 * per_s)
            self._fast_until = 0.9 * per_s
        elif is_soon:
            self.per_s = max(min(measured, 0.97 * per_s) * self.MARGIN, 0.85 * per_s)
        elif measured < 0.85 * per_s and 2 * low < high:  # most of the time was a pause: its refill is used up
            self.per_s = max(low * self.MARGIN, 0.3 * per_s)
            self._fast_until = 0.9 * per_s
        elif measured < 0.85 * per_s:  # it ran over while the pace was far below: what refused is just below the pace
            self.per_s = (0.9 if was_fast else 0.95) * per_s
        else:
            # While it was held the limit may have run over a little, if it is a small one, and measured too little.
            self.per_s = min(max(measured, 0.97 * per_s), per_s) * self.MARGIN
            self._hold_s = min(2 * self._hold_s, self.MAX_HOLD_S)
            return
        self._hold_s = self.FIRST_HOLD_S

    def _measure(self, now: float) -> tuple[float, float]:
        """Admitted a second since the latest throttle that is far enough back, with and without its pauses."""
        marks = (mark for mark in reversed(self._marks) if self.admitted - mark.admitted >= self.ENOUGH)
        mark = next(marks, self._marks[0])
        admitted, elapsed_s = max(1, self.admitted - mark.admitted), max(now - mark.at, 0.01)
        return admitted / elapsed_s, admitted / max(elapsed_s - (self._paused_s - mark.paused_s), 0.01)

    def _creep(self, per_s: float, elapsed_s: float, now: float) -> None:
        if not self.is_used(per_s):
            # A pace that is not used is not the limit: 15 %/s would take it anywhere in a minute of idling.
            self._creep_at = max(self._creep_at, now)
        elif now > self._creep_at:
            # In units of ten requests where these take longer than a second: a limit per minute shows late.
            unit_s = max(1.0, 10 / per_s)
            rate = self.MAX_CREEP
            if self.is_sure:
                doublings = min((now - self._creep_at) / (self.CREEP_DOUBLES * unit_s), 10.0)
                rate = min(rate, self.CREEP * 2.0**doublings)
            self.per_s = per_s * math.exp(rate * elapsed_s / unit_s)
            if per_s < self._fast_until <= self.per_s:
                self._hold(0.0, now)


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """`x-ratelimit-*` of one answer, as they came; None where absent or unreadable. Reset is seconds."""

    limit_requests: float | None = None
    remaining_requests: float | None = None
    reset_requests_s: float | None = None
    limit_tokens: float | None = None
    remaining_tokens: float | None = None
    reset_tokens_s: float | None = None


class Allowance:
    """One limit that headers tell of, in requests or in tokens; `unit` is what a request takes (None: found out).

    What is left is steered to a small reserve: above it the pace is faster than the refill, below it slower. So an
    error in what a request takes shifts the reserve a little, and neither wastes the refill nor runs into the limit.
    """

    RESERVE = 0.05  # of the limit: what may be in the air between two readings
    SETTLES_S = 10.0
    STALE_S = 60.0  # without a reading: headers that ceased to come hold nothing back
    SPARE = 0.5  # of the limit left: nothing is held back
    LEAST = 0.1  # of the refill: a shared account at 0 left must not stop the readings
    DOUBTS, DOUBT_PER_JUMP = 20, 7  # a window that begins anew is one jump a minute, and soon forgotten
    IGNORED_S = 60.0

    def __init__(self, unit: float | None) -> None:
        self._fixed_unit = unit
        self._unit = unit
        self._anchor: tuple[float, int, float] | None = None
        self._last_number = 0
        self._per_s: float | None = None
        self._refill_per_s = 0.0
        self._told_refill: float | None = None
        self._read_at = -math.inf
        self._last_at, self._last_remaining = 0.0, -1.0
        self._doubts = 0
        self._ignored_until = -math.inf
        self._ignore_s = self.IGNORED_S

    def pace_per_s(self, now: float) -> float | None:
        """Requests a second; None where nothing is known, or nothing holds back."""
        return None if now - self._read_at > self.STALE_S or now < self._ignored_until else self._per_s

    def refused(self) -> None:
        """The gateway means it."""
        self._doubts = 0

    def read(
        self,
        limit: float | None,
        remaining: float | None,
        reset_s: float | None,
        *,
        sent_at: float,
        number: int,
        sent_since: int,
        now: float,
    ) -> None:
        """One answer's headers; `sent_since` requests went out after the one that they belong to."""
        # -1/-1/0 of Azure, a limit of 0, more left than there is: no reading. Answers overtake each other: the
        # reading of an earlier request is older, and would look like a refill.
        if limit is None or remaining is None or not 0 <= remaining <= limit or limit < 1 or limit == math.inf:
            return
        if number <= self._last_number:
            return
        self._refill_per_s = self._refill(limit, remaining, reset_s)
        self._doubt(limit, remaining, sent_at, now)
        self._last_number, self._last_at, self._last_remaining, self._read_at = number, sent_at, remaining, now
        self._learn_unit(limit, remaining, sent_at, number)
        if self._unit is None or now < self._ignored_until:
            return
        # The reading is as old as the answer took: what went out since has been taken, what flowed back is back.
        left = min(limit, remaining - self._unit * sent_since + self._refill_per_s * (now - sent_at))
        if left > self.SPARE * limit:
            self._per_s = None
            return
        reserve = min(self.RESERVE * limit + 2 * self._unit, 0.25 * limit)
        settles_s = max(self.SETTLES_S, 3 * (now - sent_at))
        wanted = self._refill_per_s + (left - reserve) / settles_s
        self._per_s = max(wanted, self.LEAST * self._refill_per_s) / self._unit

    def _refill(self, limit: float, remaining: float, reset_s: float | None) -> float:
        """Units a second: a minute fills it, unless two readings agree on another time until it is full.

        (A limit per day tells of itself so; the reset of a fixed window does not agree with itself.)
        """
        if reset_s is None or not 0 < reset_s < math.inf or limit - remaining < 0.02 * limit:
            return self._refill_per_s or limit / 60
        told, self._told_refill = self._told_refill, (limit - remaining) / reset_s
        if told is not None and abs(told / self._told_refill - 1) < 0.02:
            return self._told_refill
        return self._refill_per_s or limit / 60

    def _learn_unit(self, limit: float, remaining: float, sent_at: float, number: int) -> None:
        if self._fixed_unit is not None:
            return
        reading = (sent_at, number, remaining)
        # A full bucket hides what was taken.
        if self._anchor is None or self._anchor[2] > 0.995 * limit:
            self._anchor = reading
        elif number - self._anchor[1] >= 16:
            at, first, before = self._anchor
            took = (before - remaining + self._refill_per_s * (sent_at - at)) / (number - first)
            if took > 0:
                self._unit = took if self._unit is None else 0.7 * self._unit + 0.3 * took
            self._anchor = reading

    def _doubt(self, limit: float, remaining: float, sent_at: float, now: float) -> None:
        """Count what cannot be if these are our own limits: answers although nothing is left, or more left than flowed
        back since the last reading. They are another account's then (a relay copies what its upstreams say)."""
        back = self._refill_per_s * max(0.0, sent_at - self._last_at)
        if 0 <= self._last_remaining < remaining - 1.5 * back - 0.1 * limit:
            self._doubts += self.DOUBT_PER_JUMP
        elif remaining < min(self._unit or 1, 1):
            self._doubts += 1
        else:
            self._doubts = max(0, self._doubts - 1)
        if self._doubts >= self.DOUBTS:
            self._doubts, self._per_s = 0, None
            self._ignored_until = now + self._ignore_s
            self._ignore_s *= 2
