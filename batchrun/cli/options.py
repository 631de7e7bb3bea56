"""The options of the command line, and the values that they make. Imports late: the help must be there at once."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.errors import UsageError
from batchrun.limits.quotas import LEAST_PER_MINUTE

if TYPE_CHECKING:
    from batchrun.job.job import Job
    from batchrun.job.tune import Tuning
    from batchrun.limits.options import Concurrency
    from batchrun.records.request import Overrides
    from batchrun.simulator.options import GatewayOptions
    from batchrun.transport.endpoint import Endpoint

Command = Callable[..., Any]


class FiniteRange(click.FloatRange):
    """A range of numbers; NaN and infinity, which compare as they like, are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The option's text as a number."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number that can be worked with", param, ctx)
        return number


class UsdType(click.ParamType[Any]):
    """`20` or `0.5`: an exact amount of US dollars."""

    name = "usd"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Decimal:
        """The option's text as a Decimal."""
        try:
            amount = Decimal(str(value).removeprefix("$"))
        except InvalidOperation:
            amount = Decimal("NaN")
        if not amount.is_finite() or not Decimal("1e-9") <= amount <= Decimal("1e9"):
            self.fail(f"{value!r} is no amount of US dollars, such as 20 or 0.5", param, ctx)
        return amount


class ConcurrencyType(click.ParamType[Any]):
    """`64`, `auto` or `4-200`."""

    name = "concurrency"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Concurrency:
        """The option's text as a `Concurrency`."""
        from batchrun.limits.options import Concurrency

        if isinstance(value, Concurrency):
            return value
        try:
            return Concurrency.parse(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


class RateType(FiniteRange):
    """`3000`, or `off`."""

    def __init__(self) -> None:
        super().__init__(LEAST_PER_MINUTE)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The option's text as a number, 0 where it is off."""
        return 0.0 if str(value).lower() == "off" else float(super().convert(value, param, ctx))


def _options(*options: Command) -> Command:
    """Several click options as one decorator, in the order in which the help shows them."""

    def decorate(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


body_options = _options(
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
endpoint_options = _options(
    click.option("--base-url", metavar="URL", help="Address of the gateway.  [default: $OPENAI_BASE_URL]"),
    click.option("--api-key-env", metavar="NAME", default="OPENAI_API_KEY", help="Variable that holds the key."),
    click.option("--api-key-file", metavar="FILE", type=click.Path(path_type=Path), help="File that holds the key."),
    click.option("--proxy", metavar="URL", help="HTTP proxy; those of the environment are not used."),
    click.option("--insecure-http", is_flag=True, help="Allow http:// to a public host: the key travels in the clear."),
)
pace_options = _options(
    click.option(
        "-c",
        "--concurrency",
        type=ConcurrencyType(),
        default="auto",
        metavar="N|auto|MIN-MAX",
        help="Requests in flight: a number, or found out by itself (auto is 1-2000).",
    ),
    click.option("--rpm", type=FiniteRange(LEAST_PER_MINUTE), metavar="N", help="Requests a minute, at most."),
    click.option("--tpm", type=FiniteRange(LEAST_PER_MINUTE), metavar="N", help="Tokens a minute, at most."),
)
tune_options = _options(
    click.option("-c", "--concurrency", type=ConcurrencyType(), metavar="N|auto|MIN-MAX", help="Requests in flight."),
    click.option("--rpm", type=RateType(), metavar="N|off", help="Requests a minute, at most; off is no limit."),
    click.option("--tpm", type=RateType(), metavar="N|off", help="Tokens a minute, at most; off is no limit."),
    click.option("--max-cost", type=UsdType(), metavar="USD", help="What all runs of this result file may cost."),
    click.option("--pause/--resume", "paused", default=None, help="Send nothing more for now, or go on."),
)
limit_options = _options(
    click.option(
        "--max-attempts",
        type=click.IntRange(1),
        default=6,
        metavar="N",
        help="Sends of one line, the first included.",
    ),
    click.option(
        "--attempt-timeout",
        type=FiniteRange(0, min_open=True),
        default=600.0,
        metavar="S",
        help="Seconds for one attempt.",
    ),
    click.option(
        "--connect-timeout",
        type=FiniteRange(0, min_open=True),
        default=10.0,
        metavar="S",
        help="Seconds to connect.",
    ),
    click.option(
        "--idle-timeout",
        type=FiniteRange(0, min_open=True),
        default=120.0,
        metavar="S",
        help="Seconds between two events of a stream.",
    ),
    click.option(
        "--max-outage",
        type=FiniteRange(0, min_open=True),
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
        type=FiniteRange(0),
        default=30.0,
        metavar="S",
        help="Seconds to finish what is in flight after Ctrl-C.",
    ),
)
_ERROR_KINDS = ("failed", "incomplete")
part_options = _options(
    click.option("-n", "--limit", type=click.IntRange(1), metavar="N", help="Send no more than N lines in this run."),
    click.option("--sample", type=click.IntRange(1), metavar="N", help="Send only lines among N drawn at random."),
    click.option(
        "--pilot",
        type=click.IntRange(10),
        metavar="N",
        help="Send N lines at random first, show what they say of the whole, and ask.",
    ),
    click.option("--yes", is_flag=True, help="Go on after the pilot without asking."),
    click.option("--max-cost", type=UsdType(), metavar="USD", help="What all runs of this result file may cost."),
    click.option(
        "--max-line-cost",
        type=UsdType(),
        metavar="USD",
        help="What a line costs at most whose request does not bound it.",
    ),
    click.option(
        "--max-errors", metavar="N|RATE", help="Stop once more lines went wrong: 20, or 5% of the last 1,000."
    ),
    click.option(
        "--max-errors-on",
        "error_kinds",
        type=click.Choice(["failed", "refused", "incomplete", "schema_mismatch"]),
        multiple=True,
        default=_ERROR_KINDS,
        help="What counts as going wrong; repeatable. misfit: an answer that does not fit its request's JSON schema.",
    ),
)
resume_options = _options(
    click.option("--retry-errors", is_flag=True, help="Send all failed lines again, not only those that may heal."),
    click.option(
        "--changed",
        type=click.Choice(["refuse", "resend", "keep"]),
        default="refuse",
        help="Lines edited after their answer: refuse to run, send them again, or keep the answers.",
    ),
    click.option("--overwrite", is_flag=True, help="Start over and lose the results there are."),
)
simulate_options = _options(
    click.option(
        "--simulate",
        is_flag=True,
        help="Use a gateway simulated in this process: no key, no network, no cost.",
    ),
    click.option("--simulate-latency", type=FiniteRange(0), metavar="S", help="Its median latency.  [default: 0.3]"),
    click.option(
        "--simulate-script",
        default="",
        show_default=False,
        metavar="WORDS",
        help='Its faults, as in "429 ok; reset ok".',
    ),
)
screen_options = _options(
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option("-v", "--verbose", is_flag=True, help="Print a line for every failed attempt."),
)
prices_option = click.option(
    "--prices",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Prices (TOML or JSON, USD per million tokens).",
)


# -------------------------------------------------------------------------------- from options to values


def make_job(requests: str, results: Path | None, options: dict[str, Any]) -> Job:
    """The job that the options of `run` describe. Raises `UsageError`."""
    from batchrun.engine.error_limit import MaxErrors
    from batchrun.engine.retry import RetryPolicy
    from batchrun.job.job import Job
    from batchrun.job.resume import Changed
    from batchrun.limits.options import Limits
    from batchrun.transport.http import Timeouts

    _refuse_halves(options)
    return Job(
        requests=requests,
        results=results,
        endpoint=_endpoint(options),
        overrides=make_overrides(options),
        limits=Limits(
            concurrency=options["concurrency"],
            requests_per_minute=options["rpm"],
            tokens_per_minute=options["tpm"],
            max_outage_s=options["max_outage"],
        ),
        timeouts=Timeouts(options["attempt_timeout"], options["connect_timeout"], options["idle_timeout"]),
        retry=RetryPolicy(options["max_attempts"]),
        changed=Changed(options["changed"]),
        retry_errors=options["retry_errors"],
        overwrite=options["overwrite"],
        prices=options["prices"],
        limit=options["limit"],
        sample=options["sample"],
        max_errors=MaxErrors.parse(options["max_errors"], options["error_kinds"]) if options["max_errors"] else None,
        max_cost_usd=options["max_cost"],
        max_line_cost_usd=options["max_line_cost"],
        grace_s=options["grace"],
        max_response_bytes=options["max_response_bytes"],
        simulate=_simulated(options),
    )


def _refuse_halves(options: dict[str, Any]) -> None:
    """Raise `UsageError` for an option that says something of another one that is not there."""
    if options["max_line_cost"] is not None and options["max_cost"] is None:
        raise UsageError("--max-line-cost says what --max-cost is to reckon with; give --max-cost, too")
    if options["error_kinds"] != _ERROR_KINDS and not options["max_errors"]:
        raise UsageError("--max-errors-on says what --max-errors counts; give --max-errors, too")


def make_tuning(options: dict[str, Any]) -> Tuning:
    """What `batchrun tune` asks of a run."""
    from batchrun.job.tune import Tuning

    return Tuning(
        concurrency=str(options["concurrency"]) if options["concurrency"] is not None else None,
        rpm=options["rpm"],
        tpm=options["tpm"],
        max_cost_usd=str(options["max_cost"]) if options["max_cost"] is not None else None,
        paused=options["paused"],
    )


def make_overrides(options: dict[str, Any]) -> Overrides:
    """What `--model`, `--set` and `--stream` change. Raises `UsageError`."""
    import orjson

    from batchrun.records.request import Overrides

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
    from batchrun.transport.endpoint import Endpoint, check_base_url, check_key, check_proxy

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
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]*", name, re.IGNORECASE):
        raise UsageError("--api-key-env takes the name of a variable, such as MY_KEY, and never a key itself")
    if file is not None:
        try:
            key = check_key(file.read_text(encoding="utf-8"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the key from {file}: {reason}") from None
    elif name in os.environ:
        key = check_key(os.environ[name], f"${name}")
    else:
        shown = name if name.isupper() and len(name) <= 40 else "the variable that --api-key-env names"
        raise UsageError(f"no key: set {shown}, or name another variable (--api-key-env) or a file (--api-key-file)")
    return Endpoint(base_url, key, options["proxy"])


def _simulated(options: dict[str, Any]) -> GatewayOptions | None:
    if not options["simulate"]:
        if options["simulate_script"] or options["simulate_latency"] is not None:
            raise UsageError("--simulate-script and --simulate-latency need --simulate; without it requests cost money")
        return None
    latency_s = 0.3 if options["simulate_latency"] is None else options["simulate_latency"]
    script = options["simulate_script"]
    return make_gateway_options(0, {"latency": latency_s, "latency_p99": 4 * latency_s, "script": script})


def make_gateway_options(port: int, options: dict[str, Any]) -> GatewayOptions:
    """The simulated gateway that the options describe. Raises `UsageError`."""
    from batchrun.simulator.options import GatewayOptions

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
