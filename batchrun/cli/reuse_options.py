"""The options for lines that need no request of their own: because an equal one has an answer, or will have."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

from batchrun.cli.types import ResultsType
from batchrun.cli.verb import Option, OptionGroup


@dataclass(frozen=True, slots=True)
class DedupOptions:
    """Whether equal requests are sent once."""

    dedup: bool


@dataclass(frozen=True, slots=True)
class ReuseOptions(DedupOptions):
    """The same, and where answers are taken from that are there already."""

    reuse: tuple[Path, ...]
    reuse_batch: tuple[tuple[Path, Path], ...]
    reuse_any_gateway: bool

    def fields_of_job(self) -> dict[str, Any]:
        """The same as fields of a `Job`."""
        return asdict(self)


def _dedup(*, default: bool) -> Option:
    return Option(
        ["--dedup/--no-dedup"],
        default=default,
        default_note="--dedup" if default else "--no-dedup",
        help="Send equal requests once, and copy the answer to each of their lines.",
    )


DEDUP = OptionGroup("Spending", "dedup", DedupOptions, (_dedup(default=False),))


def reuse_group(*, dedup: bool) -> OptionGroup:
    """The options of reuse; `dedup` is the default of `--dedup`."""
    return OptionGroup(
        "Spending",
        "reuse",
        ReuseOptions,
        (
            _dedup(default=dedup),
            Option(
                ["--reuse"],
                metavar="RESULTS",
                type=ResultsType(exists=False),
                multiple=True,
                help="Take the answers of this result file for lines with the same body; repeatable.",
            ),
            Option(
                ["--reuse-batch"],
                metavar="INPUT OUTPUT",
                type=click.Path(dir_okay=False, path_type=Path),
                nargs=2,
                multiple=True,
                help="Take the answers of an OpenAI Batch, by its input file and its output file; repeatable.",
            ),
            Option(
                ["--reuse-any-gateway"],
                is_flag=True,
                help="Take also answers that another gateway gave.",
            ),
        ),
    )
