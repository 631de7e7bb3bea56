"""`--rpm` and `--tpm`: so many requests, so many tokens in any minute, kept as promises and spread evenly.

1. Pure: every method takes `now` (seconds of a monotonic clock).
2. Neither starts with a minute's worth at once. What earlier runs sent within the last minute counts: see `remember`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

MINUTE_S = 60.0
LEAST_PER_MINUTE = 0.001  # one in 16 hours: less is a typing mistake


class RequestQuota:
    """A token bucket: at most `per_minute` requests in any 60 s, plus one more.

    The bucket holds the requests of a tenth of a second: enough to make up for late timers, too little for a burst. Its
    refill is lowered by that amount.
    """

    def __init__(self, per_minute: float, now: float) -> None:
        self._now = now
        self.level = math.inf
        self.change(per_minute)

    def wait_s(self, now: float) -> float:
        """Seconds until a request may be sent; 0 if it may be sent now."""
        self._refill(now)
        missing = 1 - self.level
        # A millionth is forgiven: a request that waits exactly that long may go, however floats are rounded.
        return missing / self.refill_per_s if missing > 1e-6 else 0.0

    @property
    def next_at(self) -> float:
        """The time from which a request may be sent if none is sent before; it may be past."""
        return self._now + (1 - self.level) / self.refill_per_s

    def take(self, now: float) -> None:
        """A request is sent."""
        self._refill(now)
        self.level -= 1

    def remember(self, ages_s: Sequence[float], now: float) -> None:
        """Earlier runs sent requests so long ago, oldest first. Call it before any request is sent.

        As many as a minute may have are enough: with more, the promise holds again once the last of them are that old.
        """
        ages_s = ages_s[-max(1, int(self.per_minute)) :]
        if ages_s:
            self._now = now - ages_s[0]
        for age_s in ages_s:
            self.take(now - age_s)
        self._refill(now)

    def give_back(self, now: float) -> None:
        """The request was not sent after all."""
        self._refill(now)
        self.level = min(self.capacity, self.level + 1)

    def change(self, per_minute: float) -> None:
        """Set another limit."""
        self.per_minute = per_minute
        self.capacity = max(1.0, per_minute / 600)
        self.refill_per_s = (per_minute + 1 - self.capacity) / MINUTE_S
        self.level = min(self.level, self.capacity)

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._now) * self.refill_per_s)
        self._now = now


@dataclass(frozen=True, slots=True)
class Reserved:
    """What one request has reserved of a `TokenQuota`.

    `interval` is when it was sent, `tokens` what is reserved, `expected` what it will probably use.
    """

    interval: int
    estimate: float
    tokens: float
    expected: float


class TokenQuota:
    """The tokens of all requests sent in any 60 s: at most `per_minute`, plus those of one more request.

    1. What a request may use is reserved when it is sent, and settled by what it did use. Both count for the time
       at which it was sent, so the promise is kept however long the answers in flight become. If far more is reserved
       than used, fewer requests are in flight than possible.
    2. Requests are sent evenly: each delays the next one by the time in which its expected tokens are refilled. What
       it did use corrects that, so that errors of the estimate neither waste the limit nor add up.
    3. If estimates are too low (few bytes a token, long answers), more is reserved from then on.
    """

    INTERVAL_S = 0.1  # how finely the last minute is counted: 600 intervals are exact to 0.2 %
    INTERVALS = round(MINUTE_S / INTERVAL_S)
    CATCH_UP_S = 0.1  # how much a late request makes up for: timers are late, and nothing must burst
    REMEMBERED = 300  # requests, in the mean of tokens used to tokens estimated

    def __init__(self, per_minute: float, now: float) -> None:
        self.per_minute = per_minute
        self._held: dict[int, float] = {}  # tokens by interval, in order
        self._total = 0.0
        self._next_at = now
        self._used, self._estimated = 0.0, 0.0

    def wait_s(self, now: float) -> float:
        """Seconds until a request may be sent, by what is known now; 0 if it may be sent now."""
        self._expire(now)
        wait_s = max(self.next_at - now, 0.001 if self._is_used_up else 0.0)
        return wait_s if wait_s > 1e-6 else 0.0

    @property
    def next_at(self) -> float:
        """The time from which a request may be sent if none is sent before, by what is known now; it may be past."""
        if not self._is_used_up:
            return self._next_at
        oldest_out = (next(iter(self._held)) + self.INTERVALS + 1) * self.INTERVAL_S
        return max(self._next_at, oldest_out)

    def remember(self, requests: Sequence[tuple[float, float]], now: float) -> None:
        """Earlier runs sent requests so long ago, and used so many tokens, oldest first. Call it before `take`."""
        for age_s, tokens in requests:
            interval = int((now - age_s) / self.INTERVAL_S)
            self._held[interval] = self._held.get(interval, 0.0) + tokens
            self._total += tokens
            self._delay(tokens, now - age_s)
        self._next_at = min(self._next_at, now + MINUTE_S)  # then all of them have been forgotten

    def take(self, estimate: float, now: float) -> Reserved:
        """A request is sent that may use `estimate` tokens."""
        ratio = self._used / self._estimated if self._estimated else 1.0
        reserved = Reserved(int(now / self.INTERVAL_S), estimate, estimate * max(1.0, ratio), estimate * ratio)
        self._held[reserved.interval] = self._held.get(reserved.interval, 0.0) + reserved.tokens
        self._total += reserved.tokens
        self._delay(reserved.expected, now)
        return reserved

    def settle(self, reserved: Reserved, used: float, now: float) -> None:
        """The request used so many tokens."""
        self._correct(reserved, used, now)
        keep = 1 - 1 / self.REMEMBERED
        self._used, self._estimated = keep * self._used + used, keep * self._estimated + reserved.estimate

    def give_back(self, reserved: Reserved, now: float) -> None:
        """The request failed, or was not sent: that says nothing about what requests use."""
        self._correct(reserved, 0.0, now)

    def change(self, per_minute: float) -> None:
        """Set another limit; what the last minute used counts for it."""
        self.per_minute = per_minute

    # ------------------------------------------------------------------------------------------ inside

    @property
    def _is_used_up(self) -> bool:
        return self._total >= self.per_minute * (1 - 1e-9) and bool(self._held)

    def _correct(self, reserved: Reserved, used: float, now: float) -> None:
        self._expire(now)
        if reserved.interval in self._held:
            self._held[reserved.interval] += used - reserved.tokens
            self._total += used - reserved.tokens
        self._delay(used - reserved.expected, now)

    def _delay(self, tokens: float, now: float) -> None:
        """So many tokens more, or fewer, have to be refilled before the next request."""
        earliest = now - self.CATCH_UP_S
        self._next_at = max(earliest, max(earliest, self._next_at) + tokens * MINUTE_S / self.per_minute)

    def _expire(self, now: float) -> None:
        """Forget what is more than a minute old; an interval counts until all of it is."""
        current = int(now / self.INTERVAL_S)
        while self._held and (oldest := next(iter(self._held))) < current - self.INTERVALS:
            self._total -= self._held.pop(oldest)
        if not self._held:
            self._total = 0.0  # sums of floats drift
