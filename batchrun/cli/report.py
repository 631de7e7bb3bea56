"""`batchrun report`: the report of a result file, made again from the files, also as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.eval_options import GOLD_OPTIONS, RESULTS_OR_JOB, SCORING, ScoringOptions
from batchrun.cli.gateway_options import ENDPOINT_PRICES, EndpointPrices
from batchrun.cli.last_words import how_it_is_doing, where_answers_are
from batchrun.cli.options import OUTPUT, PRICES, OutputOptions, PriceOptions
from batchrun.cli.page_options import PAGE, PageOptions
from batchrun.cli.table_options import DataOptions
from batchrun.cli.verb import Verb
from batchrun.errors import UsageError
from batchrun.records.words import counted

if TYPE_CHECKING:
    from batchrun.evaluation.evaluate import Question


@click.command("report", cls=Verb, groups=(PRICES, ENDPOINT_PRICES, PAGE, SCORING, GOLD_OPTIONS, OUTPUT))
@click.argument("results", type=RESULTS_OR_JOB)
def command(
    results: Path,
    prices: PriceOptions,
    endpoint_prices: EndpointPrices,
    page: PageOptions,
    scoring: ScoringOptions,
    data_options: DataOptions,
    output: OutputOptions,
) -> None:
    """Make the report of RESULTS again, from the file alone. With --html it is a page as well: what went wrong, the
    bill, speed over time, latencies and costs, shares of labels, with --gold how right they are, a few rows.

    \b
    Example:
      batchrun report results.jsonl --prices prices.toml
      batchrun report results.jsonl --html report.html --gold gold.csv --key id
    """
    from msgspec.structs import replace

    from batchrun.billing.pricing import PriceBook
    from batchrun.evaluation.asked import results_in
    from batchrun.report.rebuild import rebuild
    from batchrun.report.text import render

    told, results = results, results_in(results)
    page.check(results)
    question = _question(told, page, scoring, data_options)
    console.say_rescue(results)
    rebuilt = rebuild(results, PriceBook.load(prices.prices), endpoint_prices.books())
    if rebuilt.damaged_lines:
        lines = counted(rebuilt.damaged_lines, "damaged line")
        console.say(f"batchrun: skipped {lines} in {results}")
    report, where = rebuilt.report, where_answers_are(results, rebuilt.report)
    if report.running:
        report = replace(report, next_command=how_it_is_doing(results))
    console.print_out(report.to_json() if output.as_json else render(report, where))
    if page.html is not None:
        from batchrun.html.report import Source
        from batchrun.report.verdict import with_last_words
        from batchrun.results.paths import ResultPaths

        report = with_last_words(report, ResultPaths.of(results).report)
        page.write(Source(report, rebuilt.tally, results, rebuilt.damaged_lines, page.with_text, question))


def _question(told: Path, page: PageOptions, scoring: ScoringOptions, table: DataOptions) -> Question | None:
    """What the answers are held against, if anything: also what the job in a folder was told.

    Raises `UsageError` for options that do nothing.
    """
    from batchrun.labelling.agreement import gold_of_job

    if scoring.gold is None and not (page.html is not None and told.is_dir() and gold_of_job(told)):
        scoring.refuse_without_gold()
        return None
    if page.html is None:
        raise UsageError("--gold is shown on the page; pass --html FILE, too, or use batchrun eval")
    return scoring.question(told, table)
