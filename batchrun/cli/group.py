"""The group of all commands: listed in sections, each loaded when it is called.

The list needs no command's module, so `batchrun --help` loads none: `batchrun/cli/NAME.py` holds `NAME` as `command`.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator, MutableMapping

import click
from click.shell_completion import CompletionItem

SECTIONS = {
    "Data": {
        "prepare": "Make requests from a table: one for each row.",
        "schema": "Print the JSON schema of a short form.",
        "validate": "Check a request file. Nothing is sent.",
        "estimate": "Estimate the tokens, cost and time that a job still takes. Nothing is sent.",
    },
    "Run": {
        "run": "Send the requests and write the answers. Run it again to resume.",
        "label": "Label the rows of a table: prepare, run and join in one command.",
        "endpoints": "Ask each endpoint of a file for its models and a few tokens.",
        "tune": "Show how a run is doing, and change its limits.",
    },
    "Results": {
        "join": "Write the rows of a table with their labels.",
        "export": "Write the answers of a result file as a table.",
        "view": "Show results on a local page: look, search, filter.",
        "report": "Print the bill, the failures and the latencies of a result file.",
        "merge": "Make one result file of the directory of a job that ran on many machines.",
        "verify": "Check that a result file answers every request exactly once.",
        "judge": "Make requests that ask a model how good each answer is. Nothing is sent.",
        "eval": "Hold the answers against a table of right answers: accuracy, F1, kappa, confusion.",
        "compare": "Compare result files, row by row: who is better, by how much, and is it shown.",
    },
    "Tools": {
        "simulator": "Serve a simulated gateway on this machine.",
        "docs": "Print a page of the manual.",
    },
}
"""The commands by section, in the order of the help, with the summary of each."""

SUMMARIES = {name: summary for section in SECTIONS.values() for name, summary in section.items()}


class LazyCommands(MutableMapping[str, click.Command]):
    """The commands by name. Looking one up imports its module."""

    def __init__(self) -> None:
        self._loaded: dict[str, click.Command] = {}

    def __getitem__(self, name: str) -> click.Command:
        if name not in SUMMARIES:
            raise KeyError(name)
        if name not in self._loaded:
            self._loaded[name] = importlib.import_module(f"batchrun.cli.{name}").command
        return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in SUMMARIES

    def __iter__(self) -> Iterator[str]:
        return iter(SUMMARIES)

    def __len__(self) -> int:
        return len(SUMMARIES)

    def __setitem__(self, name: str, command: click.Command) -> None:
        raise TypeError("the commands are those of SECTIONS")

    def __delitem__(self, name: str) -> None:
        raise TypeError("the commands are those of SECTIONS")


class CommandGroup(click.Group):
    """The group `batchrun`."""

    def __init__(self, name: str | None = None, **settings: object) -> None:
        super().__init__(name, **settings | {"commands": LazyCommands()})  # type: ignore[arg-type]

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the help."""
        return list(SUMMARIES)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands. A summary is wrapped in a narrow window, and never cut."""
        width = max(map(len, SUMMARIES))
        for section, commands in SECTIONS.items():
            with formatter.section(section):
                formatter.write_dl([(name.ljust(width), summary) for name, summary in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The names that begin like this, with their summaries; loads no command."""
        names = [name for name in SUMMARIES if name.startswith(incomplete)]
        return [
            *(CompletionItem(name, help=SUMMARIES[name]) for name in names),
            *click.Command.shell_complete(self, ctx, incomplete),
        ]
