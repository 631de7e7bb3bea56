"""`batchrun join`: the rows of a table with their labels."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.export_options import FAILED_ROWS, TABLE, TableOptions, print_counts
from batchrun.cli.options import RESULTS
from batchrun.cli.table_options import DATA, DATA_OPTIONS, DataOptions
from batchrun.cli.verb import Option, OptionGroup, Verb


@dataclass(frozen=True, slots=True)
class JoinOptions:
    """What else is written, and whether the answers to the repeats of a row are folded into one."""

    failed_rows: Path | None
    votes: bool
    corrections: Path | None


JOIN = OptionGroup(
    "Rows",
    "join",
    JoinOptions,
    (
        FAILED_ROWS,
        Option(
            ["--votes"],
            is_flag=True,
            help="Fold the answers of --repeat: each field, its share of the votes, and all values.",
        ),
        Option(
            ["--corrections"],
            type=RESULTS,
            metavar="FILE",
            help="What people decided in batchrun view --review, which counts more than the answers.",
        ),
    ),
)


@click.command("join", cls=Verb, groups=(TABLE, DATA_OPTIONS, JOIN))
@click.argument("data", type=DATA)
@click.argument("results", type=RESULTS)
def command(data: str, results: Path, table: TableOptions, data_options: DataOptions, join: JoinOptions) -> None:
    """Write the rows of DATA (- is standard input), as they are, with the labels that RESULTS has for them.

    New columns: the fields of the JSON schema (or answer), _status and _error. Rows are found by the ids that
    `batchrun prepare` gave them. The exit code is 1 if a row is not ok.

    \b
    Example:
      batchrun join data.csv results.jsonl -o labelled.csv
    """
    from batchrun.datasets import join as joining

    console.say_rescue(results)
    source = data_options.source(data)
    what = joining.Joined(source, results, table.requests, join.failed_rows, join.votes, join.corrections)
    sys.exit(print_counts(joining.join(what, table.wanted()), table.out))
