"""The reply to one attempt: from a request and a word of the script to bytes and the way they are delivered."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import orjson

from batchrun.simulator.answers import Answer, Identity, compose, refused, response_object, response_shell, shortened
from batchrun.simulator.chat import chat_usage, completion_object, embeddings_object
from batchrun.simulator.errors import WEB_APP, ErrorReply, envelope, rate_limited, scripted_error, wrong_key
from batchrun.simulator.known import KnownAnswers
from batchrun.simulator.ledger import Usage
from batchrun.simulator.limits import duration_text
from batchrun.simulator.mismatches import fenced, mismatched
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.requests import Endpoint, ModelRequest, encode_json
from batchrun.simulator.script import Word
from batchrun.simulator.stream import frame, opening_events, response_events

EVENT_STREAM = "text/event-stream; charset=utf-8"
PING = b": PING\n\n"
_SERVER_ERROR = "The server had an error processing your request. Sorry about that!"


class Delivery(enum.Enum):
    """How the bytes are delivered."""

    WHOLE = "all of them"
    CUT = "half of them, then the connection closes"
    CUT_CHUNK = "half of them, then the connection closes inside a chunk"
    HANG = "half of them, then silence"
    DRIP = "one byte a second"
    SPLIT = "in pieces of a few bytes, cut anywhere"
    RESET = "none; the connection is reset"
    STALL = "none; silence"
    PINGS = "none; comments for ever"


@dataclass(frozen=True)
class Reply:
    """An answer ready to be sent. `parts` is the body: one part for a plain answer, one for each event of a stream."""

    status: int
    parts: tuple[bytes, ...]
    content_type: str = "application/json"
    streamed: bool = False
    delivery: Delivery = Delivery.WHOLE
    headers: dict[str, str] = field(default_factory=dict)
    usage: Usage | None = None
    """What is billed for it; None if the model did not answer."""


def plan_reply(
    request: ModelRequest,
    word: Word,
    identity: Identity,
    options: GatewayOptions,
    key: str | None,
    known: KnownAnswers | None = None,
) -> Reply:
    """The reply that this word of the script gives to the request. `key` is the key of the request, for `badkey`."""
    if word.is_error:
        return _error(request, word, options, key)
    if not word.is_answer:
        return _SILENT[word.names[0]](request, identity)
    return _answer(request, word, identity, known)


def reply_of(error: ErrorReply) -> Reply:
    """The reply for an error."""
    return Reply(error.status, (error.body,), error.content_type, headers=dict(error.headers))


def _error(request: ModelRequest, word: Word, options: GatewayOptions, key: str | None) -> Reply:
    name = word.names[0]
    retry_after = word.retry_after
    if name == "badkey":
        error = wrong_key(key or "")
    elif name == "429":
        if retry_after is None:
            retry_after = f"{options.fault_retry_after_s:g}"
        error = rate_limited(request.model, _spoken(retry_after))
    else:
        error = scripted_error(name)
    reply = reply_of(error)
    if retry_after is not None and options.send_retry_after:
        reply.headers["Retry-After"] = retry_after
    return reply


def _spoken(retry_after: str) -> str:
    """A `Retry-After` in the words of the message; if the header is not a number, the message says `20s`."""
    try:
        return duration_text(min(max(float(retry_after), 0.001), 1e6))
    except ValueError:
        return "20s"


def _reset(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(0, (), delivery=Delivery.RESET)


def _stall(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(0, (), delivery=Delivery.STALL)


def _pings(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(200, (), EVENT_STREAM, streamed=True, delivery=Delivery.PINGS)


def _html(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(200, (WEB_APP,), "text/html; charset=utf-8")


def _empty(request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(200, (b"",), EVENT_STREAM if request.stream else "application/json")


def _array(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(200, (b"[]",))


def _error200(request: ModelRequest, _identity: Identity) -> Reply:
    # A relay sends the content type of a stream before it knows whether a stream will follow.
    content_type = EVENT_STREAM if request.stream else "application/json"
    body = orjson.dumps(envelope(_SERVER_ERROR, "server_error", "server_error"))
    return Reply(200, (body,), content_type)


def _redirect(_request: ModelRequest, _identity: Identity) -> Reply:
    return Reply(307, (b"",), "text/html", headers={"Location": "/v1/moved/elsewhere"})


def _flat_error_event(request: ModelRequest, identity: Identity) -> Reply:
    error = {"type": "error", "code": "server_error", "message": _SERVER_ERROR, "param": None}
    return _broken_stream(request, identity, error)


def _nested_error_event(request: ModelRequest, identity: Identity) -> Reply:
    return _broken_stream(
        request, identity, {"type": "error", **envelope(_SERVER_ERROR, "server_error", "server_error")}
    )


def _broken_stream(request: ModelRequest, identity: Identity, error: dict[str, Any]) -> Reply:
    """A stream that begins well and then reports an error; a plain request gets it with status 200."""
    if not request.stream:
        return _error200(request, identity)
    numbers = count()
    events = [*opening_events(request, identity), error]
    frames = tuple(frame({**event, "sequence_number": next(numbers)}) for event in events)
    return Reply(200, frames, EVENT_STREAM, streamed=True)


_SILENT = {
    "reset": _reset,
    "stall": _stall,
    "pingonly": _pings,
    "html": _html,
    "empty": _empty,
    "array": _array,
    "error200": _error200,
    "redirect": _redirect,
    "errorevent": _flat_error_event,
    "nestederror": _nested_error_event,
}


def _answer(request: ModelRequest, word: Word, identity: Identity, known: KnownAnswers | None) -> Reply:
    """A reply in which the model answers."""
    body, usage = _body(request, word, identity, known)
    streamed = (request.stream or "sse" in word) and "json" not in word
    if streamed and request.endpoint is Endpoint.RESPONSES:
        frames = _frames(request, word, identity, body)
        return Reply(200, frames, EVENT_STREAM, streamed=True, delivery=_delivery(word), usage=usage)
    return Reply(200, (_spoiled(word, encode_json(body)),), delivery=_delivery(word), usage=usage)


def _body(
    request: ModelRequest, word: Word, identity: Identity, known: KnownAnswers | None
) -> tuple[dict[str, Any], Usage | None]:
    """The object that answers the request, and the usage that is billed for it."""
    if request.endpoint is Endpoint.EMBEDDINGS:
        usage = Usage(input_tokens=request.input_tokens)
        return _with_usage(word, embeddings_object(request), usage), usage
    answer = _worded(request, compose(request, known), word)
    if request.endpoint is Endpoint.CHAT:
        return _with_usage(word, completion_object(request, answer, identity), answer.usage), answer.usage
    if "failed" in word:
        failed = response_shell(request, identity, "failed")
        return {**failed, "error": {"code": "server_error", "message": _SERVER_ERROR}}, None
    if "queued" in word:
        return response_shell(request, identity, "queued"), None
    response = response_object(request, answer, identity)
    if "emptyout" in word and not request.stream:
        response["output"] = []
    return _with_usage(word, response, answer.usage), answer.usage


def _worded(request: ModelRequest, answer: Answer, word: Word) -> Answer:
    if "incomplete" in word:
        return shortened(answer, "max_output_tokens")
    if "filtered" in word:
        return shortened(answer, "content_filter")
    if "mismatch" in word:
        return mismatched(request, answer)
    if "fenced" in word:
        return fenced(request, answer)
    return refused(answer) if "refusal" in word else answer


def _with_usage(word: Word, body: dict[str, Any], usage: Usage) -> dict[str, Any]:
    """The object with its usage in one of the forms that relays use."""
    if "nousage" in word:
        return {name: value for name, value in body.items() if name != "usage"}
    if "nullusage" in word:
        return {**body, "usage": None}
    if "chatusage" in word:
        return {**body, "usage": chat_usage(usage)}
    if "strusage" in word:
        return {**body, "usage": _as_strings(body["usage"])}
    return body


def _as_strings(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _as_strings(part) for name, part in value.items()}
    return str(value)


def _frames(request: ModelRequest, word: Word, identity: Identity, final: dict[str, Any]) -> tuple[bytes, ...]:
    """The events as bytes, changed as the word says."""
    events = list(response_events(request, identity, final))
    if "eof" in word:
        events.pop()
    elif "emptyout" in word:
        events[-1] = {**events[-1], "response": {**final, "output": []}}
    frames = [frame(event) for event in events]
    frames[-1] = _spoiled(word, frames[-1])
    if "ping" in word:
        frames = [part for one in frames for part in (PING, one)]
    if "done" in word:
        frames.append(b"data: [DONE]\n\n")
    if "crlf" in word:
        frames = [one.replace(b"\n", b"\r\n") for one in frames]
    return tuple(frames)


def _spoiled(word: Word, text: bytes) -> bytes:
    """The JSON text; if the word says so, with something in its last object that is not JSON."""
    extra = b',"score":NaN' if "nan" in word else b',"note":"caf\xe9"' if "latin1" in word else b""
    end = text.rfind(b"}")
    return text[:end] + extra + text[end:]


_DELIVERIES = {
    "cut": Delivery.CUT,
    "cutchunk": Delivery.CUT_CHUNK,
    "hang": Delivery.HANG,
    "drip": Delivery.DRIP,
    "split": Delivery.SPLIT,
}


def _delivery(word: Word) -> Delivery:
    return next((_DELIVERIES[name] for name in word.names if name in _DELIVERIES), Delivery.WHOLE)


def with_headers(reply: Reply, headers: dict[str, str]) -> Reply:
    """The reply with more headers; its own headers win."""
    return replace(reply, headers={**headers, **reply.headers})
