"""Raw JSON: members found and replaced, depth measured, without touching what is around them."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.rawjson import (
    encode_string,
    is_empty_list,
    member,
    member_spans,
    nests_deeper,
    parse,
    string_member,
    with_member,
    with_new_member,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=4) | st.dictionaries(st.text(), values, max_size=4),
    max_leaves=20,
)
objects = st.dictionaries(st.text(), json_values, max_size=5)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":")}])
DEEP = b"[" * 100_000 + b"]" * 100_000


@given(objects, layouts)
def test_the_span_of_every_member_is_found(value: dict[str, Any], layout: dict[str, Any]) -> None:
    raw = json.dumps(value, **layout).encode()
    spans = member_spans(raw)
    assert spans is not None
    assert {
        name.decode(errors="surrogatepass"): json.loads(raw[start:end]) for name, (start, end) in spans.items()
    } == value


@given(objects, st.integers(0, 1000))
def test_a_torn_object_has_no_spans(value: dict[str, Any], cut: int) -> None:
    raw = json.dumps(value).encode()
    assert member_spans(raw[: cut % len(raw)]) is None


@pytest.mark.parametrize(
    "raw", [b"", b"[]", b'"{}"', b"3", b"{} x", b"{}{}", b"{} x{", b'{"a":1}]', b'{"a', b'{"a":"b\\"}', b'x{"a":1}']
)
def test_what_is_no_object_has_no_spans(raw: bytes) -> None:
    assert member_spans(raw) is None


def test_spans_need_no_recursion() -> None:
    raw = b'{"a":' + DEEP + b',"b":"]}\\"","c":\\ud800}'
    spans = member_spans(raw)
    assert spans is not None
    assert [raw[start:end] for start, end in spans.values()] == [DEEP, b'"]}\\""', b"\\ud800"]


@given(objects, st.text(), json_values, layouts)
def test_with_member_replaces_one_value_and_nothing_else(
    value: dict[str, Any], name: str, new: Any, layout: dict[str, Any]
) -> None:
    raw = json.dumps(value, **layout).encode()
    try:
        changed = with_member(raw, name, json.dumps(new).encode())
    except UnicodeEncodeError:  # a name with half a surrogate pair is none of ours
        return
    assert json.loads(changed) == value | {name: new}
    for other, (start, end) in (member_spans(raw) or {}).items():
        assert other == name.encode() or raw[start:end].strip() in changed


@pytest.mark.parametrize(
    ("raw", "changed"),
    [
        (b'{"a":1,"a":2,"b" : 3 }', b'{"a":1,"a":9,"b" : 3 }'),
        (b'{"\\u0061" :1}', b'{"\\u0061" :9}'),
        (b'{"b":{"a":1},"c":["a"]}\n', b'{"b":{"a":1},"c":["a"],"a":9}'),
        (b"{ }", b'{"a":9}'),
        (b'{"a":1', b'{"a":1'),
        (b"[1]", b"[1]"),
    ],
    ids=["doubled", "escaped", "nested", "empty", "torn", "no object"],
)
def test_with_member_by_example(raw: bytes, changed: bytes) -> None:
    assert with_member(raw, "a", b"9") == changed


def test_a_new_member_goes_to_the_end() -> None:
    assert with_new_member(b'{"b":{} }', 'a"', b"[]") == b'{"b":{},"a\\"":[]}'


@given(objects)
def test_members_are_read_by_name(value: dict[str, Any]) -> None:
    raw = json.dumps(value).encode()
    for name in value:
        try:
            name.encode()
        except UnicodeEncodeError:
            continue
        assert json.loads(member(raw, name)) == value[name]
        assert string_member(raw, name) == (value[name] if isinstance(value[name], str) else "")
    assert member(raw, "\0none") == b""


@pytest.mark.parametrize("awkward", [b'"\\ud800"', DEEP, b"1e999"], ids=["surrogate", "deep", "exponent"])
def test_members_of_awkward_json_are_read_all_the_same(awkward: bytes) -> None:
    raw = b'{"a":' + awkward + b',"\\u0062": "x" }'
    assert member(raw, "a") == awkward
    assert string_member(raw, "b") == "x"
    assert member(raw[:-1], "b") == b""


def nested(value: Any) -> int:
    if isinstance(value, dict):
        value = list(value.values())
    return 1 + max(map(nested, value), default=0) if isinstance(value, list) else 0


@given(json_values, layouts, st.integers(0, 6))
def test_depth_is_that_of_the_value(value: Any, layout: dict[str, Any], levels: int) -> None:
    raw = json.dumps(value, ensure_ascii=False, **layout).encode(errors="replace")
    assert nests_deeper(raw, levels) == (nested(value) > levels)


@given(st.lists(st.text(st.sampled_from('[]{}\\"a')), max_size=8))
def test_brackets_in_strings_are_no_depth(texts: list[str]) -> None:
    assert not nests_deeper(json.dumps(texts).encode(), 1)
    assert not nests_deeper(json.dumps({text: [text] for text in texts}).encode(), 2)


def test_great_and_torn_depth_are_measured_at_once() -> None:
    started = time.perf_counter()
    for raw in (DEEP, b"[" * (4 << 20), b'{"a":' * (1 << 20), b"[]," * (1 << 20) + DEEP):
        assert nests_deeper(raw, 500)
    assert not nests_deeper(b"[" + b"[]," * (1 << 20) + b"[]]", 500)
    assert time.perf_counter() - started < 5


@given(st.text(st.characters()))
def test_strings_are_encoded_whatever_they_hold(text: str) -> None:
    assert json.loads(encode_string(text)) == text


@given(st.binary())
def test_any_bytes_are_looked_at_without_raising(raw: bytes) -> None:
    for data in (raw, b'{"a":' + raw + b"}", b'{"a":"' + raw + b'"}'):
        parse(data)
        member_spans(data)
        member(data, "a")
        string_member(data, "a")
        nests_deeper(data, 2)
        with_member(data, "a", b"1")


@pytest.mark.parametrize("raw", [b"", b"null", b"[]", b"[ \n]"])
def test_an_empty_list_has_nothing_in_it(raw: bytes) -> None:
    assert is_empty_list(raw)
    assert not is_empty_list(raw[:-1] + b"0]")
