"""What one shard of a job may do, by a lease that is renewed all the time, in place of what a whole job may do.

1. Nothing is sent without a lease that is good *now*: the time is looked at again when a request goes out.
2. Requests and tokens are counted in all, and compared with totals. What was counted as sent stays so: at worst it was.
3. A part of 0 requests in flight is a pause, never the end of the work.
4. Money: the cap is the lease's, and rises; only a line that may cost more than what is left for all shards never fits.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal

from batchrun.limits.budget import ENOUGH, Budget
from batchrun.limits.follower import Follower
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.limits.promises import Promises
from batchrun.limits.quotas import MINUTE_S, Reserved
from batchrun.limits.rate import Pacer
from batchrun.records.money import NOTHING, total_usd


@dataclass(frozen=True, slots=True)
class Part:
    """What a shard may do until `expires_at`, by its own clock.

    `version`: of the lease. `slots`: requests in flight. `requests`, `tokens`: what it may have sent in all, `per_s`
    requests a second. `usd`: its cap, and `usd_left` what is left for all shards, in US dollars; None without one.
    `usd_margin`: how many times its bound is reserved for a request. `paused_until`: nothing is sent before.
    `paused_by`: why there are no slots, where there are none. `keeps_events`: what is sent and how it ends is to be
    reported. `is_back`: the gateway was away, and has answered.
    """

    version: int = 0
    expires_at: float = -math.inf
    slots: int = 0
    requests: float = 0.0
    per_s: float = math.inf
    tokens: float = 0.0
    usd: Decimal | None = None
    usd_left: Decimal | None = None
    usd_margin: int = 1
    paused_until: float = -math.inf
    paused_by: LimitedBy = LimitedBy.SHARDS
    keeps_events: bool = False
    is_back: bool = False


class LeasedBudget(Budget):
    """What a shard may spend: `cap` is that of the job, of which `part` is the shard's; `spent` is the shard's."""

    def __init__(self, cap: Decimal, spent: Decimal) -> None:
        super().__init__(cap, spent)
        self.part, self.left_for_all = NOTHING, cap

    @property
    def left(self) -> Decimal:
        """What the shard has neither spent nor reserved of its part."""
        return total_usd((self.part, -self.spent, -self.reserved))

    @property
    def is_used(self) -> bool:
        """Whether so much is spent, by all shards, that the first line which does not fit may end the run."""
        return self.spent_by_all >= self.cap * ENOUGH

    @property
    def spent_by_all(self) -> Decimal:
        """What all shards have spent, for all that is known."""
        return max(self.spent, total_usd((self.cap, -self.left_for_all)))

    def never_fits(self, upper_usd: Decimal) -> bool:
        """Whether no shard will ever have room for an attempt whose bound is `upper_usd`."""
        return self.with_margin(upper_usd) > self.left_for_all

    def confirm(self, upper_usd: Decimal, cost_usd: Decimal) -> bool:
        """An answer did cost `cost_usd`; see `Budget.confirm`."""
        self.is_sure = True
        return super().confirm(upper_usd, cost_usd)

    is_sure = False  # an answer has shown what the bounds are worth


class LeasedPromises(Promises):
    """What a shard may send by its `part`, which `take_part` renews; and what it has sent, for its reports.

    `peak`: the most in flight since the last report, `sent` how many in all, `tokens` what was reserved for them.
    `corrections`: tokens that were used more or less than reserved, by the number of the report that was the first to
    count their request: `report` is that of the next one. `needs_tokens`, `needs_usd`: for a request that waits.
    `most_here`: the most that this process may have in flight, whatever its part is. Set `woken`: it is called when
    there is a new part, with whether the gateway is back.
    """

    RECENT_S = 0.5  # how finely it is kept when requests were sent
    AHEAD = 2  # workers with a line more than may send, so that a larger part finds them

    def __init__(self, limits: Limits, now: float, budget: LeasedBudget | None = None) -> None:
        super().__init__(replace(limits, requests_per_minute=None, tokens_per_minute=None), now, budget)
        self.part = Part()
        self.most_here = limits.bounds.most
        self.leased_budget = budget
        self.most_in_flight = 0
        self.is_paused, self.paused_by = True, self.part.paused_by
        self.peak = self.sent = 0
        self.tokens = 0.0
        self.corrections: dict[int, float] = {}
        self.report = 1
        self.needs_tokens, self.needs_usd = 0.0, NOTHING
        self.woken: Callable[[bool], None] = lambda is_back: None
        self.controller = self.follower = Follower(limits.bounds, now)
        self._all = (limits.requests_per_minute or 0.0, limits.tokens_per_minute or 0.0)
        self.counts_tokens = limits.tokens_per_minute is not None
        self.is_paced = limits.requests_per_minute is not None or self.counts_tokens
        self._pacer = Pacer(now)
        self._recent: deque[list[float]] = deque()
        self._recent_until = now

    # ------------------------------------------------------------------------------------------ the lease

    def take_part(self, part: Part, now: float) -> None:
        """A new lease: it rules from now on."""
        self.paused_by = part.paused_by
        self.part = part = replace(part, slots=min(part.slots, self.most_here))
        self.most_in_flight = part.slots
        self.most_workers = part.slots + self.AHEAD
        self.follower.lease(part.version, part.slots, part.paused_until, keeps_events=part.keeps_events)
        self.is_paused = now >= part.expires_at or not part.slots
        if self.leased_budget is not None and part.usd is not None and part.usd_left is not None:
            self.leased_budget.part, self.leased_budget.left_for_all = part.usd, part.usd_left
            self.leased_budget.margin = max(self.leased_budget.margin, part.usd_margin)
        self.woken(part.is_back)

    def recent(self, now: float) -> tuple[tuple[float, int, float], ...]:
        """What was sent in the last minute, as (seconds ago, requests, tokens)."""
        while self._recent and self._recent[0][0] < now - MINUTE_S - 1:
            self._recent.popleft()
        return tuple((max(0.0, now - at), int(count), tokens) for at, count, tokens in self._recent)

    def may_go(self, now: float) -> bool:
        """Whether a request that was granted may still go out: the process may have stood still since then."""
        return now < self.part.expires_at

    # ------------------------------------------------------------------------------------------ as promises

    def wait_s(self, upper_usd: Decimal, now: float, tokens: float = 0.0) -> float | None:
        """Seconds until a request may be sent: 0 is now, None is not before the next lease, or before one ends."""
        part = self.part
        if now >= part.expires_at:
            self.is_paused = True
            return None
        if self.is_paused or self.in_flight >= part.slots:
            return None
        if self.budget is not None and not self.budget.fits(upper_usd):
            self.needs_usd = self.budget.with_margin(upper_usd)
            return None
        if self.sent >= part.requests:
            return None
        if self.counts_tokens and self.tokens + tokens > part.tokens:
            self.needs_tokens = tokens
            return None
        return max(0.0, self._pacer.next_at - now, part.paused_until - now)

    def take(self, tokens: float, upper_usd: Decimal, now: float) -> Reserved | None:
        """A request is sent; returns what is reserved of the tokens."""
        super().take(tokens, upper_usd, now)
        self.sent += 1
        self.peak = max(self.peak, self.in_flight)
        if self.part.per_s < math.inf:
            self._pacer.take(self.part.per_s, now)
        if not self._recent or now >= self._recent_until:
            self._recent.append([now, 0, 0.0])
            self._recent_until = now + self.RECENT_S
        recent = self._recent[-1]
        recent[0] = now  # the latest of them: it leaves the minute last
        recent[1] += 1
        if not self.counts_tokens:
            return None
        self.tokens += tokens
        self.needs_tokens = tokens
        recent[2] += tokens
        return Reserved(self.report, tokens, tokens, tokens)

    def settle(
        self, reserved: Reserved | None, tokens_used: float | None, upper_usd: Decimal, cost_usd: Decimal, now: float
    ) -> None:
        """It has ended: see `Promises.settle`."""
        super().settle(None, None, upper_usd, cost_usd, now)
        if reserved is not None and tokens_used is not None:
            correction = tokens_used - reserved.tokens
            self.corrections[reserved.interval] = self.corrections.get(reserved.interval, 0.0) + correction

    def next_at(self) -> list[tuple[float, LimitedBy]]:
        """From when on the pace lets the next request go."""
        return [(self._pacer.next_at, LimitedBy.OWN_REQUESTS)] if self.is_paced else []

    def change(self, limits: Limits, now: float, *, is_paused: bool) -> None:
        """The limits of a shard are those of its lease: nothing else changes them."""

    def remember(self, requests: Sequence[tuple[float, float]], used_up_s: float | None, now: float) -> None:
        """What earlier incarnations sent: (age in seconds, tokens), oldest first. See `Promises.remember`."""
        by_second: dict[int, list[float]] = {}
        for age_s, tokens in requests:
            second = by_second.setdefault(int(age_s), [now - int(age_s), 0, 0.0])
            second[1] += 1
            second[2] += tokens
        if used_up_s is not None and used_up_s < MINUTE_S:
            by_second[-1] = [now - used_up_s, *self._all]
        self._recent = deque(sorted(by_second.values()))
