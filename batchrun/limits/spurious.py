"""Refusals that have nothing to do with how fast requests come: a relay of many channels, some of them spent. Pure.

Taken for a limit, each of them slows the job down, for ever: one in two hundred is enough to wear it down to a tenth.
But going slower ends the refusals of a limit, and not those. So where they go on, a trial decides:

1. A refusal is suspicious if nothing had been raised since the last cut, and the door was not shut.
2. After three of them requests go slower than what was let through meanwhile, and fewer at once.
3. Refused as often as before, they are strays: about that share is sent again from then on, and no more happens.
   Refused no longer, they come of a limit, and so do all others at about that pace.
4. More refusals than that, or a door that is shut, are a limit all the same. A trial that saw few refusals is soon
   followed by another, and so is each after ten minutes: nothing is believed for good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class _Excess:
    """Whether more is refused than a share of all: each refusal counts one, each request takes the share back."""

    MOST: ClassVar = 8.0  # with half the share refused, chance comes to so much once in 20,000 refusals
    AGAIN: ClassVar = 2.0  # below that once it was reached: what goes on is seen sooner

    share: float
    _sum: float = 0.0
    _number: int = 0

    def refused(self, number: int) -> bool:
        """Whether it is more now; `number` is in the order of sending: a burst is sent before any of it is refused."""
        self._sum = max(0.0, self._sum - self.share * max(0, number - self._number)) + 1
        self._number = max(self._number, number)
        if self._sum <= self.MOST:
            return False
        self._sum = self.MOST - self.AGAIN
        return True


@dataclass(slots=True)
class _Sample:
    """The requests sent from a time on, and which of them were refused: that is known long before others are answered.

    So a share is of those sent, not of those done: with answers of a minute, the first minute would be all refusals.
    """

    MOST_SHARE: ClassVar = 0.7

    since: float
    sent: int = 0
    refused: int = 0
    passed: int = 0  # answers to what was sent after the last one refused
    sent_before: int = 0  # up to that one
    _refused_at: float = -math.inf

    @property
    def share(self) -> float:
        return self.refused / self.sent

    @property
    def most_share(self) -> float:
        """What the share may be in truth: three standard deviations more, as few as there were."""
        return min(self.share * (1 + 3 / math.sqrt(self.refused)), self.MOST_SHARE)

    def answer(self, sent_at: float) -> None:
        self.passed += sent_at >= self.since and sent_at > self._refused_at

    def refuse(self, sent_at: float) -> None:
        if sent_at >= self.since:
            self.refused += 1
            self.passed, self.sent_before, self._refused_at = 0, self.sent, sent_at


@dataclass(slots=True)
class _Suspicion:
    """Suspicious refusals, and what became of everything since the first one, which does not count."""

    sample: _Sample
    admitted: int
    refusals: int = 1


@dataclass(slots=True)
class Trial:
    """Going slower to see whether refusals end. `slower` is the share of the slots to use."""

    NO_CHANCE: ClassVar = 0.1  # that none is refused for so long, after as many as there were before

    pace_per_s: float
    slower: float
    before: _Sample
    sample: _Sample
    excess: _Excess

    @property
    def is_without_refusals(self) -> bool:
        """Whether so many in a row were let through that it is no chance.

        A limit hardly ever refuses anything in a trial: each that it did makes a limit ten times less likely.
        """
        refused = self.before.refused + self.sample.refused
        sent = self.before.sent + self.sample.sent_before
        no_chance = self.NO_CHANCE ** (1 + self.sample.refused)
        return self.sample.passed >= sent * (math.pow(no_chance, -1 / refused) - 1)


class SpuriousThrottles:
    """Decides which refusals say nothing. While there is a `trial`, requests and refusals are for it alone."""

    SUSPICIOUS = 3  # refusals before a trial
    LEAST_SHARE, MOST_SHARE = 0.004, 0.5  # of requests refused: fewer wear nothing down, more leave little to compare
    LEAST_S, LEAST_SENT = 2.0, 10  # before a trial: most of what passed in less may have been a bucket's store
    SLOWER, SLOWEST = 0.9, 0.6  # a trial, less the share refused, and at least; of what passed
    ENOUGH, MANY, LONG_S = 3, 10, 5.0  # refusals in a trial; many are better, but not worth more time than that
    NONE_LEFT = 4.0  # refusals would be usual in what was let through without any: no channel is spent any more
    LEAST_USUAL = 0.01  # of requests refused are sent again, once any are
    FEWER = 0.6  # of the share before the trial: some were strays, and some came of a limit
    LIMIT = 1.03, 1.3  # times the pace at which nothing was refused: there is the limit
    BELIEVED_S = 600.0  # a trial costs a tenth of the throughput for some hundred requests
    ROUGHLY_S = 30.0  # a limit with strays: fewer refusals may have been chance
    SURE = 40  # requests in a trial; a limit found in fewer is believed for less long, and the next trial costs as few

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self._suspicion: _Suspicion | None = None
        self._usual: _Excess | None = None
        self._usual_until = self._limit_until = -math.inf
        self._is_rough = False  # what is usual
        self._unrefused_per_s = 0.0

    def sent(self, now: float) -> None:
        """One goes out."""
        if self._suspicion is not None:
            self._suspicion.sample.sent += 1
        if self.trial is not None and now >= self.trial.sample.since:
            self.trial.sample.sent += 1

    def answered(self, sent_at: float, now: float) -> float | None:
        """One was let through; returns the limit in requests a second, where a trial has just found one."""
        trial = self.trial
        if trial is None:
            return None
        trial.sample.answer(sent_at)
        if not trial.is_without_refusals:
            return None
        if self._usual is not None and trial.sample.passed * self._usual.share > self.NONE_LEFT:
            self._usual = None
        self._found_limit(now)
        return trial.pace_per_s / trial.slower

    def refused(self, sent_at: float, number: int, admitted: int, now: float) -> bool:
        """The `number`th sent was refused, when so many had been let through in all; True where that says nothing."""
        if self._suspicion is not None:
            self._suspicion.sample.refuse(sent_at)
        if self.trial is not None:
            self.trial.sample.refuse(sent_at)
            if sent_at >= self.trial.sample.since and self.trial.excess.refused(number):
                self._found_limit(now)
            return self.trial is not None
        if self._usual is None or self._usual.refused(number):
            return False
        if self._is_rough or now >= self._usual_until:
            self._look_closer(admitted, now)
        return True

    def has_judged(self, now: float) -> bool:
        """Whether a trial has just ended with the verdict that refusals are strays, and no limit there is."""
        if self.trial is None:
            return False
        sample, before = self.trial.sample, self.trial.before
        enough = self.ENOUGH if now > sample.since + self.LONG_S else self.MANY
        slack = 1 / math.sqrt(sample.refused) if sample.refused >= self.MANY else 0.0
        if sample.refused < enough or sample.share * (1 - slack) > self.trial.excess.share:
            return False
        self._is_rough = self._usual is None and sample.refused < self.MANY
        self._usual = _Excess(max(self.LEAST_USUAL, sample.most_share))
        self._usual_until = now + self.BELIEVED_S
        if before.refused >= self.MANY and sample.share < self.FEWER * before.share:
            self._found_limit(now, self.ROUGHLY_S)
            return False
        self.trial = None
        return True

    def suspect(self, admitted: int, now: float) -> None:
        """A refusal that no limit explains, when so many had been let through in all."""
        suspicion = self._suspicion
        if suspicion is None or suspicion.refusals < self.LEAST_SHARE * suspicion.sample.sent:
            self._suspicion = _Suspicion(_Sample(now), admitted)
            return
        suspicion.refusals += 1
        if suspicion.refusals >= self.SUSPICIOUS:
            self._try(suspicion, admitted, now)

    # ------------------------------------------------------------------------------------------ inside

    def _look_closer(self, admitted: int, now: float) -> None:
        """A second trial, when many more were refused, and requests go faster again: the first one saw but a few."""
        if self._suspicion is None:
            self._suspicion = _Suspicion(_Sample(now), admitted)
        elif self._suspicion.sample.refused >= self.MANY and now > self._suspicion.sample.since + self.LONG_S:
            self._is_rough, self._usual_until = False, now + self.BELIEVED_S
            self._try(self._suspicion, admitted, now)

    def _try(self, suspicion: _Suspicion, admitted: int, now: float) -> None:
        sample, elapsed_s = suspicion.sample, now - suspicion.sample.since
        if elapsed_s < self.LEAST_S or sample.sent < self.LEAST_SENT:
            return
        self._suspicion = None
        # A bucket is empty at both ends, whatever its size: what it let through in between is its refill.
        passed_per_s = (admitted - suspicion.admitted) / elapsed_s
        low, high = (times * self._unrefused_per_s for times in self.LIMIT)
        if passed_per_s <= 0 or not 0 < sample.share <= self.MOST_SHARE:
            return
        if now < self._limit_until and low < passed_per_s < high:
            return
        slower = max(self.SLOWEST, self.SLOWER - sample.share)
        excess = _Excess(sample.most_share)  # more than that: the limit has fallen since
        self.trial = Trial(slower * passed_per_s, slower, sample, _Sample(now + self.LEAST_S), excess)

    def _found_limit(self, now: float, believed_s: float = BELIEVED_S) -> None:
        assert self.trial is not None, "there is a trial to end"
        self._limit_until = now + believed_s * min(1.0, self.trial.sample.sent / self.SURE)
        self._unrefused_per_s, self.trial = self.trial.pace_per_s, None
