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


class Pacer:
    """Requests sent evenly, at a pace that may change at any time; who comes late catches up by 10 ms, no more."""

    CATCH_UP_S = 0.01

    def __init__(self, now: float) -> None:
        self.next_at = now  # the next may go

    def take(self, per_s: float, now: float) -> None:
        """One went, at a pace of `per_s`."""
        self.next_at = max(self.next_at, now - self.CATCH_UP_S) + 1 / per_s


@dataclass(slots=True)
class _Mark:
    """A throttle: when, how much had been admitted and how long nothing had been sent until then."""

    at: float
    admitted: int
    paused_s: float


class RateEstimator:
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
