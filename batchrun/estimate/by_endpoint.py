"""How the lines that are left, and their cost, would divide among several endpoints. Pure.

1. Lines that name their endpoint go there. All others are shared by weight among the endpoints of the lowest tier that
   serve their model, as if each had room and were open.
2. Where an endpoint has prices of its own, the cost at each of them is that of its lines' tokens at its prices: "low"
   prices all input as cached, "likely" and "high" as plain. Otherwise each has its share of the cost of all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.estimate.estimate import EndpointEstimate, Estimate, ModelEstimate
from batchrun.records.usage import Usage
from batchrun.stats.intervals import NONE, Range


@dataclass(frozen=True, slots=True)
class Place:
    """One of several endpoints: its name, its share by weight, its tier, the models that it serves, its own prices."""

    name: str
    weight: float
    tier: int
    serves: Callable[[str], bool]
    book: PriceBook | None = None


def divided(estimate: Estimate, places: Sequence[Place], book: PriceBook) -> Estimate:
    """The estimate with a part for each endpoint; `book` has the prices of those without their own.

    Where they have prices of their own, the cost that is left is the sum of theirs.
    """
    own_prices = any(place.book is not None for place in places)
    parts = {place.name: EndpointEstimate(0, NONE) for place in places}
    models, unpriced = dict(estimate.models), Counter[str]()
    for model, whole in estimate.models.items():
        model_usd = NONE
        for place, lines in _shares(model, whole, places, estimate.named_endpoints).items():
            price = (place.book or book).price(model)
            cost = _cost(whole, price) if own_prices else whole.left_usd
            unpriced[model] += lines if price is None else 0
            part_usd, before = cost.scaled(lines / whole.lines_left), parts[place.name]
            parts[place.name] = EndpointEstimate(before.lines_left + lines, before.left_usd + part_usd)
            model_usd += part_usd
        if own_prices:
            models[model] = msgspec.structs.replace(whole, left_usd=model_usd)
    left_usd = sum((part.left_usd for part in parts.values()), NONE) if own_prices else estimate.left_usd
    spent = float(estimate.spent_usd)
    return msgspec.structs.replace(
        estimate,
        endpoints=parts,
        models=models,
        unpriced_models=dict(+unpriced) if own_prices else estimate.unpriced_models,
        left_usd=left_usd,
        total_usd=left_usd + Range(spent, spent, spent),
    )


def _shares(
    model: str, whole: ModelEstimate, places: Sequence[Place], named: Mapping[str, Mapping[str, int]]
) -> dict[Place, int]:
    """How many of a model's lines that are left go to each endpoint; those with none are left out."""
    serving = [place for place in places if place.serves(model)]
    lowest = min((place.tier for place in serving), default=1)
    first = [place for place in serving if place.tier == lowest]
    shares = {place: named.get(place.name, {}).get(model, 0) for place in places}
    left, weight = whole.lines_left - sum(shares.values()), sum(place.weight for place in first)
    for place in first:
        lines = round(left * place.weight / weight)
        shares[place] += lines
        left, weight = left - lines, weight - place.weight
    return {place: lines for place, lines in shares.items() if lines}


def _cost(whole: ModelEstimate, price: Price | None) -> Range:
    """What all lines of a model that are left would cost at a price, by what the mean line takes."""
    if price is None:
        return Range(None, None, None)

    def cost(tokens: float | None, output: float | None, *, is_cached: bool) -> float | None:
        if tokens is None or output is None:
            return None
        lines = whole.lines_left
        each, out = round(tokens / lines), round(output / lines)
        return lines * float(price.cost(Usage(each, each if is_cached else 0, out, 0, each + out)))

    inputs, outputs = whole.input_tokens, whole.output_tokens
    return Range(
        cost(inputs.low, outputs.low, is_cached=True),
        cost(inputs.likely, outputs.likely, is_cached=False),
        cost(inputs.high, outputs.high, is_cached=False),
    )
