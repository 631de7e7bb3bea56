"""The most that a request can cost, and what an attempt did cost: the amounts that `--max-cost` counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.errors import UsageError
from batchrun.records.content import read_contents
from batchrun.records.money import NOTHING
from batchrun.records.outcome import Failure, FailureCode, Reply, http_code
from batchrun.records.request import RequestLine
from batchrun.records.usage import Usage
from batchrun.records.words import counted, printable

_LATER = timedelta(hours=1)  # an attempt ends within this time; the price of a later hour may apply to it
_SHOWN_LINES = 3


class Bounds:
    """What lines can cost and did cost, in US dollars, at the prices of `book`.

    `max_line_usd` is the user's cap for each line whose request sets no bound (`--max-line-cost`); None is no cap.
    """

    def __init__(self, book: PriceBook, max_line_usd: Decimal | None = None) -> None:
        self._book = book
        self._max_line_usd = max_line_usd

    def upper(self, line: RequestLine) -> Decimal | None:
        """The most that one attempt of a line can cost; None if there is no bound, or no price."""
        prices = self._of(None, line.model)
        if not prices:
            return None
        contents = read_contents(line.url, line.body)
        if contents.max_output_tokens is None or contents.named or contents.untold:
            return self._max_line_usd
        return max(price.upper_bound(len(line.body), contents.max_output_tokens) for price in prices)

    def is_priced(self, model: str) -> bool:
        """Whether the requested model has a price."""
        return bool(self._of(None, model))

    def why_unbounded(self, line: RequestLine) -> str:
        """Which part of a line has no bound, in a few words; empty if all have one."""
        contents = read_contents(line.url, line.body)
        if open_ended := (*contents.named, *contents.untold):
            return open_ended[0]
        return "no max_output_tokens" if contents.max_output_tokens is None else ""

    def cost(self, line: RequestLine, outcome: Reply | Failure, upper_usd: Decimal | None) -> Decimal | None:
        """What an attempt cost, or may have cost; None if that is unknown.

        `upper_usd` is the most that it may have cost; if it is None and needed, it is computed.
        """
        if is_measured(outcome):
            tier = outcome.service_tier if isinstance(outcome, Reply) else None
            return self._priced(outcome.model, line.model, outcome.usage, tier)
        if isinstance(outcome, Failure) and (not outcome.may_be_billed or is_spelt_out(outcome)):
            return NOTHING
        return upper_usd if upper_usd is not None else self.upper(line)

    def _priced(self, answered: str | None, requested: str, usage: Usage | None, tier: str | None) -> Decimal | None:
        assert usage is not None, "only a measured attempt is priced"
        prices = self._of(answered, requested, tier)
        return max(price.cost(usage) for price in prices) if prices else None

    def _of(self, answered: str | None, requested: str, tier: str | None = None) -> tuple[Price, ...]:
        """The prices that may apply to an attempt made now: more than one only if they depend on the time of day."""
        quotes = [self._book.quote(answered, requested, None, tier)]
        if quotes[0].dated:
            quotes.append(self._book.quote(answered, requested, datetime.now(UTC) + _LATER, tier))
        return tuple(dict.fromkeys(quote.price for quote in quotes if quote.price is not None))


def is_measured(outcome: Reply | Failure) -> bool:
    """Whether the outcome says what it used: a usage of nothing at all does not."""
    return outcome.usage is not None and not outcome.usage.is_zero


# A gateway with one of these statuses does not know the outcome upstream: the answer may exist, and be billed.
_GAVE_UP_WAITING = frozenset({408, 499, 504, 522, 524})


def is_spelt_out(failure: Failure) -> bool:
    """Whether the gateway answered clearly that it did not do the work, so that nothing is billed.

    That is an error status (300 or more); from 500 on, the body must contain an error too. A 5xx without one comes
    from a proxy in front of the gateway.
    """
    if failure.status is None or failure.status < 300 or failure.status in _GAVE_UP_WAITING:
        return False
    is_nameless = not failure.type and failure.code in (FailureCode.HTML_PAGE, http_code(failure.status))
    return failure.status < 500 or not is_nameless


class Unbounded:
    """Checks the lines that a run will send, and refuses the run if the cost of any of them has no bound."""

    def __init__(
        self,
        bounds: Bounds,
        endpoints: Mapping[str, tuple[Callable[[str], bool], Bounds]] | None = None,
        cap: str = "--max-cost",
    ) -> None:
        """`endpoints`: for each of several that has a cap, by name, whether it serves a model, and the bounds there.

        None where there is one endpoint. `cap`: what sets the cap, for messages.
        """
        self._bounds = bounds
        self._endpoints = endpoints
        self._cap = cap
        self._unpriced: Counter[str] = Counter()
        self._lines: list[str] = []
        self._count = 0

    def look(self, line: RequestLine) -> None:
        """Check one line."""
        all_bounds = [self._bounds] if self._endpoints is None else list(self._bounds_at(line, self._endpoints))
        if all(bounds.upper(line) is not None for bounds in all_bounds):
            return
        if not all(bounds.is_priced(line.model) for bounds in all_bounds):
            self._unpriced[line.model] += 1
            return
        self._count += 1
        if len(self._lines) < _SHOWN_LINES:
            self._lines.append(f"line {line.line_number} ({self._bounds.why_unbounded(line)})")

    def _bounds_at(
        self, line: RequestLine, endpoints: Mapping[str, tuple[Callable[[str], bool], Bounds]]
    ) -> Iterator[Bounds]:
        """The bounds of each endpoint with a cap that the line may go to."""
        for name, (serves, bounds) in endpoints.items():
            if line.endpoint in (None, name) and serves(line.model):
                yield bounds

    def refuse(self) -> None:
        """Raise `UsageError` if any of the lines has no price or no bound."""
        if self._unpriced:
            common = self._unpriced.most_common(5)
            models = ", ".join(f"{printable(name)} ({counted(count, 'line')})" for name, count in common)
            raise UsageError(f"{self._cap} needs a price for {models}; give it with --prices FILE")
        if self._count:
            more = f", … ({self._count:,} in all)" if self._count > len(self._lines) else ""
            raise UsageError(
                f"{self._cap} cannot cap lines whose cost has no bound: {', '.join(self._lines)}{more}; "
                "--set max_output_tokens=N bounds answers, --max-line-cost USD caps each such line"
            )
