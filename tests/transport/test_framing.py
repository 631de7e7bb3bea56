"""A whole JSON is an answer whatever its framing says; half of one is none. On real sockets."""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from collections.abc import Awaitable, Callable

import pytest

from batchrun.records.outcome import Failure
from batchrun.records.request import RequestLine, parse_request
from batchrun.transport.reading import QUIET_S
from batchrun.transport.unpacking import PIECE_BYTES, Unpacked
from tests.hostile import BODY, Answer, Asked, chunked, http, sse, whole_stream
from tests.transport.test_http import BOTH, STREAM, answered, failed, met

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
DONE = b"\n\ndata: [DONE]\n\n"
CHAT_LINE = parse_request(
    b'{"custom_id":"a","url":"/v1/chat/completions","body":{"model":"gpt-4.1","messages":[{"role":"user"}]}}', 1
)


Say = Callable[[asyncio.StreamWriter, Asked], Awaitable[None]]


def hangs(raw: bytes) -> Say:
    """An answer after which the connection stays open."""

    async def say(writer: asyncio.StreamWriter, _: Asked) -> None:
        writer.write(raw)
        await asyncio.sleep(30)

    return say


def then(first: bytes, rest: bytes) -> Say:
    """Two parts of an answer, the second once the first has been read."""

    async def say(writer: asyncio.StreamWriter, _: Asked) -> None:
        writer.write(first)
        await writer.drain()
        await asyncio.sleep(0.1)
        writer.write(rest)

    return say


WHOLE: dict[str, Answer] = {
    "chunked, no last chunk": chunked(BODY, end=b""),
    "chunked in two, no last chunk": chunked(BODY[:99], BODY[99:], end=b""),
    "cut inside a chunk": chunked(BODY[:99], end=b"fff\r\n" + BODY[99:]),
    "chunk size is nonsense": then(chunked(BODY, end=b""), b"zz\r\n"),
    "a length that is too long": HEAD + b"Content-Length: %d\r\n\r\n" % (len(BODY) + 9) + BODY,
    "gzip on plain text": http(Content_Encoding="gzip"),
    "gzip on plain text, chunked": chunked(BODY[:9], BODY[9:], Content_Encoding="gzip"),
    "deflate on plain text": http(Content_Encoding="deflate"),
    "br on plain text": http(Content_Encoding="br"),
    "gzip without its last bytes": http(gzip.compress(BODY)[:-8], Content_Encoding="gzip"),
    "gzip, no last chunk": chunked(gzip.compress(BODY), end=b"", Content_Encoding="gzip"),
    "deflate without its last bytes": http(zlib.compress(BODY)[:-4], Content_Encoding="deflate"),
    "gzip and then something else": http(gzip.compress(BODY) + b"\0\0", Content_Encoding="gzip"),
    "gzip in two parts": http(gzip.compress(BODY[:99]) + gzip.compress(BODY[99:]), Content_Encoding="gzip"),
    "deflate under the name of gzip": http(gzip.compress(BODY), Content_Encoding="deflate"),
    "[DONE] behind it": http(BODY + DONE),
    "[DONE] behind it, as events": http(BODY + DONE, content_type="text/event-stream"),
    "no last chunk, as events": chunked(BODY, end=b"", content_type="text/event-stream"),
    "status 201": http(status=201),
}


@BOTH
@pytest.mark.parametrize("case", WHOLE)
async def test_a_whole_answer_is_one_whatever_its_framing(case: str, line: RequestLine) -> None:
    reply = await answered(WHOLE[case], line)
    assert reply.outcome == "succeeded"
    assert reply.body == BODY.replace(b"\n", b" ")


@BOTH
@pytest.mark.parametrize("label", ["application/json", "text/event-stream"])
async def test_a_whole_answer_is_taken_after_a_second_of_silence(label: str, line: RequestLine) -> None:
    raw = BODY + (DONE if label != "application/json" else b"")
    head = b"HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n" % (label.encode(), len(raw) + 9)
    reply = await answered(hangs(head + raw), line)
    assert reply.outcome == "succeeded"
    assert QUIET_S <= reply.timing.total_s < QUIET_S + 5


async def test_a_silence_inside_an_answer_ends_nothing() -> None:
    """What has come may end with a bracket, and even be JSON of another kind."""

    async def say(writer: asyncio.StreamWriter, _: Asked) -> None:
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY[: BODY.rindex(b"}")])
        await asyncio.sleep(1.5 * QUIET_S)
        writer.write(BODY[BODY.rindex(b"}") :])

    assert (await answered(say)).outcome == "succeeded"


@pytest.mark.parametrize("end", [b"", b"0\r\n\r\n"])
async def test_a_stream_is_over_with_its_last_event(end: bytes) -> None:
    """Whatever becomes of the connection, even if both come at once."""
    reply = await answered(sse(*whole_stream("hi"), end=end), STREAM)
    assert reply.outcome == "succeeded"


async def test_an_error_that_is_cut_off_behind_its_json_keeps_its_code() -> None:
    error = b'{"error":{"code":"rate_limit_exceeded","message":"slow"}}'
    failure = await failed(chunked(error, end=b"").replace(b"200 OK", b"429 No"))
    assert (failure.code, failure.status) == ("rate_limit_exceeded", 429)


def chat_chunk(content: str, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": content}, "finish_reason": reason}
    return b"data: %s\n\n" % json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode()


@pytest.mark.parametrize("label", ["text/event-stream", "application/json"])
async def test_a_chat_stream_that_nobody_asked_for_is_put_together(label: str) -> None:
    raw = chat_chunk("pos") + chat_chunk("itive", "stop") + b"data: [DONE]\n\n"
    reply = await answered(http(raw, content_type=label), CHAT_LINE)
    assert reply.outcome == "succeeded"
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == "positive"
    cut = await met(http(raw[:-40], content_type=label), CHAT_LINE)
    assert isinstance(cut, Failure)
    assert cut.code == "stream_truncated"


class Pieces:
    """A body in pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = list(pieces)

    def at_eof(self) -> bool:
        return not self._pieces

    async def readany(self) -> bytes:
        return self._pieces.pop(0) if self._pieces else b""


@pytest.mark.parametrize("size", [0, 1, 1000, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_body_is_unpacked_whole_a_piece_at_a_time(size: int, encoding: str) -> None:
    body = b"{" + b"ab" * (size // 2) + b"c" * (size % 2)
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    for cut in (1, len(packed) // 2, len(packed)):
        content = Unpacked(Pieces(packed[:cut], b"", packed[cut:]), encoding)
        pieces = []
        while not content.at_eof():
            pieces.append(await content.readany())
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) <= PIECE_BYTES
