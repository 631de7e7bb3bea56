"""A client of a model gateway, steered by the real controller, in virtual time: hours in seconds."""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import AUTO_MOST, Concurrency
from tests.limits.gateways import Answer, Gateway


@dataclass(frozen=True, slots=True)
class Second:
    """What was at the beginning of one second of a run."""

    at: int
    slots: int
    in_flight: int
    pace_per_s: float | None
    answered: int
    throttled: int
    limited_by: LimitedBy


@dataclass
class Outcome:
    """What a simulated run came to. `work`, `latency_s` count what was sent from the warm-up on."""

    capacity: float = 0.0
    work: float = 0.0
    answered: int = 0
    throttled: int = 0
    failed: int = 0
    latency_s: float = 0.0
    most_in_flight: int = 0
    ended_at: float = 0.0
    seconds: list[Second] = field(default_factory=list)
    answered_at: list[float] = field(default_factory=list)  # each of them, where the client keeps times
    throttled_at: list[float] = field(default_factory=list)
    _timed: int = 0

    @property
    def used(self) -> float:
        return self.work / self.capacity

    @property
    def refusals(self) -> float:
        """429s for each answer."""
        return self.throttled / max(1, self.answered)

    def time(self, latency_s: float) -> None:
        self._timed += 1
        self.latency_s += (latency_s - self.latency_s) / self._timed


class Client:
    """Sends lines as fast as the controller lets it, as the real limiter does: in order, paced without bursts."""

    SEND_S = 0.0003  # of processor time for each request: a client does some 3,000 a second

    def __init__(
        self,
        gateway: Gateway,
        *,
        seed: int = 0,
        net_s: float = 0.001,
        minimum: int = 1,
        maximum: int = AUTO_MOST,
        warm_up_s: float = 10.0,
        keeps_times: bool = False,
    ) -> None:
        self.controller = Controller(Concurrency(minimum, maximum), 0.0)
        self.gateway = gateway
        self.rng = random.Random(seed)
        self.net_s = net_s
        self.warm_up_s = warm_up_s
        self.keeps_times = keeps_times
        self.outcome = Outcome()
        self._events: list[tuple[float, int, Sent | None, Answer | None]] = []  # answers, and timers (None)
        self._number = 0  # of events: of two at the same time the earlier one comes first
        self._now, self._in_flight, self._left = 0.0, 0, math.inf
        self._free_at = 0.0  # when the processor is
        self._bucket, self._bucket_at = 1.0, 0.0
        self._wake_at = math.inf
        self._idle: tuple[tuple[float, float], ...] = ()

    def run(self, duration_s: float, lines: float = math.inf, idle: tuple[tuple[float, float], ...] = ()) -> Outcome:
        """Run for so long, or until so many lines are done. In `idle` spans there is nothing to send."""
        self._left, self._idle = lines, idle
        next_second = 0
        while True:
            self._send()
            if not self._events:
                break
            self._now, _, sent, answer = heapq.heappop(self._events)
            if self._now >= next_second:
                if self._now > duration_s:
                    break
                self._each_second(next_second)
                next_second = int(self._now) + 1
            if sent is None or answer is None:
                if self._now >= self._wake_at:
                    self._wake_at = math.inf
                continue
            self._come_back(sent, answer)
            if self._left <= 0 and self._in_flight == 0:
                break
        outcome = self.outcome
        outcome.ended_at = min(self._now, duration_s)
        outcome.capacity = self.gateway.capacity(self.warm_up_s, max(outcome.ended_at, self.warm_up_s + 1e-9))
        return outcome

    def _send(self) -> None:
        """Send what may be sent now; otherwise set a timer."""
        controller, now = self.controller, self._now
        slots, pace, paused_until = controller.slots, controller.pace_per_s, controller.paused_until
        while self._left > 0 and self._in_flight < slots:
            until = self._next_at(pace, paused_until)
            if until > now:
                if until < self._wake_at:
                    self._wake_at = until
                    self._push(until, None, None)
                return
            self._in_flight += 1
            self._left -= 1
            if pace is not None:
                self._bucket -= 1
            self._free_at = now + self.SEND_S
            sent = controller.sent(self._in_flight, now)
            answer, work = self.gateway.arrive(now + self.net_s, self.rng)
            if now >= self.warm_up_s:
                self.outcome.work += work
            self._push(now + 2 * self.net_s + answer.after_s, sent, answer)
            pace = controller.pace_per_s

    def _next_at(self, pace: float | None, paused_until: float) -> float:
        """When the next request may go, if a slot is free."""
        now = self._now
        until = max(now, paused_until, self._free_at)
        for start, end in self._idle:
            if start <= until < end:
                until = end
        if pace is not None:
            # A hundredth of a second's worth at most, so that late timers are caught up with.
            self._bucket = min(max(1.0, pace / 100), self._bucket + (now - self._bucket_at) * pace)
            self._bucket_at = now
            if self._bucket < 1 - 1e-9:
                until = max(until, now + (1 - self._bucket) / pace)
        return until

    def _push(self, at: float, sent: Sent | None, answer: Answer | None) -> None:
        self._number += 1
        heapq.heappush(self._events, (at, self._number, sent, answer))

    def _come_back(self, sent: Sent, answer: Answer) -> None:
        controller, outcome, now = self.controller, self.outcome, self._now
        if answer.headers is not None:
            controller.headers(sent, answer.headers, now)
        self._in_flight -= 1
        if answer.status == 200:
            controller.succeeded(sent, now)
            outcome.answered += 1
            if self.keeps_times:
                outcome.answered_at.append(now)
            if sent.at >= self.warm_up_s:
                outcome.time(now - sent.at)
            return
        self._left += 1
        if answer.status == 429:
            controller.throttled(sent, answer.retry_after_s, now)
            outcome.throttled += 1
            if self.keeps_times:
                outcome.throttled_at.append(now)
        else:
            controller.failed(sent, now)
            outcome.failed += 1

    def _each_second(self, second: int) -> None:
        controller, outcome, in_flight = self.controller, self.outcome, self._in_flight
        outcome.most_in_flight = max(outcome.most_in_flight, in_flight)
        if second < 100_000:
            limited_by = controller.limited_by(in_flight, float(second))
            pace = controller.pace_per_s
            outcome.seconds.append(
                Second(second, controller.slots, in_flight, pace, outcome.answered, outcome.throttled, limited_by)
            )
