"""`batchrun view`: results on a local page, to look at, search and compare with what is right."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
import webbrowser
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli import console
from batchrun.cli.eval_options import GOLD_OPTIONS, RESULTS_OR_JOB, SCORING, ScoringOptions
from batchrun.cli.options import PATH, PRICES, PriceOptions
from batchrun.cli.table_options import DataOptions
from batchrun.cli.types import FiniteRange, WholeNumber
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import InputError, ResultFileError, UsageError
from batchrun.records.words import counted

if TYPE_CHECKING:
    from batchrun.evaluation.asked import Asked
    from batchrun.viewer.facts import FactsReader
    from batchrun.viewer.gold import Judge
    from batchrun.viewer.guard import Guard
    from batchrun.viewer.index import Index
    from batchrun.viewer.prompts import Requests
    from batchrun.viewer.review import Review, ReviewOptions
    from batchrun.viewer.second import Second
    from batchrun.viewer.table import DataTable


@dataclass(frozen=True, slots=True)
class JobTable:
    """The table of a labelling job, and what the names of its new columns begin with, as far as they are known."""

    path: Path | None = None
    prefix: str = ""

    @classmethod
    def of(cls, folder: Path) -> JobTable:
        """The table that the folder of a job tells of, if it is one. Raises `UsageError` for a damaged job file."""
        from batchrun.labelling.job_file import JobFile
        from batchrun.labelling.paths import LabelPaths

        job = JobFile.read(LabelPaths(folder).job) if folder.is_dir() else None
        if job is None:
            return cls()
        prefix = next((word.removeprefix("--prefix=") for word in job.options if word.startswith("--prefix=")), "")
        path, short = Path(job.directory, job.data), Path(job.data)
        if not path.is_file():
            return cls(None, prefix)
        return cls(short if short.is_file() and short.samefile(path) else path, prefix)


class MixType(FiniteRange):
    """`random=0.5`: the share of the rows that are drawn at random."""

    def __init__(self) -> None:
        super().__init__(0, 1)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The option's text as a number."""
        name, sign, share = str(value).partition("=")
        if sign and name != "random":
            self.fail(f"{value!r} is not random=SHARE, such as random=0.5", param, ctx)
        return float(super().convert(share if sign else value, param, ctx))


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What is shown beside the results, and how the page is opened. `port` 0: a free one."""

    requests: Path | None
    data: Path | None
    port: int
    no_open: bool
    review: int | None
    mix: float | None
    blind: bool

    def review_options(self, table: JobTable) -> ReviewOptions | None:
        """What is reviewed, if anything. Raises `UsageError` for options that do nothing."""
        from batchrun.viewer.review import ReviewOptions

        if self.review is None:
            if self.mix is not None or self.blind:
                raise UsageError("--mix and --blind do nothing without --review; pass --review N, too")
            return None
        share, requests = 0.5 if self.mix is None else self.mix, "" if self.requests is None else str(self.requests)
        review = ReviewOptions(self.review, share, self.blind, prefix=table.prefix, requests=requests)
        path = self.data or table.path
        return review if path is None else replace(review, table=str(path))


VIEW = OptionGroup(
    "Files",
    "options",
    ViewOptions,
    (
        Option(
            ["--requests"],
            type=PATH,
            metavar="FILE",
            default_note="the one that the run log names",
            help="Request file, for the prompts.",
        ),
        Option(
            ["--data"],
            type=PATH,
            metavar="DATA",
            default_note="that of a labelling job",
            help="Table of which the requests were prepared; its columns are shown beside each row.",
        ),
        Option(
            ["--port"],
            type=WholeNumber(0, 65535),
            default=0,
            metavar="N",
            default_note="a free one",
            help="Port of the page on 127.0.0.1.",
        ),
        Option(
            ["--review"],
            type=WholeNumber(1, 100_000),
            metavar="N",
            help="Draw N rows to decide on; decisions are kept in RESULTS.corrections.jsonl.",
        ),
        Option(
            ["--mix"],
            type=MixType(),
            metavar="random=SHARE",
            default_note="random=0.5",
            help="Share of --review that is drawn from the rows with a good label; the rest is doubtful.",
        ),
        Option(["--blind"], is_flag=True, help="Hide the label of a row of --review until it is decided."),
        Option(["--no-open"], is_flag=True, help="Print the address, and open no browser."),
    ),
)


@click.command("view", cls=Verb, groups=(VIEW, PRICES, SCORING, GOLD_OPTIONS))
@click.argument("results", type=RESULTS_OR_JOB)
@click.argument("results_b", type=RESULTS_OR_JOB, required=False)
def command(
    results: Path,
    results_b: Path | None,
    options: ViewOptions,
    prices: PriceOptions,
    scoring: ScoringOptions,
    data_options: DataOptions,
) -> None:
    """Show RESULTS on a page of this machine: all rows, searched and filtered, and each with its prompt and answer.
    With RESULTS_B, rows that differ come first. With --data, the table stands beside the rows. With --gold, each is
    right or wrong. With --review, a person decides on some of them.

    \b
    Example:
      batchrun view results.jsonl
      batchrun view results.jsonl --data data.csv
      batchrun view old.jsonl new.jsonl
      batchrun view results.jsonl --review 200 --mix random=0.5
    """
    from batchrun.cli.running import TunedRun
    from batchrun.evaluation.asked import results_in
    from batchrun.viewer.server import serve

    for path in filter(None, (results, results_b)):
        if not path.is_file() and not path.is_dir():
            raise UsageError(f"{path} is not a regular file, which a page needs: write the results to a file first")
    told, results = results, results_in(results)
    console.say_rescue(results)
    table = JobTable.of(told)
    reviewed = options.review_options(table)
    with contextlib.ExitStack() as files:
        judge = _judge(told, results, scoring, data_options, files)
        second = None if results_b is None else _second(results, results_b)
        reader = _reader(results, prices, judge, second, options, table)
        index = files.enter_context(contextlib.closing(_index(results, prices, reader)))
        review = None if reviewed is None else _review(index, reviewed, files)
        run = TunedRun(results)
        serving = serve(
            index,
            options.port,
            lambda guard: _tell(guard, options),
            review,
            run,
            shlex.join(["batchrun", *sys.argv[1:]]),
        )
        try:
            asyncio.run(_until_stopped(serving))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise UsageError(f"cannot listen on port {options.port}: {why}; choose another --port") from None


def _judge(
    told: Path, results: Path, scoring: ScoringOptions, table: DataOptions, files: contextlib.ExitStack
) -> Judge | None:
    """What the answers are held against, if anything: the named table, or the gold of a job.

    Raises `UsageError` or `InputError` where the named one cannot serve.
    """
    from batchrun.datasets.tables import open_table
    from batchrun.evaluation import evaluate
    from batchrun.labelling.agreement import gold_of_job
    from batchrun.viewer.gold import Judge

    is_of_job = scoring.gold is None and told.is_dir() and gold_of_job(told) is not None
    if scoring.gold is None and not is_of_job:
        scoring.refuse_without_gold()
        return None
    try:
        question = scoring.question(told, table)
        work = files.enter_context(evaluate.scoring(results, question))
        with open_table(question.gold) as gold:
            return Judge(work, f"{gold.digest()} {question}")
    except (UsageError, InputError) as error:
        if not is_of_job:
            raise
        console.say(f"batchrun: rows are shown without the right answers of the job: {error}")
        return None


def _requests(results: Path, given: Path | None) -> Requests | None:
    """The request file, if it is known. Raises `UsageError` if the given one does not exist."""
    from batchrun.datasets.requests_of import find_requests
    from batchrun.viewer.prompts import Requests

    path = find_requests(results, given)
    return None if path is None else Requests(path, results)


def _second(results: Path, results_b: Path) -> Second:
    """The other file of two. Raises `UsageError` where it is the same one, or cannot be read."""
    from batchrun.evaluation.asked import results_in
    from batchrun.results.paths import are_one
    from batchrun.viewer.second import Second

    path = results_in(results_b)
    if are_one(results, path):
        raise UsageError(f"{path} is the file that it would be compared with; name another RESULTS_B")
    try:
        return Second(path, _asked(path), _requests(path, None))
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _asked(results: Path, requests: Path | None = None) -> Asked:
    """How the requests were made; nothing, and a word of it, where what was prepared is damaged."""
    from batchrun.evaluation.asked import Asked

    try:
        return Asked.of(results, requests)
    except UsageError as error:
        console.say(f"batchrun: answers are shown without fields: {error}")
        return Asked()


def _reader(
    results: Path,
    prices: PriceOptions,
    judge: Judge | None,
    second: Second | None,
    options: ViewOptions,
    job: JobTable,
) -> FactsReader:
    from batchrun.billing.pricing import PriceBook
    from batchrun.viewer.facts import FactsReader

    table = None
    if options.data is not None:
        table = _table(results, options.data, options)
    elif job.path is not None:
        try:
            table = _table(results, job.path, options)
        except (UsageError, InputError) as error:
            console.say(f"batchrun: rows are shown without the table of the job: {error}")
    requests = _requests(results, options.requests)
    return FactsReader(_asked(results, options.requests), PriceBook.load(prices.prices), judge, second, requests, table)


def _table(results: Path, data: Path, options: ViewOptions) -> DataTable:
    from batchrun.datasets.requests_of import find_requests
    from batchrun.viewer.table import DataTable

    requests = find_requests(results, options.requests)
    return DataTable(data, requests, lambda text: console.say(f"batchrun: {text}"))


def _refuse_other(results: Path) -> None:
    """Raise `UsageError` for a file without results, with what to type where it is the table of a labelling job."""
    from batchrun.labelling.paths import LabelPaths
    from batchrun.results.scan import refuse_without_results

    try:
        refuse_without_results(results)
    except ResultFileError:  # of another version
        raise
    except UsageError as error:
        folder = LabelPaths.beside(results).folder
        if folder.is_dir():
            raise UsageError(f"{error}; to look at its job, type: batchrun view {shlex.quote(str(folder))}") from None
        raise UsageError(f"{error}; name the result file of batchrun run, or the folder of batchrun label") from None


def _index(results: Path, prices: PriceOptions, reader: FactsReader) -> Index:
    from batchrun.results.files import is_running
    from batchrun.results.parts import is_directory_of_results
    from batchrun.results.paths import ResultPaths
    from batchrun.viewer.index import Index

    if is_directory_of_results(results) and is_running(ResultPaths.of(results).log):
        raise UsageError(f"{results} is being written by a run; look at it once that has ended")
    try:
        _refuse_other(results)
        priced = b"" if prices.prices is None else prices.prices.read_bytes()
        return Index(results, ResultPaths.of(results).index if reader.second is None else None, reader, priced)
    except OSError as error:
        raise UsageError(f"cannot read {results}: {error.strerror}") from error


def _review(index: Index, options: ReviewOptions, files: contextlib.ExitStack) -> Review:
    """The queue and the file of decisions. All of the file is read first: the queue is drawn from all rows.

    Raises `UsageError` where a run has still to write some of them.
    """
    from batchrun.datasets.corrections import CorrectionsFile
    from batchrun.results.files import is_running
    from batchrun.results.paths import ResultPaths
    from batchrun.viewer.review import Review, draw, queue_of
    from batchrun.viewer.shown import Rows

    paths = ResultPaths.of(index.results)
    if is_running(paths.log) and not paths.review.exists():
        raise UsageError(
            f"{index.results} is being written by a run, and a review is drawn from all rows: start it once the run "
            "has ended; to look meanwhile, leave out --review"
        )
    while index.read_on():
        pass
    queue = queue_of(paths.review, options, lambda: draw(index, options, Rows(index).id_at))
    if not queue.rows:
        raise UsageError(f"{index.results} has no rows to review")
    review = Review(queue, files.enter_context(contextlib.closing(CorrectionsFile(paths.corrections))), options)
    console.say(f"batchrun: {counted(len(review), 'row')} to review. {review.drawn_from(index)}")
    return review


def _tell(guard: Guard, options: ViewOptions) -> None:
    console.print_out(f"page: {guard.address}\n")
    console.say("batchrun: the page works on this machine alone; Ctrl-C ends it")
    if not options.no_open and not webbrowser.open(guard.address_once()):
        console.say("batchrun: no browser could be opened; open the address yourself")


async def _until_stopped(serving: Coroutine[Any, Any, None]) -> None:
    """Serve until SIGINT or SIGTERM."""
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # then Ctrl-C ends it by KeyboardInterrupt
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
