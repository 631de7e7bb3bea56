"""When the next request may go: slots, pace, the shared cooldown; and, by the gate of `gate.py`, outages.

1. The arithmetic is pure: every method takes `now` (seconds of a monotonic clock) and returns.
2. `Limiter` is the only asynchronous face, and the one place where workers wait; they are let through in order.
3. A slot is held for one attempt, never for a backoff.
4. A throttle cuts the limit once an episode.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from batchrun.adaptive import Controller, Sent
from batchrun.budget import Budget
from batchrun.gate import Gate, Sign, Verdict
from batchrun.pace import RateHeaders
from batchrun.rates import NOTHING

START_SLOTS = 8  # where finding out begins: a bad key costs no more requests than that


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows: requests in flight, requests and tokens a minute, seconds without any answer.

    With `adaptive_from` the number in flight is found out, between that and `concurrency`.
    """

    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_outage_s: float = 1800.0
    adaptive_from: int | None = None


class TokenBucket:
    """A smooth rate: at most `per_minute` in any 60 s, and one taking more.

    The bucket holds a tenth of a second's worth, so that late timers are caught up with and nothing bursts; its
    refill is lowered by what it holds. It may go into debt for one taking, which may be larger than the bucket.
    """

    def __init__(self, per_minute: float, now: float, *, unit: float = 1.0) -> None:
        self.capacity = max(unit, per_minute / 600)
        self.refill_per_s = (per_minute + unit - self.capacity) / 60
        self.level = self.capacity
        self._now = now
        self._unit = unit

    def wait_s(self, now: float) -> float:
        """Seconds until something may be taken; 0 where it may be now."""
        self._refill(now)
        missing = self._unit - self.level
        # A millionth is forgiven: who waits exactly as long as told is let through, whatever floats make of it.
        return missing / self.refill_per_s if missing > 1e-6 * self._unit else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount`; a negative one gives back what was not used."""
        self._refill(now)
        self.level = min(self.capacity, self.level - amount)

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._now) * self.refill_per_s)
        self._now = now


class Spacing:
    """Requests sent evenly, at a pace that may change at any time; who comes late catches up by 10 ms, no more."""

    CATCH_UP_S = 0.01

    def __init__(self, now: float) -> None:
        self._next_at = now

    def wait_s(self, per_s: float | None, now: float) -> float:
        """Seconds until the next may go; `per_s` None is no pace."""
        return 0.0 if per_s is None else max(0.0, self._next_at - now)

    def take(self, per_s: float | None, now: float) -> None:
        """One went."""
        self._next_at = max(self._next_at, now - self.CATCH_UP_S) + (1 / per_s if per_s else 0.0)


class ConcurrencyLimit:
    """How many requests may be in flight: cut by a throttle, once an episode; grown back while it is used."""

    DECREASE = 0.7

    def __init__(self, maximum: int) -> None:
        self.maximum = maximum
        self._limit = float(maximum)
        self._last_cut = float("-inf")

    @property
    def slots(self) -> int:
        """The limit now, a whole number ≥ 1."""
        return max(1, int(self._limit))

    def throttled(self, sent_at: float, now: float) -> bool:
        """A request sent at `sent_at` was refused; False where the limit has been cut since it was sent."""
        if sent_at < self._last_cut:
            return False
        self._limit = max(1.0, min(self._limit, self.maximum) * self.DECREASE)
        self._last_cut = now
        return True

    def succeeded(self, in_flight: int) -> None:
        """One more a round trip, but only where the limit was what held it back (a low peak proves nothing)."""
        if in_flight >= self.slots - 1 and self._limit < self.maximum:
            self._limit = min(self.maximum, self._limit + 1 / self._limit)


class Cooldown:
    """One pause for the whole job after a throttle: as long as was asked for, else 1 s, 2 s, … 30 s."""

    FIRST_S, MAX_S, MAX_ASKED_S = 1.0, 30.0, 300.0

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self.until = float("-inf")
        self._step_s = self.FIRST_S
        self._was_refused = False  # since the last success
        self._jitter = jitter

    def throttled(self, retry_after_s: float | None, is_new_episode: bool, now: float) -> None:
        """Lengthen the pause; refusals of one episode count once, unless they ask for longer."""
        pause_s = 0.0 if retry_after_s is None else min(retry_after_s, self.MAX_ASKED_S)
        # A gateway that says 0 s for ever must not be asked for ever: its word is enough only the first time.
        if is_new_episode and (retry_after_s is None or self._was_refused):
            pause_s = max(pause_s, self._step_s * (0.5 + 0.5 * self._jitter()))
            self._step_s = min(2 * self._step_s, self.MAX_S)
        self._was_refused = True
        self.until = max(self.until, now + pause_s)

    def succeeded(self) -> None:
        """The gateway takes requests again: the next pause is short."""
        self._step_s = self.FIRST_S
        self._was_refused = False


@dataclass(slots=True)
class Permit:
    """The right to send one attempt, with what it may use: tokens at a guess, USD at most.

    `cost_usd` is what it cost; as long as nobody knows, it is `upper_usd`.
    """

    sent_at: float
    tokens: float
    is_probe: bool = False
    sent: Sent | None = None  # what the controller wants back, once
    upper_usd: Decimal = NOTHING
    cost_usd: Decimal = NOTHING


class Limiter:
    """The one place where workers wait for their turn, first come, first served.

    `on_hold_too_long(why)` is called once nothing has been answered for `max_outage_s`.
    """

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float],
        on_hold_too_long: Callable[[str], None],
        budget: Budget | None = None,
    ) -> None:
        now = clock()
        self.limits = limits
        self.concurrency = ConcurrencyLimit(limits.concurrency)
        self.controller: Controller | None = None
        if limits.adaptive_from is not None:
            start = max(limits.adaptive_from, min(START_SLOTS, limits.concurrency))
            self.controller = Controller(limits.adaptive_from, limits.concurrency, start, now)
        self._spacing = Spacing(now)
        self.cooldown = Cooldown()
        self.gate = Gate()
        self.budget = budget
        self.in_flight = 0
        self._requests = _bucket(limits.requests_per_minute, now, 1.0)
        self._tokens = _bucket(limits.tokens_per_minute, now, 1.0)
        self._clock = clock
        self._on_hold_too_long = on_hold_too_long
        self._waiters: deque[tuple[asyncio.Future[Permit | None], float, Decimal]] = deque()
        self._doubtful: list[tuple[float, asyncio.Future[Verdict]]] = []  # when it was sent; what it meant
        self._timer: asyncio.TimerHandle | None = None
        self._probe_in_flight = False
        self._throttled_since: float | None = None
        self._is_closed = False

    async def acquire(self, tokens: float, upper_usd: Decimal = NOTHING) -> Permit | None:
        """Wait for a turn; `tokens` is what the request may use, at a guess, `upper_usd` what it may cost at most.

        None where no turn will come: the limiter is closed, or the budget has no room for it any more.
        """
        if self._is_closed or self._is_too_dear(upper_usd):
            return None
        now = self._clock()
        if not self._waiters and self._wait_s(upper_usd, now) == 0:
            return self._grant(tokens, upper_usd, now)
        turn: asyncio.Future[Permit | None] = asyncio.get_running_loop().create_future()
        self._waiters.append((turn, tokens, upper_usd))
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (permit := turn.result()) is not None:
                self.unsent(permit)
            raise

    @property
    def paused_until(self) -> float:
        """When the pause after the last throttle ends, by the clock of the limiter."""
        return self.cooldown.until if self.controller is None else self.controller.paused_until

    @property
    def slots(self) -> int:
        """How many may be in flight now."""
        return self.controller.slots if self.controller is not None else self.concurrency.slots

    # A permit is given back by exactly one of the next six, which say what came of it.

    def answered(self, permit: Permit, model: str, tokens_used: float | None, rate: RateHeaders | None = None) -> None:
        """A whole answer came; `tokens_used` settles what was reserved (None: it stays as it was)."""
        if self.controller is not None and permit.sent is not None:
            if rate is not None:
                self.controller.headers(permit.sent, rate, self._clock())
            self.controller.succeeded(permit.sent, self._clock())
            permit.sent = None
        else:
            self.concurrency.succeeded(self.in_flight)
            self.cooldown.succeeded()
        self._spoke(permit, tokens_used, model)

    def refused(self, permit: Permit, tokens_used: float | None) -> None:
        """The gateway spoke, if only to refuse this line: it is there."""
        self._spoke(permit, tokens_used)

    def throttled(self, permit: Permit, retry_after_s: float | None) -> None:
        """The gateway said "too fast": the whole job pauses, and comes back with fewer in flight."""
        now = self._clock()
        if self.controller is not None and permit.sent is not None:
            self.controller.throttled(permit.sent, retry_after_s, now)
            permit.sent = None
        else:
            is_new = self.concurrency.throttled(permit.sent_at, now)
            self.cooldown.throttled(retry_after_s, is_new, now)
        self.gate.answered(permit.sent_at, now)
        self._resolve(Verdict.LINE, permit.sent_at)
        self._give_back(permit, 0.0)
        if self._throttled_since is None:
            self._throttled_since = now
        if now - self._throttled_since > self.limits.max_outage_s:
            self._on_hold_too_long("throttled without a break")

    async def failed(self, permit: Permit, sign: Sign) -> Verdict:
        """An outage sign: count it, then wait, without the permit, for what it meant."""
        counts = self.gate.failed(sign, permit.sent_at, self._clock(), is_probe=permit.is_probe)
        is_outage = self.gate.is_outage or self._is_closed  # closed: nobody is left to find out
        if is_outage:
            self._resolve(Verdict.OUTAGE)
        self._give_back(permit, 0.0)
        if is_outage:
            return Verdict.OUTAGE
        if not counts:
            return Verdict.LINE
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._doubtful.append((permit.sent_at, verdict))
        self._pump()
        return await verdict

    def abandoned(self, permit: Permit) -> None:
        """The attempt was given up; what it used is not known and stays reserved."""
        self._give_back(permit, None)

    def unsent(self, permit: Permit) -> None:
        """Nobody was there to use it, or nothing was to be sent any more."""
        if self._requests is not None:
            self._requests.take(-1, self._clock())
        permit.cost_usd = NOTHING
        self._give_back(permit, 0.0)

    def close(self) -> None:
        """Nobody may send any more: everybody who waits is told so."""
        self._is_closed = True
        while self._waiters:
            turn, *_ = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
        self._resolve(Verdict.OUTAGE)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------ inside

    def _spoke(self, permit: Permit, tokens_used: float | None, model: str | None = None) -> None:
        self._throttled_since = None
        self.gate.answered(permit.sent_at, self._clock(), model)
        self._resolve(Verdict.LINE, permit.sent_at)
        self._give_back(permit, tokens_used)

    def _give_back(self, permit: Permit, tokens_used: float | None) -> None:
        self.in_flight -= 1
        if self.controller is not None and permit.sent is not None:  # it says nothing about the limits
            self.controller.failed(permit.sent, self._clock())
            permit.sent = None
        if permit.is_probe:
            self._probe_in_flight = False
        if self._tokens is not None and tokens_used is not None:
            self._tokens.take(tokens_used - permit.tokens, self._clock())
        if self.budget is not None:
            self.budget.settle(permit.upper_usd, permit.cost_usd)
        self._pump()

    def _resolve(self, verdict: Verdict, known_until: float = float("inf")) -> None:
        """Tell what a failure meant, to those that were sent no later than `known_until`."""
        still_doubtful = []
        for sent_at, future in self._doubtful:
            if sent_at > known_until:
                still_doubtful.append((sent_at, future))
            elif not future.done():
                future.set_result(verdict)
        self._doubtful = still_doubtful

    def _is_too_dear(self, upper_usd: Decimal) -> bool:
        return self.budget is not None and self.budget.never_fits(upper_usd)

    def _wait_s(self, upper_usd: Decimal, now: float) -> float | None:
        """Seconds until the next request may go: 0 is now, None is not before somebody comes back."""
        if self.in_flight >= self.slots or (self.gate.is_shut and self._probe_in_flight):
            return None
        if self.budget is not None and not self.budget.fits(upper_usd):
            return None
        waits = [self.cooldown.until - now, 0.0]
        if self.controller is not None:
            waits += [self.controller.paused_until - now, self._spacing.wait_s(self.controller.pace_per_s, now)]
        if self.gate.is_shut:
            waits.append(self.gate.next_probe - now)
        if self._requests is not None:
            waits.append(self._requests.wait_s(now))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(now))
        return max(waits)

    def _grant(self, tokens: float, upper_usd: Decimal, now: float) -> Permit:
        self.in_flight += 1
        if self.budget is not None:
            self.budget.reserve(upper_usd)
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        is_probe = self.gate.is_shut
        self._probe_in_flight = self._probe_in_flight or is_probe
        permit = Permit(now, tokens, is_probe, upper_usd=upper_usd, cost_usd=upper_usd)
        if self.controller is not None:
            permit.sent = self.controller.sent(self.in_flight, now)
            self._spacing.take(self.controller.pace_per_s, now)
        return permit

    def _pump(self) -> None:
        """Let through whoever may go, and set the one timer for the next."""
        now = self._clock()
        wait_s: float | None = None
        while self._waiters:
            if self._waiters[0][0].done():  # cancelled while it waited
                self._waiters.popleft()
                continue
            turn, tokens, upper_usd = self._waiters[0]
            is_too_dear = self._is_too_dear(upper_usd)  # what was spent meanwhile may have made it so
            wait_s = 0.0 if is_too_dear else self._wait_s(upper_usd, now)
            if wait_s != 0:
                break
            self._waiters.popleft()
            turn.set_result(None if is_too_dear else self._grant(tokens, upper_usd, now))
        if not self._waiters:
            nobody_probes = bool(self._doubtful) and self.in_flight == 0
            wait_s = max(0.0, self.gate.next_probe - now) if nobody_probes else None
        if wait_s is not None and self.gate.shut_since is not None:
            wait_s = min(wait_s, max(0.0, self.gate.shut_since + self.limits.max_outage_s - now))
        self._set_timer(wait_s)

    def _set_timer(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._clock()
        held_s = now - self.gate.shut_since if self.gate.shut_since is not None else 0.0
        if held_s > self.limits.max_outage_s - 0.001:  # a timer may come a moment early
            self._on_hold_too_long(self.gate.why)
            return
        if self._doubtful and not self._waiters and self.in_flight == 0 and now >= self.gate.next_probe:
            self._resolve(Verdict.LINE)  # nobody else is left to probe: these lines are their own evidence
        self._pump()


def _bucket(per_minute: float | None, now: float, unit: float) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute, now, unit=unit)
