"""SIGKILL at any moment, two runs at once: one record a line, and nothing lost but what was in flight."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun.results.last_run import LastRun
from batchrun.results.scan import read_results
from batchrun.simulator.answers import identify
from batchrun.simulator.options import GatewayOptions
from tests.support import GatewayThread, RunProcess, has_event, ids, read_records, until, write_prices, write_requests

pytestmark = pytest.mark.slow

CONCURRENCY = 8


class Killings:
    """A job that is killed again and again, and what each death may have cost."""

    def __init__(self, folder: Path, gateway: GatewayThread, lines: int, seed: int, *options: str) -> None:
        self.gateway = gateway
        self.lines = lines
        self.requests = write_requests(folder / "requests.jsonl", lines)
        self.results = folder / "results.jsonl"
        self.in_flight = 0
        self.cut_off = 0
        self._seen: set[str] = set()
        self._draw = random.Random(seed)
        self._options = ["--prices", str(write_prices(folder)), *options]

    def start(self) -> RunProcess:
        return RunProcess(self.gateway.base_url, self.requests, self.results, *self._options)

    def kill_one(self, most_requests: int) -> None:
        """Start a run and kill it at a random moment: at some request, or earlier than that."""
        if self._draw.random() < 0.2:  # while it starts, checks, or cuts off a torn tail
            self._kill_after(lambda: 0, self._draw.uniform(0, 0.6))
        else:
            self.kill_at(self._draw.randint(1, most_requests))

    def kill_at(self, count: int) -> None:
        """Start a run and kill it once it has sent that many requests."""
        ledger = self.gateway.ledger
        target = ledger.requests + count
        self._kill_after(lambda: ledger.requests < target, 0.0)

    def _kill_after(self, goes_on: Callable[[], object], delay_s: float) -> None:
        ledger = self.gateway.ledger
        with self.start() as run:
            until(lambda: not goes_on() or run.process.poll() is not None)
            time.sleep(delay_s)
            run.kill()
        until(lambda: ledger.in_flight == 0)
        self.in_flight += self._in_flight_at_death()
        assert self.lost <= self.in_flight + self.cut_off, "more was lost than was in flight"

    @property
    def lost(self) -> int:
        """Whole answers that the gateway has billed and delivered as they are, and that are not in the file."""
        whole = sum(row.billed is not None and row.outcome == "ok" for row in self.gateway.ledger.rows)
        return whole - (self.results.read_bytes().count(b"\n") if self.results.exists() else 0)

    def _in_flight_at_death(self) -> int:
        """By the log, before another run has seen it. A death before the first request leaves what was told before."""
        last = LastRun.read(Path(f"{self.results}.log"))
        if last is None or last.started in self._seen:
            return 0
        self._seen.add(last.started)
        for head in read_results(self.results):
            if head is not None:
                last.settle(head.run.started, head.run.line)
        assert len(last.sent) <= CONCURRENCY
        return len(last.sent)

    def cut_tail(self) -> None:
        """What a power cut may do on top: the end of the last record was never on the disk."""
        data = self.results.read_bytes() if self.results.exists() else b""
        if data:
            last = len(data) - data[:-1].rfind(b"\n") - 1
            os.truncate(self.results, len(data) - self._draw.randint(2, last))
            self.cut_off += 1

    def finish(self) -> dict[str, Any]:
        """Run to the end; returns the report."""
        with self.start() as run:
            assert run.wait(60) == 0, run.screen
        assert ids(self.results) == sorted(f"r-{number}" for number in range(1, self.lines + 1))
        report: dict[str, Any] = json.loads(Path(f"{self.results}.report.json").read_text())
        return report


def _killed(folder: Path, kills: int, seed: int) -> None:
    lines = 15 * kills
    options = GatewayOptions(latency_median_s=0.01, latency_p99_s=0.08)
    with GatewayThread(options) as gateway:
        job = Killings(folder, gateway, lines, seed, "-c", str(CONCURRENCY))
        for _ in range(kills):
            job.kill_one(most_requests=22)
        report = job.finish()
        assert gateway.ledger.billed_requests - lines == job.lost
    print(
        f"\n{kills} kills: {lines} lines, {job.lost} answers lost, {job.in_flight} in flight at the deaths, 0 doubled"
    )
    assert job.lost <= job.in_flight <= kills * CONCURRENCY
    assert report["possibly_billed_twice"]["lines"] == job.in_flight
    assert report["lines"]["succeeded"] == lines


def test_sigkill_twenty_times(tmp_path: Path) -> None:
    _killed(tmp_path, 20, seed=1)


@pytest.mark.long
def test_sigkill_two_hundred_times(tmp_path: Path) -> None:
    _killed(tmp_path, 200, seed=2)


def _killed_and_cut(folder: Path, kills: int, seed: int) -> None:
    with GatewayThread(GatewayOptions(latency_median_s=0.01)) as gateway:
        job = Killings(folder, gateway, 12 * kills, seed, "-c", str(CONCURRENCY))
        for _ in range(kills):
            job.kill_one(most_requests=22)
            job.cut_tail()
        job.finish()
    print(f"\n{kills} kills with torn tails: {job.lost} answers lost, {job.in_flight} in flight, {job.cut_off} cut off")
    assert job.lost <= job.in_flight + job.cut_off
    assert not Path(f"{job.results}.quarantine").exists(), "a torn tail is no damage"


@pytest.mark.smoke
def test_sigkill_and_a_torn_tail(tmp_path: Path) -> None:
    _killed_and_cut(tmp_path, 4, seed=3)


@pytest.mark.long
def test_sigkill_and_a_torn_tail_fifty_times(tmp_path: Path) -> None:
    _killed_and_cut(tmp_path, 50, seed=4)


@pytest.mark.smoke
def test_two_thousand_lines_with_faults_and_five_kills(tmp_path: Path) -> None:
    """The report equals what the gateway says it billed for the recorded lines, to the token and the cent."""
    options = GatewayOptions(fault_rate=0.1, latency_median_s=0.005, seed=7)
    with GatewayThread(options) as gateway:
        job = Killings(tmp_path, gateway, 2000, 5, "-c", str(CONCURRENCY))
        for _ in range(5):
            job.kill_at(300)
        report = job.finish()
        rows = list(gateway.ledger.rows)
    billed = {
        identify(7, bytes.fromhex(row.body_sha256), row.attempt).of("req"): row.billed
        for row in rows
        if row.billed is not None
    }
    usages = [billed[record["response"]["request_id"]] for record in read_records(job.results)]
    assert len(usages) == 2000
    total = {
        "input_tokens": sum(usage.input_tokens for usage in usages),
        "cached_tokens": sum(usage.cached_tokens for usage in usages),
        "output_tokens": sum(usage.output_tokens for usage in usages),
        "reasoning_tokens": sum(usage.reasoning_tokens for usage in usages),
        "total_tokens": sum(usage.total_tokens for usage in usages),
        "lines_without_usage": 0,
    }
    assert report["usage"] == total
    plain = total["input_tokens"] - total["cached_tokens"]
    cost = Decimal(2 * plain + 8 * total["output_tokens"]) + Decimal("0.5") * total["cached_tokens"]
    assert Decimal(str(report["cost"]["total_usd"])) == cost / 1_000_000
    assert {row.outcome for row in rows} > {"ok", "429", "500", "503", "reset", "cut"}
    assert job.lost <= job.in_flight == report["possibly_billed_twice"]["lines"]


# ------------------------------------------------------------------------------------------------ two runs


def _race(folder: Path, gateway: GatewayThread, by_link: bool) -> None:
    """Two runs of one job, started together: one sends, the other is refused with the first one's process id."""
    requests = write_requests(folder / "requests.jsonl", 3)
    results = folder / "results.jsonl"
    link = folder / "link.jsonl"
    link.symlink_to(results)
    before = gateway.ledger.requests
    with (
        RunProcess(gateway.base_url, requests, results) as one,
        RunProcess(gateway.base_url, requests, link if by_link else results) as other,
    ):
        until(lambda: one.process.poll() is not None or other.process.poll() is not None)
        until(lambda: gateway.ledger.requests >= before + 3)
        loser, winner = (one, other) if one.process.poll() is not None else (other, one)
        assert loser.wait() == 2
        assert f"is being written by another run (process {winner.pid}); wait for it" in loser.screen
        assert winner.process.poll() is None
    assert gateway.ledger.requests == before + 3


def _raced(folder: Path, times: int) -> None:
    with GatewayThread(GatewayOptions(latency_median_s=60)) as gateway:
        for number in range(times):
            (folder / str(number)).mkdir()
            _race(folder / str(number), gateway, by_link=number % 2 == 1)


def test_two_runs_at_once(tmp_path: Path) -> None:
    _raced(tmp_path, 3)


@pytest.mark.long
def test_two_runs_at_once_fifty_times(tmp_path: Path) -> None:
    _raced(tmp_path, 50)


def test_the_lock_goes_with_the_process(tmp_path: Path) -> None:
    """A killed run leaves nothing that would keep the next one out."""
    requests, results = write_requests(tmp_path / "requests.jsonl", 3), tmp_path / "results.jsonl"
    with GatewayThread(GatewayOptions(script="stall ok; stall ok; stall ok")) as gateway:
        with RunProcess(gateway.base_url, requests, results) as killed:
            until(lambda: has_event(results, "sent", 3))
            until(lambda: gateway.ledger.requests == 3)
        with RunProcess(gateway.base_url, requests, results) as again:
            assert again.wait() == 0
            assert killed.process.returncode == -9
            assert "3 lines in flight when the last run died; up to $" in again.screen
    assert len(ids(results)) == 3
