"""When not to trust a figure, in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from batchrun.evaluation.asked import Asked
from batchrun.evaluation.figures import FieldFigures
from batchrun.evaluation.summary import MOST_LABELS
from batchrun.evaluation.tally import FieldTally
from batchrun.evaluation.verdict import Counts
from batchrun.records.words import counted

FEW_ROWS = 10
"""A class with fewer rows of gold has intervals that are too narrow."""
_SHOWN = 5


def not_allowed(tallies: Iterable[FieldTally], asked: Asked) -> Iterator[str]:
    """A warning for each field whose gold has labels that the schema does not allow: no answer can be right."""
    for tally in tallies:
        name, allowed = tally.field.name, set(asked.labels(tally.field.name))
        if not allowed or tally.field.scorer.name != "exact":
            continue
        gold = {label for labels in tally.column.values for label in labels}
        if unknown := sorted(gold - allowed):
            shown = ", ".join(unknown[:_SHOWN]) + (", …" if len(unknown) > _SHOWN else "")
            yield f"{name}: gold has labels that the schema of the requests does not allow: {shown}"


def warnings_for(fields: Mapping[str, FieldFigures], counts: Counts) -> list[str]:
    """The warnings of an evaluation, in the order of its fields."""
    found = []
    for name, figures in fields.items():
        if figures.labels is None:
            continue
        few = {label: one.support for label, one in figures.labels.classes.items() if one.support < FEW_ROWS}
        if few:
            shown = ", ".join(f"{label} ({support})" for label, support in list(few.items())[:_SHOWN])
            more = f" and {len(few) - _SHOWN} more" if len(few) > _SHOWN else ""
            found.append(
                f"{name}: fewer than {FEW_ROWS} rows of gold for {shown}{more}; "
                "the figures by class, and their means, are weak there"
            )
    if counts.not_asked:
        found.append(f"{counted(counts.not_asked, 'row')} of gold not asked: no figure speaks of them")
    for name, figures in fields.items():
        if figures.labels is None and figures.scorer in ("exact", "casefold", "regex"):
            found.append(f"{name}: more than {MOST_LABELS} different labels, so no figures by class")
    return found
