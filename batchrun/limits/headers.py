"""What `x-ratelimit-*` headers say of a limit, steered by as long as it makes sense. Pure; `now` is passed in."""

from __future__ import annotations

import math


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
