"""When the next request may go: slots, pace, the shared cooldown, the outage gate.

1. The arithmetic is pure: every method takes `now` (seconds of a monotonic clock) and returns.
2. `Limiter` is the only asynchronous face, and the one place where workers wait; they are let through in order.
3. A slot is held for one attempt, never for a backoff.
4. A throttle cuts the limit once an episode; an outage sign shuts the gate at once, any answer opens it.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto


@dataclass(frozen=True, slots=True)
class Limits:
    """What the user allows: requests in flight, requests and tokens a minute, seconds without any answer."""

    concurrency: int = 32
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    max_outage_s: float = 1800.0


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
        return max(0.0, (min(self._unit, self.capacity) - self.level) / self.refill_per_s)

    def take(self, amount: float, now: float) -> None:
        """Take `amount`; a negative one gives back what was not used."""
        self._refill(now)
        self.level = min(self.capacity, self.level - amount)

    def _refill(self, now: float) -> None:
        self.level = min(self.capacity, self.level + (now - self._now) * self.refill_per_s)
        self._now = now


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
        self._jitter = jitter

    def throttled(self, retry_after_s: float | None, is_new_episode: bool, now: float) -> None:
        """Lengthen the pause; refusals of one episode count once, unless they ask for longer."""
        if retry_after_s is not None:
            pause_s = min(retry_after_s, self.MAX_ASKED_S)
        elif is_new_episode:
            pause_s = self._step_s * (0.5 + 0.5 * self._jitter())
            self._step_s = min(2 * self._step_s, self.MAX_S)
        else:
            return
        self.until = max(self.until, now + pause_s)

    def succeeded(self) -> None:
        """The gateway takes requests again: the next pause is short."""
        self._step_s = self.FIRST_S


class Gate:
    """Shut while the gateway seems to be gone; then one probe at a time finds out, and a probe is a real line.

    It shuts at the first outage sign and opens at any answer, so that what is sent into an outage is what was
    in flight, and the probes. It is an outage, and costs no line an attempt, once three lines have failed with
    nothing answered in between, or one connection could not be made. A model that alone has never answered says
    nothing about the gateway.
    """

    OUTAGE_LINES = 3
    FIRST_PROBE_S, PROBE_S, MAX_PROBE_S = 0.1, 1.0, 30.0

    def __init__(self) -> None:
        self.shut_since: float | None = None
        self.is_outage = False
        self.next_probe = float("-inf")
        self.why = ""
        self._delay_s = self.FIRST_PROBE_S
        self._failed_lines: set[int] = set()
        self._good_models: set[str] = set()

    @property
    def is_shut(self) -> bool:
        """Whether only probes may pass."""
        return self.shut_since is not None

    def failed(self, line_number: int, model: str, why: str, now: float, *, connected: bool, probe: bool) -> bool:
        """Count an outage sign; False where it says nothing about the gateway."""
        if self._good_models and model not in self._good_models:
            return False
        if self.shut_since is None:
            self.shut_since, self._delay_s = now, self.FIRST_PROBE_S
            self.next_probe = now + self._delay_s
        self.why = why
        self._failed_lines.add(line_number)
        if not self.is_outage and (not connected or len(self._failed_lines) >= self.OUTAGE_LINES):
            self.is_outage = True
            self._delay_s = self.PROBE_S
            self.next_probe = max(self.next_probe, now + self._delay_s)
        elif probe:
            self._delay_s = min(2 * self._delay_s, self.MAX_PROBE_S)
            self.next_probe = now + self._delay_s
        return True

    def answered(self, model: str | None = None) -> None:
        """The gateway spoke: open. `model` where it gave a whole answer."""
        if model is not None:
            self._good_models.add(model)
        if self.shut_since is not None:
            self.shut_since, self.is_outage = None, False
            self._failed_lines.clear()


class Verdict(Enum):
    """What became of a shut gate, for a line whose attempt failed."""

    OUTAGE = auto()  # the gateway was gone: the attempt does not count
    LINE = auto()  # it was the line's own failure


@dataclass(slots=True)
class Permit:
    """The right to send one attempt."""

    sent_at: float
    tokens: float
    is_probe: bool = False


class Limiter:
    """The one place where workers wait for their turn, first come, first served.

    `on_hold_too_long(why)` is called once nothing has been answered for `max_outage_s`.
    """

    def __init__(self, limits: Limits, clock: Callable[[], float], on_hold_too_long: Callable[[str], None]) -> None:
        now = clock()
        self.limits = limits
        self.concurrency = ConcurrencyLimit(limits.concurrency)
        self.cooldown = Cooldown()
        self.gate = Gate()
        self.in_flight = 0
        self._requests = _bucket(limits.requests_per_minute, now, 1.0)
        self._tokens = _bucket(limits.tokens_per_minute, now, 1.0)
        self._clock = clock
        self._on_hold_too_long = on_hold_too_long
        self._waiters: deque[tuple[asyncio.Future[Permit | None], float]] = deque()
        self._verdicts: list[asyncio.Future[Verdict]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._probe_in_flight = False
        self._last_answer = now
        self._is_closed = False

    async def acquire(self, tokens: float) -> Permit | None:
        """Wait for a turn; None once the limiter is closed. `tokens` is what the request may use, at a guess."""
        if self._is_closed:
            return None
        now = self._clock()
        if not self._waiters and self._wait_s(now) == 0:
            return self._grant(tokens, now)
        turn: asyncio.Future[Permit | None] = asyncio.get_running_loop().create_future()
        self._waiters.append((turn, tokens))
        self._pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (permit := turn.result()) is not None:
                self.abandoned(permit)
            raise

    # A permit is given back by exactly one of the next five, which say what came of it.

    def answered(self, permit: Permit, model: str, tokens_used: float | None) -> None:
        """A whole answer came; `tokens_used` settles what was reserved (None: it stays as it was)."""
        self.concurrency.succeeded(self.in_flight)
        self.cooldown.succeeded()
        self.gate.answered(model)
        self._spoke(permit, tokens_used)

    def refused(self, permit: Permit, tokens_used: float | None) -> None:
        """The gateway spoke, if only to refuse this line: it is there."""
        self.gate.answered()
        self._spoke(permit, tokens_used)

    def throttled(self, permit: Permit, retry_after_s: float | None) -> None:
        """The gateway said "too fast": the whole job pauses, and comes back with fewer in flight."""
        now = self._clock()
        is_new = self.concurrency.throttled(permit.sent_at, now)
        self.cooldown.throttled(retry_after_s, is_new, now)
        self.gate.answered()
        self._resolve(Verdict.LINE)
        self._give_back(permit, 0.0)
        if now - self._last_answer > self.limits.max_outage_s:
            self._on_hold_too_long("throttled without a break")

    async def failed(self, permit: Permit, line_number: int, model: str, why: str, *, connected: bool) -> Verdict:
        """An outage sign: count it, then wait, without the permit, for what it meant."""
        now = self._clock()
        counts = self.gate.failed(line_number, model, why, now, connected=connected, probe=permit.is_probe)
        if self.gate.is_outage:
            self._resolve(Verdict.OUTAGE)
        self._give_back(permit, 0.0)
        if not counts:
            return Verdict.LINE
        if self.gate.is_outage:
            return Verdict.OUTAGE
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._verdicts.append(verdict)
        self._pump()
        return await verdict

    def abandoned(self, permit: Permit) -> None:
        """The attempt was given up; what it used is not known and stays reserved."""
        self._give_back(permit, None)

    def close(self) -> None:
        """Nobody may send any more: everybody who waits is told so."""
        self._is_closed = True
        while self._waiters:
            turn, _ = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
        self._resolve(Verdict.OUTAGE)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # ------------------------------------------------------------------------------------------ inside

    def _spoke(self, permit: Permit, tokens_used: float | None) -> None:
        self._last_answer = self._clock()
        self._resolve(Verdict.LINE)
        self._give_back(permit, tokens_used)

    def _give_back(self, permit: Permit, tokens_used: float | None) -> None:
        self.in_flight -= 1
        if permit.is_probe:
            self._probe_in_flight = False
        if self._tokens is not None and tokens_used is not None:
            self._tokens.take(tokens_used - permit.tokens, self._clock())
        self._pump()

    def _resolve(self, verdict: Verdict) -> None:
        for future in self._verdicts:
            if not future.done():
                future.set_result(verdict)
        self._verdicts.clear()

    def _wait_s(self, now: float) -> float | None:
        """Seconds until the next request may go: 0 is now, None is not before somebody comes back."""
        if self.in_flight >= self.concurrency.slots or (self.gate.is_shut and self._probe_in_flight):
            return None
        waits = [self.cooldown.until - now, 0.0]
        if self.gate.is_shut:
            waits.append(self.gate.next_probe - now)
        if self._requests is not None:
            waits.append(self._requests.wait_s(now))
        if self._tokens is not None:
            waits.append(self._tokens.wait_s(now))
        return max(waits)

    def _grant(self, tokens: float, now: float) -> Permit:
        self.in_flight += 1
        if self._requests is not None:
            self._requests.take(1, now)
        if self._tokens is not None:
            self._tokens.take(tokens, now)
        is_probe = self.gate.is_shut
        self._probe_in_flight = self._probe_in_flight or is_probe
        return Permit(now, tokens, is_probe)

    def _pump(self) -> None:
        """Let through whoever may go, and set the one timer for the next."""
        now = self._clock()
        wait_s: float | None = None
        while self._waiters:
            if self._waiters[0][0].done():  # cancelled while it waited
                self._waiters.popleft()
                continue
            wait_s = self._wait_s(now)
            if wait_s != 0:
                break
            turn, tokens = self._waiters.popleft()
            turn.set_result(self._grant(tokens, now))
        if not self._waiters:
            nobody_probes = bool(self._verdicts) and self.in_flight == 0
            wait_s = max(0.0, self.gate.next_probe - now) if nobody_probes else None
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
        if held_s > self.limits.max_outage_s:
            self._on_hold_too_long(self.gate.why)
            return
        if self._verdicts and not self._waiters and self.in_flight == 0 and now >= self.gate.next_probe:
            self._resolve(Verdict.LINE)  # nobody else is left to probe: these lines are their own evidence
        self._pump()


def _bucket(per_minute: float | None, now: float, unit: float) -> TokenBucket | None:
    return None if per_minute is None else TokenBucket(per_minute, now, unit=unit)
