"""`batchrun merge`: one result file of a directory of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.options import OVERWRITE, RESULTS
from batchrun.cli.verb import Option, OptionGroup, Verb
from batchrun.errors import StopError
from batchrun.records.words import counted


@dataclass(frozen=True, slots=True)
class FileOptions:
    """The file that is written, and whether it replaces one that is there."""

    output: Path
    overwrite: bool


FILES = OptionGroup(
    "Files",
    "files",
    FileOptions,
    (
        Option(
            ["-o", "--output", "output"],
            metavar="FILE",
            type=click.Path(path_type=Path),
            required=True,
            help="Result file.",
        ),
        OVERWRITE,
    ),
)


@click.command("merge", cls=Verb, groups=(FILES,))
@click.argument("results", type=RESULTS)
def command(results: Path, files: FileOptions) -> None:
    """Make one result file of the directory RESULTS, in the order of the requests.

    It is a result file like any other, with the same bill: batchrun run goes on with it.

    \b
    Example:
      batchrun merge results/ -o results.jsonl
    """
    from batchrun.cluster.merge import merge

    console.say_rescue(results)
    try:
        merged = merge(results, files.output, overwrite=files.overwrite)
    except OSError as error:
        raise StopError(f"cannot merge {results}: {error.strerror}; nothing was changed") from error
    if merged.damaged:
        console.say(f"batchrun: left out {counted(merged.damaged, 'damaged line')}")
    told = f"batchrun: {counted(merged.records, 'record')} in {files.output}"
    if merged.records < merged.lines:
        told += f"; {merged.lines - merged.records:,} of {counted(merged.lines, 'line')} have none yet"
    console.say(told)
