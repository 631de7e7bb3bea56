"""The short form of a schema: what it means, and how what is none is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.schema import Schema
from batchrun.datasets.short_form import parse_short_form
from batchrun.errors import UsageError
from batchrun.validation.schema import CompiledSchema


def strict(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


FORMS: dict[str, dict[str, Any]] = {
    "topic": strict(topic={"type": "string"}),
    "a str, b bool, c int, d float": strict(
        a={"type": "string"}, b={"type": "boolean"}, c={"type": "integer"}, d={"type": "number"}
    ),
    "topic enum(billing|delivery|other): what it is about, urgent bool": strict(
        topic={"type": "string", "description": "what it is about", "enum": ["billing", "delivery", "other"]},
        urgent={"type": "boolean"},
    ),
    "score int(1..5), share float(-0.5..1), most int(..9), least int(0..)": strict(
        score={"type": "integer", "minimum": 1, "maximum": 5},
        share={"type": "number", "minimum": -0.5, "maximum": 1.0},
        most={"type": "integer", "maximum": 9},
        least={"type": "integer", "minimum": 0},
    ),
    "tags list(str), kinds list(enum(a|b)), deep list(list(int(1..2)))": strict(
        tags={"type": "array", "items": {"type": "string"}},
        kinds={"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
        deep={"type": "array", "items": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 2}}},
    ),
    "note? str, kind? enum(a|b), when? {day int}": strict(
        note={"type": ["string", "null"]},
        kind={"type": ["string", "null"], "enum": ["a", "b", None]},
        when={**strict(day={"type": "integer"}), "type": ["object", "null"]},
    ),
    "spans list{start int, end? int}, at {x float, y float}": strict(
        spans={"type": "array", "items": strict(start={"type": "integer"}, end={"type": ["integer", "null"]})},
        at=strict(x={"type": "number"}, y={"type": "number"}),
    ),
    "\n  why: the customer's reason\n\n  ok bool,\n": strict(
        why={"type": "string", "description": "the customer's reason"}, ok={"type": "boolean"}
    ),
    'a: "one, two | (three) \\"four\\" \\\\", b enum("x, y"|"(z)"|w v|"")': strict(
        a={"type": "string", "description": 'one, two | (three) "four" \\'},
        b={"type": "string", "enum": ["x, y", "(z)", "w v", ""]},
    ),
    "über-topic_2 str\r\nß bool": strict(**{"über-topic_2": {"type": "string"}, "ß": {"type": "boolean"}}),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_short_form_means_one_strict_schema(form: str) -> None:
    schema = Schema.parse(form)
    assert schema.schema == FORMS[form]
    assert schema.why_not_strict == ""
    assert list(schema.schema["properties"]) == list(FORMS[form]["properties"])


REFUSED = {
    "": "schema, at the end: no field; write e.g. topic enum(billing|other), urgent bool",
    ",": "schema, at the end: no field",
    "a strng": "schema, at 'strng': no such type; did you mean str?",
    "a string": "schema, at 'string': write str for string",
    "a the topic": "schema, at 'the topic': no such type; types are",
    "a str the topic": "schema, at 'the topic': write a comma or a new line before the next field",
    "1st str": "schema, at '1st str': no name of a field; a name begins with a letter",
    "a str, a bool": "schema, at ' bool': the field a occurs twice; rename one",
    "a enum": "schema, at the end: no (; write enum(yes|no)",
    "a enum()": "schema, at ')': an empty value; write enum(yes|no)",
    "a enum(x|)": "schema, at ')': an empty value; write enum(yes|no)",
    "a enum('x'|y)": "schema, at '|y)': the quotes would be part of the value 'x'; write x, or double quotes",
    "a enum(x|x)": "schema, at ')': the value \"x\" occurs twice; take one out",
    "a enum(x, y)": "schema, at ', y)': no ) here; a value with a comma, a bar or a bracket stands in quotes",
    "a int(1)": "schema, at ')': these are no bounds; write int(1..5), int(1..) or int(..5)",
    "a int(..)": "schema, at ')': these are no bounds",
    "a int(5..1)": "schema, at ')': these are no bounds",
    "a int(0.5..1)": "schema, at '..1)': the bounds of an int are whole numbers; write float for others",
    "a str(1..5)": "schema, at '(1..5)': str takes no bounds; only int and float do",
    "a list": "schema, at the end: no (; write list(str)",
    "a list(str": "schema, at the end: no ) here",
    "a {b str": "schema, at the end: no } here",
    "a str}": "schema, at '}': ",
    "a: str": "schema, at 'str': a type stands before the colon: a str",
    "a?: boolean, b": "schema, at 'boolean, b': a type stands before the colon: a bool",
    "a: list(str)": "schema, at 'list(str)': a type stands before the colon: a list(str)",
    "a: enum(x|y), b": "schema, at 'enum(x|y), b': a type stands before the colon: a enum(x|y)",
    "a: x | y, b": "schema, at 'x | y, b': values to choose from stand before a colon: a enum(x|y)",
    "a: b (c)": "schema, at '(c)': a description with a comma, a bar, a bracket or a quote stands in quotes",
    "a str: b | c": "schema, at '| c': a description with a comma",
    'a: say "b"': "schema, at '\"b\"': a description with a comma",
    'a: "b': "schema, at '\"b': the quote is not closed on its line",
    "a:": "schema, at the end: no description after the colon",
    "a str\nb bol": "schema, line 2, at 'bol': no such type; did you mean bool?",
    "a " + "{a " * 60: "schema, at ",
}


@pytest.mark.parametrize("form", REFUSED)
def test_what_is_no_short_form_is_refused_with_the_place(form: str) -> None:
    with pytest.raises(UsageError) as refused:
        parse_short_form(form)
    assert str(refused.value).startswith(REFUSED[form])


# ------------------------------------------------------------------------------- any short form, by hypothesis

NAMES = st.from_regex(r"[A-Za-zé_][A-Za-zé0-9_-]{0,8}", fullmatch=True)
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).map(str.strip).filter(bool)


def quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


@st.composite
def types(draw: st.DrawFn, deep: int = 0) -> tuple[str, dict[str, Any]]:
    """A type as it is written, and its schema."""
    kinds = ["str", "bool", "int", "float", "bounds", "enum"] + (["list", "object"] if deep < 3 else [])
    kind = draw(st.sampled_from(kinds))
    if kind == "bounds":
        least, most = sorted(draw(st.tuples(st.integers(-99, 99), st.integers(-99, 99))))
        return f"int( {least}..{most} )", {"type": "integer", "minimum": least, "maximum": most}
    if kind == "enum":
        values = draw(st.lists(WORDS, min_size=1, unique=True))
        return f"enum({' | '.join(map(quoted, values))})", {"type": "string", "enum": values}
    if kind == "list":
        form, schema = draw(types(deep + 1))
        return f"list({form})" if schema["type"] != "object" else f"list{form}", {"type": "array", "items": schema}
    if kind == "object":
        form, schema = draw(fields(deep + 1))
        return "{" + form + "}", schema
    return kind, {"type": {"str": "string", "bool": "boolean", "int": "integer", "float": "number"}[kind]}


@st.composite
def fields(draw: st.DrawFn, deep: int = 0) -> tuple[str, dict[str, Any]]:
    """Fields as they are written, and the schema of their object."""
    form, properties = "", dict[str, Any]()
    for name in draw(st.lists(NAMES, min_size=1, max_size=4, unique=True)):
        kind, schema = draw(types(deep))
        may_be_null, about = draw(st.booleans()), draw(st.none() | WORDS)
        if may_be_null:
            schema = {**schema, "type": [schema["type"], "null"]}
            if "enum" in schema:
                schema["enum"] = [*schema["enum"], None]
        if about is not None:
            schema = {**schema, "description": about}
        properties[name] = schema
        told = f" : {quoted(about)}" if about is not None else ""
        separator = draw(st.sampled_from([",", "\n", " , ", ",\n  "]))
        form += f"{name}{'?' if may_be_null else ''} {kind}{told}{separator}"
    return form, strict(**properties)


@given(fields())
def test_any_short_form_means_what_it_says_and_its_schema_compiles(made: tuple[str, dict[str, Any]]) -> None:
    form, schema = made
    parsed = Schema.parse(form)
    assert parsed.schema == schema
    assert parsed.why_not_strict == ""
    CompiledSchema(orjson.dumps(parsed.schema))


@given(st.text(st.sampled_from('ab?:,|(){}.1" \nenumliststrint\\')))
def test_any_text_is_a_short_form_or_is_refused(text: str) -> None:
    try:
        schema = parse_short_form(text)
    except UsageError:
        return
    assert schema["required"]


# ------------------------------------------------------------------------------------------- JSON schemas

NOT_STRICT = {
    '{"type": "array"}': 'the schema is no object; write {"type": "object", "properties": …}',
    '{"type": "object", "properties": {}}': 'the answer: write "additionalProperties": false',
    '{"type": "object", "properties": {"a": {}}, "additionalProperties": false}':
        'the answer: "a" is not in "required"; let it be null instead',
    '{"type": "object", "properties": {"a": {"oneOf": [{}]}}, "required": ["a"], "additionalProperties": false}':
        'a: "oneOf" is not allowed; take it out',
    '{"type": "object", "properties": {"a": {"type": "array", "items": {"type": "object"}}}, "required": ["a"], '
    '"additionalProperties": false}': 'a[]: write "additionalProperties": false',
    '{"type": "object", "properties": {}, "required": [], "additionalProperties": false, "$defs": {"x": {"type": '
    '"string", "maxLength": 3}}}': '$defs.x: "maxLength" is not allowed; take it out',
}  # fmt: skip


@pytest.mark.parametrize("text", NOT_STRICT)
def test_what_strict_mode_refuses_is_named(text: str) -> None:
    schema = Schema.parse(text)
    assert schema.why_not_strict == NOT_STRICT[text]
    assert schema.format["strict"] is False


def test_what_strict_mode_may_not_enforce_is_listed() -> None:
    schema = Schema.parse("score int(1..5), at {x float(0..)}, tags list(int(..3))")
    assert schema.unenforced() == ["score: minimum 1, maximum 5", "at.x: minimum 0.0", "tags[]: maximum 3"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"type": object}', "the schema is not JSON"),
        ('{"type": "object", "required": 5}', "the schema cannot be used"),
        ('{"$ref": "https://a.example/schema.json"}', "the schema cannot be used"),
        ('{"properties": {"a": {"pattern": "("}}}', "the schema cannot be used"),
    ],
)
def test_a_schema_that_no_answer_could_be_checked_with_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Schema.parse(text)
