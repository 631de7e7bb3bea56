"""`batchrun compare`: which of several result files is better, row by row."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.eval_options import GOLD_OPTIONS, RESULTS_OR_JOB, SCORING, ScoringOptions
from batchrun.cli.options import OUTPUT, PRICES, OutputOptions, PriceOptions
from batchrun.cli.table_options import DataOptions
from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import UsageError
from batchrun.evaluation.defaults import SHOWN_FLIPS


@dataclass(frozen=True, slots=True)
class FlipOptions:
    """How many rows are shown on which two files differ."""

    flips: int


FLIPS = OptionGroup(
    "Screen",
    "flips",
    FlipOptions,
    (
        Option(
            ["--flips"],
            type=WholeNumber(0),
            default=SHOWN_FLIPS,
            metavar="N",
            help="Show at most N rows, of each pair and field, that one has right and the other has not.",
        ),
    ),
)


@click.command("compare", cls=Verb, groups=(SCORING, GOLD_OPTIONS, PRICES, FLIPS, OUTPUT))
@click.argument("results", type=RESULTS_OR_JOB, nargs=-1, required=True, metavar="RESULTS OTHER [MORE]")
def command(
    results: tuple[Path, ...],
    scoring: ScoringOptions,
    data_options: DataOptions,
    prices: PriceOptions,
    flips: FlipOptions,
    output: OutputOptions,
) -> None:
    """Compare result files over the rows that they have in common. Nothing is sent.

    The difference of each two files comes with its 95% interval and a test of the rows on which they differ.
    Without --gold, which a folder of `batchrun label` may have, it is shown how far they agree.

    \b
    Example:
      batchrun compare old.jsonl new.jsonl --gold gold.csv --key id
    """
    from batchrun.billing.pricing import PriceBook
    from batchrun.evaluation.agreement import agree
    from batchrun.evaluation.asked import results_in
    from batchrun.evaluation.compare import compare
    from batchrun.evaluation.compare_text import render, render_agreement

    if len(results) < 2:
        raise UsageError("compare needs two result files or more")
    first, results = results[0], tuple(map(results_in, results))
    for path in results:
        console.say_rescue(path)
    book = PriceBook.load(prices.prices)
    if not scoring.has_gold(first):
        scoring.refuse_without_gold()
        agreement = agree(results, book)
        console.print_out(agreement.to_json() if output.as_json else render_agreement(agreement))
        return
    found = compare(results, scoring.question(first, data_options), book, flips.flips)
    console.print_out(found.to_json() if output.as_json else render(found))
