"""The one writer: what shares a write, what counts, and who may send."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from batchrun.billing.bounds import Bounds
from batchrun.billing.prices import Price
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.engine.done import Done, RunFacts
from batchrun.engine.spending import Spending
from batchrun.engine.writer import WRITE_BYTES, Writer
from batchrun.errors import BatchrunError, DiskError
from batchrun.records.outcome import Failure, Reply, Timing
from batchrun.records.request import RequestLine, parse_request
from batchrun.records.result import ResultHead
from batchrun.records.usage import Usage
from batchrun.results import files, journal
from batchrun.results.events import Event
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import RunLog
from batchrun.results.store import FileStore
from tests.asking import until
from tests.support import FailingFile, Faults, MemoryStore, read_records

NOTHING = Decimal(0)
USAGE = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "total_tokens")


def line(number: int) -> RequestLine:
    raw = json.dumps({"custom_id": f"r-{number}", "body": {"model": "m", "input": "x"}}).encode()
    return parse_request(raw, number)


def done(number: int, size: int = 20) -> Done:
    body = b'{"text":"%s"}' % (b"x" * size)
    return Done(line(number), Reply(200, body, None, "succeeded", "m", None), 1, 0)


class Desk:
    """A writer with a real run log. `stopped` is what it was told to stop for."""

    def __init__(self, folder: Path, store: MemoryStore | FileStore | None = None) -> None:
        self.store = store or MemoryStore()
        if isinstance(self.store, FileStore):
            self.log = self.store.log
        else:
            self.log = self.store.log = RunLog(folder / "results.jsonl.log")
        self.tally = Tally(PriceBook())
        self.stopped: list[str] = []
        self.writer = Writer(
            self.store,
            RunFacts("2026-01-01T00:00:00.000Z", 100, "gateway.example"),
            self.tally,
            Spending(Bounds(PriceBook())),
            None,
            self._stop,
        )

    @property
    def writes(self) -> list[list[bytes]]:
        assert isinstance(self.store, MemoryStore)
        return self.store.writes

    def _stop(self, error: BatchrunError) -> None:
        self.stopped.append(str(error))
        self.writer.close()

    def logged(self, event: str) -> list[int]:
        events = [json.loads(raw) for raw in self.log.path.read_bytes().splitlines()]
        return [one["line"] for one in events if one["event"] == event]

    async def __aenter__(self) -> Desk:
        self._running = asyncio.create_task(self.writer.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._running.cancel()
        self.log.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


async def turns() -> None:
    for _ in range(6):
        await asyncio.sleep(0)


async def test_what_is_ready_shares_a_write_and_counts_after_it(folder: Path) -> None:
    async with Desk(folder) as desk:
        for number in range(1, 6):
            desk.writer.record(done(number))
        assert (desk.writer.recorded, desk.tally.recorded) == (0, 0)
        await turns()
        assert [len(write) for write in desk.writes] == [5]
        assert desk.writer.recorded == 5


async def test_the_bill_follows_once_the_price_list_is_there_and_holds_nobody_up(folder: Path) -> None:
    has_list = threading.Event()

    class SlowBook(PriceBook):
        def price(self, model: str, when: datetime | None = None) -> Price | None:
            has_list.wait(10)
            return super().price(model, when)

    async with Desk(folder) as desk:
        desk.tally.book = SlowBook()
        desk.writer.record(done(1))
        await turns()
        desk.writer.record(done(2))
        assert await desk.writer.may_send(line(3), 1, NOTHING)
        assert (desk.writer.recorded, desk.tally.recorded) == (2, 0)
        assert desk.writer.newly_recorded() == [], "the run log names no record whose cost it cannot give"
        has_list.set()
        await until(lambda: desk.writer.newly_recorded() == [1, 2])
        assert desk.tally.recorded == 2


async def test_the_records_of_many_writes_are_added_up_together(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Desk(folder) as desk:
        add, added = desk.tally.add, list[int]()

        def counting(heads: Sequence[ResultHead]) -> None:
            added.append(len(heads))
            add(heads)

        monkeypatch.setattr(desk.tally, "add", counting)
        for number in range(1, 6):
            desk.writer.record(done(number))
            await turns()
        assert len(desk.writes) == 5
        await until(lambda: desk.writer.newly_recorded() == [1, 2, 3, 4, 5])
        assert [count for count in added if count] == [5]


async def test_a_record_says_which_service_tier_was_served_where_the_gateway_says_it(folder: Path) -> None:
    async with Desk(folder) as desk:
        for number, tier in enumerate(("flex", None), 1):
            reply = Reply(200, b"{}", None, "succeeded", "m", None, service_tier=tier)
            desk.writer.record(Done(line(number), reply, 1, 0))
        desk.writer.record(Done(line(3), Failure("invalid_prompt", "no", 400), 1, 0))
        await turns()
        runs = [json.loads(record)["run"] for write in desk.writes for record in write]
        assert [run.get("service_tier", "absent") for run in runs] == ["flex", "absent", "absent"]


async def test_every_field_of_a_record_stands_in_its_place(folder: Path) -> None:
    timing = Timing(1.23456, 0.25004, 0.999951)
    usage = Usage(7, 1, 5, 2, 12)
    reply = Reply(200, b'{"x":1}', "req_1", "refused", "m-2", usage, timing=timing, service_tier="flex")
    reply.schema_error = "$.x is no string"
    async with Desk(folder) as desk:
        desk.writer.record(Done(line(1), reply, 3, 2))
        desk.writer.record(Done(line(2), Failure("http_503", "busy", 503, timing=Timing(0.00004)), 6, 0))
        await turns()
        answered, failed = [json.loads(record) for write in desk.writes for record in write]
    elapsed_s = answered["run"].pop("elapsed_s")
    assert elapsed_s == failed["run"].pop("elapsed_s") == round(elapsed_s, 3)
    both = {"v": 1, "total_lines": 100, "started": "2026-01-01T00:00:00.000Z", "requested_model": "m"}
    both |= {"path": "/v1/responses", "gateway": "gateway.example"}
    assert answered == {
        "id": answered["id"],
        "custom_id": "r-1",
        "run": both
        | {
            "line": 1,
            "body_hash": line(1).body_hash,
            "outcome": "refused",
            "attempts": 3,
            "throttles": 2,
            "latency_s": 1.2346,
            "first_event_s": 0.25,
            "first_text_s": 1.0,
            "model": "m-2",
            "usage": {name: getattr(usage, name) for name in USAGE},
            "schema_error": "$.x is no string",
            "service_tier": "flex",
        },
        "response": {"status_code": 200, "request_id": "req_1", "body": {"x": 1}},
        "error": None,
    }
    assert failed["run"] == both | {
        "line": 2,
        "body_hash": line(2).body_hash,
        "outcome": "failed",
        "attempts": 6,
        "retryable": True,
        "latency_s": 0.0,
    }
    assert (failed["response"], failed["error"]) == (
        {"status_code": 503, "request_id": None, "body": None},
        {"code": "http_503", "message": "busy"},
    )


async def test_large_answers_are_not_held_twice_all_at_once(folder: Path) -> None:
    async with Desk(folder) as desk:
        for number in range(1, 6):
            desk.writer.record(done(number, WRITE_BYTES // 2))
        await turns()
        assert [len(write) for write in desk.writes] == [2, 2, 1]


async def test_what_is_left_at_the_end_is_written(folder: Path) -> None:
    desk = Desk(folder)
    desk.writer.record(done(1))
    desk.writer.record(done(2, 2 * WRITE_BYTES))
    desk.writer.record(done(3))
    desk.writer.finish()
    assert desk.writer.recorded == 3
    desk.log.close()


async def test_attempts_that_are_ready_are_logged_with_one_write_before_any_may_go(folder: Path) -> None:
    async with Desk(folder) as desk:
        writes = list[tuple[Event, ...]]()
        write = desk.log.write

        def noted(*events: Event) -> None:
            writes.append(events)
            write(*events)

        desk.log.write = noted  # type: ignore[method-assign]
        waiting = [asyncio.create_task(desk.writer.may_send(line(number), 1, NOTHING)) for number in (1, 2, 3)]
        assert await asyncio.gather(*waiting) == [True, True, True]
        assert [len(events) for events in writes] == [3]
        assert desk.logged("sent") == [1, 2, 3]
        assert sorted(desk.writer.unanswered) == [1, 2, 3]


async def test_who_is_cancelled_while_it_waits_is_not_said_to_have_sent(folder: Path) -> None:
    async with Desk(folder) as desk:
        waiting = [asyncio.create_task(desk.writer.may_send(line(number), 1, NOTHING)) for number in (1, 2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        assert await waiting[1]
        assert desk.logged("sent") == [2]
        assert sorted(desk.writer.unanswered) == [2]


@pytest.mark.parametrize("how", ["cancelled", "stopped"])
async def test_who_is_let_through_and_sends_nothing_after_all_takes_it_back(folder: Path, how: str) -> None:
    async with Desk(folder) as desk:
        waiting = asyncio.create_task(desk.writer.may_send(line(1), 1, NOTHING))
        while not desk.logged("sent"):
            assert not waiting.done()
            await asyncio.sleep(0)
        waiting.cancel() if how == "cancelled" else desk.writer.close()
        (outcome,) = await asyncio.gather(waiting, return_exceptions=True)
        assert outcome is not True
        assert (desk.logged("ended"), desk.writer.unanswered) == ([1], {})


async def test_a_log_that_cannot_be_written_lets_nobody_through(folder: Path) -> None:
    async with Desk(folder) as desk:
        desk.log._file = FailingFile(desk.log._file, Faults("ENOSPC", 1))  # type: ignore[assignment]
        waiting = [asyncio.create_task(desk.writer.may_send(line(number), 1, NOTHING)) for number in (1, 2)]
        assert await asyncio.gather(*waiting) == [False, False]
        assert len(desk.stopped) == 1
        assert (desk.logged("sent"), desk.writer.unanswered) == ([], {})


async def test_a_record_that_cannot_be_written_lets_nobody_through(folder: Path) -> None:
    class Full(MemoryStore):
        def append(self, records: Sequence[bytes]) -> None:
            raise DiskError("full")

    async with Desk(folder, Full()) as desk:
        waiting = asyncio.create_task(desk.writer.may_send(line(2), 1, NOTHING))
        await asyncio.sleep(0)
        desk.writer.record(done(1))
        assert not await waiting
        assert (desk.stopped, desk.logged("sent"), desk.writer.recorded) == (["full"], [], 0)


async def test_of_records_that_do_not_fit_together_those_that_fit_are_kept_and_counted(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults, open_locked = Faults("ENOSPC", 2), files.open_locked
    monkeypatch.setattr(journal, "open_locked", lambda path: FailingFile(open_locked(path), faults))
    with contextlib.closing(FileStore(ResultPaths.of(folder / "results.jsonl"))) as store:
        async with Desk(folder, store) as desk:
            desk.writer.record(done(1))
            await turns()
            for number in (2, 3, 4):
                desk.writer.record(done(number))
            await turns()
            assert "No space left" in desk.stopped[0]
            assert desk.writer.recorded == len(read_records(store.paths.results)) == 4


async def test_a_failed_attempt_is_answered(folder: Path) -> None:
    async with Desk(folder) as desk:
        assert await desk.writer.may_send(line(1), 1, NOTHING)
        desk.writer.ended(line(1), Failure("server_error", "later", 500))
        assert (desk.logged("ended"), desk.writer.unanswered) == ([1], {})
