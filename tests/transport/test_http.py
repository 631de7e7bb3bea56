"""What one attempt makes of whatever comes back, on real sockets, byte by byte."""

from __future__ import annotations

import asyncio
import gzip
import json
import shutil
import ssl
import subprocess
import sys
import zlib
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import aiohttp
import looptime
import pytest
from msgspec.structs import replace as changed

from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import RequestLine, parse_request
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.failures import Kind, classify
from batchrun.transport.http import HttpTransport
from batchrun.version import __version__
from tests import hostile
from tests.asking import in_virtual_time
from tests.hostile import BODY, KEY, RESPONSE, TEXT, Answer, Hostile, chunked, event, http, sse, whole_stream

CAP = 1 << 20
PLAIN = parse_request(b'{"model":"gpt-4.1","input":"hi"}', 1)
STREAM = parse_request(b'{"model":"gpt-4.1","input":"hi","stream":true}', 1)
BOTH = pytest.mark.parametrize("line", [PLAIN, STREAM], ids=["plain", "stream"])


async def ask(
    server: Hostile | str,
    line: RequestLine = PLAIN,
    *,
    key: str = KEY,
    timeouts: Timeouts = Timeouts(30, 5, 10),
    cap: int = CAP,
    proxy: str | None = None,
) -> Reply | Failure:
    """One attempt."""
    url = server if isinstance(server, str) else server.base_url
    async with HttpTransport(Endpoint(url, key, proxy), timeouts, cap) as transport:
        return await transport.send(line)


async def met(answer: Answer, line: RequestLine = PLAIN, **options: Any) -> Reply | Failure:
    """What one attempt makes of this answer."""
    async with Hostile(answer) as server:
        outcome = await ask(server, line, **options)
        assert len(server.asked) == 1
        return outcome


async def answered(answer: Answer, line: RequestLine = PLAIN, **options: Any) -> Reply:
    outcome = await met(answer, line, **options)
    assert isinstance(outcome, Reply), outcome
    return outcome


async def failed(answer: Answer, line: RequestLine = PLAIN, **options: Any) -> Failure:
    outcome = await met(answer, line, **options)
    assert isinstance(outcome, Failure), outcome
    return outcome


def kind(failure: Failure) -> Kind:
    return classify(failure).kind


# -------------------------------------------------------------------------------------- what is sent


@BOTH
@pytest.mark.smoke
async def test_the_body_goes_out_as_it_stands_with_the_key_in_one_header(line: RequestLine) -> None:
    async with Hostile(http()) as server:
        await ask(server, line)
        asked = server.asked[0]
    assert asked.body == line.body
    assert asked.header("Authorization") == f"Bearer {KEY}"
    assert asked.header("Content-Type") == "application/json"
    assert asked.header("Accept-Encoding") == "gzip, deflate", "brotli and zstd are not to be asked for"
    assert asked.header("Accept") == ("text/event-stream" if line.stream else "application/json")
    assert (asked.head + asked.body.decode()).count(KEY) == 1
    assert asked.header("Cookie") is None


@pytest.mark.smoke
async def test_these_headers_go_out_and_no_others_the_host_first() -> None:
    """Of a small body and of a large one, which aiohttp takes as a file."""
    async with Hostile(http()) as server:
        for line in (PLAIN, changed(PLAIN, body=b'{"large":"%s"}' % (b"x" * (2 << 20)))):
            await ask(server, line)
            asked = server.asked[-1]
            assert asked.body == line.body
            assert asked.head.rstrip().split("\r\n") == [
                "POST /v1/responses HTTP/1.1",
                f"Host: 127.0.0.1:{server.port}",
                "Content-Type: application/json",
                "Accept: application/json",
                "Accept-Encoding: gzip, deflate",
                f"User-Agent: batchrun/{__version__}",
                f"Authorization: Bearer {KEY}",
                f"Content-Length: {len(line.body)}",
            ]


async def test_the_key_is_in_no_header_of_the_session_and_aiohttp_sends_requests_its_own_way() -> None:
    """A later aiohttp cannot lose the key, or tell it to a proxy: nothing of its own is replaced."""
    async with HttpTransport(Endpoint("http://127.0.0.1:1", KEY), Timeouts(), CAP) as transport:
        session = transport._session
        assert "Authorization" not in session.headers
        assert KEY not in str(dict(session.headers))
        assert session._request_class is aiohttp.ClientRequest
        assert type(session.cookie_jar) is aiohttp.DummyCookieJar


async def test_without_a_key_no_header_says_that_there_is_one() -> None:
    async with Hostile(http()) as server:
        await ask(server, key="")
        assert server.asked[0].header("Authorization") is None


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/", "/v1/responses", "/v1//"])
async def test_the_base_url_may_end_as_it_likes(ending: str) -> None:
    async with Hostile(http()) as server:
        await ask(f"http://127.0.0.1:{server.port}{ending}")
        await ask(f"http://127.0.0.1:{server.port}/proxy{ending}")
        assert [asked.target for asked in server.asked] == ["/v1/responses", "/proxy/v1/responses"]


async def test_a_large_body_arrives_whole() -> None:
    line = parse_request(json.dumps({"model": "m", "input": "x" * (3 << 20)}).encode(), 1)
    async with Hostile(http()) as server:
        assert isinstance(await ask(server, line), Reply)
        assert server.asked[0].body == line.body


@pytest.mark.smoke
async def test_the_environment_names_no_proxy_but_the_option_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Hostile(http()) as server, Hostile(http()) as proxy:
        address = f"http://127.0.0.1:{proxy.port}"
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, address)
        await ask(server)
        assert (len(server.asked), len(proxy.asked)) == (1, 0)
        assert isinstance(await ask(server, proxy=address), Reply)
        assert (len(server.asked), len(proxy.asked)) == (1, 1)
        assert proxy.asked[0].target == f"http://127.0.0.1:{server.port}/v1/responses"


@pytest.mark.parametrize(("login", "told"), [("", None), ("u:p@", "Basic dTpw")])
async def test_a_proxy_is_not_told_the_key(login: str, told: str | None) -> None:
    """aiohttp sends a session's own `Authorization` to the proxy, under another name."""
    async with Hostile(http()) as server, Hostile(http(b"", 403)) as proxy:
        address = f"http://{login}127.0.0.1:{proxy.port}"
        await ask(server, proxy=address)
        await ask("https://gateway.example:8443/v1", proxy=address)
        in_the_clear, connect = proxy.asked
        assert connect.head.startswith("CONNECT gateway.example:8443 ")
        assert KEY not in connect.head
        assert in_the_clear.header("Authorization") == f"Bearer {KEY}"
        assert in_the_clear.head.count(KEY) == 1
        assert [asked.header("Proxy-Authorization") for asked in proxy.asked] == [told, told]


async def test_a_proxy_that_is_not_there_is_called_one() -> None:
    async with Hostile(http()) as server:
        outcome = await ask(server, proxy=f"http://user:{KEY}@127.0.0.1:{hostile.free_port()}")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.may_be_billed) == ("connect_failed", False)
    assert "proxy" in outcome.message
    assert KEY not in repr(outcome)


# ----------------------------------------------------------------------------- connections that fail


async def test_a_refused_connection_has_sent_nothing() -> None:
    outcome = await ask(f"http://127.0.0.1:{hostile.free_port()}")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.may_be_billed, kind(outcome)) == ("connect_failed", False, Kind.TRANSIENT)


async def test_a_host_without_address_is_named() -> None:
    outcome = await ask("http://no-such-host.invalid")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.may_be_billed) == ("dns_failed", False)
    assert "no-such-host.invalid" in outcome.message


async def test_a_connection_that_is_not_made_in_time_has_sent_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*_: object, **__: object) -> None:
        await asyncio.get_running_loop().create_future()

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", never)
    outcome = await ask("http://127.0.0.1:1", timeouts=Timeouts(30, 0.05, 10))
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.may_be_billed) == ("connect_timeout", False)
    assert "--connect-timeout" in outcome.message


HALF = BODY[: len(BODY) // 2]
PACKED = gzip.compress(BODY)
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CUTS: dict[str, Answer] = {
    "reset before the answer": hostile.reset,
    "hung up before the answer": b"",
    "reset inside the head": hostile.then_reset(HEAD[:20]),
    "cut inside the head": HEAD[:-2],
    "reset inside the body": hostile.then_reset(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + HALF),
    "content-length cut short": HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + HALF,
    "chunked cut between chunks": chunked(HALF, end=b""),
    "chunked cut inside a chunk": chunked(HALF, end=b"fff\r\n" + BODY[len(HALF) : -1]),
    "chunk size is nonsense": chunked(HALF, end=b"zz\r\n"),
    "gzip cut": http(PACKED[: len(PACKED) // 2], Content_Encoding="gzip"),
    "gzip cut, chunked": chunked(PACKED[: len(PACKED) // 2], Content_Encoding="gzip"),
    "gzip broken": http(PACKED[:20] + b"\xff" * 20 + PACKED[40:], Content_Encoding="gzip"),
    "deflate cut": http(zlib.compress(BODY)[:-40], Content_Encoding="deflate"),
    "an encoding nobody asked for": http(b"\x0b\x02\x80" + HALF, Content_Encoding="br"),
    "no length and cut": HEAD + b"\r\n" + HALF,
    "nothing but a greeting": b"220 mail.example ESMTP\r\n",
    "a bad status line": b"HTTP/1.1 banana\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 5\r\nContent-Length: 9\r\n\r\n" + BODY,
}


@BOTH
@pytest.mark.parametrize("fault", CUTS)
@pytest.mark.smoke
async def test_half_an_answer_is_never_one(fault: str, line: RequestLine) -> None:
    failure = await failed(CUTS[fault], line)
    assert kind(failure) is Kind.TRANSIENT
    assert failure.code in ("connection_lost", "invalid_json", "bad_http"), failure
    assert failure.may_be_billed
    assert KEY not in repr(failure)


async def test_every_prefix_of_an_answer_fails() -> None:
    """Without a length nothing but the JSON tells where the answer should have ended."""
    async with Hostile(*(HEAD + b"\r\n" + BODY[:end] for end in range(0, len(BODY), 5))) as server:
        for _ in range(0, len(BODY), 5):
            assert isinstance(await ask(server), Failure)


async def test_a_stream_cut_anywhere_fails() -> None:
    whole = b"".join(whole_stream("hi"))
    final = whole.rindex(b"\n\n")
    cuts = [*range(0, final - 2, 37), final - 2]
    async with Hostile(*(sse(whole[:end], end=b"0\r\n\r\n") for end in cuts)) as server:
        for _ in cuts:
            outcome = await ask(server, STREAM)
            assert isinstance(outcome, Failure)
            assert kind(outcome) is Kind.TRANSIENT


async def test_a_stream_that_breaks_off_keeps_what_it_said() -> None:
    failure = await failed(sse(*whole_stream("half of it")[:-1]), STREAM)
    assert (failure.code, failure.body) == ("stream_truncated", b'"half of it"')
    failure = await failed(sse(*whole_stream()[:-1], b"data: [DONE]\n\n"), STREAM)
    assert failure.code == "stream_truncated"


# ---------------------------------------------------------------------------------------- deadlines


def under_looptime(answer: Answer, line: RequestLine, timeouts: Timeouts, code: str, after_s: float) -> None:
    """The attempt fails with `code` at `after_s` of virtual time."""

    async def test() -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        async with Hostile(answer) as server:
            outcome = await ask(server, line, timeouts=timeouts)
        assert isinstance(outcome, Failure)
        assert outcome.code == code
        assert (kind(outcome), outcome.may_be_billed) == (Kind.TRANSIENT, True)
        assert after_s <= loop.time() - started <= after_s + 2  # aiohttp rounds waits up to whole seconds
        assert after_s <= outcome.timing.total_s <= after_s + 2

    in_virtual_time(test)


TIMES = Timeouts(attempt_s=600, connect_s=10, idle_s=120)


@BOTH
def test_no_answer_ends_with_the_attempt_timeout(line: RequestLine) -> None:
    under_looptime(hostile.silence, line, TIMES, "attempt_timeout", 600)


def test_a_byte_a_second_ends_with_the_attempt_timeout() -> None:
    drip = hostile.slowly(HEAD + b"Content-Length: 9999\r\n\r\n{", b" ", 1.0)
    under_looptime(drip, PLAIN, TIMES, "attempt_timeout", 600)


def test_a_dripping_head_ends_with_the_attempt_timeout() -> None:
    under_looptime(hostile.slowly(HEAD + b"X-Long: ", b"x", 1.0), PLAIN, TIMES, "attempt_timeout", 600)


START = HEAD.replace(b"application/json", b"text/event-stream") + b"\r\n"


@pytest.mark.parametrize("ping", [b": PING\n\n", b":\n\n", b"\n", b"event: ping\ndata:\n\n", b"retry: 3\n\n"])
@pytest.mark.smoke
def test_a_stream_that_only_pings_ends_with_the_idle_timeout(ping: bytes) -> None:
    under_looptime(hostile.slowly(START, ping, 10), STREAM, TIMES, "idle_timeout", 120)


def test_the_idle_time_counts_from_the_last_event() -> None:
    async def say(writer: asyncio.StreamWriter, asked: hostile.Asked) -> None:
        writer.write(START)
        for part in whole_stream("four")[:5]:
            writer.write(part)
            await asyncio.sleep(100)
        await hostile.slowly(b"", b": PING\n\n", 10)(writer, asked)

    under_looptime(say, STREAM, TIMES, "idle_timeout", 4 * 100 + 120)


def test_a_stream_whose_events_never_end_ends_with_the_attempt_timeout() -> None:
    delta = event("response.output_text.delta", item_id="m", output_index=0, delta="x")
    under_looptime(hostile.slowly(START, delta, 50), STREAM, TIMES, "attempt_timeout", 600)


def test_a_stream_that_stops_inside_an_event_ends_with_the_idle_timeout() -> None:
    under_looptime(hostile.then_silence(START + whole_stream()[0][:50]), STREAM, TIMES, "idle_timeout", 120)


def test_the_times_to_the_first_event_and_text_are_kept() -> None:
    async def say(writer: asyncio.StreamWriter, _: hostile.Asked) -> None:
        created, *rest = whole_stream("abc")
        writer.write(START + b": PING\n\n")
        await asyncio.sleep(3)
        writer.write(created)
        await asyncio.sleep(4)
        for part in rest:
            writer.write(part)
            await asyncio.sleep(1)

    async def test() -> None:
        timing = (await answered(say, STREAM)).timing
        assert timing.first_event_s == pytest.approx(3, abs=0.5)
        assert timing.first_text_s == pytest.approx(7, abs=0.5)
        assert timing.total_s == pytest.approx(10, abs=0.5)
        plain = (await answered(http())).timing
        assert plain.first_event_s is plain.first_text_s is None

    with asyncio.Runner(loop_factory=looptime.new_event_loop) as runner:
        runner.run(test())


# ------------------------------------------------------------------------- a 200 that is no answer

PAGE = b"<!DOCTYPE html><html><head><title>One API</title></head><body></body></html>"
NO_ANSWERS: dict[str, tuple[bytes, str]] = {
    "html": (PAGE, "html_instead_of_json"),
    "empty": (b"", "empty_body"),
    "blank": (b" \r\n ", "empty_body"),
    "array": (b"[]", "not_a_response"),
    "null": (b"null", "not_a_response"),
    "number": (b"200", "not_a_response"),
    "an object without output": (b'{"ok":true}', "not_a_response"),
    "output is no list": (b'{"output":"x"}', "not_a_response"),
    "nan": (BODY.replace(b'"input_tokens": 7', b'"input_tokens": NaN'), "invalid_json"),
    "infinity": (BODY.replace(b'"input_tokens": 7', b'"input_tokens": -Infinity'), "invalid_json"),
    "latin-1": (BODY.replace("ü".encode(), b"\xfc"), "invalid_json"),
    "utf-16": (BODY.decode().encode("utf-16"), "invalid_json"),
    "two answers": (BODY + BODY, "invalid_json"),
    "a top-level error": (b'{"error":{"message":"try later","code":"server_error"}}', "server_error"),
    "an error as a string": (b'{"error":"overloaded"}', "error_in_200"),
    "failed": (
        json.dumps({**RESPONSE, "status": "failed", "error": {"code": "server_error"}}).encode(),
        "server_error",
    ),
    "failed, no reason": (json.dumps({**RESPONSE, "status": "failed"}).encode(), "response_failed"),
    "queued": (json.dumps({**RESPONSE, "status": "queued", "output": []}).encode(), "response_queued"),
    "in progress": (json.dumps({**RESPONSE, "status": "in_progress"}).encode(), "response_in_progress"),
    "a status of no kind": (json.dumps({**RESPONSE, "status": 7}).encode(), "response_of no known kind"),
}


@BOTH
@pytest.mark.parametrize("label", ["application/json", "text/event-stream", "text/plain"])
@pytest.mark.parametrize("case", NO_ANSWERS)
async def test_a_200_without_an_answer_is_no_success(case: str, label: str, line: RequestLine) -> None:
    body, code = NO_ANSWERS[case]
    failure = await failed(http(body, content_type=label), line)
    # Under a stream's name what is no JSON object and no page reads as a stream that says nothing.
    is_stream = label == "text/event-stream" and not body.strip().startswith((b"{", b"[", b"<"))
    assert failure.code == ("stream_truncated" if is_stream else code)
    assert failure.status == 200


async def test_a_page_says_its_title() -> None:
    assert "One API" in (await failed(http(PAGE, content_type="text/html"))).message


@BOTH
@pytest.mark.parametrize("error", ["flat", "nested", "bare after a ping", "failed", "http"])
async def test_errors_in_streams_speak_by_their_code(error: str, line: RequestLine) -> None:
    fields = {"code": "insufficient_quota", "message": "You exceeded your current quota", "type": "insufficient_quota"}
    said = {
        "flat": event("error", **{**fields, "type": "error"}, param=None, sequence_number=2),
        "nested": event("error", error=fields, sequence_number=2),
        "bare after a ping": b": PING\n\n" + json.dumps({"error": fields}).encode() + b"\n",
        "failed": event("response.failed", response={**RESPONSE, "status": "failed", "error": fields}),
        "http": b"",
    }[error]
    raw = sse(said)
    if error == "http":
        raw = http(json.dumps({"error": fields}).encode(), 429, "text/event-stream")
    failure = await failed(raw, line)
    assert (failure.code, kind(failure)) == ("insufficient_quota", Kind.STOP)
    assert "exceeded your current quota" in failure.message


@BOTH
async def test_sse_and_json_may_be_swapped(line: RequestLine) -> None:
    for raw in (http(), sse(*whole_stream()), http(b"".join(whole_stream())), sse(BODY)):
        reply = await answered(raw, line)
        assert json.loads(reply.body)["output"] == RESPONSE["output"]
        assert reply.usage is not None
        assert reply.usage.total_tokens == 12


@pytest.mark.parametrize("status", ["incomplete", "completed"])
async def test_an_incomplete_answer_is_kept_under_its_reason(status: str) -> None:
    body = {**RESPONSE, "status": status, "incomplete_details": {"reason": "content_filter"}}
    plain = await met(http(json.dumps({**body, "status": "incomplete"}).encode()))
    streamed = await met(sse(event("response.incomplete", response=body)), STREAM)
    for reply in (plain, streamed):
        assert isinstance(reply, Reply)
        assert (reply.outcome, reply.error_code) == ("incomplete", "incomplete_content_filter")
        assert reply.usage is not None


# ---------------------------------------------------------------------------- unusual, but paid for


def deep(levels: int) -> bytes:
    return BODY[:-1] + b', "extra": ' + b"[" * levels + b"]" * levels + b"}"


UNUSUAL: dict[str, bytes] = {
    "pretty-printed": json.dumps(RESPONSE, indent=4).replace("\n", "\r\n").encode(),
    "U+2028": BODY.replace("世".encode(), "\u2028\u2029\x85".encode()),
    "NUL escapes": BODY.replace("世".encode(), b"\\u0000"),
    "huge integers": BODY.replace(b'"input_tokens": 7', b'"n": 18446744073709551617, "input_tokens": 7'),
    "exponents": BODY.replace(b'"object"', b'"n": 1e400, "object"'),
    "double keys": BODY.replace(b'"id": "resp_1"', b'"id": "resp_0", "id": "resp_1"'),
    "a BOM": b"\xef\xbb\xbf" + BODY,
    "a BOM and pretty-printed": b"\xef\xbb\xbf" + json.dumps(RESPONSE, indent=1).encode(),
    "8 MB of text": BODY.replace("世".encode(), "世".encode() * (8 << 18)),
    "depth 450": deep(450),
    "a lone surrogate": BODY.replace("世".encode(), b"\\ud800"),
    "depth 1,100": deep(1_100),
    "depth 100,000": deep(100_000),
}
NOT_FOR_ALL = {"exponents", "a lone surrogate", "depth 1,100", "depth 100,000"}


WIRES = ["plain", "gzip", "deflate", "raw deflate", "chunked"]
ON_WIRES = [(case, wire) for case in UNUSUAL for wire in (WIRES[:1] if "100,000" in case else WIRES)]


@pytest.mark.parametrize(("case", "wire"), ON_WIRES)
@pytest.mark.smoke
async def test_unusual_json_is_recorded_at_once_and_whole(case: str, wire: str) -> None:
    body = UNUSUAL[case]
    squeeze = zlib.compressobj(wbits=-15)
    raw = {
        "plain": lambda: http(body),
        "gzip": lambda: http(gzip.compress(body, 1), Content_Encoding="gzip"),
        "deflate": lambda: http(zlib.compress(body), Content_Encoding="deflate"),
        "raw deflate": lambda: http(squeeze.compress(body) + squeeze.flush(), Content_Encoding="deflate"),
        "chunked": lambda: chunked(body[:99], body[99:]),
    }[wire]()
    reply = await answered(raw, cap=64 << 20)
    assert b"\n" not in reply.body
    assert b"\r" not in reply.body
    if case in NOT_FOR_ALL:
        assert (reply.outcome, reply.error_code) == ("failed", "nonstandard_json")
        assert json.loads(reply.body) == body.decode(), "the text is kept as it came"
    else:
        assert (reply.outcome, reply.error_code) == ("succeeded", None)
        assert json.loads(reply.body) == json.loads(body.decode("utf-8-sig"))
    assert reply.usage is not None
    assert reply.usage.total_tokens == 12


@pytest.mark.parametrize("case", [case for case in UNUSUAL if "BOM" not in case])
async def test_unusual_json_in_a_stream_is_recorded_too(case: str) -> None:
    data = UNUSUAL[case].replace(b"\r\n", b"")
    final = b'event: response.completed\ndata: {"type":"response.completed","response":' + data + b"}\n\n"
    reply = await answered(sse(*whole_stream()[:-1], final), STREAM, cap=64 << 20)
    assert reply.error_code == ("nonstandard_json" if case in NOT_FOR_ALL else None)
    assert reply.usage is not None


# ----------------------------------------------------------------------------------------- streams


FRAMINGS: dict[str, Callable[[bytes], bytes]] = {
    "as it is": lambda raw: raw,
    "CRLF": lambda raw: raw.replace(b"\n", b"\r\n"),
    "CR": lambda raw: raw.replace(b"\n", b"\r"),
    "[DONE]": lambda raw: raw + b"data: [DONE]\n\n",
    "pings": lambda raw: raw.replace(b"event:", b": PING\n\nevent:"),
    "no space": lambda raw: raw.replace(b": ", b":"),
    "no last blank line": lambda raw: raw[:-2],
    "a BOM": lambda raw: b"\xef\xbb\xbf" + raw,
    "no event names": lambda raw: (
        b"\n\n".join(part[part.index(b"data:") :] for part in raw.split(b"\n\n") if part) + b"\n\n"
    ),
}


@pytest.mark.parametrize("framing", FRAMINGS)
@pytest.mark.parametrize("size", [1, 3, 1000, 10**9])
@pytest.mark.smoke
async def test_however_a_stream_is_framed_and_cut_its_answer_is_the_same(framing: str, size: int) -> None:
    raw = FRAMINGS[framing](b"".join(whole_stream()))
    pieces = [raw[start : start + size] for start in range(0, len(raw), size)]
    reply = await answered(sse(*pieces), STREAM)
    assert (reply.status, reply.outcome) == (200, "succeeded")
    assert json.loads(reply.body) == RESPONSE


async def test_split_utf8_arrives_whole_when_each_byte_comes_alone() -> None:
    async def say(writer: asyncio.StreamWriter, _: hostile.Asked) -> None:
        writer.write(START)
        for part in b"".join(whole_stream(output=[])):
            writer.write(bytes([part]))
            await asyncio.sleep(0)

    reply = await answered(say, STREAM)
    assert json.loads(reply.body)["output"][0]["content"][0]["text"] == TEXT


async def test_an_event_of_several_megabytes_is_one() -> None:
    instructions = "x" * (5 << 20)
    raw = sse(*whole_stream("hi", instructions=instructions))
    assert json.loads((await answered(raw, STREAM, cap=64 << 20)).body)["instructions"] == instructions


async def test_what_comes_after_the_terminal_event_does_not_matter() -> None:
    for rest in (b"data: garbage\n\n", event("error", message="late"), b"\xff\xfe"):
        assert (await answered(sse(*whole_stream(), rest), STREAM)).outcome == "succeeded"
    endless = hostile.slowly(START + b"".join(whole_stream()), b": PING\n\n", 0.01)
    assert (await answered(endless, STREAM)).outcome == "succeeded"


# ---------------------------------------------------------------------------------------- too much


@BOTH
@pytest.mark.parametrize("size", [CAP, CAP + 1])
@pytest.mark.parametrize("wire", ["length", "chunked", "no length", "gzip", "deflate", "stream"])
@pytest.mark.smoke
async def test_an_answer_is_kept_up_to_the_cap_and_not_a_byte_further(wire: str, size: int, line: RequestLine) -> None:
    head, tail = BODY[:-1] + b', "pad": "', b'"}'
    body = head + b"x" * (size - len(head) - len(tail)) + tail
    raw = {
        "length": http(body),
        "chunked": chunked(body),
        "no length": HEAD + b"\r\n" + body,
        "gzip": http(gzip.compress(body), Content_Encoding="gzip"),
        "deflate": http(zlib.compress(body), Content_Encoding="deflate"),
        "stream": sse(body),
    }[wire]
    outcome = await met(raw, line)
    if size > CAP:
        assert isinstance(outcome, Failure)
        assert (outcome.code, kind(outcome)) == ("response_too_large", Kind.FATAL)
        assert "--max-response-bytes" in outcome.message
    else:
        assert isinstance(outcome, Reply)
        assert outcome.outcome == "succeeded"


async def test_a_small_answer_that_comes_at_once_is_capped_too() -> None:
    assert (await failed(chunked(BODY), cap=len(BODY) - 1)).code == "response_too_large"
    assert (await answered(chunked(BODY), cap=len(BODY))).outcome == "succeeded"


async def test_an_endless_line_of_a_stream_is_capped() -> None:
    failure = await failed(hostile.slowly(START + b"data: ", b"x" * 100_000, 0), STREAM)
    assert failure.code == "response_too_large"


@pytest.mark.parametrize("header", [b"X-Big: " + b"x" * (1 << 20) + b"\r\n", b"X-Many: x\r\n" * 100_000])
async def test_a_megabyte_of_headers_is_refused(header: bytes) -> None:
    failure = await failed(HEAD + header + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
    assert (failure.code, failure.status, kind(failure)) == ("bad_http", None, Kind.TRANSIENT)


async def test_a_long_header_is_no_fault() -> None:
    assert (await answered(http(X_Long="x" * 30_000))).outcome == "succeeded"


async def test_large_answers_wait_for_each_other_and_all_arrive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchrun.transport.reading.HELD_BYTES", 100_000)
    body = BODY[:-1] + b', "pad": "' + b"x" * 300_000 + b'"}'
    raw = [http(body), chunked(body[:150_000], body[150_000:]), sse(*whole_stream(pad="x" * 300_000))]
    async with (
        Hostile(*raw * 4) as server,
        HttpTransport(Endpoint(server.base_url, KEY), Timeouts(10, 5, 5), CAP) as transport,
    ):
        outcomes = await asyncio.gather(*(transport.send(STREAM) for _ in range(12)))
        assert all(isinstance(outcome, Reply) for outcome in outcomes)
        assert (transport._memory.held, transport._memory.alone.locked()) == (0, False)


async def test_one_large_answer_that_stalls_stops_no_other_for_good(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchrun.transport.reading.HELD_BYTES", 100_000)
    body = BODY[:-1] + b', "pad": "' + b"x" * 300_000 + b'"}'
    stalled = hostile.then_silence(http(body)[:200_000])
    async with (
        Hostile(stalled, stalled, http(body)) as server,
        HttpTransport(Endpoint(server.base_url, KEY), Timeouts(0.3, 5, 5), CAP) as transport,
    ):
        outcomes = await asyncio.gather(*(transport.send(PLAIN) for _ in range(2)))
        assert [getattr(outcome, "code", None) for outcome in outcomes] == ["attempt_timeout"] * 2
        assert (transport._memory.held, transport._memory.alone.locked()) == (0, False)
        assert isinstance(await transport.send(PLAIN), Reply)


BOMBS = """
import asyncio, gzip, os, resource, sys, threading, zlib
sys.path.insert(0, {root!r})
from batchrun.transport.endpoint import Endpoint
from batchrun.records.request import parse_request
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.http import HttpTransport
from batchrun.version import __version__

kind = {kind!r}
line = parse_request(b'{{"model":"m","input":"x","stream":%s}}' % (b"true" if kind == "sse" else b"false"), 1)
HEAD = b"HTTP/1.1 200 OK\\r\\nContent-Type: %s\\r\\n" % (b"text/event-stream" if kind == "sse" else b"application/json")
MEGA = b" " * (1 << 20)

def bomb():
    if kind in ("gzip", "sse"):
        squeeze = zlib.compressobj(9, wbits=31)
    else:
        squeeze = zlib.compressobj(9)
    # After a full flush equal input gives equal bytes; the checksum at the end is never reached.
    first, more = (squeeze.compress(MEGA) + squeeze.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + more * 1100

def pieces():
    if kind in ("gzip", "deflate", "sse"):
        packed = bomb()
        assert len(packed) < 1_300_000
        yield HEAD + b"Content-Encoding: %s\\r\\n" % (b"deflate" if kind == "deflate" else b"gzip")
        yield b"Content-Length: %d\\r\\n\\r\\n" % len(packed) + packed
    elif kind == "length":
        yield HEAD + b"Content-Length: %d\\r\\n\\r\\n" % (100 << 20)
        yield from [MEGA] * 100
    elif kind == "close":
        yield HEAD + b"\\r\\n"
        yield from [MEGA] * 100

async def serve(reader, writer):
    try:
        await reader.readuntil(b"\\r\\n\\r\\n")
        await reader.read(100)
        for piece in SAID:
            writer.write(piece)
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()

SAID = list(pieces())

def peak_megabytes():
    # On Linux ru_maxrss starts out as the parent's, which a long test run makes large: VmHWM is this process's own.
    if os.path.exists("/proc/self/status"):
        with open("/proc/self/status") as status:
            return next(int(row.split()[1]) for row in status if row.startswith("VmHWM")) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // (1 << 20)

async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = "http://127.0.0.1:%d" % server.sockets[0].getsockname()[1]
    async with HttpTransport(Endpoint(url, "sk-x"), Timeouts(), 64 << 20) as transport:
        outcomes = await asyncio.gather(*(transport.send(line) for _ in range(4)))
    server.close()
    print(*(outcome.code for outcome in outcomes), peak_megabytes())

asyncio.run(main())
"""


@pytest.mark.parametrize("kind", ["gzip", "deflate", "sse", "length", "close"])
@pytest.mark.smoke
def test_bombs_do_not_fill_the_memory(kind: str) -> None:
    """Four at once, each 1 MB that unpacks to 1.1 GB, or 100 MB as they are, with the usual cap of 64 MiB."""
    code = BOMBS.format(root=str(Path(__file__).parents[2]), kind=kind)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    *codes, megabytes = done.stdout.split()
    assert codes == ["response_too_large"] * 4
    assert int(megabytes) < 300


# ---------------------------------------------------------------------------------------- redirects


@BOTH
@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.smoke
async def test_redirects_are_not_followed_and_nothing_goes_elsewhere(status: int, line: RequestLine) -> None:
    async with Hostile(http()) as elsewhere:
        places = (f"http://127.0.0.1:{elsewhere.port}/x", "/v1/other", f"//127.0.0.1:{elsewhere.port}/", "javascript:1")
        for place in places:
            async with Hostile(http(b"", status, Location=place), http()) as server:
                outcome = await ask(server, line)
                assert len(server.asked) == 1
            assert isinstance(outcome, Failure)
            assert (outcome.code, outcome.status, kind(outcome)) == ("redirected", status, Kind.FATAL)
            assert place in outcome.message
        assert elsewhere.connections == 0


@pytest.mark.smoke
async def test_a_cookie_is_not_sent_back() -> None:
    async with Hostile(http(Set_Cookie="session=1; Path=/")) as server:
        async with HttpTransport(Endpoint(server.base_url, KEY), Timeouts(), CAP) as transport:
            await transport.send(PLAIN)
            await transport.send(PLAIN)
        assert server.asked[1].header("Cookie") is None


# -------------------------------------------------------------------------------------------- 429s


NOON = 1_750_000_000
ASKED: dict[str, tuple[dict[str, str], float | None]] = {
    "none": ({}, None),
    "seconds": ({"Retry_After": "7"}, 7),
    "a fraction": ({"Retry_After": "0.25"}, 0.25),
    "zero": ({"Retry_After": "0"}, 0),
    "milliseconds": ({"retry_after_ms": "1500", "Retry_After": "9"}, 1.5),
    "a date, by the gateway's own clock": ({"Date": formatdate(NOON), "Retry_After": formatdate(NOON + 42)}, 42),
    "a date gone by": ({"Date": formatdate(NOON), "Retry_After": formatdate(NOON - 42)}, 0),
    "a date without a clock": ({"Retry_After": formatdate(NOON)}, 0),
    "a date and a broken clock": ({"Date": "noon", "Retry_After": formatdate(NOON)}, 0),
    "hours": ({"Retry_After": "36000"}, 36000),
    "absurd": ({"Retry_After": "1e300"}, 1e300),
    "infinite": ({"Retry_After": "inf"}, None),
    "negative": ({"Retry_After": "-5"}, None),
    "NaN": ({"Retry_After": "NaN"}, None),
    "words": ({"Retry_After": "soon"}, None),
    "empty": ({"Retry_After": ""}, None),
}
CODES = [("rate_limit_exceeded", Kind.THROTTLE), ("insufficient_quota", Kind.STOP), (None, Kind.THROTTLE)]


@pytest.mark.parametrize("case", ASKED)
@pytest.mark.parametrize(("code", "expected"), CODES)
async def test_a_429_is_judged_by_its_code_and_waits_as_asked(case: str, code: str | None, expected: Kind) -> None:
    headers, seconds = ASKED[case]
    body = json.dumps({"error": {"message": "no", "type": "requests", "code": code}}).encode()
    failure = await failed(http(body, 429, **headers))
    assert (kind(failure), failure.retry_after_s) == (expected, seconds)


async def test_a_429_may_ask_in_words() -> None:
    body = json.dumps({"error": {"message": "Rate limit. Please try again in 6.57s.", "code": "rate_limit_exceeded"}})
    assert (await failed(http(body.encode(), 429))).retry_after_s == 6.57


# --------------------------------------------------------------------------------------- the secret


ECHO = json.dumps({**RESPONSE, "instructions": f"Authorization: Bearer {KEY}"}).encode()
ECHOES: dict[str, Answer] = {
    "in an answer": http(ECHO),
    "in its id": http(BODY, x_request_id=f"req-{KEY}"),
    "in the model's name": http(BODY.replace(b"gpt-4.1", KEY.encode())),
    "in a stream": sse(*whole_stream(instructions=KEY)),
    "in a stream of single bytes": sse(*(bytes([byte]) for byte in b"".join(whole_stream(instructions=KEY)))),
    "split over deltas": sse(*whole_stream(f"the key is {KEY}!", output=[])),
    "split over deltas of a torn stream": sse(*whole_stream(f"the key is {KEY}!")[:-1]),
    "in the torn end of a stream": sse(b"event: response.completed\ndata: {" + ECHO[:-3] + b"\n\n"),
    "over the boundary of chunks": chunked(ECHO[: ECHO.index(b"canary")], ECHO[ECHO.index(b"canary") :]),
    "in gzip": http(gzip.compress(ECHO), Content_Encoding="gzip"),
    "in an error's message": http(json.dumps({"error": {"message": f"Incorrect API key: {KEY}"}}).encode(), 401),
    "where a message is cut": http(json.dumps({"error": {"message": "x" * 480 + KEY}}).encode(), 400),
    "in an error's code": http(json.dumps({"error": {"message": "no", "code": KEY, "type": KEY}}).encode(), 400),
    "in an error event": sse(event("error", code="server_error", message=f"key {KEY}")),
    "in a page": http(f"<html><title>401 for {KEY}</title></html>".encode(), 200, "text/html"),
    "in an error page": http(f"<html><title>401 for {KEY}</title></html>".encode(), 502, "text/html"),
    "in bytes that are no text": http(b"\xff\xfe " + KEY.encode(), 500),
    "in a location": http(b"", 302, Location=f"https://elsewhere.example/?key={KEY}"),
    "where a location is cut": http(b"", 302, Location="https://elsewhere.example/" + "x" * 160 + KEY),
    "in a header's name": HEAD + f"{KEY}: 1\r\n".encode() + b"Content-Length: 2\r\n\r\n{}",
    "in the status line": f"HTTP/1.1 {KEY}\r\n\r\n".encode(),
    "in a broken header": HEAD + f"a {KEY}\r\n\r\n".encode(),
    "as a chunk's size": chunked(b"x", end=KEY.encode()),
    "escaped": http(ECHO.replace(b"-", b"\\u002d"), 400),
}


@BOTH
@pytest.mark.parametrize("case", ECHOES)
async def test_the_key_never_comes_back(case: str, line: RequestLine) -> None:
    import base64

    outcome = await met(ECHOES[case], line)
    body = outcome.body or b""
    if isinstance(json.loads(body or b"null"), dict) and "base64" in json.loads(body):
        body = base64.b64decode(json.loads(body)["base64"])
    told = changed(outcome, body=b"")
    assert KEY not in repr(told)
    assert KEY.encode() not in body
    assert "sk-canary" not in repr(told)
    if case.startswith(("in a stream", "split", "over", "in gzip", "in an answer")):
        assert b"[the api key]" in body


@pytest.mark.parametrize("spelling", ["a/b+c/d+0123456789", "a\\/b+c\\/d+0123456789", "a/b\\u002bc/d\\u002B0123456789"])
async def test_a_key_that_json_may_escape_is_found_all_the_same(spelling: str) -> None:
    key = "a/b+c/d+0123456789"
    body = BODY[:-1] + b', "echo": "' + spelling.replace("\\u002B", "\\u002b").encode() + b'"}'
    reply = await answered(http(body), key=key)
    assert json.loads(reply.body)["echo"] == "[the api key]"


async def test_a_stand_in_for_a_key_may_be_a_word_of_the_answer() -> None:
    reply = await answered(http(BODY.replace("世界".encode(), b"EMPTY")), key="EMPTY")
    assert b"EMPTY" in reply.body


# -------------------------------------------------------------------------------------- certificates


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for 127.0.0.1 that nobody has signed, with its key in the same file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    signed = path.with_suffix(".crt")
    command = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=wrong.example"]
    subprocess.run([openssl, *command, "-keyout", path, "-out", signed], check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + signed.read_bytes())
    return path


async def test_a_bad_certificate_stops_with_the_host_and_before_the_key_is_sent(certificate: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with Hostile(http(), ssl=context) as server:
        outcome = await ask(server)
        assert server.asked == []
    assert isinstance(outcome, Failure)
    assert (outcome.code, kind(outcome), outcome.may_be_billed) == ("certificate_refused", Kind.STOP, False)
    assert "127.0.0.1" in outcome.message


async def test_https_to_a_plain_port_cannot_connect() -> None:
    def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(http())
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    async with server:
        outcome = await ask(f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.may_be_billed) == ("connect_failed", False)
    assert outcome.message.endswith("is the address http://?")
