"""Request lines and result lines: what one line of either file means, parsed and encoded.

1. Pure: bytes in, values out; no I/O, no clock.
2. A request body is never re-encoded: it is sliced out of its line, and an override replaces only
   the bytes of the field it names.
3. A result line puts `run` before `response`, so that a scan can stop before the payload.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Annotated, Any, Literal

import msgspec
import orjson
from msgspec import UNSET, Raw, UnsetType

from batchrun.records.rawjson import REFUSED, nests_deeper, with_member, with_new_member
from batchrun.records.usage import Count, Usage

ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/embeddings")
RESPONSES = ENDPOINTS[0]
MAX_DEPTH = 500  # most readers stop near 1000, Python 3.11 at that less the calls it is in
MAX_LINE_BYTES = 64 * 1024 * 1024

Outcome = Literal["succeeded", "refused", "incomplete", "failed"]


class RequestLineError(ValueError):
    """One request line cannot be sent; the text says what is wrong and what to write instead."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line changes in every body.

    `model` fills in where a body has none, `fields` (name → JSON bytes) and `stream` replace.
    """

    model: str | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)
    stream: bool | None = None

    def replacements(self) -> dict[str, bytes]:
        """The fields to put in every body, `model` not counted."""
        fields = dict(self.fields)
        if self.stream is not None:
            fields["stream"] = b"true" if self.stream else b"false"
        return fields


class RequestLine(msgspec.Struct, frozen=True):
    """One request, ready to send.

    `body` is the wire's bytes, `sha` the first 16 hex digits of its BLAKE2b, `line_number` 1-based.
    A `derived` id stands for a bare body; equal bodies are told apart by the reader (`-2`, `-3`, …).
    """

    line_number: int
    custom_id: str
    url: str
    body: bytes
    sha: str
    model: str
    stream: bool
    derived: bool
    max_output_tokens: int | None = None


class RequestFields(msgspec.Struct, gc=False):
    """The fields of a request line that batchrun looks at, in either of its two shapes."""

    custom_id: Any = UNSET
    method: Any = UNSET
    url: Any = UNSET
    body: Raw | UnsetType = UNSET
    model: Any = None
    stream: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    max_output_tokens: Any = None


_decode_line = msgspec.json.Decoder(RequestFields).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def digest(data: bytes | Raw) -> str:
    """16 hex digits that stand for `data` (BLAKE2b, 64 bits)."""
    return blake2b(data, digest_size=8).hexdigest()


def parse_request(raw: bytes, line_number: int, overrides: Overrides = Overrides()) -> RequestLine:
    """One line of a request file, without its newline, as a `RequestLine`.

    Raises `RequestLineError` where the line could not be sent as it stands.
    """
    return read_request(raw, overrides).line(line_number)


class Request(msgspec.Struct, gc=False):
    """What a request line says: all that a check looks at, and of which a `RequestLine` is made.

    `given_id` is empty where the line is a bare body, whose id is derived from it as it stands.
    """

    raw: bytes
    given_id: str
    url: str
    body: bytes
    fields: RequestFields

    @property
    def custom_id(self) -> str:
        """The id that was given, or else the one that is made of the content."""
        return self.given_id or "req-" + digest(_bare(self.raw))

    def line(self, line_number: int) -> RequestLine:
        """The line as it is sent."""
        fields, given_id = self.fields, self.given_id
        limit = None if fields.max_output_tokens is None else _count(fields.max_output_tokens)
        return RequestLine(  # in the order of its fields: by name it takes twice as long
            line_number,
            given_id or self.custom_id,
            self.url,
            self.body,
            digest(self.body),
            fields.model,
            fields.stream is True,
            not given_id,
            limit,
        )


def read_request(raw: bytes, overrides: Overrides = Overrides()) -> Request:
    """One line of a request file, checked.

    Raises `RequestLineError` where the line could not be sent as it stands.
    """
    try:
        if not raw.isascii():
            raw.decode()  # msgspec slices raw values without looking at their UTF-8
        line = _decode_line(raw)
        fields = line if line.body is UNSET else _decode_line(line.body)
    except REFUSED:
        raise _why_refused(raw) from None
    if len(raw) > MAX_LINE_BYTES or nests_deeper(raw, MAX_DEPTH):
        raise _why_refused(raw)
    if line.body is UNSET:
        if line.custom_id is not UNSET or line.method is not UNSET or line.url is not UNSET:
            raise RequestLineError('it has no "body"; write {"custom_id": …, "body": {"model": …, "input": …}}')
        given_id, url, body = "", RESPONSES, _bare(raw)
    else:
        url = RESPONSES if line.method == "POST" and line.url == RESPONSES else _checked_url(line)
        given_id, body = _checked_id(line.custom_id), bytes(line.body)
    if overrides.fields or overrides.stream is not None or (overrides.model is not None and fields.model is None):
        body, fields = _overridden(body, fields, overrides)
    if not (
        fields.model and type(fields.model) is str and fields.stream is fields.background is fields.conversation is None
    ):
        _check_fields(fields, url)
    return Request(raw, given_id, url, body, fields)


def _bare(raw: bytes) -> bytes:
    return raw.strip(b" \t\r")


def _why_refused(raw: bytes) -> RequestLineError:
    """What is wrong with a line that could not be decoded; looked at step by step."""
    if len(raw) > MAX_LINE_BYTES:
        return RequestLineError(f"the line is longer than {MAX_LINE_BYTES:,} bytes; split the request")
    try:
        raw.decode()
        line = _decode_line(raw)
        if nests_deeper(raw, MAX_DEPTH):
            return _too_deep()
        assert line.body is not UNSET, "nothing is wrong with this line"
        raw = bytes(line.body)
        if not raw.startswith(b"{"):
            return RequestLineError('"body" is not an object; write "body": {"model": …, "input": …}')
        _decode_line(raw)
    except UnicodeDecodeError as error:
        return RequestLineError(f"bad UTF-8 at byte {error.start + 1}; save the file as UTF-8")
    except msgspec.ValidationError as error:
        if not raw.lstrip().startswith(b"{"):
            return RequestLineError("not an object; write one JSON object a line, {…}")
        return RequestLineError(f"{str(error)[:80]}; write a number that fits")
    except msgspec.DecodeError as error:
        return RequestLineError(_why_not_json(raw, str(error)))
    except RecursionError:
        return _too_deep()
    raise AssertionError("nothing is wrong with this line")


def _too_deep() -> RequestLineError:
    return RequestLineError(f"nested deeper than {MAX_DEPTH} levels; flatten it")


def _why_not_json(raw: bytes, why: str) -> str:
    if b"\0" in raw:
        return "NUL bytes, not JSON; was the file cut off by a crash, or saved as UTF-16?"
    constants: list[str] = []
    try:
        json.loads(raw.decode(), parse_constant=constants.append)
    except (ValueError, RecursionError):
        pass
    else:
        if not constants:  # Python's own reader takes more than JSON: this, and those constants
            return "half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"
    if constants:
        return f"not JSON: {constants[0]} is no JSON value; write null or a number"
    return f"not JSON ({why.removeprefix('JSON is malformed: ')}); write one JSON object a line"


def _checked_url(line: RequestFields) -> str:
    if line.method is not UNSET and line.method != "POST":
        raise RequestLineError(f'"method" is {_shown(line.method)}; write "POST"')
    url = RESPONSES if line.url is UNSET else line.url
    if url not in ENDPOINTS:
        raise RequestLineError(f'"url" is {_shown(url)}; write one of {", ".join(ENDPOINTS)}')
    return str(url)


def _checked_id(custom_id: Any) -> str:
    if custom_id is UNSET:
        raise RequestLineError('it has a "body" but no "custom_id"; write "custom_id": "a name of its own"')
    if not isinstance(custom_id, str) or not custom_id:
        shown = _shown(custom_id)
        instead = f'"{shown}"' if isinstance(custom_id, (int, float)) else '"a name of its own"'
        raise RequestLineError(f'"custom_id" is {shown}, not a string with text; write "custom_id": {instead}')
    return custom_id


def _check_fields(fields: RequestFields, url: str) -> None:
    if fields.model is None or fields.model == "":
        raise RequestLineError('no "model"; write "model": "gpt-4.1" into the body, or pass --model NAME')
    if not isinstance(fields.model, str):
        raise RequestLineError(f'"model" is {_shown(fields.model)}; write a name, "model": "gpt-4.1"')
    if fields.stream is not None and not isinstance(fields.stream, bool):
        raise RequestLineError(f'"stream" is {_shown(fields.stream)}; write true or false')
    if fields.stream and url != RESPONSES:
        raise RequestLineError(f'"stream": true works with {RESPONSES} only; take it out, or pass --no-stream')
    if fields.previous_response_id is not None and fields.conversation is not None:
        raise RequestLineError('"previous_response_id" and "conversation" exclude each other; keep one')
    if fields.background:
        raise RequestLineError('"background": true answers must be polled, which batchrun does not do; take it out')


def _overridden(body: bytes, fields: RequestFields, overrides: Overrides) -> tuple[bytes, RequestFields]:
    """The body with the overrides in it."""
    replacements = overrides.replacements()
    if overrides.model is not None and fields.model is None:
        replacements.setdefault("model", orjson.dumps(overrides.model))
    members = _decode_members(body)
    for name, value in replacements.items():
        body = with_member(body, name, value) if name in members else with_new_member(body, name, value)
    try:
        return body, _decode_line(body)
    except REFUSED:
        raise _why_refused(body) from None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _shown(value: Any) -> str:
    """A value as it would stand in the file, short enough for a message."""
    text = json.dumps(None if value is UNSET else value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"


# ---------------------------------------------------------------------------------------------- results


class ErrorInfo(msgspec.Struct, frozen=True, gc=False):
    """Why a line has no clean answer; `code` is the gateway's where it gave one."""

    code: str
    message: str


_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class RunInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a line was run: everything that a resume and a report need, without the payload.

    `of` counts the lines of the input; `started` (UTC, to the millisecond) names the run and `elapsed_s`
    is the record's time since then by the monotonic clock; `model` is the one that answered.
    """

    line: Count
    of: Count
    sha: str
    started: str
    elapsed_s: _Seconds
    outcome: Outcome
    asked: str
    attempts: Count
    throttles: Count = 0
    may_heal: bool = False
    latency_s: _Seconds | None = None
    first_event_s: _Seconds | None = None
    first_text_s: _Seconds | None = None
    model: str | None = None
    usage: Usage | None = None


class ResultHead(msgspec.Struct, frozen=True, gc=False):
    """A result line without its payload."""

    custom_id: str
    run: RunInfo
    error: ErrorInfo | None = None


class _ResponsePart(msgspec.Struct, frozen=True):
    status_code: int
    request_id: str | None
    body: Raw


class _ResultRecord(msgspec.Struct, frozen=True):
    id: str
    custom_id: str
    run: RunInfo
    response: _ResponsePart | None
    error: ErrorInfo | None


class _CheckedRecord(ResultHead, frozen=True, gc=False, kw_only=True):
    """The shape that a stored line must have; decoding it checks the payload's JSON without building it."""

    id: str
    response: Raw
    error: ErrorInfo | None


_HEX = b"0123456789abcdef"
_encode = msgspec.json.Encoder().encode
_decode_record = msgspec.json.Decoder(_CheckedRecord).decode


@lru_cache(maxsize=64)
def _mark_of_run(started: str) -> str:
    return digest(started.encode())[:8]


def encode_result(head: ResultHead, status: int | None, request_id: str | None, body: bytes | None) -> bytes:
    """One result line with its newline; `body` is JSON on one line, None where nothing came back."""
    response = None
    if status is not None:
        response = _ResponsePart(status, request_id, Raw(body or b"null"))
    record_id = f"batch_req_{_mark_of_run(head.run.started)}{head.run.line:08x}"
    return _encode(_ResultRecord(record_id, head.custom_id, head.run, response, head.error)) + b"\n"


def parse_result(raw: bytes) -> ResultHead:
    """One stored result line, without its newline. Raises `ValueError` where it is not a whole record."""
    record = _decode_checked(raw)
    return ResultHead(record.custom_id, record.run, record.error)


def parse_results(lines: Sequence[bytes]) -> Sequence[ResultHead]:
    """Many stored result lines, in less time than one by one. Raises `ValueError` where one is not a whole record."""
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()
        records = list(map(_decode_record, lines))
    except REFUSED as error:
        raise ValueError(str(error)) from None
    for started in {record.run.started for record in records}:
        _check_started(started)
    hashes = [record.run.sha for record in records]
    if not {16}.issuperset(map(len, hashes)) or "".join(hashes).encode().translate(None, _HEX):
        raise ValueError("one of them is no hash of a body")
    return records


def parse_stored(raw: bytes) -> tuple[ResultHead, bytes]:
    """A stored result line as its head and its `response`, raw JSON (`null` where none came).

    Raises `ValueError` where it is not a whole record.
    """
    record = _decode_checked(raw)
    return ResultHead(record.custom_id, record.run, record.error), bytes(record.response)


def _decode_checked(raw: bytes) -> _CheckedRecord:
    try:
        if not raw.isascii():
            raw.decode()  # msgspec slices raw values without looking at their UTF-8
        record = _decode_record(raw)
    except REFUSED as error:
        raise ValueError(str(error)) from None
    _check_started(record.run.started)
    sha = record.run.sha
    if len(sha) != 16 or sha.encode().translate(None, _HEX):
        raise ValueError(f"{sha[:20]!r} is no hash of a body")
    return record


@lru_cache(maxsize=64)  # the records of a run have one start
def _check_started(started: str) -> None:
    if not re.fullmatch(r"20\d\d-.*Z", started):
        raise ValueError(f"{started[:40]!r} is no time of this century, in UTC")
    datetime.fromisoformat(started)


def one_line(body: bytes) -> bytes:
    """Valid JSON on one line: raw CR and LF can only be white space there, so they become spaces."""
    if b"\n" in body or b"\r" in body:
        return body.replace(b"\n", b" ").replace(b"\r", b" ")
    return body


def as_text(body: bytes) -> bytes:
    """A body that is no JSON, as JSON all the same: a string, or {"base64": …} where it is not UTF-8."""
    try:
        return orjson.dumps(body.decode())
    except UnicodeDecodeError:
        return orjson.dumps({"base64": base64.b64encode(body).decode()})
