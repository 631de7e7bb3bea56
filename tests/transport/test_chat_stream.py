"""Chat chunks that nobody asked for come to the completion that was asked for, or to nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.transport.chat_stream import assemble_chat

Json = dict[str, Any]
DONE = b"data: [DONE]\n\n"


def chunk(delta: Json, finish_reason: str | None = None, index: int = 0, **fields: Any) -> bytes:
    choice = {"index": index, "delta": delta, "finish_reason": finish_reason}
    body = {"id": "c", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **fields}
    return b"data: %s\n\n" % json.dumps(body).encode()


def assembled(*events: bytes) -> Json:
    whole = assemble_chat(b"".join(events))
    assert whole is not None
    answer: Json = json.loads(whole)
    return answer


FIRST = chunk({"role": "assistant", "content": "pos"}, usage=None)
LAST = chunk({"content": "itive"}, "stop")
USAGE = {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14}


def test_chunks_come_to_a_completion() -> None:
    usage = b"data: %s\n\n" % json.dumps({"id": "c", "model": "m", "choices": [], "usage": USAGE}).encode()
    for tail in ((), (DONE,), (usage, DONE)):
        answer = assembled(FIRST, b": ping\n\n", LAST, *tail)
        message = {"role": "assistant", "content": "positive"}
        assert answer["choices"] == [{"index": 0, "message": message, "finish_reason": "stop"}]
        assert (answer["id"], answer["model"], answer["object"]) == ("c", "m", "chat.completion")
        assert answer.get("usage") == (USAGE if usage in tail else None)


def test_events_that_are_no_chunks_are_passed_over() -> None:
    for noise in (b"oops", b"[1]", b'"x"'):
        answer = assembled(b"data: " + noise + b"\n\n", FIRST, b"data: " + noise + b"\n\n", LAST)
        assert answer["choices"][0]["message"]["content"] == "positive"


def test_choices_and_calls_are_continued_by_their_index() -> None:
    call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
    other = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "g", "arguments": "{}"}}
    answer = assembled(
        chunk({"content": None, "tool_calls": [call]}, index=1),
        chunk({"content": "a"}),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"x"'}}]}, index=1),
        chunk({"tool_calls": [{"index": 0, "function": {"arguments": ":1}"}}, other]}, "tool_calls", index=1),
        chunk({"content": "b", "reasoning_content": "hm"}, "stop"),
    )
    first, second = answer["choices"]
    assert (first["message"]["content"], first["message"]["reasoning_content"]) == ("ab", "hm")
    calls = second["message"]["tool_calls"]
    assert [(one["id"], one["function"]) for one in calls] == [
        ("call_1", {"name": "f", "arguments": '{"x":1}'}),
        ("call_2", {"name": "g", "arguments": "{}"}),
    ]
    assert (first["finish_reason"], second["finish_reason"]) == ("stop", "tool_calls")


def test_half_a_surrogate_pair_finds_its_other_half() -> None:
    pair = chunk({"content": "\ud83d"}) + chunk({"content": "\ude00"}, "stop")
    assert assembled(pair)["choices"][0]["message"]["content"] == "😀"
    assert assembled(chunk({"content": "\ud83d"}, "stop"))["choices"][0]["message"]["content"] == "\ud83d"


@pytest.mark.parametrize(
    "cut",
    [
        FIRST,
        FIRST + DONE,  # as a relay ends what broke off behind it
        FIRST + LAST[:-9],
        FIRST + chunk({}, "stop", index=1),
        FIRST + b'data: {"choices": [{"delta": {"content": "iti\n\n' + LAST + DONE,
        b": ping\n\n",
        DONE,
    ],
)
def test_a_stream_that_is_cut_is_nothing(cut: bytes) -> None:
    assert assemble_chat(cut) is None


def test_an_error_and_a_whole_answer_are_handed_on_as_they_are() -> None:
    error = b'{"error": {"code": 429, "message": "slow"}}'
    assert assemble_chat(FIRST + b"data: " + error + b"\n\n" + DONE) == error
    flat = b'{"code": 429, "message": "slow"}'
    assert assemble_chat(b"event: error\ndata: " + flat + b"\n\n") == flat
    for whole in (b'{"choices": [{"message": {"content": "hi"}}]}', b'{"data": [{"embedding": [1]}]}'):
        assert assemble_chat(b": ping\n\ndata: " + whole + b"\n\n" + DONE) == whole
