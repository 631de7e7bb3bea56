"""What `x-ratelimit-*` headers say about a limit, followed as long as it makes sense. Pure; `now` is passed in."""

from __future__ import annotations

import math

from batchrun.records.outcome import RateHeaders


class MinuteWindow:
    """A limit that begins anew each minute, as far as headers tell; `is_one`: it seems to be that, not a bucket.

    A bucket is refilled all the time. Of a window nothing comes back until the next one begins, so what is left has to
    last until then. When it began is known once what is left has jumped up; until then it began before the first
    reading, so it ends within a minute of that.
    """

    MINUTE_S = 60.0
    JUMP = 0.1  # of the limit, beyond what a bucket may have refilled: the next window
    TOO_SOON = 0.9  # of a minute between two jumps: these are no windows
    LOOK_S, LOOK_REFILL = 1.0, 4.0  # from so long, and so many requests of a refill on, it is seen whether it is one
    LOOK_FOR_NEXT_PER_S = 0.1  # requests, while it is not known when the next one begins
    NO_REFILL, REFILL = 0.25, 0.5  # of the refill of a bucket: less is none, more is one

    def __init__(self) -> None:
        self.is_one = self._is_none = False
        self._began_at = -math.inf  # at the latest
        self._jumped_at = -math.inf
        self._first = 0  # number of the first request in it
        self._last: tuple[float, float] | None = None
        self._anchor: tuple[float, int, int, float] | None = None

    def read(
        self, limit: float, left: float, sent_at: float, number: int, sent_since: int, *, counts_requests: bool
    ) -> None:
        """What was left at an answer, whose request was that of this `number`; so many were sent after it."""
        refill_per_s = limit / self.MINUTE_S
        last, self._last = self._last, (sent_at, left)
        if last is None:
            self._begin(sent_at, number)
        elif left > last[1] + 1.5 * refill_per_s * (sent_at - last[0]) + max(2.0, self.JUMP * limit):
            if sent_at - self._jumped_at < self.TOO_SOON * self.MINUTE_S:
                self.is_one, self._is_none = False, True
                return
            self._jumped_at = last[0]  # at the earliest
            self.is_one = not self._is_none
            self._begin(sent_at, number)
        elif counts_requests and not self._is_none and self._jumped_at == -math.inf:
            self._look(left, sent_at, number, sent_since, refill_per_s)
        if self.is_one and sent_at > self._began_at + self.TOO_SOON * 2 * self.MINUTE_S:
            self.is_one, self._is_none = False, self._jumped_at == -math.inf  # no next one began

    def per_s(self, limit: float, left: float, number: int, sent_since: int, unit: float, now: float) -> float:
        """Requests a second until the next window begins; each takes one `unit` of what is left.

        What is in flight may be counted already, or not: of this job's own requests, it is known how many there were.
        """
        own = limit - unit * (number + sent_since + 1 - self._first)
        left = max(left - unit * sent_since, min(left, own))
        rest_s = max(1.0, self._began_at + self.MINUTE_S - now)
        least_per_s = 1 / rest_s if self._jumped_at > -math.inf else self.LOOK_FOR_NEXT_PER_S
        return max(left / unit / rest_s, least_per_s)

    @property
    def ends_at(self) -> float:
        """When the next one begins, at the latest."""
        return self._began_at + self.MINUTE_S

    def _begin(self, at: float, number: int) -> None:
        self._began_at, self._first = at, number
        self._anchor = None

    def _look(self, left: float, sent_at: float, number: int, sent_since: int, refill_per_s: float) -> None:
        """Compare what was taken since the anchor with what was sent: what is in flight may count already, or not."""
        if self._anchor is None:
            self._anchor = (sent_at, number, number + sent_since, left)
            return
        at, first, first_of_all, before = self._anchor
        refill = refill_per_s * (sent_at - at)
        if sent_at - at < self.LOOK_S or refill < self.LOOK_REFILL:
            return
        came_back = min(number - first, number + sent_since - first_of_all) - (before - left)
        self._anchor = (sent_at, number, number + sent_since, left)
        if came_back < self.NO_REFILL * refill:
            self.is_one = True
        elif came_back > self.REFILL * refill:
            self.is_one = False


class Allowance:
    """One limit that headers describe, in requests or in tokens; `unit` is what a request takes (None: found out).

    What is left is steered to a small reserve: above it the pace is faster than the refill, below it slower. So an
    error in what a request takes shifts the reserve a little, and neither wastes the refill nor exceeds the limit.
    """

    RESERVE = 0.05  # of the limit: what may be in flight between two readings
    MOST_RESERVE = 0.25  # of the limit, where two requests are added that are large
    SETTLES_S = 10.0  # in which the reserve is reached, or three latencies if those are longer: no oscillation
    STALE_S = 60.0  # without a reading: headers that stopped coming slow nothing down
    SPARE = 0.5  # of the limit left: nothing is slowed down
    LEAST = 0.1  # of the refill: with a shared account at 0 left, answers must still bring readings
    # Readings that contradict answers, before the headers are ignored; and how many of them one jump upwards counts
    # for. A fixed window that begins anew is one jump a minute, and soon forgotten.
    DOUBTS, DOUBT_PER_JUMP = 20, 7
    IGNORED_S = 60.0  # at first, doubled each time: the headers of another account stay wrong
    UNIT_REQUESTS = 16  # between two readings, to find out what a request takes: some long answers do not decide
    NEW_UNIT = 0.3  # of the mean is the newest one: requests later in the file may be larger

    def __init__(self, unit: float | None) -> None:
        self._fixed_unit = unit
        self._unit = unit
        self._anchor: tuple[float, int, float] | None = None
        self._last_number = -1
        self._per_s: float | None = None
        self._window = MinuteWindow()
        self._limit = 0.0
        self._refill_per_s = 0.0
        self._last_refill: float | None = None
        self._read_at = -math.inf
        self._last_at, self._last_remaining = 0.0, -1.0
        self._doubts = 0
        self._ignored_until = -math.inf
        self._ignore_s = self.IGNORED_S

    def pace_per_s(self, now: float) -> float | None:
        """Requests a second; None if nothing is known, or enough is left."""
        if now < self._ignored_until:
            return None
        if self._window.is_one and self._per_s is not None and now >= self._window.ends_at and self._unit:
            return (
                self._limit / MinuteWindow.MINUTE_S / self._unit
            )  # the next one has begun, and nothing is known of it
        return None if now - self._read_at > self.STALE_S else self._per_s

    def refused(self) -> None:
        """Something was refused: the limit is real."""
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
        self._limit = limit
        self._window.read(limit, remaining, sent_at, number, sent_since, counts_requests=self._fixed_unit is not None)
        self._refill_per_s = 0.0 if self._window.is_one else self._refill(limit, remaining, reset_s)
        if not self._window.is_one:
            self._doubt(limit, remaining, sent_at, now)
        self._last_number, self._last_at, self._last_remaining, self._read_at = number, sent_at, remaining, now
        self._learn_unit(limit, remaining, sent_at, number)
        if self._unit is None or now < self._ignored_until:
            return
        if self._window.is_one:
            self._per_s = self._window.per_s(limit, remaining, number, sent_since, self._unit, now)
            return
        # The reading is as old as the answer took: since then requests went out, and some was refilled.
        left = min(limit, remaining - self._unit * sent_since + self._refill_per_s * (now - sent_at))
        if left > self.SPARE * limit:
            self._per_s = None
            return
        reserve = min(self.RESERVE * limit + 2 * self._unit, self.MOST_RESERVE * limit)
        settles_s = max(self.SETTLES_S, 3 * (now - sent_at))
        wanted = self._refill_per_s + (left - reserve) / settles_s
        self._per_s = max(wanted, self.LEAST * self._refill_per_s) / self._unit

    def _refill(self, limit: float, remaining: float, reset_s: float | None) -> float:
        """Units a second: a minute fills it, unless two readings agree on another time until it is full.

        (So a limit per day is recognized; the resets of a fixed window do not agree with each other.)
        """
        if reset_s is None or not 0 < reset_s < math.inf or limit - remaining < 0.02 * limit:
            return self._refill_per_s or limit / 60
        last, self._last_refill = self._last_refill, (limit - remaining) / reset_s
        if last is not None and abs(last / self._last_refill - 1) < 0.02:
            return self._last_refill
        return self._refill_per_s or limit / 60

    def _learn_unit(self, limit: float, remaining: float, sent_at: float, number: int) -> None:
        if self._fixed_unit is not None:
            return
        reading = (sent_at, number, remaining)
        # A full bucket does not show what was taken.
        if self._anchor is None or self._anchor[2] > 0.995 * limit:
            self._anchor = reading
        elif number - self._anchor[1] >= self.UNIT_REQUESTS:
            at, first, before = self._anchor
            took = (before - remaining + self._refill_per_s * (sent_at - at)) / (number - first)
            if took > 0:
                self._unit = took if self._unit is None else (1 - self.NEW_UNIT) * self._unit + self.NEW_UNIT * took
            self._anchor = reading

    def _doubt(self, limit: float, remaining: float, sent_at: float, now: float) -> None:
        """Count what cannot be if the limits are ours: answers although nothing is left, or more left than can have
        been refilled since the last reading. Then they are another account's (a relay copies what its upstreams say).
        """
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


def is_mostly_used(headers: RateHeaders) -> bool:
    """Whether half of a limit is used, so that it is close enough to matter."""
    pairs = (
        (headers.limit_requests, headers.remaining_requests),
        (headers.limit_tokens, headers.remaining_tokens),
    )
    return any(
        limit is not None and left is not None and 0 <= left <= Allowance.SPARE * limit and limit >= 1
        for limit, left in pairs
    )


class HeaderLimits:
    """The limits that answers' headers tell of: requests and tokens. `has_any`: some did."""

    def __init__(self) -> None:
        self.has_any = False
        self._requests, self._tokens = Allowance(1.0), Allowance(None)

    def read(self, headers: RateHeaders, sent_at: float, number: int, sent_since: int, now: float) -> None:
        """What one answer says; its request was the one of that `number`, and so many were sent after it."""
        self.has_any = True
        for allowance, limit, remaining, reset_s in (
            (self._requests, headers.limit_requests, headers.remaining_requests, headers.reset_requests_s),
            (self._tokens, headers.limit_tokens, headers.remaining_tokens, headers.reset_tokens_s),
        ):
            allowance.read(limit, remaining, reset_s, sent_at=sent_at, number=number, sent_since=sent_since, now=now)

    def refused(self) -> None:
        """Something was refused: the limits are real."""
        self._requests.refused()
        self._tokens.refused()

    def paces_per_s(self, now: float) -> tuple[float | None, float | None]:
        """Requests a second by the limit of requests, and by that of tokens; None where that slows nothing down."""
        return self._requests.pace_per_s(now), self._tokens.pace_per_s(now)
