"""The bill: adds up the tokens of all lines, and prices the sums when a cost is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import msgspec

from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.records.columns import Usages
from batchrun.records.money import NOTHING, total_usd
from batchrun.records.usage import ZERO, Usage


class _Sums:
    """The tokens of all lines of one price, by tier, and their paid calls; the price is linear within a tier."""

    __slots__ = ("calls", "price", "tokens")

    def __init__(self, price: Price) -> None:
        self.price = price
        self.tokens = [[0, 0, 0, 0, 0] for _ in price.tiers]
        self.calls: Counter[str] = Counter()

    def add(self, usages: Usages) -> None:
        for calls in usages.tool_calls if usages.has_tool_calls else ():
            self.calls.update(calls or {})
        if not self.price.starts:
            tokens = self.tokens[0]
            tokens[0] += sum(usages.input)
            tokens[1] += sum(usages.cached)
            tokens[2] += sum(usages.output)
            tokens[3] += sum(usages.reasoning)
            tokens[4] += sum(usages.cache_write)
            return
        for usage in usages.told:
            self._add_to_tier(self.price.tier_of(usage), usage)

    def _add_to_tier(self, tier: int, usage: Usage) -> None:
        tokens = self.tokens[tier]
        tokens[0] += usage.input_tokens
        tokens[1] += usage.cached_tokens
        tokens[2] += usage.output_tokens
        tokens[3] += usage.reasoning_tokens
        tokens[4] += usage.cache_write_tokens

    def merge(self, other: _Sums) -> None:
        for mine, theirs in zip(self.tokens, other.tokens, strict=True):
            mine[:] = map(int.__add__, mine, theirs)
        self.calls.update(other.calls)

    @property
    def usages(self) -> list[Usage]:
        """The usage of each tier."""
        return [Usage(i, cached, o, reasoning, i + o, w) for i, cached, o, reasoning, w in self.tokens]

    @property
    def cost_usd(self) -> Decimal:
        costs = [tier.cost(usage) for tier, usage in zip(self.price.tiers, self.usages, strict=True)]
        return total_usd((*costs, self.price.cost_of_calls(self.calls)))

    @property
    def unpriced_calls(self) -> Counter[str]:
        """The calls of tools that have no price."""
        return Counter({name: n for name, n in self.calls.items() if not self.price.has_price_of_call(name)})


class Bill:
    """The cost of a job: tokens are added as lines finish, and priced when a cost is asked for."""

    def __init__(self, book: PriceBook, when: datetime | None = None) -> None:
        """`when` (default: now) is the time of lines that are added without one."""
        self._book = book
        self._when = when or datetime.now(UTC)
        self._sums: dict[Price, _Sums] = {}
        self._latest: _Sums | None = None
        self.lines_without_usage = 0
        self.unpriced_models: Counter[str] = Counter()
        """Lines with a usage but no price, by the model that answered (else the one requested, else "")."""
        self._unpriced_usage = ZERO
        self.standard_tiers: Counter[str] = Counter()
        """Lines that were served at a tier without a price of its own, and are billed at the standard price."""
        self.gateway_usd = NOTHING
        """What the gateway itself says that it charged, in US dollars, for `gateway_lines`; see `Charges`."""
        self.gateway_lines = 0
        self._billed_by_gateway_usd = NOTHING
        self.billed_by_gateway = 0
        """Lines whose model nobody prices: their cost is what the gateway says."""

    def add(
        self,
        answered: str | None,
        requested: str | None,
        usages: Usages | Sequence[Usage | None],
        when: datetime | None = None,
        later_s: Sequence[float] = (),
        tier: str | None = None,
        gateway_usd: Sequence[Decimal | None] = (),
        book: PriceBook | None = None,
    ) -> None:
        """Add lines with the same two models: the `model` of their responses and that of their requests.

        `usages` has one entry for each line, None if its answer had no usage. The lines were sent at `when`, or, if
        `later_s` is given, each as many seconds later as its entry there says. `tier` is the service tier that all
        were served at, `gateway_usd` what the gateway says that it charged for each. `book` has the prices of the
        endpoint that they were sent to, if it has its own.
        """
        if not isinstance(usages, Usages):
            usages = Usages(usages)
        told = usages.told
        self.lines_without_usage += len(usages.lines) - len(told)
        charged: list[Decimal | None] = []
        if gateway_usd and gateway_usd.count(None) < len(gateway_usd):
            charged = [_within_limits(usd) for usd in gateway_usd]
            self._note_charges(charged)
        if not told:
            return
        sent = when or self._when
        book = book or self._book
        quote = book.quote(answered, requested, sent, tier)
        if quote.is_standard:
            self.standard_tiers[tier or ""] += len(told)
        model = answered or requested or ""
        if not quote.dated and (quote.price is not None or not charged):
            self._put(quote.price, model, usages)
            return
        lines = usages.lines
        nothing = [None] * len(lines)
        for usage, seconds, usd in zip(lines, later_s or [0.0] * len(lines), charged or nothing, strict=True):
            if usage is not None:  # at the price of its own time
                price = book.quote(answered, requested, sent + timedelta(seconds=seconds), tier).price
                if price is None and usd is not None:
                    self._put_as_charged(usage, usd)
                else:
                    self._put(price, model, Usages([usage]))

    def merge(self, other: Bill) -> None:
        """Add all lines of another bill."""
        for price, theirs in other._sums.items():
            self._sums_of(price).merge(theirs)
        self.lines_without_usage += other.lines_without_usage
        self.unpriced_models.update(other.unpriced_models)
        self._unpriced_usage += other._unpriced_usage
        self.standard_tiers.update(other.standard_tiers)
        self.gateway_usd = total_usd((self.gateway_usd, other.gateway_usd))
        self.gateway_lines += other.gateway_lines
        self._billed_by_gateway_usd = total_usd((self._billed_by_gateway_usd, other._billed_by_gateway_usd))
        self.billed_by_gateway += other.billed_by_gateway

    def _put(self, price: Price | None, model: str, usages: Usages) -> None:
        if price is not None:
            self._sums_of(price).add(usages)
            return
        self.unpriced_models[model] += len(usages.told)
        self._unpriced_usage = sum(usages.told, self._unpriced_usage)

    def _put_as_charged(self, usage: Usage, usd: Decimal) -> None:
        """Add a line that only the gateway has a price for. Its usage is kept with the unpriced ones."""
        self._billed_by_gateway_usd = total_usd((self._billed_by_gateway_usd, usd))
        self.billed_by_gateway += 1
        self._unpriced_usage += msgspec.structs.replace(usage, tool_calls=None)  # its charge has them

    def _note_charges(self, charged: Sequence[Decimal | None]) -> None:
        amounts = [usd for usd in charged if usd is not None]
        self.gateway_usd = total_usd((self.gateway_usd, *amounts))
        self.gateway_lines += len(amounts)

    def _sums_of(self, price: Price) -> _Sums:
        latest = self._latest
        if latest is not None and latest.price is price:
            return latest  # as nearly always; the hash of a price takes as long as adding ten lines
        sums = self._sums.get(price)
        if sums is None:
            sums = self._sums[price] = _Sums(price)
        self._latest = sums
        return sums

    @property
    def cost_usd(self) -> Decimal:
        """The exact cost of the priced lines, in US dollars. It leaves out the `unpriced_lines`."""
        return total_usd((*(sums.cost_usd for sums in self._sums.values()), self._billed_by_gateway_usd))

    @property
    def unpriced_calls(self) -> Counter[str]:
        """Calls of paid tools that are not on the bill, by tool."""
        calls = Counter(self._unpriced_usage.tool_calls or {})
        for sums in self._sums.values():
            calls.update(sums.unpriced_calls)
        return calls

    @property
    def usage(self) -> Usage:
        """The tokens of all lines, priced or not."""
        return sum((usage for sums in self._sums.values() for usage in sums.usages), self._unpriced_usage)

    @property
    def unpriced_lines(self) -> int:
        """The number of lines with a usage whose model has no price."""
        return self.unpriced_models.total()

    @property
    def price_source(self) -> str:
        """The sources of the prices that were used: `prices.toml, genai-prices 0.2.3`; `none` if none was used."""
        sources = {price.source for price in self._sums}
        named = sorted(sources, key=lambda source: source.startswith("genai-prices "))
        return ", ".join([*named, *([BY_GATEWAY] if self.billed_by_gateway else [])]) or "none"


BY_GATEWAY = "the gateway"  # as a source of prices

_LARGEST_USD, _DECIMALS = 1_000_000, 15


def _within_limits(usd: Decimal | None) -> Decimal | None:
    """A charge that keeps sums exact; None for one that no answer can have, as in a record that was edited."""
    if usd is None or not usd.is_finite() or not 0 <= usd <= _LARGEST_USD:
        return None
    return round(usd, _DECIMALS)
