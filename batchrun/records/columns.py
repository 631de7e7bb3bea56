"""Records of a result file by their fields: what several readers of the same records want is made once.

Going over some records for one field takes a hundredth of the time that reading them does; and there are many fields.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import astuple

from batchrun.records.outcome import Outcome
from batchrun.records.result import ResultHead
from batchrun.records.usage import Usage


class Kind(NamedTuple):
    """What nearly all records of a run have in common; records of one kind are added together."""

    requested_model: str
    answered: str | None
    started: str
    outcome: Outcome
    error_code: str | None
    service_tier: str | None
    source: str | None
    endpoint: str | None


class Usages:
    """The usages of some lines, None for a line without (`lines`); those that there are (`told`), by field as well."""

    __slots__ = ("cache_write", "cached", "input", "lines", "output", "reasoning", "told", "tool_calls", "total")

    input: Sequence[int]
    cached: Sequence[int]
    output: Sequence[int]
    reasoning: Sequence[int]
    total: Sequence[int]
    cache_write: Sequence[int]
    tool_calls: Sequence[dict[str, int] | None]

    def __init__(self, usages: Sequence[Usage | None]) -> None:
        self.lines = usages
        self.told = told = [usage for usage in usages if usage is not None]
        fields = zip(*map(astuple, told), strict=True) if told else [()] * len(Usage.__struct_fields__)
        self.input, self.cached, self.output, self.reasoning, self.total, self.cache_write, self.tool_calls = fields

    @property
    def has_tool_calls(self) -> bool:
        """Whether any of them has calls of paid tools."""
        return self.tool_calls.count(None) < len(self.told)


class Columns:
    """Some records by their fields, in their order; there must be some.

    `kind`: what all have in common; None where they are of several kinds. `tried`: those that were asked again.
    """

    __slots__ = ("attempts", "elapsed_s", "heads", "is_clean", "kind", "numbers", "runs", "tried", "usages")

    def __init__(self, heads: Sequence[ResultHead]) -> None:
        self.heads = heads
        self.runs = runs = [head.run for head in heads]
        self.is_clean = [head.error for head in heads].count(None) == len(heads)
        self.kind = self._common_kind()
        self.numbers = [run.line for run in runs]
        self.attempts = [run.attempts for run in runs]
        self.elapsed_s = [run.elapsed_s for run in runs]
        self.tried = [run for run in runs if run.tries]
        self.usages = Usages([run.usage for run in runs])

    def _common_kind(self) -> Kind | None:
        """The kind of all, which nearly always is one; comparing takes a third of the time that hashing does."""
        runs, count = self.runs, len(self.runs)
        told = [
            (run.requested_model, run.model, run.started, run.outcome, run.service_tier, run.endpoint) for run in runs
        ]
        first = Kind(*_kind(self.heads[0]))
        sources = [run.source for run in runs]
        if first.source is None:
            is_same_source = sources.count(None) == count
        else:
            is_same_source = sum([one.kind == first.source for one in sources if one is not None]) == count
        is_one = is_same_source and told.count(told[0]) == count
        if is_one and not self.is_clean:
            is_one = {head.error.code if head.error is not None else None for head in self.heads} == {first.error_code}
        return first if is_one else None

    def by_kind(self) -> Iterable[tuple[Kind, Columns]]:
        """The records by their kind."""
        if self.kind is not None:
            return [(self.kind, self)]
        alike: defaultdict[tuple[Any, ...], list[ResultHead]] = defaultdict(list)
        for head in self.heads:
            alike[_kind(head)].append(head)
        return [(Kind(*kind), Columns(found)) for kind, found in alike.items()]


def _kind(head: ResultHead) -> tuple[Any, ...]:
    """The fields of a `Kind`; a plain tuple takes a third of the time."""
    run, error, source = head.run, head.error, head.run.source
    return (
        run.requested_model,
        run.model,
        run.started,
        run.outcome,
        None if error is None else error.code,
        run.service_tier,
        None if source is None else source.kind,
        run.endpoint,
    )
