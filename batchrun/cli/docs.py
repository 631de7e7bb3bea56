"""`batchrun docs`: the pages of the manual, which are package data."""

from __future__ import annotations

import re
from importlib.resources import files

import click
from click.shell_completion import CompletionItem

from batchrun.cli import console
from batchrun.cli.verb import Verb
from batchrun.errors import UsageError

_ENDING = ".md"
_COLUMNS = 100


@click.command("docs", cls=Verb)
@click.argument("topic", required=False, shell_complete=lambda ctx, param, incomplete: _completions(incomplete))
def command(topic: str | None) -> None:
    """Print a page of the manual (Markdown). Without TOPIC, list the pages.

    \b
    Example:
      batchrun docs guide
    """
    console.print_out(_list() if topic is None else _page(topic))


def topics() -> list[str]:
    """The names of all pages, sorted."""
    pages = (page.name for page in files("batchrun").joinpath("docs").iterdir())
    return sorted(name.removesuffix(_ENDING) for name in pages if name.endswith(_ENDING))


def _page(topic: str) -> str:
    """The text of a page. Raises `UsageError` for a topic that there is not."""
    if topic.lower() not in (known := topics()):
        raise UsageError(f"there is no page {topic!r}; the pages are: {', '.join(known)}")
    return files("batchrun").joinpath("docs", topic.lower() + _ENDING).read_text(encoding="utf-8")


def _list() -> str:
    """Every topic with what its page is about."""
    formatter = click.HelpFormatter(width=_COLUMNS)
    formatter.write_dl([(topic, _subject(topic)) for topic in topics()])
    return formatter.getvalue()


def _subject(topic: str) -> str:
    """The first sentence of a page, below its title."""
    paragraph = _page(topic).split("\n\n")[1]
    return re.split(r"(?<=\.)\s", paragraph.replace("\n", " "))[0]


def _completions(incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(topic, help=_subject(topic)) for topic in topics() if topic.startswith(incomplete)]
