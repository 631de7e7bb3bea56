"""The answers of an OpenAI Batch, as records: its output lines, each with the body that its input line had.

An output line names its request by `custom_id` alone, so it is worth nothing without the input file.
"""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

import msgspec
from msgspec import Raw

from batchrun.errors import UsageError
from batchrun.records.index import hash64
from batchrun.records.numbers_by_hash import NumbersByHash
from batchrun.records.outcome import Reply
from batchrun.records.rawjson import REFUSED
from batchrun.records.request import RequestLine, RequestLineError, parse_request
from batchrun.records.result import VERSION, ResultHead, RunInfo, encode_result
from batchrun.results.scan import BATCH_BYTES, BUFFER_BYTES, record_at
from batchrun.transport.answer import HttpAnswer, read_answer

GATEWAY = "batch"  # of the records: a batch does not say who has run it


class _Response(msgspec.Struct, gc=False):
    status_code: int
    body: Raw
    request_id: str | None = None


class _Line(msgspec.Struct, gc=False):
    custom_id: str
    response: _Response | None = None
    error: Any = None


_decode = msgspec.json.Decoder(_Line).decode


def batch_records(requests: Path, answers: Path) -> IO[bytes]:
    """A temporary file with a record for each answer of a batch that succeeded, in the order of `answers`.

    The number of a record's line is that of its line in `answers`. Raises `UsageError` if a file cannot be read, or
    none of the answers is to one of the requests.
    """
    records = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        _write(records, requests, answers)
    except OSError as error:
        records.close()
        raise UsageError(f"cannot read {error.filename}: {error.strerror}; --reuse-batch takes two files") from error
    except BaseException:
        records.close()
        raise
    return records


def _write(records: IO[bytes], requests: Path, answers: Path) -> None:
    count = lines = 0
    started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with requests.open("rb", BUFFER_BYTES) as asked, answers.open("rb", BUFFER_BYTES) as answered:
        asked_of = _Asked(asked)
        for raw in answered:
            lines += 1
            if (record := _record(asked_of, raw, lines, started)) is not None:
                records.write(record)
                count += 1
    if lines and not count:
        raise UsageError(
            f"{answers} has no answer to a line of {requests}; --reuse-batch takes the input file of a batch, then its "
            "output file"
        )
    records.flush()


class _Asked:
    """The requests of a batch by their ids, in 20 bytes each."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._index = NumbersByHash()
        offset = 0
        while batch := file.readlines(BATCH_BYTES):
            for raw, start in zip(batch, accumulate(map(len, batch), initial=offset), strict=False):
                if (custom_id := _id_of(raw)) is not None:
                    self._index.add(*_key(custom_id), start)
            offset += sum(map(len, batch))
        self._index.index()

    def find(self, custom_id: str) -> RequestLine | None:
        """The request with an id; None if there is none that can be sent."""
        offset = self._index.first(*_key(custom_id))
        if offset is None:
            return None
        try:
            line = parse_request(record_at(self._file, offset).strip(b"\xef\xbb\xbf \t\r\n"), 1)
        except RequestLineError:
            return None
        return line if line.custom_id == custom_id else None


def _key(custom_id: str) -> tuple[int, int]:
    key = hash64(custom_id)
    return key, key >> 32


def _id_of(raw: bytes) -> str | None:
    try:
        return _decode(raw.removeprefix(b"\xef\xbb\xbf")).custom_id
    except REFUSED:
        return None


def _record(asked: _Asked, raw: bytes, number: int, started: str) -> bytes | None:
    """The record of an output line; None for one that is no success, or answers none of the requests."""
    try:
        line = _decode(raw)
    except REFUSED:
        return None
    response = line.response
    if response is None or line.error is not None or (request := asked.find(line.custom_id)) is None:
        return None
    reply = read_answer(HttpAnswer(response.status_code, {}, bytes(response.body), request.url))
    if not isinstance(reply, Reply) or reply.outcome != "succeeded":
        return None
    run = RunInfo(
        VERSION,
        number,
        number,
        request.body_hash,
        started,
        0.0,
        reply.outcome,
        request.model,
        request.url,
        GATEWAY,
        1,
        model=reply.model,
        usage=reply.usage,
        gateway_cost_usd=reply.gateway_cost_usd,
        service_tier=reply.service_tier,
    )
    return encode_result(ResultHead(line.custom_id, run), response.status_code, response.request_id, reply.body)
