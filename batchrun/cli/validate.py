"""`batchrun validate`: the check that a run makes before it sends anything, by itself."""

from __future__ import annotations

import click

from batchrun.cli import console
from batchrun.cli.options import REQUEST, REQUESTS, RequestOptions
from batchrun.cli.verb import Verb
from batchrun.records.words import counted, printable


@click.command("validate", cls=Verb, groups=(REQUEST,))
@click.argument("requests", type=REQUESTS)
def command(requests: str, request: RequestOptions) -> None:
    """Check REQUESTS (- is standard input) as `run` does before it sends anything, and summarize it.

    \b
    Example:
      batchrun validate requests.jsonl
    """
    from batchrun.requests.reader import RequestFile

    overrides = request.overrides()
    with RequestFile(requests, overrides) as file:
        survey = file.check()
    for warning in survey.warnings(overrides):
        console.say(f"batchrun: {warning}")
    facts = (
        f"{printable(file.name)}: {counted(survey.lines, 'line')}, all valid",
        f"models: {_counts(survey.models)}",
        f"endpoints: {_counts(survey.endpoints)}",
        f"streamed: {survey.streams:,}",
        f"bodies: {survey.body_bytes:,} bytes, roughly {survey.body_bytes // 4:,} input tokens",
    )
    console.print_out("\n".join(facts) + "\n")


def _counts(counter: dict[str, int]) -> str:
    """The most frequent first."""
    return ", ".join(
        f"{printable(name)} {count:,}" for name, count in sorted(counter.items(), key=lambda item: -item[1])
    )
