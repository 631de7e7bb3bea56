"""A run log that is gone: it is said, and what earlier runs may have cost at worst counts as spent."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path

import pytest

import batchrun
from batchrun import Endpoint, Job
from batchrun.billing.pricing import PriceBook
from batchrun.limits.options import Concurrency, Limits
from batchrun.records.request import parse_request
from batchrun.report.rebuild import rebuild
from batchrun.simulator.options import GatewayOptions
from tests.engine.test_spending import Listening
from tests.support import events, write_prices, write_requests


def bound_usd(requests: Path, line: int) -> Decimal:
    """The most that a line of `write_requests` costs."""
    request = parse_request(requests.read_bytes().splitlines()[line - 1], line)
    return (Decimal(2) * len(request.body) + 8 * 5000) / 1_000_000


@pytest.fixture
def begun(tmp_path: Path) -> Job:
    """A job of ten lines, of which three are recorded and the run log is gone."""
    write_requests(tmp_path / "requests.jsonl", 10)
    job = Job(
        str(tmp_path / "requests.jsonl"),
        tmp_path / "results.jsonl",
        Endpoint("http://127.0.0.1"),
        limits=Limits(Concurrency(4, 4)),
        prices=write_prices(tmp_path),
        simulate=GatewayOptions(),
        limit=3,
    )
    batchrun.run(job)
    Path(f"{job.results}.log").unlink()
    return job


def results_of(job: Job) -> Path:
    return Path(str(job.results))


def test_the_worst_case_is_told_and_counted_once(begun: Job, tmp_path: Path) -> None:
    """As many lines as were allowed in flight, the dearest; further runs and the report have the same amount."""
    requests = tmp_path / "requests.jsonl"
    expected = sum(sorted(bound_usd(requests, line) for line in range(4, 11))[-4:], Decimal(0))
    observer = Listening()
    first = batchrun.run(begun, observer).report
    assert "results.jsonl.log of earlier runs is gone; at worst 4 lines without a record" in "\n".join(observer.notices)
    assert first.possibly_billed_twice is not None
    assert (first.possibly_billed_twice.lines, first.possibly_billed_twice.upper_usd) == (4, expected)
    again = batchrun.run(begun).report
    assert again.possibly_billed_twice == first.possibly_billed_twice
    assert rebuild(results_of(begun), PriceBook.load(Path(str(begun.prices)))).report.possibly_billed_twice == (
        first.possibly_billed_twice
    )
    starts = [event.get("without_log", []) for event in events(results_of(begun)) if event["event"] == "start"]
    assert [len(without) for without in starts] == [1, 0]


def test_fewer_lines_than_may_be_in_flight_are_all_of_them(begun: Job) -> None:
    ended = batchrun.run(dataclasses.replace(begun, limits=Limits(Concurrency(1, 500))))
    assert ended.report.possibly_billed_twice is not None
    assert ended.report.possibly_billed_twice.lines == 7


def test_it_counts_against_the_cap(begun: Job, tmp_path: Path) -> None:
    requests = tmp_path / "requests.jsonl"
    lost = 4 * bound_usd(requests, 4)
    capped = dataclasses.replace(begun, limit=None, max_cost_usd=lost)
    ended = batchrun.run(capped)
    assert ended.exit_code == 3
    assert ended.report.attempts == 3, "nothing more is sent"


def test_further_attempts_of_recorded_lines_may_have_been_billed(begun: Job, tmp_path: Path) -> None:
    results = results_of(begun)
    records = [json.loads(line) for line in results.read_text().splitlines()]
    records[0]["run"] |= {"attempts": 4, "throttles": 1}
    results.write_text("".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records))
    report = batchrun.run(begun).report
    assert report.unbilled_usd == 2 * bound_usd(tmp_path / "requests.jsonl", records[0]["run"]["line"])


def test_a_log_that_is_there_has_no_worst_case(tmp_path: Path) -> None:
    write_requests(tmp_path / "requests.jsonl", 6)
    job = Job(
        str(tmp_path / "requests.jsonl"),
        tmp_path / "results.jsonl",
        Endpoint("http://127.0.0.1"),
        prices=write_prices(tmp_path),
        simulate=GatewayOptions(),
        limit=2,
    )
    for _ in range(3):
        report = batchrun.run(job).report
        assert report.possibly_billed_twice is not None
        assert report.possibly_billed_twice.lines == 0
