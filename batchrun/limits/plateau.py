"""Whether more requests in flight still bring more answers: mean latency by the number in flight. Pure.

1. A request counts for the level of concurrency at which it was sent, itself included. Levels are half octaves.
2. A level counts once nearly all of its requests are back: the first ones back are the short ones.
3. By Little's law a level answers `level / latency` requests a second. Where that rises by less than 0.3 of what
   the level does, and the rise in latency is no noise, there is a queue, and more would only lengthen it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(slots=True)
class _Level:
    sent: int = 0
    back: int = 0
    answers: int = 0
    in_flight: int = 0
    latency_s: float = 0.0
    squares: float = 0.0
    last_at: float = 0.0

    @property
    def mean_in_flight(self) -> float:
        return self.in_flight / self.answers

    @property
    def mean_s(self) -> float:
        return self.latency_s / self.answers

    @property
    def error(self) -> float:
        """The standard error of the mean latency, as a share of it."""
        variance = max(0.0, self.squares / self.answers - self.mean_s**2)
        return math.sqrt(variance / self.answers) / self.mean_s

    @property
    def per_s(self) -> float:
        return self.mean_in_flight / self.mean_s


class Plateau:
    """Latencies by level since the last `clear`."""

    ENOUGH = 10  # answers, for a level to count at all: fewer have no meaningful standard error
    NEARLY_ALL = 0.9  # of a level's requests must be back: a few hang for very long
    HEADROOM = 1.07  # above the knee: a mean of a hundred lognormal latencies is 8 % off
    RISES = 0.3  # of the relative growth in flight must come back as throughput; below that there is a queue
    LEAST_GROWTH = 0.3  # between two levels, as a logarithm (a third more): neighbours differ by too little
    # Seconds, or ten latencies: when all answers grow longer, an old level looks like a gateway without a queue.
    RECENT_S = 30.0
    SURE = 3.5  # standard errors: 3 took 3 in 20 unlimited lognormal gateways for a queue, 3.5 took 1

    def __init__(self, now: float) -> None:
        self._levels: dict[int, _Level] = {}
        self._since = now

    def clear(self, now: float) -> None:
        """Forget everything; requests sent before `now` do not count."""
        self._levels.clear()
        self._since = now

    def sent(self, in_flight: int, now: float) -> None:
        """A request was sent; `in_flight` counts it too."""
        key = (in_flight * in_flight).bit_length()
        level = self._levels.get(key)
        if level is None:
            level = self._levels[key] = _Level()
        level.sent += 1
        level.last_at = now

    def back(self, sent_at: float, in_flight: int, latency_s: float | None) -> None:
        """A request ended; `latency_s` is None unless it was answered."""
        level = self._levels.get((in_flight * in_flight).bit_length())
        if level is None or sent_at < self._since:
            return
        level.back += 1
        if latency_s is not None:
            level.answers += 1
            level.in_flight += in_flight
            level.latency_s += latency_s
            level.squares += latency_s * latency_s

    def knee(self) -> float | None:
        """How many in flight bring all the throughput there is; None while more still bring more."""
        levels = list(self._known())
        for top in reversed(levels):
            for low in levels:
                if self._is_flat(low, top):
                    before = [level for level in levels if level.per_s < 0.85 * top.per_s] or levels[:1]
                    return top.per_s * before[-1].mean_s * self.HEADROOM
        return None

    def _is_flat(self, low: _Level, top: _Level) -> bool:
        growth = math.log(top.mean_in_flight / low.mean_in_flight)
        if growth < self.LEAST_GROWTH or low.last_at < top.last_at - max(self.RECENT_S, 10 * top.mean_s):
            return False
        slower = math.log(top.mean_s / low.mean_s)
        return slower > (1 - self.RISES) * growth and slower > self.SURE * math.hypot(low.error, top.error)

    def _known(self) -> Iterator[_Level]:
        for _, level in sorted(self._levels.items()):
            if level.answers >= self.ENOUGH and level.back >= self.NEARLY_ALL * level.sent and level.latency_s > 0:
                yield level
