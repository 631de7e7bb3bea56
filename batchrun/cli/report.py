"""`batchrun report`: the report of a result file, made again from the files."""

from __future__ import annotations

from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.last_words import where_answers_are
from batchrun.cli.options import OUTPUT, PRICES, RESULTS, OutputOptions, PriceOptions
from batchrun.cli.verb import Verb
from batchrun.records.words import counted


@click.command("report", cls=Verb, groups=(PRICES, OUTPUT))
@click.argument("results", type=RESULTS)
def command(results: Path, prices: PriceOptions, output: OutputOptions) -> None:
    """Make the report of RESULTS again, from the file alone.

    \b
    Example:
      batchrun report results.jsonl --prices prices.toml
    """
    from batchrun.billing.pricing import PriceBook
    from batchrun.report.rebuild import rebuild
    from batchrun.report.text import render

    console.say_rescue(results)
    rebuilt = rebuild(results, PriceBook.load(prices.prices))
    if rebuilt.damaged_lines:
        lines = counted(rebuilt.damaged_lines, "damaged line")
        console.say(f"batchrun: skipped {lines} in {results}")
    report, where = rebuilt.report, where_answers_are(results, rebuilt.report)
    console.print_out(report.to_json() if output.as_json else render(report, where))
