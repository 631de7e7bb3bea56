"""Refusals that have nothing to do with how fast requests come: a relay of many channels, some of them spent. Pure.

Taken for a limit, each of them slows the job down, for ever: one in two hundred is enough to wear it down to a tenth.
But going slower ends the refusals of a limit, and not those. So where they go on, a trial decides:

1. A refusal is suspicious if nothing had been raised since the last cut, and answers came in between.
2. After a few of them requests go so much slower, and so many fewer at once, that a limit which let through what it
   did, and refused such a share, would refuse none.
3. Refused as often as before, they are strays: for some minutes about that share is sent again, and no more happens.
   Refused no longer, they come of a limit, and the next trial takes more suspicion.
4. More refusals than that, or a door that is shut, are a limit all the same; and nothing is believed for good.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar


@dataclass(slots=True)
class _Excess:
    """Whether more is refused than a share of all: each refusal counts one, each request takes the share back."""

    MOST = 8.0  # with half the share refused, chance comes to so much once in 20,000 refusals
    AGAIN = 2.0  # below that once it was reached: what goes on is seen sooner

    share: float
    _sum: float = 0.0

    def answered(self) -> None:
        self._sum = max(0.0, self._sum - self.share)

    def refused(self) -> bool:
        """Whether it is more now."""
        self._sum += 1 - self.share
        if self._sum <= self.MOST:
            return False
        self._sum = self.MOST - self.AGAIN
        return True


@dataclass(slots=True)
class _Sample:
    """What became of requests that were sent from a time on."""

    since: float
    done: int = 0
    refused: int = 0
    refused_at: int = 0  # `done` at the last refusal

    def answered(self) -> None:
        self.done += 1

    def refuse(self) -> None:
        self.done += 1
        self.refused += 1
        self.refused_at = self.done


@dataclass
class Trial:
    """Going slower to see whether refusals end. `slower` is the share of the slots to use."""

    pace_per_s: float
    slower: float
    before: _Sample  # what made it suspicious
    excess: _Excess
    sample: _Sample

    NO_CHANCE: ClassVar = 0.1  # none refused in the trial, and before as many as there were

    @property
    def has_ended(self) -> bool:
        """Whether so many have not been refused now that it is no chance.

        A limit hardly ever refuses anything in a trial: each that it did makes a limit ten times less likely.
        """
        refused = self.before.refused + self.sample.refused
        done = self.before.done + self.sample.refused_at
        no_chance = self.NO_CHANCE ** (1 + self.sample.refused)
        return self.sample.done - self.sample.refused_at >= done * (no_chance ** (-1 / refused) - 1)


@dataclass(slots=True)
class _Suspicion:
    """Suspicious refusals, and what became of all requests since the first one."""

    sample: _Sample
    admitted: int
    count: int = 1


@dataclass(slots=True)
class Strays:
    """Decides which refusals say nothing. `trial`: one is on, and refusals are for it alone."""

    SUSPICIOUS = 3  # refusals before a trial
    LEAST_SHARE, MOST_SHARE = 0.003, 0.5  # refused: fewer wear nothing down; of more there is too little left
    LEAST_S = 1.0  # what passed in less may have been a bucket's store, which takes as long to have something again
    EXPLAINED = 1.03, 1.3  # of the pace of a trial without refusals: the limit is there
    LEAST_DONE = 10
    LONG_S, MORE = 5.0, 6
    ENOUGH = 3  # refusals in a trial
    USUAL, LEAST_USUAL, MOST_USUAL = 2.0, 0.01, 0.7  # sent again: so many times the share that a trial had
    TOO_MANY = 3.0  # times the share that made it suspicious: the limit has fallen since
    SLOWER, SLOWEST = 0.9, 0.6
    BELIEVED_S = 600.0

    trial: Trial | None = None
    _suspicion: _Suspicion | None = None
    _limit_until: float = -math.inf
    _unrefused_per_s: float = 0.0
    _usual: _Excess | None = None
    _usual_until: float = -math.inf

    def answered(self, sent_at: float, now: float) -> None:
        """One was let through."""
        if self._usual is not None:
            self._usual.answered()
        if self._suspicion is not None and sent_at >= self._suspicion.sample.since:
            self._suspicion.sample.answered()
        if self.trial is not None and sent_at >= self.trial.sample.since:
            self.trial.sample.answered()
            self.trial.excess.answered()
            if self.trial.has_ended:
                self._found_limit(now)

    def refused(self, sent_at: float, now: float) -> bool:
        """One was refused; True where that says nothing."""
        if self._suspicion is not None and sent_at >= self._suspicion.sample.since:
            self._suspicion.sample.refuse()
        if self.trial is None:
            return self._usual is not None and now < self._usual_until and not self._usual.refused()
        if sent_at >= self.trial.sample.since:
            self.trial.sample.refuse()
            if self.trial.excess.refused():
                self._found_limit(now)
                return False
        return True

    def has_judged(self, now: float) -> bool:
        """Whether the trial has just ended with the verdict that refusals are strays."""
        if self.trial is None:
            return False
        refused, done = self.trial.sample.refused, self.trial.sample.done
        is_long = now > self.trial.sample.since + self.LONG_S
        if refused < (self.ENOUGH if is_long else self.MORE) or refused > self.trial.excess.share * done:
            return False
        usual = self.USUAL * (refused + math.sqrt(refused)) / done
        self._usual = _Excess(min(max(self.LEAST_USUAL, usual), self.MOST_USUAL))
        self._usual_until = now + self.BELIEVED_S
        self.trial = None
        return True

    def suspect(self, admitted: int, now: float) -> None:
        """A refusal that a limit does not explain, when so many requests had been let through in all."""
        suspicion = self._suspicion
        if suspicion is None or suspicion.count < self.LEAST_SHARE * suspicion.sample.done:
            self._suspicion = _Suspicion(_Sample(now), admitted)
            return
        suspicion.count += 1
        elapsed_s, sample = now - suspicion.sample.since, suspicion.sample
        if suspicion.count < self.SUSPICIOUS or elapsed_s < self.LEAST_S or sample.done < self.LEAST_DONE:
            return
        # A bucket is empty at both ends, whatever its size: what it let through in between is its refill.
        passed_per_s = (admitted - suspicion.admitted) / elapsed_s
        self._suspicion = None
        low, high = self.EXPLAINED
        if now < self._limit_until and low * self._unrefused_per_s < passed_per_s < high * self._unrefused_per_s:
            return
        share = sample.refused / sample.done
        if admitted > suspicion.admitted and 0 < share <= self.MOST_SHARE:
            slower = max(self.SLOWEST, self.SLOWER - share)
            self.trial = Trial(
                pace_per_s=slower * passed_per_s,
                slower=slower,
                before=sample,
                excess=_Excess(min(self.TOO_MANY * share, self.MOST_USUAL)),
                sample=_Sample(now + self.LEAST_S),
            )

    def _found_limit(self, now: float) -> None:
        self._unrefused_per_s, self.trial = self.trial.pace_per_s, None
        self._limit_until = now + self.BELIEVED_S
