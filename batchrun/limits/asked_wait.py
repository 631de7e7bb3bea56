"""Whether the wait that a gateway asks for (`Retry-After`) is needed, or answers contradict it. Pure.

1. A limit of requests at once has room as soon as one of them is answered, whatever it asks for. Some gateways always
   ask for a minute.
2. So where an answer comes during a long wait, one request is sent to find out: the *trial*.
3. If it is answered, the wait is over, and long waits are not followed for a while.
4. If it is refused, the wait is kept, and the next trial comes after twice as many waits.
"""

from __future__ import annotations

import math

from batchrun.limits.controller import Controller, Sent


class AskedWait:
    """What is known of the waits that a gateway asks for. `may_try`: one request may be sent during the wait."""

    LEAST_LEFT = 0.5  # of the wait, when a trial is sent: one that is nearly over may be over by rounding
    IGNORED_S = 600.0  # for which long waits are not followed, once they are contradicted

    def __init__(self) -> None:
        self.may_try = False
        self._asked_at = self._until = self._ignored_until = -math.inf
        self._trial: int | None = None
        self._waits, self._next_trial, self._apart = 0, 1, 1

    def followed_s(self, asked_s: float | None, now: float) -> float | None:
        """The wait that is followed of the one that was asked for, in seconds."""
        is_ignored = asked_s is not None and asked_s > Controller.SHORT_ASKED_S and now < self._ignored_until
        return None if is_ignored else asked_s

    def sent(self, sent: Sent) -> None:
        """A request goes out; during a wait it is the trial."""
        if self.may_try and sent.at < self._until:
            self._trial = sent.number
        self.may_try = False

    def throttled(self, sent: Sent, asked_s: float | None, now: float) -> None:
        """A request was refused, and the gateway asked for this wait."""
        self.may_try = False
        if sent.number == self._trial:
            self._trial = None
            self._apart *= 2
            self._next_trial = self._waits + self._apart
        if asked_s is None or asked_s <= Controller.SHORT_ASKED_S or now < self._ignored_until:
            return
        if now >= self._until:
            self._waits += 1
            self._asked_at = now
        self._until = max(self._until, now + min(asked_s, Controller.MAX_ASKED_S))

    def answered(self, sent: Sent, now: float) -> bool:
        """A request was answered; returns whether that contradicts the wait."""
        if sent.number == self._trial:
            self._trial, self._apart = None, 1
            self._next_trial = self._waits + 1
            self._until, self._ignored_until = now, now + self.IGNORED_S
            return True
        if now < self._until and self._trial is None and self._waits >= self._next_trial:
            self.may_try = self._until - now >= self.LEAST_LEFT * (self._until - self._asked_at)
        return False

    def abandoned(self, sent: Sent) -> None:
        """A request ended in a way that says nothing about waits."""
        if sent.number == self._trial:
            self._trial = None
