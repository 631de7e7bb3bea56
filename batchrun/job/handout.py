"""Hands out the results of a run while they come: `async for result in stream(job)`.

1. A result is handed out after its record has been written, never before: `HandingStore` stands around the store.
2. Where the consumer is slower than the gateway, no further line is read (`PacedSource`): at most `ROOM_RESULTS`
   results or `ROOM_BYTES` bytes wait, and those of the requests that are in flight by then.
3. All of it happens in the event loop of the run.
"""

from __future__ import annotations

import asyncio
import io
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from batchrun.engine.source import LineSource
from batchrun.errors import StopError
from batchrun.records.answer import Result, read_result
from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import EventLog
from batchrun.results.store import ResultStore

ROOM_RESULTS = 256
ROOM_BYTES = 16 << 20


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

    def again(self, numbers: LineSet) -> PacedSource:
        """These lines again."""
        return PacedSource(self._source.again(numbers), self._handout)


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

    def append_tries(self, records: Sequence[bytes]) -> None:
        """Write answers whose lines are asked again; they are not handed out."""
        self._store.append_tries(records)

    def remove(self, is_unwanted: Callable[[ResultHead], bool], *, to_quarantine: bool = False) -> int:
        """Remove records."""
        return self._store.remove(is_unwanted, to_quarantine=to_quarantine)

    def sync(self) -> None:
        """Make what was appended durable."""
        self._store.sync()

    def close(self) -> None:
        """Unlock and close."""
        self._store.close()
