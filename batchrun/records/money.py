"""Money: exact decimal US dollars, in a context that raises if a digit would be lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import ROUND_HALF_UP, Context, Decimal, DivisionByZero, Inexact, InvalidOperation, Overflow
from itertools import chain

# 60 digits hold 10 million lines of 2**53 tokens at a price of 19 digits; a bill beyond that raises.
EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow])
NOTHING = Decimal(0)


def total_usd(costs: Iterable[Decimal]) -> Decimal:
    """The exact sum, in US dollars. Raises `decimal.Inexact` if it needs more than 60 digits."""
    total = NOTHING
    for cost in costs:
        total = EXACT.add(total, cost)
    return total


def usd_by_endpoint(*parts: Mapping[str, Decimal]) -> dict[str, Decimal]:
    """The exact sums for each endpoint, by name, in US dollars."""
    return {name: total_usd(part.get(name, NOTHING) for part in parts) for name in sorted({*chain(*parts)})}


def usd(amount: Decimal) -> str:
    """An amount for people: `12.35`, `0.05`, `0.000123`; two decimals, or enough to show three digits."""
    places = max(2, 2 - amount.adjusted()) if amount else 2
    rounded = amount.quantize(Decimal(1).scaleb(-places), ROUND_HALF_UP, Context(prec=100))
    whole, _, decimals = f"{rounded:f}".partition(".")
    return f"{whole}.{decimals.rstrip('0'):0<2}"


def usd_for_a_glance(amount: Decimal) -> str:
    """Money for a glance: cents, or two digits where it is less than a dollar."""
    places = 2 if amount >= 1 else 1 - amount.adjusted()
    return usd(round(amount, max(2, places)))
