"""Checks of the values that come in from Python. Each returns the value as it is used, or raises `UsageError`.

A message says which value it is, what it is, and what is expected. None of these checks is for a key: they show values.
A bool is no number here: `True` in the place of a number is a mistake.
"""

from __future__ import annotations

import math
import numbers
import os
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, TypeVar

from batchrun.errors import UsageError

LEAST_USD, MOST_USD = Decimal("1e-9"), Decimal("1e9")
_SHOWN = 60

T = TypeVar("T")


def refused(name: str, value: object, expected: str) -> UsageError:
    """The error for a value that is not what is expected."""
    text = repr(value)
    if len(text) > _SHOWN:
        text = f"{text[:_SHOWN]}…"
    return UsageError(f"{name} is {text} ({type(value).__name__}); write {expected}")


def number(name: str, value: Any, expected: str, *, least: float = 0.0, above: bool = False) -> float:
    """A finite number from `least` on, or above it. `expected` says so in words."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < least or (above and value == least):
        raise refused(name, value, expected)
    return value if type(value) in (int, float) else float(value)


def seconds(name: str, value: Any, *, above: bool = True) -> float:
    """A number of seconds: above 0, or from 0 on."""
    expected = "a number of seconds above 0" if above else "a number of seconds, 0 or more"
    return number(name, value, f"{expected}, such as 30 or 0.5", above=above)


def count(name: str, value: Any, *, least: int | None = 1, most: int | None = None) -> int:
    """A whole number from `least` to `most`; None is no bound."""
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_whole or (least is not None and value < least) or (most is not None and value > most):
        bounds = "" if least is None else f" from {least} on" if most is None else f" from {least} to {most}"
        raise refused(name, value, f"a whole number{bounds}")
    return int(value)


def flag(name: str, value: Any) -> bool:
    """True or False."""
    if not isinstance(value, bool):
        raise refused(name, value, "True or False")
    return value


def text(name: str, value: Any, expected: str) -> str:
    """A string with something in it."""
    if not isinstance(value, str) or not value:
        raise refused(name, value, expected)
    return value


def usd(name: str, value: Any) -> Decimal:
    """An amount of US dollars: a Decimal, a number, or a string such as `20` or `$0.50`. A float is read as written."""
    try:
        is_amount = isinstance(value, (Decimal, int, float, str)) and not isinstance(value, bool)
        amount = Decimal(str(value).removeprefix("$")) if is_amount else Decimal("NaN")
    except InvalidOperation:
        amount = Decimal("NaN")
    if not amount.is_finite() or not LEAST_USD <= amount <= MOST_USD:
        raise refused(name, value, 'an amount of US dollars, such as 20, 0.5, "0.50" or Decimal("0.5")')
    return amount


def path(name: str, value: Any) -> Path:
    """The path of a file: a string or a `Path`."""
    is_path = isinstance(value, (str, os.PathLike)) and isinstance(os.fspath(value), str) and os.fspath(value)
    if not is_path:
        raise refused(name, value, f'the path of a file, such as Path("{name}.jsonl")')
    return Path(value)


def instance(name: str, value: Any, kind: type[T], expected: str) -> T:
    """A value of a class of ours."""
    if not isinstance(value, kind):
        raise refused(name, value, expected)
    return value


def settle(made: object, **values: object) -> None:
    """Give a frozen dataclass, while it is made, the values that were found."""
    for name, value in values.items():
        object.__setattr__(made, name, value)
