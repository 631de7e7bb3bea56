"""Usage into money: exact Decimal USD, from the user's price file or else the price list of genai-prices.

Rules, all tested in tests/test_pricing.py:

1. Money is Decimal from the file to the bill, in a context that raises where a digit would be lost.
2. A rate is linear within a tier: the bill adds integers, multiplies once, and equals the sum over its lines.
3. The price file wins over the list, an exact name over a pattern, the answering model over the asked one.
4. What no source prices by the token is unpriced and counted, never priced by guess or at 0.
5. No network; and genai-prices, which is large, is asked when it is first needed, in a process of its own.

What a usage does not say cannot be on the bill: service tiers, tool calls (web search), audio and image
tokens (priced as text), caches kept for an hour. A name that several providers offer is taken for its maker's
(`gpt-…` OpenAI, `claude` Anthropic, `deepseek…` DeepSeek), as genai-prices does; relay names such as
`openai/gpt-4.1` are unknown to it and need a price file.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal
from pathlib import Path
from typing import NamedTuple

from batchrun.billing.pricelist import SHARED
from batchrun.billing.prices import PriceFile, Rate, total_usd
from batchrun.billing.prices import TierPrice as TierPrice
from batchrun.records.usage import ZERO, Usage


class Quote(NamedTuple):
    """The rate for one line, None if unpriced; `dated` if it may be another one at another time."""

    rate: Rate | None
    dated: bool


class PriceBook:
    """The prices a job knows: those of a price file, and behind them the list of genai-prices."""

    def __init__(self, prices: PriceFile | None = None) -> None:
        self._file = prices

    @classmethod
    def load(cls, path: Path | None) -> PriceBook:
        """A book with the prices of that file, or with the list alone; UsageError if the file is no good."""
        return cls(PriceFile.load(path) if path else None)

    def rate(self, model: str, when: datetime | None = None) -> Rate | None:
        """The rate of a model for requests sent at that time (default: now); None if no source prices it."""
        return self.quote(model, None, when or datetime.now(UTC)).rate

    def quote(self, answered: str | None, asked: str | None, when: datetime) -> Quote:
        """The rate of a line sent then (UTC if naive): that of the answering, else of the asked model.

        OpenAI answers `gpt-4.1` as `gpt-4.1-2025-04-14`: so the file is tried with both names before the list
        is tried with either, or else an entry for `gpt-4.1` would never apply.
        """
        names = [name for name in (answered, asked) if name]
        if self._file and (rate := self._file.find(names)):
            return Quote(rate, dated=False)
        for name in names:
            if listing := SHARED.find(name):
                return Quote(listing.rate(when), listing.is_dated)
        return Quote(None, dated=False)


class ModelBill(NamedTuple):
    """What the lines under one name used and cost."""

    lines: int
    usage: Usage
    cost_usd: Decimal


class _Sums:
    """The tokens of the lines of one rate, by tier, within which the price is linear."""

    __slots__ = ("lines", "rate", "tokens")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.lines = 0
        self.tokens = [[0, 0, 0, 0, 0] for _ in rate.tiers]

    def add(self, usage: Usage) -> None:
        self.lines += 1
        tokens = self.tokens[self.rate.tier_of(usage)]
        tokens[0] += usage.input_tokens
        tokens[1] += usage.cached_tokens
        tokens[2] += usage.output_tokens
        tokens[3] += usage.reasoning_tokens
        tokens[4] += usage.cache_write_tokens

    def add_all(self, usages: Sequence[Usage]) -> None:
        if self.rate.starts:
            for usage in usages:
                self.add(usage)
            return
        self.lines += len(usages)
        tokens = self.tokens[0]
        tokens[0] += sum([usage.input_tokens for usage in usages])
        tokens[1] += sum([usage.cached_tokens for usage in usages])
        tokens[2] += sum([usage.output_tokens for usage in usages])
        tokens[3] += sum([usage.reasoning_tokens for usage in usages])
        tokens[4] += sum([usage.cache_write_tokens for usage in usages])

    def bill(self) -> ModelBill:
        usages = [Usage(i, cached, o, reasoning, i + o, w) for i, cached, o, reasoning, w in self.tokens]
        costs = [tier.cost(usage) for tier, usage in zip(self.rate.tiers, usages, strict=True)]
        return ModelBill(self.lines, sum(usages, ZERO), total_usd(costs))


class Bill:
    """The cost of a job: tokens are added line by line, and priced when the sum is asked for."""

    def __init__(self, book: PriceBook, when: datetime | None = None) -> None:
        """`when` (default: now) is the time of the lines that are added without one."""
        self._book = book
        self._when = when or datetime.now(UTC)
        self._sums: dict[Rate, _Sums] = {}
        # By (answered, asked), and only what holds at any time: so a line costs one look-up.
        self._known: dict[tuple[str | None, str | None], _Sums | None] = {}
        self.lines_without_usage = 0
        self.unpriced_models: dict[str, int] = {}
        """Lines with a usage but no price, by the model that answered (else the one asked for, else "")."""
        self._unpriced_usage = ZERO

    def add(
        self,
        answered: str | None,
        asked: str | None,
        usage: Usage | None,
        when: datetime | None = None,
        later_s: float = 0.0,
    ) -> None:
        """Add one line: the `model` of its response, that of its request, its usage, and when it was sent.

        That is `later_s` seconds after `when`.
        """
        if usage is None:
            self.lines_without_usage += 1
            return
        names = (answered, asked)
        sums = self._known.get(names)
        if sums is None and names not in self._known:
            sums = self._find(answered, asked, (when or self._when) + timedelta(seconds=later_s))
        if sums is None:
            model = answered or asked or ""
            self.unpriced_models[model] = self.unpriced_models.get(model, 0) + 1
            self._unpriced_usage += usage
        else:
            sums.add(usage)

    def add_alike(
        self,
        answered: str | None,
        asked: str | None,
        usages: Sequence[Usage],
        when: datetime,
        later_s: Sequence[float],
    ) -> None:
        """Add lines of the same models: as `add` of each, in fewer steps."""
        if sums := self._known.get((answered, asked)):
            sums.add_all(usages)
        else:
            for usage, seconds in zip(usages, later_s, strict=True):
                self.add(answered, asked, usage, when, seconds)

    def _find(self, answered: str | None, asked: str | None, when: datetime) -> _Sums | None:
        rate, dated = self._book.quote(answered, asked, when)
        sums = None
        if rate is not None:
            sums = self._sums.get(rate) or self._sums.setdefault(rate, _Sums(rate))
        if not dated:
            self._known[answered, asked] = sums
        return sums

    @property
    def cost_usd(self) -> Decimal:
        """The exact cost of the priced lines. What the `unpriced_lines` cost is not in it."""
        return total_usd(sums.bill().cost_usd for sums in self._sums.values())

    @property
    def usage(self) -> Usage:
        """The tokens of all lines, priced or not."""
        return sum((sums.bill().usage for sums in self._sums.values()), self._unpriced_usage)

    @property
    def priced_lines(self) -> int:
        """Lines that are in `cost_usd`."""
        return sum(sums.lines for sums in self._sums.values())

    @property
    def unpriced_lines(self) -> int:
        """Lines with a usage, of models that no source prices."""
        return sum(self.unpriced_models.values())

    @property
    def price_source(self) -> str:
        """Where the used prices came from: `prices.toml, genai-prices 0.2.3`; `none` if none was used."""
        sources = {rate.source for rate in self._sums}
        return ", ".join(sorted(sources, key=lambda source: source.startswith("genai-prices "))) or "none"

    def by_model(self) -> dict[str, ModelBill]:
        """The bill of each model, under the name that found its price; their costs add up to `cost_usd`."""
        bills: dict[str, ModelBill] = {}
        for rate, sums in self._sums.items():
            bill, other = sums.bill(), bills.get(rate.model)
            if other:  # a dated model has a rate for each of its times
                cost = total_usd((bill.cost_usd, other.cost_usd))
                bill = ModelBill(bill.lines + other.lines, bill.usage + other.usage, cost)
            bills[rate.model] = bill
        return bills


def usd(amount: Decimal) -> str:
    """An amount for people: `12.35`, `0.05`, `0.000123`; two decimals, or as many as show three digits."""
    places = max(2, 2 - amount.adjusted()) if amount else 2
    rounded = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=100))
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"
