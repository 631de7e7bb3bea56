"""Result lines: one line of the result file, encoded and parsed.

1. Pure: bytes in, values out; no I/O, no clock.
2. A record has `run` before `response`, so that a scan can stop before the payload.
3. A record names its version, and a reader refuses a version that it does not know.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from io import BytesIO
from typing import Annotated, Any, Literal, TypeVar

import msgspec
import orjson
from msgspec import Raw

from batchrun.records.index import digest
from batchrun.records.outcome import Outcome
from batchrun.records.rawjson import REFUSED
from batchrun.records.usage import Count, Usage


class ErrorInfo(msgspec.Struct, frozen=True, gc=False):
    """Why a line has no clean answer; `code` is the gateway's if it gave one."""

    code: str
    message: str


_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


VERSION: Literal[1] = 1


class UnknownVersionError(Exception):
    """A record of another version than this program's: this program does not know what it means.

    `found`: the version of the record; None if it has none.
    """

    def __init__(self, found: object) -> None:
        self.found = found
        super().__init__(f"record version {found!r}" if found is not None else "records without a version")


class Source(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Where an answer comes from if no request was sent for the line.

    `copied`: it is that of an equal line of the same file, number `line`. `reused`: it is that of line `line` in the
    result file `file`, of another job.
    """

    kind: Literal["reused", "copied"]
    file: str = ""
    line: Count = 0


class Try(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """One answer to a line that was asked more than once: what it cost, and why it was not taken.

    It came `elapsed_s` seconds after the start of the run `started`, and `model` gave it; at `endpoint`, if there are
    several.
    """

    usage: Usage | None = None
    schema_error: str | None = None
    model: str | None = None
    started: str = ""
    elapsed_s: float = 0.0
    service_tier: str | None = None
    gateway_cost_usd: Decimal | None = None
    endpoint: str | None = None


class RunInfo(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """How a line was run: everything that a resume and a report need, without the payload.

    `v` is the version of the record. `total_lines` counts the lines of the request file. `started` (UTC, to the
    millisecond) names the run; `elapsed_s` is the time of the record since then, by the monotonic clock.
    `requested_model` is the model of the request, `model` the one that answered. `path` is the endpoint that was
    asked (`/v1/responses`), `gateway` the host of the base URL. `gateway_cost_usd` is what the gateway says it charged,
    in US dollars. All times are in seconds. Each of the last seven fields is absent unless it says something.
    `tries` has all answers to a line that was asked more than once, the last one included, which the other fields
    describe. `fenced`: the JSON of the answer stands in a code fence.
    """

    v: Literal[1]
    line: Count
    total_lines: Count
    body_hash: str
    started: str
    elapsed_s: _Seconds
    outcome: Outcome
    requested_model: str
    path: str
    gateway: str
    attempts: Count
    throttles: Count = 0
    retryable: bool = False
    latency_s: _Seconds | None = None
    first_event_s: _Seconds | None = None
    first_text_s: _Seconds | None = None
    model: str | None = None
    usage: Usage | None = None
    endpoint: str | None = None
    source: Source | None = None
    tries: tuple[Try, ...] = ()
    schema_error: str | None = None
    gateway_cost_usd: Decimal | None = None
    service_tier: str | None = None
    fenced: bool = False

    @property
    def all_tries(self) -> tuple[Try, ...]:
        """All answers to the line, also where it was asked once."""
        return self.tries or (self.as_try(),)

    def as_try(self) -> Try:
        """The answer that this record has, as one of the tries of its line."""
        return Try(
            self.usage,
            self.schema_error,
            self.model,
            self.started,
            self.elapsed_s,
            self.service_tier,
            self.gateway_cost_usd,
            self.endpoint,
        )


class ResultHead(msgspec.Struct, frozen=True, gc=False):
    """A result line without its payload."""

    custom_id: str
    run: RunInfo
    error: ErrorInfo | None = None


def sum_of_tries(run: RunInfo) -> Usage | None:
    """The tokens of all answers to a line; None where none of them reports any."""
    usages = [one.usage for one in run.all_tries if one.usage is not None]
    return sum(usages[1:], usages[0]) if usages else None


def request_of(head: ResultHead) -> tuple[str, str]:
    """What a record answers: a line by its id, as it was then."""
    return head.custom_id, head.run.body_hash


class StoredRecord(ResultHead, frozen=True, gc=False, kw_only=True):
    """The shape that a stored line must have; decoding checks the JSON of the payload without building it."""

    id: str
    response: Raw
    error: ErrorInfo | None


class WholeRecord(ResultHead, frozen=True, gc=False, kw_only=True):
    """The same shape with its payload decoded: `response` is None, or has `status_code` and `body`."""

    id: str
    response: Any
    error: ErrorInfo | None


_Record = TypeVar("_Record", bound=ResultHead)
_HEX = b"0123456789abcdef"
_HASH_DIGITS = 32
_encode = msgspec.json.Encoder(decimal_format="number").encode
_decode_record = msgspec.json.Decoder(StoredRecord).decode
_decode_whole = msgspec.json.Decoder(WholeRecord).decode


@lru_cache(maxsize=64)
def _start_of_id(started: str) -> str:
    """How the ids of a run's records begin."""
    return f"batch_req_{digest(started.encode())[:8]}"


def encode_result(head: ResultHead, status: int | None, request_id: str | None, body: bytes | None) -> bytes:
    """One result line with its newline. `body` is JSON on one line. `status` and `body` are None without an answer."""
    run, error = head.run, b"null" if head.error is None else _encode(head.error)
    start = b'{"id":"%b%08x","custom_id":%b,"run":%b,"response":' % (
        _start_of_id(run.started).encode(),
        run.line,
        _encode(head.custom_id),
        _encode(run),
    )
    if status is None:
        return b'%bnull,"error":%b}\n' % (start, error)
    id_of_request = b"null" if request_id is None else _encode(request_id)
    return b'%b{"status_code":%d,"request_id":%b,"body":%b},"error":%b}\n' % (
        start,
        status,
        id_of_request,
        body or b"null",
        error,
    )


class _Line(msgspec.Struct, gc=False):
    """The members of a result line, in their order."""

    id: str
    custom_id: str
    run: RunInfo
    response: Raw
    error: ErrorInfo | None


_encode_lines = msgspec.json.Encoder(decimal_format="number").encode_lines


def encode_stored_all(heads: Sequence[ResultHead], responses: Sequence[Raw]) -> list[bytes]:
    """Many result lines with their newlines, whose `response` is that of a stored line."""
    start_of = _start_of_id
    lines = [
        _Line(f"{start_of(head.run.started)}{head.run.line:08x}", head.custom_id, head.run, response, head.error)
        for head, response in zip(heads, responses, strict=True)
    ]
    return BytesIO(_encode_lines(lines)).readlines()


def parse_result(raw: bytes) -> ResultHead:
    """One stored result line, without its newline.

    Raises `ValueError` if it is not a whole record, `UnknownVersionError` if it is a record of another version.
    """
    record = _decode_checked(raw)
    return ResultHead(record.custom_id, record.run, record.error)


def parse_results(lines: Sequence[bytes]) -> Sequence[ResultHead]:
    """Many stored result lines, faster than one by one. Raises `ValueError` if any is not a record of `VERSION`."""
    return _checked(lines, _decode_record)


def parse_payloads(lines: Sequence[bytes]) -> Sequence[WholeRecord]:
    """The same with their payloads. Raises `ValueError` for rare payloads, too, that only Python's own reader takes."""
    return _checked(lines, _decode_whole)


def _checked(lines: Sequence[bytes], decode: Callable[[bytes], _Record]) -> Sequence[_Record]:
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()
        records = list(map(decode, lines))
    except REFUSED as error:
        raise ValueError(str(error)) from None
    check_results(records)
    return records


def parse_whole(lines: Sequence[bytes]) -> Sequence[WholeRecord]:
    """Many stored result lines with their payloads, as a strict JSON reader takes them.

    Raises `ValueError` if any is not a record of `VERSION`, or strict readers refuse it.
    """
    try:
        records = list(map(_decode_whole, lines))
    except REFUSED as error:
        raise ValueError(str(error)) from None
    if _MARK.search(b"".join(lines)[::_EVERY]):
        for raw in lines:
            if len(raw) > _DIGITS and _MARK.search(raw[::_EVERY]):
                orjson.loads(raw)  # the decoder takes whole numbers of any size
    check_results(records)
    return records


# A number past every float has more than 300 digits, so three in a row of every hundredth byte are digits.
_DIGITS, _EVERY, _MARK = 300, 100, re.compile(rb"[0-9]{3}")


def check_results(records: Sequence[ResultHead]) -> None:
    """Raise `ValueError` if the start of any run is no time, or the hash of any body no hash."""
    for started in {record.run.started for record in records}:
        _check_started(started)
    hashes = [record.run.body_hash for record in records]
    if not {_HASH_DIGITS}.issuperset(map(len, hashes)) or "".join(hashes).encode().translate(None, _HEX):
        raise ValueError("one of them is not a body hash")


def parse_stored(raw: bytes) -> tuple[ResultHead, bytes]:
    """A stored result line as its head and its `response`, which is raw JSON (`null` if none came).

    Raises as `parse_result` does.
    """
    record = _decode_checked(raw)
    return ResultHead(record.custom_id, record.run, record.error), bytes(record.response)


def parse_stored_all(lines: Sequence[bytes]) -> Sequence[StoredRecord | None]:
    """Many stored result lines with their `response`; None for what is no record."""
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()
        records = list(map(_decode_record, lines))
        check_results(records)
    except REFUSED:
        if len(lines) == 1:
            return [None]
        return [stored for raw in lines for stored in parse_stored_all([raw])]
    return records


def _decode_checked(raw: bytes) -> StoredRecord:
    try:
        if not raw.isascii():
            raw.decode()  # msgspec slices raw values without looking at their UTF-8
        record = _decode_record(raw)
    except REFUSED as error:
        _check_version(raw)
        raise ValueError(str(error)) from None
    _check_started(record.run.started)
    body_hash = record.run.body_hash
    if len(body_hash) != _HASH_DIGITS or body_hash.encode().translate(None, _HEX):
        raise ValueError(f"{body_hash[:40]!r} is not a body hash")
    return record


_RUN, _OUR_VERSION = b',"run":{', f'"v":{VERSION},'.encode()


def names_this_version(torn: bytes) -> bool:
    """Whether the beginning of a record names this version, as far as it goes."""
    _, found, run = torn.partition(_RUN)
    return not found or run.startswith(_OUR_VERSION[: len(run)])


class _AnyVersion(msgspec.Struct):
    custom_id: str
    run: dict[str, Any]


_decode_any_version = msgspec.json.Decoder(_AnyVersion).decode


def _check_version(raw: bytes) -> None:
    """Raise `UnknownVersionError` if `raw` is a record of another version; anything else may be damage."""
    try:
        run = _decode_any_version(raw).run
    except REFUSED:
        return
    if "v" not in run:
        if {"line", "started", "outcome"} <= run.keys():  # as records had them before there were versions
            raise UnknownVersionError(None)
    elif type(run["v"]) is not int or run["v"] != VERSION:
        raise UnknownVersionError(run["v"])


@lru_cache(maxsize=64)  # all records of a run have the same start
def _check_started(started: str) -> None:
    if not re.fullmatch(r"20\d\d-.*Z", started):
        raise ValueError(f"{started[:40]!r} is not a UTC time of this century")
    datetime.fromisoformat(started)
