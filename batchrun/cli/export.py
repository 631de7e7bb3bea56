"""`batchrun export`: the answers of a result file as a table."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.export_options import TABLE, TableOptions, print_counts
from batchrun.cli.options import RESULTS
from batchrun.cli.verb import Verb


@click.command("export", cls=Verb, groups=(TABLE,))
@click.argument("results", type=RESULTS)
def command(results: Path, table: TableOptions) -> None:
    """Write the answers in RESULTS as a table: id, line, the fields of the JSON schema, text, _status and _error.

    The rows have the order of the requests. The exit code is 1 if a row is not ok.

    \b
    Example:
      batchrun export results.jsonl -o answers.csv
    """
    from batchrun.datasets.export import export

    console.say_rescue(results)
    sys.exit(print_counts(export(results, table.requests, table.wanted()), table.out))
