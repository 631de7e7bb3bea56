"""How every page is made: one file, without scripts, that asks nothing of anybody.

1. The policy forbids everything (`default-src 'none'`) but the one style element of the page, which it names by its
   hash; so no element may have a style of its own.
2. Jinja2 escapes each value. Before that, each goes through `printable`: no control characters, no marks that turn the
   order of letters round. Texts of several lines are shown by the filter `lines`.
3. Whoever writes a template shows tables by the macros of `parts.html.j2`, which have names and scroll by themselves.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from batchrun.records.words import printable, printable_lines
from batchrun.version import __version__

GENERATOR = f"batchrun {__version__}"
_FOLDER = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Table:
    """A table: its name, the names of its columns, its rows.

    `words`: the columns, counted from 0, that hold words; all others hold numbers.
    """

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    words: Collection[int] = (0,)


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart beside the same figures as a table. `drawn` None: it cannot be. `narrow`: another for small screens.

    `about`: what one sees, in a sentence or two.
    """

    title: str
    about: str
    table: Table
    drawn: Markup | None = None
    narrow: Markup | None = None


def style() -> Markup:
    """The style of all pages, without its comments and indents."""
    css = (_FOLDER / "style.css").read_text(encoding="utf-8")
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return Markup("\n".join(line.strip() for line in css.splitlines() if line.strip()))


def policy(css: str, *more: str) -> str:
    """What a page may do: nothing but use this style. `more`: further directives, such as `img-src 'self'`."""
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    allowed = ("default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'")
    return "; ".join((*allowed, *more))


def render(template: str, **values: object) -> bytes:
    """A page from its template, in UTF-8."""
    css = style()
    environment = make_environment()
    environment.globals |= {"style": css, "policy": policy(css), "generator": GENERATOR}
    return environment.get_template(template).render(values).encode()


def make_environment() -> Environment:
    """The templates of all pages, with their filters."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["lines"] = lines
    return environment


def _shown(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value))


def lines(text: str) -> Markup:
    """A text of several lines, cleaned and escaped, its lines kept."""
    return escape(printable_lines(text.replace("\r\n", "\n").replace("\t", "    ")))


def is_page(path: Path) -> bool:
    """Whether a file is a page of batchrun's, which may be replaced. Raises `OSError`."""
    with path.open("rb") as file:
        return b'<meta name="generator" content="batchrun ' in file.read(1024)
