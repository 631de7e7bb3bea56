"""The options that say what is scored, how, and against what."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.table_options import DataOptions, data_options
from batchrun.cli.types import FiniteRange, WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.datasets.tables import Source
    from batchrun.evaluation.evaluate import Question
    from batchrun.evaluation.gates import Threshold
    from batchrun.evaluation.judged import JudgeQuestion
    from batchrun.evaluation.rows_file import JUnit, RowSink

RESULTS_OR_JOB = click.Path(exists=True, path_type=Path)  # a result file, or the folder that has it


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
    """What is scored, as the user wrote it. `gold` None: there are no right answers."""

    gold: str | None
    key: str | None
    columns: tuple[str, ...]
    scorers: tuple[str, ...]
    by: str | None
    unanswered: str

    def refuse_without_gold(self) -> None:
        """Raise `UsageError` for options that mean nothing without gold."""
        told = {"--key": self.key, "--gold-column": self.columns, "--score": self.scorers, "--by": self.by}
        if useless := [option for option, value in told.items() if value]:
            raise UsageError(f"{useless[0]} needs --gold FILE")

    def has_gold(self, results: Path) -> bool:
        """Whether there are right answers: named, or those of the job in the folder `results`."""
        from batchrun.labelling.agreement import gold_of_job

        return self.gold is not None or (results.is_dir() and gold_of_job(results) is not None)

    def question(self, results: Path, table: DataOptions, intervals: IntervalOptions | None = None) -> Question:
        """The values; gold is that of the job in the folder `results` where none is named.

        Raises `UsageError` for a bad assignment, a scorer that there is not, or without gold.
        """
        from batchrun.evaluation.evaluate import Question
        from batchrun.evaluation.scorers import scorer_of
        from batchrun.evaluation.verdict import Unanswered
        from batchrun.stats.confusion import SEED

        gold, columns = self._gold(results, table)
        sys.path.append(str(Path.cwd()))  # where a function of the user's own may be
        scorers = assignments("--score", self.scorers, "FIELD=SCORER, such as answer='choice(A-E)'")
        return Question(
            gold=gold,
            key=self.key,
            columns=columns | assignments("--gold-column", self.columns, "FIELD=COLUMN, such as topic=right_topic"),
            scorers={name: scorer_of(text) for name, text in scorers.items()},
            by=self.by,
            cluster=None if intervals is None else intervals.cluster,
            ordinal=() if intervals is None else intervals.ordinal,
            policy=Unanswered(self.unanswered),
            seed=SEED if intervals is None or intervals.seed is None else intervals.seed,
        )

    def _gold(self, results: Path, table: DataOptions) -> tuple[Source, dict[str, str]]:
        """The table of gold, and its columns by field as the job was told."""
        from batchrun.labelling.agreement import gold_of_job

        if self.gold is not None:
            return table.source(self.gold), {}
        found = gold_of_job(results) if results.is_dir() else None
        if found is None:
            raise UsageError("--gold FILE is missing, or --judge FILE with the verdicts of a judge")
        source, columns = found
        return source, dict(columns)

    def table(self, results: Path, table: DataOptions) -> Source | None:
        """The table of gold, or that of the job in the folder `results`; None where there is none."""
        from batchrun.labelling.agreement import gold_of_job

        if self.gold is not None:
            return table.source(self.gold)
        found = gold_of_job(results) if results.is_dir() else None
        return None if found is None else found[0]


@dataclass(frozen=True, slots=True)
class IntervalOptions:
    """What the intervals take into account."""

    cluster: str | None
    ordinal: tuple[str, ...]
    seed: int | None


@dataclass(frozen=True, slots=True)
class JudgedOptions:
    """The verdicts of a judge, where these score in place of gold."""

    judge: Path | None
    passing: str | None
    people: str | None

    def question(
        self, results: Path, scoring: ScoringOptions, table: DataOptions, intervals: IntervalOptions
    ) -> JudgeQuestion | None:
        """The values; None where no judge is named. Raises `UsageError` for options that do not go together."""
        from batchrun.evaluation.asked import results_in
        from batchrun.evaluation.judged import JudgeQuestion
        from batchrun.evaluation.verdict import Unanswered

        if self.judge is None:
            told = {"--pass": self.passing, "--judge-gold": self.people}
            if useless := [option for option, value in told.items() if value]:
                raise UsageError(f"{useless[0]} needs --judge RESULTS")
            return None
        if self.passing is None:
            raise UsageError("--judge needs --pass FIELD=VALUE, such as --pass verdict=pass")
        of_gold = {"--score": scoring.scorers, "--gold-column": scoring.columns, "--ordinal": intervals.ordinal}
        if useless := [option for option, value in of_gold.items() if value]:
            raise UsageError(f"{useless[0]} does nothing with --judge, whose verdicts score; leave one out")
        return JudgeQuestion(
            judge=results_in(self.judge),
            passing=self.passing,
            gold=scoring.table(results, table),
            key=scoring.key,
            people=self.people,
            by=scoring.by,
            cluster=intervals.cluster,
            policy=Unanswered(scoring.unanswered),
        )


@dataclass(frozen=True, slots=True)
class RowFileOptions:
    """Files that get every row with its verdict."""

    csv: Path | None
    junit: Path | None

    def opened(
        self, results: Sequence[Path], gold: Source | None, files: ExitStack
    ) -> tuple[list[RowSink], JUnit | None]:
        """All that take rows, and the one among them that is written last. `results`: all result files that are read.

        Raises `UsageError` for a file that is read, or an ending that tells no format.
        """
        from batchrun.evaluation.rows_file import JUnit, RowTable, refuse_overwriting

        refuse_overwriting([path for path in (self.csv, self.junit) if path is not None], results, gold)
        table = [files.enter_context(RowTable(self.csv))] if self.csv else []
        junit = files.enter_context(JUnit(self.junit)) if self.junit else None
        return [*table, *([junit] if junit else [])], junit


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the figures must reach."""

    thresholds: tuple[str, ...]
    least_row_share: float | None
    base: Path | None
    as_good_base: Path | None
    margin: float | None

    def __post_init__(self) -> None:
        if self.margin is not None and self.as_good_base is None:
            raise UsageError("--margin is for --fail-unless-as-good BASE, which is missing")

    def refuse_bases(self) -> None:
        """Raise `UsageError` for another result file to stand against, whose answers a judge has not judged."""
        if self.base or self.as_good_base:
            option = "--fail-if-worse" if self.base else "--fail-unless-as-good"
            raise UsageError(f"{option} does nothing with --judge, which has not judged the other file; leave one out")

    def bases(self) -> list[tuple[Path, float | None]]:
        """The result files to stand against, each with the margin, None where it is that of `--fail-if-worse`."""
        from batchrun.evaluation.asked import results_in

        found: list[tuple[Path, float | None]] = [(results_in(self.base), None)] if self.base else []
        return found + ([(results_in(self.as_good_base), self.margin or 0.0)] if self.as_good_base else [])

    def parsed(self) -> list[Threshold]:
        """The thresholds. Raises `UsageError` for one that is none."""
        from batchrun.evaluation.gates import threshold

        return list(map(threshold, self.thresholds))


GOLD_OPTIONS = data_options("the table with the right answers")

SCORING = OptionGroup(
    "Files",
    "scoring",
    ScoringOptions,
    (
        Option(
            ["--gold"],
            metavar="FILE",
            type=click.Path(),
            help="Table with the right answers, in any format that prepare reads.",
        ),
        Option(
            ["--key"],
            metavar="COLUMN",
            default_note="custom_id, else as it was prepared",
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
            ["--unanswered"],
            type=click.Choice(("wrong", "exclude")),
            default="wrong",
            help="What rows without an answer count as; eval shows both accuracies either way.",
        ),
    ),
)

INTERVALS = OptionGroup(
    "Files",
    "intervals",
    IntervalOptions,
    (
        Option(
            ["--cluster"],
            metavar="COLUMN",
            help="Column whose equal values belong together, such as a document; widens the intervals.",
        ),
        Option(
            ["--ordinal"],
            metavar="FIELD",
            multiple=True,
            help="Field whose labels stand in the order of its enum, for the ordinal alpha; repeatable.",
        ),
        Option(
            ["--seed"], type=WholeNumber(0), metavar="N", default_note="14", help="Seed of the resampled intervals."
        ),
    ),
)

JUDGED = OptionGroup(
    "Files",
    "judged",
    JudgedOptions,
    (
        Option(
            ["--judge"],
            type=RESULTS_OR_JOB,
            metavar="FILE",
            help="Result file of the requests that `batchrun judge` made; its verdicts score in place of gold.",
        ),
        Option(
            ["--pass", "passing"],
            metavar="FIELD=VALUE",
            help="What the judge says where an answer passes, such as verdict=pass.",
        ),
        Option(
            ["--judge-gold", "people"],
            metavar="COLUMN",
            help="Column of --gold with verdicts of people on some rows: shows how often the judge errs.",
        ),
    ),
)

ROW_FILES = OptionGroup(
    "Files",
    "output_files",
    RowFileOptions,
    (
        Option(
            ["--csv"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Also write every row with its verdict to FILE: .csv, .tsv, .jsonl or .parquet.",
        ),
        Option(
            ["--junit"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            help="Also write rows and thresholds to FILE as JUnit XML.",
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
        Option(
            ["--fail-if-worse", "base"],
            type=RESULTS_OR_JOB,
            metavar="BASE",
            help="Exit with 4 where the whole interval shows a loss against the results in BASE.",
        ),
        Option(
            ["--fail-unless-as-good", "as_good_base"],
            type=RESULTS_OR_JOB,
            metavar="BASE",
            help="Exit with 4 unless a loss against BASE above the margin is ruled out.",
        ),
        Option(
            ["--margin"],
            type=FiniteRange(0, 1),
            metavar="SHARE",
            default_note="0",
            help="The loss of accuracy that --fail-unless-as-good allows, such as 0.01.",
        ),
    ),
)
