"""The SSE decoder: the standard's rules, our additions, every way to cut the bytes."""

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.transport.sse import Event, EventDecoder

TRANSCRIPT = (
    b"\xef\xbb\xbf: PING\n\n"
    b'event: response.created\ndata: {"type":"response.created"}\n\n'
    b'event:response.output_text.delta\ndata:{"delta":"na\xc3\xafve \xf0\x9f\x98\x80"}\nid: 7\nretry: 10\n\n'
    b": PING\n"
    b"data: first\ndata:  second\n\n"
    b'{"error":{"message":"upstream"}}\n'
    b"data: [DONE]\n\n"
)
TRANSCRIPT_EVENTS = [
    Event("response.created", b'{"type":"response.created"}'),
    Event("response.output_text.delta", '{"delta":"naïve 😀"}'.encode()),
    Event("", b"first\n second"),
    Event("", b'{"error":{"message":"upstream"}}'),
    Event("", b"[DONE]"),
]

RULES = {
    "empty stream": (b"", []),
    "named event": (b"event: a\ndata: 1\n\n", [Event("a", b"1")]),
    "only one space after the colon goes": (b"data:  1\n\n", [Event("", b" 1")]),
    "no space after the colon": (b"event:a\ndata:1\n\n", [Event("a", b"1")]),
    "a colon in the value stays": (b"data: a: b\n\n", [Event("", b"a: b")]),
    "data lines are joined": (b"data: 1\ndata\ndata: 2\n\n", [Event("", b"1\n\n2")]),
    "order of fields is free": (b"data: 1\nevent: a\n\n", [Event("a", b"1")]),
    "the last event field wins": (b"event: a\nevent: b\ndata: 1\n\n", [Event("b", b"1")]),
    "an event field without value": (b"event: a\nevent\ndata: 1\n\n", [Event("", b"1")]),
    "no data, no event": (b"event: a\n\ndata: 1\n\n", [Event("", b"1")]),
    "empty data, no event": (b"event: a\ndata:\n\ndata: \n\ndata\n\n", []),
    "id and retry are ignored": (b"id: 1\nretry: 5\n\nid: 2\ndata: 1\n\n", [Event("", b"1")]),
    "unknown fields are ignored": (b"Data: 1\n data: 2\ndatax: 3\neventx: b\ndata: 4\n\n", [Event("", b"4")]),
    "a byte order mark at the start": (b"\xef\xbb\xbfdata: 1\n\n", [Event("", b"1")]),
    "a byte order mark later is no data field": (b"data: 1\n\n\xef\xbb\xbfdata: 2\n\n", [Event("", b"1")]),
    "only one byte order mark goes": (b"\xef\xbb\xbf\xef\xbb\xbfdata: 1\n\n", []),
    "U+2028, NEL and VT end no line": (
        "data: a\u2028b\x85c\x0bd\x0c\x1c\n\n".encode(),
        [Event("", "a\u2028b\x85c\x0bd\x0c\x1c".encode())],
    ),
    "bytes that are no UTF-8 pass": (b"event: \xff\ndata: \xff\n\n", [Event("\ufffd", b"\xff")]),
    "end without a blank line": (b"event: a\ndata: 1\n", [Event("a", b"1")]),
    "end without a newline": (b"event: a\ndata: 1", [Event("a", b"1")]),
    "end after the event name": (b"event: a", []),
    "a bare JSON line is an event": (b'{"error":1}\n', [Event("", b'{"error":1}')]),
    "a bare JSON line without an end": (b': ping\n\n{"error":1}', [Event("", b'{"error":1}')]),
    "a bare JSON line after a byte order mark": (b"\xef\xbb\xbf{}\n", [Event("", b"{}")]),
    "a bare JSON line closes an open event": (
        b"event: a\ndata: 1\n{}\ndata: 2\n\n",
        [Event("a", b"1"), Event("", b"{}"), Event("", b"2")],
    ),
    "an indented brace is no bare JSON line": (b" {}\n\n", []),
}


def decode(*chunks: bytes) -> list[Event]:
    """Feed the chunks and the end of the stream."""
    decoder = EventDecoder()
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    return events + decoder.flush()


def single_bytes(data: bytes) -> list[bytes]:
    return [data[i : i + 1] for i in range(len(data))]


@pytest.mark.parametrize(("stream", "events"), RULES.values(), ids=RULES.keys())
def test_rule(stream: bytes, events: list[Event]) -> None:
    """Each rule holds for the stream as a whole and byte by byte, with LF, CRLF and CR."""
    for line_end in (b"\n", b"\r\n", b"\r"):
        variant = stream.replace(b"\n", line_end)
        assert decode(variant) == events
        assert decode(*single_bytes(variant)) == events


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
def test_every_cut_in_two_gives_the_same_events(line_end: bytes) -> None:
    """A cut may fall within a field, a UTF-8 sequence, the byte order mark or a CRLF."""
    stream = TRANSCRIPT.replace(b"\n", line_end)
    assert decode(stream) == TRANSCRIPT_EVENTS
    for cut in range(len(stream) + 1):
        assert decode(stream[:cut], stream[cut:]) == TRANSCRIPT_EVENTS, cut
        assert decode(stream[:cut], b"", stream[cut:]) == TRANSCRIPT_EVENTS, cut


@given(
    pieces=st.lists(
        st.sampled_from(
            [
                b"\n",
                b"\r",
                b"\r\n",
                b"data",
                b"event",
                b":",
                b" ",
                b"{",
                b"x",
                b"data: 1\n\n",
                b"\xef\xbb\xbf",
            ]
        )
    ),
    cuts=st.lists(st.integers(0, 60)),
)
def test_cuts_never_matter(pieces: list[bytes], cuts: list[int]) -> None:
    """Whatever the bytes and wherever they are cut, the events and comments are those of the whole."""
    stream = b"".join(pieces)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in itertools.pairwise(edges)]
    assert decode(*chunks) == decode(stream) == decode(*single_bytes(stream))


@given(st.binary(max_size=200))
@settings(max_examples=50)
def test_line_ends_are_equal(body: bytes) -> None:
    """Data without line ends of its own reads the same under LF, CRLF and CR."""
    body = body.replace(b"\r", b"").replace(b"\n", b"")
    streams = [b"data: " + body + end + b"event: a" + end + end for end in (b"\n", b"\r\n", b"\r")]
    assert [decode(stream) for stream in streams] == [[Event("a", body)] if body else []] * 3


def test_an_event_is_delivered_at_once() -> None:
    """No byte of the next event is needed, not even the LF of a CRLF."""
    decoder = EventDecoder()
    assert decoder.feed(b"data: 1\r\n\r") == [Event("", b"1")]
    assert decoder.feed(b"\n") == []
    assert decoder.feed(b'{"error":1}\n') == [Event("", b'{"error":1}')]
    assert decoder.feed(b"data: 2\n\nda") == [Event("", b"2")]
    assert decoder.flush() == []


def test_comments_are_no_events() -> None:
    """Pings show that the relay lives, and must not look like progress."""
    decoder = EventDecoder()
    assert decoder.feed(b": PING\n\n:\n\n: PI") == []
    assert decoder.feed(b"NG\n\n") == []


@pytest.mark.parametrize("chunk_bytes", [1024, 1 << 30], ids=["in pieces", "whole"])
def test_a_line_of_many_megabytes_is_linear_work(chunk_bytes: int) -> None:
    """A terminal event that echoes a huge request arrives untouched; quadratic work would take minutes."""
    data = b'{"x":"' + b"y" * (16 << 20) + b'"}'
    stream = b"event: big\ndata: " + data + b"\n\n"
    started = time.perf_counter()
    events = decode(*(stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)))
    assert time.perf_counter() - started < 5.0
    assert events == [Event("big", data)]
