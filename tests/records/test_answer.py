"""What an answer says: texts, refusals, tool calls and JSON, of responses and of chat completions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.records.answer import (
    NotJsonError,
    ToolCall,
    final_texts,
    json_text_of,
    parse_json,
    read_result,
    refusal_of,
    text_of,
    tool_calls_of,
    unfenced,
)
from batchrun.records.outcome import Outcome
from tests.support import record


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
