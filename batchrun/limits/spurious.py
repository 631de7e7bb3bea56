"""Spurious throttles: refusals that do not depend on how fast requests come, as of a relay with a spent channel. Pure.

1. Taken for a limit, each of them slows the job down: one in two hundred is enough to slow it down to a tenth. But
   slower requests end the refusals of a limit, and not these. So a trial decides.
2. A refusal is suspicious if nothing had been raised since the last cut, and others were admitted.
3. After three of them requests go slower than what was admitted meanwhile, and fewer at once: that is the trial.
4. Refused as often as before, they are spurious: about that share is sent again from then on, and nothing else
   changes. Refused no longer, they come from a limit, and so do all others at about that pace.
5. More refusals than that share, or nothing but refusals, are a limit all the same.
6. A trial that saw few refusals is soon followed by another, and so is each after ten minutes: no verdict lasts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class _Excess:
    """Whether more is refused than a share of all: each refusal counts one, each request takes the share back."""

    MOST: ClassVar = 8.0  # with half the share refused, chance comes to so much once in 20,000 refusals
    AGAIN: ClassVar = 2.0  # below that once it was reached: an excess that continues is seen sooner

    share: float
    _sum: float = 0.0
    _number: int = 0

    def refused(self, number: int) -> bool:
        """Whether it is more now; `number` is its number in the order of sending.

        Of sending, because a burst is sent before any of it is refused.
        """
        self._sum = max(0.0, self._sum - self.share * max(0, number - self._number)) + 1
        self._number = max(self._number, number)
        if self._sum <= self.MOST:
            return False
        self._sum = self.MOST - self.AGAIN
        return True


@dataclass(slots=True)
class _Sample:
    """The requests sent since some time, and how many of them were refused.

    Refusals are back long before answers. So the share is of those sent, not of those done: with answers that take
    a minute, the first minute would be all refusals.
    """

    MOST_SHARE: ClassVar = 0.7  # that a share is taken to be: beyond it nearly everything would be sent again

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
        """What the share may really be: three standard deviations more, as there were few refusals."""
        return min(self.share * (1 + 3 / math.sqrt(self.refused)), self.MOST_SHARE)

    def answer(self, sent_at: float) -> None:
        self.passed += sent_at >= self.since and sent_at > self._refused_at

    def refuse(self, sent_at: float) -> None:
        if sent_at >= self.since:
            self.refused += 1
            self.passed, self.sent_before, self._refused_at = 0, self.sent, sent_at


@dataclass(slots=True)
class _Suspicion:
    """Suspicious refusals, and everything sent since the first one, which does not count."""

    sample: _Sample
    admitted: int
    refusals: int = 1


@dataclass(slots=True)
class Trial:
    """Sending more slowly to see whether refusals end. `slower` is the share of the slots to use."""

    # The probability that spurious throttles pause for that long by chance, below which they have ended: a verdict
    # that is wrong is corrected by the next trial.
    NO_CHANCE: ClassVar = 0.1

    pace_per_s: float
    slower: float
    before: _Sample
    sample: _Sample
    excess: _Excess

    @property
    def is_without_refusals(self) -> bool:
        """Whether so many in a row were admitted that it is no chance.

        A limit hardly ever refuses anything during a trial: each refusal makes a limit ten times less likely.
        """
        refused = self.before.refused + self.sample.refused
        sent = self.before.sent + self.sample.sent_before
        no_chance = self.NO_CHANCE ** (1 + self.sample.refused)
        return self.sample.passed >= sent * (math.pow(no_chance, -1 / refused) - 1)


class SpuriousThrottles:
    """Decides which refusals are spurious. During a `trial`, requests and refusals count for it alone."""

    SUSPICIOUS = 3  # refusals before a trial: fewer make no share to compare with
    LEAST_SHARE, MOST_SHARE = 0.004, 0.5  # of requests refused: fewer do no harm, more leave little to compare
    LEAST_S, LEAST_SENT = 2.0, 10  # before a trial: most of what passed in less may have been a bucket's store
    SLOWER, SLOWEST = 0.9, 0.6  # a trial's share of what passed, less the share refused, and at least: below a limit
    ENOUGH, MANY, LONG_S = 3, 10, 5.0  # refusals in a trial; many are better, but not worth more time than that
    NONE_LEFT = 4.0  # refusals would be usual in what was admitted without any: no channel is spent any more
    LEAST_USUAL = 0.01  # of requests refused are sent again, once any are: smaller shares cannot be told apart
    FEWER = 0.6  # of the share before the trial: some were spurious, and some came from a limit
    LIMIT = 1.03, 1.3  # times the pace at which nothing was refused: there is the limit
    BELIEVED_S = 600.0  # a trial costs a tenth of the throughput for some hundred requests
    ROUGHLY_S = 30.0  # a limit with spurious throttles: that fewer were refused may have been chance
    SURE = 40  # requests in a trial; a limit found in fewer is believed for less long, and the next trial costs as few

    def __init__(self) -> None:
        self.trial: Trial | None = None
        self._suspicion: _Suspicion | None = None
        self._usual: _Excess | None = None
        self._usual_until = self._limit_until = -math.inf
        self._is_rough = False  # `_usual` comes from few refusals
        self._unrefused_per_s = 0.0

    def sent(self, now: float) -> None:
        """One goes out."""
        if self._suspicion is not None:
            self._suspicion.sample.sent += 1
        if self.trial is not None and now >= self.trial.sample.since:
            self.trial.sample.sent += 1

    def answered(self, sent_at: float, now: float) -> float | None:
        """One was admitted; returns the limit in requests a second, where a trial has just found one."""
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
        """Request `number` was refused, when so many had been `admitted` in all; True where that is spurious."""
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
        """Whether a trial has just ended with the verdict that refusals are spurious, and that there is no limit."""
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
        """A refusal that no limit explains, when so many had been `admitted` in all."""
        suspicion = self._suspicion
        if suspicion is None or suspicion.refusals < self.LEAST_SHARE * suspicion.sample.sent:
            self._suspicion = _Suspicion(_Sample(now), admitted)
            return
        suspicion.refusals += 1
        if suspicion.refusals >= self.SUSPICIOUS:
            self._try(suspicion, admitted, now)

    # ------------------------------------------------------------------------------------------ inside

    def _look_closer(self, admitted: int, now: float) -> None:
        """Another trial, once many more were refused and requests go faster again: the last one saw only a few."""
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
        # A bucket is empty at both ends, whatever its size: what it admitted in between is its refill.
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
