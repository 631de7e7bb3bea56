"""Prices of models in USD per million tokens, and the user's own price file.

Money is Decimal from the file to the bill, in a context that raises if a digit would be lost.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from batchrun.errors import UsageError
from batchrun.records.columns import Usages
from batchrun.records.money import EXACT, total_usd
from batchrun.records.usage import Usage


@dataclass(frozen=True, slots=True)
class TierPrice:
    """Prices in USD per million tokens, for the requests of one range of input sizes."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """The exact cost in USD of one request of this tier, or of the sum of many."""
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cost = EXACT.multiply(self.input, plain)
        cost = EXACT.fma(self.cached, usage.cached_tokens, cost)
        cost = EXACT.fma(self.cache_write, usage.cache_write_tokens, cost)
        cost = EXACT.fma(self.output, usage.output_tokens, cost)
        return cost.scaleb(-6, EXACT)


@dataclass(frozen=True, slots=True)
class Price:
    """The prices of one model from one source. The input size of a request decides the tier for all its tokens.

    `tiers[0]` applies to up to `starts[0]` input tokens, `tiers[i]` to more than `starts[i - 1]`. `calls` has the price
    of one call, in USD, of each paid tool that has one.
    """

    model: str
    source: str
    starts: tuple[int, ...]
    tiers: tuple[TierPrice, ...]
    calls: tuple[tuple[str, Decimal], ...] = ()

    def tier_of(self, usage: Usage) -> int:
        """The index of the tier of one request with this usage."""
        return bisect_left(self.starts, usage.input_tokens) if self.starts else 0

    def cost(self, usage: Usage) -> Decimal:
        """The exact cost in USD of one request, without calls of tools that have no price."""
        cost = self.tiers[self.tier_of(usage)].cost(usage)
        return EXACT.add(cost, self.cost_of_calls(usage.tool_calls)) if usage.tool_calls else cost

    def cost_of_calls(self, counts: Mapping[str, int]) -> Decimal:
        """The exact cost in USD of so many calls of each tool; a tool without a price adds nothing."""
        return total_usd(EXACT.multiply(price, counts[name]) for name, price in self.calls if name in counts)

    def has_price_of_call(self, tool: str) -> bool:
        """Whether calls of this tool have a price."""
        return any(name == tool for name, _ in self.calls)

    def upper_bound(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The most, in USD, that a request of up to so many tokens can cost: the dearest kind of input and tier."""
        most = Usage(input_tokens, 0, output_tokens, 0, input_tokens + output_tokens)
        reachable = self.tiers[: self.tier_of(most) + 1]
        dearest = ((max(tier.input, tier.cached, tier.cache_write), tier.output) for tier in reachable)
        return max(TierPrice(price, price, price, output).cost(most) for price, output in dearest)


class Rates:
    """A price in floats: what estimates are made from, at a tenth of the time."""

    def __init__(self, price: Price) -> None:
        self.price = price
        self._starts = price.starts
        self._tiers = [
            tuple(float(usd) / 1e6 for usd in (tier.input, tier.cached, tier.cache_write, tier.output))
            for tier in price.tiers
        ]

    def cost(self, usage: Usage) -> float:
        """The cost in USD of one request, as `Price.cost` has it exactly."""
        tokens, cached, written = usage.input_tokens, usage.cached_tokens, usage.cache_write_tokens
        plain_usd, cached_usd, written_usd, output_usd = self._tiers[
            bisect_left(self._starts, tokens) if self._starts else 0
        ]
        cost = (tokens - cached - written) * plain_usd + usage.output_tokens * output_usd
        if cached or written:
            cost += cached * cached_usd + written * written_usd
        return cost + float(self.price.cost_of_calls(usage.tool_calls)) if usage.tool_calls else cost

    def costs(self, usages: Usages) -> list[float]:
        """The cost in USD of each request that has a usage, in half the time of one by one."""
        if self._starts or usages.has_tool_calls:
            return list(map(self.cost, usages.told))
        plain_usd, cached_usd, written_usd, output_usd = self._tiers[0]
        return [
            (tokens - cached - written) * plain_usd
            + output * output_usd
            + (cached * cached_usd + written * written_usd)
            for tokens, cached, written, output in zip(
                usages.input, usages.cached, usages.cache_write, usages.output, strict=True
            )
        ]


class PriceFile:
    """A user's prices: model names, or patterns with `*`, each with prices in USD per million tokens.

        ["gpt-4.1"]        # as JSON: {"gpt-4.1": {"input": 2.00, "cached": 0.50, "output": 8.00}}
        input = 2.00
        cached = 0.50      # optional, as is cache_write: if absent, the input price
        output = 8.00

    Names match in any case. An exact name wins over patterns, the longest pattern over shorter ones.
    """

    def __init__(self, prices: dict[str, Price]) -> None:
        self._exact = {name.lower(): price for name, price in prices.items() if "*" not in name}
        patterns = sorted((name for name in prices if "*" in name), key=len, reverse=True)
        self._patterns = [(_compile_pattern(name), prices[name]) for name in patterns]

    @classmethod
    def load(cls, path: Path) -> PriceFile:
        """Read and check a price file. Raises `UsageError`, which names the file, the entry and what to write."""
        entries = _read_document(path)
        if not entries:
            raise UsageError(f"{path}: no prices in it; {_EXAMPLE}")
        return cls({name: _read_entry(path, name, entry) for name, entry in entries.items()})

    def find(self, names: Iterable[str]) -> Price | None:
        """The price of the first name with an exact entry, else of the first name that matches a pattern, else None."""
        lowered = [name.lower() for name in names]
        exact = (self._exact[name] for name in lowered if name in self._exact)
        matching = (price for name in lowered for pattern, price in self._patterns if pattern.fullmatch(name))
        return next(exact, None) or next(matching, None)


_KEYS = ("input", "cached", "cache_write", "output")
_EXAMPLE = 'write for each model, in USD per million tokens: ["gpt-4.1"], input = 2.00, output = 8.00'


def _compile_pattern(name: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, name.lower().split("*"))), re.DOTALL)


def _read_document(path: Path) -> dict[str, Any]:
    """The entries of a TOML or JSON file, numbers as int or Decimal, never float."""
    try:
        text = path.read_text(encoding="utf-8-sig")
        match path.suffix.lower():
            case ".toml":
                document = tomllib.loads(text, parse_float=Decimal)
            case ".json":
                document = json.loads(text, parse_float=Decimal, parse_constant=Decimal, object_pairs_hook=_unique_keys)
            case _:
                raise UsageError(f"{path}: the price file must end in .toml or .json")
    except OSError as error:
        raise UsageError(f"{path}: cannot read the price file: {error.strerror}") from error
    except (ValueError, ArithmeticError, RecursionError) as error:
        raise UsageError(f"{path}: the price file is not valid {path.suffix[1:].upper()}: {error}") from error
    if not isinstance(document, dict):
        raise UsageError(f"{path}: the price file must be an object of model names; {_EXAMPLE}")
    lowered = [name.lower() for name in document]
    if twice := [name for name in document if lowered.count(name.lower()) > 1]:
        raise UsageError(f"{path}: {twice[0]!r} and {twice[1]!r} name one model; keep one of the entries")
    return document


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object without repeated keys, since neither of two prices is the right one. (TOML forbids them.)"""
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]!r} occurs twice; keep one of the two")
    return dict(pairs)


def _read_entry(path: Path, name: str, entry: object) -> Price:
    """One entry of the price file, as a price of a single tier."""
    where = f"{path}: {name!r}"
    if not isinstance(entry, dict):
        raise UsageError(f"{where} is not a table of prices; {_EXAMPLE}")
    if any(isinstance(value, dict) for value in entry.values()):
        raise UsageError(f'{where} holds another table; a name with a dot needs quotes: ["gpt-4.1"]')
    if unknown := [key for key in entry if key not in _KEYS]:
        raise UsageError(f"{where}: unknown key {unknown[0]!r}; the keys are {', '.join(_KEYS)}")
    if missing := [key for key in ("input", "output") if key not in entry]:
        raise UsageError(f"{where}: {missing[0]!r} is missing; add it in USD per million tokens (0 if free)")
    prices = {key: _read_price(f"{where}: {key}", value) for key, value in entry.items()}
    plain = prices["input"]
    tier = TierPrice(plain, prices.get("cached", plain), prices.get("cache_write", plain), prices["output"])
    return Price(model=name, source=path.name, starts=(), tiers=(tier,))


def _read_price(where: str, value: object) -> Decimal:
    """A price in USD per million tokens, within limits that keep every bill exact."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise UsageError(f"{where} must be a number without quotes, such as 2.00; it is {value!r}")
    price = Decimal(value)
    if not price.is_finite() or price < 0:
        raise UsageError(f"{where} must be 0 or more USD per million tokens; it is {value}")
    if price > 1_000_000 or price != round(price, 12):
        raise UsageError(f"{where} must be at most 1000000, with at most 12 decimals; it is {value}")
    return price
