"""When not to trust a figure, in words."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.evaluation.figures import FieldFigures
from batchrun.evaluation.summary import MOST_LABELS
from batchrun.evaluation.verdict import Counts
from batchrun.records.words import counted

FEW_ROWS = 10
"""A class with fewer rows of gold has intervals that are too narrow."""
_SHOWN = 5


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
