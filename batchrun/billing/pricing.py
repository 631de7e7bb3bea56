"""Usage into money: exact Decimal USD, from the user's price file or else the price list of genai-prices.

Rules, all tested in tests/test_pricing.py:

1. Money is Decimal from the file to the bill, in a context that raises where a digit would be lost.
2. A price is linear within a tier: the bill adds integers, multiplies once, and equals the sum over its lines.
3. The price file wins over the list, an exact name over a pattern, the answering model over the asked one.
4. What no source prices by the token is unpriced and counted, never priced by guess or at 0.
5. No network; and genai-prices, which is large, is asked when it is first needed, in a process of its own.

What a usage does not say cannot be on the bill: service tiers, tool calls (web search), audio and image
tokens (priced as text), caches kept for an hour. A name that several providers offer is taken for its maker's
(`gpt-…` OpenAI, `claude` Anthropic, `deepseek…` DeepSeek), as genai-prices does; relay names such as
`openai/gpt-4.1` are unknown to it and need a price file.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from batchrun.billing.pricelist import SHARED, Listing
from batchrun.billing.prices import Price, PriceFile


class Quote(NamedTuple):
    """The price for one line, None if unpriced; `dated` if it may be another one at another time."""

    price: Price | None
    dated: bool


class PriceBook:
    """The prices a job knows: those of a price file, and behind them the list of genai-prices.

    Each pair of names is looked up once: the one cache of prices. May be used by several threads.
    """

    def __init__(self, prices: PriceFile | None = None) -> None:
        self._file = prices
        self._known: dict[tuple[str | None, str | None], Quote | Listing] = {}

    @classmethod
    def load(cls, path: Path | None) -> PriceBook:
        """A book with the prices of that file, or with the list alone; UsageError if the file is no good."""
        return cls(PriceFile.load(path) if path else None)

    def price(self, model: str, when: datetime | None = None) -> Price | None:
        """The price of a model for requests sent at that time (default: now); None if no source has one."""
        return self.quote(None, model, when).price

    def quote(self, answered: str | None, requested: str | None, when: datetime | None = None) -> Quote:
        """The price of a line sent then (UTC if naive; default: now): that of the model that answered, else requested.

        OpenAI answers `gpt-4.1` as `gpt-4.1-2025-04-14`: so the file is tried with both names before the list
        is tried with either, or else an entry for `gpt-4.1` would never apply.
        """
        known = self._known.get((answered, requested))
        if known is None:
            known = self._known[answered, requested] = self._look_up([name for name in (answered, requested) if name])
        if isinstance(known, Quote):
            return known
        return Quote(known.price(when or datetime.now(UTC)), dated=True)

    def _look_up(self, names: list[str]) -> Quote | Listing:
        """What holds at any time, or a listing of which the time decides."""
        if self._file and (price := self._file.find(names)):
            return Quote(price, dated=False)
        for name in names:
            if listing := SHARED.find(name):
                return listing if listing.is_dated else Quote(listing.price(datetime.now(UTC)), dated=False)
        return Quote(None, dated=False)
