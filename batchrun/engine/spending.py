"""The most that a request can cost, and what an attempt did cost: the figures that `--max-cost` is kept by.

1. A token has at least one byte: the input has no more tokens than its body has bytes. A body's own punctuation is
   more than the few tokens that frame a message.
2. The answer has no more tokens than `max_output_tokens` (of every choice of it) allows.
3. What a body only names (files, pictures, earlier responses, a stored prompt), or what no usage tells (web searches,
   audio, priority service) has no bound; nor has an answer without `max_output_tokens`. The user may give one.
4. A failure that the gateway spells out cost nothing. Whatever else was sent may have been answered, and billed, by
   somebody who could not tell: it cost as much as it could.
"""

from __future__ import annotations

from decimal import Decimal

from batchrun.billing.bounds import Bounds
from batchrun.limits.budget import Budget
from batchrun.records.money import NOTHING, total_usd, usd
from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine


class Spending:
    """What one run spends, line by line. `budget` None is no cap; then nothing is reserved.

    `unbilled_usd` is what may have been spent and is on no bill: attempts that failed half way, answers without usage.
    """

    def __init__(self, bounds: Bounds, budget: Budget | None = None) -> None:
        self.budget = budget
        self.unbilled_usd = NOTHING
        self._bounds = bounds

    def upper(self, line: RequestLine) -> Decimal:
        """The most that an attempt of a line may cost, for a budget to hold; 0 where there is none."""
        if self.budget is None:
            return NOTHING
        upper_usd = self._bounds.upper(line)
        assert upper_usd is not None, "a line without a bound is refused before anything is sent"
        return upper_usd

    def settled(self, line: RequestLine, outcome: Reply | Failure, upper_usd: Decimal) -> tuple[Decimal, Decimal]:
        """What an attempt cost, or may have cost, and how much of that is on no bill."""
        is_billed = isinstance(outcome, Reply) and outcome.usage is not None
        if is_billed and self.budget is None:
            return NOTHING, NOTHING
        cost_usd = self._bounds.cost(line, outcome, upper_usd or None) or NOTHING
        unbilled_usd = NOTHING if is_billed else cost_usd
        self.unbilled_usd = total_usd((self.unbilled_usd, unbilled_usd))
        return cost_usd, unbilled_usd

    def recorded(self, line: RequestLine, outcome: Reply | Failure) -> Decimal:
        """The outcome is in the result file; returns what of it is on the bill that `settled` had on none."""
        if outcome.usage is None or isinstance(outcome, Reply):
            return NOTHING
        cost_usd = self._bounds.cost(line, outcome, None) or NOTHING
        self.unbilled_usd = total_usd((self.unbilled_usd, -cost_usd))
        return cost_usd

    def why_over(self) -> str:
        """Why a line was not sent, in a few words."""
        assert self.budget is not None, "only a budget has no room for a line"
        cap, spent = usd(self.budget.cap), usd(self.budget.spent)
        return f"--max-cost {cap} has no room for more (${spent} may be spent by now)"
