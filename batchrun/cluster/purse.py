"""`--max-cost` over all shards: what each may spend of the cap. Pure.

1. Each shard has a cap of its own: what it has spent, what it has reserved at worst, and something to go on with. The
   caps together never pass that of the job. So whatever a shard does that is not heard of any more, the job's holds.
2. What is there to go on with is a part of what nobody has, smaller and smaller towards the end; what a shard does not
   use comes back at its next beat.
3. A shard that has died may have spent its whole cap, until its next incarnation has read its run log and tells.
4. Until one answer has shown what bounds are worth, only so much is granted that all of it may cost `CAUTION` times as
   much, but for the first request.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Context, Decimal

from batchrun.limits.budget import CAUTION
from batchrun.records.money import EXACT, NOTHING, total_usd

_FINE = Decimal("1e-9")
_ROUGH = Context(prec=28, rounding=ROUND_DOWN)


class Cap:
    """The cap of one shard: `granted` last, `most` the highest that it may still hold, and what it has told."""

    __slots__ = ("granted", "most", "reserved", "spent")

    def __init__(self, spent: Decimal, reserved: Decimal, most: Decimal) -> None:
        self.spent, self.reserved, self.most = spent, reserved, most
        self.granted = most

    @property
    def in_use(self) -> Decimal:
        """What is spent, and reserved at worst."""
        return EXACT.add(self.spent, self.reserved)

    @property
    def charged(self) -> Decimal:
        """What of the job's cap is this shard's."""
        return max(self.most, self.in_use)


class Purse:
    """The cap of the job, in US dollars, and what is charged to it. `parts`: how many share what is left."""

    def __init__(self, cap: Decimal) -> None:
        self.cap = cap
        self.margin = 1
        self.is_sure = False
        self.parts = 1
        self._charged = self._spent = NOTHING

    @property
    def left(self) -> Decimal:
        """What is not known to be spent."""
        return EXACT.subtract(self.cap, self._spent)

    @property
    def free(self) -> Decimal:
        """What is neither spent nor anybody's to spend."""
        return EXACT.subtract(self.cap, self._charged)

    def enter(self, cap: Cap) -> Cap:
        """A shard is heard of for the first time, or its files are read."""
        self._charged = EXACT.add(self._charged, cap.charged)
        self._spent = EXACT.add(self._spent, cap.spent)
        return cap

    def follow(self, cap: Cap) -> None:
        """Another incarnation follows, which has read what the one before it has spent, and tells it next."""
        self.leave(cap)
        cap.most = cap.granted = NOTHING
        self.enter(cap)

    def leave(self, cap: Cap) -> None:
        """It no longer counts: another one tells of the same money."""
        self._charged = EXACT.subtract(self._charged, cap.charged)
        self._spent = EXACT.subtract(self._spent, cap.spent)

    def hear(self, cap: Cap, spent: Decimal, reserved: Decimal, held: Decimal | None) -> None:
        """A shard tells what it has spent and reserved; `held` is its cap now, None if nobody knows."""
        if spent == cap.spent and reserved == cap.reserved and held is None:
            return
        before_usd = cap.charged
        if spent != cap.spent:
            self._spent = EXACT.add(self._spent, EXACT.subtract(spent, cap.spent))
        cap.spent, cap.reserved = spent, reserved
        if held is not None:
            cap.most = held
        self._charged = EXACT.add(self._charged, EXACT.subtract(cap.charged, before_usd))

    def learn(self, margin: int, *, is_sure: bool) -> None:
        """What a shard found out about bounds."""
        self.margin = max(self.margin, margin)
        self.is_sure = self.is_sure or is_sure

    def grant(self, cap: Cap, needs: Decimal, *, may_grow: bool) -> Decimal:
        """The cap of a shard from now on, whose next request may cost `needs`."""
        in_use = cap.in_use
        # What it could still hold is its own: the rest of the job's cap, and that.
        free = EXACT.subtract(EXACT.add(self.free, cap.charged), in_use)
        ahead = NOTHING
        if may_grow and free >= max(needs, _FINE):  # what is too little for its next request is of use to others
            ahead = self._ahead(free, needs, in_use)
        usd = (
            EXACT.add(in_use, ahead) if may_grow else min(max(cap.most, in_use), EXACT.add(in_use, max(free, NOTHING)))
        )
        cap.granted = usd
        if usd > cap.most:
            self._charged = total_usd((self._charged, -cap.charged, max(usd, in_use)))
            cap.most = usd
        return usd

    def _ahead(self, free: Decimal, needs: Decimal, in_use: Decimal) -> Decimal:
        """What a shard may go on with."""
        part = _ROUGH.divide(free, Decimal(2 * max(1, self.parts))).quantize(_FINE, ROUND_DOWN)
        if self.is_sure:
            return min(free, max(part, needs))
        others = total_usd((self._charged, -self._spent))
        if not others:  # the first request of all
            return min(free, needs)
        careful = _ROUGH.divide(total_usd((self.left, EXACT.multiply(-others, Decimal(CAUTION)))), Decimal(CAUTION))
        careful = careful.quantize(_FINE, ROUND_DOWN)
        return min(free, part, careful) if careful > 0 else NOTHING
