"""`batchrun label`: from a table to its labels. It is nothing but `prepare`, `run` and `join`."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console, prepare
from batchrun.cli.export_options import FAILED_ROWS, PREFIX, WITH, print_counts
from batchrun.cli.gateway_options import GATEWAY, GatewayOptions
from batchrun.cli.label_words import Begun, LabelVerb
from batchrun.cli.options import (
    CHANGED,
    FAILURES,
    NO_LOCK,
    OVERWRITE,
    RATE,
    SAMPLE,
    SCREEN,
    SENDING,
    SPENDING,
    STREAM,
    FailureOptions,
    PartOptions,
    PilotOptions,
    RateOptions,
    RequestOptions,
    ScreenOptions,
    SendingOptions,
    SpendingOptions,
)
from batchrun.cli.page_options import PageOptions
from batchrun.cli.reask_options import ReaskOptions, reask_group
from batchrun.cli.reuse_options import ReuseOptions, reuse_group
from batchrun.cli.run import (
    REPORT,
    FileOptions,
    RunOptions,
    ask_for_the_rest,
    check_report_target,
    confirm_overwrite,
    make_job,
    run_job,
    run_pilot,
)
from batchrun.cli.table_options import ASK, DATA, DATA_OPTIONS, ROWS, AskOptions, DataOptions, RowOptions
from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError
from batchrun.records.words import printable

if TYPE_CHECKING:
    from batchrun.datasets.output import Wanted
    from batchrun.datasets.recipe import Recipe
    from batchrun.datasets.tables import Source
    from batchrun.job.job import Job
    from batchrun.labelling.job_file import JobFile
    from batchrun.labelling.paths import LabelPaths

_INTERRUPTED = 128  # exit codes from here on are those of signals


@dataclass(frozen=True, slots=True)
class LabelOptions:
    """The table that is written, what is gold, and what happens to the answers that are there already."""

    out: Path
    gold: tuple[str, ...]
    extras: tuple[str, ...]
    prefix: str
    failed_rows: Path | None
    report: Path | None
    changed: str
    overwrite: bool
    no_lock: bool


FILES = OptionGroup(
    "Files",
    "files",
    LabelOptions,
    (
        Option(
            ["-o", "--output", "out"],
            metavar="FILE",
            required=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="Table to write: .csv, .tsv, .jsonl or .parquet. All else is in the folder FILE.job.",
        ),
        Option(
            ["--gold"],
            metavar="[FIELD=]COLUMN",
            multiple=True,
            help="Column of DATA with right answers, of some rows or all: shows how the labels agree; repeatable.",
        ),
        WITH,
        PREFIX,
        FAILED_ROWS,
        REPORT,
        CHANGED,
        OVERWRITE,
        NO_LOCK,
    ),
)


@dataclass(frozen=True, slots=True)
class SentOptions:
    """How requests are sent: whether answers are streamed (None leaves it to the requests); how many rows at all."""

    stream: bool | None
    sample: int | None


SENT = OptionGroup("Request", "sent", SentOptions, (STREAM, SAMPLE))
REUSE = reuse_group(dedup=True)
PREVIEW = OptionGroup(
    "Spending",
    "preview",
    PilotOptions,
    (
        Option(
            ["--preview", "pilot"],
            type=WholeNumber(1),
            default=5,
            metavar="N",
            help="Label a few random rows first, show N of them and what all would cost, and ask.",
        ),
        Option(["--yes"], is_flag=True, help="Go on after the preview without asking."),
    ),
)
REASK = reask_group(1)
GROUPS = (
    *(FILES, DATA_OPTIONS, ROWS, ASK, SENT, GATEWAY, RATE, SENDING, SPENDING, REUSE, PREVIEW, FAILURES, REASK, SCREEN),
)


@click.command("label", cls=LabelVerb, groups=GROUPS)
@click.argument("data", type=DATA)
def command(
    data: str,
    begun: Begun,
    files: LabelOptions,
    data_options: DataOptions,
    rows: RowOptions,
    ask: AskOptions,
    sent: SentOptions,
    gateway: GatewayOptions,
    rate: RateOptions,
    sending: SendingOptions,
    spending: SpendingOptions,
    reuse: ReuseOptions,
    preview: PilotOptions,
    failures: FailureOptions,
    reask: ReaskOptions,
    screen: ScreenOptions,
) -> None:
    """Label every row of DATA, a CSV, TSV, JSONL, JSON, Parquet or Excel file: prepare, run and join in one command.

    A few rows are labelled first and shown; then you are asked. To go on after an interruption, -o alone is enough:
    what was asked is in FILE.job. The exit code is 1 if a row is not ok.

    \b
    Example:
      batchrun label tickets.csv -p @prompt.txt -s @schema.txt --model gpt-4.1-mini -o labelled.csv
    """
    from batchrun.labelling.paths import LabelPaths

    paths = LabelPaths.beside(files.out)
    run_files = FileOptions(str(paths.results), files.report, files.changed, files.overwrite, no_lock=files.no_lock)
    request, part = RequestOptions(None, (), sent.stream, None), PartOptions(None, sent.sample)
    made_of = "DATA, the prompt or the options"
    options = RunOptions(
        *(run_files, request, gateway, rate, part, sending, spending, reuse, preview, failures, reask, screen, made_of),
        page=PageOptions(paths.page),
    )
    texts = ask.texts(begun.texts)
    source, recipe = data_options.source(data), ask.recipe(rows, texts)
    work = _Work(paths, source, recipe, _wanted(files, spending), options, files)
    work.begin(begun, texts)
    sys.exit(work.go_on())


def _wanted(files: LabelOptions, spending: SpendingOptions) -> Wanted:
    from batchrun.cli.export_options import TableOptions

    return TableOptions(files.out, None, files.extras, files.prefix, spending.prices).wanted()


class _Work:
    """One labelling job, from what was checked to its exit code."""

    def __init__(
        self,
        paths: LabelPaths,
        source: Source,
        recipe: Recipe,
        wanted: Wanted,
        options: RunOptions,
        files: LabelOptions,
    ) -> None:
        self._paths, self._source, self._recipe = paths, source, recipe
        self._wanted, self._options, self._files = wanted, options, files
        self._job_file: JobFile

    def begin(self, begun: Begun, texts: dict[str, str]) -> None:
        """Check everything that can be checked before a file is written. Raises `UsageError`."""
        from batchrun.datasets.prepare import used_columns
        from batchrun.evaluation.evaluate import Question
        from batchrun.labelling.agreement import refuse_shown
        from batchrun.labelling.check import check
        from batchrun.labelling.edited import refuse_edited, refuse_other_ids

        if self._recipe.model is None:
            raise UsageError("no model is named; pass --model NAME, such as --model gpt-4.1-mini")
        self._job = make_job(str(self._paths.requests), self._options)
        if self._files.report is not None:
            check_report_target(self._files.report, self._job)
        checked = check(
            self._source, self._recipe, self._wanted, self._paths, self._files.gold, self._files.failed_rows
        )
        used = used_columns(self._source, self._recipe)
        refuse_shown(checked.gold, used)
        if self._job.overwrite:
            confirm_overwrite(self._paths.results)
        else:
            refuse_other_ids(self._paths, used, self._recipe.id_column)
            if begun.before is not None and self._options.files.changed == "refuse":
                refuse_edited(self._paths, begun.before, texts, self._wanted.prices)
        if begun.data_hash not in (None, checked.data_hash):
            console.say("batchrun: the table is not as it was when the job was begun; its new rows are sent")
        self._job_file = begun.job_file(self._source.path, checked.data_hash, texts, checked.gold)
        if begun.is_approved and begun.data_hash == checked.data_hash:
            self._job_file = self._job_file.approved()
            self._options = replace(self._options, pilot=replace(self._options.pilot, yes=True))
        if checked.gold:
            self._options = replace(self._options, gold=Question(self._source, columns=checked.gold))

    def go_on(self) -> int:
        """Do what is left; returns the exit code."""
        with self._paths.held(locks=not self._options.files.no_lock):
            self._job_file.write(self._paths.job)
            self._prepare()
            job = self._job
            with self._agreement() as fact:
                if job.overwrite or not (self._options.pilot.yes and self._paths.results.exists()):
                    self._preview(job, fact)
                    job = replace(job, overwrite=False)
                code = run_job(job, self._options, fact)
            if code >= _INTERRUPTED or not self._paths.results.exists():
                return code
            joined = self._join()
            if not self._options.screen.quiet:
                folder = shlex.quote(str(self._paths.folder))
                console.say(f"look at the rows and correct them: batchrun view {folder} --review 200")
            self._show_figures()
        return code if code >= 2 else joined

    @contextlib.contextmanager
    def _agreement(self) -> Iterator[Callable[[], str]]:
        """How the answers agree with gold while they come, for the bar; "" where there is none."""
        if not self._job_file.gold:
            yield str
            return
        from batchrun.datasets.prepared import read_prepared
        from batchrun.labelling.agreement import Agreement

        prepared = read_prepared(self._paths.requests)
        assert prepared is not None, "it was just written"
        with Agreement(self._source, self._paths.results, prepared, self._job_file.gold) as agreement:
            for warning in agreement.warnings:
                console.say(f"batchrun: warning: {printable(warning)}")
            yield agreement.look

    def _prepare(self) -> None:
        from batchrun.datasets.prepare import prepare as prepare_table
        from batchrun.labelling.preview import first_prompt

        made = prepare_table(self._source, self._recipe, self._paths.requests)
        if not self._options.screen.quiet:
            for line in (*prepare.notes(self._recipe.schema), *prepare.told(made, self._paths.requests)):
                console.say(line)
            console.say("first prompt:")
            for line in first_prompt(self._paths):
                console.say(f"  {line}")

    def _preview(self, job: Job, fact: Callable[[], str]) -> None:
        """Label a few rows, show them, and ask. Raises `StopError` where the others are not to be sent."""
        from batchrun.estimate.estimate import MIN_MEASURED
        from batchrun.labelling.preview import preview

        count = self._options.pilot.pilot or 1
        run_pilot(replace(job, sample=min(max(count, MIN_MEASURED), job.sample or sys.maxsize)), self._options, fact)
        is_of_old_text = self._options.files.changed == "keep"  # then the labels may be to another prompt
        if not is_of_old_text and not self._options.screen.quiet and self._paths.results.exists():
            for asked, label in preview(self._paths, count):
                console.say(f"{asked}\n  {label}")
        if ask_for_the_rest(job, self._options):
            self._job_file.approved().write(self._paths.job)

    def _join(self) -> int:
        from batchrun.datasets.join import Joined, join

        has_votes, failed_rows = self._recipe.repeat > 1, self._files.failed_rows
        joined = Joined(self._source, self._paths.results, self._paths.requests, failed_rows, has_votes)
        return print_counts(join(joined, self._wanted), Path(printable(str(self._wanted.out))))

    def _show_figures(self) -> None:
        """Show how the labels agree with gold, where there is some."""
        from batchrun.evaluation.evaluate import Question, evaluate
        from batchrun.evaluation.text import render_summary

        if not self._job_file.gold or self._options.screen.quiet:
            return
        try:
            found = evaluate(self._paths.results, Question(self._source, columns=self._job_file.gold))
        except UsageError as error:
            console.say(f"batchrun: {error}")
            return
        console.say(render_summary(found))
        console.say(f"all figures: batchrun eval {shlex.quote(str(self._paths.folder))}")
