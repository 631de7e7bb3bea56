"""From usage to money: exact Decimal USD, by the user's price file or else the price list of genai-prices.

Rules, all tested in tests/billing/test_pricing.py:

1. Money is Decimal from the file to the bill, in a context that raises if a digit would be lost.
2. A price is linear within a tier: the bill adds integers, multiplies once, and equals the sum over its lines.
3. The price file wins over the list, an exact name over a pattern, the model that answered over the requested one.
4. A line whose model has no price per token is counted as unpriced; its price is never guessed and never 0.
5. No network. genai-prices, which is large, is loaded when it is first needed, in a separate process.

The bill cannot contain what a usage does not report: service tiers, tool calls (web search), audio and image tokens
(priced as text), caches kept for an hour. If several providers offer a name, its maker's price is used (`gpt-…` OpenAI,
`claude` Anthropic, `deepseek…` DeepSeek), as genai-prices does. It does not know relay names such as `openai/gpt-4.1`;
they need a price file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batchrun.billing.pricelist import SHARED, Listing
from batchrun.billing.prices import Price, PriceFile


class Quote(NamedTuple):
    """The price of one line, None if unpriced; `dated` if the price depends on the time."""

    price: Price | None
    dated: bool


class PriceBook:
    """All prices of a job: those of a price file first, then those of genai-prices.

    Each pair of names is looked up once; this is the only cache of prices. Several threads may use it.
    """

    def __init__(self, prices: PriceFile | None = None) -> None:
        self._file = prices
        self._known: dict[tuple[str | None, str | None], Quote | Listing] = {}

    @classmethod
    def load(cls, path: Path | None) -> PriceBook:
        """A book with the prices of that file; without one, with the list alone.

        Raises `UsageError` if the file cannot be read or is not valid.
        """
        return cls(PriceFile.load(path) if path else None)

    def price(self, model: str, when: datetime | None = None) -> Price | None:
        """The price of a model for requests sent at `when` (UTC if naive; default: now); None if no source has one."""
        return self.quote(None, model, when).price

    def quote(self, answered: str | None, requested: str | None, when: datetime | None = None) -> Quote:
        """The price of a line sent at `when` (UTC if naive; default: now): of the model that answered, else requested.

        OpenAI answers `gpt-4.1` as `gpt-4.1-2025-04-14`. So both names are looked up in the file before either is
        looked up in the list; otherwise an entry for `gpt-4.1` would never apply.
        """
        known = self._known.get((answered, requested))
        if known is None:
            known = self._known[answered, requested] = self._look_up([name for name in (answered, requested) if name])
        if isinstance(known, Quote):
            return known
        return Quote(known.price(when or datetime.now(UTC)), dated=True)

    def _look_up(self, names: list[str]) -> Quote | Listing:
        """A quote that applies at any time, or a listing whose price depends on the time."""
        if self._file and (price := self._file.find(names)):
            return Quote(price, dated=False)
        for name in names:
            if listing := SHARED.find(name):
                return listing if listing.is_dated else Quote(listing.price(datetime.now(UTC)), dated=False)
        return Quote(None, dated=False)
