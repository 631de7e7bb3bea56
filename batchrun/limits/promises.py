"""What the user allows: requests in flight, requests and tokens a minute, US dollars, a pause.

A job has one of these. Where it sends to several endpoints, each of them has one of its own beside that of the job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from decimal import Decimal

from batchrun.limits.budget import Budget
from batchrun.limits.controller import Controller
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.limits.quotas import RequestQuota, Reserved, TokenQuota


class Promises:
    """What may be sent, by `limits` and within `budget` (None is no cap), and what is in flight of it.

    `controller`: who finds out what the gateway allows; None where the limiter does so by itself. `most_workers`: how
    many workers may have a line, beside what the gateway allows. `is_paced`: requests are spread over the minute.
    `counts_tokens`: the tokens of a minute are limited.
    """

    controller: Controller | None = None
    paused_by = LimitedBy.PAUSED  # where it is paused
    most_workers: int = sys.maxsize

    def __init__(self, limits: Limits, now: float, budget: Budget | None = None) -> None:
        self.limits = limits
        self.most_in_flight = limits.bounds.most
        self.in_flight = 0
        self.budget = budget
        self.is_paused = False
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = RequestQuota(rpm, now) if rpm is not None else None
        self._tokens = TokenQuota(tpm, now) if tpm is not None else None
        self.is_paced, self.counts_tokens = rpm is not None or tpm is not None, tpm is not None

    def may_go(self, now: float) -> bool:
        """Whether a request that was granted may still go out."""
        return True

    def wait_s(self, upper_usd: Decimal, now: float, tokens: float = 0.0) -> float | None:
        """Seconds until a request may be sent: 0 is now, None is not before one in flight ends."""
        if self.is_paused or self.in_flight >= self.most_in_flight:
            return None
        if self.budget is not None and not self.budget.fits(upper_usd):
            return None
        wait_s = 0.0
        if self._requests is not None:
            wait_s = self._requests.wait_s(now)
        if self._tokens is not None:
            wait_s = max(wait_s, self._tokens.wait_s(now))
        return wait_s

    def fit(self, upper_usd: Decimal) -> bool:
        """Whether the budget has room for a request that may cost so much, beside those in flight."""
        return self.budget is None or self.budget.fits(upper_usd)

    def never_fit(self, upper_usd: Decimal) -> bool:
        """Whether the budget will never have room for a request that may cost so much."""
        return self.budget is not None and self.budget.never_fits(upper_usd)

    def take(self, tokens: float, upper_usd: Decimal, now: float) -> Reserved | None:
        """A request is sent; returns what is reserved of the tokens."""
        self.in_flight += 1
        if self.budget is not None:
            self.budget.reserve(upper_usd)
        if self._requests is not None:
            self._requests.take(now)
        return self._tokens.take(tokens, now) if self._tokens is not None else None

    def give_back_request(self, now: float) -> None:
        """It was not sent after all."""
        if self._requests is not None:
            self._requests.give_back(now)

    def settle(
        self, reserved: Reserved | None, tokens_used: float | None, upper_usd: Decimal, cost_usd: Decimal, now: float
    ) -> None:
        """It has ended: free what was reserved, except what it used (None: all of it)."""
        self.in_flight -= 1
        if self._tokens is not None and reserved is not None and tokens_used is not None:
            if tokens_used:
                self._tokens.settle(reserved, tokens_used, now)
            else:
                self._tokens.give_back(reserved, now)
        if self.budget is not None:
            self.budget.settle(upper_usd, cost_usd)

    def next_at(self) -> list[tuple[float, LimitedBy]]:
        """From when on the quotas let the next request go, even where that is past; and what says so."""
        times = []
        if self._requests is not None:
            times.append((self._requests.next_at, LimitedBy.OWN_REQUESTS))
        if self._tokens is not None:
            times.append((self._tokens.next_at, LimitedBy.OWN_TOKENS))
        return times

    def change(self, limits: Limits, now: float, *, is_paused: bool) -> None:
        """Set other limits; those that stay the same keep their state."""
        self.limits, self.is_paused = limits, is_paused
        self.most_in_flight = limits.bounds.most
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        if rpm is None or self._requests is None:
            self._requests = RequestQuota(rpm, now) if rpm is not None else None
        else:
            self._requests.change(rpm)
        if tpm is None or self._tokens is None:
            self._tokens = TokenQuota(tpm, now) if tpm is not None else None
        else:
            self._tokens.change(tpm)
        self.is_paced, self.counts_tokens = rpm is not None or tpm is not None, tpm is not None

    def remember(self, requests: Sequence[tuple[float, float]], used_up_s: float | None, now: float) -> None:
        """What earlier runs sent: (age in seconds, tokens), oldest first.

        `used_up_s`: how long ago all that a minute may have was sent, for all that is known; None if it was not.
        """
        if self._requests is not None:
            all_s = [] if used_up_s is None else [used_up_s] * int(self._requests.per_minute)
            self._requests.remember([age_s for age_s, _ in requests] + all_s, now)
        if self._tokens is not None:
            all_tokens = [] if used_up_s is None else [(used_up_s, self._tokens.per_minute)]
            self._tokens.remember([*requests, *all_tokens], now)
