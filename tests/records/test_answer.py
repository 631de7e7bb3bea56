"""What an answer says: texts, refusals, tool calls and JSON, of responses and of chat completions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.answer import (
    DoubledKeyError,
    NotJsonError,
    ToolCall,
    final_texts,
    json_text_of,
    parse_json,
    plain_text,
    read_result,
    refusal_of,
    text_of,
    tool_calls_of,
    unfenced,
)
from batchrun.records.outcome import Outcome
from batchrun.records.result import ResultHead, encode_result
from tests.support import record, run_info


def said(*texts: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "output_text", "text": text} for text in texts]}


CALL = {"type": "function_call", "name": "label", "arguments": '{"topic":"bug"}', "call_id": "c-1"}
CHAT_CALL = {"id": "c-1", "type": "function", "function": {"name": "label", "arguments": '{"topic":"bug"}'}}


def chat(**message: Any) -> dict[str, Any]:
    return {"choices": [{"message": message}]}


def test_the_calls_of_tools_are_found_in_all_their_shapes() -> None:
    called = ToolCall("label", '{"topic":"bug"}', "c-1")
    custom = {"type": "custom_tool_call", "name": "note", "input": "free text", "call_id": "c-2"}
    assert list(tool_calls_of({"output": [said("a"), CALL, custom]})) == [called, ToolCall("note", "free text", "c-2")]
    assert list(tool_calls_of(chat(tool_calls=[CHAT_CALL]))) == [called]
    assert list(tool_calls_of(chat(function_call={"name": "label", "arguments": "{}"}))) == [ToolCall("label", "{}")]
    assert called.parsed == {"topic": "bug"}
    assert ToolCall("note", "free text").parsed is None
    odd: Any
    for odd in (None, [], "text", {}, {"output": "text"}, {"choices": [{"message": {"tool_calls": "none"}}]}):
        assert list(tool_calls_of(odd)) == []


def test_the_json_of_an_answer_is_its_last_message_or_its_only_call() -> None:
    assert json_text_of({"output": [said("before"), {"type": "reasoning"}, said('{"a"', ":1}")]}) == '{"a":1}'
    assert json_text_of({"output": [{"type": "reasoning"}, CALL]}) == CALL["arguments"]
    assert json_text_of(chat(content="", tool_calls=[CHAT_CALL])) == CALL["arguments"]
    assert json_text_of({"output": [CALL, CALL]}) is None
    assert json_text_of({"data": []}) is None
    assert json_text_of(None) is None


def test_the_text_and_the_text_that_must_fit_are_not_the_same() -> None:
    body = {"output": [said("one "), said("two")]}
    assert text_of(body) == "one two"
    assert list(final_texts(body)) == ["two"]
    assert list(final_texts({"output": [said("one"), CALL]})) == []
    assert (text_of({"output": [], "output_text": "a"}), *final_texts({"output_text": "a"})) == ("a", "a")
    assert list(final_texts({"choices": [{"message": {"content": "a"}}, {"message": {"content": "b"}}]})) == ["a", "b"]


def plainly_read(body: dict[str, Any]) -> str | None:
    """The text that should be JSON, by the words of the manual."""
    if "choices" in body:
        choices = body["choices"] if isinstance(body["choices"], list) else []
        messages = [choice.get("message") or {} for choice in choices if isinstance(choice, dict)]
        whole = [one for one in messages if not one.get("tool_calls") and not one.get("function_call")]
        content = whole[0].get("content") if whole else ""
    else:
        output = body["output"] if isinstance(body.get("output"), list) else []
        items = [item for item in output if isinstance(item, dict) and item.get("type") != "reasoning"]
        last = items[-1] if items else {"content": body.get("output_text")}
        content = last.get("content") if last.get("type", "message") == "message" else ""
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [part.get("text") for part in parts if isinstance(part, dict)]
    text = "".join(text for text in texts if isinstance(text, str))
    calls = list(tool_calls_of(body))
    return text if text.strip() else calls[0].arguments if len(calls) == 1 else None


TEXTS = st.sampled_from(["", " \n\u2003", "a", '{"a":1}']) | st.none() | st.just(7)
PARTS = st.fixed_dictionaries({}, optional={"type": st.just("output_text"), "text": TEXTS})
CONTENTS = TEXTS | st.lists(PARTS | st.none() | st.just("text"), max_size=3)
KINDS = st.sampled_from(["message", "reasoning", "web_search_call"]) | st.none()
ITEMS = st.fixed_dictionaries({}, optional={"type": KINDS, "content": CONTENTS}) | st.just(CALL) | st.none()
MESSAGES = st.fixed_dictionaries({}, optional={"content": CONTENTS, "tool_calls": st.just([CHAT_CALL]) | st.none()})
CHOICES = st.fixed_dictionaries({}, optional={"message": MESSAGES | st.none()}) | st.none()


@given(
    st.fixed_dictionaries({}, optional={"output": st.lists(ITEMS, max_size=4) | TEXTS, "output_text": TEXTS})
    | st.fixed_dictionaries({"choices": st.lists(CHOICES, max_size=3) | TEXTS})
)
def test_the_json_of_an_answer_is_found_in_any_shape(body: dict[str, Any]) -> None:
    assert json_text_of(body) == plainly_read(body)


def test_a_refusal_is_found_in_both_shapes() -> None:
    refusal = {"type": "message", "content": [{"type": "refusal", "refusal": "I cannot."}]}
    assert refusal_of({"output": [refusal]}) == "I cannot."
    assert refusal_of(chat(refusal="I cannot.")) == "I cannot."
    assert refusal_of(chat(content="yes", refusal=None)) is None
    assert refusal_of({"output": [said("yes")]}) is None
    assert refusal_of(None) is None


@pytest.mark.parametrize(
    "text", ['```json\n{"a": 1}\n```', '```\n{"a": 1}\n```', ' \n```JSON \r\n{"a": 1}\r\n```\n', '{"a": 1}']
)
def test_one_fence_around_all_of_it_is_taken_off(text: str) -> None:
    assert unfenced(text) == '{"a": 1}'


@pytest.mark.parametrize(
    "text",
    [
        'Here it is:\n```json\n{"a": 1}\n```',
        '```json\n{"a": 1}\n```\nI hope this helps.',
        '```json\n{"a": 1}',
        '```json\n{"a": 1}\n```\n```json\n{"a": 2}\n```',
        '```json\n```json\n{"a": 1}\n```\n```',
        '`{"a": 1}`',
    ],
)
def test_nothing_else_is_repaired(text: str) -> None:
    assert unfenced(text) == text


@given(st.text())
def test_a_text_without_a_fence_stays_as_it_is(text: str) -> None:
    assert "```" in text or unfenced(text) == text


def test_whole_numbers_of_any_size_are_exact() -> None:
    assert parse_json("[123456789012345678901234567890, 18446744073709551616]") == [
        123456789012345678901234567890,
        18446744073709551616,
    ]


@pytest.mark.parametrize("text", ["", "{", '{"a": 1} {"b": 2}', "NaN", r'"\ud800"', "[" * 100_000])
def test_what_is_no_strict_json_is_refused(text: str) -> None:
    with pytest.raises(NotJsonError):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 1}', '[{"b": {"a": 1, "\\u0061": 2}}]', '{"a": "x: y", "b": 1, "b": "z:"}']
)
def test_an_object_that_has_a_key_twice_says_two_things_and_is_refused(text: str) -> None:
    with pytest.raises(DoubledKeyError, match="stands twice in an object"):
        parse_json(text)


def test_colons_that_are_no_members_and_equal_keys_of_two_objects_are_fine() -> None:
    for text in (
        '{"a": "x: y", "b": ":"}',
        '[{"a": 1}, {"a": 1}]',
        '{"a": {"a": 1}}',
        '{"n": ' + "9" * 5000 + "e-5000}",
    ):
        assert parse_json(text) == parse_json(f" {text} ")


@pytest.mark.parametrize("beside", ["", ',"endless":1e400'])
def test_whole_numbers_of_a_body_are_exact_whatever_stands_beside_them(beside: str) -> None:
    body = f'{{"seed":100000000000000000001{beside}}}'.encode()
    raw = encode_result(ResultHead("r-1", run_info()), 200, None, body)
    assert read_result(raw[:-1]).body["seed"] == 100000000000000000001


def test_a_result_tells_all_that_its_record_has() -> None:
    result = read_result(record("r-1", 3, text='```json\n{"topic": "bug"}\n```').removesuffix(b"\n"))
    expected: Outcome = "succeeded"
    assert (result.custom_id, result.run.line, result.outcome, result.error) == ("r-1", 3, expected, None)
    assert result.parsed == {"topic": "bug"}
    assert result.tool_calls == ()
    assert result.usage is not None
    assert result.usage.total_tokens == 30
    failed = read_result(record("r-2", text="", failed=True).removesuffix(b"\n"))
    assert (failed.outcome, failed.text, failed.parsed, failed.usage) == ("failed", "", None, None)
    assert failed.error is not None


@given(st.lists(ITEMS, max_size=3), st.sampled_from([{}, {"choices": []}, {"output_text": "beside"}]))
def test_a_plain_text_is_all_that_an_answer_says(output: list[Any], beside: dict[str, Any]) -> None:
    body = {"output": output, **beside}
    text = plain_text(body)
    if text is not None:
        assert text == text_of(body) == json_text_of(body) == next(final_texts(body))
        assert list(tool_calls_of(body)) == []
        assert refusal_of(body) is None


def test_most_answers_are_plain_texts() -> None:
    assert plain_text({"output": [said("yes")]}) == "yes"
    assert plain_text({"output": [{"type": "reasoning"}, said("yes")]}) == "yes"
    odd: Any
    for odd in (None, [], {}, {"output": []}, {"output": [said("a", "b")]}, {"output": [said("a"), said("b")]}):
        assert plain_text(odd) is None
