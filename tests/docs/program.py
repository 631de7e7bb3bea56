"""What the program says of itself: its commands, options and help, the names in its files, its exit codes."""

from __future__ import annotations

import signal
import typing
from collections.abc import Iterator
from typing import Any

import click
import msgspec
from click.testing import CliRunner

from batchrun import errors
from batchrun.cli.main import cli
from batchrun.results import events

WIDTH = 100


def commands() -> dict[str, click.Command]:
    """Every command by its name, in the order of the program's help."""
    context = click.Context(cli, info_name="batchrun")
    found = {name: cli.get_command(context, name) for name in cli.list_commands(context)}
    return {name: command for name, command in found.items() if command is not None}


COMMANDS = commands()


def help_of(*words: str) -> str:
    """The help of a command as a window of 100 columns shows it."""
    done = CliRunner().invoke(cli, [*words, "--help"], terminal_width=WIDTH, prog_name="batchrun")
    assert done.exit_code == 0
    return done.output


def options(command: click.Command) -> list[click.Option]:
    return [param for param in command.params if isinstance(param, click.Option)]


def spellings(command: click.Command) -> set[str]:
    """Every spelling of every option of a command."""
    group = click.Context(cli, info_name="batchrun", **cli.context_settings)
    found = [*options(command), command.get_help_option(click.Context(command, parent=group))]
    return {spelling for option in found if option is not None for spelling in (*option.opts, *option.secondary_opts)}


def parse(words: list[str]) -> click.Context:
    """Parse a command line as the program does, without running it. Raises `click.ClickException`."""
    parent = cli.make_context("batchrun", list(words))
    name, command, rest = cli.resolve_command(parent, list(words))
    assert command is not None, words
    return command.make_context(name, rest, parent=parent)


def structs_in(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """A struct, and every struct that its fields may hold, however deep."""
    left = [msgspec.inspect.type_info(kind)]
    while left:
        info = left.pop(0)
        match info:
            case msgspec.inspect.StructType():
                yield info.cls
                left.extend(field.type for field in info.fields)
            case msgspec.inspect.UnionType():
                left.extend(info.types)
            case msgspec.inspect.DictType():
                left.append(info.value_type)
            case msgspec.inspect.VarTupleType() | msgspec.inspect.ListType():
                left.append(info.item_type)


def run_log_events() -> dict[str, tuple[str, ...]]:
    """The events of the run log, each with its fields but the time."""
    kinds = typing.get_args(events.Event)
    return {
        str(kind.__struct_config__.tag): tuple(name for name in kind.__struct_fields__ if name != "t") for kind in kinds
    }


def exit_codes() -> set[int]:
    """What the command may end with: 0, what an exception carries, and 128 and the number of a signal."""
    kinds: list[type[errors.BatchrunError]] = [errors.BatchrunError]
    for kind in kinds:
        kinds.extend(kind.__subclasses__())
    own = {kind.exit_code for kind in kinds if kind.__module__ == errors.__name__}
    return {0} | own | {128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)}
