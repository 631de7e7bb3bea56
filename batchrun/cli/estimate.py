"""`batchrun estimate`: what a job still takes; a run shows the same after its pilot."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.options import (
    OUTPUT,
    PRICES,
    RATE,
    REQUEST,
    REQUESTS,
    OutputOptions,
    PriceOptions,
    RateOptions,
    RequestOptions,
    ReuseOptions,
    reuse_group,
)
from batchrun.cli.verb import Option, OptionGroup, Verb

if TYPE_CHECKING:
    from batchrun.estimate.estimate import Estimate


@dataclass(frozen=True, slots=True)
class FileOptions:
    """The result file of the job, if it has begun."""

    results: Path | None


FILES = OptionGroup(
    "Files",
    "files",
    FileOptions,
    (
        Option(
            ["-o", "--output", "results"],
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="Result file of this job, if it has started: its lines tell what the rest will take.",
        ),
    ),
)


@click.command("estimate", cls=Verb, groups=(FILES, REQUEST, RATE, PRICES, reuse_group(dedup=False), OUTPUT))
@click.argument("requests", type=REQUESTS)
def command(
    requests: str,
    files: FileOptions,
    request: RequestOptions,
    rate: RateOptions,
    prices: PriceOptions,
    reuse: ReuseOptions,
    output: OutputOptions,
) -> None:
    """Estimate what REQUESTS (- is standard input) will still take: tokens, USD, time. Nothing is sent.

    \b
    Example:
      batchrun estimate requests.jsonl -o results.jsonl
    """
    from batchrun.estimate.text import render_estimate

    made = estimated(requests, files.results, request, rate, prices.prices, dedup=reuse.dedup)
    console.print_out(made.to_json() if output.as_json else render_estimate(made))


def estimated(
    requests: str,
    results: Path | None,
    request: RequestOptions,
    rate: RateOptions,
    prices: Path | None,
    *,
    sample: int | None = None,
    limit: int | None = None,
    dedup: bool = False,
) -> Estimate:
    """What a job still takes, or a part of it, by its files and limits. Raises `UsageError`."""
    from batchrun.billing.pricing import PriceBook
    from batchrun.estimate.estimate import Allowed, estimate_file
    from batchrun.requests.reader import RequestFile
    from batchrun.results.scan import read_many

    is_begun = results is not None and os.path.lexists(results)
    records = (heads for heads, _ in read_many(results)) if results is not None and is_begun else ()
    bounds = rate.concurrency
    is_fixed = bounds.least == bounds.most
    fixed, most = (bounds.most, None) if is_fixed else (None, bounds.most)
    allowed = Allowed(fixed, rate.rpm, rate.tpm, most)
    with RequestFile(requests, request.overrides()) as file:
        return estimate_file(file, records, PriceBook.load(prices), allowed, sample=sample, limit=limit, dedup=dedup)
