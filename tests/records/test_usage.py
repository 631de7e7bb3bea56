"""Usage out of every dialect, and None out of everything that is none."""

from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.usage import ZERO, Usage, parse_usage, read_usage

RESPONSES = {
    "input_tokens": 100,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 20,
    "output_tokens_details": {"reasoning_tokens": 5},
    "total_tokens": 120,
}
CHAT = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 5},
}
NEW_API_CHAT_FILLED = CHAT | {"input_tokens": 0, "output_tokens": 0, "input_tokens_details": None}
NEW_API_BOTH_FILLED = CHAT | {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": None}
NEW_API_EMBEDDINGS = {
    "prompt_tokens": 8,
    "completion_tokens": 0,
    "total_tokens": 8,
    "prompt_tokens_details": {"cached_tokens": 0},
    "input_tokens": 0,
    "output_tokens": 0,
}
FULL = Usage(100, 64, 20, 5, 120)


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(RESPONSES, FULL, id="Responses"),
        pytest.param(CHAT, FULL, id="chat"),
        pytest.param(NEW_API_CHAT_FILLED, FULL, id="new-api, Responses names left at 0"),
        pytest.param(NEW_API_BOTH_FILLED, FULL, id="new-api, both sets, details in the chat one"),
        pytest.param(NEW_API_EMBEDDINGS, Usage(8, 0, 0, 0, 8), id="new-api, embeddings"),
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0, 0, 0, 8), id="embeddings"),
        pytest.param(
            {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": None, "prompt_tokens_details": None},
            Usage(8, 0, 0, 0, 8),
            id="embeddings with nulls",
        ),
        pytest.param({"input_tokens": 18.0, "output_tokens": 9.0}, Usage(18, 0, 9, 0, 27), id="integral floats"),
        pytest.param({"input_tokens": 0, "output_tokens": 0}, ZERO, id="reported zeros are zeros"),
        pytest.param(
            {"input_tokens": 1, "output_tokens": 2, "prompt_tokens": 3, "completion_tokens": 4},
            Usage(1, 0, 2, 0, 3),
            id="Responses names win",
        ),
        pytest.param(
            {"input_tokens": "1", "output_tokens": 2, "prompt_tokens": 3, "completion_tokens": 4},
            Usage(3, 0, 4, 0, 7),
            id="chat names where the Responses ones are nonsense",
        ),
        pytest.param(
            {"input_tokens": 100, "output_tokens": 1, "input_tokens_details": {"cache_write_tokens": 30}},
            Usage(100, 0, 1, 0, 101, 30),
            id="cache writes",
        ),
        pytest.param({"input_tokens": 2**53, "output_tokens": 0}, Usage(2**53, 0, 0, 0, 2**53), id="largest count"),
    ],
)
def test_dialects(usage: dict[str, Any], expected: Usage) -> None:
    """Each dialect gives the same five counts, from the decoded value and from the bytes of a body."""
    assert parse_usage(usage) == expected
    assert read_usage(json.dumps({"id": "resp_1", "output": [], "usage": usage}).encode()) == expected


NONSENSE: list[Any] = [
    None,
    True,
    False,
    "18",
    "",
    -1,
    -0.5,
    18.5,
    2**53 + 1,
    2.0**60,
    math.nan,
    math.inf,
    -math.inf,
    [],
    {},
    [1],
]


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
@pytest.mark.parametrize("names", [("input_tokens", "output_tokens"), ("prompt_tokens", "completion_tokens")])
def test_nonsense_counts_are_no_usage(value: object, names: tuple[str, str]) -> None:
    """A count that is none never becomes 0, and never costs the program its life."""
    for broken, sound in (names, names[::-1]):
        assert parse_usage({broken: value, sound: 7}) is None


@pytest.mark.parametrize("value", NONSENSE, ids=repr)
def test_nonsense_details_are_not_reported(value: object) -> None:
    """A part that is nonsense is 0, and the usage stays."""
    details = {"cached_tokens": value, "cache_write_tokens": value, "reasoning_tokens": value}
    usage = {"input_tokens": 10, "output_tokens": 10, "total_tokens": value}
    expected = Usage(10, 0, 10, 0, 20)
    assert parse_usage(usage | {"input_tokens_details": details, "output_tokens_details": details}) == expected
    assert parse_usage(usage | {"input_tokens_details": value, "output_tokens_details": value}) == expected


@pytest.mark.parametrize(
    "usage",
    [
        None,
        [],
        7,
        "usage",
        {},
        {"total_tokens": 8},
        {"input_tokens": 8},
        {"output_tokens": 8, "total_tokens": 8},
        {"prompt_tokens": 8},
        {"prompt_tokens": 8, "total_tokens": 9},
        {"prompt_tokens": 8, "total_tokens": "8"},
        {"prompt_tokens": 8, "total_tokens": 8, "output_tokens": 3},
        {"prompt_tokens": 8, "total_tokens": 8, "completion_tokens": "0"},
        {"total_tokens": None},
        {"input_tokens": 8, "completion_tokens": 2},
        {"prompt_tokens": 8, "output_tokens": 2},
        {"input_tokens": 0, "output_tokens": 0, "prompt_tokens": 8, "completion_tokens": "2"},
    ],
    ids=repr,
)
def test_no_usage(usage: object) -> None:
    """Where a count is missing nothing is made up, not even out of half of each dialect."""
    assert parse_usage(usage) is None


@pytest.mark.parametrize(
    ("details", "cached", "written"),
    [
        ({"cached_tokens": 100}, 100, 0),
        ({"cached_tokens": 101}, 101, 0),
        ({"cached_tokens": 60, "cache_write_tokens": 40}, 60, 40),
        ({"cached_tokens": 60, "cache_write_tokens": 41}, 60, 0),
        ({"cached_tokens": 101, "cache_write_tokens": 100}, 101, 100),
        ({"cached_tokens": 2**53}, 0, 0),
    ],
)
def test_parts_never_exceed_their_whole(details: dict[str, int], cached: int, written: int) -> None:
    """More cached tokens than input are besides it; anything else that does not fit counts as not reported."""
    usage = parse_usage({"input_tokens": 100, "output_tokens": 1, "input_tokens_details": details})
    assert usage is not None
    assert usage.input_tokens == (100 if cached <= 100 else 100 + cached + written)
    assert (usage.cached_tokens, usage.cache_write_tokens) == (cached, written)


ANTHROPIC = {"input_tokens": 21, "cache_creation_input_tokens": 0, "cache_read_input_tokens": 4000, "output_tokens": 50}
XAI = {
    "prompt_tokens": 10120,
    "completion_tokens": 1499,
    "total_tokens": 14428,
    "prompt_tokens_details": {"cached_tokens": 128},
    "completion_tokens_details": {"reasoning_tokens": 2809},
}
DEEPSEEK = {
    "prompt_tokens": 100,
    "completion_tokens": 20,
    "total_tokens": 120,
    "prompt_cache_hit_tokens": 64,
    "prompt_cache_miss_tokens": 36,
}
LITELLM = {
    "prompt_tokens": 4321,
    "completion_tokens": 50,
    "total_tokens": 4371,
    "prompt_tokens_details": {"cached_tokens": 4000, "cache_creation_tokens": 300},
    "cache_read_input_tokens": 4000,
    "cache_creation_input_tokens": 300,
}
OFFICIAL = RESPONSES | {"output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 125}


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        pytest.param(XAI, Usage(10120, 128, 4308, 2809, 14428), id="xAI: more reasoning than output"),
        pytest.param(OFFICIAL, Usage(100, 64, 25, 5, 125), id="reasoning besides, though smaller than the output"),
        pytest.param(
            {"prompt_tokens": 8, "completion_tokens": 9, "total_tokens": 566},
            Usage(8, 0, 558, 549, 566),
            id="Gemini: reasoning that only the total has",
        ),
        pytest.param(
            {"input_tokens": 8, "output_tokens": 9, "output_tokens_details": {"reasoning_tokens": 30}},
            Usage(8, 0, 39, 30, 47),
            id="more reasoning than output, no total",
        ),
        pytest.param(ANTHROPIC, Usage(4021, 4000, 50, 0, 4071), id="Anthropic"),
        pytest.param(
            ANTHROPIC | {"input_tokens": 5000, "cache_creation_input_tokens": 7},
            Usage(9007, 4000, 50, 0, 9057, 7),
            id="Anthropic, less cached than input",
        ),
        pytest.param(
            ANTHROPIC | {"input_tokens": 5000, "total_tokens": 5050},
            Usage(5000, 4000, 50, 0, 5050),
            id="Anthropic's names, but the total says that the cached ones are in the input",
        ),
        pytest.param(
            {"prompt_tokens": 21, "completion_tokens": 50, "total_tokens": 4071, "cache_read_input_tokens": 4000},
            Usage(4021, 4000, 50, 0, 4071),
            id="Anthropic's names beside those of chat",
        ),
        pytest.param(
            {"prompt_tokens": 21, "completion_tokens": 50, "total_tokens": 71}
            | {"prompt_tokens_details": {"cached_tokens": 4000}},
            Usage(4021, 4000, 50, 0, 4071),
            id="new-api with Claude: more cached than input",
        ),
        pytest.param(LITELLM, Usage(4321, 4000, 50, 0, 4371, 300), id="LiteLLM has both, and adds nothing"),
        pytest.param(DEEPSEEK, Usage(100, 64, 20, 0, 120), id="DeepSeek"),
        pytest.param(
            {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120, "cached_tokens": 64},
            Usage(100, 64, 20, 0, 120),
            id="Moonshot",
        ),
        pytest.param(
            RESPONSES | {"server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}},
            Usage(100, 64, 20, 5, 120, tool_calls={"web_search": 2}),
            id="Anthropic's web searches",
        ),
    ],
)
def test_a_usage_is_checked_against_its_own_sum(usage: dict[str, Any], expected: Usage) -> None:
    assert parse_usage(usage) == expected
    assert parse_usage(json.loads(json.dumps(usage))) == expected


def test_reasoning_beyond_output_is_not_reported() -> None:
    usage = RESPONSES | {"output_tokens_details": {"reasoning_tokens": 21}}
    assert parse_usage(usage) == Usage(100, 64, 20, 0, 120)


def test_details_of_another_whole_are_not_mixed_in() -> None:
    """The chat details complete the Responses counts only where both sets count the same."""
    usage = CHAT | {"prompt_tokens": 99, "completion_tokens": 19, "input_tokens": 100, "output_tokens": 20}
    assert parse_usage(usage) == Usage(100, 0, 20, 0, 120)


@pytest.mark.parametrize("total", [0, 119, 184, 10**9])
def test_total_is_input_plus_output(total: int) -> None:
    """A reported total that adds cached or reasoning once more does not get into the report."""
    assert parse_usage(RESPONSES | {"total_tokens": total}) == FULL


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"text"',
        b"<html>502</html>",
        b'{"usage": null}',
        b'{"usage": {"input_tokens": 1, "output_tokens": 1}',
        b'{"usage": {"input_tokens": NaN, "output_tokens": 1}}',
        b'{"usage": {"input_tokens": 1e999, "output_tokens": 1}}',
        b'{"usage": {"\xff": 1}}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"output": ' * 100_000,
        b'{"usage": ' * 100_000,
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bodies_without_usage(body: bytes) -> None:
    """A body that no JSON decoder takes, or that holds no usage, is None and raises nothing."""
    assert read_usage(body) is None


def test_record_form() -> None:
    """In a record the usage is five counts; cache writes join them only where there are some."""
    encoded = msgspec.json.encode(FULL)
    assert json.loads(encoded) == {
        "input_tokens": 100,
        "cached_tokens": 64,
        "output_tokens": 20,
        "reasoning_tokens": 5,
        "total_tokens": 120,
    }
    writing = Usage(100, 0, 20, 0, 120, 30)
    searching = Usage(100, 0, 20, 0, 120, tool_calls={"web_search": 2})
    for usage in (FULL, writing, searching):
        assert msgspec.json.decode(msgspec.json.encode(usage), type=Usage) == usage
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(b"{}", type=Usage)


COUNT_KEYS = ("input_tokens", "output_tokens", "prompt_tokens", "completion_tokens", "total_tokens")
PART_KEYS = ("cached_tokens", "cache_write_tokens", "reasoning_tokens")
DETAIL_KEYS = (
    *("input_tokens_details", "output_tokens_details"),
    *("prompt_tokens_details", "completion_tokens_details"),
)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
counts = st.integers(0, 200) | st.floats(0, 200).map(round).map(float) | json_values
usages = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(COUNT_KEYS, counts)
    | {key: json_values | st.fixed_dictionaries({}, optional=dict.fromkeys(PART_KEYS, counts)) for key in DETAIL_KEYS},
)


@given(usages | json_values)
def test_any_json_gives_a_sound_usage_or_none(value: object) -> None:
    """Whatever a gateway sends: no exception, plain integers, and parts within their wholes."""
    usage = parse_usage(value)
    if usage is not None:
        *counts, calls = msgspec.structs.astuple(usage)
        assert all(type(count) is int and count >= 0 for count in (*counts, *(calls or {}).values()))
        assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
        assert usage.reasoning_tokens <= usage.output_tokens
        assert usage.total_tokens == usage.input_tokens + usage.output_tokens


@given(st.binary(max_size=60) | json_values.map(lambda value: json.dumps({"usage": value}).encode()))
def test_any_bytes_raise_nothing(body: bytes) -> None:
    read_usage(body)


sound_usages = st.builds(Usage, *[st.integers(0, 2**53)] * 6)


@given(sound_usages, sound_usages, sound_usages)
def test_sums_are_associative(a: Usage, b: Usage, c: Usage) -> None:
    """Sums may be taken in any order and grouping; ZERO changes none."""
    assert (a + b) + c == a + (b + c) == c + (b + a)
    assert a + ZERO == a
    assert sum([a, b, c], ZERO).output_tokens == a.output_tokens + b.output_tokens + c.output_tokens
