"""`RESULTS.tries`: answers that were asked about again, each a record like those of the result file.

1. An answer is in this file before its line is asked again. So a kill loses what is in flight, and no more.
2. The file is a journal like the result file: locked, recovered, appended to; `journal.py` says what that promises.
3. Each record names all tries of its line so far. The record in the result file has them all, and its own.
4. A try is *open* while the result file has no record of the same request: the next run goes on from there. A record
   that was copied from elsewhere is none: it does not have the line's own tries.
5. Where a record is removed because its line is sent anew, its tries are removed before it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import orjson

from batchrun.records.index import HashTable, hash64
from batchrun.records.outcome import Reply, Timing
from batchrun.records.rawjson import member
from batchrun.records.result import ResultHead, Try, parse_stored, request_of
from batchrun.results.files import no_link
from batchrun.results.journal import Journal
from batchrun.results.paths import ResultPaths
from batchrun.results.scan import BUFFER_BYTES, read_places


class OpenTry(NamedTuple):
    """The last answer to a request that has no record. `tries`: all answers to it; `attempts`: but for their first."""

    head: ResultHead
    reply: Reply
    tries: tuple[Try, ...]
    attempts: int


class OpenTries:
    """The open tries of a result file, by their requests."""

    def __init__(self, found: Mapping[tuple[str, str], OpenTry] | None = None) -> None:
        self._found = dict(found or {})

    def __len__(self) -> int:
        return len(self._found)

    def heads(self) -> list[ResultHead]:
        """Their heads, of each request the last one."""
        return [one.head for one in self._found.values()]

    def take(self, custom_id: str, body_hash: str) -> OpenTry | None:
        """Take out what there is of one request."""
        return self._found.pop((custom_id, body_hash), None)


class TriesReader:
    """Finds the open tries of `path`, in some 100 bytes a try: `settle` all records of the result file, then `open`.

    `note` is called with the heads of all tries. `settled_count`: how many of the earlier answers that records name are
    there.
    """

    def __init__(self, path: Path, note: Callable[[ResultHead], None] = lambda head: None) -> None:
        self._path = path
        self._last = HashTable()  # by the request, where the last of its tries begins, in bytes
        self._settled = HashTable()
        self._counts = HashTable()  # by the request, how many tries it has
        self.count = self.settled_count = 0
        for head, start in _places(path):
            self.count += 1
            key = _key(head)
            self._last.set(key, start)
            self._counts.set(key, (self._counts.get(key) or 0) + 1)
            note(head)

    def settle(self, heads: Sequence[ResultHead]) -> None:
        """The result file has these records."""
        for head in heads if self.count else ():
            if head.run.source is None and self._last.get(key := _key(head)) is not None:
                if self._settled.get(key) is None:
                    self.settled_count += min(self._counts.get(key) or 0, len(head.run.all_tries) - 1)
                self._settled.set(key, 1)

    def open(self) -> OpenTries:
        """The open tries."""
        found: dict[tuple[str, str], OpenTry] = {}
        if len(self._settled) == len(self._last):
            return OpenTries()
        with open(self._path, "rb", opener=no_link) as file:
            for head, start in _places(self._path):
                key = _key(head)
                if self._settled.get(key) is None and self._last.get(key) == start:
                    file.seek(start)
                    found[request_of(head)] = _open_try(file.readline().removesuffix(b"\n"))
        return OpenTries(found)


def open_tries(results: ResultPaths, note: Callable[[ResultHead], None] = lambda head: None) -> TriesReader | None:
    """The reader of what a result file has beside it, which is left as it is; None where no line was asked again.

    Raises `ResultFileError` if a record has another version, `OSError` if the file cannot be read.
    """
    return TriesReader(results.tries, note) if results.tries.exists() else None


class TriesFile:
    """The `RESULTS.tries` of a run; it is opened once it is needed."""

    def __init__(self, paths: ResultPaths) -> None:
        self._paths = ResultPaths(paths.tries, paths.locks)
        self._journal: Journal | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is such a file, or one with answers that could not be written to it."""
        # of a name that is too long there is none: os.path says so, where pathlib raises
        return any(map(os.path.exists, (self._paths.results, self._paths.rescue)))

    def reader(self, note: Callable[[ResultHead], None]) -> TriesReader:
        """Repair the file, and find what is open in it. Raises `ResultFileError` or `DiskError`."""
        for _ in self._opened().batches():
            pass
        return TriesReader(self._paths.results, note)

    def begin(self) -> None:
        """Open the file to write. Raises `ResultFileError` if it cannot be written."""
        self._opened()

    def append(self, records: Sequence[bytes]) -> None:
        """Write records; see `Journal.append`."""
        self._opened().append(records)

    def remove(self, is_unwanted: Callable[[ResultHead], bool]) -> None:
        """Rewrite the file without some records; see `Journal.remove`."""
        self._opened().remove(is_unwanted)

    def clear(self) -> None:
        """Discard all of it."""
        if self.is_there:
            self._opened().clear()
            self.close()
            self._paths.results.unlink(missing_ok=True)
            self._journal = None

    def sync(self) -> None:
        """Make records durable; see `Journal.sync`."""
        if self._journal is not None:
            self._journal.sync()

    def close(self) -> None:
        """Unlock and close; remove the file if it is empty."""
        if self._journal is not None:
            self._journal.close(forget=True)

    def _opened(self) -> Journal:
        if self._journal is None:
            self._journal = Journal(self._paths)
        return self._journal


def _places(path: Path) -> Iterator[tuple[ResultHead, int]]:
    """The records of a file of tries, and where each begins; none where there is no file."""
    try:
        file = open(path, "rb", buffering=BUFFER_BYTES, opener=no_link)  # noqa: SIM115
    except FileNotFoundError:
        return
    with file:
        for head, start in read_places(file, path):
            if head is not None:
                yield head, start


def _key(head: ResultHead) -> int:
    return hash64("".join(request_of(head)))


def _open_try(record: bytes) -> OpenTry:
    """A try from its line in the file."""
    head, response = parse_stored(record)
    run, status = head.run, member(response, "status_code")
    told = member(response, "request_id")
    request_id = orjson.loads(told) if told else None
    reply = Reply(
        int(status or b"200"),
        member(response, "body"),
        request_id if isinstance(request_id, str) else None,
        "invalid",
        run.model,
        run.usage,
        head.error.code if head.error is not None else None,
        head.error.message if head.error is not None else "",
        Timing(run.latency_s or 0.0, run.first_event_s, run.first_text_s),
        service_tier=run.service_tier,
        gateway_cost_usd=run.gateway_cost_usd,
        schema_error=run.schema_error,
    )
    return OpenTry(head, reply, run.all_tries, max(0, run.attempts - 1))
