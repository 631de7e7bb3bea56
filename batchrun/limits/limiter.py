"""When the next request may go: the one place where workers wait for their turn; they are let through in order.

1. Here is no arithmetic: slots, pace and pauses are `adaptive.py`'s, outages `gate.py`'s, `--rpm` and `--tpm`
   `quota.py`'s, `--max-cost` `budget.py`'s. All of them are pure and are told the time.
2. A slot is held for one attempt, never for a backoff.
3. Who waits is a future in one queue, and one timer wakes the first of them: nobody polls.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from decimal import Decimal

import msgspec

from batchrun.limits.budget import Budget
from batchrun.limits.circuit_breaker import CircuitBreaker, OutageSignal, Verdict
from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.limits.quotas import RequestQuota, Reserved, TokenQuota
from batchrun.limits.rate import Pacer
from batchrun.records.money import NOTHING
from batchrun.records.outcome import RateHeaders


class Permit(msgspec.Struct, gc=False):
    """The right to send one attempt. `cost_usd` is what it cost; as long as nobody knows, it is `upper_usd`."""

    sent: Sent
    upper_usd: Decimal
    cost_usd: Decimal
    is_probe: bool = False
    tokens: Reserved | None = None
    is_told: bool = False  # whether the controller knows what came of it


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
        self.controller = Controller(limits.bounds, now)
        self.is_paused = False
        self.breaker = CircuitBreaker()
        self.budget = budget
        self.in_flight = 0
        self._pacer = Pacer(now)
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        self._requests = RequestQuota(rpm, now) if rpm is not None else None
        self._tokens = TokenQuota(tpm, now) if tpm is not None else None
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
        now, pace_per_s = self._clock(), self.controller.pace_per_s
        if not self._waiters and self._wait_s(upper_usd, pace_per_s, now) == 0:
            return self._grant(tokens, upper_usd, pace_per_s, now)
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
        return self.controller.paused_until

    @property
    def slots(self) -> int:
        """How many may be in flight now."""
        return self.controller.slots

    @property
    def limited_by(self) -> LimitedBy:
        """What holds the run back now."""
        now = self._clock()
        if self._is_closed:
            return LimitedBy.STOPPING
        if self.is_paused:
            return LimitedBy.PAUSED
        if self.breaker.is_shut:
            return LimitedBy.OUTAGE
        if not self._waiters or self.in_flight >= self.slots:
            return self.controller.limited_by(self.in_flight, now, is_wanted=bool(self._waiters))
        if self.budget is not None and not self.budget.fits(self._waiters[0][2]):
            return LimitedBy.BUDGET
        requests_s = self._requests.wait_s(now) if self._requests is not None else 0.0
        tokens_s = self._tokens.wait_s(now) if self._tokens is not None else 0.0
        if max(requests_s, tokens_s) > self._controller_wait_s(self.controller.pace_per_s, now):
            return LimitedBy.OWN_REQUESTS if requests_s > tokens_s else LimitedBy.OWN_TOKENS
        return self.controller.limited_by(self.in_flight, now)

    # A permit is given back by exactly one of the next six, which say what came of it.

    def answered(self, permit: Permit, model: str, tokens_used: float | None, rate: RateHeaders | None = None) -> None:
        """A whole answer came; `tokens_used` settles what was reserved (None: it stays as it was)."""
        now = self._clock()
        if rate is not None:
            self.controller.headers(permit.sent, rate, now)
        self.controller.succeeded(permit.sent, now)
        permit.is_told = True
        self._spoke(permit, tokens_used, now, model)

    def refused(self, permit: Permit, tokens_used: float | None) -> None:
        """The gateway spoke, if only to refuse this line: it is there."""
        self._spoke(permit, tokens_used, self._clock())

    def throttled(self, permit: Permit, retry_after_s: float | None, rate: RateHeaders | None = None) -> None:
        """The gateway said "too fast": the whole job slows down, and pauses where that was asked for."""
        now = self._clock()
        if rate is not None:
            self.controller.headers(permit.sent, rate, now)
        self.controller.throttled(permit.sent, retry_after_s, now)
        permit.is_told = True
        self.breaker.answered(permit.sent.at, now)
        self._resolve(Verdict.LINE, permit.sent.at)
        self._give_back(permit, 0.0)
        if self._throttled_since is None:
            self._throttled_since = now
        if now - self._throttled_since > self.limits.max_outage_s:
            self._on_hold_too_long("throttled without a break")

    async def failed(self, permit: Permit, sign: OutageSignal) -> Verdict:
        """An outage sign: count it, then wait, without the permit, for what it meant."""
        counts = self.breaker.failed(sign, permit.sent.at, self._clock(), is_probe=permit.is_probe)
        is_outage = self.breaker.is_outage or self._is_closed  # closed: nobody is left to find out
        if is_outage:
            self._resolve(Verdict.OUTAGE)
        self._give_back(permit, 0.0)
        if is_outage:
            return Verdict.OUTAGE
        if not counts:
            return Verdict.LINE
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._doubtful.append((permit.sent.at, verdict))
        self._pump()
        return await verdict

    def abandoned(self, permit: Permit) -> None:
        """The attempt was given up; what it used is not known and stays reserved."""
        self._give_back(permit, None)

    def unsent(self, permit: Permit) -> None:
        """Nobody was there to use it, or nothing was to be sent any more."""
        if self._requests is not None:
            self._requests.give_back(self._clock())
        permit.cost_usd = NOTHING
        self._give_back(permit, 0.0)

    def retune(self, limits: Limits, *, is_paused: bool) -> None:
        """Other limits from now on; those that stay the same are not disturbed. Paused, nobody is let through."""
        now, before, self.limits = self._clock(), self.limits, limits
        self.is_paused = is_paused
        if limits.bounds != before.bounds:
            self.controller.concurrency.resize(limits.bounds, now)
        rpm, tpm = limits.requests_per_minute, limits.tokens_per_minute
        if rpm is None or self._requests is None:
            self._requests = RequestQuota(rpm, now) if rpm is not None else None
        else:
            self._requests.change(rpm)
        if tpm is None or self._tokens is None:
            self._tokens = TokenQuota(tpm, now) if tpm is not None else None
        else:
            self._tokens.change(tpm)
        self._pump()

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

    def _spoke(self, permit: Permit, tokens_used: float | None, now: float, model: str | None = None) -> None:
        self._throttled_since = None
        self.breaker.answered(permit.sent.at, now, model)
        if self._doubtful:
            self._resolve(Verdict.LINE, permit.sent.at)
        self._give_back(permit, tokens_used)

    def _give_back(self, permit: Permit, tokens_used: float | None) -> None:
        self.in_flight -= 1
        if not permit.is_told:  # it says nothing about the limits
            self.controller.failed(permit.sent, self._clock())
        if permit.is_probe:
            self._probe_in_flight = False
        if self._tokens is not None and permit.tokens is not None and tokens_used is not None:
            if tokens_used:
                self._tokens.settle(permit.tokens, tokens_used, self._clock())
            else:
                self._tokens.give_back(permit.tokens, self._clock())
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

    def _wait_s(self, upper_usd: Decimal, pace_per_s: float | None, now: float) -> float | None:
        """Seconds until the next request may go: 0 is now, None is not before somebody comes back."""
        if (
            self.is_paused
            or self.in_flight >= self.controller.slots
            or (self.breaker.is_shut and self._probe_in_flight)
        ):
            return None
        if self.budget is not None and not self.budget.fits(upper_usd):
            return None
        wait_s = self._controller_wait_s(pace_per_s, now)
        if self.breaker.shut_since is not None:
            wait_s = max(wait_s, self.breaker.next_probe - now)
        if self._requests is not None:
            wait_s = max(wait_s, self._requests.wait_s(now))
        if self._tokens is not None:
            wait_s = max(wait_s, self._tokens.wait_s(now))
        return wait_s

    def _controller_wait_s(self, pace_per_s: float | None, now: float) -> float:
        paused_s = max(0.0, self.controller.paused_until - now)
        return paused_s if pace_per_s is None else max(paused_s, self._pacer.wait_s(now))

    def _grant(self, tokens: float, upper_usd: Decimal, pace_per_s: float | None, now: float) -> Permit:
        self.in_flight += 1
        if self.budget is not None:
            self.budget.reserve(upper_usd)
        if self._requests is not None:
            self._requests.take(now)
        permit = Permit(self.controller.sent(self.in_flight, now), upper_usd, upper_usd)
        if self.breaker.is_shut:
            permit.is_probe = self._probe_in_flight = True
        if self._tokens is not None:
            permit.tokens = self._tokens.take(tokens, now)
        if pace_per_s is not None:
            self._pacer.take(pace_per_s, now)
        return permit

    def _pump(self) -> None:
        """Let through whoever may go, and set the one timer for the next."""
        if not self._waiters and not self._doubtful and self._timer is None:
            return  # as it is in most runs
        now = self._clock()
        wait_s: float | None = None
        while self._waiters:
            if self._waiters[0][0].done():  # cancelled while it waited
                self._waiters.popleft()
                continue
            turn, tokens, upper_usd = self._waiters[0]
            is_too_dear = self._is_too_dear(upper_usd)  # what was spent meanwhile may have made it so
            pace_per_s = self.controller.pace_per_s
            wait_s = 0.0 if is_too_dear else self._wait_s(upper_usd, pace_per_s, now)
            if wait_s != 0:
                break
            self._waiters.popleft()
            turn.set_result(None if is_too_dear else self._grant(tokens, upper_usd, pace_per_s, now))
        if not self._waiters:
            nobody_probes = bool(self._doubtful) and self.in_flight == 0
            wait_s = max(0.0, self.breaker.next_probe - now) if nobody_probes else None
        if wait_s is not None and self.breaker.shut_since is not None and not self.is_paused:
            wait_s = min(wait_s, max(0.0, self.breaker.shut_since + self.limits.max_outage_s - now))
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
        limited_s = now - self.breaker.shut_since if self.breaker.shut_since is not None else 0.0
        if limited_s > self.limits.max_outage_s - 0.001 and not self.is_paused:  # a timer may come a moment early
            self._on_hold_too_long(self.breaker.why)
            return
        if self._doubtful and not self._waiters and self.in_flight == 0 and now >= self.breaker.next_probe:
            self._resolve(Verdict.LINE)  # nobody else is left to probe: these lines are their own evidence
        self._pump()
