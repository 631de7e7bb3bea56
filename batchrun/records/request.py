"""Request lines: one line of the request file, parsed and checked.

1. Pure: bytes in, values out; no I/O, no clock.
2. A request body is never re-encoded. It is sliced out of its line, and an override replaces only the bytes of the
   field that it names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
import orjson
from msgspec import UNSET, Raw, UnsetType

from batchrun import checks
from batchrun.records.index import digest, hash_body
from batchrun.records.not_json import why_not_json
from batchrun.records.rawjson import REFUSED, nests_deeper, with_member, with_new_member

ENDPOINTS = ("/v1/responses", "/v1/chat/completions", "/v1/embeddings")
RESPONSES, CHAT, EMBEDDINGS = ENDPOINTS
APIS = {"responses": RESPONSES, "chat": CHAT, "embeddings": EMBEDDINGS}
"""The endpoints by the names that users give them (`--api`)."""

MAX_DEPTH = 500  # most readers stop near 1000; Python 3.11 stops earlier, by the depth of its call stack
MAX_LINE_BYTES = 64 * 1024 * 1024


class RequestLineError(ValueError):
    """A request line cannot be sent; the message says what is wrong and what to write instead."""


@dataclass(frozen=True, slots=True)
class Overrides:
    """Changes to the body of every request.

    `model`: the model of requests that name none; None fills in nothing.
    `fields`: top-level fields to set, by name: `{"temperature": 0}`. Bytes are taken as JSON (`{"temperature": b"0"}`);
    every other value is encoded, and kept as JSON in bytes.
    `stream`: whether answers are streamed, whatever a request says; None leaves it to the request.
    `api`: where requests go that name no `url`: one of `APIS`; None decides by the body, which is chat if it has
    `messages` and no `input`.

    Raises `UsageError` for a value that is none of these.
    """

    model: str | None = None
    fields: Mapping[str, bytes] = field(default_factory=dict)
    stream: bool | None = None
    api: str | None = None

    if TYPE_CHECKING:

        def __init__(
            self,
            model: str | None = None,
            fields: Mapping[str, object] | None = None,
            stream: bool | None = None,
            api: str | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        """Encode the values that are not bytes. Raises `UsageError` for what is no change of a body."""
        if self.model is not None:
            checks.text("Overrides.model", self.model, "the name of a model, or None")
        if self.stream is not None:
            checks.flag("Overrides.stream", self.stream)
        if self.api is not None:
            checks.text("Overrides.api", self.api, f"one of {', '.join(APIS)}, or None")
        fields = {} if self.fields is None else self.fields
        if not isinstance(fields, Mapping):
            raise checks.refused("Overrides.fields", fields, 'a dict such as {"temperature": 0}')
        for name in fields:
            checks.instance("a name in Overrides.fields", name, str, 'a string such as "temperature"')
        checks.settle(self, fields={name: _as_json(name, value) for name, value in fields.items()})

    @property
    def url(self) -> str | None:
        """The endpoint that `api` names."""
        return APIS[self.api] if self.api is not None else None

    def replacements(self) -> dict[str, bytes]:
        """The fields to set in every body, without `model`."""
        fields = dict(self.fields)
        if self.stream is not None:
            fields["stream"] = b"true" if self.stream else b"false"
        return fields


def _as_json(name: str, value: object) -> bytes:
    """The JSON of a field: bytes are JSON already, every other value is encoded."""
    try:
        if isinstance(value, bytes):
            orjson.loads(value)
            return value
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (ValueError, TypeError, RecursionError):
        raise checks.refused(f"Overrides.fields[{name!r}]", value, "a JSON value, or its JSON as bytes") from None


class RequestLine(msgspec.Struct, frozen=True, gc=False):
    """One request, ready to send.

    `line_number` is 1-based. `body` has the bytes that are sent, and `body_hash` is their `hash_body`.
    `derived`: the line is a bare body and its id was made from its content; the reader adds `-2`, `-3`, … to tell
    equal bodies apart. `endpoint`: the one of several endpoints that it names, beside its body.
    """

    line_number: int
    custom_id: str
    url: str
    body: bytes
    body_hash: str
    model: str
    stream: bool
    derived: bool
    max_output_tokens: int | None = None
    endpoint: str | None = None


class RequestFields(msgspec.Struct, gc=False):
    """The fields of a request line that batchrun looks at, in either of its two shapes."""

    custom_id: Any = UNSET
    method: Any = UNSET
    url: Any = UNSET
    endpoint: Any = None
    body: Raw | UnsetType = UNSET
    model: Any = None
    messages: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    stream: Any = None
    background: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    max_output_tokens: Any = None


class _OtherFields(RequestFields, gc=False):
    """The same and `input`, which is looked at only where the body may be a chat body: it costs 3 % of a check."""

    input: Raw | UnsetType = UNSET


_decode_other = msgspec.json.Decoder(_OtherFields).decode
_decode_line = msgspec.json.Decoder(RequestFields).decode
_decode_members = msgspec.json.Decoder(dict[str, Raw]).decode


def parse_request(raw: bytes, line_number: int, overrides: Overrides = Overrides()) -> RequestLine:
    """One line of a request file, without its newline, as a `RequestLine`.

    Raises `RequestLineError` if the line cannot be sent as it is.
    """
    return read_request(raw, overrides).line(line_number)


class Request(msgspec.Struct, gc=False):
    """A parsed request line: all that a check needs, and all that a `RequestLine` is made from.

    `given_id` is empty if the line is a bare body; its id is then derived from the bytes of the line. `endpoint`: the
    name that stands beside the body.
    """

    raw: bytes
    given_id: str
    url: str
    body: bytes
    fields: RequestFields
    endpoint: str | None = None

    @property
    def has_only_a_prompt(self) -> bool:
        """Whether the body has the `prompt` text of older APIs in place of what the endpoint reads.

        A `prompt` that is an object names a stored prompt of the Responses API.
        """
        prompt = self.fields.prompt
        if self.url == EMBEDDINGS or not isinstance(prompt, Raw) or bytes(prompt).startswith((b"{", b"null")):
            return False
        return not is_given(self.fields.messages) and not _has_input(self.fields, self.body)

    @property
    def custom_id(self) -> str:
        """The id that was given, or else one made from the content."""
        return self.given_id or "req-" + digest(_bare(self.raw))

    def line(self, line_number: int) -> RequestLine:
        """The line as it is sent."""
        fields, given_id = self.fields, self.given_id
        limit = None if fields.max_output_tokens is None else _count(fields.max_output_tokens)
        return RequestLine(  # positional arguments: keyword arguments take twice as long
            line_number,
            given_id or self.custom_id,
            self.url,
            self.body,
            hash_body(self.body),
            fields.model,
            fields.stream is True,
            not given_id,
            limit,
            self.endpoint,
        )


def read_request(raw: bytes, overrides: Overrides = Overrides()) -> Request:
    """One line of a request file, without its newline, checked.

    Raises `RequestLineError` if the line cannot be sent as it is.
    """
    try:
        if not raw.isascii():
            raw.decode()  # msgspec slices raw values without looking at their UTF-8
        line = _decode_line(raw)
        decode = _decode_line if line.url == RESPONSES else _decode_other
        fields = line if line.body is UNSET else decode(line.body)
    except REFUSED:
        raise _why_refused(raw) from None
    if len(raw) > MAX_LINE_BYTES or nests_deeper(raw, MAX_DEPTH):
        raise _why_refused(raw)
    if line.body is UNSET:
        if line.custom_id is not UNSET or line.method is not UNSET or line.url is not UNSET:
            raise RequestLineError('it has no "body"; write {"custom_id": …, "body": {"model": …, "input": …}}')
        given_id, named, body, endpoint = "", None, _bare(raw), None
    else:
        named = RESPONSES if line.method == "POST" and line.url == RESPONSES else _checked_url(line)
        given_id, body = _checked_id(line.custom_id), bytes(line.body)
        if (endpoint := line.endpoint) is not None and (type(endpoint) is not str or not endpoint):
            raise RequestLineError(f'"endpoint" is {_shown(endpoint)}; write the name of one, or take it out')
    if overrides.fields or overrides.stream is not None or (overrides.model is not None and fields.model is None):
        body, fields = _overridden(body, fields, overrides)
    url = named or overrides.url or RESPONSES
    if fields.messages is not UNSET or url == CHAT:
        url = _checked_api(named or overrides.url, body, fields, is_named=named is not None)
    if not (
        fields.model and type(fields.model) is str and fields.stream is fields.background is fields.conversation is None
    ):
        _check_fields(fields, url)
    return Request(raw, given_id, url, body, fields, endpoint)


def _bare(raw: bytes) -> bytes:
    return raw.strip(b" \t\r")


def _why_refused(raw: bytes) -> RequestLineError:
    """Find out, step by step, what is wrong with a line that could not be decoded."""
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
        byte = f"bad UTF-8 at byte {error.start + 1} (0x{raw[error.start]:02X}"
        before_ascii = raw[error.start + 1 : error.start + 2].isascii()
        windows = raw[error.start : error.start + 1].decode("cp1252", errors="ignore") if before_ascii else ""
        meant = f", in Windows-1252 {windows}" if windows.isprintable() and windows else ""
        return RequestLineError(f"{byte}{meant}); save the file as UTF-8")
    except msgspec.ValidationError as error:
        if not raw.lstrip().startswith(b"{"):
            return RequestLineError("not an object; write one JSON object a line, {…}")
        return RequestLineError(f"{str(error)[:80]}; write a number that fits")
    except msgspec.DecodeError as error:
        return RequestLineError(why_not_json(raw, str(error)))
    except RecursionError:
        return _too_deep()
    raise AssertionError("nothing is wrong with this line")


def _too_deep() -> RequestLineError:
    return RequestLineError(f"nested deeper than {MAX_DEPTH} levels; flatten it")


_SPELLING = re.compile(r"(?:/v[0-9]\w*)?(/responses|/chat/completions|/embeddings)")


def _checked_url(line: RequestFields) -> str | None:
    """The endpoint that a line names; None if it names none.

    Azure's Batch files say `/chat/completions`, Zhipu's `/v4/chat/completions`: the version is the base URL's.
    """
    if line.method is not UNSET and line.method != "POST":
        raise RequestLineError(f'"method" is {_shown(line.method)}; write "POST"')
    if line.url is UNSET or line.url in ENDPOINTS:
        return None if line.url is UNSET else str(line.url)
    spelling = _SPELLING.fullmatch(line.url) if isinstance(line.url, str) else None
    if spelling is None:
        raise RequestLineError(f'"url" is {_shown(line.url)}; write one of {", ".join(ENDPOINTS)}')
    return f"/v1{spelling[1]}"


def _checked_api(url: str | None, body: bytes, fields: RequestFields, *, is_named: bool) -> str:
    """Where a request goes: to `url` if there is one, and else to the endpoint that its body is for.

    Raises `RequestLineError` if its body is for another endpoint, and so cannot be answered.
    """
    has_input = _has_input(fields, body)
    if url == CHAT and not has_input:
        return url
    has_messages = is_given(fields.messages)
    url = url or (CHAT if has_messages and not has_input else RESPONSES)
    if url == CHAT and has_input:
        wrong, right, other, api = "input", "messages", RESPONSES, "responses"
    elif url == RESPONSES and has_messages and not has_input:
        wrong, right, other, api = "messages", "input", CHAT, "chat"
    else:
        return url
    instead = "take it out" if has_messages and has_input else f'write "{right}" in its place'
    or_else = f'"url": "{other}"' if is_named else f"pass --api {api}"
    raise RequestLineError(f'"{wrong}" is not for {url}; {instead}, or {or_else}')


def _has_input(fields: RequestFields, body: bytes) -> bool:
    if not isinstance(fields, _OtherFields):
        if b'"input"' not in body:
            return False
        fields = _decode_other(body)
    return is_given(fields.input)


def is_given(value: Raw | UnsetType) -> bool:
    """Whether a field is there and not null."""
    return isinstance(value, Raw) and (memoryview(value).nbytes != 4 or bytes(value) != b"null")


def _checked_id(custom_id: Any) -> str:
    if custom_id is UNSET:
        raise RequestLineError('it has a "body" but no "custom_id"; write "custom_id": "a unique name"')
    if not isinstance(custom_id, str) or not custom_id:
        shown = _shown(custom_id)
        instead = f'"{shown}"' if isinstance(custom_id, (int, float)) else '"a unique name"'
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
    """A value as it is written in the file, short enough for a message."""
    text = json.dumps(None if value is UNSET else value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "…"
