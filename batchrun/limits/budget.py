"""`--max-cost`: what a job may cost, kept as a promise. Pure.

1. Before an attempt is sent, the most that it can cost is reserved. What it did cost settles that.
2. The bill of the result file counts as spent, and what may have been billed beyond it (an answer that never came, a
   record that was replaced). So nothing that happens during a run, or between runs, takes the sum beyond the cap.
3. A line that could cost more than what is left is skipped while less than nine tenths are spent, so that one
   expensive line does not leave the rest of the money unused. From then on it ends the run.
"""

from __future__ import annotations

from decimal import Decimal

from batchrun.records.money import NOTHING, total_usd

ENOUGH = Decimal("0.9")  # of the cap, to be spent before a line that does not fit ends the run


class Budget:
    """USD: the `cap`, what is `spent` of it, and what is `reserved` for attempts in flight."""

    def __init__(self, cap: Decimal, spent: Decimal = NOTHING) -> None:
        self.cap = cap
        self.spent = spent
        self.reserved = NOTHING

    @property
    def left(self) -> Decimal:
        """What is neither spent nor reserved; negative once the cap is lowered below that."""
        return total_usd((self.cap, -self.spent, -self.reserved))

    @property
    def is_used(self) -> bool:
        """Whether so much is spent that the first line which does not fit may end the run."""
        return self.spent >= self.cap * ENOUGH

    def fits(self, upper_usd: Decimal) -> bool:
        """Whether an attempt that costs up to so much may be sent now."""
        return upper_usd <= self.left

    def never_fits(self, upper_usd: Decimal) -> bool:
        """Whether it may not be sent even when nothing else is in flight."""
        return upper_usd > total_usd((self.cap, -self.spent))

    def reserve(self, upper_usd: Decimal) -> None:
        """An attempt is about to be sent."""
        self.reserved = total_usd((self.reserved, upper_usd))

    def settle(self, upper_usd: Decimal, cost_usd: Decimal) -> None:
        """What was reserved for an attempt is free again; `cost_usd` of it is spent."""
        self.reserved = total_usd((self.reserved, -upper_usd))
        self.spent = total_usd((self.spent, cost_usd))
