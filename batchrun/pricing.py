"""Usage into money: exact Decimal USD, from the user's price file or else the price list of genai-prices.

Rules, all tested in tests/test_pricing.py:

1. Money is Decimal from the file to the bill, in a context that raises where a digit would be lost.
2. A rate is linear within a tier: the bill adds integers, multiplies once, and equals the sum over its lines.
3. The price file wins over the list, an exact name over a pattern, the answering model over the asked one.
4. What no source prices by the token is unpriced and counted, never priced by guess or at 0.
5. No network; and genai-prices, which takes 0.7 s to import, is imported when it is first needed.

What a usage does not say cannot be on the bill: service tiers, tool calls (web search), audio and image
tokens (priced as text), caches kept for an hour. A name that several providers offer is taken for its maker's
(`gpt-…` OpenAI, `claude` Anthropic, `deepseek…` DeepSeek), as genai-prices does; relay names such as
`openai/gpt-4.1` are unknown to it and need a price file.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from batchrun.errors import UsageError
from batchrun.usage import ZERO, Usage

if TYPE_CHECKING:
    from genai_prices.types import ModelInfo, ModelPrice, TieredPrices

# 60 digits hold 10 million lines of 2**53 tokens at a price of 19 digits; a bill beyond that raises.
_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
_NOTHING = Decimal(0)


@dataclass(frozen=True, slots=True)
class TierPrice:
    """Prices in USD per million tokens, for the requests of one range of input sizes."""

    input: Decimal
    cached: Decimal
    cache_write: Decimal
    output: Decimal

    def cost(self, usage: Usage) -> Decimal:
        """Exact USD of one request of this tier, or of the sum of many."""
        plain = usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens
        cost = _EXACT.multiply(self.input, plain)
        cost = _EXACT.fma(self.cached, usage.cached_tokens, cost)
        cost = _EXACT.fma(self.cache_write, usage.cache_write_tokens, cost)
        cost = _EXACT.fma(self.output, usage.output_tokens, cost)
        return cost.scaleb(-6, _EXACT)


@dataclass(frozen=True, slots=True)
class Rate:
    """What one model costs by one source. The input size of a request chooses the tier, for all its tokens.

    `tiers[0]` is for up to `starts[0]` input tokens, `tiers[i]` for more than `starts[i - 1]`.
    """

    model: str
    source: str
    starts: tuple[int, ...]
    tiers: tuple[TierPrice, ...]

    def tier_of(self, usage: Usage) -> int:
        """Index of the tier in which one request of this usage falls."""
        return bisect_left(self.starts, usage.input_tokens)

    def cost(self, usage: Usage) -> Decimal:
        """Exact USD of one request."""
        return self.tiers[self.tier_of(usage)].cost(usage)

    def upper_bound(self, input_tokens: int, output_tokens: int) -> Decimal:
        """The most, in USD, that a request of up to so many tokens can cost: dearest input, dearest tier."""
        most = Usage(input_tokens, 0, output_tokens, 0, input_tokens + output_tokens)
        reachable = self.tiers[: self.tier_of(most) + 1]
        dearest = ((max(tier.input, tier.cached, tier.cache_write), tier.output) for tier in reachable)
        return max(TierPrice(price, price, price, output).cost(most) for price, output in dearest)


class Quote(NamedTuple):
    """The rate for one line, None if unpriced; `dated` if it may be another one at another time."""

    rate: Rate | None
    dated: bool


class PriceBook:
    """The prices a job knows: those of a price file, and behind them the list of genai-prices."""

    def __init__(self, prices: PriceFile | None = None) -> None:
        self._file = prices
        self._listed: dict[str, ModelInfo | None] = {}
        self._rates: dict[tuple[str, int], Rate | None] = {}  # by name and identity of the listed price

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
            if info := self._find_listed(name):
                return Quote(self._listed_rate(name, info.get_prices(when)), isinstance(info.prices, list))
        return Quote(None, dated=False)

    def _find_listed(self, model: str) -> ModelInfo | None:
        if model not in self._listed:
            import genai_prices

            try:
                self._listed[model] = genai_prices.calc_price(genai_prices.Usage(), model).model
            except LookupError:
                self._listed[model] = None
        return self._listed[model]

    def _listed_rate(self, model: str, price: ModelPrice) -> Rate | None:
        key = (model, id(price))
        if key not in self._rates:
            self._rates[key] = _read_listed(model, price)
        return self._rates[key]


# Endings of prices in the list that fall on a plain request, but not on the tokens a usage tells apart.
_BEYOND_TOKENS = (
    *("requests_kcount", "messages_kcount", "_hours", "_kpages", "_mchars"),
    *("_text_mtok", "_text_read_mtok", "_reasoning_mtok", "_citation_mtok"),
)


def _read_listed(model: str, price: ModelPrice) -> Rate | None:
    """A price of the list as a rate; None unless it is for tokens, and the list itself computes the same."""
    prices = {key: value for key, value in vars(price).items() if value is not None}
    if "input_mtok" not in prices or any(key.endswith(_BEYOND_TOKENS) for key in prices):
        return None
    starts = sorted({tier.start for value in prices.values() for tier in getattr(value, "tiers", ())})
    tiers = []
    for start in (-1, *starts):
        plain = _price_above(prices["input_mtok"], start)
        tiers.append(
            TierPrice(
                input=plain,
                cached=_price_above(prices.get("cache_read_mtok", plain), start),
                cache_write=_price_above(prices.get("cache_write_mtok", plain), start),
                output=_price_above(prices.get("output_mtok", _NOTHING), start),  # embeddings have none
            )
        )
    rate = Rate(model, f"genai-prices {version('genai-prices')}", tuple(starts), tuple(tiers))
    return rate if _agrees(rate, price) else None


def _price_above(price: Decimal | TieredPrices, tokens: int) -> Decimal:
    """The price for requests of more input tokens than that."""
    if isinstance(price, Decimal):
        return price
    return next((tier.price for tier in reversed(price.tiers) if tokens >= tier.start), price.base)


def _agrees(rate: Rate, price: ModelPrice) -> bool:
    """Whether the list charges what the rate does, at the edges of each tier: its meaning is not guessed."""
    import genai_prices

    for size in {0, 1000, *rate.starts, *(start + 1 for start in rate.starts)}:
        usage = Usage(size, size // 2, 1000, 0, size + 1000, size // 4)
        theirs = genai_prices.Usage(
            input_tokens=usage.input_tokens,
            cache_read_tokens=usage.cached_tokens,
            cache_write_tokens=usage.cache_write_tokens,
            output_tokens=usage.output_tokens,
        )
        try:
            if price.calc_price(theirs)["total_price"] != rate.cost(usage):
                return False
        except ValueError:  # the entry itself is broken
            return False
    return True


class PriceFile:
    """A user's prices: model names, or patterns with `*`, each with USD per million tokens.

        ["gpt-4.1"]        # as JSON: {"gpt-4.1": {"input": 2.00, "cached": 0.50, "output": 8.00}}
        input = 2.00
        cached = 0.50      # optional, as is cache_write: the input price where absent
        output = 8.00

    Names match in any case. An exact name wins over patterns, the longest pattern over shorter ones.
    """

    def __init__(self, rates: dict[str, Rate]) -> None:
        self._exact = {name.lower(): rate for name, rate in rates.items() if "*" not in name}
        patterns = sorted((name for name in rates if "*" in name), key=len, reverse=True)
        self._patterns = [(_compile_pattern(name), rates[name]) for name in patterns]

    @classmethod
    def load(cls, path: Path) -> PriceFile:
        """Read and check a price file; UsageError names the file, the entry and what to write instead."""
        entries = _read_document(path)
        if not entries:
            raise UsageError(f"{path}: no prices in it; {_EXAMPLE}")
        return cls({name: _read_entry(path, name, entry) for name, entry in entries.items()})

    def find(self, names: Iterable[str]) -> Rate | None:
        """The rate of the first name that has an exact entry, or else of the first that matches a pattern."""
        lowered = [name.lower() for name in names]
        exact = (self._exact[name] for name in lowered if name in self._exact)
        matching = (rate for name in lowered for pattern, rate in self._patterns if pattern.fullmatch(name))
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
    """A JSON object without repeated keys: neither of two prices is the right one. (TOML forbids them.)"""
    keys = [key for key, _ in pairs]
    if twice := [key for key in keys if keys.count(key) > 1]:
        raise ValueError(f"{twice[0]!r} stands twice; keep one of the two")
    return dict(pairs)


def _read_entry(path: Path, name: str, entry: object) -> Rate:
    """One entry of the price file, as a rate of a single tier."""
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
    return Rate(model=name, source=path.name, starts=(), tiers=(tier,))


def _read_price(where: str, value: object) -> Decimal:
    """A price in USD per million tokens, within bounds that keep every bill exact."""
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise UsageError(f"{where} must be a number without quotes, such as 2.00; it is {value!r}")
    price = Decimal(value)
    if not price.is_finite() or price < 0:
        raise UsageError(f"{where} must be 0 or more USD per million tokens; it is {value}")
    if price > 1_000_000 or price != round(price, 12):
        raise UsageError(f"{where} must be at most 1000000, with at most 12 decimals; it is {value}")
    return price


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

    def bill(self) -> ModelBill:
        usages = [Usage(i, cached, o, reasoning, i + o, w) for i, cached, o, reasoning, w in self.tokens]
        costs = [tier.cost(usage) for tier, usage in zip(self.rate.tiers, usages, strict=True)]
        return ModelBill(self.lines, sum(usages, ZERO), _total(costs))


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

    def add(self, answered: str | None, asked: str | None, usage: Usage | None, when: datetime | None = None) -> None:
        """Add one line: the `model` of its response, that of its request, its usage, and when it was sent."""
        if usage is None:
            self.lines_without_usage += 1
            return
        names = (answered, asked)
        sums = self._known[names] if names in self._known else self._find(answered, asked, when)
        if sums is None:
            model = answered or asked or ""
            self.unpriced_models[model] = self.unpriced_models.get(model, 0) + 1
        else:
            sums.add(usage)

    def _find(self, answered: str | None, asked: str | None, when: datetime | None) -> _Sums | None:
        rate, dated = self._book.quote(answered, asked, when or self._when)
        sums = None
        if rate is not None:
            sums = self._sums.get(rate) or self._sums.setdefault(rate, _Sums(rate))
        if not dated:
            self._known[answered, asked] = sums
        return sums

    @property
    def cost_usd(self) -> Decimal:
        """The exact cost of the priced lines. What the `unpriced_lines` cost is not in it."""
        return _total(sums.bill().cost_usd for sums in self._sums.values())

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
                cost = _total((bill.cost_usd, other.cost_usd))
                bill = ModelBill(bill.lines + other.lines, bill.usage + other.usage, cost)
            bills[rate.model] = bill
        return bills


def usd(amount: Decimal) -> str:
    """An amount for people: `12.35`, `0.05`, `0.000123`; two decimals, or as many as show three digits."""
    places = max(2, 2 - amount.adjusted()) if amount else 2
    rounded = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=100))
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def _total(costs: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    total = _NOTHING
    for cost in costs:
        total = _EXACT.add(total, cost)
    return total
