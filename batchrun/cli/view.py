"""`batchrun view`: results on a local page, to look at, search and compare with what is right."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import webbrowser
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli import console
from batchrun.cli.eval_options import RESULTS_OR_JOB
from batchrun.cli.options import PATH, PRICES, PriceOptions
from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from batchrun.viewer.guard import Guard
    from batchrun.viewer.index import Index


@dataclass(frozen=True, slots=True)
class ViewOptions:
    """What is shown beside the results, and how the page is opened. `port` 0: a free one."""

    requests: Path | None
    port: int
    no_open: bool


VIEW = OptionGroup(
    "Files",
    "options",
    ViewOptions,
    (
        Option(
            ["--requests"],
            type=PATH,
            metavar="FILE",
            default_note="the one that the run log names",
            help="Request file, for the prompts.",
        ),
        Option(
            ["--port"],
            type=WholeNumber(0, 65535),
            default=0,
            metavar="N",
            default_note="a free one",
            help="Port of the page on 127.0.0.1.",
        ),
        Option(["--no-open"], is_flag=True, help="Print the address, and open no browser."),
    ),
)


@click.command("view", cls=Verb, groups=(VIEW, PRICES))
@click.argument("results", type=RESULTS_OR_JOB)
def command(results: Path, options: ViewOptions, prices: PriceOptions) -> None:
    """Show RESULTS on a page of this machine: all rows, searched and filtered, and each with its prompt and answer.

    \b
    Example:
      batchrun view results.jsonl
    """
    from batchrun.datasets.requests_of import find_requests
    from batchrun.evaluation.asked import results_in
    from batchrun.viewer.server import serve

    results = results_in(results)
    requests = find_requests(results, options.requests)
    console.say_rescue(results)
    with contextlib.closing(_index(results, prices)) as index:
        try:
            asyncio.run(_until_stopped(serve(index, requests, options.port, lambda guard: _tell(guard, options))))
        except OSError as error:
            why = os.strerror(error.errno or 0)
            raise UsageError(f"cannot listen on port {options.port}: {why}; choose another --port") from None


def _index(results: Path, prices: PriceOptions) -> Index:
    from batchrun.billing.pricing import PriceBook
    from batchrun.evaluation.asked import Asked
    from batchrun.results.paths import ResultPaths
    from batchrun.viewer.facts import FactsReader
    from batchrun.viewer.index import Index

    try:
        asked = Asked.of(results)
    except UsageError as error:
        console.say(f"batchrun: answers are shown without fields: {error}")
        asked = Asked()
    try:
        reader = FactsReader(asked, PriceBook.load(prices.prices))
        priced = b"" if prices.prices is None else prices.prices.read_bytes()
        return Index(results, ResultPaths.of(results).index, reader, priced)
    except OSError as error:
        raise UsageError(f"cannot read {results}: {error.strerror}") from error


def _tell(guard: Guard, options: ViewOptions) -> None:
    console.print_out(f"page: {guard.address}\n")
    console.say("batchrun: the page works on this machine alone; Ctrl-C ends it")
    if not options.no_open and not webbrowser.open(guard.address_once()):
        console.say("batchrun: no browser could be opened; open the address yourself")


async def _until_stopped(serving: Coroutine[Any, Any, None]) -> None:
    """Serve until SIGINT or SIGTERM."""
    task = asyncio.ensure_future(serving)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # then Ctrl-C ends it by KeyboardInterrupt
            loop.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
