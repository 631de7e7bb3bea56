"""Decides when the next request may be sent: the one place where workers wait, first come, first served.

1. A limiter is that of one endpoint. It keeps what the user allows (`promises.py`: `-c`, `--rpm`, `--tpm`,
   `--max-cost`, pause), and what the gateway is found to allow (`endpoint_limits.py`, and `lanes.py` for its models).
   Where there are several endpoints, each limiter keeps the promises of the whole job, too: see `fleet.py`.
2. This file does no arithmetic: `controller.py`, `quotas.py` and `budget.py` do; they are pure and get the time as an
   argument. In an outage the engine asks for no permit but that of a probe.
3. A slot is held for one attempt, never during a backoff.
4. A waiting worker is a future in the queue of its lane. One timer wakes the first of them; no worker polls. A lane
   that waits holds up no other.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from decimal import Decimal

from batchrun.limits.budget import Budget
from batchrun.limits.controller import Controller
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.in_flight import InFlightBytes
from batchrun.limits.lanes import Lane, Lanes
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.limits.permit import Permit, Waiter
from batchrun.limits.promises import Promises
from batchrun.records.money import NOTHING
from batchrun.records.outcome import RateHeaders


class Limiter:
    """The one place where workers wait before they send, first come, first served.

    `on_hold_too_long(why)` is called once every answer has been a throttle for `max_outage_s` seconds; where other
    lanes are open, the lane is closed instead. `waiting` counts workers. Set `has_lines` to False as soon as no line is
    left to send: only then may the run be limited by "tail of the run". Set `is_outage` while only probes are sent.
    """

    LOOK_EVERY_S = 1.0  # at what is in flight while all is refused

    def __init__(
        self,
        limits: Limits,
        clock: Callable[[], float],
        on_hold_too_long: Callable[[str], None],
        budget: Budget | None = None,
        *,
        has_several_models: bool = False,
        whole: Promises | None = None,
        promises: Promises | None = None,
    ) -> None:
        now = clock()
        self.promises = Promises(limits, now, budget) if promises is None else promises
        self.lanes = Lanes(limits.bounds, now, self.promises.controller, has_several=has_several_models)
        self.has_lines = True
        self.is_outage = False
        self.bytes = InFlightBytes(limits.max_in_flight_bytes)
        self.freed: Callable[[], None] = self.pump  # called when a request has ended
        self._whole = whole
        self._clock = clock
        self._on_hold_too_long = on_hold_too_long
        self.waiting = self._turns = 0
        self._timer: asyncio.TimerHandle | None = None
        self._is_closed = False

    async def acquire(self, tokens: float, upper_usd: Decimal = NOTHING, lane: Lane | None = None) -> Permit | None:
        """Wait for a slot; `tokens` estimates what the request may use, `upper_usd` is the most that it may cost.

        `lane` is that of its model. None if it will not get one: the limiter is closed, the budget will never have room
        for it, or its lane is closed or held (`Lane.held_until`) while others go on.
        """
        lane = lane if lane is not None else self.lanes.of("")
        now = self._clock()
        if self._is_closed or lane.is_closed or now < lane.held_until:
            return None
        pace_per_s = lane.limits.controller.pace_per_s
        if not lane.waiters and self._wait_s(lane.limits, upper_usd, tokens, pace_per_s, now) == 0:
            return self._grant(lane, tokens, upper_usd, pace_per_s, now)
        if self.never_fits(upper_usd):
            return None
        self._turns += 1
        turn: asyncio.Future[Permit | None] = asyncio.get_running_loop().create_future()
        lane.waiters.append(Waiter(self._turns, turn, tokens, upper_usd))
        self.waiting += 1
        self.pump()
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and (permit := turn.result()) is not None:
                self.unsent(permit)
            raise

    def remember(self, requests: Sequence[tuple[float, float]], used_up_s: float | None = None) -> None:
        """What earlier runs sent; see `Promises.remember`. `--rpm` and `--tpm` hold across runs."""
        self.promises.remember(requests, used_up_s, self._clock())

    # ------------------------------------------------------------------------------------------ looking

    def now(self) -> float:
        """The time by the limiter's clock, in seconds."""
        return self._clock()

    @property
    def limits(self) -> Limits:
        """The limits that the user sets."""
        return self.promises.limits

    @property
    def budget(self) -> Budget | None:
        """The budget; None without a cap."""
        return self.promises.budget

    @property
    def is_paused(self) -> bool:
        """Whether the user has paused it."""
        return self.promises.is_paused

    @property
    def in_flight(self) -> int:
        """How many requests are in flight."""
        return self.promises.in_flight

    @property
    def controller(self) -> Controller:
        """The controller of the limits that all models share, or may share."""
        return self.lanes.shared.controller

    @property
    def paused_until(self) -> float:
        """When the pause for all models after the last throttle ends, by the clock of the limiter."""
        return self.controller.paused_until

    @property
    def slots(self) -> int:
        """How many requests may be in flight now."""
        return min(self.promises.most_in_flight, self.lanes.slots)

    @property
    def counts_tokens(self) -> bool:
        """Whether the tokens of a request have to be guessed before it is sent."""
        return self.promises.counts_tokens or (self._whole is not None and self._whole.counts_tokens)

    @property
    def worker_slots(self) -> int:
        """How many workers may have a line."""
        return min(self.lanes.slots, self.promises.most_workers)

    @property
    def pace_per_s(self) -> float | None:
        """The pace that all models share, in requests a second; None if there is none."""
        return self.controller.pace_per_s

    def limited_by_lane(self) -> dict[str, LimitedBy]:
        """What limits each model that has limits of its own, now."""
        return self.lanes.limited_by(self._clock())

    @property
    def limited_by(self) -> LimitedBy:
        """What limits the run now."""
        if self._is_closed:
            return LimitedBy.STOPPING
        if self.is_paused:
            return self.promises.paused_by
        if self.is_outage:
            return LimitedBy.OUTAGE
        now, limits, is_anybody_waiting = self._clock(), self.lanes.busiest, self.waiting > 0
        has_lines = self.has_lines or is_anybody_waiting
        if not self.in_flight and not has_lines and any(now < lane.held_until for lane in self.lanes):
            return LimitedBy.THROTTLED  # all that is left waits in such lanes
        if limits.is_full or not has_lines:
            return limits.limited_by(now, has_lines=has_lines)
        if self.bytes.holds_back and not is_anybody_waiting:
            return LimitedBy.MEMORY
        first = self._first(now)[0]
        if first is not None and not self._budget_fits(first.waiters[0].upper_usd):
            return LimitedBy.BUDGET
        next_at, limited_by = self._next_at(limits)
        # A worker that waits although a slot is free waits for that time, even where its timer is just due. Where no
        # worker waits, the next one would wait for it if it is still to come.
        if is_anybody_waiting or next_at > now:
            return limited_by
        return limits.limited_by(now, has_lines=has_lines)

    @property
    def may_go(self) -> bool:
        """Whether a request that has a permit may still go out now."""
        return (self._whole or self.promises).may_go(self._clock())

    # A permit is given back by exactly one of the next six, which say what came of it.

    def answered(self, permit: Permit, tokens_used: float | None, rate: RateHeaders | None = None) -> bool:
        """A whole answer came; `tokens_used` settles what was reserved (None: it stays as it was).

        Returns whether the answer contradicts the wait that the gateway has asked for.
        """
        now = self._clock()
        told = self.lanes.answered(permit.lane, permit.endpoint, permit.sent, rate, now)
        is_contradicted = permit.endpoint.answered(permit.sent, told, now)
        self._settle(permit, tokens_used, now)
        return is_contradicted

    def refused(self, permit: Permit, tokens_used: float | None) -> None:
        """The gateway answered, if only to refuse this line."""
        now = self._clock()
        permit.endpoint.refused(permit.sent, now)
        self._settle(permit, tokens_used, now)

    def throttled(self, permit: Permit, retry_after_s: float | None, rate: RateHeaders | None = None) -> None:
        """The gateway said "too fast": the lanes slow down that share the limit, and pause if the gateway asked."""
        now, lane, limits = self._clock(), permit.lane, permit.endpoint
        self.lanes.refused(lane, permit.sent.at, now)
        if self.lanes.holds_alone(lane, limits, retry_after_s, now):
            limits.abandoned(permit.sent, now)
        else:
            limits.throttled(permit.sent, retry_after_s, rate, now)
        if lane.held_until > now:
            self._send_back(lane)
        self._settle(permit, 0.0, now)
        lane.refused(lane.limits.followed_s(retry_after_s, now), permit.sent.at, now)
        if lane.limits.throttled_s(now) > self.limits.longest_outage_s:
            self._close(lane.limits)
        elif lane.is_spent(self.limits.longest_outage_s, now):
            self.close_lane(lane)

    def failed(self, permit: Permit) -> None:
        """The attempt failed in a way that says nothing about limits."""
        now = self._clock()
        permit.endpoint.abandoned(permit.sent, now)
        self._settle(permit, 0.0, now)

    def abandoned(self, permit: Permit) -> None:
        """The attempt was given up; what it used is unknown and stays reserved."""
        now = self._clock()
        permit.endpoint.abandoned(permit.sent, now)
        self._settle(permit, None, now)

    def unsent(self, permit: Permit) -> None:
        """The permit was not used: its worker was cancelled, or the run is stopping."""
        now = self._clock()
        self.promises.give_back_request(now)
        if self._whole is not None:
            self._whole.give_back_request(now)
        permit.cost_usd = NOTHING
        permit.endpoint.abandoned(permit.sent, now)
        self._settle(permit, 0.0, now)

    # ----------------------------------------------------------------------------------------- steering

    def retune(self, limits: Limits, *, is_paused: bool) -> None:
        """Set other limits; those that stay the same keep their state. While paused, no request is sent."""
        now = self._clock()
        if limits.bounds != self.limits.bounds:
            self.lanes.resize(limits.bounds, now)
        self.promises.change(limits, now, is_paused=is_paused)
        self.pump()

    def give_up(self, now: float) -> float:
        """Close the lanes whose pause goes on beyond the longest outage; returns when to look again."""
        looks = [math.inf]
        for limits in self.lanes.limits:
            at = limits.silent_from(self.limits.longest_outage_s)
            if at <= now and not limits.in_flight:
                self._close(limits, f"; it asks to wait for {limits.controller.paused_until - now:.0f} s more")
            else:
                looks.append(max(at, now + self.LOOK_EVERY_S))
        if not (self._whole or self.promises).in_flight:  # then nothing else is to be done
            for lane in self.lanes:
                lane.ask_again(self.limits.longest_outage_s, now)
            self.pump()
        return min(looks)

    def close(self) -> None:
        """Send nothing more: all waiting workers get None."""
        self._is_closed = True
        self.bytes.close()
        self.send_back_all()

    def send_back_all(self) -> None:
        """All that wait get no permit: their lines go elsewhere."""
        for lane in self.lanes:
            self._send_back(lane)
        self._set_timer(None)

    # ------------------------------------------------------------------------------------------ inside

    def _settle(self, permit: Permit, tokens_used: float | None, now: float) -> None:
        """An attempt has ended: free what it reserved of the job's limits, except what it used."""
        self.promises.settle(permit.tokens, tokens_used, permit.upper_usd, permit.cost_usd, now)
        if self._whole is not None:
            self._whole.settle(permit.tokens_of_whole, tokens_used, permit.upper_usd, permit.cost_usd, now)
        self.freed()

    def _budget_fits(self, upper_usd: Decimal) -> bool:
        return self.promises.fit(upper_usd) and (self._whole is None or self._whole.fit(upper_usd))

    def never_fits(self, upper_usd: Decimal) -> bool:
        """Whether no budget will ever have room for a request that may cost so much."""
        return self.promises.never_fit(upper_usd) or (self._whole is not None and self._whole.never_fit(upper_usd))

    def close_lane(self, lane: Lane) -> None:
        """Send nothing more for this model in this run."""
        lane.is_closed = True
        self._send_back(lane)

    def _close(self, limits: EndpointLimits, back: str = "") -> None:
        """Close all lanes with these limits; if no other is left, the job stops. `back`: when the gateway is back."""
        for lane in self.lanes:
            if lane.limits is limits:
                self.close_lane(lane)
        if self.lanes.are_closed:
            self._on_hold_too_long(f"throttled without a break{back}")

    def _send_back(self, lane: Lane) -> None:
        """Those that wait in this lane get no permit."""
        while lane.waiters:
            turn = lane.waiters.popleft().turn
            self.waiting -= 1
            if not turn.done():
                turn.set_result(None)

    def _wait_s(
        self, limits: EndpointLimits, upper_usd: Decimal, tokens: float, pace_per_s: float | None, now: float
    ) -> float | None:
        """Seconds until the next request may be sent: 0 is now, None is not before one in flight ends."""
        own, whole = self.promises, self._whole
        own_s = own.wait_s(upper_usd, now, tokens)
        if own_s is None:
            return None
        if len(self.lanes.limits) > 1 and own.in_flight + self.lanes.kept_free(limits, now) >= own.most_in_flight:
            return None
        wait_s = limits.wait_s(pace_per_s, now)
        if wait_s is None:
            return None
        if whole is not None:
            whole_s = whole.wait_s(upper_usd, now, tokens)
            if whole_s is None:
                return None
            own_s = max(own_s, whole_s)
        return max(own_s, wait_s)

    def _next_at(self, limits: EndpointLimits) -> tuple[float, LimitedBy]:
        """From when on the next request may go if a slot is free, even where that is past; and what says so."""
        of_whole = [] if self._whole is None else self._whole.next_at()
        return max([limits.next_at(), *self.promises.next_at(), *of_whole], key=lambda time: time[0])

    def _grant(self, lane: Lane, tokens: float, upper_usd: Decimal, pace_per_s: float | None, now: float) -> Permit:
        reserved = self.promises.take(tokens, upper_usd, now)
        of_whole = None if self._whole is None else self._whole.take(tokens, upper_usd, now)
        sent = lane.limits.sent(pace_per_s, now)
        if self.lanes.has_several:
            self.lanes.sent(lane)
        return Permit(lane, lane.limits, sent, upper_usd, upper_usd, reserved, of_whole)

    def _first(self, now: float) -> tuple[Lane | None, float | None]:
        """The lane whose first waiter goes next, and in how many seconds; None if it waits for one in flight."""
        chosen, chosen_s, order = None, math.inf, 0
        for lane in self.lanes:
            while lane.waiters and lane.waiters[0].turn.done():  # cancelled while it waited
                lane.waiters.popleft()
                self.waiting -= 1
            if not lane.waiters:
                continue
            first = lane.waiters[0]
            pace_per_s = lane.limits.controller.pace_per_s
            wait_s = self._wait_s(lane.limits, first.upper_usd, first.tokens, pace_per_s, now)
            if self.never_fits(first.upper_usd):  # what was spent meanwhile may have made it so
                wait_s = 0.0
            wait_s = math.inf if wait_s is None else wait_s
            if chosen is None or (wait_s, first.order) < (chosen_s, order):
                chosen, chosen_s, order = lane, wait_s, first.order
        return chosen, None if chosen_s == math.inf else chosen_s

    def pump(self) -> None:
        """Let through the workers that may send, and set the one timer for the next one."""
        if not self.waiting and self._timer is None:
            return  # as it is in most runs
        now = self._clock()
        lane, wait_s = self._first(now)
        while lane is not None and wait_s == 0:
            first = lane.waiters.popleft()
            self.waiting -= 1
            if self.never_fits(first.upper_usd):
                first.turn.set_result(None)
            else:
                pace_per_s = lane.limits.controller.pace_per_s
                first.turn.set_result(self._grant(lane, first.tokens, first.upper_usd, pace_per_s, now))
            lane, wait_s = self._first(now)
        self._set_timer(wait_s if lane is not None else None)

    def _set_timer(self, wait_s: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if wait_s is not None:
            self._timer = asyncio.get_running_loop().call_later(wait_s, self.pump)
