"""`batchrun schema`: the JSON schema of a short form."""

from __future__ import annotations

import click

from batchrun.cli import console
from batchrun.cli.text_option import text_of
from batchrun.cli.verb import Verb


@click.command("schema", cls=Verb)
@click.argument("form", metavar="FORM|@FILE")
def command(form: str) -> None:
    """Print the JSON schema of a short form, and what not every gateway enforces in it.

    Fields are set apart by commas or new lines: NAME, a type, a colon and a description. Types are str, bool, int,
    int(1..5), float, float(0..1), enum(a|b), list(TYPE) and {FIELDS}. After the name, ? lets the value be null.

    \b
    Example:
      batchrun schema 'topic enum(billing|other): what it is about, score int(1..5), note? str'
    """
    import orjson

    from batchrun.datasets.schema import Schema

    schema = Schema.parse(text_of("schema", form))
    console.print_out(orjson.dumps(schema.schema, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
    if schema.why_not_strict:
        console.say(f"strict mode refuses it, so it is sent without: {schema.why_not_strict}")
    for told in schema.unenforced():
        console.say(f"strict mode may not enforce {told}")
