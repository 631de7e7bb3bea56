"""The job from Python: sync and async, with a typed report, nothing printed, errors raised."""

import asyncio
import json
import time
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest

import batchrun
from batchrun import (
    Endpoint,
    GatewayOptions,
    InputError,
    Job,
    Limits,
    Outcome,
    Overrides,
    Report,
    ResultFileError,
    RetryPolicy,
    Status,
    UsageError,
    run,
    run_async,
)
from batchrun.simulator.app import Gateway

NOWHERE = Endpoint("http://127.0.0.1")


def write_requests(folder: Path, count: int = 5) -> str:
    path = folder / "requests.jsonl"
    path.write_text("".join(json.dumps({"model": "gpt-4.1", "input": str(i)}) + "\n" for i in range(count)))
    return str(path)


def simulated(folder: Path, script: str = "", **options: object) -> Job:
    simulate = GatewayOptions(script=script)
    return Job(write_requests(folder), folder / "results.jsonl", NOWHERE, simulate=simulate, **options)  # type: ignore[arg-type]


def ids(path: Path) -> list[str]:
    return [json.loads(line)["custom_id"] for line in path.read_bytes().splitlines()]


@pytest.mark.smoke
def test_run_waits_for_the_job_and_gives_a_typed_report(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    outcome = run(simulated(tmp_path))
    assert isinstance(outcome, Outcome)
    assert isinstance(outcome.report, Report)
    assert outcome.exit_code == 0
    assert (outcome.report.lines.total, outcome.report.lines.succeeded, outcome.report.lines.pending) == (5, 5, 0)
    assert isinstance(outcome.report.cost.total_usd, Decimal)
    assert outcome.report.cost.total_usd > 0
    assert len(set(ids(tmp_path / "results.jsonl"))) == 5
    assert capfd.readouterr() == ("", "")


@pytest.mark.smoke
async def test_run_async_works_in_the_loop_of_its_caller(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    async with Gateway(GatewayOptions(api_keys={"sk-test"})) as gateway:
        job = Job(write_requests(tmp_path), tmp_path / "results.jsonl", Endpoint(gateway.base_url, "sk-test"))
        outcome = await run_async(job)
        assert gateway.ledger.billed_requests == 5
        assert gateway.ledger.billed_usage().total_tokens == outcome.report.usage.total_tokens
    assert outcome.exit_code == 0
    assert capfd.readouterr() == ("", "")


def test_failed_lines_are_in_the_report_and_no_exception(tmp_path: Path) -> None:
    outcome = run(simulated(tmp_path, "context; ok; ok; ok; ok"))
    assert outcome.exit_code == 1
    assert outcome.report.lines.failed == 1
    assert outcome.report.errors == {"context_length_exceeded": 1}
    again = run(simulated(tmp_path, retry_errors=True))
    assert (again.exit_code, again.report.lines.succeeded) == (0, 5)


def test_a_job_that_stops_early_says_why(tmp_path: Path) -> None:
    outcome = run(simulated(tmp_path, "badkey*"))
    assert outcome.exit_code == 3
    assert outcome.report.lines.pending == 5
    assert outcome.report.stopped is not None
    assert "refuses the key" in outcome.report.stopped
    assert outcome.report.next_command is None
    assert run(simulated(tmp_path)).exit_code == 0


def test_the_options_are_typed_values(tmp_path: Path) -> None:
    job = simulated(
        tmp_path,
        "locked",
        limits=Limits(concurrency=2, requests_per_minute=60_000),
        retry=RetryPolicy(max_attempts=1),
        overrides=Overrides(model="gpt-4.1-mini", fields={"max_output_tokens": b"64"}),
    )
    outcome = run(job)
    assert outcome.report.attempts == 5
    assert outcome.report.errors == {"conversation_locked": 5}
    assert list(outcome.report.models) == ["gpt-4.1"]


class Seen:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.notices: list[str] = []
        self.details: list[str] = []
        self.statuses: list[Status] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def detail(self, text: str) -> None:
        self.details.append(text)

    def tick(self, status: Status) -> None:
        self.statuses.append(status)


def test_an_observer_sees_how_far_it_is(tmp_path: Path) -> None:
    seen = Seen()
    run(simulated(tmp_path, "convert; ok; ok; ok; ok"), seen)
    assert (seen.statuses[-1].done, seen.statuses[-1].total, seen.statuses[-1].failed) == (5, 5, 1)
    assert any("convert_request_failed" in detail for detail in seen.details)


@pytest.mark.parametrize("part", [{"limit": 3}, {"sample": 3}])
def test_how_far_a_part_is_goes_by_its_own_lines(tmp_path: Path, part: dict[str, int]) -> None:
    seen = Seen()
    report = run(replace(simulated(tmp_path), **part), seen).report  # type: ignore[arg-type]
    last = seen.statuses[-1]
    assert (last.done, last.total) == (3, 3)
    assert last.projected_usd == last.cost_usd == report.cost.total_usd
    run(simulated(tmp_path), seen)
    assert (seen.statuses[-1].done, seen.statuses[-1].total) == (5, 5)


def wait_for_lines(path: Path, count: int) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() or path.read_bytes().count(b"\n") < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


async def test_a_cancelled_job_goes_on_with_the_same_call(tmp_path: Path) -> None:
    """Lines answered before the cancellation are not sent again."""
    requests, results = write_requests(tmp_path, 20), tmp_path / "results.jsonl"
    async with Gateway(GatewayOptions(script="ok; ok; stall")) as gateway:
        job = Job(requests, results, Endpoint(gateway.base_url), limits=Limits(concurrency=4))
        running = asyncio.create_task(run_async(job))
        await asyncio.to_thread(wait_for_lines, results, 2)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
    answered = len(ids(results))
    async with Gateway() as gateway:
        outcome = await run_async(Job(requests, results, Endpoint(gateway.base_url)))
        assert gateway.ledger.requests == 20 - answered
    assert outcome.exit_code == 0
    assert len(set(ids(results))) == len(ids(results)) == 20


def test_a_bad_request_file_is_an_input_error(tmp_path: Path) -> None:
    job = simulated(tmp_path)
    Path(str(job.requests)).write_text('{"model": "m"}\nnonsense\n')
    with pytest.raises(InputError) as raised:
        run(job)
    assert raised.value.count == 1
    assert raised.value.problems[0].startswith(f"{job.requests}:2: not JSON")
    assert raised.value.exit_code == 2
    assert not (tmp_path / "results.jsonl").exists()


def test_a_foreign_result_file_is_a_result_file_error(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text("my notes\n")
    with pytest.raises(ResultFileError, match="contains no batchrun results"):
        run(simulated(tmp_path))


def test_a_missing_file_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*absent\.jsonl: No such file or directory"):
        run(Job(str(tmp_path / "absent.jsonl"), tmp_path / "results.jsonl", NOWHERE))


def test_a_key_is_in_no_repr(tmp_path: Path) -> None:
    job = Job("requests.jsonl", None, Endpoint("https://gateway.example", "sk-canary", "http://me:sk-canary@proxy"))
    assert "sk-canary" not in repr(job)


@pytest.mark.smoke
def test_every_name_of_the_package_is_there() -> None:
    for name in batchrun.__all__:
        assert getattr(batchrun, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'bogus'"):
        _ = batchrun.bogus
