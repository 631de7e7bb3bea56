"""Numbers within the bounds of a JSON Schema."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Number = int | float

_SPAN = 100
"""The least width of a range of which the schema gives only one end."""


@dataclass(frozen=True)
class Bounds:
    """A range of numbers; an open end does not belong to it."""

    low: Number
    high: Number
    low_open: bool
    high_open: bool

    @property
    def is_empty(self) -> bool:
        """Whether no number is in the range."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


def bounds_of(schema: dict[str, Any]) -> Bounds:
    """The range that a schema allows; a missing end is chosen so that values are plausible."""
    low, low_open = _end(schema.get("minimum"), schema.get("exclusiveMinimum"), prefer_high=True)
    high, high_open = _end(schema.get("maximum"), schema.get("exclusiveMaximum"), prefer_high=False)
    if low is None:
        low = 0 if high is None or high > 0 else high - max(_SPAN, -high)
    if high is None:
        high = max(_SPAN, low + max(_SPAN, low))
    return Bounds(low, high, low_open, high_open)


def _end(closed: Any, open_end: Any, prefer_high: bool) -> tuple[Number | None, bool]:
    """One end of the range, and whether it is open; of two ends, the tighter one."""
    if isinstance(open_end, bool):
        # In Draft 4 an open end is a flag beside the closed one.
        return closed, open_end
    if closed is None or open_end is None:
        return (closed, False) if open_end is None else (open_end, True)
    closed_is_tighter = closed > open_end if prefer_high else closed < open_end
    return (closed, False) if closed_is_tighter else (open_end, True)


def any_number(bounds: Bounds, rng: random.Random) -> Number:
    """A number within bounds, which must not be empty; with at most two decimals if that is possible."""
    if bounds.low == bounds.high:
        return bounds.low
    drawn = bounds.low + (bounds.high - bounds.low) * rng.uniform(0.05, 0.95)
    rounded = round(drawn, 2)
    return rounded if bounds.low < rounded < bounds.high else drawn


def multiple(step: Number, bounds: Bounds, integer: bool, rng: random.Random) -> Number | None:
    """A multiple of `step` within the bounds; None if 100 draws find none."""
    # The integers among the multiples of 2.5 are the multiples of 5; of 0.01, those of 1.
    stride = Fraction(str(step)).numerator if integer else step
    first, last = int(-(-bounds.low // stride)), int(bounds.high // stride)
    if bounds.low_open and first * stride <= bounds.low:
        first += 1
    if bounds.high_open and last * stride >= bounds.high:
        last -= 1
    for _ in range(100 if first <= last else 0):
        drawn = rng.randint(first, last) * stride
        # A validator that divides floats does not accept 7 * 0.01 as a multiple of 0.01: draw another one.
        if isinstance(step, int) or (drawn / step).is_integer():
            return drawn
    return None
