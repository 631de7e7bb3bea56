"""`batchrun verify`: is a result file exactly the answer to a request file?"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.options import (
    OUTPUT,
    PRICES,
    REQUEST,
    REQUESTS,
    RESULTS,
    OutputOptions,
    PriceOptions,
    RequestOptions,
)
from batchrun.cli.verb import Verb


@click.command("verify", cls=Verb, groups=(REQUEST, PRICES, OUTPUT))
@click.argument("requests", type=REQUESTS)
@click.argument("results", type=RESULTS)
def command(requests: str, results: Path, request: RequestOptions, prices: PriceOptions, output: OutputOptions) -> None:
    """Check that RESULTS holds exactly one good record for each line of REQUESTS. The exit code is 1 if not.

    Pass the --model, --set and --stream that the run had: they change what was sent.

    \b
    Example:
      batchrun verify requests.jsonl results.jsonl
    """
    from batchrun.billing.pricing import PriceBook
    from batchrun.report.verify import Verifier, render
    from batchrun.requests.reader import RequestFile

    console.say_rescue(results)
    with RequestFile(requests, request.overrides()) as file:
        found = Verifier(file, results, PriceBook.load(prices.prices)).run()
    console.print_out(found.to_json() if output.as_json else render(found))
    sys.exit(0 if found.is_complete else 1)
