"""A kill at every point of a job that asks lines again: nothing that was kept is paid for twice, the bill is exact."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun import Endpoint, Gateway, GatewayOptions, Job, Limits, run_async
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.extras import Extra, ExtraReader
from batchrun.datasets.results import Results
from batchrun.errors import ResultFileError
from batchrun.estimate.measured import Finished
from batchrun.report.report import Report
from batchrun.report.verify import Verifier
from batchrun.requests.reader import RequestFile
from batchrun.results import journal, runlog
from batchrun.results.files import write_whole
from batchrun.results.scan import read_batches
from batchrun.simulator.ledger import Ledger
from tests.support import GatewayThread, Json, RunProcess, read_records, until, write_prices

SCHEMA: Json = {
    "type": "object",
    "properties": {"team": {"enum": ["a", "b"]}, "urgent": {"type": "boolean"}},
    "required": ["team", "urgent"],
    "additionalProperties": False,
}
LINES = 8
MISSING = GatewayOptions(mismatch_rate=0.7, mismatch_again_rate=0.5, keep_bodies=True)


def write(folder: Path, count: int) -> Path:
    path = folder / "requests.jsonl"
    wanted = {"format": {"type": "json_schema", "name": "label", "schema": SCHEMA}}
    bodies = [{"model": "gpt-4.1", "input": f"question {number}", "text": wanted} for number in range(1, count + 1)]
    lines = [{"custom_id": f"r-{number}", "body": body} for number, body in enumerate(bodies, 1)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def records_of(path: Path) -> list[Json]:
    """The whole lines of a file of JSON lines; a torn last one is none, unless it lacks its newline only."""
    found = []
    for line in path.read_bytes().split(b"\n") if path.exists() else []:
        with contextlib.suppress(ValueError):
            found.append(json.loads(line))
    return found


def kept(results: Path) -> dict[str, Json]:
    """The usage of each answer that the files hold, by the gateway's id of it."""
    found = [*records_of(results), *records_of(Path(f"{results}.tries"))]
    return {record["response"]["request_id"]: record["run"]["usage"] for record in found}


def tokens(usages: Any) -> tuple[int, int]:
    usages = list(usages)
    return sum(one["input_tokens"] for one in usages), sum(one["output_tokens"] for one in usages)


async def _run(folder: Path, gateway: Gateway) -> Report:
    job = Job(
        folder / "requests.jsonl",
        folder / "results.jsonl",
        Endpoint(gateway.base_url),
        limits=Limits(2),
        reask=2,
        max_reasks="off",
        prices=folder / "prices.json",
    )
    return (await run_async(job)).report


def run(folder: Path) -> tuple[Report, Gateway]:
    """A run to its end, with a gateway of its own."""

    async def go() -> tuple[Report, Gateway]:
        async with Gateway(MISSING) as gateway:
            return await _run(folder, gateway), gateway

    return asyncio.run(go())


@cache
def every_write() -> tuple[tuple[str, bytes], ...]:
    """What a whole job writes, in its order: the ending of the file's name, and the bytes."""
    written: list[tuple[str, bytes]] = []

    def note(file: IO[bytes], data: bytes) -> None:
        written.append((str(file.name).rpartition("results.jsonl")[2], bytes(data)))
        write_whole(file, data)

    with TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        write(folder, LINES)
        write_prices(folder)
        patch.setattr(journal, "write_whole", note)
        patch.setattr(runlog, "write_whole", note)
        run(folder)
    assert Counter(ending for ending, _ in written).keys() == {"", ".tries", ".log"}
    return tuple(written)


@dataclass
class Killed:
    """A job whose process died after so many of its writes, and after a part of the next one."""

    folder: Path

    @property
    def results(self) -> Path:
        return self.folder / "results.jsonl"

    def lay_down(self, writes: int, part: float) -> None:
        whole = every_write()
        write(self.folder, LINES)
        write_prices(self.folder)
        torn = whole[writes][1][: int(part * len(whole[writes][1]))] if writes < len(whole) else b""
        for ending, data in (*whole[:writes], *([(whole[writes][0], torn)] if torn else [])):
            with Path(f"{self.results}{ending}").open("ab") as file:
                file.write(data)

    def in_flight(self) -> set[int]:
        """The lines whose last request of the last run has left nothing, by the log and the two files."""
        asked: dict[int, int] = {}
        for event in records_of(Path(f"{self.results}.log")):
            if event["event"] == "start":
                asked.clear()
            elif event["event"] == "sent":
                asked[event["line"]] = event.get("ask", 1)
        done = {record["run"]["line"] for record in records_of(self.results)}
        tried = Counter(record["run"]["line"] for record in records_of(Path(f"{self.results}.tries")))
        return {line for line, ask in asked.items() if line not in done and tried[line] < ask}

    def check(self, earlier_in_flight: int = 0) -> None:
        """Go on, and look what was sent and what is on the bill. Earlier kills left so many requests in flight."""
        before = kept(self.results)
        done = {record["custom_id"] for record in records_of(self.results)}
        tried = Counter(record["custom_id"] for record in records_of(Path(f"{self.results}.tries")))
        in_flight = self.in_flight()
        report, gateway = run(self.folder)
        records = read_records(self.results)
        assert len(records) == LINES
        sent = [json.loads(row.body or b"") for row in gateway.ledger.rows]
        originals = [body["input"] for body in sent if isinstance(body["input"], str)]
        fresh = {f"r-{number}" for number in range(1, LINES + 1)} - done - set(tried)
        assert Counter(f"r-{text.split()[1]}" for text in originals) == Counter(fresh), "asked first, and once"
        again = Counter(body["input"][0]["content"].split()[1] for body in sent if not isinstance(body["input"], str))
        for record in records:
            custom_id, asks = record["custom_id"], len(record["run"].get("tries", [0]))
            expected = 0 if custom_id in done else asks - max(1, tried[custom_id])
            assert again[custom_id.removeprefix("r-")] == expected, "only what was not kept is asked again"
        billed = gateway.ledger.billed_usage()
        paid = tokens(before.values())
        expected_tokens = (paid[0] + billed.input_tokens, paid[1] + billed.output_tokens)
        assert (report.usage.input_tokens, report.usage.output_tokens) == expected_tokens
        assert tokens(kept(self.results).values()) == expected_tokens, "and every answer is kept"
        assert report.possibly_billed_twice is not None
        assert report.possibly_billed_twice.lines == earlier_in_flight + len(in_flight)


def test_a_kill_between_any_two_writes_pays_for_nothing_twice(tmp_path: Path) -> None:
    whole = every_write()
    assert [ending for ending, _ in whole].count(".tries") >= 4
    for writes in range(len(whole) + 1):
        killed = Killed(tmp_path / str(writes))
        killed.folder.mkdir()
        killed.lay_down(writes, 0.0)
        killed.check()


@settings(max_examples=40)
@given(st.data())
def test_a_kill_within_any_write_pays_for_nothing_twice(data: st.DataObject) -> None:
    writes = data.draw(st.integers(0, len(every_write()) - 1))
    with TemporaryDirectory() as name:
        killed = Killed(Path(name))
        killed.lay_down(writes, data.draw(st.floats(0.01, 0.99)))
        killed.check()


def test_a_run_that_stops_and_another_go_on_from_a_kill(tmp_path: Path) -> None:
    """What a run has taken up, and what it has left, is counted once by the next one."""
    whole = every_write()
    first = next(at for at, (ending, _) in enumerate(whole, 1) if ending == ".tries")
    killed = Killed(tmp_path)
    killed.lay_down(first, 0.0)
    in_flight = len(killed.in_flight())

    async def sends_one_line() -> Gateway:
        async with Gateway(MISSING) as gateway:
            job = Job(
                tmp_path / "requests.jsonl",
                killed.results,
                Endpoint(gateway.base_url),
                limits=Limits(1),
                reask=2,
                limit=1,
                prices=tmp_path / "prices.json",
            )
            await run_async(job)
            return gateway

    assert asyncio.run(sends_one_line()).ledger.requests
    killed.check(in_flight)


# ------------------------------------------------------------------------------------- disks that fail


@pytest.mark.parametrize("when", [1, 2, 4])
def test_a_full_disk_loses_no_earlier_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: int) -> None:
    """What RESULTS.tries has no room for goes into its rescue file, and the run stops before it asks again."""
    write(tmp_path, LINES)
    write_prices(tmp_path)
    calls: list[int] = []

    def fail(file: IO[bytes], data: bytes) -> None:
        if str(file.name).endswith("results.jsonl.tries"):
            calls.append(1)
            if len(calls) == when:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write_whole(file, data)

    with monkeypatch.context() as patch:
        patch.setattr(journal, "write_whole", fail)
        stopped, first = run(tmp_path)
    assert stopped.stopped is not None
    assert "results.jsonl.tries" in stopped.stopped
    assert (tmp_path / "results.jsonl.tries.rescue").exists()
    report, second = run(tmp_path)
    billed = [gateway.ledger.billed_usage() for gateway in (first, second)]
    assert report.usage.input_tokens == sum(usage.input_tokens for usage in billed)
    assert report.usage.output_tokens == sum(usage.output_tokens for usage in billed)
    assert tokens(kept(tmp_path / "results.jsonl").values())[0] == report.usage.input_tokens
    assert len(read_records(tmp_path / "results.jsonl")) == LINES


def test_a_file_of_tries_that_cannot_be_written_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    write(tmp_path, LINES)
    write_prices(tmp_path)
    (tmp_path / "results.jsonl.tries").mkdir()
    with pytest.raises(ResultFileError, match=r"results\.jsonl\.tries is not a regular file"):
        run(tmp_path)


def test_a_job_in_which_nothing_misses_leaves_no_file_of_tries(tmp_path: Path) -> None:
    write(tmp_path, LINES)
    write_prices(tmp_path)

    async def go() -> None:
        async with Gateway() as gateway:
            await _run(tmp_path, gateway)

    asyncio.run(go())
    assert not (tmp_path / "results.jsonl.tries").exists()


@pytest.mark.parametrize("damage", ["damaged", "deleted"])
def test_tries_that_are_gone_are_missed_by_verify_and_the_bill_has_them(tmp_path: Path, damage: str) -> None:
    write(tmp_path, LINES)
    write_prices(tmp_path)
    report, gateway = run(tmp_path)
    tries, results = tmp_path / "results.jsonl.tries", tmp_path / "results.jsonl"
    if damage == "deleted":
        lost = len(records_of(tries))
        tries.unlink()
    else:
        lines = tries.read_bytes().splitlines(keepends=True)
        tries.write_bytes(b"".join([*lines[:1], b"{}\n", *lines[2:]]))
        lost = 1
    with contextlib.closing(RequestFile(str(tmp_path / "requests.jsonl"))) as requests:
        found = Verifier(requests, results, PriceBook.load(tmp_path / "prices.json")).run()
    assert (found.lost_tries, found.is_complete) == (lost, False)
    assert f"lacks {lost} answer" in "".join(found.findings)
    assert found.usage.total_tokens == report.usage.total_tokens == gateway.ledger.billed_usage().total_tokens


def test_what_is_measured_and_joined_has_all_tries(tmp_path: Path) -> None:
    """`estimate` measures what a line cost with all its tries, and `join --with cost,tokens` says it."""
    write(tmp_path, LINES)
    prices = PriceBook.load(write_prices(tmp_path))
    report, _ = run(tmp_path)
    finished = Finished(prices)
    with (tmp_path / "results.jsonl").open("rb") as file:
        finished.add([head for heads, _ in read_batches(file, tmp_path / "results.jsonl") for head in heads])
    with contextlib.closing(RequestFile(str(tmp_path / "requests.jsonl"))) as requests:
        requests.check()
        for line in requests.requests():
            place = finished.find(line)
            assert place is not None
            finished.count(place, line)
    ((_, used),) = finished.used()
    assert sum(used.input_tokens) == report.usage.input_tokens
    assert sum(used.costs_usd) == pytest.approx(float(report.cost.total_usd))
    extras = ExtraReader([Extra.COST, Extra.TOKENS], prices)
    rows = [extras.values(result) for result in Results(tmp_path / "results.jsonl")]
    assert sum(row[0] for row in rows) == report.cost.total_usd
    assert sum(row[2] for row in rows) == report.usage.output_tokens


# -------------------------------------------------------------------------------------------- real kills


def _reached(ledger: Ledger, target: int, process: RunProcess) -> Callable[[], bool]:
    return lambda: ledger.requests >= target or process.process.poll() is not None


@pytest.mark.slow
def test_sigkill_eight_times(tmp_path: Path) -> None:
    """No answer that was kept is asked for again, and the bill is what the gateway billed for the answers kept."""
    count, draw = 120, random.Random(5)
    requests, results = write(tmp_path, count), tmp_path / "results.jsonl"
    options = GatewayOptions(
        mismatch_rate=0.5, mismatch_again_rate=0.3, latency_median_s=0.01, latency_p99_s=0.05, keep_bodies=True
    )
    words = ["--prices", str(write_prices(tmp_path)), "-c", "8", "--reask", "2", "--max-reasks", "off"]
    with GatewayThread(options) as gateway:
        ledger = gateway.ledger
        for _ in range(8):
            target = ledger.requests + draw.randint(1, 30)
            with RunProcess(gateway.base_url, requests, results, *words) as process:
                until(_reached(ledger, target, process))
                process.kill()
            until(lambda: ledger.in_flight == 0)
        with RunProcess(gateway.base_url, requests, results, *words) as process:
            assert process.wait(60) in (0, 1), process.screen
        rows = list(ledger.rows)
    report = json.loads(Path(f"{results}.report.json").read_text())
    found = kept(results)
    lost = len(rows) - len(found)
    in_flight = report["possibly_billed_twice"]["lines"]
    firsts = [body["input"] for row in rows if isinstance((body := json.loads(row.body or b"{}"))["input"], str)]
    repeated = len(firsts) - len(set(firsts))
    print(f"\n8 kills: {len(rows)} requests, {lost} lost, {in_flight} in flight, {repeated} first asks twice")
    assert len(read_records(results)) == count
    assert repeated <= lost <= in_flight
    usage = report["usage"]
    assert (usage["input_tokens"], usage["output_tokens"]) == tokens(found.values())
    assert report["tries"]["answers"] == len(found) - count
    assert not report["tries"]["open_answers"]
