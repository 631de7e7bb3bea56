"""Hands out the results of a run while they come: `async for result in stream(job)`.

1. A result is handed out after its record has been written, never before: `HandingStore` stands around the store.
2. Where the consumer is slower than the gateway, no further line is read (`PacedSource`): at most `ROOM_RESULTS`
   results or `ROOM_BYTES` bytes wait, and those of the requests that are in flight by then.
3. All of it happens in the event loop of the run.
"""

from __future__ import annotations

import asyncio
import io
import json
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from batchrun.engine.source import LineSource
from batchrun.errors import StopError
from batchrun.records.rawjson import member
from batchrun.records.request import RequestLine
from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, parse_stored
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import EventLog
from batchrun.results.store import ResultStore

ROOM_RESULTS = 256
ROOM_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Result:
    """One line with its answer, or with its error.

    `custom_id`: the id of the request.
    `run`: how the line was run: its number (`run.line`, from 1), `run.outcome`, `run.usage`, `run.attempts`, …
    `error`: None for a clean answer; else its `code` and `message`.
    `body`: the response object of the gateway, parsed; None where no answer came.
    `record`: the bytes of its line in the result file, without the newline.
    """

    custom_id: str
    run: RunInfo
    error: ErrorInfo | None
    body: Any
    record: bytes

    @property
    def text(self) -> str | None:
        """The text of the answer (of a chat completion: of its first choice); None where there is none."""
        return text_of(self.body)


def read_result(record: bytes) -> Result:
    """A `Result` from its line in a result file, without the newline. Raises `ValueError` if it is not a record."""
    head, response = parse_stored(record)
    body = member(response, "body") if response.startswith(b"{") else b""
    return Result(head.custom_id, head.run, head.error, _parsed(body) if body else None, record)


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:  # Python's own reader takes more: halves of surrogate pairs, endless numbers
        return json.loads(body)


def text_of(body: Any) -> str | None:
    """The text in a response object or a chat completion; None where there is none."""
    if not isinstance(body, dict):
        return None
    choices = body.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        message = choices[0].get("message")
        text = message.get("content") if isinstance(message, dict) else None
        return text if isinstance(text, str) else None
    texts = [
        part["text"]
        for item in _objects(body.get("output"))
        if item.get("type") == "message"
        for part in _objects(item.get("content"))
        if part.get("type") == "output_text" and isinstance(part.get("text"), str)
    ]
    return "".join(texts) if texts else None


def _objects(values: Any) -> list[dict[str, Any]]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


class HandOut:
    """The results that are written and not yet taken."""

    def __init__(self) -> None:
        self._records: deque[bytes] = deque()
        self._size = 0
        self._has_some = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._is_over = False

    def put(self, records: Sequence[bytes]) -> None:
        """Add records that have been written, newlines included."""
        self._records.extend(records)
        self._size += sum(map(len, records))
        self._note()

    def close(self) -> None:
        """No further record will come."""
        self._is_over = True
        self._has_some.set()

    async def take(self) -> Result | None:
        """The next result; None once none is left and none will come."""
        while not self._records:
            if self._is_over:
                return None
            await self._has_some.wait()
        record = self._records.popleft()
        self._size -= len(record)
        self._note()
        return read_result(record.removesuffix(b"\n"))

    async def room(self) -> None:
        """Wait until fewer results wait to be taken than there is room for."""
        await self._has_room.wait()

    def _note(self) -> None:
        _set(self._has_some, bool(self._records) or self._is_over)
        _set(self._has_room, len(self._records) < ROOM_RESULTS and self._size < ROOM_BYTES)


def _set(event: asyncio.Event, is_so: bool) -> None:
    if is_so:
        event.set()
    else:
        event.clear()


class Nowhere(io.RawIOBase):
    """Where the results of a job go that has no result file: they are handed out, and that is all."""

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, data: Any) -> int:
        """Take the data, and keep none."""
        return len(data)


class PacedSource:
    """A source of lines that gives none while too many results wait to be taken."""

    def __init__(self, source: LineSource, handout: HandOut) -> None:
        self._source = source
        self._handout = handout

    async def next(self) -> RequestLine | None:
        """The next line, once there is room for its result."""
        await self._handout.room()
        return await self._source.next()

    def again(self, numbers: Sequence[Container[int]]) -> None:
        """Give these lines again."""
        self._source.again(numbers)


class HandingStore:
    """A store that hands out each record once it has been written."""

    def __init__(self, store: ResultStore, handout: HandOut) -> None:
        self._store = store
        self._handout = handout

    @property
    def paths(self) -> ResultPaths | None:
        """The paths of its files."""
        return self._store.paths

    @property
    def log(self) -> EventLog:
        """The log of its runs."""
        return self._store.log

    def heads(self) -> Iterator[Sequence[ResultHead]]:
        """The heads of all records."""
        return self._store.heads()

    def append(self, records: Sequence[bytes]) -> None:
        """Write records, then hand them out; where a write fails, those that were written."""
        try:
            self._store.append(records)
        except StopError as error:
            self._handout.put(records[: error.written])
            raise
        self._handout.put(records)

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Remove records."""
        return self._store.remove(is_unwanted, to_quarantine=to_quarantine)

    def sync(self) -> None:
        """Make what was appended durable."""
        self._store.sync()

    def close(self) -> None:
        """Unlock and close."""
        self._store.close()
