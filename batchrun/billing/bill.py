"""The bill: adds up the tokens of all lines, and prices the sums when a cost is asked for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.records.money import total_usd
from batchrun.records.usage import ZERO, Usage


class _Sums:
    """The tokens of all lines of one price, by tier; the price is linear within a tier."""

    __slots__ = ("price", "tokens")

    def __init__(self, price: Price) -> None:
        self.price = price
        self.tokens = [[0, 0, 0, 0, 0] for _ in price.tiers]

    def add(self, usages: Sequence[Usage]) -> None:
        if not self.price.starts:
            self._add_to_tier(0, usages)
            return
        for usage in usages:
            self._add_to_tier(self.price.tier_of(usage), (usage,))

    def _add_to_tier(self, tier: int, usages: Sequence[Usage]) -> None:
        tokens = self.tokens[tier]
        tokens[0] += sum([usage.input_tokens for usage in usages])
        tokens[1] += sum([usage.cached_tokens for usage in usages])
        tokens[2] += sum([usage.output_tokens for usage in usages])
        tokens[3] += sum([usage.reasoning_tokens for usage in usages])
        tokens[4] += sum([usage.cache_write_tokens for usage in usages])

    def merge(self, other: _Sums) -> None:
        for mine, theirs in zip(self.tokens, other.tokens, strict=True):
            mine[:] = map(int.__add__, mine, theirs)

    @property
    def usages(self) -> list[Usage]:
        """The usage of each tier."""
        return [Usage(i, cached, o, reasoning, i + o, w) for i, cached, o, reasoning, w in self.tokens]

    @property
    def cost_usd(self) -> Decimal:
        return total_usd(tier.cost(usage) for tier, usage in zip(self.price.tiers, self.usages, strict=True))


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

    def add(
        self,
        answered: str | None,
        requested: str | None,
        usages: Sequence[Usage | None],
        when: datetime | None = None,
        later_s: Sequence[float] = (),
    ) -> None:
        """Add lines with the same two models: the `model` of their responses and that of their requests.

        `usages` has one entry for each line, None if its answer had no usage. The lines were sent at `when`, or, if
        `later_s` is given, each as many seconds later as its entry there says.
        """
        told = [usage for usage in usages if usage is not None]
        self.lines_without_usage += len(usages) - len(told)
        if not told:
            return
        sent = when or self._when
        quote = self._book.quote(answered, requested, sent)
        if not quote.dated:
            self._put(quote.price, answered or requested or "", told)
            return
        for usage, seconds in zip(usages, later_s or [0.0] * len(usages), strict=True):
            if usage is not None:  # at the price of its own time
                price = self._book.quote(answered, requested, sent + timedelta(seconds=seconds)).price
                self._put(price, answered or requested or "", [usage])

    def merge(self, other: Bill) -> None:
        """Add all lines of another bill."""
        for price, theirs in other._sums.items():
            self._sums_of(price).merge(theirs)
        self.lines_without_usage += other.lines_without_usage
        self.unpriced_models.update(other.unpriced_models)
        self._unpriced_usage += other._unpriced_usage

    def _put(self, price: Price | None, model: str, usages: Sequence[Usage]) -> None:
        if price is not None:
            self._sums_of(price).add(usages)
            return
        self.unpriced_models[model] += len(usages)
        self._unpriced_usage = sum(usages, self._unpriced_usage)

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
        return total_usd(sums.cost_usd for sums in self._sums.values())

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
        return ", ".join(sorted(sources, key=lambda source: source.startswith("genai-prices "))) or "none"
