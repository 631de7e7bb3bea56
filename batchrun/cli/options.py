"""The options that commands take, in groups: how they are spelled, what the help says, the values that they make.

A value holds what the user wrote, by type; what the program makes of it is in the command's file, and for gateways in
`gateway`. Imports late: the help must be there at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli.types import ConcurrencyType, FiniteRange, ResultsType, SampleSize, UsdType, WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError
from batchrun.limits.options import IN_FLIGHT_BYTES
from batchrun.limits.quotas import LEAST_PER_MINUTE

if TYPE_CHECKING:
    from batchrun.limits.options import Concurrency
    from batchrun.records.request import Overrides

APIS = ("responses", "chat", "embeddings")
PATH = click.Path(path_type=Path)
REQUESTS = click.Path(allow_dash=True, readable=False)  # a string, for shells to complete; the reader checks the file
RESULTS = ResultsType()
SECONDS = FiniteRange(0, min_open=True)


CHANGED = Option(
    ["--changed"],
    type=click.Choice(["refuse", "resend", "keep"]),
    default="refuse",
    help="Lines that were edited after their answer: refuse to run, send them again, or keep the answers.",
)
OVERWRITE = Option(["--overwrite"], is_flag=True, help="Discard the existing results and start over.")
NO_LOCK = Option(["--no-lock"], is_flag=True, help="Do not lock the result file: for a disk without file locks.")

# ------------------------------------------------------------------------------------------- the request


@dataclass(frozen=True, slots=True)
class RequestOptions:
    """What is changed in every body: `fields` are assignments FIELD=JSON; None leaves things as each line has them."""

    model: str | None
    fields: tuple[str, ...]
    stream: bool | None
    api: str | None

    def overrides(self) -> Overrides:
        """The changes. Raises `UsageError` for a bad assignment."""
        import orjson

        from batchrun.records.request import Overrides

        changed: dict[str, bytes] = {}
        for assignment in self.fields:
            name, equals, value = assignment.partition("=")
            try:
                orjson.loads(value)
            except orjson.JSONDecodeError:
                equals = ""
            if not equals or not name:
                raise UsageError(f"--set {assignment}: write FIELD=JSON, e.g. temperature=0 or user='\"me\"'")
            changed[name] = value.encode()
        return Overrides(self.model, changed, self.stream, self.api)


STREAM = Option(
    ["--stream/--no-stream"], default=None, help="Ask for streamed (or plain) answers, whatever a line says."
)
REQUEST = OptionGroup(
    "Request",
    "request",
    RequestOptions,
    (
        Option(["--model"], metavar="NAME", help="Model for lines that name none."),
        Option(
            ["--set", "fields"],
            metavar="FIELD=JSON",
            multiple=True,
            help="Set a top-level field of every body; repeatable.",
        ),
        STREAM,
        Option(
            ["--api"],
            type=click.Choice(APIS),
            metavar="responses|chat|embeddings",
            default_note="chat where a body has messages and no input, else responses",
            help="API for lines that name no url.",
        ),
    ),
)

# ---------------------------------------------------------------------------------------------- the limits


@dataclass(frozen=True, slots=True)
class RateOptions:
    """How much may be sent at once (`concurrency`), and per minute (None is no limit)."""

    concurrency: Concurrency
    rpm: float | None
    tpm: float | None


RATE = OptionGroup(
    "Limits",
    "rate",
    RateOptions,
    (
        Option(
            ["-c", "--concurrency"],
            type=ConcurrencyType(),
            default="auto",
            metavar="N|auto|MIN-MAX",
            help="Requests in flight: a number, or bounds within which to find the best number (auto is 1-2000).",
        ),
        Option(["--rpm"], type=FiniteRange(LEAST_PER_MINUTE), metavar="N", help="Send at most N requests per minute."),
        Option(["--tpm"], type=FiniteRange(LEAST_PER_MINUTE), metavar="N", help="Use at most N tokens per minute."),
    ),
)


SAMPLE = Option(
    ["--sample"],
    type=SampleSize(1),
    metavar="N|all",
    help="Send only lines of a random sample of N, the same in every run.",
)


@dataclass(frozen=True, slots=True)
class PartOptions:
    """Which lines a run sends; None are all of them."""

    limit: int | None
    sample: int | None


PART = OptionGroup(
    "Limits",
    "part",
    PartOptions,
    (
        Option(["-n", "--limit"], type=WholeNumber(1), metavar="N", help="Send at most N lines in this run."),
        SAMPLE,
    ),
)


@dataclass(frozen=True, slots=True)
class SendingOptions:
    """How long an attempt may take, and how large an answer and all that is in flight may be."""

    attempt_timeout_s: float
    connect_timeout_s: float
    idle_timeout_s: float
    max_response_bytes: int
    max_in_flight_bytes: int
    grace_s: float


SENDING = OptionGroup(
    "Limits",
    "sending",
    SendingOptions,
    (
        Option(
            ["--attempt-timeout", "attempt_timeout_s"],
            type=SECONDS,
            default=600.0,
            metavar="S",
            help="Give up an attempt after S seconds.",
        ),
        Option(
            ["--connect-timeout", "connect_timeout_s"],
            type=SECONDS,
            default=10.0,
            metavar="S",
            help="Give up connecting after S seconds.",
        ),
        Option(
            ["--idle-timeout", "idle_timeout_s"],
            type=SECONDS,
            default=120.0,
            metavar="S",
            help="Give up a stream after S seconds of silence.",
        ),
        Option(
            ["--max-response-bytes"],
            type=WholeNumber(1024),
            default=64 << 20,
            metavar="N",
            help="Largest answer that is accepted, in bytes.",
        ),
        Option(
            ["--max-in-flight-bytes"],
            type=click.IntRange(1),
            default=IN_FLIGHT_BYTES,
            metavar="N",
            help="Bytes of requests and answers in memory beyond which no further line is read.",
        ),
        Option(
            ["--grace", "grace_s"],
            type=FiniteRange(0),
            default=30.0,
            metavar="S",
            help="Seconds to finish what is in flight after Ctrl-C.",
        ),
    ),
)


# ------------------------------------------------------------------------------------------------- the cost


MAX_COST = Option(
    ["--max-cost", "max_cost_usd"],
    type=UsdType(),
    metavar="USD",
    help="Cost cap for all runs of this result file together.",
)
USER_PRICES = Option(["--prices"], metavar="FILE", type=PATH, help="Price file (TOML or JSON, USD per million tokens).")


@dataclass(frozen=True, slots=True)
class PriceOptions:
    """The user's price file, if any."""

    prices: Path | None


PRICES = OptionGroup("Spending", "prices", PriceOptions, (USER_PRICES,))


@dataclass(frozen=True, slots=True)
class SpendingOptions:
    """What a job may cost, in USD, and by which prices."""

    max_cost_usd: Decimal | None
    max_line_cost_usd: Decimal | None
    prices: Path | None


SPENDING = OptionGroup(
    "Spending",
    "spending",
    SpendingOptions,
    (
        MAX_COST,
        Option(
            ["--max-line-cost", "max_line_cost_usd"],
            type=UsdType(),
            metavar="USD",
            help="Cost cap for lines without max_output_tokens.",
        ),
        USER_PRICES,
    ),
)


@dataclass(frozen=True, slots=True)
class PilotOptions:
    """How many lines go before all others, if any, and whether the others follow without a question."""

    pilot: int | None
    yes: bool


PILOT = OptionGroup(
    "Spending",
    "pilot",
    PilotOptions,
    (
        Option(
            ["--pilot"],
            type=WholeNumber(10),
            metavar="N",
            help="Send N random lines first, show what all lines would cost, and ask. N is at least 10.",
        ),
        Option(["--yes"], is_flag=True, help="Continue after the pilot without asking."),
    ),
)


# --------------------------------------------------------------------------------------------- the failures

ERROR_KINDS = ("failed", "refused", "incomplete", "empty", "invalid", "schema_mismatch")


@dataclass(frozen=True, slots=True)
class FailureOptions:
    """What happens when lines fail. No `error_kinds` are the usual ones."""

    max_attempts: int | None
    max_outage_s: float | None
    retry_errors: bool
    max_errors: str | None
    error_kinds: tuple[str, ...]


FAILURES = OptionGroup(
    "Failures",
    "failures",
    FailureOptions,
    (
        Option(
            ["--max-attempts"],
            type=WholeNumber(1),
            metavar="N",
            default_note="6, and more where other lines fail, too",
            help="Attempts per line, the first one included.",
        ),
        Option(
            ["--max-outage", "max_outage_s"],
            type=SECONDS,
            metavar="S",
            default_note="1800, and 120 for a host that has never answered",
            help="Stop after S seconds without any answer.",
        ),
        Option(["--retry-errors"], is_flag=True, help="Send all failed lines again, not only retryable failures."),
        Option(
            ["--max-errors"],
            metavar="N|RATE",
            help="Stop when more lines than this have gone wrong: 20, 5% of the last 1,000, or off.",
        ),
        Option(
            ["--max-errors-on", "error_kinds"],
            type=click.Choice(ERROR_KINDS),
            multiple=True,
            metavar="KIND",
            default_note="all but refused and schema_mismatch",
            help="What --max-errors counts: failed, refused, incomplete, empty, invalid or schema_mismatch; "
            "repeatable.",
        ),
    ),
)


# ----------------------------------------------------------------------------------------------- the screen


@dataclass(frozen=True, slots=True)
class ScreenOptions:
    """How much is printed while a job runs."""

    quiet: bool
    verbose: bool


SCREEN = OptionGroup(
    "Screen",
    "screen",
    ScreenOptions,
    (
        Option(["-q", "--quiet"], is_flag=True, help="Print errors only."),
        Option(["-v", "--verbose"], is_flag=True, help="Print a line for each failed attempt."),
    ),
)


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Whether a result is printed as JSON."""

    as_json: bool


OUTPUT = OptionGroup(
    "Screen", "output", OutputOptions, (Option(["--json", "as_json"], is_flag=True, help="Print JSON."),)
)
