"""From usage to money: exact Decimal USD, by the user's price file or else the price list of genai-prices.

Rules, all tested in tests/billing/test_pricing.py:

1. Money is Decimal from the file to the bill, in a context that raises if a digit would be lost.
2. A price is linear within a tier: the bill adds integers, multiplies once, and equals the sum over its lines.
3. The price file wins over the list, an exact name over a pattern, the model that answered over the requested one.
4. A line whose model has no price per token is counted as unpriced; its price is never guessed and never 0.
5. No network. genai-prices, which is large, is loaded when it is first needed, in a separate process.

A line is priced at the service tier that was served (flex, priority) if the list has a price for it, else at the
standard price, and the bill says so. Calls of paid tools (web search) are on the bill by the call if the list has a
price, else the bill names them. It cannot contain what a usage does not report: audio and image tokens (priced as
text), caches kept for an hour. If several providers offer a name, its maker's price is used (`gpt-…` OpenAI,
`claude` Anthropic, `deepseek…` DeepSeek), as genai-prices does. It does not know relay names such as `openai/gpt-4.1`;
they need a price file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batchrun.billing.pricelist import SHARED, Listing, tiered
from batchrun.billing.prices import Price, PriceFile


class Quote(NamedTuple):
    """The price of one line, None if unpriced; `dated` if the price depends on the time.

    `is_standard`: the line was served at a tier of its own, and this is the standard price, as nothing else is known.
    """

    price: Price | None
    dated: bool
    is_standard: bool = False


_STANDARD_TIERS = {"", "default", "standard", "auto", "on_demand", "none"}


class PriceBook:
    """All prices of a job: those of a price file first, then those of genai-prices.

    Each pair of names is looked up once; this is the only cache of prices. Several threads may use it.
    """

    def __init__(self, prices: PriceFile | None = None) -> None:
        self._file = prices
        self._known: dict[tuple[str | None, str | None, str | None], tuple[Quote | Listing, bool]] = {}

    @classmethod
    def load(cls, path: Path | None) -> PriceBook:
        """A book with the prices of that file; without one, with the list alone.

        Raises `UsageError` if the file cannot be read or is not valid.
        """
        return cls(PriceFile.load(path) if path else None)

    def price(self, model: str, when: datetime | None = None) -> Price | None:
        """The price of a model for requests sent at `when` (UTC if naive; default: now); None if no source has one."""
        return self.quote(None, model, when).price

    def quote(
        self, answered: str | None, requested: str | None, when: datetime | None = None, tier: str | None = None
    ) -> Quote:
        """The price of a line sent at `when` (UTC if naive; default: now): of the model that answered, else requested.

        `tier` is the service tier that was served.

        OpenAI answers `gpt-4.1` as `gpt-4.1-2025-04-14`. So both names are looked up in the file before either is
        looked up in the list; otherwise an entry for `gpt-4.1` would never apply.
        """
        found = self._known.get((answered, requested, tier))
        if found is None:
            names = [name for name in (answered, requested) if name]
            found = self._known[answered, requested, tier] = self._look_up(names, (tier or "").lower())
        known, is_standard = found
        if isinstance(known, Quote):
            return known
        return Quote(known.price(when or datetime.now(UTC)), True, is_standard)

    def _look_up(self, names: list[str], tier: str) -> tuple[Quote | Listing, bool]:
        """A quote that applies at any time, or a listing whose price depends on the time; and its `is_standard`."""
        if self._file and (price := self._file.find(names)):
            return Quote(price, dated=False), False
        is_special = tier not in _STANDARD_TIERS
        for name in names:
            of_tier = SHARED.find(tiered(name, tier)) if is_special else None
            is_standard = is_special and of_tier is None
            if listing := of_tier or SHARED.find(name):
                if listing.is_dated:
                    return listing, is_standard
                return Quote(listing.price(datetime.now(UTC)), False, is_standard), is_standard
        return Quote(None, dated=False), False
