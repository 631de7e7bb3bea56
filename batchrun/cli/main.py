"""The command line: options in, exit codes out; the only place that prints or reads the environment.

What is heavy is imported by the command that needs it, so that `batchrun --help` is there at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batchrun.cli import options as opt
from batchrun.cli.signals import drive, leaving_on_signal
from batchrun.errors import BatchrunError, InputError, StopError, UsageError
from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.estimate.estimate import Estimate
    from batchrun.job.job import Job
    from batchrun.job.summary import Summary

_CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 110, "show_default": True}
Command = Callable[..., Any]


@click.group(context_settings=_CONTEXT)
@click.version_option(__version__)
def cli() -> None:
    """Send every line of a JSONL file to an OpenAI-Responses-compatible gateway.

    \b
    Example:
      batchrun run requests.jsonl -o results.jsonl
    """


@cli.command("run")
@click.argument("requests")
@click.option("-o", "--output", "results", metavar="FILE", required=True, help="Result file; - is standard output.")
@opt.body_options
@opt.endpoint_options
@opt.pace_options
@opt.limit_options
@opt.part_options
@opt.resume_options
@opt.prices_option
@click.option(
    "--report",
    "report_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Report as JSON.  [default: FILE.report.json]",
)
@opt.simulate_options
@opt.screen_options
def run_command(requests: str, results: str, **options: Any) -> None:
    """Send the lines of REQUESTS (- is standard input) and write the answers.

    Run the same command again to go on after an interruption: lines with an answer are not sent again.

    \b
    Example:
      export OPENAI_API_KEY=… OPENAI_BASE_URL=https://gateway.example/v1
      batchrun run requests.jsonl -o results.jsonl
    """
    from batchrun.cli.progress import Progress
    from batchrun.job.prepare import prepare
    from batchrun.job.run import Ended, Run
    from batchrun.job.summary import Summary

    path = None if results == "-" else Path(results)
    job = opt.make_job(requests, path, options)
    if options["report_file"] is not None:
        _check_report_target(options["report_file"])
    if path is not None and job.overwrite:
        _confirm_overwrite(path)
    progress = Progress(quiet=options["quiet"], verbose=options["verbose"])
    if options["pilot"] is not None:
        if path is None or requests == "-":
            raise UsageError("--pilot reads the requests twice and measures by the result file; name two files")
        sent = _pilot(replace(job, sample=options["pilot"]), path, options)
        left = None if job.limit is None else max(0, job.limit - sent)
        job = replace(job, overwrite=False, limit=left)
    try:
        with leaving_on_signal(), contextlib.ExitStack() as files:
            prepared = prepare(job, progress, files)
            done = len(prepared.done)
            if prepared.pending and done:
                progress.notice(f"going on: {done:,} of {prepared.total:,} lines have their result")
            elif not prepared.pending:
                which = "all" if done == prepared.total else "all that were chosen of"
                progress.notice(f"nothing to send: {which} {prepared.total:,} lines have their result")
            ended = drive(Run(prepared, progress)) if prepared.pending else Ended()
            summary = Summary(prepared, ended)
            progress.close()
            _show_report(summary, options, path)
            exit_code = summary.exit_code
    finally:
        progress.close()
    sys.exit(exit_code)


@cli.command()
@click.argument("requests")
@opt.body_options
def validate(requests: str, **options: Any) -> None:
    """Check REQUESTS (- is standard input) as `run` does before it sends anything, and sum it up.

    \b
    Example:
      batchrun validate requests.jsonl
    """
    from batchrun.requests.reader import RequestFile

    with RequestFile(requests, opt.make_overrides(options)) as file:
        survey = file.check()
    facts = (
        f"{file.name}: {survey.lines:,} lines, all fit to send",
        f"models: {_counts(survey.models)}",
        f"endpoints: {_counts(survey.endpoints)}",
        f"streamed: {survey.streams:,}",
        f"bodies: {survey.body_bytes:,} bytes, roughly {survey.body_bytes // 4:,} input tokens",
    )
    _print("\n".join(facts) + "\n")


@cli.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@opt.prices_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(results: Path, prices: Path | None, as_json: bool) -> None:
    """Make the report of RESULTS again, from the file alone.

    \b
    Example:
      batchrun report results.jsonl --prices prices.toml
    """
    from msgspec import structs

    from batchrun.billing.exposure import bound
    from batchrun.billing.pricing import PriceBook
    from batchrun.billing.tally import Tally
    from batchrun.report.report import make_report
    from batchrun.report.text import render
    from batchrun.results.journal import read_results
    from batchrun.results.last_run import LastRun

    last_run = LastRun.read(Path(f"{os.path.realpath(results)}.log"))
    tally, damaged = Tally(PriceBook.load(prices)), 0
    for head in read_results(results):
        if head is None:
            damaged += 1
        else:
            tally.add((head,))
            if last_run is not None:
                last_run.settle(head.run.started, head.run.line)
    if damaged and not tally.recorded:
        raise UsageError(f"{results} holds no result of batchrun's")
    if damaged:
        click.echo(f"batchrun: {damaged:,} damaged lines in {results} are not counted", err=True)
    made = make_report(tally)
    if last_run is not None:
        new = bound(last_run.sent.values(), tally.book, tally.longest_answer)
        made = structs.replace(
            made,
            possibly_billed_twice=last_run.billed_before + new,
            unbilled_usd=last_run.unbilled_usd,
            limited_s=last_run.limited_s,
        )
    _print(made.to_json() if as_json else render(made))


@cli.command()
@click.argument("results", type=click.Path(dir_okay=False, path_type=Path))
@opt.tune_options
def tune(results: Path, **options: Any) -> None:
    """Change the limits of the run that is writing RESULTS, and say how it stands; without options only that.

    \b
    Example:
      batchrun tune results.jsonl -c 64 --rpm 3000
    """
    from batchrun.job.tune import ask, render

    _print(render(ask(results, opt.make_tuning(options))))


@cli.command()
@click.argument("requests")
@click.option(
    "-o",
    "--output",
    "results",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Result file of this job, if it has begun: what it used so far tells what the rest will.",
)
@opt.body_options
@opt.pace_options
@opt.prices_option
@click.option("--json", "as_json", is_flag=True, help="Print the estimate as JSON.")
def estimate(requests: str, results: Path | None, as_json: bool, **options: Any) -> None:
    """Say what REQUESTS (- is standard input) still take: tokens, USD, time. Nothing is sent.

    \b
    Example:
      batchrun estimate requests.jsonl -o results.jsonl
    """
    from batchrun.estimate.text import render_estimate

    made = _estimated(requests, results, options)
    _print(made.to_json() if as_json else render_estimate(made))


@cli.command()
@click.argument("requests")
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@opt.body_options
@opt.prices_option
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def verify(requests: str, results: Path, prices: Path | None, as_json: bool, **options: Any) -> None:
    """Check that RESULTS holds exactly one good record for each line of REQUESTS; exit code 1 where it does not.

    Pass the --model, --set and --stream that the run had: they are part of what was sent.

    \b
    Example:
      batchrun verify requests.jsonl results.jsonl
    """
    from batchrun.billing.pricing import PriceBook
    from batchrun.report.verify import Verifier, render
    from batchrun.requests.reader import RequestFile

    with RequestFile(requests, opt.make_overrides(options)) as file:
        found = Verifier(file, results, PriceBook.load(prices)).run()
    _print(found.to_json() if as_json else render(found))
    sys.exit(0 if found.is_complete else 1)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--latency", type=opt.FiniteRange(0), default=0.0, metavar="S", help="Median latency.")
@click.option("--latency-p99", type=opt.FiniteRange(0), metavar="S", help="99th percentile of the latency.")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute; more get an official 429.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens a minute; more get an official 429.")
@click.option("--capacity", type=click.IntRange(1), metavar="N", help="Requests at once; more get a 429.")
@click.option("--queue", is_flag=True, help="Let requests beyond the capacity wait instead.")
@click.option("--script", default="", metavar="WORDS", help='Faults, as in "429 429 ok; reset ok; stall".')
@click.option(
    "--fault-rate",
    type=opt.FiniteRange(0, 1),
    default=0.0,
    metavar="SHARE",
    help="Share of attempts that fail.",
)
@click.option("--api-key-env", metavar="NAME", help="Accept only the key in this variable.")
@click.option("--seed", type=int, default=0, help="Changes every drawn value.")
def gateway(port: int, **options: Any) -> None:
    """Serve a simulated gateway on 127.0.0.1 until it is interrupted.

    \b
    Example:
      batchrun gateway --port 8080 --latency 0.5 --rpm 600
    """
    from batchrun.simulator.app import serve_until_stopped

    gateway_options = opt.make_gateway_options(port, options)
    try:
        asyncio.run(serve_until_stopped(gateway_options, lambda url: click.echo(f"listening: {url}")))
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise UsageError(f"cannot listen on port {port}: {why}; choose another --port (0 takes a free one)") from None


def _check_report_target(target: Path) -> None:
    """Refuse a report file that is something else by now: the requests, the results, a device, anything."""
    if not target.parent.is_dir():
        raise UsageError(f"cannot write {target}: there is no such directory")
    if not target.exists():
        return
    if not target.is_file():
        raise UsageError(f"cannot write {target}: it is not a regular file")
    with target.open("rb") as file:
        start = file.read(64)
    if start and not start.startswith(b'{\n  "lines": {'):
        raise UsageError(f"{target} holds something else than a report; choose another --report FILE")


def _confirm_overwrite(path: Path) -> None:
    """Ask before results are lost, where somebody is there to answer."""
    holds_results = path.is_file() and path.stat().st_size > 0
    question = f"{path} holds results; lose them and start over?"
    if holds_results and sys.stdin.isatty() and not click.confirm(question, err=True):
        raise UsageError("nothing was changed")


# ---------------------------------------------------------------------------------------- running a job


def _pilot(job: Job, results: Path, options: dict[str, Any]) -> int:
    """Run the sample, show what it says of the whole, and ask; returns how many lines it sent.

    Leaves where the whole is not to be run.
    """
    from batchrun.cli.progress import Progress
    from batchrun.estimate.text import render_pilot
    from batchrun.job.prepare import prepare
    from batchrun.job.run import Ended, Run
    from batchrun.job.summary import Summary

    progress = Progress(quiet=options["quiet"], verbose=options["verbose"])
    try:
        with leaving_on_signal(), contextlib.ExitStack() as files:
            prepared = prepare(job, progress, files)
            ended = drive(Run(prepared, progress)) if prepared.pending else Ended()
            summary = Summary(prepared, ended)
            progress.close()
            if summary.stopped is not None:
                _show_report(summary, options, results)
                sys.exit(summary.exit_code)
    finally:
        progress.close()
    _say(render_pilot(_estimated(job.requests, results, options)))
    if options["yes"]:
        return summary.ended.recorded
    if not sys.stdin.isatty():
        raise StopError("the pilot is done and nobody is there to be asked; pass --yes to go on with the rest")
    if not click.confirm("go on with the rest?", err=True):
        raise StopError("the pilot is done; its results stay, and the same command goes on from there")
    return summary.ended.recorded


def _estimated(requests: str, results: Path | None, options: dict[str, Any]) -> Estimate:
    from batchrun.billing.pricing import PriceBook
    from batchrun.estimate.estimate import Allowed, estimate_file
    from batchrun.requests.reader import RequestFile
    from batchrun.results.journal import read_results

    heads = read_results(results) if results is not None and results.exists() else ()
    bounds = options["concurrency"]
    is_fixed = bounds.least == bounds.most
    fixed, most = (bounds.most, None) if is_fixed else (None, bounds.most)
    allowed = Allowed(fixed, options["rpm"], options["tpm"], most)
    with RequestFile(requests, opt.make_overrides(options)) as file:
        return estimate_file(file, heads, PriceBook.load(options["prices"]), allowed)


def _show_report(run: Summary, options: dict[str, Any], path: Path | None) -> None:
    from batchrun.report.text import render

    made = run.report(_next_command(run) if path else None)
    target = options["report_file"] or (path and path.with_name(path.name + ".report.json"))
    if target is not None:
        temporary = target.with_name(target.name + ".tmp")
        try:
            temporary.write_bytes(made.to_json())
            temporary.replace(target)
        except OSError as error:
            temporary.unlink(missing_ok=True)
            _say(f"batchrun: cannot write {target}: {error.strerror}; `batchrun report` makes it again\n")
    if not options["quiet"]:
        _say(render(made))
    elif run.stopped:
        _say(f"batchrun: stopped: {run.stopped.why}\n")


def _print(text: str | bytes) -> None:
    """Print to standard output. Raises `StopError` where that is closed or full."""
    try:
        click.echo(text, nl=False)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise StopError(f"cannot write standard output: {error.strerror}") from error


def _say(text: str) -> None:
    """Print to standard error, as far as somebody is there: a lost terminal changes no exit code."""
    with contextlib.suppress(OSError):
        click.echo(text, err=True, nl=False)


def _next_command(run: Summary) -> str:
    """The same command again; with --retry-errors where only failures are left that do not heal by themselves."""
    from batchrun.records.money import usd

    words = [word for word in sys.argv[1:] if word != "--overwrite"]
    for index, word in enumerate(words):  # a proxy's address may hold a password
        if word.startswith("--proxy="):
            words[index] = "--proxy=…"
        elif index and words[index - 1] == "--proxy":
            words[index] = "…"
    if run.stopped is None:  # all of the sample is done: what is left is the rest
        words = _without_option(words, "--sample")
    if run.enough_usd is not None:
        words = _with_option(words, "--max-cost", usd(run.enough_usd))
    if run.only_failures_left and "--retry-errors" not in words:
        words.append("--retry-errors")
    return shlex.join(["batchrun", *words])


def _with_option(words: list[str], name: str, value: str) -> list[str]:
    """The same words with another value of an option that is among them."""
    words = [f"{name}={value}" if word.startswith(f"{name}=") else word for word in words]
    if name in words[:-1]:
        words[words.index(name) + 1] = value
    return words


def _without_option(words: list[str], name: str) -> list[str]:
    """The same words without an option and its value."""
    words = [word for word in words if not word.startswith(f"{name}=")]
    return words[: words.index(name)] + words[words.index(name) + 2 :] if name in words else words


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=lambda item: -item[1]))


def main() -> NoReturn:
    """The `batchrun` command."""
    if sys.stderr is None:  # closed by who started this (2>&-): then there is nobody to tell
        sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 (for as long as the process lives)
    try:
        cli(prog_name="batchrun", standalone_mode=False)
    except InputError as error:
        _say(f"{error}\n")  # each line names its file and line
        sys.exit(error.exit_code)
    except BatchrunError as error:
        _say(f"batchrun: {error}\n")
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        _say("batchrun: interrupted; nothing is lost\n")
        sys.exit(130)
    sys.exit(0)


if __name__ == "__main__":
    main()
