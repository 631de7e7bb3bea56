"""The command line: options in, exit codes out; the only place that prints or reads the environment.

What is heavy is imported by the command that needs it, so that `batchrun --help` is there at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from batchrun.errors import BatchrunError, UsageError
from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.gateway import GatewayOptions
    from batchrun.records import Overrides
    from batchrun.runner import Job, Run
    from batchrun.transport import Endpoint

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


def _options(*options: Command) -> Command:
    """Several click options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_body_options = _options(
    click.option("--model", metavar="NAME", help="Model for lines that name none."),
    click.option(
        "--set",
        "fields",
        metavar="FIELD=JSON",
        multiple=True,
        help="Set a top-level field of every body; repeatable.",
    ),
    click.option(
        "--stream/--no-stream",
        default=None,
        help="Ask for streamed (or plain) answers, whatever a line says.",
    ),
)
_endpoint_options = _options(
    click.option("--base-url", metavar="URL", help="Address of the gateway.  [default: $OPENAI_BASE_URL]"),
    click.option("--api-key-env", metavar="NAME", default="OPENAI_API_KEY", help="Variable that holds the key."),
    click.option("--api-key-file", metavar="FILE", type=click.Path(path_type=Path), help="File that holds the key."),
    click.option("--proxy", metavar="URL", help="HTTP proxy; those of the environment are not used."),
    click.option("--insecure-http", is_flag=True, help="Allow http:// to a public host: the key travels in the clear."),
)
_limit_options = _options(
    click.option("-c", "--concurrency", type=click.IntRange(1, 10_000), default=32, help="Requests in flight."),
    click.option("--rpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Requests a minute, at most."),
    click.option("--tpm", type=click.FloatRange(0, min_open=True), metavar="N", help="Tokens a minute, at most."),
    click.option("--max-attempts", type=click.IntRange(1), default=6, help="Sends of one line, the first included."),
    click.option(
        "--attempt-timeout",
        type=click.FloatRange(0, min_open=True),
        default=600.0,
        metavar="S",
        help="Seconds for one attempt.",
    ),
    click.option(
        "--connect-timeout",
        type=click.FloatRange(0, min_open=True),
        default=10.0,
        metavar="S",
        help="Seconds to connect.",
    ),
    click.option(
        "--idle-timeout",
        type=click.FloatRange(0, min_open=True),
        default=120.0,
        metavar="S",
        help="Seconds between two events of a stream.",
    ),
    click.option(
        "--max-outage",
        type=click.FloatRange(0, min_open=True),
        default=1800.0,
        metavar="S",
        help="Seconds without any answer before the run gives up.",
    ),
    click.option(
        "--max-response-bytes",
        type=click.IntRange(1024),
        default=64 << 20,
        metavar="N",
        help="Largest answer that is kept.",
    ),
    click.option(
        "--grace",
        type=click.FloatRange(0),
        default=30.0,
        metavar="S",
        help="Seconds to finish what is in flight after Ctrl-C.",
    ),
)
_resume_options = _options(
    click.option("--retry-errors", is_flag=True, help="Send all failed lines again, not only those that may heal."),
    click.option(
        "--changed",
        type=click.Choice(["refuse", "resend", "keep"]),
        default="refuse",
        help="Lines edited after their answer: refuse to run, send them again, or keep the answers.",
    ),
    click.option("--overwrite", is_flag=True, help="Start over and lose the results there are."),
)
_simulate_options = _options(
    click.option(
        "--simulate",
        is_flag=True,
        help="Use a gateway simulated in this process: no key, no network, no cost.",
    ),
    click.option("--simulate-latency", type=click.FloatRange(0), default=0.3, metavar="S", help="Its median latency."),
    click.option("--simulate-script", default="", metavar="WORDS", help='Its faults, as in "429 ok; reset ok".'),
)
_screen_options = _options(
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Print a line for every failed attempt."),
)
_prices_option = click.option(
    "--prices",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Prices (TOML or JSON, USD per million tokens).",
)


@cli.command("run")
@click.argument("requests")
@click.option("-o", "--output", "results", metavar="FILE", required=True, help="Result file; - is standard output.")
@_body_options
@_endpoint_options
@_limit_options
@_resume_options
@_prices_option
@click.option(
    "--report",
    "report_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Report as JSON.  [default: FILE.report.json]",
)
@_simulate_options
@_screen_options
def run_command(requests: str, results: str, **options: Any) -> None:
    """Send the lines of REQUESTS (- is standard input) and write the answers.

    Run the same command again to go on after an interruption: lines with an answer are not sent again.

    \b
    Example:
      export OPENAI_API_KEY=… OPENAI_BASE_URL=https://gateway.example/v1
      batchrun run requests.jsonl -o results.jsonl
    """
    from batchrun.progress import Progress
    from batchrun.runner import Run

    path = None if results == "-" else Path(results)
    job = _job(requests, path, options)
    if path is not None and job.overwrite:
        _confirm_overwrite(path)
    progress = Progress(quiet=options["quiet"], verbose=options["verbose"])
    try:
        with Run(job, progress) as run:
            run.prepare()
            if run.pending:
                _drive(run)
            else:
                progress.notice(f"nothing to send: all {run.total:,} lines have their result")
            progress.close()
            _show_report(run, options, path)
            exit_code = run.exit_code
    finally:
        progress.close()
    sys.exit(exit_code)


@cli.command()
@click.argument("requests")
@_body_options
def validate(requests: str, **options: Any) -> None:
    """Check REQUESTS (- is standard input) as `run` does before it sends anything, and sum it up.

    \b
    Example:
      batchrun validate requests.jsonl
    """
    from batchrun.reader import RequestFile

    file = RequestFile(requests, _overrides(options))
    survey = file.check()
    click.echo(f"{file.name}: {survey.lines:,} lines, all fit to send")
    click.echo(f"models: {_counts(survey.models)}")
    click.echo(f"endpoints: {_counts(survey.endpoints)}")
    click.echo(f"streamed: {survey.streams:,}")
    click.echo(f"bodies: {survey.body_bytes:,} bytes, roughly {survey.body_bytes // 4:,} input tokens")


@cli.command()
@click.argument("results", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_prices_option
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def report(results: Path, prices: Path | None, as_json: bool) -> None:
    """Make the report of RESULTS again, from the file alone.

    \b
    Example:
      batchrun report results.jsonl --prices prices.toml
    """
    from batchrun.journal import read_results
    from batchrun.pricing import PriceBook
    from batchrun.report import Tally, render

    tally, damaged = Tally(PriceBook.load(prices)), 0
    for head in read_results(results):
        if head is None:
            damaged += 1
        else:
            tally.add(head)
    if damaged and not tally.recorded:
        raise UsageError(f"{results} holds no result of batchrun's")
    if damaged:
        click.echo(f"batchrun: {damaged:,} damaged lines in {results} are not counted", err=True)
    made = tally.report()
    click.echo(made.to_json() if as_json else render(made), nl=False)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), default=8080, help="Port on 127.0.0.1; 0 takes a free one.")
@click.option("--latency", type=click.FloatRange(0), default=0.0, metavar="S", help="Median latency.")
@click.option("--latency-p99", type=click.FloatRange(0), metavar="S", help="99th percentile of the latency.")
@click.option("--rpm", type=click.IntRange(1), metavar="N", help="Requests a minute; more get an official 429.")
@click.option("--tpm", type=click.IntRange(1), metavar="N", help="Tokens a minute; more get an official 429.")
@click.option("--capacity", type=click.IntRange(1), metavar="N", help="Requests at once; more get a 429.")
@click.option("--queue", is_flag=True, help="Let requests beyond the capacity wait instead.")
@click.option("--script", default="", metavar="WORDS", help='Faults, as in "429 429 ok; reset ok; stall".')
@click.option(
    "--fault-rate",
    type=click.FloatRange(0, 1),
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
    from batchrun.gateway import serve_until_stopped

    asyncio.run(serve_until_stopped(_gateway_options(port, options), lambda url: click.echo(f"listening: {url}")))


# -------------------------------------------------------------------------------- from options to values


def _job(requests: str, results: Path | None, options: dict[str, Any]) -> Job:
    from batchrun.limits import Limits
    from batchrun.resume import Changed
    from batchrun.retry import RetryPolicy
    from batchrun.runner import Job
    from batchrun.transport import Timeouts

    return Job(
        requests=requests,
        results=results,
        endpoint=_endpoint(options),
        overrides=_overrides(options),
        limits=Limits(options["concurrency"], options["rpm"], options["tpm"], options["max_outage"]),
        timeouts=Timeouts(options["attempt_timeout"], options["connect_timeout"], options["idle_timeout"]),
        retry=RetryPolicy(options["max_attempts"]),
        changed=Changed(options["changed"]),
        retry_errors=options["retry_errors"],
        overwrite=options["overwrite"],
        prices=options["prices"],
        grace_s=options["grace"],
        max_response_bytes=options["max_response_bytes"],
        simulate=_simulated(options),
    )


def _overrides(options: dict[str, Any]) -> Overrides:
    import orjson

    from batchrun.records import Overrides

    fields: dict[str, bytes] = {}
    for assignment in options["fields"]:
        name, equals, value = assignment.partition("=")
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            equals = ""
        if not equals or not name:
            raise UsageError(f"--set {assignment}: write FIELD=JSON, e.g. temperature=0 or user='\"me\"'")
        fields[name] = value.encode()
    return Overrides(model=options["model"], fields=fields, stream=options["stream"])


def _endpoint(options: dict[str, Any]) -> Endpoint:
    from batchrun.transport import Endpoint, check_base_url, check_key, check_proxy

    if options["simulate"]:
        return Endpoint("http://127.0.0.1")
    base_url = options["base_url"] or os.environ.get("OPENAI_BASE_URL", "")
    if not base_url:
        raise UsageError("no address: set OPENAI_BASE_URL or pass --base-url https://…/v1 (or try --simulate)")
    warning = check_base_url(base_url, insecure_http=options["insecure_http"])
    if warning:
        click.echo(f"batchrun: {warning}", err=True)
    if options["proxy"]:
        check_proxy(options["proxy"])
    name, file = options["api_key_env"], options["api_key_file"]
    if file is not None:
        try:
            key = check_key(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the key from {file}: {reason}") from None
    elif name in os.environ:
        key = check_key(os.environ[name], f"${name}")
    else:
        raise UsageError(f"no key: set {name}, or name another variable (--api-key-env) or a file (--api-key-file)")
    return Endpoint(base_url, key, options["proxy"])


def _simulated(options: dict[str, Any]) -> GatewayOptions | None:
    if not options["simulate"]:
        return None
    latency_s = options["simulate_latency"]
    script = options["simulate_script"]
    return _gateway_options(0, {"latency": latency_s, "latency_p99": 4 * latency_s, "script": script})


def _gateway_options(port: int, options: dict[str, Any]) -> GatewayOptions:
    from batchrun.gateway import GatewayOptions

    key_env = options.get("api_key_env")
    if key_env and key_env not in os.environ:
        raise UsageError(f"--api-key-env {key_env}: there is no such variable")
    try:
        return GatewayOptions(
            port=port,
            latency_median_s=options["latency"],
            latency_p99_s=options["latency_p99"],
            rpm=options.get("rpm"),
            tpm=options.get("tpm"),
            capacity=options.get("capacity"),
            queue=options.get("queue", False),
            script=options["script"],
            fault_rate=options.get("fault_rate", 0.0),
            api_keys={os.environ[key_env]} if key_env else None,
            seed=options.get("seed", 0),
            keep_rows=False,
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _confirm_overwrite(path: Path) -> None:
    """Ask before results are lost, where somebody is there to answer."""
    if path.is_file() and path.stat().st_size and sys.stdin.isatty():
        click.confirm(f"{path} holds results; lose them and start over?", abort=True, err=True)


# ---------------------------------------------------------------------------------------- running a job


def _drive(run: Run) -> None:
    """Run the event loop. The first signal drains, the second leaves at once."""
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        loop = runner.get_loop()
        for number in (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
            with contextlib.suppress(NotImplementedError):  # Windows: Ctrl-C raises KeyboardInterrupt instead
                loop.add_signal_handler(number, run.interrupt, signal.Signals(number))
        runner.run(run.send())


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _show_report(run: Run, options: dict[str, Any], path: Path | None) -> None:
    from batchrun.report import render

    made = run.report(_next_command(run))
    target = options["report_file"] or (path and path.with_name(path.name + ".report.json"))
    if target is not None:
        temporary = target.with_name(target.name + ".tmp")
        try:
            temporary.write_bytes(made.to_json())
            temporary.replace(target)
        except OSError as error:
            click.echo(
                f"batchrun: cannot write {target}: {error.strerror}; `batchrun report` makes it again",
                err=True,
            )
    if not options["quiet"]:
        click.echo(render(made), err=True, nl=False)
    elif run.stopped:
        click.echo(f"batchrun: stopped: {run.stopped.why}", err=True)


def _next_command(run: Run) -> str:
    """The same command again; with --retry-errors where only failures are left that do not heal by themselves."""
    words = [word for word in sys.argv[1:] if word != "--overwrite"]
    if "--proxy" in words:
        words[words.index("--proxy") + 1] = "…"  # it may hold a password
    if run.only_failures_left and "--retry-errors" not in words:
        words.append("--retry-errors")
    return shlex.join(["batchrun", *words])


def _counts(counter: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counter.items(), key=lambda item: -item[1]))


def main() -> NoReturn:
    """The `batchrun` command."""
    try:
        cli(standalone_mode=False)
    except BatchrunError as error:
        click.echo(f"batchrun: {error}", err=True)
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        click.echo("batchrun: interrupted; nothing is lost", err=True)
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads: do not complain at exit
        sys.exit(3)
    sys.exit(0)


if __name__ == "__main__":
    main()
