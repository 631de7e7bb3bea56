"""A command whose options make typed values, and whose help shows them under headings.

1. An `OptionGroup` names options that belong together, and the frozen dataclass that holds their values.
2. A `Verb` is a command with such groups. Its function gets one value for each group, and nothing from click.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import click

HEADINGS = ("Files", "Rows", "Request", "Gateway", "Cluster", "Limits", "Spending", "Failures", "Screen")
"""The headings of a help text, in their order."""

FEW = 8  # a command with no more options than this shows them in one list
TERM_COLUMNS = 30  # a longer option has a line of its own


class Option(click.Option):
    """An option. `default_note` says in the help what the default is where that is no constant.

    The help leaves out ranges such as `x>0`: the message of an error tells them.
    """

    def __init__(self, names: Sequence[str], *, default_note: str = "", **settings: Any) -> None:
        super().__init__(names, **settings)
        self._default = default_note or _shown(settings.get("default"))

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The option as the user writes it, and what it does."""
        record = super().get_help_record(ctx)
        if record is None:
            return None
        note = "required" if self.required else f"default: {self._default}" if self._default else ""
        return record[0], f"{self.help}  [{note}]" if note else self.help or ""


def _shown(default: object) -> str:
    """A default as a user would write it; nothing where the option is simply absent."""
    if default is None or default is False or default == ():
        return ""
    return f"{default:g}" if isinstance(default, float) else str(default)


@dataclass(frozen=True)
class OptionGroup:
    """Options whose values are one value: an instance of the dataclass `values`, passed to the command as `name`.

    Several groups may stand under one heading.
    """

    heading: str
    name: str
    values: type[Any]
    options: tuple[Option, ...]

    def take(self, params: dict[str, Any]) -> None:
        """Put the group's value in the place of the values of its options."""
        params[self.name] = self.values(**{field.name: params.pop(field.name) for field in fields(self.values)})


class Verb(click.Command):
    """A command that takes `groups` of options beside its own parameters."""

    def __init__(
        self,
        name: str | None,
        *,
        groups: Sequence[OptionGroup] = (),
        params: list[click.Parameter] | None = None,
        **settings: Any,
    ) -> None:
        options = [option for group in groups for option in group.options]
        super().__init__(name, params=[*(params or []), *options], **settings)
        self.groups = tuple(groups)

    def invoke(self, ctx: click.Context) -> Any:
        """Call the command's function with the values of the groups."""
        for group in self.groups:
            group.take(ctx.params)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, under headings where there are many. All columns are aligned."""
        sections = self._sections(ctx)
        terms = [term for rows in sections.values() for term, _ in rows]
        width = min(TERM_COLUMNS, max(map(len, terms)))
        for heading, rows in sections.items():
            with formatter.section(heading):
                formatter.write_dl([(term.ljust(width), text) for term, text in rows], col_max=TERM_COLUMNS)

    def _sections(self, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
        """The rows of the help by heading, and `--help` itself last of all."""
        used = {heading: rows for heading in HEADINGS if (rows := self._rows(ctx, heading))}
        own = {id(option) for group in self.groups for option in group.options}
        rest = [param for param in self.get_params(ctx) if isinstance(param, click.Option) and id(param) not in own]
        if len(used) <= 1 or sum(map(len, used.values())) <= FEW:
            used = {"Options": [row for rows in used.values() for row in rows]}
        used[list(used)[-1]] += _records(ctx, rest)
        return used

    def _rows(self, ctx: click.Context, heading: str) -> list[tuple[str, str]]:
        return [row for group in self.groups if group.heading == heading for row in _records(ctx, group.options)]


def _records(ctx: click.Context, options: Iterable[click.Option]) -> list[tuple[str, str]]:
    return [record for option in options if (record := option.get_help_record(ctx)) is not None]
