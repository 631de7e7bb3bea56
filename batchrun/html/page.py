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

from batchrun.records.words import counted, printable, printable_lines, shortened
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


LONGEST_CELL = 100
"""Characters that are shown of a name in a table."""
FEW_FIELDS, MOST_FIELDS = 6, 12
"""Of a job with more than a few fields, each is shown in less room, and those beyond the most not at all."""
_LABELS_OF_FEW, _LABELS_OF_MANY = 50, 20


def most_labels(fields: int) -> int:
    """How many labels are shown of each field, where there are so many fields."""
    return _LABELS_OF_FEW if fields <= FEW_FIELDS else _LABELS_OF_MANY


def cut(text: str, longest: int = LONGEST_CELL) -> str:
    """A text that is no longer than a name in a table may be."""
    return shortened(text, longest)


def first_rows(rows: Sequence[Sequence[str]], most: int, noun: str) -> list[Sequence[str]]:
    """The first rows of a table, with short names, and how many more there are: a page is to stay small."""
    shown: list[Sequence[str]] = [[cut(cell) for cell in row] for row in rows[:most]]
    if len(rows) > most:
        shown.append([f"and {more(len(rows) - most, noun)}", *[""] * (len(rows[0]) - 1)])
    return shown


def more(count: int, noun: str) -> str:
    """`12 more models`."""
    return counted(count, f"more {noun}")


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
    return _plain((_FOLDER / "style.css").read_text(encoding="utf-8"))


def _plain(css: str) -> Markup:
    css = re.sub(r"/\*.*?\*/", "", css, flags=re.DOTALL)
    return Markup("\n".join(line.strip() for line in css.splitlines() if line.strip()))


def policy(css: str, *more: str) -> str:
    """What a page may do: nothing but use this style. `more`: further directives, such as `img-src 'self'`.

    One of `more` takes the place of the directive with its name.
    """
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    always = ("default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'")
    directives = {directive.split()[0]: directive for directive in (*always, *more)}
    return "; ".join(directives.values())


def render(template: str, **values: object) -> bytes:
    """A page from its template, in UTF-8."""
    return Templates().render(template, **values)


class Templates:
    """Templates of pages, made once for many pages: those of all pages, and those of `folder`.

    `css`: what is added to the style. `allow`: what is added to the policy, which is then `policy`.
    """

    def __init__(self, folder: Path | None = None, css: str = "", allow: Sequence[str] = ()) -> None:
        whole = Markup("\n").join(part for part in (style(), _plain(css)) if part)
        self.policy = policy(whole, *allow)
        self._environment = make_environment(folder)
        self._environment.globals |= {"style": whole, "policy": self.policy, "generator": GENERATOR}

    def render(self, template: str, **values: object) -> bytes:
        """A page from its template, in UTF-8."""
        return self._environment.get_template(template).render(values).encode()


def make_environment(folder: Path | None = None) -> Environment:
    """The templates of all pages and those of a folder, with their filters."""
    folders = [_FOLDER / "templates", *([folder] if folder is not None else [])]
    environment = Environment(
        loader=FileSystemLoader(folders),
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
