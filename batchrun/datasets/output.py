"""The rows that `export` and `join` write: the cells that are there, the label, its status, what `--with` adds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, count
from pathlib import Path
from typing import Any

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.extras import Extra, ExtraReader
from batchrun.datasets.fields import Column, refuse_clash
from batchrun.datasets.labels import Label, RowStatus
from batchrun.datasets.writers import check_ending
from batchrun.errors import UsageError
from batchrun.records.answer import Result
from batchrun.results.paths import ResultPaths, are_one

STATUS, ERROR = Column("_status"), Column("_error")


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is written where. `out`: the table; `extras`: what `--with` adds; `prefix`: before the new names.

    `prices`: for the cost. `notice`: is told what somebody should know.
    """

    out: Path
    extras: tuple[Extra, ...] = ()
    prefix: str = ""
    prices: PriceBook = field(default_factory=PriceBook)
    notice: Callable[[str], None] = lambda text: None


class NewColumns:
    """The columns that are new in a table, and their values in a row.

    `given` are the columns that are there, `told` those of the label. Raises `UsageError` where two of them
    have one name.
    """

    def __init__(self, given: Sequence[Column], told: Sequence[Column], wanted: Wanted) -> None:
        self._extras = ExtraReader(wanted.extras, wanted.prices)
        new = (*told, STATUS, ERROR, *self._extras.columns)
        self.columns = tuple(replace(column, name=wanted.prefix + column.name) for column in new)
        refuse_clash(
            [column.name for column in (*given, *self.columns)],
            "two columns would be named",
            "write --prefix NAME_ to name the new ones apart",
        )

    def values(self, told: Sequence[Any], label: Label, result: Result | None, custom_id: str | None) -> list[Any]:
        """The values of one row; `told` are those of the label. `custom_id` None: the row was not asked."""
        return [*told, label.status.value, label.error or None, *self._extras.values(result, custom_id)]

    def folded(
        self, told: Sequence[Any], label: Label, results: Sequence[Result | None], ids: Sequence[str]
    ) -> list[Any]:
        """The values of one row that was asked several times."""
        return [*told, label.status.value, label.error or None, *self._extras.folded(results, ids)]


def prefix_apart(given: Sequence[str], told: Sequence[str]) -> str:
    """What the new columns begin with so that none is named as a `given` one; "" where nothing is needed.

    `told` are the columns of the label.
    """
    new = [*told, STATUS.name, ERROR.name]
    prefixes = chain(("", "new_"), (f"new{number}_" for number in count(2)))
    return next(prefix for prefix in prefixes if not {prefix + name for name in new} & {*given})


@dataclass(slots=True)
class Counts:
    """How the rows went. `fenced`: answers out of which a code fence was taken."""

    by_status: Counter[RowStatus] = field(default_factory=Counter)
    fenced: int = 0

    def add(self, label: Label) -> None:
        """Count one row."""
        self.by_status[label.status] += 1
        self.fenced += label.was_fenced

    @property
    def are_all_ok(self) -> bool:
        """Whether there is no row that is not ok."""
        return self.by_status[RowStatus.OK] == self.by_status.total()

    def __str__(self) -> str:
        """In words, what is 0 left out: `9,981 ok, 12 invalid, 7 failed`."""
        counts = [(status, self.by_status[status]) for status in RowStatus]
        return ", ".join(f"{count:,} {status}" for status, count in counts if count or status is RowStatus.OK)


def check_outputs(out: Path, failures: Path | None, results: Path, read: Sequence[tuple[str, Path]]) -> None:
    """Check where the table, and the rows that are not ok, would be written. Raises `UsageError`."""
    check_ending(out)
    refuse_overwriting(out, results, read)
    if failures is not None:
        check_ending(failures)
        refuse_overwriting(failures, results, [*read, ("the joined table", out)], "those rows (--failures)")


def refuse_overwriting(
    out: Path, results: Path, read: Sequence[tuple[str, Path]], written: str = "the table (-o)"
) -> None:
    """Raise `UsageError` if what is `written` would stand over a file of the job, or over one that is read."""
    paths = ResultPaths.of(results)
    for what, path in [*((use, own) for own, use in paths.uses().items()), ("the report", paths.report), *read]:
        if are_one(out, path):
            raise UsageError(f"{out} is {what}; choose another file for {written}")
