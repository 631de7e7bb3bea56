"""What `--with` adds to a row beside its label: cost, tokens, latency, model, attempts, id, the raw answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from msgspec import Raw

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import cost_of
from batchrun.datasets.fields import Column, Kind
from batchrun.records.answer import Result
from batchrun.records.rawjson import member
from batchrun.records.result import sum_of_tries


class Extra(StrEnum):
    """What may be added."""

    COST = "cost"
    TOKENS = "tokens"
    LATENCY = "latency"
    MODEL = "model"
    ATTEMPTS = "attempts"
    ID = "id"
    RAW = "raw"


COLUMNS = {
    Extra.COST: (Column("_cost_usd", Kind.NUMBER),),
    Extra.TOKENS: (Column("_input_tokens", Kind.INTEGER), Column("_output_tokens", Kind.INTEGER)),
    Extra.LATENCY: (Column("_latency_s", Kind.NUMBER),),
    Extra.MODEL: (Column("_model"),),
    Extra.ATTEMPTS: (Column("_attempts", Kind.INTEGER),),
    Extra.ID: (Column("_id"),),
    Extra.RAW: (Column("_raw", Kind.JSON),),
}


(_ID,) = COLUMNS[Extra.ID]


class ExtraReader:
    """Reads the values of some extras out of results. `prices` are for the cost."""

    def __init__(self, extras: Sequence[Extra], prices: PriceBook) -> None:
        read: dict[Extra, Callable[[Result], tuple[Any, ...]]] = {
            Extra.COST: lambda result: (_cost_usd(result, prices),),
            Extra.TOKENS: _tokens,
            Extra.LATENCY: lambda result: (result.run.latency_s,),
            Extra.MODEL: lambda result: (result.run.model,),
            Extra.ATTEMPTS: lambda result: (result.run.attempts,),
            Extra.ID: lambda result: (result.custom_id,),
            Extra.RAW: _raw,
        }
        self._readers = [read[extra] for extra in extras]
        self.columns = tuple(column for extra in extras for column in COLUMNS[extra])

    def values(self, result: Result | None, custom_id: str | None = None) -> list[Any]:
        """The values for one result; without one, all None but the id of the request."""
        if result is None:
            return [custom_id if column is _ID else None for column in self.columns]
        return [value for read in self._readers for value in read(result)]

    def folded(self, results: Sequence[Result | None], ids: Sequence[str]) -> list[Any]:
        """The values for the answers to one row together: sums of numbers, lists of everything else."""
        columns = zip(self.columns, *map(self.values, results, ids), strict=True)
        return [_folded(column, [value for value in values if value is not None]) for column, *values in columns]


def _folded(column: Column, values: Sequence[Any]) -> Any:
    if column.kind in (Kind.INTEGER, Kind.NUMBER):
        return sum(values) if values else None
    return list(values)


def _cost_usd(result: Result, prices: PriceBook) -> Decimal | None:
    cost = cost_of(result.run, prices)
    return None if cost is None else cost.normalize()


def _tokens(result: Result) -> tuple[int | None, int | None]:
    if result.run.source is not None:
        return (0, 0)  # nothing was sent: the tokens are those of another line, and on its bill
    usage = sum_of_tries(result.run) if result.run.tries else result.run.usage
    return (None, None) if usage is None else (usage.input_tokens, usage.output_tokens)


def _raw(result: Result) -> tuple[Raw | None]:
    body = member(member(result.record, "response"), "body")
    return (Raw(body) if body else None,)
