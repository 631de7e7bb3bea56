"""A prompt or a schema that was edited when a labelling job had answers already."""

from __future__ import annotations

from collections.abc import Mapping

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.prepared import read_prepared
from batchrun.datasets.schema import Schema
from batchrun.errors import UsageError
from batchrun.labelling.paths import LabelPaths
from batchrun.records.money import usd
from batchrun.records.words import counted
from batchrun.report.rebuild import rebuild

Texts = Mapping[str, str]


def refuse_edited(paths: LabelPaths, before: Texts, now: Texts, prices: PriceBook) -> None:
    """Raise `UsageError` if the texts are not those of the answers that are there; it says what these cost."""
    edited = [name for name in {**before, **now} if _is_edited(name, before, now)]
    if not edited or not paths.results.exists():
        return
    report = rebuild(paths.results, prices).report
    answers = report.lines.succeeded + report.lines.failed
    if answers:
        raise UsageError(
            f"the {' and the '.join(edited)} was edited; {counted(answers, 'answer')} from before cost "
            f"${usd(report.cost.total_usd)}. --changed resend sends their rows again, --changed keep keeps them; "
            "nothing was changed"
        )


def _is_edited(name: str, before: Texts, now: Texts) -> bool:
    """Whether a text says something else; of a schema its meaning counts, not how it is written."""
    old, new = before.get(name), now.get(name)
    if name == "schema" and old is not None and new is not None:
        return Schema.parse(old) != Schema.parse(new)
    return old != new


def refuse_other_ids(paths: LabelPaths, columns: list[str], id_column: str | None) -> None:
    """Raise `UsageError` if there are answers, and their rows would have other ids, so that all would be sent.

    `columns`: those that the requests use now; without an `id_column` the ids are made of them.
    """
    before = read_prepared(paths.requests) if paths.results.exists() else None
    if before is None:
        return
    if before.id_column != id_column or (id_column is None and before.columns != columns):
        raise UsageError(
            "the requests use other columns than before, so their rows have other ids and no answer is to one of them; "
            "choose another -o, or pass --overwrite to discard the answers; nothing was changed"
        )
