"""What a run spends, line by line, and what of it is on no bill: the amounts that `--max-cost` counts.

1. A token has at least one byte, so the input has at most as many tokens as the body has bytes. The few tokens that
   frame a message are fewer than the bytes of the body's own punctuation.
2. The answer has at most as many tokens as `max_output_tokens` allows, times the number of choices.
3. There is no bound for input that a body only names (files, pictures, earlier responses, a stored prompt), for costs
   that no usage shows (web searches, audio, priority service), nor for an answer without `max_output_tokens`. The user
   may set a cap for such lines (`--max-line-cost`).
4. A bound is no promise of the gateway: an answer that did cost more raises what is reserved for all from then on.
5. A failure that the gateway reports clearly costs nothing. Any other failed attempt may have been answered and billed
   upstream, so it counts with the most that it can cost.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from batchrun.billing.bounds import Bounds, is_measured
from batchrun.limits.budget import Budget
from batchrun.records.money import NOTHING, total_usd, usd
from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine


class Spending:
    """What one run spends, line by line. `budget` is None without a cap; then nothing is reserved.

    `notice` shows one line to the user. `own_budget` is that of one of several endpoints, beside that of the job.

    On no bill is what attempts that failed halfway, and answers without usage, may have cost.
    """

    def __init__(
        self,
        bounds: Bounds,
        budget: Budget | None = None,
        notice: Callable[[str], None] = lambda line: None,
        own_budget: Budget | None = None,
    ) -> None:
        self.budget = budget
        self.own_budget = own_budget
        self._budgets = [one for one in (budget, own_budget) if one is not None]
        self._unbilled_usd = NOTHING
        self._bounds = bounds
        self._others: dict[str, Spending] = {}
        self._notice = notice

    def beside(self, endpoint: str, bounds: Bounds, own_budget: Budget | None) -> Spending:
        """The same for one of several endpoints, at its prices and within its own budget, too."""
        spending = self._others[endpoint] = Spending(bounds, self.budget, self._notice, own_budget)
        return spending

    def at(self, endpoint: str | None) -> Spending:
        """What is spent at that endpoint; None where there is but one."""
        return self if endpoint is None else self._others[endpoint]

    @property
    def unbilled_usd(self) -> Decimal:
        """What may have been spent and is on no bill, at all endpoints, in US dollars."""
        return total_usd((self._unbilled_usd, *(other.unbilled_usd for other in self._others.values())))

    def upper(self, line: RequestLine) -> Decimal:
        """The most that an attempt of a line may cost, in US dollars, for the budget to reserve; 0 without a budget."""
        if not self._budgets:
            return NOTHING
        upper_usd = self._bounds.upper(line)
        assert upper_usd is not None, "a line without a bound is refused before anything is sent"
        return upper_usd

    def reserved(self, upper_usd: Decimal) -> Decimal:
        """What is reserved for an attempt whose bound is `upper_usd`: more once an answer has cost more than that."""
        if not self._budgets:
            return upper_usd
        return max([budget.with_margin(upper_usd) for budget in self._budgets])

    def settled(self, line: RequestLine, outcome: Reply | Failure, upper_usd: Decimal) -> tuple[Decimal, Decimal]:
        """What an attempt cost or may have cost, and how much of that is on no bill, in US dollars."""
        is_billed = isinstance(outcome, Reply) and is_measured(outcome)
        if is_billed and not self._budgets:
            return NOTHING, NOTHING
        cost_usd = self._bounds.cost(line, outcome, self.reserved(upper_usd) or None) or NOTHING
        if is_measured(outcome) and (over := [one for one in self._budgets if one.confirm(upper_usd, cost_usd)]):
            self._notice(
                f"line {line.line_number} cost ${usd(cost_usd)}, more than the ${usd(upper_usd)} that its request "
                f"bounds; from now on {over[0].margin:,} times its bound is reserved for each line"
            )
        unbilled_usd = NOTHING if is_billed else cost_usd
        self._unbilled_usd = total_usd((self._unbilled_usd, unbilled_usd))
        return cost_usd, unbilled_usd

    def recorded(self, line: RequestLine, failure: Failure) -> Decimal:
        """Note that a failure is in the result file. Returns the US dollars that are on the bill from now on.

        That is the cost of one with a usage, which `settled` had counted as unbilled.
        """
        if not is_measured(failure):
            return NOTHING
        cost_usd = self._bounds.cost(line, failure, None) or NOTHING
        self._unbilled_usd = total_usd((self._unbilled_usd, -cost_usd))
        return cost_usd

    def why_over(self) -> str:
        """Why a line was not sent, in a few words."""
        assert self.budget is not None, "only a budget has no room for a line"
        cap, spent = usd(self.budget.cap), usd(self.budget.spent)
        return f"--max-cost {cap} is used up (up to ${spent} spent)"

    def why_no_control(self, upper_usd: Decimal) -> str:
        """Why a control was not sent, whose bound is `upper_usd`, and what it was for."""
        assert self.budget is not None, "only a budget has no room for it"
        cap, spent, needed = usd(self.budget.cap), usd(self.budget.spent), usd(self.budget.with_margin(upper_usd))
        return (
            f"--max-cost {cap} (up to ${spent} spent) has no room for the request, of up to ${needed}, that would tell "
            "whether the gateway is at fault or the lines that fail"
        )
