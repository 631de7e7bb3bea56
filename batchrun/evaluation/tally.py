"""What one field's answers came to, counted while they are read: verdicts, cells, clusters, repeats."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import msgspec

from batchrun.errors import UsageError
from batchrun.evaluation.fields import Answer, Field
from batchrun.evaluation.gold import Column
from batchrun.evaluation.repeats import Tries
from batchrun.evaluation.scorers import Kind, ScorerError, shown, vote
from batchrun.evaluation.verdict import Verdict
from batchrun.stats.proportions import Interval, weighted_share

Pair = tuple[Any, Any]  # what gold says, and what the answer says; None is unanswered
# A name of this module is found in a third of the time that an attribute of an enum takes.
_RIGHT, _WRONG, _UNANSWERED, _UNSCORED = Verdict.RIGHT, Verdict.WRONG, Verdict.UNANSWERED, Verdict.UNSCORED
_AT = {_RIGHT: 0, _WRONG: 1, _UNANSWERED: 2}
MISSING, UNREADABLE = "missing field", "unreadable"
MOST_CELLS = 20_000
"""Different pairs of gold and answer that are kept; a field with more of them has no classes."""


class Judged(msgspec.Struct, frozen=True, gc=False):
    """The verdict on one field of one answer. `why`: for an unanswered one. `pair`: gold and the answer, as read."""

    verdict: Verdict
    why: str = ""
    pair: Pair = (None, None)

    @property
    def said(self) -> str | None:
        """The answer as a person is shown it; None where there is none."""
        return None if self.pair[1] is None else shown(self.pair[1])

    @property
    def vote(self) -> str | None:
        """The answer as repeats of it are counted; None where there is none."""
        return None if self.pair[1] is None else vote(self.pair[1])


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where an answer belongs: its `custom_id`, the `row` of gold (None without one), which `repeat` it is (0: none).

    `group`: the value of the column by which rows are grouped. `cluster`: what its row belongs together with.
    `weight`: how many rows it stands for; None where each stands for itself.
    """

    custom_id: str
    row: int | None
    repeat: int = 0
    group: str | None = None
    cluster: Any = None
    weight: float | None = None


class Clusters:
    """Rows that belong together, as the sums of their weights by what became of them."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Any, list[float]] = {}

    def add(self, key: Any, verdict: Verdict, weight: float = 1.0) -> None:
        """Add one row of a cluster that was asked, which stands for so many."""
        sums = self._found.setdefault(key, [0.0, 0.0, 0.0])
        sums[_AT[verdict]] += weight

    def pairs(self, *, with_unanswered: bool) -> list[tuple[float, float]]:
        """Hits and rows of each cluster; empty where nothing was clustered."""
        return [(right, right + wrong + with_unanswered * none) for right, wrong, none in self._found.values()]


class Weights:
    """Rows that stand for different numbers of rows: by verdict the sum of these numbers, and that of their squares."""

    __slots__ = ("_least", "_most", "_sums")

    def __init__(self) -> None:
        self._sums: dict[Verdict, tuple[float, float]] = {}
        self._least, self._most = math.inf, 0.0

    @property
    def are_even(self) -> bool:
        """Whether each row stands for as many as any other."""
        return self._most <= self._least

    def add(self, verdict: Verdict, weight: float) -> None:
        """Count one row that was asked."""
        total, squares = self._sums.get(verdict, (0.0, 0.0))
        self._sums[verdict] = total + weight, squares + weight**2
        self._least, self._most = min(self._least, weight), max(self._most, weight)

    def accuracy(self, effective: float | None, *, with_unanswered: bool) -> Interval:
        """The share of right rows among all for which these stand. `effective`: as for `weighted_share`."""
        counted = [_RIGHT, _WRONG, *([_UNANSWERED] if with_unanswered else [])]
        sums = [self._sums.get(verdict, (0.0, 0.0)) for verdict in counted]
        total, squares = (sum(kind) for kind in zip(*sums, strict=True))
        return weighted_share(sums[0][0], total, squares, effective)


class GroupTally:
    """Verdicts on some rows, and which of these rows belong together or stand for several."""

    __slots__ = ("clusters", "verdicts", "weights")

    def __init__(self) -> None:
        self.verdicts: Counter[Verdict] = Counter()
        self.clusters = Clusters()
        self.weights = Weights()

    def weigh(self, verdict: Verdict, place: Place) -> None:
        """Note where a row that was asked belongs."""
        if place.weight is not None:
            self.weights.add(verdict, place.weight)
        if place.cluster is not None:
            self.clusters.add(place.cluster, verdict, 1.0 if place.weight is None else place.weight)


class RowTally(GroupTally):
    """Verdicts on whole rows, on all of them and by group."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: dict[str, GroupTally] = {}
        self.tries: dict[int, Tries] = {}

    @property
    def records(self) -> int:
        """How many rows have a record."""
        return self.verdicts.total() - self.verdicts[Verdict.NOT_ASKED]

    def count(self, verdict: Verdict, group: str | None, times: int = 1) -> None:
        """Count a verdict, and in its group."""
        self.verdicts[verdict] += times
        if group is not None:
            self._group(group).verdicts[verdict] += times

    def _group(self, name: str) -> GroupTally:
        found = self.groups.get(name)
        if found is None:
            found = self.groups[name] = GroupTally()
        return found

    def add(self, verdict: Verdict, said: str | None, place: Place, label: Any = None) -> None:
        """Add an answer, by what it `said` as a text. `label`: that of gold which it stands for."""
        group = None if place.group is None else self._group(place.group)
        self.verdicts[verdict] += 1
        if group is not None:
            group.verdicts[verdict] += 1
        if verdict is _UNSCORED:
            return
        if place.weight is not None or place.cluster is not None:
            self.weigh(verdict, place)
            if group is not None:
                group.weigh(verdict, place)
        if place.repeat and place.row is not None:
            self.tries.setdefault(place.row, Tries(place.cluster)).said.append((said, verdict is _RIGHT, label))


class FieldTally(RowTally):
    """Verdicts on one field, and what was said where."""

    def __init__(self, told: Field, column: Column) -> None:
        super().__init__()
        self.field, self.column = told, column
        self.why: Counter[str] = Counter()
        self.cells: Counter[Pair] = Counter()
        self.examples: dict[Pair, str] = {}
        self.keeps_cells = told.scorer.kind is not Kind.OTHER

    def judge(self, said: Answer, row: int | None) -> Judged:
        """The verdict on the field of an answer."""
        gold = None if row is None else self.column.at(row)
        if gold is None:
            return Judged(_UNSCORED)
        meant = gold[0] if gold else None  # of a label that was marked as wrong, nobody knows the right one
        value = None if said.why else self.field.read(said)
        if value is None:
            return Judged(_UNANSWERED, said.why or MISSING, (meant, None))
        scorer = self.field.scorer
        answer = scorer.read_answer(value)
        if answer is None:
            return Judged(_UNANSWERED, UNREADABLE, (meant, None))
        verdict, is_doubtful = _WRONG, False
        for one in gold:
            try:
                is_right = scorer.is_right(one, answer)
            except ScorerError as error:
                custom_id = said.result.custom_id[:60] if said.result is not None else ""
                raise UsageError(f"the field {self.field.name} of {custom_id!r} cannot be scored: {error}") from error
            if is_right:
                verdict, meant = _RIGHT, one
                break
            is_doubtful |= is_right is None
        if is_doubtful and verdict is _WRONG:  # of several right answers, one may be meant and none is for certain
            return Judged(_UNANSWERED, UNREADABLE, (meant, None))
        return Judged(verdict, "", (meant, answer))

    def take(self, judged: Judged, place: Place) -> None:
        """Count what `judge` found."""
        self.add(judged.verdict, judged.vote if place.repeat else None, place, judged.pair[0])
        if judged.verdict is _UNSCORED:
            return
        if judged.why:
            self.why[judged.why] += 1
        if self.keeps_cells and judged.pair[0] is not None:
            self._keep(judged, place.custom_id)

    def _keep(self, judged: Judged, custom_id: str) -> None:
        self.cells[judged.pair] += 1
        if judged.verdict is _WRONG and judged.pair not in self.examples:
            self.examples[judged.pair] = custom_id
        if len(self.cells) > MOST_CELLS:
            self.keeps_cells = False
            self.cells.clear()
            self.examples.clear()
