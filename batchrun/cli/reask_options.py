"""The options of asking a line again whose answer misses its JSON schema."""

from __future__ import annotations

from dataclasses import dataclass

from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup


@dataclass(frozen=True, slots=True)
class ReaskOptions:
    """How often a line is asked again whose answer misses its schema, and the share of lines that may need it."""

    reask: int
    max_reasks: str


def reask_group(asks: int) -> OptionGroup:
    """The options of asking again; without them a line is asked again `asks` times at most."""
    return OptionGroup(
        "Failures",
        "reask",
        ReaskOptions,
        (
            Option(
                ["--reask"],
                type=WholeNumber(0),
                default=asks,
                metavar="N",
                help="Ask a line again, N times at most, if its answer does not fit its JSON schema.",
            ),
            Option(
                ["--max-reasks"],
                default="20%",
                metavar="RATE",
                help="Ask no line again once more of the last 1,000 lines than this need it.",
            ),
        ),
    )
