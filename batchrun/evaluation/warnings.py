"""When not to trust a figure, in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from batchrun.datasets.lookup import RecordFile
from batchrun.evaluation.as_text import as_text
from batchrun.evaluation.asked import Asked
from batchrun.evaluation.figures import FieldFigures
from batchrun.evaluation.scorers import Kind
from batchrun.evaluation.summary import MOST_LABELS, has_too_many_labels
from batchrun.evaluation.tally import FieldTally
from batchrun.evaluation.text import label_of
from batchrun.evaluation.verdict import Counts, Unanswered
from batchrun.records.words import counted

FEW_ROWS = 10
"""A class with fewer rows of gold has intervals that are too narrow."""
_SHOWN = 5
_MOST_COLUMNS = 20


def damaged(file: RecordFile) -> Iterator[str]:
    """A warning where damaged lines do not tell whose records they were; after the file was read."""
    if unknown := file.damaged - len(file.damaged_ids):
        yield (
            f"{counted(unknown, 'damaged line')} without an id that can be read: what was asked there counts as not "
            "asked, unless it has another record"
        )


def copied(answers: int, what_to_do: str = "") -> Iterator[str]:
    """A warning where answers stand for several rows: then intervals take these for more than they tell."""
    if answers:
        yield (
            f"{counted(answers, 'answer')} copied from equal requests: right or wrong together with their originals, "
            f"so the intervals are too narrow{what_to_do}"
        )


def without_place(orders: Mapping[str, Sequence[Any]], fields: Mapping[str, FieldFigures]) -> Iterator[str]:
    """A warning for each ordinal field with labels that are not in its enum: nobody knows their place."""
    for name, order in orders.items():
        labels = fields[name].labels
        if labels is not None and labels.alpha_ordinal is None:
            known = set(map(as_text, order))
            unknown = [label for label in labels.classes if label not in known]
            yield f"{name}: no ordinal alpha, as the order of the enum has no place for {_listed(unknown)}"


def _listed(labels: Sequence[str], most: int = _SHOWN) -> str:
    """The first labels, shortened."""
    return ", ".join(map(label_of, labels[:most])) + (", …" if len(labels) > most else "")


def not_allowed(tallies: Iterable[FieldTally], asked: Asked) -> Iterator[str]:
    """A warning for each field whose gold has labels that the schema does not allow: no answer can be right."""
    for tally in tallies:
        name, labels = tally.field.name, asked.labels(tally.field.name)
        if not labels or tally.field.scorer.name != "exact":
            continue
        allowed = set(map(tally.field.scorer.read_gold, labels))
        gold = {label for right in tally.column.values for label in right}
        if unknown := sorted(gold - allowed):
            yield f"{name}: gold has labels that the schema of the requests does not allow: {_listed(unknown)}"


def not_scored(columns: Sequence[str], asked: Asked, table: str, results: Path) -> Iterator[str]:
    """A warning where gold has columns that no answer names and no schema tells whether these are fields."""
    used = () if asked.prepared is None else (*asked.prepared.columns, asked.prepared.id_column)
    if asked.schema is not None or not (left := [name for name in columns if name not in used]):
        return
    why = "the requests have no schema" if asked.is_found else f"no request file with a schema was found for {results}"
    yield (
        f"{table}: no answer has {_listed(left, _MOST_COLUMNS)}, so not scored; {why}, which would say whether "
        f"that is a field; if it is one, --score {label_of(left[0])}=exact counts rows without it as unanswered"
    )


def _further_repeats(tally: FieldTally, policy: Unanswered) -> Counter[Any]:
    """By label of gold: repeats that count for it and are no further rows, as their row has one."""
    found = Counter[Any]()
    for tries in tally.tries.values():
        labels = Counter(label for _, _, label in tries.of(policy).said if label is not None)
        for label, count in labels.items():
            found[label] += count - 1
    return found


def warnings_for(
    tallies: Sequence[FieldTally],
    fields: Mapping[str, FieldFigures],
    counts: Counts,
    policy: Unanswered,
    repeats_not_asked: int,
) -> list[str]:
    """The warnings of an evaluation, in the order of its fields.

    `repeats_not_asked`: how many of what was not asked are repeats, and no rows.
    """
    found = []
    for tally in tallies:
        name = tally.field.name
        if (labels := fields[name].labels) is None:
            continue
        further, read = _further_repeats(tally, policy), tally.field.scorer.read_gold
        rows = {label: one.support - further[read(label)] for label, one in labels.classes.items()}
        if few := {label: count for label, count in rows.items() if count < FEW_ROWS}:
            shown = ", ".join(
                f"{label_of(label) or '(empty)'} ({count})" for label, count in list(few.items())[:_SHOWN]
            )
            more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
            found.append(
                f"{name}: fewer than {FEW_ROWS} rows of gold for {shown}{more}; "
                "the figures by class, and their means, are weak there"
            )
    repeats = next((figures.repeats for figures in fields.values() if figures.repeats is not None), None)
    if counts.not_asked:
        rows_not_asked = counts.not_asked - repeats_not_asked
        parts = [f"{counted(rows_not_asked, 'row')} of gold"] if rows_not_asked else []
        parts += [counted(repeats_not_asked, "repeat")] if repeats_not_asked else []
        found.append(f"{' and '.join(parts)} not asked: no figure speaks of them")
    if repeats is not None and repeats.least < repeats.most and not repeats_not_asked:
        found.append(f"not every row has {repeats.most:,} repeats that count: pass@k is shown up to {repeats.least:,}")
    for tally in tallies:
        if has_too_many_labels(tally) and tally.weights.are_even and tally.field.scorer.kind is not Kind.NUMBER:
            found.append(f"{tally.field.name}: more than {MOST_LABELS} different labels, so no figures by class")
    return found
