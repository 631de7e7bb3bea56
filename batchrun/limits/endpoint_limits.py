"""What limits the requests to one gateway: what is known about it, and what is in flight to it.

1. This file has what belongs to one gateway: the controller (number in flight and pace, pauses, spurious throttles).
   The promises for the whole job are in `limiter.py`.
2. This file has no queue and no timer: `wait_s` says when the next request may be sent, and the limiter waits.
3. Each request is announced by `sent`, and ended by exactly one of `answered`, `refused`, `throttled` and `abandoned`.
"""

from __future__ import annotations

import math

from batchrun.limits.asked_wait import AskedWait
from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.limits.rate import Pacer
from batchrun.records.outcome import RateHeaders


class EndpointLimits:
    """The limits of one gateway, or of one model there, and the number of requests that are in flight to it.

    `taken` counts the lines that workers have: they are in flight, or wait for it. `is_doubted`: no more than one of
    them, until it is known whether anything is answered.
    """

    def __init__(self, bounds: Concurrency, now: float, controller: Controller | None = None) -> None:
        self.controller = Controller(bounds, now) if controller is None else controller
        self.in_flight = self.taken = 0
        self.is_doubted = False
        self._pacer = Pacer(now)
        self._asked_wait = AskedWait()
        self._throttled_since: float | None = None

    def begin(self, per_s: float, slots: int, now: float) -> None:
        """Begin at a limit that is used up now, with so many answers a second (0: unknown), and so many in flight."""
        self.controller.begin(per_s, slots, now)
        if per_s:
            self._pacer.take(per_s, now)

    def begin_told(self, rate: RateHeaders, sent: Sent, in_flight: int, now: float) -> None:
        """Begin with what the headers of an answer tell; so many requests are in flight that do not count here."""
        self.controller.concurrency.begin(in_flight)
        self.controller.begin_told(rate, sent.at, in_flight, now)

    # ------------------------------------------------------------------------------------- before a request

    @property
    def has_room(self) -> bool:
        """Whether a further line may be given to a worker."""
        return self.taken < (1 if self.is_doubted else self.controller.slots)

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
        until = now if self._asked_wait.may_try else self.controller.paused_until
        if pace_per_s is not None and self._pacer.next_at > until:
            until = self._pacer.next_at
        return until - now if until > now else 0.0

    def due_soon(self, now: float) -> int:
        """How many requests more the pace lets go until one that is sent now is answered."""
        return 0 if now < self.controller.paused_until else max(0, self.controller.at_once - self.in_flight)

    def sent(self, pace_per_s: float | None, now: float) -> Sent:
        """A request is sent."""
        self.in_flight += 1
        if pace_per_s is not None:
            self._pacer.take(pace_per_s, now)
        sent = self.controller.sent(self.in_flight, now)
        if self._asked_wait.may_try:
            self._asked_wait.sent(sent)
        return sent

    # ------------------------------------------------------------------------------------------ its ending

    def answered(self, sent: Sent, rate: RateHeaders | None, now: float) -> bool:
        """A whole answer came; returns whether it contradicts the wait that the gateway has asked for."""
        if rate is not None:
            self.controller.headers(sent, rate, now)
        self.controller.succeeded(sent, now)
        self.in_flight -= 1
        if is_contradicted := self._asked_wait.answered(sent, now):
            self.controller.resume(now)
        self._heard(now)
        return is_contradicted

    def refused(self, sent: Sent, now: float) -> None:
        """The gateway refused the request itself: that says nothing about limits, but the gateway is there."""
        self._heard(now)
        self.abandoned(sent, now)

    def throttled(self, sent: Sent, retry_after_s: float | None, rate: RateHeaders | None, now: float) -> None:
        """The gateway said "too fast"."""
        if rate is not None:
            self.controller.headers(sent, rate, now)
        self._asked_wait.throttled(sent, retry_after_s, now)
        self.controller.throttled(sent, self.followed_s(retry_after_s, now), now)
        if self._throttled_since is None:
            self._throttled_since = now
        self.in_flight -= 1

    def abandoned(self, sent: Sent, now: float) -> None:
        """The attempt failed or was given up, or nothing was sent: that says nothing about limits."""
        self.controller.failed(sent, now)
        self._asked_wait.abandoned(sent)
        self.in_flight -= 1

    def _heard(self, now: float) -> None:
        """An answer that is no throttle came; in a pause it is the last one for a while."""
        self._throttled_since = now if now < self.controller.paused_until else None

    # --------------------------------------------------------------------------------------------- looking

    def throttled_s(self, now: float) -> float:
        """For how many seconds every answer has been a throttle."""
        return 0.0 if self._throttled_since is None else now - self._throttled_since

    def silent_from(self, longest_s: float) -> float:
        """From when on all was refused for so many seconds, if nothing is sent before; infinite if something may be."""
        if self._throttled_since is None:
            return math.inf
        until = self._throttled_since + longest_s
        return until if until < self.controller.paused_until else math.inf

    def followed_s(self, asked_s: float | None, now: float) -> float | None:
        """Of the wait that the gateway asked for, in seconds: what is followed of it."""
        return self._asked_wait.followed_s(asked_s, now)

    def limited_by(self, now: float, *, has_lines: bool) -> LimitedBy:
        """What limits the requests to this gateway; `has_lines` says whether more would go if they might."""
        return self.controller.limited_by(self.in_flight, now, has_lines=has_lines)

    def next_at(self) -> tuple[float, LimitedBy]:
        """From when on pause and pace let the next request go, even where that is past; and which of them it is."""
        paused_until = self.controller.paused_until
        if self.controller.pace_per_s is None or self._pacer.next_at <= paused_until:
            return paused_until, LimitedBy.THROTTLED
        return self._pacer.next_at, self.controller.paced_by
