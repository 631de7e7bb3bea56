"""What limits the requests to one gateway: what is known about it, and what is in flight to it.

1. This file has what belongs to one gateway: the controller (number in flight and pace, pauses, spurious throttles) and
   the circuit breaker. The promises for the whole job are in `limiter.py`.
2. This file has no queue and no timer: `wait_s` says when the next request may be sent, and the limiter waits.
3. Each request is announced by `sent`, and ended by exactly one of `answered`, `refused`, `throttled`, `failed` and
   `abandoned`.
4. A failure that may mean an outage is in doubt until others are answered or fail. Its worker waits for the verdict.
"""

from __future__ import annotations

import asyncio

from batchrun.limits.circuit_breaker import CircuitBreaker, OutageSignal, Verdict
from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.limits.rate import Pacer
from batchrun.records.outcome import RateHeaders


class EndpointLimits:
    """The limits of one gateway, and the requests that are in flight to it.

    `probe` is the request in flight that finds out whether an outage is over; None if there is none.
    """

    def __init__(self, bounds: Concurrency, now: float) -> None:
        self.controller = Controller(bounds, now)
        self.breaker = CircuitBreaker()
        self.in_flight = 0
        self.probe: Sent | None = None
        self._pacer = Pacer(now)
        self._in_doubt: list[tuple[float, asyncio.Future[Verdict]]] = []  # when it was sent; what the failure meant
        self._throttled_since: float | None = None

    # ------------------------------------------------------------------------------------- before a request

    @property
    def is_full(self) -> bool:
        """Whether as many requests are in flight as allowed."""
        return self.in_flight >= self.controller.slots

    def wait_s(self, pace_per_s: float | None, now: float) -> float | None:
        """Seconds until the next request may be sent: 0 is now, None is not before one in flight ends.

        `pace_per_s` is the controller's; it is passed in because the request is granted at the same one.
        """
        if self.in_flight >= self.controller.slots:
            return None
        until = self.controller.paused_until
        if pace_per_s is not None and self._pacer.next_at > until:
            until = self._pacer.next_at
        if self.breaker.open_since is not None:
            if self.probe is not None:
                return None
            until = max(until, self.breaker.next_probe_at)
        return until - now if until > now else 0.0

    def sent(self, pace_per_s: float | None, now: float) -> Sent:
        """A request is sent."""
        self.in_flight += 1
        if pace_per_s is not None:
            self._pacer.take(pace_per_s, now)
        sent = self.controller.sent(self.in_flight, now)
        if self.breaker.open_since is not None:
            self.probe = sent
        return sent

    # ------------------------------------------------------------------------------------------ its ending

    def answered(self, sent: Sent, model: str, rate: RateHeaders | None, now: float) -> None:
        """A whole answer came."""
        if rate is not None:
            self.controller.headers(sent, rate, now)
        self.controller.succeeded(sent, now)
        self._throttled_since = None
        self.breaker.answered(sent.at, now, model)
        self._came_back(sent)

    def refused(self, sent: Sent, now: float) -> None:
        """The gateway refused the request itself: that says nothing about limits, but the gateway is there."""
        self.controller.failed(sent, now)
        self._throttled_since = None
        self.breaker.answered(sent.at, now)
        self._came_back(sent)

    def throttled(self, sent: Sent, retry_after_s: float | None, rate: RateHeaders | None, now: float) -> None:
        """The gateway said "too fast"."""
        if rate is not None:
            self.controller.headers(sent, rate, now)
        self.controller.throttled(sent, retry_after_s, now)
        if self._throttled_since is None:
            self._throttled_since = now
        self.breaker.answered(sent.at, now)
        self._came_back(sent)

    def failed(self, sent: Sent, signal: OutageSignal, now: float) -> Verdict | None:
        """An outage signal; None while it is in doubt what it meant: then see `verdict`."""
        counts = self.breaker.failed(signal, sent.at, now, is_probe=sent is self.probe)
        self.abandoned(sent, now)
        if self.breaker.is_outage:
            self.resolve(Verdict.OUTAGE)
            return Verdict.OUTAGE
        return None if counts else Verdict.LINE

    def abandoned(self, sent: Sent, now: float) -> None:
        """The attempt was given up, or nothing was sent: that says nothing about the gateway."""
        self.controller.failed(sent, now)
        self.in_flight -= 1
        if sent is self.probe:
            self.probe = None

    # ----------------------------------------------------------------------------------- failures in doubt

    @property
    def has_doubts(self) -> bool:
        """Whether any worker waits for a verdict."""
        return bool(self._in_doubt)

    def verdict(self, sent: Sent) -> asyncio.Future[Verdict]:
        """What a failure in doubt meant, once that is known."""
        verdict: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._in_doubt.append((sent.at, verdict))
        return verdict

    def resolve(self, verdict: Verdict, known_until: float = float("inf")) -> None:
        """Say what a failure meant, to those that were sent no later than `known_until`."""
        still_in_doubt = []
        for sent_at, future in self._in_doubt:
            if sent_at > known_until:
                still_in_doubt.append((sent_at, future))
            elif not future.done():
                future.set_result(verdict)
        self._in_doubt = still_in_doubt

    def verdict_wait_s(self, now: float) -> float | None:
        """Seconds until failures in doubt count as the lines' own, because nothing in flight can decide.

        None if nothing is in doubt, or something is in flight. Use it only if no worker waits to send, either.
        """
        if not self._in_doubt or self.in_flight:
            return None
        return max(0.0, self.breaker.next_probe_at - now)

    # --------------------------------------------------------------------------------------------- looking

    def throttled_s(self, now: float) -> float:
        """For how many seconds every answer has been a throttle."""
        return 0.0 if self._throttled_since is None else now - self._throttled_since

    def outage_s(self, now: float) -> float | None:
        """For how long the circuit breaker has been open; None while it is closed."""
        return None if self.breaker.open_since is None else now - self.breaker.open_since

    def limited_by(self, now: float, *, has_lines: bool) -> LimitedBy:
        """What limits the requests to this gateway; `has_lines` says whether more would go if they might."""
        return self.controller.limited_by(self.in_flight, now, has_lines=has_lines)

    def next_at(self) -> tuple[float, LimitedBy]:
        """From when on pause and pace let the next request go, even where that is past; and which of them it is."""
        paused_until = self.controller.paused_until
        if self.controller.pace_per_s is None or self._pacer.next_at <= paused_until:
            return paused_until, LimitedBy.THROTTLED
        return self._pacer.next_at, self.controller.paced_by

    # ---------------------------------------------------------------------------------------------- inside

    def _came_back(self, sent: Sent) -> None:
        """The gateway answered: it is there, so failures of requests that were sent before are the lines' own."""
        self.in_flight -= 1
        if sent is self.probe:
            self.probe = None
        if self._in_doubt:
            self.resolve(Verdict.LINE, sent.at)
