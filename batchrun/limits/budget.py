"""`--max-cost`: what a job may cost, kept as a promise. Pure.

1. Before an attempt is sent, the most that it can cost is reserved. What it did cost settles that.
2. The bill of the result file counts as spent, and what may have been billed beyond it (an answer that never came, a
   record that was replaced). So nothing that happens during a run, or between runs, takes the sum beyond the cap.
3. A line that could cost more than what is left is skipped while less than nine tenths are spent, so that one
   expensive line does not leave the rest of the money unused. From then on it ends the run.
4. An answer that costs more than its bound shows that the bounds are too low here. From then on as many times the
   bound is reserved for each attempt, for those in flight too.
5. Until the first answer shows what the bounds are worth, only so much is in flight that all of it may cost
   `CAUTION` times its bound; at least one attempt is.
"""

from __future__ import annotations

import math
from decimal import Decimal

from batchrun.records.money import EXACT, NOTHING, total_usd

ENOUGH = Decimal("0.9")  # of the cap, to be spent before a line that does not fit ends the run
CAUTION = 20  # times its bound: gateways that hide reasoning, or count on their own, may be above it


class Budget:
    """USD: the `cap`, what is `spent` of it, and what is `reserved` for attempts in flight.

    `margin` is how many times its bound is reserved for an attempt. `caution` is the margin until `confirm` is called.
    """

    def __init__(self, cap: Decimal, spent: Decimal = NOTHING, caution: int = 1) -> None:
        self.cap = cap
        self.spent = spent
        self.margin = 1
        self._caution = caution
        self._bounds_in_flight = NOTHING

    @property
    def reserved(self) -> Decimal:
        """What is reserved for the attempts in flight."""
        return self.with_margin(self._bounds_in_flight)

    @property
    def left(self) -> Decimal:
        """What is neither spent nor reserved; negative once the cap is lowered below that."""
        return total_usd((self.cap, -self.spent, -self.reserved))

    @property
    def is_used(self) -> bool:
        """Whether so much is spent that the first line which does not fit may end the run."""
        return self.spent >= self.cap * ENOUGH

    def with_margin(self, upper_usd: Decimal) -> Decimal:
        """What is reserved for an attempt whose bound is `upper_usd`."""
        return upper_usd if self.margin == 1 else EXACT.multiply(upper_usd, self.margin)

    def fits(self, upper_usd: Decimal) -> bool:
        """Whether an attempt whose bound is `upper_usd` may be sent now."""
        if self._caution > self.margin and self._bounds_in_flight:
            in_flight_usd = total_usd((self._bounds_in_flight, upper_usd))
            return EXACT.multiply(in_flight_usd, self._caution) <= total_usd((self.cap, -self.spent))
        return self.with_margin(upper_usd) <= self.left

    def never_fits(self, upper_usd: Decimal) -> bool:
        """Whether it may not be sent even when nothing else is in flight."""
        return self.with_margin(upper_usd) > total_usd((self.cap, -self.spent))

    def is_short(self, upper_usd: Decimal) -> bool:
        """Whether it is used up, or has no room any more for an attempt whose bound is `upper_usd`."""
        return self.is_used or self.never_fits(upper_usd)

    def reserve(self, upper_usd: Decimal) -> None:
        """An attempt whose bound is `upper_usd` is about to be sent."""
        self._bounds_in_flight = total_usd((self._bounds_in_flight, upper_usd))

    def settle(self, upper_usd: Decimal, cost_usd: Decimal) -> None:
        """What was reserved for an attempt is free again; `cost_usd` of it is spent."""
        self._bounds_in_flight = total_usd((self._bounds_in_flight, -upper_usd))
        self.spent = total_usd((self.spent, cost_usd))

    def confirm(self, upper_usd: Decimal, cost_usd: Decimal) -> bool:
        """An answer did cost `cost_usd`. True if it is more than was reserved for it; then the margin grows."""
        self._caution = 1
        if not upper_usd or cost_usd <= self.with_margin(upper_usd):
            return False
        self.margin = math.ceil(cost_usd / upper_usd)
        return True
