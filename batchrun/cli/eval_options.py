"""The options that say what is scored, how, and against what."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.types import FiniteRange, WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.evaluation.evaluate import Question
    from batchrun.evaluation.gates import Threshold


def assignments(option: str, told: tuple[str, ...], example: str) -> dict[str, str]:
    """`FIELD=VALUE` of each. Raises `UsageError` for one without both, or a field that is told twice."""
    found: dict[str, str] = {}
    for text in told:
        name, equals, value = text.partition("=")
        if not name or not equals or not value:
            raise UsageError(f"{option} {text}: write {example}")
        if name in found:
            raise UsageError(f"{option} {text}: {name} is told twice")
        found[name] = value
    return found


@dataclass(frozen=True, slots=True)
class ScoringOptions:
    """What is scored, as the user wrote it."""

    gold: str
    key: str | None
    columns: tuple[str, ...]
    scorers: tuple[str, ...]
    by: str | None
    cluster: str | None
    unanswered: str
    seed: int | None

    def question(self) -> Question:
        """The values. Raises `UsageError` for a bad assignment, or a scorer that there is not."""
        from batchrun.datasets.tables import Source
        from batchrun.evaluation.evaluate import Question
        from batchrun.evaluation.scorers import scorer_of
        from batchrun.evaluation.verdict import Unanswered
        from batchrun.stats.confusion import SEED

        sys.path.append(str(Path.cwd()))  # where a function of the user's own may be
        scorers = assignments("--score", self.scorers, "FIELD=SCORER, such as answer='choice(A-E)'")
        return Question(
            gold=Source(self.gold),
            key=self.key,
            columns=assignments("--gold-column", self.columns, "FIELD=COLUMN, such as topic=right_topic"),
            scorers={name: scorer_of(text) for name, text in scorers.items()},
            by=self.by,
            cluster=self.cluster,
            policy=Unanswered(self.unanswered),
            seed=SEED if self.seed is None else self.seed,
        )


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the figures must reach."""

    thresholds: tuple[str, ...]
    least_row_share: float | None

    def parsed(self) -> list[Threshold]:
        """The thresholds. Raises `UsageError` for one that is none."""
        from batchrun.evaluation.gates import threshold

        return list(map(threshold, self.thresholds))


SCORING = OptionGroup(
    "Files",
    "scoring",
    ScoringOptions,
    (
        Option(
            ["--gold"],
            metavar="FILE",
            required=True,
            type=click.Path(),
            help="Table with the right answers: CSV, TSV, JSON lines or a JSON array.",
        ),
        Option(
            ["--key"],
            metavar="COLUMN",
            default_note="custom_id",
            help="Column of the table that holds the custom_id of each request.",
        ),
        Option(
            ["--gold-column", "columns"],
            metavar="FIELD=COLUMN",
            multiple=True,
            help="Column with the right values of a field, where it is named otherwise; repeatable.",
        ),
        Option(
            ["--score", "scorers"],
            metavar="FIELD=SCORER",
            multiple=True,
            default_note="by the values of the field",
            help="How a field is scored; the field of a plain text is named answer; repeatable.",
        ),
        Option(["--by"], metavar="COLUMN", help="Show the accuracy for each value of a column of the table."),
        Option(
            ["--cluster"],
            metavar="COLUMN",
            help="Column whose equal values belong together, such as a document; widens the intervals.",
        ),
        Option(
            ["--unanswered"],
            type=click.Choice(("wrong", "exclude")),
            default="wrong",
            help="What rows without an answer count as; both accuracies are shown either way.",
        ),
        Option(
            ["--seed"], type=WholeNumber(0), metavar="N", default_note="14", help="Seed of the resampled intervals."
        ),
    ),
)

GATES = OptionGroup(
    "Failures",
    "gates",
    GateOptions,
    (
        Option(
            ["--fail-under", "thresholds"],
            metavar="FIGURE=NUMBER",
            multiple=True,
            help="Exit with 4 where a figure is below: accuracy=0.9, or 'lower(topic.f1_macro)=0.85'; repeatable.",
        ),
        Option(
            ["--fail-row-under", "least_row_share"],
            type=FiniteRange(0, 1),
            metavar="SHARE",
            help="Exit with 4 where of any row's repeats a smaller share is right.",
        ),
    ),
)
