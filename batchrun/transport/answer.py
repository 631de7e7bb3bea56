"""What an HTTP answer means: status and bytes in, a `Reply` or a `Failure` out. Pure.

1. A `Reply` is a whole answer that was paid for. It may still be no success: an `incomplete` one is kept, too.
2. Everything else is a `Failure`, with the gateway's own code if it gave one. `failures.classify` says what to do
   about it.
3. Nonstandard JSON is valid JSON that strict readers refuse: half a surrogate pair, great depth, a number past every
   float. It was paid for, so it is kept as text under a code of its own, and the line is not sent again.

Sources: OpenAI's API reference (response objects, streams, errors); the answers of new-api and one-api relays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NoReturn

import msgspec
import orjson
from msgspec.structs import replace as changed
from multidict import istr

from batchrun.records.charges import charges_of, read_charges
from batchrun.records.outcome import Failure, FailureCode, Outcome, Reply, http_code, response_code
from batchrun.records.rawjson import REFUSED, as_text, member_spans, nests_deeper, one_line
from batchrun.records.request import ENDPOINTS, MAX_DEPTH, RESPONSES
from batchrun.transport.error_body import (
    ErrorBody,
    asked_wait_s,
    plain,
    read_error_body,
    read_rate_headers,
    read_xml_error,
    says_error,
)
from batchrun.transport.verdict import Verdict, find_error, judge, word

MESSAGE_LIMIT = 500  # characters of a gateway's message that are worth keeping
PAGE_LIMIT = 65536  # bytes of a page or of XML that are looked at
_Json = dict[str, Any]


# As `istr`, which aiohttp need not fold for each answer.
_REQUEST_ID, _RELAYS_ID = istr("x-request-id"), istr("x-oneapi-request-id")


class HttpAnswer(msgspec.Struct, gc=False):
    """One whole HTTP answer, as `read_answer` takes it. `ended_as` is the type of a stream's terminal event."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    url: str = RESPONSES
    retry_after_s: float | None = None
    ended_as: str | None = None

    @property
    def request_id(self) -> str | None:
        """The id that the gateway gave this request; its support asks for it."""
        name = self.headers.get(_REQUEST_ID) or self.headers.get(_RELAYS_ID)
        return plain(name) if name else None

    @property
    def from_relay(self) -> bool:
        """Whether a new-api or one-api relay answered: only these send this header."""
        return _RELAYS_ID in self.headers


def read_answer(http: HttpAnswer) -> Reply | Failure:
    """Judge one whole HTTP answer."""
    if not 200 <= http.status < 300:
        return _read_error(http)
    body = http.body.strip()
    try:
        fields = _plain_json(body)
    except ValueError:
        return _read_nonstandard(http, body)
    if not isinstance(fields, dict):
        return _read_no_object(http, body, fields)
    verdict = judge(http.url, fields, http.ended_as)
    if isinstance(verdict, ErrorBody):
        return _failed_by(http, verdict, fields.get("status"), fields.get("model"))
    if verdict.outcome is None:
        return _failed_as(http, body, verdict)
    return _reply(http, body, fields, verdict.outcome, verdict.code, verdict.message)


def _read_no_object(http: HttpAnswer, body: bytes, value: Any) -> Failure:
    """JSON that is no object: an error in a list, or nothing that is known."""
    if says_error(value):
        return _failed_by(http, read_error_body(value))
    return _failed(http, FailureCode.NOT_A_RESPONSE, "got JSON that is no response object: " + _shown(body))


def _reply(
    http: HttpAnswer, body: bytes, fields: _Json, outcome: Outcome, code: str | None = None, message: str = ""
) -> Reply:
    model, charges = fields.get("model"), read_charges(fields, outcome)
    return Reply(  # the first fields by position, which takes half as long
        http.status,
        one_line(body),
        http.request_id,
        outcome,
        model if isinstance(model, str) else None,
        charges.usage,
        code,
        message,
        rate=read_rate_headers(http.headers),
        service_tier=charges.service_tier,
        gateway_cost_usd=charges.gateway_cost_usd,
    )


def _failed_as(http: HttpAnswer, body: bytes, verdict: Verdict) -> Failure:
    """The failure of JSON that is no answer; the message ends with a piece of it where its shape is the fault."""
    assert verdict.code is not None, "a verdict without an outcome has a code"
    shown = _shown(body) if verdict.code == FailureCode.NOT_A_RESPONSE else ""
    return _failed(http, verdict.code, verdict.message + shown)


def _failed(http: HttpAnswer, code: str, message: str) -> Failure:
    """The failure of a 200 that is not an answer. `_failed_by` makes that of a body with an error."""
    return Failure(
        code=code,
        message=message[:MESSAGE_LIMIT],
        status=http.status,
        body=stored_body(http.body),
        request_id=http.request_id,
        retry_after_s=http.retry_after_s,
        from_relay=http.from_relay,
        usage=charges_of(http.body, "failed").usage,
        looks_like_api=_looks_like_api(http.body),
    )


# ----------------------------------------------------------------------------------------------- errors


def _read_error(http: HttpAnswer) -> Failure:
    decoded = _read_leniently(http.body)
    if decoded is None and (whole := _without_tail(http.body)) is not None:
        decoded = _read_leniently(whole)
    if decoded is None:
        text = http.body.decode(errors="replace").strip()
        page = text.startswith("<")
        if page and (error := read_xml_error(text[:PAGE_LIMIT])) is not None:
            return _failed_by(http, error)
        message = f"HTTP {http.status}: {_title(http.body) if page else text or 'no body'}"
        return _failed_by(http, ErrorBody(FailureCode.HTML_PAGE if page else "", "", message))
    return _failed_by(http, read_error_body(decoded))


def _read_leniently(body: bytes) -> Any:
    """The value of an error's body, read for its meaning alone: Latin-1 and NaN are let through. None: no JSON."""
    if nests_deeper(body, MAX_DEPTH):
        return None
    try:
        return json.loads(body.decode(errors="replace"), parse_int=_int)
    except REFUSED:
        return None


def _failed_by(http: HttpAnswer, error: ErrorBody, status: Any = None, model: Any = None) -> Failure:
    is_success = 200 <= http.status < 300
    default = FailureCode.ERROR_IN_200 if is_success else http_code(http.status)
    message = error.message or f"HTTP {http.status} without a message"
    return Failure(
        code=error.code or error.type or default,
        message=message[:MESSAGE_LIMIT],
        status=http.status,
        type=error.type or (FailureCode.RESPONSE_FAILED if status == "failed" else ""),
        body=stored_body(http.body),
        request_id=http.request_id,
        retry_after_s=_first_wait(http.retry_after_s, error.wait_s, asked_wait_s(message)),
        from_relay=http.from_relay,
        model=plain(model) if isinstance(model, str) else None,
        usage=charges_of(http.body, "failed").usage if is_success else None,
        rate=read_rate_headers(http.headers) if 429 in (http.status, error.status) else None,
        inner_status=error.status,
        looks_like_api=_looks_like_api(http.body),
    )


def _first_wait(*waits_s: float | None) -> float | None:
    """The first wait that is asked for: the header's, the body's, that of its words."""
    return next((wait_s for wait_s in waits_s if wait_s is not None), None)


def _looks_like_api(body: bytes) -> bool:
    """Whether a body starts as a JSON object or a list of them does; it may be cut or broken."""
    return re.match(rb"\s*(?:\{|\[\s*[{\]])", body) is not None


# -------------------------------------------------------------------------------------- nonstandard JSON


def _read_nonstandard(http: HttpAnswer, body: bytes) -> Reply | Failure:
    """A 200 whose JSON strict readers refuse: cut or broken (a failed attempt), or whole but nonstandard (kept)."""
    if not body:
        return _failed(http, FailureCode.EMPTY_BODY, f"the gateway answered {http.status} with nothing in it")
    if body.startswith(b"<"):
        if (error := read_xml_error(body[:PAGE_LIMIT].decode(errors="replace"))) is not None:
            return _failed_by(http, error)
        return _failed(http, FailureCode.HTML_INSTEAD_OF_JSON, f"got an HTML page ({_title(body)})")
    if (whole := _without_tail(body)) is not None:
        return read_answer(changed(http, body=whole))
    deciding = ("status", "model", _SHAPES[http.url])
    try:
        text, why = body.decode(), "half a surrogate pair, or a number past every float"
        if nests_deeper(body, MAX_DEPTH):
            spans, why = member_spans(body), "great depth"
            if spans is None:
                return _failed(http, FailureCode.INVALID_JSON, "got JSON that is not whole: " + _shown(body))
            found = {name: spans[name.encode()] for name in (*deciding, *_LOOKED_AT) if name.encode() in spans}
            decoded = {name: _shallow(body[start:end]) for name, (start, end) in found.items()}
        else:
            decoded = json.loads(text, parse_constant=_no_constant, parse_int=_int)
    except UnicodeDecodeError:
        return _failed(http, FailureCode.INVALID_JSON, "got bytes that are not UTF-8: " + _shown(body))
    except ValueError as broken:
        return _failed(http, FailureCode.INVALID_JSON, f"got broken JSON ({broken}): " + _shown(body))
    if not isinstance(decoded, dict):
        return _failed(http, FailureCode.NOT_A_RESPONSE, "got JSON that is no response object: " + _shown(body))
    status, model, content = (decoded.get(name) for name in deciding)
    if (error := find_error(http.url, decoded)) is not None:
        return _failed_by(http, error, status, model)
    if status not in (None, "completed", "incomplete"):
        return _failed(http, response_code(word(status)), f"the response's status is {word(status)}, not completed")
    if not content:
        return _failed(http, FailureCode.NOT_A_RESPONSE, "got JSON without an answer in it: " + _shown(body))
    charges = read_charges(decoded, "succeeded")
    message = f"the answer is whole, but strict JSON readers refuse it ({why}); its text is kept"
    return Reply(
        status=http.status,
        body=as_text(body),
        request_id=http.request_id,
        outcome="failed",
        model=_text_of(decoded, "model"),
        usage=charges.usage,
        error_code=FailureCode.NONSTANDARD_JSON,
        message=message,
        service_tier=_text_of(decoded, "service_tier"),
        gateway_cost_usd=charges.gateway_cost_usd,
    )


_LOOKED_AT = ("error", "object", "type", "base_resp", "usage", "service_tier")
_SHAPES = {ENDPOINTS[0]: "output", ENDPOINTS[1]: "choices", ENDPOINTS[2]: "data"}


def _without_tail(body: bytes) -> bytes | None:
    """The JSON object at the start of a body, if what follows is no JSON but `[DONE]` and the like; else None."""
    try:
        text = body.decode().lstrip()
        value, end = json.JSONDecoder(parse_int=_int).raw_decode(text)
    except REFUSED:
        return None
    tail = text[end:].strip(" \t\r\n")
    return text[:end].encode() if isinstance(value, dict) and tail and "{" not in tail else None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _int(digits: str) -> float:
    """An integer of any length, where Python's own reader stops at 4,300 digits."""
    return float(digits) if len(digits) > 4300 else int(digits)


def _shallow(raw: bytes) -> Any:
    """The value of a member of JSON that is too deep as a whole; its text where the member itself is too deep."""
    if nests_deeper(raw, MAX_DEPTH):
        return raw[:MESSAGE_LIMIT].decode(errors="replace")
    return json.loads(raw, parse_int=_int)


def _plain_json(body: bytes) -> Any:
    """The value of JSON that every reader accepts: orjson is the strictest, except in depth. Raises `ValueError`."""
    value = orjson.loads(body)
    if nests_deeper(body, MAX_DEPTH):
        raise ValueError("nests too deep")
    return value


def stored_body(body: bytes) -> bytes:
    """Any body as one line of JSON that every reader accepts; what is not JSON becomes a string or base64."""
    try:
        _plain_json(body)
    except ValueError:
        return as_text(body)
    return one_line(body)


def _title(body: bytes) -> str:
    match = re.search(rb"<title[^>]*>\s*(.*?)\s*</title>", body[:PAGE_LIMIT], re.IGNORECASE | re.DOTALL)
    return _shown(match[1]) if match else "without a title"


def _shown(body: bytes) -> str:
    text = body[:200].decode(errors="replace").strip()
    return text if len(text) <= 80 else text[:77] + "…"


def _text_of(fields: _Json, name: str) -> str | None:
    """A member if it is a string, else None."""
    value = fields.get(name)
    return plain(value) if isinstance(value, str) else None
