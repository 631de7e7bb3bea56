"""Writes the records of lines that are not sent: each has the answer of an equal line, and says so in its `source`.

1. What is copied or reused is read whole from the result file that has it, and compared with the line: body, endpoint
   and, of a copy, the repeat.
2. Such a record costs nothing, and has no times: nothing was sent for it.
3. A line whose original has no record stays undone. After a kill, the next run finds what is written, and goes on.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import IO

from msgspec import Raw

from batchrun.engine.done import RunFacts
from batchrun.engine.stopping import Stopped
from batchrun.errors import StopError
from batchrun.job.plan import Reused, key_of_line
from batchrun.job.prepare import Prepared
from batchrun.records.index import LineSet
from batchrun.records.request import RequestLine
from batchrun.records.result import (
    VERSION,
    ResultHead,
    RunInfo,
    Source,
    encode_stored_all,
    parse_stored,
    parse_stored_all,
)
from batchrun.records.words import counted
from batchrun.requests.duplicates import key_of, repeat_of
from batchrun.requests.reader import RequestFile
from batchrun.results.answers import Answers
from batchrun.results.events import Recorded
from batchrun.results.scan import read_places, record_at
from batchrun.results.store import ResultStore
from batchrun.transport.yielding import yield_to_loop

_BATCH_LINES, _BATCH_BYTES = 256, 1 << 20
_YIELD_EVERY = 1024  # records that are looked at
_FAILED = 1  # the lowest bit of a place: the record is an error

Made = tuple[ResultHead, Raw]  # a record: its head and its response


class Copying:
    """Writes the records that a prepared job can have without a request. `recorded` counts them.

    `is_active`: it is at work. `stopped` says why it ended early, if it did.
    """

    def __init__(self, prepared: Prepared, store: ResultStore, facts: RunFacts) -> None:
        self.recorded = 0
        self.is_active = False
        self.stopped: Stopped | None = None
        self._plan = prepared.plan
        self._requests = prepared.requests
        self._tally = prepared.tally
        self._handout = prepared.handout
        self._store, self._written = store, prepared.store
        self._facts = facts
        self._start, self._elapsed_s = time.monotonic(), 0.0
        self._copied = LineSet()
        self._scanned = 0  # bytes of the records
        self._is_over = False

    def stop(self) -> None:
        """Write no more than what is being written."""
        self._is_over = True

    async def reuse(self) -> None:
        """Write the records of all lines whose answer another result file has."""
        plan, count = self._plan, len(self._plan.reused)
        if plan.answers is None or not count:
            return
        self.is_active = True
        try:
            for reused in plan.reused.batches():
                if not self._is_over:
                    await self._write(self._reused(plan.answers, reused))
        except StopError as error:
            self._end(error.exit_code, str(error))
        finally:
            self.is_active = False
        if not self._is_over and self.recorded < count:
            lost = counted(count - self.recorded, "answer")
            self._end(StopError.exit_code, f"{lost} to be reused changed while running; run the same command again")

    def _reused(self, answers: Answers, reused: Reused) -> list[Made]:
        """The records of lines that are reused, without those whose answer is not there any more."""
        made, run_of, source_of = list[Made](), self._run, answers.source
        found = parse_stored_all(answers.stored_all(reused.places))
        for stored, (number, place, path, body_hash, custom_id) in zip(found, reused.rows(), strict=True):
            if stored is None:
                continue
            run = stored.run
            if run.body_hash == body_hash and run.path == path and run.outcome == "succeeded":
                head = ResultHead(custom_id, run_of(number, run, source_of(place, run.line)), None)
                made.append((head, stored.response))
        return made

    async def copy_early(self) -> None:
        """Before anything is sent: write the record of each line whose original has one since an earlier run."""
        if self._plan.has_early_originals:
            await self.copy()
        elif self._plan.copies:
            with self._written.records() as records:
                self._scanned = records.seek(0, os.SEEK_END)

    async def copy(self) -> None:
        """Write the record of each line whose original has one by now."""
        if self._is_over or len(self._copied) == len(self._plan.copies):
            return
        self.is_active = True
        try:
            with self._written.records() as records, self._requests.again() as requests:
                if await self._find_originals(records):
                    await self._write_all(records, requests)
        except StopError as error:  # a full disk, a pipe whose reader is gone, a request file that has changed
            self._end(error.exit_code, str(error))
        finally:
            self.is_active = False

    def _end(self, exit_code: int, why: str) -> None:
        self.stopped = Stopped(why, exit_code)
        self.stop()

    async def _find_originals(self, records: IO[bytes]) -> bool:
        """Note the places of the records to copy from; False if none is new."""
        originals, is_any = self._plan.originals, False
        path = self._store.paths.results if self._store.paths is not None else Path("standard output")
        records.seek(self._scanned)
        for count, (head, offset) in enumerate(read_places(records, path, self._scanned)):
            if head is not None:
                key = key_of(head.custom_id, head.run.path, head.run.body_hash)
                known = originals.first(*key)
                if known is None or (known & _FAILED and head.error is None):
                    is_any = originals.put(*key, 2 * offset + _FAILED * (head.error is not None)) or is_any
            if count % _YIELD_EVERY == 0:
                await yield_to_loop()
        self._scanned = records.tell()
        return is_any

    async def _write_all(self, records: IO[bytes], requests: RequestFile) -> None:
        batch, size = list[Made](), 0
        for line in requests.requests(_Done(self._plan.copies, self._copied), self._plan.copies.lowest()):
            if (made := self._made(records, line)) is not None:
                batch.append(made)
                size += memoryview(made[1]).nbytes
            if len(batch) == _BATCH_LINES or size > _BATCH_BYTES:
                await self._write_copies(batch)
                batch, size = [], 0
            if self._is_over:
                return
        await self._write_copies(batch)

    def _made(self, records: IO[bytes], line: RequestLine) -> Made | None:
        """The record of a line; None if its original has none."""
        place = self._plan.originals.first(*key_of_line(line))
        if place is None:
            return None
        try:
            original, response = parse_stored(record_at(records, place // 2))
        except ValueError:
            return None
        run = original.run
        is_equal = (run.body_hash, run.path, run.requested_model) == (line.body_hash, line.url, line.model)
        if not is_equal or repeat_of(original.custom_id) != repeat_of(line.custom_id):
            return None
        of = run.source.line if run.source is not None and run.source.kind == "copied" else run.line
        head = ResultHead(line.custom_id, self._run(line.line_number, run, Source("copied", line=of)), original.error)
        return head, Raw(response)

    def _run(self, number: int, run: RunInfo, source: Source) -> RunInfo:
        """How a line was run for which nothing was sent, by how its answer was got."""
        facts = self._facts
        return RunInfo(  # the first fields by position: `structs.replace` takes ten times as long
            VERSION,
            number,
            facts.lines,
            run.body_hash,
            facts.started,
            self._elapsed_s,
            run.outcome,
            run.requested_model,
            run.path,
            run.gateway,
            0,
            retryable=run.retryable,
            model=run.model,
            usage=run.usage,
            endpoint=run.endpoint,
            source=source,
            schema_error=run.schema_error,
            gateway_cost_usd=run.gateway_cost_usd,
            service_tier=run.service_tier,
            fenced=run.fenced,
        )

    async def _write_copies(self, batch: list[Made]) -> None:
        await self._write(batch)
        for head, _ in batch:
            self._copied.add(head.run.line)

    async def _write(self, batch: list[Made]) -> None:
        """Write records; then, and only then, count them."""
        if not batch:
            return
        if self._handout is not None:
            await self._handout.room()
        await self._load_prices(batch[0][0].run.requested_model)
        heads = [head for head, _ in batch]
        records = encode_stored_all(heads, [response for _, response in batch])
        try:
            self._store.append(records)
        except StopError as error:
            del heads[error.written :]
            raise
        finally:
            self._tally.add(heads)
            self.recorded += len(heads)
        self._elapsed_s = round(time.monotonic() - self._start, 3)
        self._store.log.write(Recorded([head.run.line for head in heads], self._tally.cost_of_records_usd()))
        await yield_to_loop()

    async def _load_prices(self, model: str) -> None:
        """Load the price list, which takes half a second, in a thread of its own; once."""
        if not self.recorded:
            await asyncio.get_running_loop().run_in_executor(None, self._tally.book.price, model)


class _Done:
    """All line numbers but those of `copies` that are not in `copied`."""

    def __init__(self, copies: LineSet, copied: LineSet) -> None:
        self._copies, self._copied = copies, copied

    def __contains__(self, number: object) -> bool:
        return number not in self._copies or number in self._copied
