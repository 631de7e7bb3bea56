"""`batchrun endpoints`: whether each endpoint of a file can be used."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from batchrun.cli import console
from batchrun.cli.gateway import read_endpoint_file
from batchrun.cli.options import OUTPUT, PATH, OutputOptions
from batchrun.cli.verb import Option, OptionGroup, Verb


@dataclass(frozen=True, slots=True)
class LookOptions:
    """What each endpoint is asked."""

    model: str | None
    api: str
    env_file: Path | None
    insecure_http: bool


LOOK = OptionGroup(
    "Request",
    "look",
    LookOptions,
    (
        Option(["--model"], metavar="NAME", default_note="one it lists", help="Model to ask for."),
        Option(
            ["--api"],
            type=click.Choice(["responses", "chat"]),
            default="responses",
            help="Which API to ask.",
        ),
        Option(["--env-file"], metavar="FILE", type=PATH, help="Read variables from a .env file."),
        Option(["--insecure-http"], is_flag=True, help="Allow http:// to a public host: keys are sent unencrypted."),
    ),
)


@click.command("endpoints", cls=Verb, groups=(LOOK, OUTPUT))
@click.argument("file", type=PATH)
def command(file: Path, look: LookOptions, output: OutputOptions) -> None:
    """Ask each endpoint of FILE for its models and for a few tokens, and show what comes back. Nothing else is sent.

    The exit code is 1 if one of them does not answer.

    \b
    Example:
      batchrun endpoints endpoints.toml
    """
    import msgspec

    from batchrun.job.look import look_at, render

    endpoints = read_endpoint_file(file, look.env_file, insecure_http=look.insecure_http)
    looked = asyncio.run(look_at(endpoints, look.model, look.api))
    if output.as_json:
        console.print_out(msgspec.json.format(msgspec.json.encode(looked), indent=2) + b"\n")
    else:
        console.print_out(render(looked))
    sys.exit(0 if all(not one.problem for one in looked) else 1)
