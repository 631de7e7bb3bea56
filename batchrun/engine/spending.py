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

from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from batchrun.billing.prices import NOTHING, Rate, total_usd
from batchrun.billing.pricing import PriceBook, usd
from batchrun.errors import UsageError
from batchrun.limits.budget import Budget
from batchrun.records.content import read_contents
from batchrun.records.request import RequestLine
from batchrun.records.usage import Usage
from batchrun.transport.answer import Failure, Reply

_LATER = timedelta(hours=1)  # an attempt is over by then: a price of another time of day may hold for it
_SHOWN_LINES = 3


class Bounds:
    """What lines can cost and did cost, in USD, by the prices of `book`.

    `max_line_usd` is the user's word for lines whose request sets no bound; None is none.
    """

    def __init__(self, book: PriceBook, max_line_usd: Decimal | None = None) -> None:
        self._book = book
        self._max_line_usd = max_line_usd
        self._rates: dict[tuple[str | None, str], tuple[Rate, ...]] = {}

    def upper(self, line: RequestLine) -> Decimal | None:
        """The most that one attempt of a line can cost; None where there is no bound, or no price."""
        rates = self._of(None, line.model)
        if not rates:
            return None
        contents = read_contents(line.url, line.body)
        if contents.max_output_tokens is None or contents.named or contents.untold:
            return self._max_line_usd
        return max(rate.upper_bound(len(line.body), contents.max_output_tokens) for rate in rates)

    def is_priced(self, model: str) -> bool:
        """Whether somebody prices what is asked for."""
        return bool(self._of(None, model))

    def why_unbounded(self, line: RequestLine) -> str:
        """What of a line has no bound, in a few words; empty where it has one."""
        contents = read_contents(line.url, line.body)
        if open_ended := (*contents.named, *contents.untold):
            return open_ended[0]
        return "no max_output_tokens" if contents.max_output_tokens is None else ""

    def cost(self, line: RequestLine, outcome: Reply | Failure, upper_usd: Decimal | None) -> Decimal | None:
        """What an attempt cost, or may have cost; None where nobody can tell.

        `upper_usd` is what it may have cost at most; None looks that up where it is needed.
        """
        if outcome.usage is not None:
            return self._priced(outcome.model, line.model, outcome.usage)
        if isinstance(outcome, Failure) and (not outcome.may_be_billed or is_spelt_out(outcome)):
            return NOTHING
        return upper_usd if upper_usd is not None else self.upper(line)

    def _priced(self, answered: str | None, asked: str, usage: Usage) -> Decimal | None:
        rates = self._of(answered, asked)
        return max(rate.cost(usage) for rate in rates) if rates else None

    def _of(self, answered: str | None, asked: str) -> tuple[Rate, ...]:
        """The rates that may hold for an attempt made now; they are one but for prices by the time of day."""
        if (known := self._rates.get((answered, asked))) is not None:
            return known
        now = datetime.now(UTC)
        quotes = [self._book.quote(answered, asked, when) for when in (now, now + _LATER)]
        rates = tuple(dict.fromkeys(quote.rate for quote in quotes if quote.rate is not None))
        if not any(quote.dated for quote in quotes):
            self._rates[answered, asked] = rates
        return rates


# Who says these does not know what became of the request behind it: upstream may have answered, and billed.
_GAVE_UP_WAITING = frozenset({408, 499, 504, 522, 524})


def is_spelt_out(failure: Failure) -> bool:
    """Whether the gateway answered, whole, that it did not do it: an error status, from 500 on with words of its own.

    A 5xx without an error in it comes from what stands before the gateway.
    """
    if failure.status is None or failure.status < 300 or failure.status in _GAVE_UP_WAITING:
        return False
    is_nameless = not failure.type and failure.code in ("html_page", f"http_{failure.status}")
    return failure.status < 500 or not is_nameless


class Unbounded:
    """Looks at the lines that a run is going to send, and refuses those that a cap could not hold."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._unpriced: Counter[str] = Counter()
        self._lines: list[str] = []
        self._count = 0

    def look(self, line: RequestLine) -> None:
        """One line."""
        if self._bounds.upper(line) is not None:
            return
        if not self._bounds.is_priced(line.model):
            self._unpriced[line.model] += 1
            return
        self._count += 1
        if len(self._lines) < _SHOWN_LINES:
            self._lines.append(f"line {line.line_number} ({self._bounds.why_unbounded(line)})")

    def refuse(self) -> None:
        """Raise `UsageError` where a line could cost any amount."""
        if self._unpriced:
            models = ", ".join(f"{name} ({count:,} lines)" for name, count in self._unpriced.most_common(5))
            raise UsageError(f"--max-cost needs a price for {models}; give it with --prices FILE")
        if self._count:
            more = f", … ({self._count:,} in all)" if self._count > len(self._lines) else ""
            raise UsageError(
                f"--max-cost cannot hold lines that may cost any amount: {', '.join(self._lines)}{more}; "
                "--set max_output_tokens=N bounds answers, --max-line-cost USD says what such a line costs at most"
            )


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
