"""From what was counted to figures. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from batchrun.evaluation.as_text import as_text
from batchrun.evaluation.figures import (
    Accuracy,
    ClassFigures,
    Confusion,
    FieldFigures,
    Group,
    Labels,
    MixUp,
    Numbers,
)
from batchrun.evaluation.repeats import repeats
from batchrun.evaluation.scorers import Kind
from batchrun.evaluation.tally import FieldTally, GroupTally, RowTally
from batchrun.evaluation.verdict import Counts, Unanswered
from batchrun.stats import confusion
from batchrun.stats.confusion import UNANSWERED, Cell, Figure, Resampled, Sums, resample
from batchrun.stats.numbers import mean_absolute_error, rank_correlation, with_interval
from batchrun.stats.proportions import effective_rows, f1_of_class, wilson

MOST_LABELS = 200
"""A field with more different labels than this has no classes: it is free text."""
SHOWN_MIX_UPS = 10
_OVERALL: dict[str, Figure] = {
    "f1_macro": confusion.f1_macro,
    "f1_micro": confusion.f1_micro,
    "f1_weighted": confusion.f1_weighted,
    "balanced_accuracy": confusion.balanced_accuracy,
    "mcc": confusion.mcc,
    "kappa": confusion.kappa,
    "alpha_nominal": confusion.alpha_nominal,
    "alpha_ordinal": confusion.alpha_ordinal,
}


def accuracies(tally: GroupTally) -> Accuracy:
    """Both accuracies, with intervals that know of clusters, or of rows that stand for different numbers of rows."""
    asked, answered = (effective_of(tally, with_unanswered=unanswered) for unanswered in (True, False))
    if not (weights := tally.weights).are_even:
        return Accuracy(
            weights.accuracy(asked, with_unanswered=True), weights.accuracy(answered, with_unanswered=False)
        )
    counts = Counts.of(tally.verdicts)
    return Accuracy(
        wilson(counts.right, counts.asked, asked),
        wilson(counts.right, counts.answered, answered),
    )


def effective_of(tally: GroupTally, *, with_unanswered: bool) -> float | None:
    """As many independent rows the rows are worth, where they come in clusters; None where they do not."""
    clusters = tally.clusters.pairs(with_unanswered=with_unanswered)
    counts = Counts.of(tally.verdicts)
    rows = counts.asked if with_unanswered else counts.answered
    return min(rows, effective_rows(clusters)) if clusters else None


def groups(tally: RowTally, policy: Unanswered) -> dict[str, Group]:
    """The accuracy of each group, in the order of their names, with intervals as those of all rows."""
    return {
        name: Group(Counts.of(group.verdicts), accuracies(group).of(policy))
        for name, group in sorted(tally.groups.items())
    }


def field_figures(tally: FieldTally, policy: Unanswered, order: Sequence[Any] | None, seed: int) -> FieldFigures:
    """The figures of a field. `order`: its labels in their order, where they have one."""
    both, is_even = accuracies(tally), tally.weights.are_even  # figures by class know of no weights
    is_number = tally.field.scorer.kind is Kind.NUMBER
    return FieldFigures(
        column=tally.field.column,
        scorer=tally.field.scorer.name,
        counts=Counts.of(tally.verdicts),
        unanswered=dict(tally.why.most_common()),
        accuracy=both.of(policy),
        accuracies=both,
        labels=_labels(tally, policy, order, seed) if is_even else None,
        numbers=_numbers(tally, seed) if is_even and is_number and tally.keeps_cells else None,
        repeats=repeats(tally.tries.values(), policy),
        groups=groups(tally, policy),
    )


def _numbers(tally: FieldTally, seed: int) -> Numbers:
    answered = {pair: count for pair, count in tally.cells.items() if pair[1] is not None}
    effective = effective_of(tally, with_unanswered=False)
    error, correlation = (
        with_interval(figure, answered, effective=effective, seed=seed)
        for figure in (mean_absolute_error, rank_correlation)
    )
    return Numbers(error, correlation)


# ----------------------------------------------------------------------------------------------------- labels


def has_too_many_labels(tally: FieldTally) -> bool:
    """Whether a field has so many different values that they are no labels."""
    return tally.field.scorer.kind is not Kind.OTHER and (
        not tally.keeps_cells or len(_values(tally)) > MOST_LABELS  # it drops the cells of very many pairs
    )


def _values(tally: FieldTally) -> set[Any]:
    """The labels, as gold writes those that it has."""
    gold, answers = ({pair[side] for pair in tally.cells if pair[side] is not None} for side in (0, 1))
    return gold | answers


def _labels(tally: FieldTally, policy: Unanswered, order: Sequence[Any] | None, seed: int) -> Labels | None:
    values, is_number = _values(tally), tally.field.scorer.kind is Kind.NUMBER
    if not values or has_too_many_labels(tally):
        return None
    if is_number and not all(float(value).is_integer() for value in values):
        return None
    places = {value: place for place, value in enumerate(order or ())}
    is_ordered = order is not None and values <= places.keys()  # else nobody knows the place of some
    ordered = sorted(
        values, key=lambda value: (0 if is_number and not is_ordered else places.get(value, len(places)), value)
    )
    at = {value: number for number, value in enumerate(ordered)}
    cells: dict[Cell, int] = {}
    for (gold, answer), count in tally.cells.items():
        if answer is not None:
            cells[at[gold], at[answer]] = count
        elif policy is Unanswered.WRONG:
            cells[at[gold], UNANSWERED] = count
    names = [as_text(value) or "" for value in ordered]
    effective = effective_of(tally, with_unanswered=policy is Unanswered.WRONG)
    return _label_figures(cells, names, is_number or is_ordered, effective, seed, _mix_ups(tally))


def _label_figures(
    cells: dict[Cell, int], names: list[str], is_ordinal: bool, effective: float | None, seed: int, mixed: list[MixUp]
) -> Labels:
    overall = {name: figure for name, figure in _OVERALL.items() if is_ordinal or name != "alpha_ordinal"}
    drawn: Resampled = resample(cells, len(names), [*overall.values()], effective=effective, seed=seed)
    values = dict(zip(overall, drawn.intervals, strict=True)) | ({} if is_ordinal else {"alpha_ordinal": None})
    sums = Sums(list(cells), [float(count) for count in cells.values()], len(names))
    worth = 1.0 if effective is None or not sums.total else effective / sums.total
    classes = {name: _class(sums, label, worth) for label, name in enumerate(names)}
    every = range(len(names))
    table = Confusion(
        names,
        [[cells.get((gold, answer), 0) for answer in every] for gold in every],
        [cells.get((gold, UNANSWERED), 0) for gold in every],
    )
    return Labels(**values, classes=classes, confusion=table, mix_ups=mixed)  # type: ignore[arg-type]


def _class(sums: Sums, label: int, worth: float) -> ClassFigures:
    """The figures of one class. `worth`: as many independent rows a row is worth."""
    hits, gold, answered = sums.hits[label], sums.gold[label], sums.answered[label]
    return ClassFigures(
        wilson(hits, answered, answered * worth),
        wilson(hits, gold, gold * worth),
        f1_of_class(hits, gold, answered, worth),
        int(gold),
        int(answered),
    )


def _mix_ups(tally: FieldTally) -> list[MixUp]:
    """The most frequent wrong pairs, with an example each."""
    wrong = sorted(tally.examples, key=lambda pair: (-tally.cells[pair], str(pair)))[:SHOWN_MIX_UPS]
    return [
        MixUp(as_text(gold) or "", as_text(answer) or "", tally.cells[gold, answer], tally.examples[gold, answer])
        for gold, answer in wrong
    ]
