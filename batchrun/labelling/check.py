"""What is refused before a labelling job writes or sends anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from batchrun.datasets.fields import Column, columns_of
from batchrun.datasets.output import NewColumns, Wanted, check_outputs
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.tables import Source, open_table
from batchrun.datasets.votes import vote_columns
from batchrun.errors import UsageError
from batchrun.labelling.agreement import gold_columns
from batchrun.labelling.paths import LabelPaths


@dataclass(frozen=True, slots=True)
class Checked:
    """What was found out: the hash of the table, and by field the column that has its right answers."""

    data_hash: str
    gold: Mapping[str, str]


def check(
    source: Source,
    recipe: Recipe,
    wanted: Wanted,
    paths: LabelPaths,
    gold: Sequence[str] = (),
    failures: Path | None = None,
) -> Checked:
    """Look at the table, of which `gold` says what is gold, and see that its labels can be written beside its columns.

    `failures`: where the rows that are not ok are to be written.

    Raises `UsageError` where they cannot, and for a table that cannot be read twice; `InputError` for its header.
    """
    if source.path == "-":
        raise UsageError("the table is read several times, so it cannot be standard input; name a file")
    check_outputs(wanted.out, failures, paths.results, [("the table that is read", Path(source.file))])
    encoded = orjson.dumps(recipe.schema.schema) if recipe.schema is not None else None
    fields = columns_of(encoded)
    with open_table(source) as table:
        given = [Column(name) for name in table.columns]
        NewColumns(given, vote_columns(fields) if recipe.repeat > 1 else fields, wanted)
        found = gold_columns(gold, [field.name for field in fields], table.columns)
        return Checked(table.digest(), found)
