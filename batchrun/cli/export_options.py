"""The options of `export` and `join`: what the table that they write has beside the labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.options import USER_PRICES
from batchrun.cli.types import WordsType
from batchrun.cli.verb import Option, OptionGroup
from batchrun.records.words import printable

if TYPE_CHECKING:
    from batchrun.datasets.output import Counts, Wanted

EXTRAS = ("cost", "tokens", "latency", "model", "attempts", "id", "raw")

WITH = Option(
    ["--with", "extras"],
    type=WordsType(EXTRAS),
    default=(),
    metavar="WORDS",
    help="More columns, any of cost,tokens,latency,model,attempts,id,raw.",
)
FAILED_ROWS = Option(
    ["--failures", "failed_rows"],
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write the rows that are not ok to FILE, to prepare them again.",
)
PREFIX = Option(["--prefix"], default="", metavar="TEXT", help="Begin the names of all new columns with TEXT.")


@dataclass(frozen=True, slots=True)
class TableOptions:
    """What is written, and where; the request file if the run log does not tell it."""

    out: Path
    requests: Path | None
    extras: tuple[str, ...]
    prefix: str
    prices: Path | None

    def wanted(self) -> Wanted:
        """The same, for the writing of a table. Raises `UsageError` for a price file that cannot be read."""
        from batchrun.billing.pricing import PriceBook
        from batchrun.datasets.extras import Extra
        from batchrun.datasets.output import Wanted

        extras = tuple(map(Extra, self.extras))
        prices = PriceBook.load(self.prices)
        return Wanted(self.out, extras, self.prefix, prices, notice=lambda text: console.say(f"batchrun: {text}"))


TABLE = OptionGroup(
    "Files",
    "table",
    TableOptions,
    (
        Option(
            ["-o", "--output", "out"],
            metavar="FILE",
            required=True,
            type=click.Path(dir_okay=False, path_type=Path),
            help="Table to write: .csv, .tsv, .jsonl or .parquet.",
        ),
        Option(
            ["--requests"],
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            default_note="the file that the run log names",
            help="Request file of the results.",
        ),
        WITH,
        PREFIX,
        USER_PRICES,
    ),
)


def print_counts(counts: Counts, out: Path) -> int:
    """Print how the rows went, and return the exit code: 0 if all are ok."""
    if counts.fenced:
        console.say(f"batchrun: {counts.fenced:,} of the answers stood in a code fence, which was taken off")
    console.print_out(f"{counts}: {printable(str(out))}\n")
    return 0 if counts.are_all_ok else 1
