"""A glance at request lines: it knows what a whole check would say of them, or says nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.request import RequestLineError, parse_request
from batchrun.requests import prescan as module
from batchrun.requests.prescan import prescan, prescan_plain

BODY = '{"model":"m","input":"Grüße"}'
LINE = f'{{"custom_id":"r-1","method":"POST","url":"/v1/responses","body":{BODY}}}'.encode()
DEEP = "[" * 501 + "]" * 501

TAKE_A_CLOSER_LOOK = {
    "a bare body": BODY.encode(),
    "another endpoint": LINE.replace(b"responses", b"embeddings"),
    "another place": LINE.replace(b"/v1", b"http://elsewhere"),
    "another method": LINE.replace(b"POST", b"GET"),
    "no id": LINE.replace(b"custom_id", b"id"),
    "an empty id": LINE.replace(b"r-1", b""),
    "a number for an id": LINE.replace(b'"r-1"', b"1"),
    "half a line": LINE[:-1],
    "two lines": LINE + LINE,
    "no JSON in the body": LINE.replace(b'"m"', b"m"),
    "bad UTF-8 in the body": LINE.replace("ü".encode(), b"\xfc"),
    "bad UTF-8 beside the body": LINE.replace(b"POST", b"\xfc"),
    "deep nesting beside the body": LINE.replace(b'{"custom_id"', b'{"x":%s,"custom_id"' % DEEP.encode()),
    "no object": b"[]",
    "nothing": b"",
}


@pytest.mark.parametrize("line", TAKE_A_CLOSER_LOOK.values(), ids=TAKE_A_CLOSER_LOOK)
def test_what_a_glance_does_not_tell_it_does_not_say(line: bytes) -> None:
    assert prescan([line])[:2] == ([""], [""])
    ids, hashes, _ = prescan([LINE, line, LINE])
    assert ids == ["r-1", "", "r-1"]
    assert hashes == [parse_request(LINE, 1).body_hash, "", parse_request(LINE, 1).body_hash]


CHAT = LINE.replace(b'"input"', b'"messages"')
NOT_BY_ITS_BODY_ALONE = {
    "it names its endpoint": LINE.replace(b'"body"', b'"endpoint":"a","body"'),
    "it asks for a schema": LINE.replace(b'"m"', b'"m","text":{"format":{"type":"json_schema"}}'),
    "its body sends it to another URL": CHAT.replace(b'"url":"/v1/responses",', b""),
}


@pytest.mark.parametrize("line", NOT_BY_ITS_BODY_ALONE.values(), ids=NOT_BY_ITS_BODY_ALONE)
def test_a_line_that_is_not_answered_by_its_body_alone_takes_a_closer_look(line: bytes) -> None:
    sha = parse_request(LINE, 1).body_hash
    assert prescan([line])[0] == ["r-1"]
    assert prescan_plain([LINE, line, LINE]) == (["r-1", "", "r-1"], [sha, "", sha])
    assert prescan_plain([LINE, LINE]) == (["r-1", "r-1"], [sha, sha])


def test_words_in_a_text_make_no_line_less_plain() -> None:
    text = LINE.replace(b"Gr", b'\\"endpoint\\"')
    assert prescan_plain([text, CHAT])[0] == ["r-1", "r-1"], "the URL beside the body says where it goes"


def test_a_line_that_is_too_long_takes_a_closer_look(monkeypatch: pytest.MonkeyPatch) -> None:
    long = LINE.replace(b"r-1", b"r" * 300)
    monkeypatch.setattr(module, "MAX_LINE_BYTES", len(LINE))
    monkeypatch.setattr(module, "MAX_DEPTH", len(LINE) // 2)
    assert prescan([LINE, long])[0] == ["r-1", ""]


def test_no_lines_are_no_ids() -> None:
    assert prescan([])[:2] == ([], [])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
lines = st.fixed_dictionaries(
    {"body": st.fixed_dictionaries({"model": st.just("m")}, optional={"input": json_values, "stream": st.booleans()})},
    optional={
        "custom_id": st.text(max_size=3) | st.integers(),
        "method": st.sampled_from(["POST", "GET", None]),
        "url": st.sampled_from(["/v1/responses", "/v1/chat/completions", "/", None]),
        "x": json_values | st.text(min_size=1100, max_size=1100),
    },
)


@given(st.lists(lines.map(lambda line: json.dumps(line, ensure_ascii=False).encode()), max_size=5))
def test_a_glance_never_says_other_than_the_whole_check(written: list[bytes]) -> None:
    """Of a line whose body is fit to be sent: where a glance gives an id, the check passes, with that id and hash."""
    ids, hashes, _ = prescan(written)
    assert len(ids) == len(hashes) == len(written)
    for raw, custom_id, sha in zip(written, ids, hashes, strict=True):
        try:
            line = parse_request(raw, 1)
        except RequestLineError:
            assert (custom_id, sha) == ("", "")
        else:
            assert (custom_id, sha) in (("", ""), (line.custom_id, line.body_hash))
