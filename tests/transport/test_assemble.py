"""The response assembler: transcripts as gateways send them, and as they should not."""

import json
import time
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from batchrun.transport.assemble import ResponseAssembler, StreamResult
from batchrun.transport.sse import Event, EventDecoder

Json = dict[str, Any]

OPENING: Json = {
    "id": "resp_1",
    "object": "response",
    "status": "in_progress",
    "model": "gpt-4.1",
    "output": [],
}
USAGE = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}


def event(type_: str, **fields: Any) -> Event:
    return Event(type_, json.dumps({"type": type_, **fields}).encode())


def terminal(status: str = "completed", **fields: Any) -> Event:
    response = OPENING | {"status": status, "usage": USAGE} | fields
    return event(f"response.{status}", sequence_number=99, response=response)


def message(*parts: Json, status: str = "completed") -> Json:
    return {"id": "msg_1", "type": "message", "status": status, "role": "assistant", "content": list(parts)}


def text_part(text: str) -> Json:
    return {"type": "output_text", "annotations": [], "text": text}


def text_events(*deltas: str, index: int = 0) -> list[Event]:
    """The events of one message, from `added` to the last delta."""
    place = {"item_id": "msg_1", "output_index": index, "content_index": 0}
    return [
        event("response.output_item.added", output_index=index, item=message(status="in_progress")),
        event("response.content_part.added", **place, part=text_part("")),
        *(event("response.output_text.delta", **place, delta=delta, obfuscation="x", logprobs=[]) for delta in deltas),
    ]


def closing_events(text: str, index: int = 0) -> list[Event]:
    """The events that close the message of `text_events`."""
    place = {"item_id": "msg_1", "output_index": index, "content_index": 0}
    return [
        event("response.output_text.done", **place, text=text),
        event("response.content_part.done", **place, part=text_part(text)),
        event("response.output_item.done", output_index=index, item=message(text_part(text))),
    ]


def assemble(*events: Event) -> tuple[ResponseAssembler, StreamResult]:
    assembler = ResponseAssembler()
    for each in events:
        assembler.add(each)
    return assembler, assembler.result()


def output_of(result: StreamResult) -> Any:
    assert result.response is not None
    return json.loads(result.response)["output"]


OPENED = [event("response.created", response=OPENING), event("response.in_progress", response=OPENING)]
EMPTY_OUTPUTS = pytest.mark.parametrize("empty", [[], None, "missing"])


def empty_terminal(empty: Any, status: str = "completed") -> Event:
    """A terminal event as relays send it that lose the output."""
    if empty != "missing":
        return terminal(status, output=empty)
    response = {"id": "resp_1", "status": status, "usage": USAGE}
    return event(f"response.{status}", response=response)


# The terminal event wins


def test_the_terminal_response_is_handed_on_byte_for_byte() -> None:
    """Spaces, numbers, key order and repeated keys are the gateway's affair."""
    response = b'{ "id":"r",  "created_at":1.0e9, "big":12345678901234567890123, "a":1,"a":2,\n "output":[1] }'
    data = b'{"type":"response.completed", "response": %s , "sequence_number":5}' % response
    assembler, result = assemble(*OPENED, *text_events("Hi"), Event("response.completed", data))
    assert result == StreamResult("response.completed", response)
    assert (assembler.finished, assembler.events, assembler.bad_events) == (True, 6, 0)


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "done"])
def test_each_terminal_event_ends_the_stream(status: str) -> None:
    """What the status means is the caller's to judge; `response` is there for each of them."""
    output = [message(text_part("Hi"))]
    assembler, result = assemble(*OPENED, terminal(status, output=output, error={"code": "server_error"}))
    assert assembler.finished
    assert (result.terminal, result.error, result.rebuilt) == (f"response.{status}", None, False)
    assert output_of(result) == output


def test_nothing_counts_after_the_end() -> None:
    """The transport may or may not read on; the result is the same."""
    assembler, result = assemble(
        terminal(output=[1]), event("error", message="late"), terminal("failed"), *text_events("late")
    )
    assert (result.terminal, result.error, output_of(result)) == ("response.completed", None, [1])
    assert assembler.events == 6


def test_a_whole_response_as_the_only_event_is_the_answer() -> None:
    """Relays that make a stream of every answer send it so, without a type."""
    whole = OPENING | {"status": "completed", "output": [message(text_part("hi"))]}
    opening, answer = Event("", json.dumps(OPENING).encode()), Event("", json.dumps(whole).encode())
    assert assemble(opening, answer)[1] == StreamResult("response.completed", answer.data)
    assert assemble(opening)[1].terminal is None


def test_no_output_and_no_items_stays_as_it_came() -> None:
    """An answer may really be empty (all tokens went into hidden reasoning)."""
    _, result = assemble(*OPENED, terminal("incomplete"))
    assert (output_of(result), result.rebuilt) == ([], False)


def test_json_type_beats_the_event_name() -> None:
    """The name is used only where the JSON has no type."""
    misnamed = Event("response.output_text.delta", terminal(output=[1]).data)
    untyped = Event("response.completed", b'{"response":{"output":[2]}}')
    message_named = Event("message", terminal(output=[3]).data)
    for given_event, output in ((misnamed, [1]), (untyped, [2]), (message_named, [3])):
        assert output_of(assemble(given_event)[1]) == output


# Rebuilding the output


@EMPTY_OUTPUTS
def test_empty_output_is_rebuilt_from_done_items(empty: Any) -> None:
    """Relays send `response.completed` without the output that the deltas had; the rest stays as it came."""
    events = [*OPENED, *text_events("Hel", "lo"), *closing_events("Hello"), empty_terminal(empty)]
    _, result = assemble(*events)
    assert (result.terminal, result.rebuilt) == ("response.completed", True)
    assert output_of(result) == [message(text_part("Hello"))]
    assert json.loads(result.response or b"")["usage"] == USAGE


def test_rebuilding_leaves_other_bytes_alone() -> None:
    """Done items and the other members of the response are spliced, not decoded."""
    item = b'{"id":"x",  "n":1.50e3, "type":"tool", "s":"\\u00e9"}'
    done = Event("", b'{"type":"response.output_item.done","output_index":0,"item": %s}' % item)
    data = b'{"type":"response.completed","response":{"t": 1.0, "output": [ ],"big":18446744073709551616}}'
    _, result = assemble(done, Event("", data))
    assert result.response == b'{"t": 1.0, "output":[%s],"big":18446744073709551616}' % item


@pytest.mark.parametrize("closing", range(3), ids=["deltas only", "text.done", "content_part.done"])
def test_output_is_rebuilt_from_an_open_item(closing: int) -> None:
    """Where the relay lost `output_item.done`, the deltas are the answer; the item counts as completed."""
    events = [*text_events("Hel", "lo"), *closing_events("Hello")[:closing], empty_terminal([])]
    _, result = assemble(*OPENED, *events)
    assert output_of(result) == [message(text_part("Hello"))]


def test_an_open_item_of_an_incomplete_response_is_incomplete() -> None:
    """It was cut by the token limit, and must not pass for whole."""
    _, result = assemble(*text_events("Hel"), empty_terminal([], "incomplete"))
    assert output_of(result) == [message(text_part("Hel"), status="incomplete")]


def test_done_text_replaces_the_deltas() -> None:
    """A lost or repeated delta does no harm once the whole text has come."""
    _, result = assemble(*text_events("Hel", "Hel"), *closing_events("Hello")[:1], empty_terminal([]))
    assert output_of(result)[0]["content"][0]["text"] == "Hello"


def test_a_done_part_replaces_its_deltas() -> None:
    """It is the part as it was closed, with annotations that no delta carries."""
    part = text_part("Hello") | {"annotations": [{"type": "url_citation"}]}
    done = event("response.content_part.done", output_index=0, content_index=0, part=part)
    _, result = assemble(*text_events("Hel", "Hel"), done, empty_terminal([]))
    assert output_of(result) == [message(part)]


def test_items_are_sorted_and_reasoning_comes_back() -> None:
    """Order is by output_index, not by arrival; summary and reasoning text find their lists."""
    place = {"item_id": "rs_1", "output_index": 0}
    part = {"type": "summary_text", "text": ""}
    _, result = assemble(
        *text_events("42", index=1),
        event(
            "response.output_item.added",
            output_index=0,
            item={"id": "rs_1", "type": "reasoning", "summary": []},
        ),
        event("response.reasoning_summary_part.added", **place, summary_index=0, part=part),
        event("response.reasoning_summary_text.delta", **place, summary_index=0, delta="I mul"),
        event("response.reasoning_summary_text.delta", **place, summary_index=0, delta="tiply."),
        event("response.reasoning_summary_text.done", **place, summary_index=1, text="Done."),
        event("response.reasoning_text.delta", **place, content_index=0, delta="6*7"),
        empty_terminal([]),
    )
    reasoning, answer = output_of(result)
    assert reasoning == {
        "id": "rs_1",
        "type": "reasoning",
        "summary": [
            {"type": "summary_text", "text": "I multiply."},
            {"type": "summary_text", "text": "Done."},
        ],
        "content": [{"type": "reasoning_text", "text": "6*7"}],
        "status": "completed",
    }
    assert answer["content"][0]["text"] == "42"


@pytest.mark.parametrize(
    ("item_type", "field", "name"),
    [
        ("function_call", "arguments", "function_call_arguments"),
        ("custom_tool_call", "input", "custom_tool_call_input"),
    ],
)
def test_tool_input_is_rebuilt_as_a_string(item_type: str, field: str, name: str) -> None:
    """Arguments are JSON inside a string; call_id and name come from the item."""
    item = {"id": "fc_1", "type": item_type, "call_id": "call_1", "name": "f", field: ""}
    assembler, result = assemble(
        event("response.output_item.added", output_index=0, item=item),
        event(f"response.{name}.delta", item_id="fc_1", output_index=0, delta='{"city":'),
        event(f"response.{name}.delta", item_id="fc_1", output_index=0, delta='"Köln"}'),
        empty_terminal([]),
    )
    assert output_of(result) == [item | {field: '{"city":"Köln"}', "status": "completed"}]
    assert assembler.text_seen


def test_refusal_and_text_keep_their_places() -> None:
    """Parts are ordered by content_index."""
    place = {"item_id": "msg_1", "output_index": 0}
    _, result = assemble(
        event("response.output_item.added", output_index=0, item=message()),
        event("response.refusal.delta", **place, content_index=1, delta="I can't."),
        event("response.output_text.delta", **place, content_index=0, delta="Well: "),
        empty_terminal([]),
    )
    refusal = {"type": "refusal", "refusal": "I can't."}
    assert output_of(result) == [message({"type": "output_text", "text": "Well: "}, refusal)]


def test_deltas_alone_are_enough() -> None:
    """Items whose `added` events were lost are made up from what the deltas tell."""
    _, result = assemble(
        event("response.output_text.delta", item_id="msg_1", output_index=0, delta="Hi"),
        event("response.function_call_arguments.delta", output_index=1, delta="{}"),
        empty_terminal([]),
    )
    assert output_of(result) == [
        message({"type": "output_text", "text": "Hi"}),
        {"type": "function_call", "arguments": "{}", "status": "completed"},
    ]


def test_without_output_index_the_item_id_decides() -> None:
    """llama.cpp leaves output_index out; items then keep their order of arrival."""
    call = {"id": "fc_1", "type": "function_call", "name": "f", "arguments": ""}
    _, result = assemble(
        event("response.output_item.added", item=message()),
        event("response.output_item.added", item=call),
        event("response.output_text.delta", item_id="msg_1", delta="Hi"),
        event("response.function_call_arguments.delta", item_id="fc_1", delta="{}"),
        event("response.output_item.done", item=message(text_part("Hi!"))),
        empty_terminal([]),
    )
    assert output_of(result) == [message(text_part("Hi!")), call | {"arguments": "{}", "status": "completed"}]


def test_without_index_and_id_the_last_item_is_meant() -> None:
    """A delta of another type opens another item, and so does an item after a closed one."""
    _, result = assemble(
        event("response.reasoning_text.delta", delta="hm"),
        event("response.output_text.delta", delta="H"),
        event("response.output_text.delta", delta="i"),
        event("response.output_item.done", item={"type": "message", "content": [text_part("Hi")]}),
        event("response.output_item.done", item={"type": "message", "content": [text_part("you")]}),
        empty_terminal([]),
    )
    assert [item["content"][0]["text"] for item in output_of(result)] == ["hm", "Hi", "you"]


def test_without_output_index_items_do_not_run_together() -> None:
    """Two `added` events are two items, and so are two ids, though no event has closed the first."""
    call = {"type": "function_call", "name": "f", "arguments": ""}
    _, result = assemble(
        event("response.output_item.added", item=call),
        event("response.output_item.added", item=call),
        event("response.function_call_arguments.delta", delta="[1]"),
        event("response.function_call_arguments.delta", item_id="a", output_index=2, delta="[2]"),
        event("response.function_call_arguments.delta", item_id="b", delta="[3]"),
        empty_terminal([]),
    )
    assert [item["arguments"] for item in output_of(result)] == ["", "[1]", "[2]", "[3]"]


def test_an_id_learned_late_is_known() -> None:
    """A delta without id opened the item; the event that names it may come after."""
    _, result = assemble(
        event("response.output_text.delta", output_index=0, delta="H"),
        event("response.output_item.added", output_index=0, item=message()),
        event("response.output_text.delta", output_index=1, delta="!"),
        event("response.output_text.delta", item_id="msg_1", delta="i"),
        empty_terminal([]),
    )
    assert [item["content"][0]["text"] for item in output_of(result)] == ["Hi", "!"]


@pytest.mark.parametrize("name", ["completed", "done"])
@pytest.mark.parametrize("response", [{}, {"response": None}])
def test_a_terminal_event_without_response_gets_the_opening_one(name: str, response: Json) -> None:
    """The answer came and was paid for; id and model stand in `response.created`, the usage is lost."""
    _, result = assemble(*OPENED, *text_events("Hi"), event(f"response.{name}", **response))
    expected = OPENING | {"status": "completed", "output": [message(text_part("Hi"))]}
    assert json.loads(result.response or b"") == expected
    _, bare = assemble(event("response.completed", **response))
    assert bare == StreamResult("response.completed")


# Streams cut short


@pytest.mark.parametrize("ending", [[], [Event("", b"[DONE]")], [Event("", b" [DONE] ")]])
def test_no_terminal_event_is_no_success(ending: list[Event]) -> None:
    """`[DONE]` and the end of the stream prove nothing; the text so far is kept for diagnostics."""
    assembler, result = assemble(*OPENED, *text_events("naïve ", "😀"), *ending)
    assert result == StreamResult(partial="naïve 😀".encode())
    assert (assembler.finished, assembler.events) == (False, 6)


def test_done_before_the_terminal_event_is_passed_over() -> None:
    """`[DONE]` neither ends the stream nor counts as an event."""
    assembler, result = assemble(Event("", b"[DONE]"), terminal(output=[1]))
    assert (result.terminal, assembler.events) == ("response.completed", 1)


def test_an_empty_stream_has_no_result() -> None:
    assert assemble()[1] == StreamResult()


def test_a_torn_terminal_event_is_no_terminal_event() -> None:
    """Cut anywhere, it is counted as bad; its bytes are shown if there is no text."""
    whole = terminal(output=[message(text_part('say "}}" \\'))])
    for cut in range(1, len(whole.data)):
        torn = Event(whole.name, whole.data[:cut])
        assembler, result = assemble(torn)
        assert (result, assembler.bad_events) == (StreamResult(partial=torn.data), 1), cut
    assert assemble(whole)[1].terminal == "response.completed"


# Errors

ERROR = {"type": "tokens", "code": "rate_limit_exceeded", "message": "slow", "param": None}
ERROR_SHAPES = {
    "nested": (event("error", sequence_number=3, error=ERROR), ERROR),
    "nested, untyped, after a ping": (Event("", json.dumps({"error": ERROR}).encode()), ERROR),
    "nested in a foreign event": (event("server_error", error=ERROR), ERROR),
    "nested in a terminal event": (event("response.failed", error=ERROR, response=None), ERROR),
    "untyped, named error": (Event("error", b'{"code":"x"}'), {"code": "x"}),
    "flat": (
        event("error", code="x", message="m", param=None),
        {"type": "error", "code": "x", "message": "m", "param": None},
    ),
    "flat with a null error": (
        event("error", code="x", error=None),
        {"type": "error", "code": "x", "error": None},
    ),
    "a string": (Event("", b'{"error": "no channel"}'), {"message": "no channel"}),
    "a lone surrogate": (Event("", b'{"error":{"message":"\\ud83d"}}'), {"message": "\ud83d"}),
}


@pytest.mark.parametrize(("error_event", "error"), ERROR_SHAPES.values(), ids=ERROR_SHAPES.keys())
def test_each_error_shape_is_one_shape_afterwards(error_event: Event, error: Json) -> None:
    """An error ends the stream; the text before it stays for diagnostics."""
    assembler, result = assemble(*OPENED, *text_events("Hi"), error_event, terminal(output=[1]))
    assert assembler.finished
    assert json.loads(result.error or b"") == {"error": error}
    assert (result.terminal, result.response, result.partial) == (None, None, b"Hi")


def test_a_null_error_is_no_error() -> None:
    """Response-like chunks carry `error: null`, and tool events an `error` of their own."""
    noise = [Event("", b'{"error":null}'), event("response.mcp_call.failed", error=ERROR)]
    assembler, result = assemble(*noise, terminal(output=[1], error=None))
    assert (result.terminal, result.error, assembler.bad_events) == ("response.completed", None, 0)


# Noise and unusual JSON

NOISE = {
    "not JSON": (b"oops", 1),
    "JSON that is no object": (b"[1]", 1),
    "a number": (b"1", 1),
    "an unknown type": (b'{"type":"response.ping"}', 0),
    "no type": (b"{}", 0),
    "a chat chunk": (b'{"object":"chat.completion.chunk","choices":[{"delta":{"content":"x"}}]}', 0),
    "odd field types": (b'{"type":"response.output_text.delta","output_index":"0","delta":{"a":1}}', 0),
    "an odd type": (b'{"type":7,"delta":"x"}', 0),
    "an item that is none": (b'{"type":"response.output_item.done","output_index":0,"item":null}', 0),
    "a part of unknown type": (b'{"type":"response.content_part.added","part":{"type":["x"]}}', 0),
    "a part that is none": (b'{"type":"response.content_part.done","part":3}', 0),
}


@pytest.mark.parametrize(("data", "bad_events"), NOISE.values(), ids=NOISE.keys())
def test_noise_is_passed_over(data: bytes, bad_events: int) -> None:
    """It is counted as an event, and as a bad one if it is no JSON object; the answer does not change."""
    assembler, result = assemble(Event("", data), *text_events("Hi"), Event("", data), empty_terminal([]))
    assert output_of(result) == [message(text_part("Hi"))]
    assert (assembler.events, assembler.bad_events) == (6, 2 * bad_events)


TORN = {
    "a torn object": b'{"type":"response.output_text.delta","delta":"x',
    "two objects": b'{"type":"x"}{"type":"y"}',
    "an object and a word": b'{"type":"x"} oops',
    "words in braces": b"{oops}",
}


@pytest.mark.parametrize("data", TORN.values(), ids=TORN.keys())
def test_deltas_are_no_answer_where_an_event_was_torn(data: bytes) -> None:
    """It may have held a delta: the answer is whole only where another event has all of its text."""
    torn, deltas = Event("", data), text_events("H", "i")
    half = [*deltas[:-1], torn, deltas[-1]]
    for last in (empty_terminal([]), terminal(output=[message()])):
        assembler, result = assemble(*half, last)
        assert (result, assembler.torn_events) == (StreamResult(partial=b"Hi"), 1)
    for whole in ([*closing_events("Hi"), empty_terminal([])], [terminal(output=[message(text_part("Hi"))])]):
        assert output_of(assemble(*half, *whole)[1]) == [message(text_part("Hi"))]


@pytest.mark.parametrize("closing", closing_events("Hi"), ids=["text", "part", "item"])
def test_each_event_that_has_the_whole_text_makes_up_for_a_torn_one(closing: Event) -> None:
    deltas = text_events("H", "i")
    _, result = assemble(*deltas[:-1], Event("", b'{"delta":'), deltas[-1], closing, empty_terminal([]))
    assert output_of(result) == [message(text_part("Hi"))]


UNUSUAL = {
    "a lone surrogate": b'{"output":[{"text":"\\ud83d"}]}',
    "a lone surrogate in a key": b'{"\\ud83d":1,"output":[1]}',
    "an integer beyond 64 bits": b'{"output":[%s]}' % (b"9" * 5000),
    "deep nesting": b'{"output":%s1%s}' % (b"[" * 50_000, b"]" * 50_000),
    "NaN": b'{"output":[NaN, -Infinity]}',
    "raw control characters": b'{"output":["a\tb\x00"]}',
    "bytes that are no UTF-8": b'{"output":["\xff"]}',
    "words": b'{"output":[undefined]}',
    "escaped quotes and brackets": b'{"output":["\\ud83d \\" ]} \\\\"]}',
}


@pytest.mark.parametrize("response", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_json_of_a_terminal_event_is_delivered(response: bytes) -> None:
    """It was paid for: no parser's limit may lose it, and its bytes stay."""
    data = b'{"type":"response.completed","sequence_number":4,"response" : %s }' % response
    assembler, result = assemble(Event("response.completed", data))
    assert result == StreamResult("response.completed", response)
    assert (assembler.finished, assembler.bad_events) == (True, 0)


def test_a_surrogate_pair_split_between_deltas_is_whole_again() -> None:
    """Relays that cut UTF-16 send each half of an emoji as a lone surrogate."""
    halves = [
        Event("", b'{"type":"response.output_text.delta","output_index":0,"delta":"%s"}' % half)
        for half in (b"\\ud83d", b"\\ude00")
    ]
    assembler, result = assemble(*halves, empty_terminal([]))
    assert output_of(result)[0]["content"][0]["text"] == "😀"
    assert assembler.bad_events == 0
    assert assemble(*halves)[1].partial == "😀".encode()
    assert assemble(halves[0])[1].partial == b"?"


def test_an_unusual_done_item_is_spliced_as_it_came() -> None:
    """The item's bytes are the answer, even if only a lenient parser reads them."""
    item = b'{"type":"message","content":[{"type":"output_text","text":"\\udc00"}]}'
    done = Event("", b'{"type":"response.output_item.done","output_index":0,"item":%s}' % item)
    _, result = assemble(done, Event("", b'{"type":"response.completed","response":{"output":[]}}'))
    assert result.response == b'{"output":[%s]}' % item


# The first text

FIRST_TEXT = {
    "text delta": (event("response.output_text.delta", delta="x"), True),
    "empty text delta": (event("response.output_text.delta", delta=""), False),
    "text done": (event("response.output_text.done", text="x"), True),
    "refusal delta": (event("response.refusal.delta", delta="x"), True),
    "arguments delta": (event("response.function_call_arguments.delta", delta="{"), True),
    "arguments done": (event("response.function_call_arguments.done", arguments="{}"), True),
    "reasoning delta": (event("response.reasoning_text.delta", delta="x"), False),
    "summary delta": (event("response.reasoning_summary_text.delta", delta="x"), False),
    "part done": (event("response.content_part.done", part=text_part("x")), True),
    "empty part added": (event("response.content_part.added", part=text_part("")), False),
    "message done": (event("response.output_item.done", item=message(text_part("x"))), True),
    "empty message done": (event("response.output_item.done", item=message()), False),
    "reasoning done": (
        event("response.output_item.done", item={"type": "reasoning", "content": [{"text": "x"}]}),
        False,
    ),
    "terminal with text": (terminal(output=[message(text_part("x"))]), True),
    "terminal with a call": (terminal(output=[{"type": "function_call", "arguments": "{}"}]), True),
    "terminal without text": (terminal(output=[{"type": "reasoning", "summary": [{"text": "x"}]}, 3]), False),
    "created": (OPENED[0], False),
}


@pytest.mark.parametrize(("first", "is_text"), FIRST_TEXT.values(), ids=FIRST_TEXT.keys())
def test_first_text_is_noticed(first: Event, is_text: bool) -> None:
    """Time to first text counts from the answer itself, wherever it shows first."""
    assert assemble(first)[0].text_seen is is_text


def test_text_once_seen_stays_seen() -> None:
    """No later event takes it back."""
    empty_done = event("response.output_item.done", output_index=0, item=message())
    assert assemble(*text_events("Hi"), empty_done, empty_terminal([]))[0].text_seen


# Invariants

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = ["output_index", "item_id", "content_index", "summary_index", "delta", "text", "arguments", "error"]
TYPES = [
    "response.created",
    "response.output_item.added",
    "response.output_item.done",
    "response.content_part.added",
    "response.content_part.done",
    "response.output_text.delta",
    "response.output_text.done",
    "response.reasoning_text.delta",
    "response.function_call_arguments.delta",
    "response.completed",
    "error",
]
ITEMS = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "reasoning", "output_text"]) | JSON_VALUES},
    optional={"id": st.sampled_from(["a", "b"]) | JSON_VALUES, "content": JSON_VALUES, "text": JSON_VALUES},
)
WIRE_EVENTS = st.builds(
    lambda kind, fields, nested: Event("", json.dumps({"type": kind} | fields | nested).encode()),
    st.sampled_from(TYPES),
    st.dictionaries(st.sampled_from(FIELDS), st.integers(0, 2) | st.text(max_size=3) | JSON_VALUES, max_size=4),
    st.dictionaries(st.sampled_from(["item", "part", "response"]), ITEMS | JSON_VALUES, max_size=3),
)


@given(st.lists(WIRE_EVENTS | st.builds(Event, st.sampled_from(TYPES), st.binary(max_size=8)), max_size=8))
@settings(max_examples=100, deadline=None)
def test_no_event_raises_and_rebuilt_json_is_json(events: list[Event]) -> None:
    """Whatever the fields hold, the result is there; what came as JSON is JSON when it is rebuilt."""
    assembler, result = assemble(*events)
    assert assembler.finished == (result.terminal is not None or result.error is not None)
    for rendered in (result.response, result.error):
        if rendered is not None:
            assert isinstance(json.loads(rendered), dict)


@given(st.lists(st.text(max_size=6), max_size=8), st.booleans())
@settings(max_examples=50)
def test_text_survives_the_rebuild(deltas: list[str], closed: bool) -> None:
    """The rebuilt text is the sum of the deltas, whatever characters stand at their edges."""
    text = "".join(deltas)
    closing = closing_events(text) if closed else []
    _, result = assemble(*text_events(*deltas), *closing, empty_terminal([]))
    assert output_of(result) == [message(text_part(text))]


@given(JSON_VALUES, st.dictionaries(st.text(max_size=5), JSON_VALUES, max_size=4))
@settings(max_examples=100)
def test_a_response_survives_unread(value: Any, response: Json) -> None:
    """Any JSON object, NaN and surrogate escapes included, leaves as it came (`output` is not empty here).

    A value with a type is an output item, and streamed text that it lacks is put back beside it: see below.
    """
    assume(not (isinstance(value, dict) and isinstance(value.get("type"), str)))
    raw = json.dumps(response | {"output": [value]}, indent=1).encode()
    _, result = assemble(*text_events("Hi"), Event("", b'{"response":%s,"type":"response.done"}' % raw))
    assert result == StreamResult("response.done", raw)


def test_two_thousand_deltas_take_milliseconds() -> None:
    """Decoding and assembling is linear and small beside the network: the bound is ten times the usual."""
    events = [*OPENED, *text_events(*[" word"] * 2000), *closing_events(" word" * 2000), empty_terminal([])]
    wire = b"".join(b"event: %s\ndata: %s\n\n" % (each.name.encode(), each.data) for each in events)
    started = time.perf_counter()
    decoder, assembler = EventDecoder(), ResponseAssembler()
    for start in range(0, len(wire), 4096):
        for each in decoder.feed(wire[start : start + 4096]):
            assembler.add(each)
    result = assembler.result()
    assert time.perf_counter() - started < 0.15
    assert output_of(result) == [message(text_part(" word" * 2000))]


# Text that a later event says less of


def closing_less(item: Json) -> Event:
    return event("response.output_item.done", output_index=0, item=item)


NOTHING_LEFT: list[Json] = [
    message(),
    message(text_part("")),
    message(text_part("Hel")),
    {**message(), "content": None},
]


@EMPTY_OUTPUTS
@pytest.mark.parametrize("item", NOTHING_LEFT)
def test_an_item_that_is_closed_with_less_keeps_its_text(item: Json, empty: Any) -> None:
    _, result = assemble(*OPENED, *text_events("Hel", "lo"), closing_less(item), empty_terminal(empty))
    assert output_of(result) == [message(text_part("Hello"))]


@pytest.mark.parametrize("item", NOTHING_LEFT)
@pytest.mark.parametrize("is_closed", [False, True])
def test_a_final_response_that_says_less_keeps_the_text(item: Json, is_closed: bool) -> None:
    closing = closing_events("Hello") if is_closed else []
    _, result = assemble(*OPENED, *text_events("Hel", "lo"), *closing, terminal(output=[item]))
    assert output_of(result) == [message(text_part("Hello"))]
    assert json.loads(result.response or b"")["usage"] == USAGE


def test_a_final_response_without_the_message_gets_it() -> None:
    reasoning = {"type": "reasoning", "id": "rs_1", "summary": []}
    call = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": "{}"}
    for output in ([reasoning], [reasoning, call]):
        _, result = assemble(*OPENED, *text_events("Hel", "lo"), *closing_events("Hello"), terminal(output=output))
        assert output_of(result) == [*output, message(text_part("Hello"))]


@pytest.mark.parametrize(
    "item",
    [
        message(text_part("Hello")),
        {**message(text_part("Hello")), "id": "another"},
        {**message(text_part("Hello, world")), "id": "another"},
        message(text_part("Goodbye")),
        message(text_part("Hel"), text_part("lo")),
    ],
)
def test_a_final_response_that_says_as_much_or_something_else_wins(item: Json) -> None:
    response = json.dumps({"id": "resp_1", "status": "completed", "output": [item]}).encode()
    done = Event("response.completed", b'{"type":"response.completed","response":%s}' % response)
    _, result = assemble(*OPENED, *text_events("Hel", "lo"), *closing_events("Hello"), done)
    assert result.response == response


def test_one_of_two_messages_that_is_lost_comes_back_in_its_place() -> None:
    first, second = {**message(text_part("one")), "id": "msg_1"}, {**message(text_part("two")), "id": "msg_2"}
    events = [
        event("response.output_item.done", output_index=index, item=item) for index, item in enumerate([first, second])
    ]
    for left in ([first], [second], [{**second, "id": "x"}], [{**first, "content": []}, second]):
        output = output_of(assemble(*events, terminal(output=left))[1])
        assert [item["content"][0]["text"] for item in output] == ["one", "two"]


@pytest.mark.parametrize("closed", ["", "Hel"])
def test_a_text_that_is_done_with_less_keeps_its_deltas(closed: str) -> None:
    _, result = assemble(*text_events("Hel", "lo"), *closing_events(closed)[:2], empty_terminal([]))
    assert output_of(result) == [message(text_part("Hello"))]


def test_the_arguments_of_a_call_are_kept_as_texts_are() -> None:
    call = {"type": "function_call", "id": "fc_1", "name": "f", "arguments": ""}
    events = [
        event("response.output_item.added", output_index=0, item=call),
        event("response.function_call_arguments.delta", output_index=0, item_id="fc_1", delta='{"a":1}'),
        event("response.output_item.done", output_index=0, item=call),
    ]
    for end in (terminal(output=[call]), terminal(output=[])):
        assert output_of(assemble(*events, end)[1]) == [call | {"arguments": '{"a":1}'}]
