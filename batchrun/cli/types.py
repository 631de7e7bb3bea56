"""The types of option values: what may stand after an option, and what it becomes."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from batchrun.errors import UsageError
from batchrun.limits.quotas import LEAST_PER_MINUTE

if TYPE_CHECKING:
    from batchrun.limits.options import Concurrency

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # takes no type arguments before click 8.4


class FiniteRange(click.FloatRange):
    """A range of numbers. NaN and infinity are refused: they pass every comparison, or none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The option's text as a number."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        least = -math.inf if self.min is None else self.min
        most = math.inf if self.max is None else self.max
        if not math.isfinite(number) or not least <= number <= most or (self.min_open and number == least):
            self.fail(f"{value!r} is not {self._expected()}", param, ctx)
        return number

    def _expected(self) -> str:
        if self.min is None:
            return "a number"
        if self.max is not None:
            return f"a number, {self.min:g} to {self.max:g}"
        return f"a number above {self.min:g}" if self.min_open else f"a number, at least {self.min:g}"


class WholeNumber(click.IntRange):
    """A range of whole numbers."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The option's text as an int."""
        try:
            number = int(value)
        except ValueError:
            number = None
        least = self.min or 0
        if number is None or number < least or (self.max is not None and number > self.max):
            bounds = f"at least {least}" if self.max is None else f"{least} to {self.max}"
            self.fail(f"{value!r} is not a whole number, {bounds}", param, ctx)
        return number


class SampleSize(WholeNumber):
    """How many lines are drawn; None, written `all`, is every line."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The option's text as an int, or None."""
        if value == "all":
            return None
        try:
            return super().convert(value, param, ctx)
        except click.UsageError:
            self.fail(f"{value!r} is not a whole number, at least {self.min}, and not all", param, ctx)


class UsdType(_ParamType):
    """`20` or `0.5`: an exact amount of US dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The option's text as a Decimal."""
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not Decimal("1e-9") <= amount <= Decimal("1e9"):
            self.fail(f"{value!r} is not an amount of US dollars, such as 20 or 0.5", param, ctx)
        return amount


class ConcurrencyType(_ParamType):
    """`64`, `auto` or `4-200`."""

    name = "concurrency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Concurrency:
        """The option's text as a `Concurrency`."""
        from batchrun.limits.options import Concurrency

        if isinstance(value, Concurrency):
            return value
        try:
            return Concurrency.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class RateType(FiniteRange):
    """`3000`, or `off`."""

    def __init__(self) -> None:
        super().__init__(LEAST_PER_MINUTE)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The option's text as a number, 0 where it is off."""
        return 0.0 if str(value).lower() == "off" else float(super().convert(value, param, ctx))


class ResultsType(click.Path):
    """A result file, or a directory of results."""

    def __init__(self, *, exists: bool = True) -> None:
        super().__init__(exists=exists, path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The option's text as a path."""
        from batchrun.results.parts import PLAN, is_directory_of_results

        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        if os.path.isdir(path) and not is_directory_of_results(path):  # noqa: PTH112 (pathlib raises for long names)
            self.fail(f"{str(value)!r} is a directory without {PLAN}, and so not one of results", param, ctx)
        return path


class WordsType(_ParamType):
    """`cost,tokens`: some of a few words, each once, in the order in which they are written."""

    name = "words"

    def __init__(self, words: Sequence[str]) -> None:
        self._words = tuple(words)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        """The option's text as its words."""
        if isinstance(value, tuple):
            return value
        found = tuple(word.strip() for word in str(value).split(","))
        for word in found:
            if word not in self._words:
                self.fail(f"{word!r} is none of {', '.join(self._words)}", param, ctx)
        return tuple(dict.fromkeys(found))

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """The words that may follow what is there."""
        start, _, last = incomplete.rpartition(",")
        before = f"{start}," if start else ""
        used = set(start.split(","))
        return [CompletionItem(before + word) for word in self._words if word.startswith(last) and word not in used]
