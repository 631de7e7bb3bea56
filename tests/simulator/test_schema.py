"""Structured answers of the simulated gateway: whatever the schema, jsonschema finds that the value fits."""

import contextlib
import random
import re
import time
from typing import Any

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun.simulator.patterns import example
from batchrun.simulator.schema import UnsatisfiableError, generate
from batchrun.simulator.schema_merge import merge

Schema = dict[str, Any]

names = st.sampled_from(["id", "label", "score", "näme", "a/b~c", "items"])
scalars = st.none() | st.booleans() | st.integers(-50, 50) | st.text(max_size=5)


def assert_fits(schema: Any, value: Any) -> None:
    validator = jsonschema.Draft202012Validator
    validator(schema, format_checker=validator.FORMAT_CHECKER).validate(value)


def ranges(keyword: str, most: int) -> st.SearchStrategy[Schema]:
    """Optional lower and upper limits that do not contradict each other."""
    low, high = f"min{keyword}", f"max{keyword}"
    return st.tuples(st.integers(0, most), st.integers(0, most), st.sampled_from(["", "l", "h", "lh"])).map(
        lambda drawn: (
            ({low: min(drawn[:2])} if "l" in drawn[2] else {}) | ({high: max(drawn[:2])} if "h" in drawn[2] else {})
        )
    )


@st.composite
def numbers(draw: st.DrawFn) -> Schema:
    kind = draw(st.sampled_from(["integer", "number"]))
    low = draw(st.integers(-1000, 1000))
    high = low + draw(st.integers(2, 1000))
    schema: Schema = {"type": kind}
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["minimum", "exclusiveMinimum"]))] = low
    if draw(st.booleans()):
        schema[draw(st.sampled_from(["maximum", "exclusiveMaximum"]))] = high
    if draw(st.booleans()) and len(schema) < 3:
        schema["multipleOf"] = draw(st.sampled_from([1, 2, 5, 0.5, 0.01]))
    return schema


strings = ranges("Length", 60).map(lambda limits: {"type": "string"} | limits) | st.sampled_from(
    [
        {"type": "string", "format": name}
        for name in ("date", "date-time", "time", "email", "uuid", "ipv4", "ipv6", "uri", "hostname", "duration")
    ]
)
leaves = st.one_of(
    st.just({}),
    st.just(True),
    st.sampled_from([{"type": kind} for kind in ("null", "boolean", "string", "integer", "object", "array")]),
    st.lists(st.sampled_from(["null", "string", "integer", "boolean"]), min_size=1, unique=True).map(
        lambda kinds: {"type": kinds}
    ),
    st.lists(scalars, min_size=1, max_size=4).map(lambda values: {"enum": values}),
    scalars.map(lambda value: {"const": value}),
    numbers(),
    strings,
)


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Schema:
    properties = draw(st.dictionaries(names, inner, max_size=4))
    schema: Schema = {"type": "object", "properties": properties}
    if draw(st.booleans()) and properties:
        schema["required"] = draw(st.lists(st.sampled_from(sorted(properties)), unique=True))
    if draw(st.booleans()):
        schema["additionalProperties"] = draw(inner) if draw(st.booleans()) else False
    return schema


@st.composite
def arrays(draw: st.DrawFn, inner: st.SearchStrategy[Any]) -> Schema:
    schema = {"type": "array", "items": draw(inner)} | draw(ranges("Items", 4))
    if draw(st.booleans()) and schema.get("maxItems", 2) >= 2:
        schema["prefixItems"] = draw(st.lists(inner, min_size=1, max_size=2))
    return schema


def combined(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Schema]:
    return st.lists(inner, min_size=1, max_size=3).map(lambda branches: {"anyOf": branches}) | inner.map(
        lambda schema: {"allOf": [schema, True]}
    )


schemas = st.recursive(leaves, lambda inner: objects(inner) | arrays(inner) | combined(inner), max_leaves=12)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(schema=schemas, seed=st.integers(0, 1000))
def test_any_schema_gets_a_value_that_fits(schema: Any, seed: int) -> None:
    assert_fits(schema, generate(schema, random.Random(seed)))


@settings(max_examples=100, deadline=None)
@given(schema=schemas, seed=st.integers(0, 1000))
def test_a_seed_gives_one_value(schema: Any, seed: int) -> None:
    assert generate(schema, random.Random(seed)) == generate(schema, random.Random(seed))


TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "children", "parent"],
            "additionalProperties": False,
        }
    },
    "$ref": "#/$defs/node",
}
EXPRESSION = {
    "$defs": {
        "number": {"type": "object", "properties": {"n": {"type": "number"}}, "required": ["n"]},
        "sum": {
            "type": "object",
            "properties": {"left": {"$ref": "#/$defs/any"}, "right": {"$ref": "#/$defs/any"}},
            "required": ["left", "right"],
        },
        "any": {"anyOf": [{"$ref": "#/$defs/sum"}, {"$ref": "#/$defs/number"}]},
    },
    "$ref": "#/$defs/any",
}
PERSON = {
    "allOf": [
        {"$ref": "#/definitions/named"},
        {"type": "object", "properties": {"age": {"type": "integer", "minimum": 0}}, "required": ["age"]},
    ],
    "definitions": {
        "named": {
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 3}},
            "required": ["name"],
        }
    },
}


@pytest.mark.parametrize(
    "schema",
    [
        pytest.param(TREE, id="tree"),
        pytest.param(EXPRESSION, id="expression"),
        pytest.param(PERSON, id="allOf"),
        pytest.param({"type": "object", "properties": {"me": {"$ref": "#"}}}, id="root"),
        pytest.param({"oneOf": [{"type": "string"}, {"type": "integer", "multipleOf": 7}]}, id="oneOf"),
        pytest.param({"type": ["string", "null"], "enum": ["a", None]}, id="nullable-enum"),
        pytest.param({"type": "integer", "minimum": 2**60, "maximum": 2**60 + 1}, id="large"),
        pytest.param({"type": "number", "minimum": 0.1, "maximum": 0.1}, id="one-number"),
        pytest.param({"type": "array", "items": {"enum": [1, 2, 3]}, "uniqueItems": True, "minItems": 3}, id="set"),
        pytest.param({"type": "array", "contains": {"const": 7}, "items": {"type": "integer"}}, id="contains"),
        pytest.param({"type": "object", "additionalProperties": {"type": "number"}, "minProperties": 2}, id="map"),
        pytest.param({"type": "string", "pattern": "^[A-Z]{2}-\\d{4}$"}, id="pattern"),
        pytest.param({"type": "string", "pattern": "^a+$", "minLength": 6, "maxLength": 6}, id="long-pattern"),
        pytest.param({"required": ["a"], "properties": {"a": {"minimum": 5}}}, id="without-type"),
        pytest.param({"type": "integer", "anyOf": [{"minimum": 5}, {"maximum": -5}]}, id="anyOf-beside-type"),
    ],
)
def test_known_schemas_get_values_that_fit(schema: Schema) -> None:
    for seed in range(40):
        assert_fits(schema, generate(schema, random.Random(seed)))


def test_a_label_varies_over_seeds() -> None:
    drawn = {generate({"enum": ["a", "b", "c"]}, random.Random(seed)) for seed in range(50)}
    assert drawn == {"a", "b", "c"}


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"enum": []},
        {"type": "string", "enum": [1]},
        {"type": "integer", "minimum": 3, "maximum": 2},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"$ref": "#"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "https://example.com/schema.json"},
        {"allOf": [{"$ref": "#"}, {"$ref": "#"}]},
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        {"allOf": [{"type": "string"}, {"type": "object"}]},
        {"type": "array", "items": {"type": "null"}, "uniqueItems": True, "minItems": 2},
        {"type": "object", "required": ["a"], "additionalProperties": False},
        {"type": "object", "properties": 7},
        {"type": "strnig"},
    ],
)
def test_a_schema_that_nothing_fits_is_reported(schema: Any) -> None:
    with pytest.raises(UnsatisfiableError):
        generate(schema, random.Random(0))


@pytest.mark.parametrize(
    "pattern",
    [
        r"^[a-z][a-z0-9_]*$",
        r"^(red|green|blue)$",
        r"^\+?\d{1,3}([ -]\d{2,4}){2,}$",
        r"^(?:[01]\d|2[0-3]):[0-5]\d$",
        r"^[^@\s]+@[^@\s]+\.[a-z]{2,}$",
        r"^(?P<year>\d{4})-\d\d$",
        r"\bcat\b",
        r"^\x41\u00e9\t[\w.-]+?$",
        r"[]x-]",
        r"^$",
    ],
)
def test_an_example_matches_its_pattern(pattern: str) -> None:
    for seed in range(30):
        found = example(pattern, random.Random(seed))
        assert re.search(pattern, found), found


@pytest.mark.parametrize("pattern", ["(?=a)b", "(a", "a)", "[a", "*a", r"\q", "a{x}", "a\\", "[b-a]"])
def test_a_pattern_beyond_understanding_is_an_error(pattern: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        example(pattern, random.Random(0))


def test_merging_keeps_the_tighter_limits() -> None:
    merged = merge(
        {"minimum": 1, "maximum": 9, "required": ["a"], "type": ["number", "null"], "enum": [1, 2, 3]},
        {"minimum": 3, "maximum": 12, "required": ["a", "b"], "type": "integer", "enum": [3, 2, 7]},
    )
    assert merged == {"minimum": 3, "maximum": 9, "required": ["a", "b"], "type": ["integer"], "enum": [2, 3]}


BUSY = {
    "repetitions of repetitions": {"type": "string", "pattern": "((((a{999}){999}){999}){999})"},
    "a great many": {"type": "string", "pattern": "a{99999999}"},
    "open-ended ones": {"type": "string", "pattern": "^((x+x+)+)+\\by$", "minLength": 5000},
    "groups within groups": {"type": "string", "pattern": "(" * 20_000 + ")" * 20_000},
    "wide classes": {"type": "string", "pattern": "[\\u0000-\\uffff\\u0000-\\uffff]{99999}"},
    "a pattern that is searched for ever": {"type": "string", "pattern": "^(a|aa)+\\bb$", "minLength": 60},
    "many of them": {"type": "array", "minItems": 900, "items": {"type": "string", "pattern": "(a{99}){99}"}},
    "many distinct ones": {"type": "array", "minItems": 9000, "uniqueItems": True, "items": {"type": "number"}},
    "many long ones": {"type": "array", "minItems": 9000, "items": {"type": "string", "minLength": 1_000_000}},
}


@pytest.mark.parametrize("what", BUSY)
def test_no_schema_keeps_the_gateway_busy(what: str) -> None:
    """In processor time: a gateway that is busy answers nobody, and is not even stopped by a signal."""
    began = time.process_time()
    with contextlib.suppress(UnsatisfiableError):
        generate(BUSY[what], random.Random(1))
    assert time.process_time() - began < 3
