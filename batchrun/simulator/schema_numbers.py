"""Numbers between the bounds of a JSON Schema."""

from __future__ import annotations

import random
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

Number = int | float

_SPAN = 100
"""How far a range reaches that has only one end, at least."""


@dataclass(frozen=True)
class Bounds:
    """A range of numbers; an open end is not part of it."""

    low: Number
    high: Number
    low_open: bool
    high_open: bool

    @property
    def is_empty(self) -> bool:
        """Whether no number at all lies within."""
        return self.low > self.high or (self.low == self.high and (self.low_open or self.high_open))


def bounds_of(schema: dict[str, Any]) -> Bounds:
    """The range that a schema allows; an end that it leaves out is put where most values are plausible."""
    low, low_open = _end(schema.get("minimum"), schema.get("exclusiveMinimum"), prefer_high=True)
    high, high_open = _end(schema.get("maximum"), schema.get("exclusiveMaximum"), prefer_high=False)
    if low is None:
        low = 0 if high is None or high > 0 else high - max(_SPAN, -high)
    if high is None:
        high = max(_SPAN, low + max(_SPAN, low))
    return Bounds(low, high, low_open, high_open)


def _end(closed: Any, open_end: Any, prefer_high: bool) -> tuple[Number | None, bool]:
    """One end of the range and whether it is open; of two ends the tighter."""
    if isinstance(open_end, bool):
        # Draft 4 wrote an open end as a flag beside the closed one.
        return closed, open_end
    if closed is None or open_end is None:
        return (closed, False) if open_end is None else (open_end, True)
    closed_is_tighter = closed > open_end if prefer_high else closed < open_end
    return (closed, False) if closed_is_tighter else (open_end, True)


def any_number(bounds: Bounds, rng: random.Random) -> Number:
    """A number within bounds that are not empty, short where there is room for that."""
    if bounds.low == bounds.high:
        return bounds.low
    drawn = bounds.low + (bounds.high - bounds.low) * rng.uniform(0.05, 0.95)
    rounded = round(drawn, 2)
    return rounded if bounds.low < rounded < bounds.high else drawn


def multiple(step: Number, bounds: Bounds, integer: bool, rng: random.Random) -> Number | None:
    """A multiple of `step` within the bounds, None if a good many draws find none."""
    # Whole multiples of 2.5 are those of 5, of 0.01 those of 1.
    stride = Fraction(str(step)).numerator if integer else step
    first, last = int(-(-bounds.low // stride)), int(bounds.high // stride)
    if bounds.low_open and first * stride <= bounds.low:
        first += 1
    if bounds.high_open and last * stride >= bounds.high:
        last -= 1
    for _ in range(100 if first <= last else 0):
        drawn = rng.randint(first, last) * stride
        # 7 * 0.01 is not a multiple of 0.01 for a validator that divides floats; another draw is.
        if isinstance(step, int) or (drawn / step).is_integer():
            return drawn
    return None
