"""The rate estimator and the pacer: how many requests a second a rate limit lets through, and sending at that pace.

1. Pure: `now` is passed in.
2. At a throttle the gateway's bucket is empty, whatever its size. So what was admitted between two throttles, over
   the time between them, is the refill itself: no guess about bursts or fixed windows is needed.
3. The pace stays just under that, then creeps up, slowly at first, until the next throttle measures it again.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass


class Pacer:
    """Requests sent evenly, at a pace that may change at any time."""

    CATCH_UP_S = 0.01  # how much a late request makes up for: timers are a few ms late, and nothing must burst

    def __init__(self, now: float) -> None:
        self.next_at = now  # from when on the next request may be sent

    def take(self, per_s: float, now: float) -> None:
        """A request was sent, at a pace of `per_s`."""
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
    # The share by which the pace rises in a second, the seconds in which that doubles, and the most: small errors
    # cost little, and a limit ten times higher is still found within two minutes.
    CREEP, CREEP_DOUBLES, MAX_CREEP = 0.005, 6.0, 0.15
    # How long a pace is held before it rises: shortly where it is far below the limit; else longer each time that it
    # proves right, up to a minute, as limits are per minute.
    UNSURE_HOLD_S, FIRST_HOLD_S, MAX_HOLD_S = 1.0, 5.0, 60.0
    HOLD_PER_PAUSE = 30.0  # a pause of 1 s every 30 s costs 3 % of the time
    LONGEST_PAUSE_S = 2.0  # of a pause, as far as it lengthens the hold: to at most a minute
    HOLD_ADMITTED = 200.0  # between throttles: 1 throttle in 200 answers at worst
    USED = 0.85  # of the pace: below that the pace is not what limits the run, and it does not rise
    MARKS = 32  # throttles to measure from: more than enough even if each let one request through
    # Seconds, and two requests at the pace: in a longer gap no worker wanted to send, so it measures nothing.
    GAP_S = 2.0
    # How often the rate of sending is measured: in seconds, and in requests where these take longer.
    TICK_S, TICK_REQUESTS = 0.5, 4

    def __init__(self, now: float) -> None:
        self.per_s: float | None = None
        self.admitted = 0
        self._marks: deque[_Mark] = deque([_Mark(now, 0, 0.0)], maxlen=self.MARKS)
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
        """Whether about so many requests a second were sent recently."""
        return self._sent_per_s >= self.USED * per_s

    def sent(self, now: float) -> None:
        """A request was sent. A time in which no worker wanted to send says nothing about the limit: begin anew."""
        if now > self._expected_at:
            self._marks.clear()
            self._marks.append(_Mark(now, self.admitted, self._paused_s))
            self._tick_at, self._tick_admitted = now, self.admitted
        self._expected_at = now + self.GAP_S + (2 / self.per_s if self.per_s is not None else 0.0)
        self.admitted += 1
        elapsed_s = now - self._tick_at
        if elapsed_s >= max(self.TICK_S, self.TICK_REQUESTS / self.per_s if self.per_s is not None else 0.0):
            self._sent_per_s = (self.admitted - self._tick_admitted) / elapsed_s
            self._tick_at, self._tick_admitted = now, self.admitted
            if self.per_s is not None:
                self._creep(self.per_s, elapsed_s, now)

    def refused(self) -> None:
        """A request that was sent was not admitted."""
        self.admitted -= 1

    def throttled(self, pause_s: float, now: float, *, is_new: bool, nothing_admitted: bool, is_rate: bool) -> None:
        """The limit is used up now: measure it, and if it is a rate limit, step back to just under it.

        `is_new` opens an episode; `nothing_admitted` says that nothing has been admitted since the last one.
        """
        if is_new and is_rate:
            self._step_back(nothing_admitted, now)
            self._hold(pause_s, now)
        if not is_new:
            self._marks.pop()
        self._marks.append(_Mark(now, self.admitted, self._paused_s))
        if is_new:
            self._paused_s += pause_s
        self._expected_at = max(self._expected_at, now + pause_s + self.GAP_S)

    def at_most(self, per_s: float) -> None:
        """Set the limit, in requests a second, as measured in another way."""
        if self.per_s is not None:
            self.per_s = min(self.per_s, per_s * self.MARGIN)

    def drop(self) -> None:
        """It is not a rate limit after all."""
        self.per_s = None

    @property
    def is_sure(self) -> bool:
        """Whether the pace is about as high as the limit, by what is known now."""
        return self.per_s is not None and self.per_s >= self._fast_until

    def is_holding(self, now: float) -> bool:
        """Whether the pace has not risen since it was set: by what is known now, the gateway accepts it."""
        return now < self._creep_at

    # ------------------------------------------------------------------------------------------ inside

    def _hold(self, pause_s: float, now: float) -> None:
        """Stay at this pace for a while, the pause not counted; much longer where it seems to be the right one."""
        assert self.per_s is not None, "there is a pace to hold"
        hold_s = max(self.UNSURE_HOLD_S, self.ENOUGH / self.per_s)
        if self.is_sure:
            # In full only once the pace has proved right twice (`_hold_s` is four times the first).
            share = min(1.0, self._hold_s / (4 * self.FIRST_HOLD_S))
            for_pause_s = self.HOLD_PER_PAUSE * min(pause_s, self.LONGEST_PAUSE_S) * share
            hold_s = max(self._hold_s, for_pause_s, self.HOLD_ADMITTED / self.per_s)
        self._creep_at = now + pause_s + hold_s

    def _step_back(self, nothing_admitted: bool, now: float) -> None:
        # `low` counts the pauses, `high` does not. Where they differ, most of the time may have been a pause.
        low, high = self._measure(now)
        measured = high if high <= 1.15 * low else low
        agrees = abs(measured - self._measured) < 0.3 * self._measured
        per_s, was_fast = self.per_s, self._fast_until > 0
        is_soon, was_soon = self.admitted - self._marks[-1].admitted < self.ENOUGH, self._was_soon
        self._measured, self._fast_until, self._was_soon = measured, 0.0, is_soon
        if per_s is None:
            # The bucket may have filled up during the pause (then `low` is right), or run over (then `high` is).
            high = min(high, 10 * low)
            self.per_s = math.cbrt(low * high * high) * self.MARGIN
            self._fast_until = math.inf
        elif nothing_admitted:  # as in the rest of a fixed window: what was admitted has to last until the next one
            self.per_s = min(per_s, low * self.MARGIN)
            if not agrees:
                self._fast_until = 0.9 * per_s
        elif is_soon and was_soon:  # the limit is no longer the one that was measured
            self.per_s = min(max(measured * self.MARGIN, 0.6 * per_s), 0.85 * per_s)
            self._fast_until = 0.9 * per_s
        elif is_soon:
            self.per_s = max(min(measured, 0.97 * per_s) * self.MARGIN, 0.85 * per_s)
        elif measured < 0.85 * per_s and 2 * low < high:  # most of the time was a pause, and its refill is used up
            self.per_s = max(low * self.MARGIN, 0.3 * per_s)
            self._fast_until = 0.9 * per_s
        elif measured < 0.85 * per_s:  # the bucket ran over while the pace was far below: the limit is near the pace
            self.per_s = (0.9 if was_fast else 0.95) * per_s
        else:
            # While the pace was held, a small bucket may have run over a little: then too little was measured.
            self.per_s = min(max(measured, 0.97 * per_s), per_s) * self.MARGIN
            self._hold_s = min(2 * self._hold_s, self.MAX_HOLD_S)
            return
        self._hold_s = self.FIRST_HOLD_S

    def _measure(self, now: float) -> tuple[float, float]:
        """Admitted a second since the latest throttle that is far enough back: pauses counted, and not counted."""
        marks = (mark for mark in reversed(self._marks) if self.admitted - mark.admitted >= self.ENOUGH)
        mark = next(marks, self._marks[0])
        admitted, elapsed_s = max(1, self.admitted - mark.admitted), max(now - mark.at, 0.01)
        return admitted / elapsed_s, admitted / max(elapsed_s - (self._paused_s - mark.paused_s), 0.01)

    def _creep(self, per_s: float, elapsed_s: float, now: float) -> None:
        if not self.is_used(per_s):
            # A pace that is not used is not the limit: 15 %/s would take it anywhere in a minute of idling.
            self._creep_at = max(self._creep_at, now)
        elif now > self._creep_at:
            # In units of ten requests where these take longer than a second: a slow limit shows late.
            unit_s = max(1.0, 10 / per_s)
            rate = self.MAX_CREEP
            if self.is_sure:
                doublings = min((now - self._creep_at) / (self.CREEP_DOUBLES * unit_s), 10.0)
                rate = min(rate, self.CREEP * 2.0**doublings)
            self.per_s = per_s * math.exp(rate * elapsed_s / unit_s)
            if per_s < self._fast_until <= self.per_s:
                self._hold(0.0, now)
