"""`batchrun prepare`: from a table to requests."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from batchrun.cli import console
from batchrun.cli.table_options import ASK, DATA, DATA_OPTIONS, ROWS, AskOptions, DataOptions, RowOptions
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.records.words import counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.datasets.prepare import Summary
    from batchrun.datasets.schema import Schema


@dataclass(frozen=True, slots=True)
class FileOptions:
    """Where the requests go."""

    output: Path


FILES = OptionGroup(
    "Files",
    "files",
    FileOptions,
    (
        Option(
            ["-o", "--output"],
            required=True,
            metavar="FILE",
            type=click.Path(dir_okay=False, path_type=Path),
            help="File for the requests; FILE.prepared.json beside it says how they were made.",
        ),
    ),
)


@click.command("prepare", cls=Verb, groups=(FILES, DATA_OPTIONS, ROWS, ASK))
@click.argument("data", type=DATA)
def command(data: str, files: FileOptions, data_options: DataOptions, rows: RowOptions, ask: AskOptions) -> None:
    """Make a request of each row of DATA: a CSV, TSV, JSONL, JSON, Parquet or Excel file. Nothing is sent.

    DATA may be compressed; - is standard input, and book.xlsx#Sheet one sheet of a workbook.

    \b
    Example:
      batchrun prepare tickets.csv -p 'Which team? {{ text }}' -s 'team enum(a|b)' -o requests.jsonl
    """
    from batchrun.datasets.prepare import prepare

    recipe = ask.recipe(rows)
    for note in notes(recipe.schema):
        console.say(f"batchrun: {note}")
    made = prepare(data_options.source(data), recipe, files.output)
    for line in told(made, files.output):
        console.say(line)


def notes(schema: Schema | None) -> Iterator[str]:
    """What somebody should know of the schema before it is used."""
    if schema is not None and schema.why_not_strict:
        yield f'the schema is sent without "strict": {schema.why_not_strict}'


def told(made: Summary, output: Path) -> Iterator[str]:
    """What somebody should know of it, a line each."""
    prepared = made.prepared
    skipped = f", {made.skipped:,} left out by --where" if made.skipped else ""
    asked = f"; each is asked {prepared.repeat:,} times" if prepared.repeat > 1 else ""
    yield f"{output}: {counted(prepared.requests, 'request')}, {made.size_bytes:,} bytes"
    yield f"rows: {prepared.rows:,}{skipped}{asked}"
    if made.other_sheets:
        yield f"sheets not read: {', '.join(made.other_sheets)} ({prepared.data.name}#NAME is one of them)"
    yield f"columns used: {', '.join(prepared.columns) or 'none, so every row is asked the same'}"
    if made.unused:
        yield f"columns not used: {', '.join(made.unused)}"
    if made.left_out:
        yield f"examples left out because they were equal to their row: {made.left_out:,}"
    if prepared.model is None:
        yield "no model is set: pass --model NAME here or to `batchrun run`"
