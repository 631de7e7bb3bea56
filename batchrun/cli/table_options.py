"""The options of commands that make requests from a table: how it is read, which rows are taken, what is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from batchrun.cli.options import PATH, RequestOptions
from batchrun.cli.text_option import text_of
from batchrun.cli.types import WholeNumber
from batchrun.cli.verb import Option, OptionGroup
from batchrun.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from batchrun.datasets.recipe import Examples, Recipe
    from batchrun.datasets.tables import Source

FORMATS = ("csv", "tsv", "jsonl", "json", "parquet", "xlsx")
_TEXTS = {"prompt": "-p", "schema": "-s", "instructions": "--instructions", "developer": "--developer"}
DATA = click.Path(allow_dash=True, readable=False)  # a string; the reader checks the file


@dataclass(frozen=True, slots=True)
class DataOptions:
    """How the table is read; None: by its name, as UTF-8, with the delimiter of its format."""

    format: str | None
    encoding: str | None
    delimiter: str | None

    def source(self, path: str) -> Source:
        """The table at a path."""
        from batchrun.datasets.tables import Format, Source

        return Source(path, Format(self.format) if self.format is not None else None, self.encoding, self.delimiter)


def data_options(table: str) -> OptionGroup:
    """The options that say how a table is read, which the help calls `table`."""
    return OptionGroup(
        "Files",
        "data_options",
        DataOptions,
        (
            Option(
                ["--format"],
                type=click.Choice(FORMATS),
                metavar="|".join(FORMATS),
                default_note="by the name of the file",
                help=f"Format of {table}.",
            ),
            Option(
                ["--encoding"],
                metavar="NAME",
                default_note="UTF-8, or UTF-16 by its BOM",
                help=f"Encoding of {table}.",
            ),
            Option(
                ["--delimiter"],
                metavar="C|tab",
                default_note="a comma; in a TSV a tab",
                help=f"Character between the cells of {table}.",
            ),
        ),
    )


DATA_OPTIONS = data_options("DATA")


@dataclass(frozen=True, slots=True)
class RowOptions:
    """Which rows are taken, and how they are told apart."""

    where: str | None
    limit: int | None
    id_column: str | None
    repeat: int
    missing: str


WHERE = Option(["--where"], metavar="EXPR", help="Take only rows of which this is true, such as lang == 'de'.")
LIMIT = Option(["-n", "--limit"], type=WholeNumber(1), metavar="N", help="Take at most N rows.")
MISSING = Option(
    ["--missing"],
    type=click.Choice(("error", "empty")),
    default="error",
    metavar="error|empty",
    help="What a key is that a row of JSON lacks.",
)
ROWS = OptionGroup(
    "Rows",
    "rows",
    RowOptions,
    (
        WHERE,
        LIMIT,
        Option(
            ["--id", "id_column"],
            metavar="COLUMN",
            default_note="made of the cells that are used",
            help="Column with an id for each row, each of them once.",
        ),
        Option(
            ["--repeat"],
            type=WholeNumber(1),
            default=1,
            metavar="K",
            help="Ask each row K times: ID#1, ID#2, and so on.",
        ),
        MISSING,
    ),
)


@dataclass(frozen=True, slots=True)
class AskOptions:
    """What is asked of each row. A text may be `@FILE`."""

    prompt: str
    schema: str | None
    instructions: str | None
    developer: str | None
    examples: Path | None
    example_answer: str | None
    images: tuple[str, ...]
    max_image_bytes: int
    model: str | None
    fields: tuple[str, ...]

    def texts(self, kept: Mapping[str, str] | None = None) -> dict[str, str]:
        """The texts by the names of these fields, out of their files; those in `kept` as they are there.

        Raises `UsageError` for a file that cannot be read.
        """
        written = {name: getattr(self, name) for name in _TEXTS}
        old = kept or {}
        return {
            name: old[name] if name in old else text_of(_TEXTS[name], value)
            for name, value in written.items()
            if value is not None
        }

    def recipe(self, rows: RowOptions, texts: Mapping[str, str] | None = None) -> Recipe:
        """How requests are made, of these `texts` or its own. Raises `UsageError`."""
        from batchrun.datasets.recipe import Recipe
        from batchrun.datasets.schema import Schema

        texts = self.texts() if texts is None else texts
        overrides = RequestOptions(self.model, self.fields, None, None).overrides()
        return Recipe(
            prompt=texts["prompt"],
            instructions=texts.get("instructions"),
            developer=texts.get("developer"),
            schema=Schema.parse(texts["schema"]) if "schema" in texts else None,
            model=overrides.model,
            fields=overrides.fields,
            examples=self._examples(),
            images=self.images,
            max_image_bytes=self.max_image_bytes,
            where=rows.where,
            limit=rows.limit,
            id_column=rows.id_column,
            repeat=rows.repeat,
            missing_is_empty=rows.missing == "empty",
        )

    def _examples(self) -> Examples | None:
        from batchrun.datasets.corrections import is_corrections
        from batchrun.datasets.recipe import Examples
        from batchrun.datasets.tables import Source

        if self.examples is not None and is_corrections(self.examples):
            if self.example_answer is not None:
                raise UsageError("--example-answer is for a table; a file of corrections has the right answers itself")
            return Examples(Source(str(self.examples)), None)
        if (self.examples is None) != (self.example_answer is None):
            raise UsageError("--examples and --example-answer go together: a table, and its column with the answers")
        if self.examples is None or self.example_answer is None:
            return None
        return Examples(Source(str(self.examples)), self.example_answer)


ASK = OptionGroup(
    "Request",
    "ask",
    AskOptions,
    (
        Option(
            ["-p", "--prompt"],
            required=True,
            metavar="TEXT|@FILE",
            help="Template of the input. Columns are variables: {{ text }}, {{ row['any name'] }}; and row_number.",
        ),
        Option(
            ["-s", "--schema"],
            metavar="FORM|@FILE",
            help="Schema of the answer: its short form, or a file with that or with a JSON schema.",
        ),
        Option(["--instructions"], metavar="TEXT|@FILE", help="Template of the instructions."),
        Option(["--developer"], metavar="TEXT|@FILE", help="Template of a developer message before the input."),
        Option(
            ["--examples"],
            metavar="FILE",
            type=PATH,
            help="Table of examples, shown before every row; or RESULTS.corrections.jsonl: the rows corrected in it.",
        ),
        Option(["--example-answer"], metavar="COLUMN", help="Column of the examples that has the right answer."),
        Option(
            ["--image", "images"],
            metavar="COLUMN",
            multiple=True,
            help="Column with a picture: a path, a URL or a data URL; repeatable.",
        ),
        Option(
            ["--max-image-bytes"],
            type=WholeNumber(1),
            default=20 << 20,
            metavar="N",
            help="Largest picture that is taken, in bytes.",
        ),
        Option(["--model"], metavar="NAME", help="Model of the requests."),
        Option(
            ["--set", "fields"],
            metavar="FIELD=JSON",
            multiple=True,
            help="Set a top-level field of every body; repeatable.",
        ),
    ),
)
