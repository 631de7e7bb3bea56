"""So many requests, or tokens, in any minute, handed out to shards in advance. Pure.

1. What was granted and is not yet reported may be sent at any time: it counts as sent now. What is reported counts as
   sent when the report came, which is later than it was. So no minute can have more than the limit, whoever dies when.
2. It is granted evenly, too: at `per_s`, with at most a fraction of a second made up for.
3. Each shard has a credit, which grows at its fair share of the rate: its demand or, where all want more, the same as
   that of others. A shard is granted what it has credit for once that is enough for one request.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MINUTE_S = 60.0


def fair_level(total: float, demands: Sequence[float]) -> float:
    """The most that each gets, so that all that is there is used and nobody gets more than it wants: infinite if all
    get what they want."""
    left = total
    for index, demand in enumerate(sorted(demands)):
        fair = left / (len(demands) - index)
        if demand >= fair:
            return fair
        left -= demand
    return math.inf


class Window:
    """The sum of what was sent in the last minute, in steps of a quarter of a second: a step counts until all of it is
    a minute old."""

    STEP_S = 0.25
    STEPS = round(MINUTE_S / STEP_S) + 1

    def __init__(self, now: float) -> None:
        self.total = 0.0
        self._held = [0.0] * self.STEPS
        self._step = int(now / self.STEP_S)

    def add(self, at: float, amount: float, now: float) -> None:
        """So much was sent at the time `at`, which may be past. Less than nothing takes it back."""
        self.expire(now)
        step = min(int(at / self.STEP_S), self._step)
        if step > self._step - self.STEPS:
            self._held[step % self.STEPS] += amount
            self.total += amount

    def expire(self, now: float) -> None:
        """Forget what is more than a minute old."""
        step = int(now / self.STEP_S)
        if step - self._step >= self.STEPS:
            self._held, self.total = [0.0] * self.STEPS, 0.0
            self._step = step
        while self._step < step:
            self._step += 1
            index = self._step % self.STEPS
            self.total -= self._held[index]
            self._held[index] = 0.0


class Account:
    """What one shard has of a `Flow`: `granted` and `used` in all, and the credit for more."""

    __slots__ = ("at", "credit", "demand", "granted", "heard_at", "need", "per_s", "rate", "used", "written_off")

    def __init__(self, used: float, granted: float, credit: float, now: float) -> None:
        self.used, self.granted = used, max(used, granted)
        self.credit, self.at, self.need = credit, now, 1.0
        self.per_s = 0.0  # its fair share
        self.rate, self.heard_at, self.demand = 0.0, now, math.inf  # what it uses, and wants, a second
        self.written_off = 0.0  # of what was granted, while nothing was heard of it

    @property
    def outstanding(self) -> float:
        """What is granted and not yet known to be used."""
        return max(0.0, self.granted - self.used)


class Flow:
    """Requests, or tokens: at most `per_minute` in any minute (None is no limit), granted at `per_s` a second.

    `is_whole`: it is granted in whole numbers.
    """

    RATE_S = 2.0  # over which it is measured how fast a shard uses what it gets
    TOLD_S, TOLD_BEATS = 0.1, 1.6  # seconds, and beats, from a grant until it is told that it was used: measured
    IDLE, LEAST = 0.4, 0.2  # of its share: one that uses less of it wants no more; and what each gets in any case
    FASTER = 1.05
    MORE = 1.25  # times what a shard uses, which it may get where it does not use all that it has

    def __init__(self, per_minute: float | None, per_s: float, now: float, *, is_whole: bool) -> None:
        self.per_minute, self.per_s, self.is_whole = per_minute, per_s, is_whole
        self.outstanding = 0.0
        self.allowed_per_s, self._burst_s, self._factor = per_s, 0.1, 1.0
        self._window = Window(now)
        self._level, self._at = 0.0, now
        self._worst, self._worst_at = 0.0, now  # what may have been sent by shards of which nothing was known

    def change(self, per_minute: float | None, per_s: float) -> None:
        """Set another limit and pace; what was sent stays counted."""
        self.per_minute, self.allowed_per_s = per_minute, per_s
        self.per_s = per_s * self._factor

    def spread(self, shards: int, period_s: float) -> None:
        """So many shards ask, with that many seconds from one beat to the next.

        Few do not come evenly: what one leaves has to be there for the next. And as what is granted is counted until it
        is told that it was sent, and from then on, a minute is longer by that time.
        """
        self._burst_s = 0.05 + period_s * min(1.0, 4 / max(1, shards))
        if self.per_minute is not None and not self.is_whole:
            self._factor = self.FASTER  # what tokens are granted comes in lumps, and most of it comes back
        elif self.per_minute is not None:
            self._factor = MINUTE_S / (MINUTE_S + self.TOLD_S + self.TOLD_BEATS * period_s)
        self.per_s = self.allowed_per_s * self._factor

    def count(self, recent: Iterable[tuple[float, float]], now: float, *, was_feared: bool = False) -> None:
        """A shard sent so much so many seconds ago. `was_feared`: that was counted at its worst before it told."""
        for age_s, amount in recent:
            self._window.add(now - age_s, amount, now)
            if was_feared:
                known = min(amount, self._worst)
                self._worst -= known
                self._window.add(self._worst_at, -known, now)

    def fear(self, amount: float, now: float) -> None:
        """So much may have been sent just now by shards of which nothing is known."""
        self._worst, self._worst_at = max(0.0, min(amount, self.room(now))), now
        self._window.add(now, self._worst, now)

    def calm(self, now: float) -> None:
        """All is known now that was feared."""
        self._window.add(self._worst_at, -self._worst, now)
        self._worst = 0.0

    def room(self, now: float) -> float:
        """What may be granted in this minute, beside all that is granted."""
        if self.per_minute is None:
            return math.inf
        self._window.expire(now)
        return self.per_minute - self._window.total - self.outstanding

    # ---------------------------------------------------------------------------------------- one shard

    def enter(self, used: float, granted: float, credit: float, now: float) -> Account:
        """A shard begins, or is heard for the first time."""
        account = Account(used, granted if granted < math.inf else used, credit, now)
        self.outstanding += account.outstanding
        return account

    def hear(self, account: Account, used: float, need: float, period_s: float, now: float) -> None:
        """A shard has used so much in all; its next request needs `need`, and its beats are `period_s` apart."""
        account.need = need
        if (new := used - account.used) > 0:
            before = account.outstanding
            account.used = used
            self.outstanding += account.outstanding - before
            account.granted = max(account.granted, used)
            self._window.add(now, new - min(new, account.written_off), now)
        elapsed_s = now - account.heard_at
        if elapsed_s > 0:
            keep = math.exp(-elapsed_s / self.RATE_S)
            account.rate = keep * account.rate + (1 - keep) * new / elapsed_s
        account.heard_at, account.written_off = now, 0.0
        if self.per_minute is None:
            account.granted = used
        if self.per_minute is None:  # nothing is counted: its pace says what it may send
            is_hungry = account.rate > self.IDLE * min(account.per_s, self.per_s)
        else:
            is_hungry = account.outstanding < max(need, 0.5 * account.per_s * period_s)
        account.demand = math.inf if is_hungry else self.MORE * account.rate

    def correct(self, account: Account, at: float, amount: float, now: float) -> None:
        """Requests counted at the time `at` used so much more, or less, than was reserved for them."""
        self._window.add(at, amount, now)
        account.credit -= amount
        self._level = min(self._level - amount, self.per_s)

    def grant(self, account: Account, most: float, period_s: float, now: float) -> float:
        """Grant a shard what it has credit for, `most` at the most; returns what it is granted in all."""
        missing = max(0.0, account.need - account.outstanding)
        ahead = account.need + 2 * account.per_s * period_s
        most_credit = max(account.need + ahead, account.credit)  # some to spare: it waits for the others, too
        account.credit = min(account.credit + account.per_s * (now - account.at), most_credit)
        account.at = now
        amount = min(account.credit, most, ahead - account.outstanding)
        if amount < missing or amount <= 0:
            return account.granted
        burst = 2 * account.need + self.per_s * self._burst_s
        self._level = min(self._level + self.per_s * (now - self._at), max(burst, self._level))
        self._at = now
        amount = min(amount, self.room(now), max(self._level, missing))
        if self.is_whole:
            amount = math.floor(amount + 1e-9)
        if amount < missing or amount <= 0 or self._level < min(missing, burst) - 1e-6:
            return account.granted
        self._level -= amount
        account.credit -= amount
        account.granted += amount
        self.outstanding += amount
        return account.granted

    def write_off(self, account: Account, at: float, now: float) -> None:
        """The lease of a shard ran out at the time `at`: what it had and is not known to have used counts as used."""
        lost = account.outstanding
        self.outstanding -= lost
        self._window.add(at, lost, now)
        account.granted, account.written_off = account.used, account.written_off + lost

    def share(self, accounts: Sequence[Account]) -> None:
        """Give each account its fair share of the rate."""
        level = fair_level(self.per_s, [account.demand for account in accounts])
        least = self.LEAST * self.per_s / max(1, len(accounts))
        for account in accounts:
            account.per_s = max(least, min(level, account.demand))
