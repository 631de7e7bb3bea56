"""Refusals that have nothing to do with how fast requests come: a relay of many channels, some of them spent. Pure.

Taken for a limit, each of them slows the job down, for ever: one in two hundred is enough to wear it down to a tenth.
So where refusals go on at a pace that is known to pass, a trial decides:

1. For a while requests go so much slower that a limit which refused such a share would refuse nothing any more.
2. Refused as often as before, it is no limit: for some minutes up to thrice that share is sent again and no more.
3. A door that is shut, or more refusals than that, are a limit all the same; and nothing is believed for good.
"""

from __future__ import annotations

import math


class Strays:
    """Decides which refusals say nothing. `pace_per_s` is the trial's pace, None where there is no trial."""

    SUSPICIOUS, MOST_SUSPICIOUS = 3, 48  # refusals at a pace that had passed, before a trial; twice as many after each
    FALLEN = 0.7  # of the best pace that passed: a refusal below it is suspicious even if the pace was rising
    # Refused, of all requests: fewer wear nothing down; where it is more there is too little left to compare.
    LEAST_SHARE, MOST_SHARE = 0.003, 0.4
    TRIAL, ENOUGH = 4.0, 2  # refusals that a trial waits for, and how many are enough: fewer of four come 1 time in 10
    MANY = 6  # refusals in a trial that are too many for strays, where they come too often
    SETTLES_S = 1.0  # until a bucket that was used up has something again
    TOLERATED, LEAST_TOLERATED, MOST_TOLERATED = 3.0, 0.02, 0.6
    BELIEVED_S = 600.0
    REMEMBERED = 100  # requests, in the share refused of late
    UNLIKELY = 1e-4  # so many refusals in a row, where each is a stray

    def __init__(self) -> None:
        self.pace_per_s: float | None = None
        self._best_per_s = self._passed_per_s = 0.0
        self._share, self._in_a_row = 0.0, 0
        self._tolerated, self._tolerated_until = 0.0, -math.inf
        self._needed = self.SUSPICIOUS
        self._suspected, self._done = 0, 0  # since the last refusal that was to be expected
        self._trial_share, self._trial_length, self._trial_refused = 0.0, 0, 0
        self._trial_at = -math.inf

    def answered(self, sent_at: float) -> None:
        """One was let through."""
        if sent_at < self._trial_at:
            return
        self._done += 1
        self._in_a_row = 0
        self._share -= self._share / self.REMEMBERED
        if self.pace_per_s is not None and self._done >= self._trial_length:
            self._end_trial_as_limit()

    def refused(self, sent_at: float, now: float) -> bool:
        """One was refused; True where that says nothing."""
        if sent_at < self._trial_at:
            return self.pace_per_s is not None
        self._done += 1
        self._in_a_row += 1
        self._share += (1 - self._share) / self.REMEMBERED
        if self.pace_per_s is None:
            is_shut = self._is_shut(self._tolerated / self.TOLERATED)
            return now < self._tolerated_until and self._share <= self._tolerated and not is_shut
        self._trial_refused += 1
        if self._is_shut(self._trial_share) or (self._trial_refused >= self.MANY and not self._is_as_before):
            self._end_trial_as_limit()
            return False
        return True

    def has_judged(self, now: float) -> bool:
        """Whether a trial has just ended with the verdict that refusals are strays."""
        if self.pace_per_s is None or self._trial_refused < self.ENOUGH or not self._is_as_before:
            return False
        self.pace_per_s = None
        share = max(self._trial_share, self._trial_refused / self._done)
        self._tolerated = min(max(self.LEAST_TOLERATED, self.TOLERATED * share), self.MOST_TOLERATED)
        self._tolerated_until = now + self.BELIEVED_S
        self._needed = self.SUSPICIOUS
        self._suspected = self._done = 0
        return True

    def passed(self, per_s: float) -> None:
        """So many a second were let through of late, pauses included."""
        self._passed_per_s = per_s
        self._best_per_s = max(self._best_per_s, per_s)

    def limited(self, per_s: float, now: float, *, has_risen: bool) -> None:
        """A refusal was taken for a limit at that pace."""
        is_fallen = per_s < self.FALLEN * self._best_per_s
        if has_risen and not is_fallen:
            self._suspected = self._done = 0
            return
        self._suspected += 1
        if self._suspected < self._needed:
            return
        share = self._suspected / max(self._done, 1)
        self._suspected = self._done = 0
        if self.LEAST_SHARE <= share <= self.MOST_SHARE:
            self._trial_share, self._trial_refused, self._trial_at = share, 0, now + self.SETTLES_S
            self._trial_length = math.ceil(self.TRIAL / share)
            # Of what was let through, not of the pace: a bucket that runs over slowly refuses few for a long time.
            passed_per_s = min(per_s, self._passed_per_s) if self._passed_per_s else per_s
            self.pace_per_s = passed_per_s * (0.9 - 1.5 * share)

    @property
    def _is_as_before(self) -> bool:
        """Whether a trial is refused no more often than made it suspicious, within thrice that."""
        return self._trial_refused <= self.TOLERATED * self._trial_share * self._done

    def _is_shut(self, share: float) -> bool:
        return self._in_a_row >= self.SUSPICIOUS and share**self._in_a_row < self.UNLIKELY

    def _end_trial_as_limit(self) -> None:
        assert self.pace_per_s is not None, "there is a trial to end"
        self._best_per_s, self.pace_per_s = self.pace_per_s, None
        self._needed = min(2 * self._needed, self.MOST_SUSPICIOUS)
        self._suspected = self._done = 0
