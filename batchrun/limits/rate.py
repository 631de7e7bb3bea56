"""The rate estimator and the pacer: how many requests a second a rate limit lets through, and sending at that pace.

1. Pure: `now` is passed in.
2. At a throttle the gateway's bucket is empty, whatever its size. So what was admitted between two throttles, over
   the time between them, is the refill itself: no guess about bursts or fixed windows is needed.
3. The pace stays just under that, then creeps up, slowly at first, until the next throttle measures it again.
4. Where each throttle costs a pause (`Retry-After`), the bucket runs over meanwhile. Then two throttles of different
   kinds tell its refill (`refill.py`), and as few as possible are spent on finding out.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from batchrun.limits.refill import Bucket, Refill


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
    """A throttle, or the beginning: when, how much had been admitted and how long nothing had been sent until then."""

    at: float
    admitted: int
    paused_s: float
    is_empty: bool = True


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
    # A pause that is worth avoiding; and the share of it that a bucket has to run over for its size to matter.
    COSTLY_S, SPILT = 0.5, 0.2
    # Two refusals that tell the same refill within this share of it are right, and the pace goes closer to it.
    SAME, SURE_MARGIN = 0.02, 0.995
    # The first guess after a refusal that pauses, as a share of what was admitted just before it; and the share by
    # which that rises in a second. Once something is told, it rises by a third of that: the more the next refusal
    # differs from this one, the more both tell. With fewer than ten admitted, they tell too little for that.
    GUESS, RISE, RISE_AGAIN, FEW = 0.6, 0.4, 0.3, 10.0
    USED = 0.85  # of the pace: below that the pace is not what limits the run, and it does not rise
    MARKS = 32  # throttles to measure from: more than enough even if each let one request through
    # Nothing admitted for longer is not the rest of a window: whatever it is, it tells of no rate.
    LONGEST_WINDOW_S = 60.0
    # Seconds, and two requests at the pace: in a longer gap no worker wanted to send, so it measures nothing.
    GAP_S = 2.0
    # How often the rate of sending is measured: in seconds, and in requests where these take longer.
    TICK_S, TICK_REQUESTS = 0.5, 4

    def __init__(self, now: float) -> None:
        self.per_s: float | None = None
        self.admitted = 0
        self._marks: deque[_Mark] = deque([_Mark(now, 0, 0.0, is_empty=False)], maxlen=self.MARKS)
        self._refill = Refill(now)
        self._told: Bucket | None = None  # by the last refusal that paused, and by the one before it
        self._told_before: Bucket | None = None
        self.is_exploring = False  # the pace is a guess, and rises until the next refusal tells more
        self._rise = self.RISE
        self._paused_s = 0.0
        self._hold_s = self.FIRST_HOLD_S
        self._empty_since = -math.inf  # nothing has been admitted since then, as far as refusals tell
        self._is_new, self._rough_until = False, 0  # see `begin_empty`
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
            self._is_new = False
            self._marks.clear()
            self._marks.append(_Mark(now, self.admitted, self._paused_s, is_empty=False))
            self._empty_since = -math.inf
            self._refill.restart(now)
            self._tick_at, self._tick_admitted = now, self.admitted
        self._expected_at = now + self.GAP_S + (2 / self.per_s if self.per_s is not None else 0.0)
        self._refill.sent(now)
        self.admitted += 1
        elapsed_s = now - self._tick_at
        if elapsed_s >= self.TICK_S and (self.per_s is None or elapsed_s >= self.TICK_REQUESTS / self.per_s):
            self._sent_per_s = (self.admitted - self._tick_admitted) / elapsed_s
            self._tick_at, self._tick_admitted = now, self.admitted
            if self.per_s is not None:
                self._creep(self.per_s, elapsed_s, now)

    def refused(self) -> None:
        """A request that was sent was not admitted."""
        self.admitted -= 1

    def found_empty(self, sent_at: float, sent_since: int, asked_s: float, now: float, *, is_new: bool) -> None:
        """The request sent at `sent_at` was refused; so many were sent since, and the gateway asked for that pause."""
        self._refill.refused(sent_at, sent_since, is_new=is_new)
        if is_new:
            if self.admitted - sent_since > self._marks[-1].admitted:
                self._empty_since = now
            self._told_before, self._told = self._told, self._refill.told() if asked_s >= self.COSTLY_S else None

    def throttled(
        self, pause_s: float, asked_s: float, now: float, *, is_new: bool, nothing_admitted: bool, is_rate: bool | None
    ) -> None:
        """The limit is used up now: measure it, and if it is a rate limit, step back to just under it.

        `pause_s` is the pause that follows, `asked_s` the one that the gateway asked for (0: none). `is_new` opens an
        episode; `nothing_admitted` says that nothing has been admitted since the last one. `is_rate` is None while
        nobody knows what limit it is.
        """
        if is_new and is_rate and now - self._empty_since <= self.LONGEST_WINDOW_S:
            self._step_back(pause_s, nothing_admitted, now)
            self._hold(pause_s, now)
        elif is_new and is_rate is None and asked_s >= self.COSTLY_S:
            self._explore(pause_s, now)
        # Where nothing was admitted, the last one tells as much. The beginning tells more.
        if not is_new or (now > self._empty_since and len(self._marks) > 1):
            self._marks.pop()
        self._marks.append(_Mark(now, self.admitted, self._paused_s))
        if is_new:
            self._paused_s += pause_s
            if pause_s >= self.COSTLY_S:
                self._tick_at, self._tick_admitted = now + pause_s, self.admitted
        self._expected_at = max(self._expected_at, now + pause_s + self.GAP_S)

    def begin_empty(self, per_s: float, now: float) -> None:
        """Begin at a bucket that is empty now, with about its refill (0: unknown).

        So what is admitted from now on is the refill, and few refusals tell it, however roughly at first: until then
        nothing is held for long, and a refusal is no surprise.
        """
        self._is_new, self._rough_until = True, int(self.HOLD_ADMITTED)
        self._expected_at = now + self.GAP_S
        if per_s:
            self.per_s, self._fast_until = per_s, math.inf
            self._creep_at = now + max(self.UNSURE_HOLD_S, self.ENOUGH / per_s)

    @property
    def is_told_again(self) -> bool:
        """Whether the last refusal tells of the same refill as the one before: there is one."""
        if self._told is None or self._told_before is None:
            return False
        return abs(self._told.per_s - self._told_before.per_s) < self.SAME * self._told.per_s

    def at_most(self, per_s: float) -> None:
        """Set the limit, in requests a second, as measured in another way."""
        if self.per_s is not None:
            self.per_s = min(self.per_s, per_s * self.MARGIN)

    def drop(self) -> None:
        """It is not a rate limit after all."""
        self.per_s, self.is_exploring = None, False

    @property
    def is_sure(self) -> bool:
        """Whether the pace is about as high as the limit, by what is known now."""
        return self.per_s is not None and self.per_s >= self._fast_until

    def is_holding(self, now: float) -> bool:
        """Whether the pace has not risen since it was set: by what is known now, the gateway accepts it."""
        return now < self._creep_at and self.admitted >= self._rough_until

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

    def _explore(self, pause_s: float, now: float) -> None:
        """What limit it is, is not known, and each refusal costs a pause: begin well below it, and rise until the next.

        A burst would be refused by either limit at about the same number in flight, and would measure nothing.
        """
        if self._told is not None:
            self.per_s = self._told.per_s * self.MARGIN
            # Few admitted make no exact measurement, so there is no point in going slowly past it.
            admitted = max(1, self.admitted - self._marks[-1].admitted)
            self._rise = self.RISE * max(self.RISE_AGAIN, min(1.0, self.FEW / admitted))
        elif recent_per_s := self._refill.recent_per_s():
            self.per_s, self._rise = self.GUESS * recent_per_s, self.RISE
        else:
            return
        self.is_exploring = True
        self._creep_at = now + pause_s

    def _follow(self, pause_s: float, *, is_first: bool) -> bool:
        """Go just below the refill that is told, if that is to be believed."""
        told = self._told
        # No bucket with that refill is emptied by a slower pace: then the limit has fallen.
        if told is None or (self.per_s is not None and self.per_s < told.per_s):
            return False
        # A bucket that does not run over in a pause may as well be a fixed window, which holds more than it tells.
        # There a refusal costs little, so the next one may decide.
        if not self.is_told_again and not (is_first and told.spilt_s(pause_s) > self.SPILT * pause_s):
            return False
        self.per_s = told.per_s * self.SURE_MARGIN
        self._hold_s = 4 * self.FIRST_HOLD_S if is_first else min(2 * self._hold_s, self.MAX_HOLD_S)
        return True

    def _step_back(self, pause_s: float, nothing_admitted: bool, now: float) -> None:
        # `low` counts the pauses, `high` does not. Where they differ, most of the time may have been a pause.
        low, high = self._measure(now)
        measured = high if high <= 1.15 * low else low
        if nothing_admitted:
            measured = self._lasts_per_s(now)
        agrees = abs(measured - self._measured) < 0.3 * self._measured
        per_s, was_fast = self.per_s, self._fast_until > 0
        is_soon, was_soon = self.admitted - self._marks[-1].admitted < self.ENOUGH, self._was_soon
        self._measured, self._fast_until, self._was_soon = measured, 0.0, is_soon
        is_first, self.is_exploring = per_s is None or self.is_exploring, False
        if self._follow(pause_s, is_first=is_first):
            return
        admitted = self.admitted - self._marks[0].admitted
        self._is_new = self._is_new and admitted < self.ENOUGH
        if self._is_new:  # one more would have been admitted at that pace
            told = (admitted + 1) / max(now - self._marks[0].at, 0.01)
            self.per_s, self._fast_until = told if per_s is None else min(told, per_s), math.inf
        elif per_s is None or is_first:
            # The bucket may have filled up during the pause (then `low` is right), or run over (then `high` is).
            high = min(high, 10 * low)
            self.per_s = math.cbrt(low * high * high) * self.MARGIN
            self._fast_until = math.inf
        elif nothing_admitted:  # as in the rest of a fixed window: what was admitted has to last until the next one
            self.per_s = min(per_s, measured * self.MARGIN)
            if not agrees:
                self._fast_until = 0.9 * per_s
        elif is_soon and was_soon:  # the limit is no longer the one that was measured
            self.per_s = min(max(measured * self.MARGIN, 0.6 * per_s), 0.85 * per_s)
            self._fast_until = 0.9 * per_s
        elif is_soon:
            self.per_s = max(min(measured, 0.97 * per_s) * self.MARGIN, 0.85 * per_s)
            self._fast_until = 0.9 * per_s
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
            if self.is_exploring and now > self._creep_at:
                self.drop()
        elif self.is_exploring:
            self.per_s = per_s * math.exp(self._rise * elapsed_s / max(1.0, 10 / per_s))
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

    def _lasts_per_s(self, now: float) -> float:
        """The fastest pace at which what was admitted since any of the throttles would have lasted until now."""
        enough = [mark for mark in self._marks if mark.is_empty and self.admitted - mark.admitted >= self.ENOUGH]
        spans = [(self.admitted - mark.admitted, now - mark.at) for mark in enough or [self._marks[0]]]
        return max(max(1, admitted) / max(elapsed_s, 0.01) for admitted, elapsed_s in spans)
