"""How many requests may be in flight: a number between bounds, moved by answers and refusals. Pure.

1. Slow start: the number doubles each round trip, as long as it is used.
2. Then it stays just below the number at which the gateway refuses, or where more at once bring no more answers.
3. Both are tried again: nothing is kept for good.
4. `controller.py` says whether a refusal is about the number at all.
"""

from __future__ import annotations

import math
from enum import Enum

from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.limits.plateau import Plateau

START = 8  # where slow start begins: a wrong key costs no more requests than that


class _Phase(Enum):
    RISING = "no ceiling known"
    RETURNING = "below the ceiling"
    HOLDING = "just below the ceiling, until the next try"
    TRYING = "a step beyond the ceiling"
    PLATEAU = "where throughput ceased to rise"


class ConcurrencyLimit:
    """The number in flight. `ceiling` is the least number at which a request was refused.

    A fixed number is where it begins and where it returns to: only refusals lower it, a queue does not.
    """

    SATURATED = 0.8  # of the limit: a lower peak proves nothing about the limit
    STEP = 0.03  # the first cut of a series goes that far below the number refused, at least one: it stays close
    AGAIN = 0.7  # the further cuts, with less than half a round trip of answers between: the first was too small
    # Times the ceiling: so many answers to requests sent that far above it show that it is none; one may be chance.
    ABOVE, ABOVE_ENOUGH = 1.25, 2
    # Of the limit, kept by one cut. After a pause few are in flight: one refused among them is no limit of so few.
    LEAST_KEPT = 0.5
    # Answers before a try beyond the ceiling; doubled each time, up to where at worst 1 answer in 200 is refused.
    WAIT_FIRST, WAIT_MOST = 8, 200
    # Seconds before it for each second that the last refusal paused, as far as these count: 1 s in 30 costs 3 %.
    WAIT_PER_PAUSE, LONGEST_PAUSE_S = 30.0, 5.0
    # How long a plateau is kept, doubled each time: a queue may have become shorter, and a look costs some latency.
    LOOK_AGAIN_S, LOOK_AGAIN_MOST_S = 10.0, 300.0
    LOOK_BELOW = 1.6  # times below the knee: from a level lower than it, so that throughput is seen to rise or not
    LOOK_GAIN = 0.25  # slots per answer when looking again: doubling would fill the queue to four times its knee
    KNEE_EVERY = 8  # answers: the knee is computed from all levels, which costs more than an answer does

    def __init__(self, bounds: Concurrency, now: float) -> None:
        self.plateau = Plateau(now)
        self._limit, self.slots = 0.0, 0  # as exact as it grows, and the whole number that is allowed
        self.resize(bounds, now)
        self._wait_answers = self.WAIT_FIRST
        self._wait_until = now
        self._before = self._limit
        self._full_at = now
        self._look_again_s = self.LOOK_AGAIN_S

    def resize(self, bounds: Concurrency, now: float) -> None:
        """Other bounds from now on; the gateway's limit within them is found out again, from here."""
        self.is_fixed = bounds.least == bounds.most
        self.minimum = 1 if self.is_fixed else bounds.least
        self.maximum = bounds.most
        start = bounds.most if self.is_fixed else max(self._limit, START, bounds.least)
        self._allow(float(min(bounds.most, start)))
        self.ceiling: int | None = None
        self._refused_at, self._refused_after_s, self._above = now, 0.0, 0
        self._was_contradicted = False  # by answers far above a ceiling
        self._careful_until = 0.0
        self._start_rising(1.0, 0.0, now)

    @property
    def limited_by(self) -> LimitedBy:
        """What keeps the number where it is."""
        if self.slots >= self.maximum:
            return LimitedBy.MAXIMUM
        if self._phase is _Phase.PLATEAU:
            return LimitedBy.PLATEAU
        return LimitedBy.SLOW_START if self._phase is _Phase.RISING else LimitedBy.CAPACITY

    @property
    def is_raising(self) -> bool:
        """Whether more are in flight than ever before: that explains a refusal, unless answers contradicted it."""
        return self._phase is _Phase.TRYING or (self._phase is _Phase.RISING and not self._was_contradicted)

    def sent(self, level: int, now: float) -> None:
        """A request went out; `level` are in flight with it."""
        if not self.is_fixed:
            self.plateau.sent(level, now)
        if level >= self.SATURATED * self.slots:
            self._full_at = now

    def succeeded(self, sent_at: float, level: int, now: float, ruled_at: float = math.inf) -> None:
        """A request was answered: grow, hold or try, as the phase says. `ruled_at`: see `Sent`."""
        if self.is_fixed:
            if self.ceiling is None and self.slots == self.maximum:
                return  # as it always is where nothing is refused
        else:
            self.plateau.back(sent_at, level, now - sent_at)
        if self._phase is _Phase.TRYING:
            self._answers += min(sent_at, ruled_at) >= self._phase_at
        else:
            self._answers += self._phase is not _Phase.HOLDING or ruled_at >= self._phase_at
        if self.ceiling is not None and self._is_above(sent_at, level, now):
            self._above += 1
            if self._above >= self.ABOVE_ENOUGH:
                self._was_contradicted = True
                self.restore(now)
                return
        if sent_at > self._full_at:
            return
        match self._phase:
            case _Phase.RISING:
                self._rise(sent_at, now)
            case _Phase.RETURNING:
                self._return(now)
            case _Phase.HOLDING if self._answers >= self._wait_answers and now >= self._wait_until:
                self._enter(_Phase.TRYING, now)
                self._allow(self.slots + self._step)
            case _Phase.TRYING:
                # A whole round trip beyond the ceiling, and nothing refused: there is no ceiling here.
                if self._answers >= self.slots:
                    self.ceiling, self._wait_answers = None, self.WAIT_FIRST
                    self._start_rising(self._step / self._limit, 0.0, now)
            case _Phase.PLATEAU if now >= self._phase_at + self._look_again_s:
                self._look_again(now)
            case _:
                pass

    def cut(self, sent_at: float, level: int, answers: int, pause_s: float, now: float) -> None:
        """A request was refused, sent with `level` in flight; there were so many `answers` since the last cut."""
        self._refused_at, self._refused_after_s, self._above = sent_at, now - sent_at, 0
        again = self.ceiling is not None and answers < level / 2
        if not again:
            self._before = self._limit
        moved = self.ceiling is None or abs(level / self.ceiling - 1) > 0.1
        self._wait_answers = self.WAIT_FIRST if moved else min(2 * self._wait_answers, self.WAIT_MOST)
        self.ceiling = level
        kept = level * self.AGAIN if again else min(level - max(1, self.STEP * level), level - 1)
        if self._phase is _Phase.TRYING and not again:
            kept = level - self._step
        self._allow(max(float(self.minimum), min(self._limit, max(kept, self.LEAST_KEPT * self._limit))))
        if not again:
            wait_s = min(pause_s, self.LONGEST_PAUSE_S) * self.WAIT_PER_PAUSE * self._wait_answers / self.WAIT_MOST
            self._wait_until = now + wait_s
        self._enter(_Phase.RETURNING, now)

    def begin(self, slots: int) -> None:
        """Begin with so many, where these are more."""
        self._allow(min(float(self.maximum), max(self._limit, float(slots))))

    def restore(self, now: float) -> None:
        """Refusals were not about the number: take back the cuts of this series."""
        self._allow(max(self._limit, self._before))
        self.ceiling = None
        self._start_rising(1.0, 0.0, now)

    # ------------------------------------------------------------------------------------------ inside

    @property
    def _step(self) -> int:
        return max(1, int(self._limit / 100))

    def _is_above(self, sent_at: float, level: int, now: float) -> bool:
        """Whether an answer contradicts the ceiling: it was sent after what was refused, and far above it."""
        if self.ceiling is None or sent_at <= self._refused_at:
            return False
        late = min(1.0, self._refused_after_s / max(now - sent_at, 1e-9))  # see `Controller._late`
        return level > self.ABOVE * (1 + late) * self.ceiling + 1

    def _allow(self, limit: float) -> None:
        self._limit = limit
        self.slots = max(self.minimum, min(self.maximum, int(limit)))

    def _enter(self, phase: _Phase, now: float) -> None:
        self._phase, self._answers = phase, 0
        self._phase_at = now  # in RISING: since when the gain has been what it is

    def _start_rising(self, gain: float, careful_until: float, now: float) -> None:
        self._enter(_Phase.RISING, now)
        self._gain, self._careful_until = gain, careful_until
        self.plateau.clear(now)

    def _rise(self, sent_at: float, now: float) -> None:
        if not self.is_fixed and self._answers % self.KNEE_EVERY == 0 and (knee := self.plateau.knee()) is not None:
            self._allow(max(float(self.minimum), min(self._limit, knee)))
            self._enter(_Phase.PLATEAU, now)
            return
        self._allow(min(float(self.maximum), self._limit + self._gain))
        if sent_at < self._phase_at:
            return
        if self._gain < 1 and self._limit > self._careful_until:  # a round trip went well: go faster
            self._gain = min(1.0, 2 * self._gain)
            self._look_again_s = self.LOOK_AGAIN_S
            self._phase_at = now

    def _return(self, now: float) -> None:
        """Halve what is missing each round trip, up to one below the ceiling."""
        assert self.ceiling is not None, "there is a ceiling to return to"
        top = max(float(self.minimum), self.ceiling - 1.0)
        self._allow(min(top, self._limit + max(1.0, (top - self._limit) / 2) / self._limit))
        if self._limit >= top:
            self._enter(_Phase.HOLDING, now)

    def _look_again(self, now: float) -> None:
        """Begin again from below the knee with new latencies: the old ones may be those of other answers."""
        self._look_again_s = min(2 * self._look_again_s, self.LOOK_AGAIN_MOST_S)
        knee = self._limit
        self._allow(max(float(self.minimum), self._limit / self.LOOK_BELOW))
        self._start_rising(self.LOOK_GAIN, 2 * knee, now)
