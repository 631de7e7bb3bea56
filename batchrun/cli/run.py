"""`batchrun run`: a job from its options to its exit code."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.closing import show_report
from batchrun.cli.cluster import CLUSTER, ClusterOptions, run_on_cluster
from batchrun.cli.estimate import estimate_of_rest
from batchrun.cli.gateway import make_simulated, make_target
from batchrun.cli.gateway_options import GATEWAY, GatewayOptions
from batchrun.cli.options import (
    CHANGED,
    FAILURES,
    NO_LOCK,
    OVERWRITE,
    PART,
    PATH,
    PILOT,
    RATE,
    REQUEST,
    REQUESTS,
    SCREEN,
    SENDING,
    SPENDING,
    FailureOptions,
    PartOptions,
    PilotOptions,
    RateOptions,
    RequestOptions,
    ScreenOptions,
    SendingOptions,
    SpendingOptions,
)
from batchrun.cli.page_options import PAGE, PageOptions
from batchrun.cli.reask_options import ReaskOptions, reask_group
from batchrun.cli.reuse_options import ReuseOptions, reuse_group
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import StopError, UsageError

if TYPE_CHECKING:
    from batchrun.cli.progress import Progress
    from batchrun.engine.error_limit import MaxErrors
    from batchrun.evaluation.evaluate import Question
    from batchrun.job.job import Job
    from batchrun.job.prepare import Prepared
    from batchrun.job.summary import Summary


@dataclass(frozen=True, slots=True)
class FileOptions:
    """What is written, and what happens to what is there already. `results` may be `-`, standard output."""

    results: str
    report: Path | None
    changed: str
    overwrite: bool
    no_lock: bool

    @property
    def results_path(self) -> Path | None:
        """The result file; None for standard output."""
        return None if self.results == "-" else Path(self.results)

    @property
    def report_path(self) -> Path | None:
        """Where the report goes as JSON, if anywhere."""
        from batchrun.results.paths import ResultPaths

        results = self.results_path
        return self.report or (results and ResultPaths.of(results).report)


REPORT = Option(
    ["--report"], metavar="FILE", type=PATH, default_note="beside the results, .report.json", help="Report file (JSON)."
)
FILES = OptionGroup(
    "Files",
    "files",
    FileOptions,
    (
        Option(
            ["-o", "--output", "results"],
            metavar="FILE",
            type=click.Path(allow_dash=True, readable=False),
            required=True,
            help="Result file; - is standard output.",
        ),
        REPORT,
        CHANGED,
        OVERWRITE,
        NO_LOCK,
    ),
)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """All options of `batchrun run`. `made_of`: what the requests are made of, if that is what a user edits.

    `gold`: what the answers are held against on the page.
    """

    files: FileOptions
    request: RequestOptions
    gateway: GatewayOptions
    rate: RateOptions
    part: PartOptions
    sending: SendingOptions
    spending: SpendingOptions
    reuse: ReuseOptions
    pilot: PilotOptions
    failures: FailureOptions
    reask: ReaskOptions
    screen: ScreenOptions
    made_of: str | None = None
    page: PageOptions = PageOptions()
    gold: Question | None = None


REUSE, REASK = reuse_group(dedup=False), reask_group(0)
GROUPS = (FILES, PAGE, REQUEST, GATEWAY, CLUSTER, RATE, PART, SENDING, SPENDING, REUSE, PILOT, FAILURES, REASK, SCREEN)


@click.command("run", cls=Verb, groups=GROUPS)
@click.argument("requests", type=REQUESTS)
def command(
    requests: str,
    files: FileOptions,
    page: PageOptions,
    request: RequestOptions,
    gateway: GatewayOptions,
    cluster: ClusterOptions,
    rate: RateOptions,
    part: PartOptions,
    sending: SendingOptions,
    spending: SpendingOptions,
    reuse: ReuseOptions,
    pilot: PilotOptions,
    failures: FailureOptions,
    reask: ReaskOptions,
    screen: ScreenOptions,
) -> None:
    """Send the lines of REQUESTS (- is standard input) and write the answers.

    To resume after an interruption, run the same command again: lines that have an answer are not sent again.

    \b
    Example:
      export OPENAI_API_KEY=… OPENAI_BASE_URL=https://gateway.example/v1
      batchrun run requests.jsonl -o results.jsonl
    """
    groups = (files, request, gateway, rate, part, sending, spending, reuse, pilot, failures, reask, screen)
    options = RunOptions(*groups, page=page)
    _refuse_clashes(requests, options)
    page.check(files.results_path, None if requests == "-" else Path(requests))
    job, ray = make_job(requests, options), cluster.ray_cluster()
    if files.report is not None:
        check_report_target(files.report, job)
    if job.results is not None and job.overwrite:
        confirm_overwrite(job.results)
    if ray is not None:
        sys.exit(run_on_cluster(job, options, ray))
    if pilot.pilot is not None:
        sent = run_pilot(replace(job, sample=min(pilot.pilot, job.sample or pilot.pilot)), options)
        left = None if job.limit is None else max(0, job.limit - sent)
        job = replace(job, overwrite=False, limit=left)
        ask_for_the_rest(job, options)
    sys.exit(run_job(job, options))


# ------------------------------------------------------------------------------------ from options to a job


def make_job(requests: str, options: RunOptions) -> Job:
    """The job that the options describe. Raises `UsageError`."""
    from batchrun.engine.retry import RetryPolicy
    from batchrun.job.job import Job
    from batchrun.job.resume import Changed
    from batchrun.limits.options import Limits
    from batchrun.transport.deadlines import Timeouts

    files, rate, sending = options.files, options.rate, options.sending
    spending, failures = options.spending, options.failures
    _refuse_halves(options)
    simulate = make_simulated(options.gateway)  # first of all: who forgets --simulate is not to be asked for a key
    job = Job(
        requests=requests,
        results=files.results_path,
        **make_target(options.gateway, quiet=options.screen.quiet),
        overrides=options.request.overrides(),
        limits=Limits(rate.concurrency, rate.rpm, rate.tpm, failures.max_outage_s, sending.max_in_flight_bytes),
        timeouts=Timeouts(sending.attempt_timeout_s, sending.connect_timeout_s, sending.idle_timeout_s),
        retry=RetryPolicy(failures.max_attempts),
        changed=Changed(files.changed),
        retry_errors=failures.retry_errors,
        overwrite=files.overwrite,
        no_lock=files.no_lock,
        prices=spending.prices,
        limit=options.part.limit,
        sample=options.part.sample,
        max_errors=_max_errors(failures),
        reask=options.reask.reask,
        max_reasks=options.reask.max_reasks,
        max_cost_usd=spending.max_cost_usd,
        max_line_cost_usd=spending.max_line_cost_usd,
        grace_s=sending.grace_s,
        max_response_bytes=sending.max_response_bytes,
        simulate=simulate,
        **options.reuse.fields_of_job(),
    )
    if job.max_line_cost_usd is not None and not job.has_cap:
        raise UsageError(
            "--max-line-cost does nothing without a cap; pass --max-cost, or give an endpoint max_cost_usd"
        )
    if options.pilot.pilot is not None and (job.results is None or requests == "-"):
        raise UsageError("--pilot reads the requests twice and measures by the result file; name two files")
    return job


def _refuse_halves(options: RunOptions) -> None:
    """Raise `UsageError` for an option that does nothing without another one."""
    spending, failures = options.spending, options.failures
    if spending.max_line_cost_usd is not None and spending.max_cost_usd is None and options.gateway.endpoints is None:
        raise UsageError("--max-line-cost does nothing without --max-cost; pass --max-cost, too")
    if options.pilot.yes and options.pilot.pilot is None:
        raise UsageError("--yes does nothing without --pilot; pass --pilot N, too")
    if failures.error_kinds and not failures.max_errors:
        raise UsageError("--max-errors-on does nothing without --max-errors; pass --max-errors, too")


def _max_errors(failures: FailureOptions) -> MaxErrors | None:
    from batchrun.engine.error_limit import MaxErrors

    if not failures.max_errors:
        return None
    kinds = failures.error_kinds
    return MaxErrors.parse(failures.max_errors, kinds) if kinds else MaxErrors.parse(failures.max_errors)


def _refuse_clashes(requests: str, options: RunOptions) -> None:
    """Refuse names of which one file would be read and written, before any is opened. Raises `UsageError`."""
    from batchrun.results.paths import ResultPaths

    if (results := options.files.results_path) is not None:
        read = {
            "the request file": Path(requests) if requests != "-" else None,
            "the price file": options.spending.prices,
            "the key file": options.gateway.api_key_file,
            "the file of endpoints": options.gateway.endpoints,
        }
        ResultPaths.of(results).refuse_clashes(read, options.files.report)


def check_report_target(target: Path, job: Job) -> None:
    """Refuse a report file that is, or is about to be, something else: requests, results, their companions, a device.

    Raises `UsageError`.
    """
    from batchrun.results.paths import ResultPaths

    if not target.parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no such directory")
    real = ResultPaths.of(target).results
    if job.results is not None and (use := ResultPaths.of(job.results).use_of(real)) is not None:
        raise UsageError(f"--report {target} is {use} of this job; choose another --report FILE")
    if job.requests != "-" and real == ResultPaths.of(Path(str(job.requests))).results:
        raise UsageError(f"--report {target} is the request file; choose another --report FILE")
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"cannot write {target}: it is not a regular file")
    with target.open("rb") as file:
        start = file.read(64)
    if start and not start.startswith(b'{\n  "lines": {'):
        raise UsageError(f"{target} exists and is not a report; choose another --report FILE")


def confirm_overwrite(path: Path) -> None:
    """Ask before results are discarded, where somebody can answer."""
    from batchrun.results.parts import is_directory_of_results

    holds_results = (path.is_file() and path.stat().st_size > 0) or is_directory_of_results(path)
    question = f"{path} holds results; discard them and start over?"
    if holds_results and console.is_interactive() and not console.confirm(question):
        raise UsageError("nothing was changed")


# ------------------------------------------------------------------------------------------ running a job


def run_job(job: Job, options: RunOptions, fact: Callable[[], str] = str) -> int:
    """Run a job, or what is left of it, and show its report; returns the exit code. `fact`: for the bar."""
    with _finished(job, options.screen, _announce, fact) as summary:
        show_report(summary, options)
        return summary.exit_code


def run_pilot(job: Job, options: RunOptions, fact: Callable[[], str] = str) -> int:
    """Run the sample; returns how many lines it sent. Exits where it stopped early. `fact`: for the bar."""
    with _finished(job, options.screen, fact=fact) as summary:
        if summary.stopped is not None or not options.pilot.yes:
            show_report(summary, options if summary.stopped is not None else replace(options, page=PageOptions()))
        if summary.stopped is not None:
            sys.exit(summary.exit_code)
    return summary.ended.recorded


@contextlib.contextmanager
def _finished(
    job: Job,
    screen: ScreenOptions,
    announce: Callable[[Prepared, Progress], None] | None = None,
    fact: Callable[[], str] = str,
) -> Iterator[Summary]:
    """Prepare a job, `announce` what is left of it, and send that. Its files stay locked until the block is left."""
    from batchrun.cli.progress import Progress
    from batchrun.cli.signals import drive, leaving_on_signal
    from batchrun.job.prepare import prepare
    from batchrun.job.run import Ended, Run
    from batchrun.job.summary import Summary

    progress = Progress(quiet=screen.quiet, verbose=screen.verbose, fact=fact)
    try:
        with leaving_on_signal(), contextlib.ExitStack() as files:
            prepared = prepare(job, progress, files)
            if announce is not None:
                announce(prepared, progress)
            ended = drive(Run(prepared, progress)) if prepared.pending else Ended()
            progress.close()
            yield Summary(prepared, ended)
    finally:
        progress.close()


def _announce(prepared: Prepared, progress: Progress) -> None:
    """Say how much is done of a job that was begun before."""
    done = f"{len(prepared.done):,} of {prepared.total:,}"
    if prepared.pending and prepared.done:
        progress.notice(f"resuming: {done} done")
    elif not prepared.pending:
        is_all = len(prepared.done) == prepared.total
        progress.notice("nothing to send: " + (f"{done} done" if is_all else f"the chosen lines are done ({done})"))
    if prepared.plan:
        progress.notice(prepared.plan.in_words(prepared.to_send))


def ask_for_the_rest(job: Job, options: RunOptions) -> bool:
    """Show what the pilot says of the lines that were chosen, and ask; returns whether somebody was asked and agreed.

    Raises `StopError` where the rest is not to be sent.
    """
    from batchrun.estimate.text import render_pilot

    estimate = estimate_of_rest(job, options.request, options.rate)
    if not (options.screen.quiet and options.pilot.yes):
        console.say(render_pilot(estimate, is_whole=job.sample is None and job.limit is None).rstrip("\n"))
    if options.pilot.yes or not estimate.lines_left:
        return False
    if not console.is_interactive():
        raise StopError("the pilot is done; this is not a terminal; use --yes to send the rest")
    if not console.confirm("send the rest?"):
        raise StopError("the pilot is done and its results are kept; run the same command again to send the rest")
    return True
