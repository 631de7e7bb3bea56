"""`batchrun estimate`: what a job still takes; a run shows the same after its pilot."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.options import (
    OUTPUT,
    PATH,
    PRICES,
    RATE,
    REQUEST,
    REQUESTS,
    OutputOptions,
    PriceOptions,
    RateOptions,
    RequestOptions,
)
from batchrun.cli.reuse_options import DEDUP, DedupOptions
from batchrun.cli.types import ResultsType
from batchrun.cli.verb import Option, OptionGroup, Verb

if TYPE_CHECKING:
    from batchrun.estimate.estimate import Estimate
    from batchrun.job.endpoints import NamedEndpoint
    from batchrun.job.job import Job
    from batchrun.records.request import RequestLine


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
            type=ResultsType(exists=False),
            help="Result file of this job, if it has started: its lines tell what the rest will take.",
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class EndpointsOptions:
    """The file that names the endpoints of the job."""

    endpoints: Path | None


ENDPOINTS = OptionGroup(
    "Gateway",
    "gateways",
    EndpointsOptions,
    (
        Option(
            ["--endpoints"],
            metavar="FILE",
            type=PATH,
            help="Divide lines and USD among the endpoints of a TOML file, at the prices of each.",
        ),
    ),
)


@click.command("estimate", cls=Verb, groups=(FILES, REQUEST, ENDPOINTS, RATE, PRICES, DEDUP, OUTPUT))
@click.argument("requests", type=REQUESTS)
def command(
    requests: str,
    files: FileOptions,
    request: RequestOptions,
    gateways: EndpointsOptions,
    rate: RateOptions,
    prices: PriceOptions,
    dedup: DedupOptions,
    output: OutputOptions,
) -> None:
    """Estimate what REQUESTS (- is standard input) will still take: tokens, USD, time. Nothing is sent.

    \b
    Example:
      batchrun estimate requests.jsonl -o results.jsonl
    """
    from batchrun.estimate.text import render_estimate
    from batchrun.job.endpoints import read_endpoints

    endpoints = read_endpoints(gateways.endpoints, environ=None) if gateways.endpoints is not None else ()
    made = estimated(requests, files.results, request, rate, prices.prices, dedup=dedup.dedup, endpoints=endpoints)
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
    is_answered: Callable[[RequestLine], bool] | None = None,
    endpoints: Sequence[NamedEndpoint] = (),
) -> Estimate:
    """What a job still takes, or a part of it, by its files and limits. Raises `UsageError`."""
    from batchrun.billing.pricing import PriceBook
    from batchrun.estimate.by_endpoint import Place, divided
    from batchrun.estimate.estimate import Allowed, estimate_file
    from batchrun.job.endpoints import books_of, refuse_misnamed, refuse_unserved
    from batchrun.requests.reader import RequestFile
    from batchrun.results.last_run import read_controls
    from batchrun.results.parts import bytes_of
    from batchrun.results.paths import ResultPaths
    from batchrun.results.scan import read_many
    from batchrun.results.tries import open_tries

    is_begun = results is not None and os.path.lexists(results)
    begun = ResultPaths.of(results) if results is not None and is_begun else None
    bounds = rate.concurrency
    is_fixed = bounds.least == bounds.most
    fixed, most = (bounds.most, None) if is_fixed else (None, bounds.most)
    allowed = Allowed(fixed, rate.rpm, rate.tpm, most)
    book, books = PriceBook.load(prices), books_of(endpoints)
    with RequestFile(requests, request.overrides()) as file:
        made = estimate_file(
            file,
            (heads for heads, _ in read_many(begun.results)) if begun is not None else (),
            book,
            allowed,
            sample=sample,
            limit=limit,
            dedup=dedup,
            is_answered=is_answered,
            books=books,
            tries=open_tries(begun) if begun is not None else None,
            controls=read_controls(begun.log) if begun is not None else (),
            record_bytes=bytes_of(begun.results) if begun is not None else 0,
        )
    if not endpoints:
        return made
    refuse_unserved(endpoints, file.survey.models)
    refuse_misnamed(endpoints, file.survey.named, file.name)
    places = [Place(one.name, one.weight, one.tier, one.serves, books.get(one.name)) for one in endpoints]
    return divided(made, places, book)


def estimate_of_rest(job: Job, request: RequestOptions, rate: RateOptions) -> Estimate:
    """What is left of a job whose pilot is done. Raises `UsageError`."""
    from batchrun.job.prepare import answers_of

    with contextlib.ExitStack() as files:
        answers = answers_of(job, files)
        if answers is not None:
            answers.read()
        return estimated(
            str(job.requests),
            job.results,
            request,
            rate,
            job.prices,
            sample=job.sample,
            limit=job.limit,
            dedup=job.dedup,
            is_answered=None if answers is None else lambda line: answers.take(line.body_hash, line.url) is not None,
            endpoints=job.endpoints,
        )
