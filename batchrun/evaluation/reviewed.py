"""Corrections as gold: what people decided in a review of labels, and how likely each of their rows was drawn.

1. A row counts as many times as it stands for rows that the file had then: 1 by the probability of its drawing.
2. A label that was marked as wrong, where nobody knows the right one, is a row of gold for which no answer is right.
3. Where no row tells how it was drawn, all count alike. Where some do, those that do not are left out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from batchrun.datasets.corrections import Decisions, is_corrections, read_corrections
from batchrun.datasets.row import Row
from batchrun.datasets.tables import Source, Table, open_table
from batchrun.errors import UsageError
from batchrun.evaluation.gold import CUSTOM_ID
from batchrun.evaluation.scorers import NONE_RIGHT
from batchrun.records.words import counted

LEAST_PROBABILITY = 1e-12
"""No file has so many rows that one of them is drawn more rarely; one row would then stand for all."""


@dataclass(frozen=True, slots=True)
class Sample:
    """How the rows of a review were drawn. `weights`: how many rows each row of gold stands for, in their order.

    `drawn`: how many rows by how they were drawn; `left_out`: rows of which that is not known, while it is of others.
    """

    weights: Sequence[float]
    drawn: dict[str, int]
    left_out: int

    @property
    def is_known(self) -> bool:
        """Whether it is known how the rows were drawn."""
        return "picked" not in self.drawn

    @property
    def is_even(self) -> bool:
        """Whether each row stands for as many as any other."""
        return len(set(self.weights)) <= 1


class _Rows:
    """The rows that were decided, as a table of gold."""

    def __init__(self, path: Path) -> None:
        decisions = read_corrections(path)
        if not decisions.by_row:
            raise UsageError(f"{path} has no decisions; make some with batchrun view RESULTS --review N")
        found = {custom_id: _probability(decisions, custom_id) for custom_id in decisions.by_row}
        is_any = any(found.values())
        self._decisions = decisions
        self._ids = [custom_id for custom_id in found if found[custom_id] or not is_any]
        names = dict.fromkeys(chain.from_iterable(decisions.of(custom_id) for custom_id in self._ids))
        self.columns = [CUSTOM_ID, *(name for name in names if name != CUSTOM_ID)]
        drawn = Counter(
            next(iter(decisions.of(custom_id).values())).drawn if is_any else "picked" for custom_id in self._ids
        )
        weights = [1 / (found[custom_id] or 1.0) for custom_id in self._ids]
        self.sample = Sample(weights, {str(how): count for how, count in drawn.items()}, len(found) - len(self._ids))

    def rows(self) -> Iterator[Row]:
        """Each row, with what is right in its fields."""
        for number, custom_id in enumerate(self._ids, 1):
            known = self._decisions.of(custom_id)
            cells: dict[str, Any] = {name: NONE_RIGHT if one.is_wrong else one.to for name, one in known.items()}
            yield Row(number, number, cells | {CUSTOM_ID: custom_id})


def _probability(decisions: Decisions, custom_id: str) -> float | None:
    """With what probability a row was drawn; None where that is not known."""
    told = [one.probability for one in decisions.of(custom_id).values()]
    return next((one for one in told if one is not None and LEAST_PROBABILITY <= one <= 1), None)


@contextmanager
def open_gold(source: Source) -> Iterator[tuple[Table, Sample | None]]:
    """A table of gold, and how its rows were drawn where it is a file of corrections. Raises as `open_table` does."""
    with open_table(source) as table:
        if source.path == "-" or not is_corrections(Path(source.file)):
            yield table, None
        else:
            rows = _Rows(Path(source.file))
            yield table.read_by(rows), rows.sample


def of_sample(sample: Sample) -> Iterator[str]:
    """What must be known of figures of rows that were drawn."""
    if not sample.is_known:
        yield "it is not known how these rows were drawn: the figures are those of these rows alone"
    elif not sample.is_even:
        yield (
            "rows were drawn with different probabilities, by which the accuracies are weighted: they stand for all "
            "rows that the file had when these were drawn; the counts are those of the drawn rows, and figures by "
            "class are left out"
        )
    if sample.left_out:
        yield f"{counted(sample.left_out, 'row')} left out: it is not known with what probability they were drawn"
