"""A result file, or records of it, that are gone while the run log is there: told, and the money stays counted."""

from __future__ import annotations

import dataclasses
import json
from decimal import Decimal
from pathlib import Path

import pytest

import batchrun
from batchrun import Endpoint, Job
from batchrun.billing.pricing import PriceBook
from batchrun.records.money import usd
from batchrun.report.rebuild import rebuild
from batchrun.report.report import Report
from batchrun.simulator.options import GatewayOptions
from tests.engine.test_spending import Listening
from tests.support import GatewayThread, RunProcess, has_event, until, write_prices, write_requests

LINES = 10


@pytest.fixture
def job(tmp_path: Path) -> Job:
    write_requests(tmp_path / "requests.jsonl", LINES)
    return Job(
        str(tmp_path / "requests.jsonl"),
        tmp_path / "results.jsonl",
        Endpoint("http://127.0.0.1"),
        prices=write_prices(tmp_path),
        simulate=GatewayOptions(),
    )


def results_of(job: Job) -> Path:
    return Path(str(job.results))


def keep(job: Job, count: int) -> None:
    """Remove all records but the first ones, as somebody may with an editor."""
    lines = results_of(job).read_text().splitlines(keepends=True)
    results_of(job).write_text("".join(lines[:count]))


def run(job: Job) -> tuple[Report, str]:
    observer = Listening()
    return batchrun.run(job, observer).report, "\n".join(observer.notices)


def spent_usd(report: Report) -> Decimal:
    assert report.unbilled_usd is not None
    return report.cost.total_usd + report.unbilled_usd


def rebuilt(job: Job) -> Report:
    return rebuild(results_of(job), PriceBook.load(Path(str(job.prices)))).report


@pytest.mark.parametrize("runs", [1, 2])
def test_a_result_file_that_is_gone_is_told_and_its_cost_counted_to_the_digit(job: Job, runs: int) -> None:
    for number in range(runs):
        first, _ = run(dataclasses.replace(job, limit=4 + number))
    results_of(job).unlink()
    second, notices = run(dataclasses.replace(job, limit=3))
    count = 4 if runs == 1 else 9
    lost = f"WARNING: results.jsonl has lost {count} records of earlier runs; the cost of ${usd(first.cost.total_usd)}"
    assert f"{lost} stays counted as spent; remove results.jsonl.log, too, to begin anew" in notices
    assert second.unbilled_usd == first.cost.total_usd > 0
    assert second.cost.total_usd > 0
    assert rebuilt(job).unbilled_usd == second.unbilled_usd
    third, notices = run(job)
    assert (third.unbilled_usd, "WARNING" in notices) == (second.unbilled_usd, False), "counted once, and told once"


def test_records_that_are_gone_are_counted_alone(job: Job) -> None:
    first, _ = run(job)
    keep(job, 7)
    partly = rebuilt(job)
    assert spent_usd(partly) == first.cost.total_usd, "the report knows before the next run"
    second, notices = run(job)
    assert "WARNING: results.jsonl has lost 3 records of earlier runs" in notices
    assert "begin anew" not in notices
    assert second.lines.succeeded == LINES
    assert second.unbilled_usd == partly.unbilled_usd > 0  # type: ignore[operator]


def test_what_is_gone_counts_against_the_cap(job: Job) -> None:
    first, _ = run(job)
    results_of(job).unlink()
    capped, _ = run(dataclasses.replace(job, max_cost_usd=first.cost.total_usd))
    assert capped.stopped is not None
    assert "is used up" in capped.stopped
    assert capped.attempts == 0


def test_records_that_a_run_replaced_are_not_gone(job: Job) -> None:
    failing = dataclasses.replace(job, simulate=GatewayOptions(script="emptyout; emptyout; ok !"))
    run(failing)
    again, notices = run(dataclasses.replace(job, retry_errors=True))
    assert "has lost" not in notices
    assert again.lines.succeeded == LINES
    assert "has lost" not in run(job)[1]


def test_a_job_that_starts_over_or_loses_its_log_too_forgets(job: Job) -> None:
    run(job)
    over, notices = run(dataclasses.replace(job, overwrite=True))
    assert (over.unbilled_usd, "has lost" in notices) == (Decimal(0), False)
    results_of(job).unlink()
    results_of(job).with_name("results.jsonl.log").unlink()
    anew, notices = run(job)
    assert (anew.unbilled_usd, "has lost" in notices) == (Decimal(0), False)


def test_models_without_a_price_are_said_to_be_unknown(job: Job, tmp_path: Path) -> None:
    prices = tmp_path / "none.json"
    prices.write_text(json.dumps({"nothing": {"input": 1, "output": 1}}))
    write_requests(tmp_path / "requests.jsonl", LINES, model="nobody-prices-this")
    unpriced = dataclasses.replace(job, prices=prices)
    run(unpriced)
    results_of(job).unlink()
    assert f"has lost {LINES} records of earlier runs; what that cost is unknown" in run(unpriced)[1]


def test_after_a_kill_all_that_the_gateway_billed_is_in_the_bounds(job: Job, tmp_path: Path) -> None:
    """Killed in the middle, and then the result file is removed: what was recorded and what was in flight count."""
    requests = write_requests(tmp_path / "requests.jsonl", 400)
    options = ("-c", "20", "--prices", str(job.prices))
    with GatewayThread(GatewayOptions(latency_median_s=0.1)) as gateway:
        with RunProcess(gateway.base_url, requests, results_of(job), *options) as process:
            until(lambda: has_event(results_of(job), "recorded", times=2))
            process.kill()
        until(lambda: gateway.ledger.in_flight == 0)
        served = gateway.ledger.billed_usage()
        billed_usd = (2 * Decimal(served.input_tokens) + 8 * Decimal(served.output_tokens)) / 1_000_000
        results_of(job).unlink()
        report, notices = run(dataclasses.replace(job, limit=0))
    assert "has lost" in notices
    assert "in flight when the last run died" in notices
    assert report.possibly_billed_twice is not None
    assert spent_usd(report) + report.possibly_billed_twice.upper_usd >= billed_usd
