"""`batchrun tune`: how a run is doing, and other limits for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.options import MAX_COST
from batchrun.cli.types import ConcurrencyType, RateType, ResultsType
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.job.tune import Tuning
    from batchrun.limits.options import Concurrency


@dataclass(frozen=True, slots=True)
class TuneOptions:
    """What is to be changed. None leaves it as it is; a rate of 0 is no limit."""

    concurrency: Concurrency | None
    rpm: float | None
    tpm: float | None
    max_cost_usd: Decimal | None
    paused: bool | None
    endpoint: str | None

    def tuning(self) -> Tuning:
        """The request to the run."""
        from batchrun.job.tune import Tuning

        return Tuning(
            concurrency=str(self.concurrency) if self.concurrency is not None else None,
            rpm=self.rpm,
            tpm=self.tpm,
            max_cost_usd=str(self.max_cost_usd) if self.max_cost_usd is not None else None,
            paused=self.paused,
            endpoint=self.endpoint,
        )


TUNE = OptionGroup(
    "Limits",
    "changes",
    TuneOptions,
    (
        Option(["-c", "--concurrency"], type=ConcurrencyType(), metavar="N|auto|MIN-MAX", help="Requests in flight."),
        Option(["--rpm"], type=RateType(), metavar="N|off", help="Send at most N requests per minute; off: no limit."),
        Option(["--tpm"], type=RateType(), metavar="N|off", help="Use at most N tokens per minute; off: no limit."),
        MAX_COST,
        Option(["--endpoint"], metavar="NAME", help="Change the limits of this endpoint alone."),
        Option(["--pause/--resume", "paused"], default=None, help="Stop sending for now, or continue."),
    ),
)


def tuning_of(words: Sequence[str]) -> Tuning:
    """The request that some options of this command make. Raises `UsageError` in the words of the command."""
    try:
        context = command.make_context("tune", [*words, "--", "results"])
    except click.UsageError as error:
        raise UsageError(error.format_message()) from None
    TUNE.take(context.params)
    changes: TuneOptions = context.params[TUNE.name]
    return changes.tuning()


@click.command("tune", cls=Verb, groups=(TUNE,))
@click.argument("results", type=ResultsType(exists=False))
def command(results: Path, changes: TuneOptions) -> None:
    """Change the limits of the run that is writing RESULTS, and print its state. Without options, only print it.

    \b
    Example:
      batchrun tune results.jsonl -c 64 --rpm 3000
    """
    from batchrun.job.tune import ask, render

    console.print_out(render(ask(results, changes.tuning())))
