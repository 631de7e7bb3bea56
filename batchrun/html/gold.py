"""The part of a page that holds answers against gold: the figures of `evaluation`, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchrun.evaluation.figures import Confusion, Evaluation, FieldFigures, Group, Labels
from batchrun.evaluation.text import ALL_FIELDS, FIGURES, repeats_words, share
from batchrun.evaluation.verdict import Counts, Unanswered, Verdict
from batchrun.html.page import MOST_FIELDS, Table, cut, first_rows, more, most_labels
from batchrun.stats.proportions import Interval

MOST_LABELS = 30
"""Labels whose confusion table is shown; beyond that nobody reads it."""
MOST_ROWS, MOST_CELLS = 40, 2_000
"""Groups and mix-ups of a field, and cells of all confusion tables, that a page shows: it is to be mailed."""
_VERDICTS = (Verdict.RIGHT, Verdict.WRONG, Verdict.UNANSWERED, Verdict.UNSCORED, Verdict.NOT_ASKED)
_POLICIES = {
    Unanswered.WRONG: "Rows without an answer count as wrong.",
    Unanswered.EXCLUDE: "Rows without an answer are left out of the accuracy.",
}


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a confusion table. `shade`: 0 to 4, by its share of its row."""

    count: str
    shade: int
    is_right: bool


@dataclass(slots=True)
class Room:
    """How many more cells a page has room for."""

    cells: int

    def takes(self, cells: int) -> bool:
        """Whether there is room for so many more, which is then taken."""
        if cells > self.cells:
            return False
        self.cells -= cells
        return True


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """Gold by answer. `rows`: the label of gold, and its cells."""

    caption: str
    head: list[str]
    rows: list[tuple[str, list[Cell]]]


@dataclass(frozen=True, slots=True)
class FieldPart:
    """What is shown of one field."""

    title: str
    tables: list[Table]
    confusion: ConfusionTable | None
    mix_ups: Table | None


@dataclass(frozen=True, slots=True)
class GoldPart:
    """What is shown of an evaluation."""

    about: str
    accuracy: Table
    warnings: list[str]
    fields: list[FieldPart]


def gold_part(found: Evaluation) -> GoldPart:
    """The part of a page for an evaluation."""
    about = (
        f"Held against {Path(found.gold).name}. {_POLICIES[found.policy]} Unscored rows have no gold, "
        "and are in no figure. "
        f"Intervals are {found.confidence:.0%}; those of F1, kappa, MCC and alpha are resampled with the seed "
        f"{found.seed}."
    )
    several = len(found.fields) > 1
    rows: list[Sequence[str]] = [
        _accuracy(name, one.counts, one.accuracies.asked, one.accuracies.answered) for name, one in _named(found)
    ]
    rows = first_rows(rows, MOST_FIELDS, "field")
    if several:
        rows.append(_accuracy(ALL_FIELDS, found.counts, found.accuracies.asked, found.accuracies.answered))
    head = ["field", *map(_words, _VERDICTS), "accuracy, unanswered is wrong", "accuracy of the answered"]
    most, room = most_labels(len(found.fields)), Room(MOST_CELLS)
    fields = [_field(name, one, found.policy, most, room) for name, one in islice(found.fields.items(), MOST_FIELDS)]
    have_labels = [one.labels is not None for one in found.fields.values()]
    if any(part.confusion is None and has for part, has in zip(fields, have_labels, strict=False)):
        about += " Confusion tables that are too large for a page are left out."
    if (left := len(found.fields) - len(fields)) > 0:
        about += f" Of {more(left, 'field')} batchrun eval has the figures."
    if several and found.groups:
        fields.append(FieldPart("All fields", [_groups(found.groups)], None, None))
    return GoldPart(about, Table("Rows and accuracy", head, rows), found.warnings, fields)


def _named(found: Evaluation) -> Iterator[tuple[str, FieldFigures]]:
    yield from found.fields.items()


def _words(verdict: Verdict) -> str:
    return verdict.value.replace("_", " ")


def _counts(counts: Counts) -> list[str]:
    return [f"{getattr(counts, verdict.value):,}" for verdict in _VERDICTS]


def _accuracy(name: str, counts: Counts, asked: Interval, answered: Interval) -> list[str]:
    return [name, *_counts(counts), share(asked), share(answered)]


def _groups(groups: dict[str, Group]) -> Table:
    rows = [[name or "(empty)", share(one.accuracy), *_counts(one.counts)] for name, one in groups.items()]
    shown = first_rows(rows, MOST_ROWS, "group")
    return Table("Accuracy by group", ["group", "accuracy", *map(_words, _VERDICTS)], shown)


def _field(name: str, figures: FieldFigures, policy: Unanswered, most: int, room: Room) -> FieldPart:
    tables, confusion, mix_ups = list[Table](), None, None
    if figures.unanswered:
        rows = [[why, f"{count:,}"] for why, count in figures.unanswered.items()]
        tables.append(Table("Unanswered, by why", ["why", "rows"], rows))
    if figures.numbers is not None:
        told = (figures.numbers.mean_absolute_error, figures.numbers.rank_correlation)
        rows = [[what, share(one)] for what, one in zip(("mean absolute error", "rank correlation"), told, strict=True)]
        tables.append(Table("Figures of the answered", ["figure", "value (95% interval)"], rows))
    if figures.labels is not None:
        tables += _label_tables(figures.labels, most)
        confusion = _confusion(figures.labels.confusion, room)
        mix_ups = _mix_ups(figures.labels)
    if figures.groups:
        tables.append(_groups(figures.groups))
    if (repeats := figures.repeats) is not None:
        rows = [["mean", share(repeats.mean)], ["majority vote", share(repeats.majority)]]
        rows += [["rows that flip", share(repeats.flips)]]
        tables.append(Table(repeats_words(repeats, policy), ["figure", "share"], rows))
    return FieldPart(f"{name}: {figures.scorer}, gold in column {figures.column}", tables, confusion, mix_ups)


def _label_tables(labels: Labels, most: int) -> Iterator[Table]:
    overall = [
        [words, share(one)] for name, words in FIGURES.items() if isinstance(one := getattr(labels, name), Interval)
    ]
    yield Table("Figures over all labels", ["figure", "value (95% interval)"], overall)
    rows = [
        [name, share(one.precision), share(one.recall), share(one.f1), f"{one.support:,}", f"{one.answered:,}"]
        for name, one in labels.classes.items()
    ]
    shown = first_rows(rows, most, "label")
    yield Table("Figures by label", ["label", "precision", "recall", "F1", "in gold", "answered"], shown)


def _confusion(found: Confusion, room: Room) -> ConfusionTable | None:
    if len(found.labels) > MOST_LABELS or not room.takes(len(found.labels) ** 2):
        return None
    caption = "Rows by gold (down) and answer (across); right ones are bold and underlined"
    return ConfusionTable(
        caption,
        ["gold \\ answer", *map(cut, found.labels), "unanswered"],
        [
            (cut(label), _cells([*counts, unanswered], at))
            for at, (label, counts, unanswered) in enumerate(
                zip(found.labels, found.cells, found.unanswered, strict=True)
            )
        ],
    )


def _cells(counts: Sequence[int], right: int) -> list[Cell]:
    total = sum(counts) or 1
    return [
        Cell(f"{count:,}", min(4, -(-4 * count // total)) if count else 0, at == right)
        for at, count in enumerate(counts)
    ]


def _mix_ups(labels: Labels) -> Table | None:
    if not labels.mix_ups:
        return None
    rows = first_rows(
        [[one.gold, one.answer, f"{one.count:,}", one.example] for one in labels.mix_ups], MOST_ROWS, "mix-up"
    )
    head = ["gold", "answered with", "rows", "for example"]
    return Table("The most frequent mix-ups", head, rows, (0, 1, 3))
