"""A part of the lines, a limit to what may go wrong, a pilot, an estimate, and a number in flight that is found out."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import click
import orjson
import pytest
from click.testing import CliRunner

from batchrun import Endpoint, Gateway, GatewayOptions, Job, Limits, run, run_async
from batchrun.cli.main import cli
from batchrun.cli.types import ConcurrencyType
from batchrun.engine.error_limit import MaxErrors
from batchrun.errors import StopError, UsageError
from batchrun.limits.options import Concurrency
from batchrun.records.outcome import RateHeaders
from batchrun.transport.error_body import read_rate_headers

pytestmark = pytest.mark.slow

LINES = 40
NOWHERE = Endpoint("http://127.0.0.1")


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return written(tmp_path / "requests.jsonl", LINES)


def written(path: Path, lines: int) -> Path:
    bodies = ({"model": "gpt-4.1-mini", "input": f"question {number}"} for number in range(lines))
    records = (orjson.dumps({"custom_id": f"r-{number}", "body": body}) for number, body in enumerate(bodies))
    path.write_bytes(b"\n".join(records) + b"\n")
    return path


def ids(results: Path) -> list[str]:
    return [orjson.loads(line)["custom_id"] for line in results.read_bytes().splitlines()]


def batchrun(*words: object) -> tuple[int, str, BaseException | None]:
    done = CliRunner().invoke(cli, [str(word) for word in words])
    return done.exit_code, done.output, done.exception


# ------------------------------------------------------------------------------------------ a part of them


@pytest.mark.smoke
def test_a_limit_sends_so_many_and_the_next_run_goes_on(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    job = Job(str(requests), results, NOWHERE, simulate=GatewayOptions(), limit=15)
    first = run(job)
    assert (first.report.lines.succeeded, first.report.lines.pending, first.exit_code) == (15, LINES - 15, 0)
    assert sorted(ids(results)) == sorted(f"r-{number}" for number in range(15))
    run(job)
    assert len(set(ids(results))) == 30
    last = run(job)
    assert (last.report.lines.succeeded, last.report.lines.pending) == (LINES, 0)


def test_a_sample_is_the_same_in_every_run_and_part_of_a_larger_one(requests: Path, tmp_path: Path) -> None:
    small, large = tmp_path / "small.jsonl", tmp_path / "large.jsonl"
    job = Job(str(requests), small, NOWHERE, simulate=GatewayOptions(), sample=10)
    run(job)
    drawn = set(ids(small))
    assert len(drawn) == 10
    assert drawn != {f"r-{number}" for number in range(10)}, "at random, not from the top"
    run(job)
    assert set(ids(small)) == drawn, "nothing more is sent"
    run(Job(str(requests), large, NOWHERE, simulate=GatewayOptions(), sample=20))
    assert drawn < set(ids(large))


def test_nothing_more_to_send_of_a_sample_says_so(requests: Path, tmp_path: Path) -> None:
    words = ("run", requests, "-o", tmp_path / "r.jsonl", "--simulate", "--simulate-latency", 0, "--sample", 5)
    assert batchrun(*words)[0] == 0
    code, output, _ = batchrun(*words)
    assert code == 0
    assert f"nothing to send: the chosen lines are done (5 of {LINES})" in output


# ------------------------------------------------------------------------------------- what may go wrong


def test_too_many_errors_stop_the_job_and_it_goes_on_later(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    bad = GatewayOptions(script="400")
    limits = Limits(concurrency=1)
    stopped = run(Job(str(requests), results, NOWHERE, limits=limits, simulate=bad, max_errors=MaxErrors.parse("3")))
    assert stopped.exit_code == 3
    assert stopped.report.lines.failed == 4, "one more than allowed, and not a line further"
    assert stopped.report.stopped == "--max-errors 3 is exceeded: 4 failed of 4 lines of this run"
    mended = run(Job(str(requests), results, NOWHERE, simulate=GatewayOptions(), retry_errors=True))
    assert (mended.exit_code, mended.report.lines.succeeded) == (0, LINES)


def test_a_rate_of_errors_stops_the_job_once_it_can_be_judged(tmp_path: Path) -> None:
    requests = written(tmp_path / "many.jsonl", 400)
    some_bad = GatewayOptions(script="400; ok; ok; ok")
    limits, most = Limits(concurrency=32), MaxErrors.parse("10%")
    job = Job(str(requests), tmp_path / "r.jsonl", NOWHERE, simulate=some_bad, limits=limits, max_errors=most)
    stopped = run(job)
    assert stopped.exit_code == 3
    assert 100 <= stopped.report.lines.succeeded + stopped.report.lines.failed <= 100 + 32


def test_refusals_count_where_the_user_says_so(requests: Path, tmp_path: Path) -> None:
    refusing = GatewayOptions(script="refusal")
    plain = Job(str(requests), tmp_path / "a.jsonl", NOWHERE, simulate=refusing, max_errors=MaxErrors.parse("1"))
    assert run(plain).exit_code == 0
    strict = MaxErrors.parse("1", ["refused"])
    assert run(Job(str(requests), tmp_path / "b.jsonl", NOWHERE, simulate=refusing, max_errors=strict)).exit_code == 3


@pytest.mark.parametrize("text", ["", "x", "-1", "0%", "100%", "1.5", "5 %%", "nan"])
def test_a_limit_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="write a number of lines"):
        MaxErrors.parse(text)


# -------------------------------------------------------------------------------------- pilot and estimate


@pytest.mark.smoke
def test_a_pilot_measures_and_goes_on_only_when_told(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    words = ("run", requests, "-o", results, "--simulate", "--simulate-latency", 0, "--pilot", 12)
    code, output, error = batchrun(*words)
    assert isinstance(error, StopError)
    assert "measured 12 of 40 lines; 90% intervals for the whole job:" in output
    assert len(ids(results)) == 12
    code, _, _ = batchrun(*words, "--yes")
    assert code == 0
    assert len(set(ids(results))) == LINES


def test_a_pilot_that_is_stopped_goes_no_further(requests: Path, tmp_path: Path) -> None:
    words = ("run", requests, "-o", tmp_path / "r.jsonl", "--simulate", "--simulate-latency", 0)
    code, output, _ = batchrun(*words, "--simulate-script", "badkey", "--pilot", 12, "--yes")
    assert code == 3
    assert "refuses the key" in output


@pytest.mark.parametrize("words", [("-", "-o", "r.jsonl"), ("requests.jsonl", "-o", "-")])
def test_a_pilot_needs_files(words: tuple[str, ...], requests: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(requests.parent)
    _, _, error = batchrun("run", *words, "--simulate", "--pilot", 12)
    assert isinstance(error, UsageError)


def test_an_estimate_before_and_after_the_first_lines(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "results.jsonl"
    code, output, _ = batchrun("estimate", requests, "-o", results, "--json")
    before = orjson.loads(output)
    assert (code, before["lines"], before["lines_left"], before["lines_measured"]) == (0, LINES, LINES, 0)
    assert before["output_tokens"]["likely"] is None, "nobody can tell yet"
    run(Job(str(requests), results, NOWHERE, simulate=GatewayOptions(), sample=20))
    after = orjson.loads(batchrun("estimate", requests, "-o", results, "--json")[1])
    assert (after["lines_left"], after["lines_measured"]) == (LINES - 20, 20)
    run(Job(str(requests), results, NOWHERE, simulate=GatewayOptions()))
    records = [orjson.loads(line) for line in results.read_bytes().splitlines()]
    used = sum(record["run"]["usage"]["output_tokens"] for record in records[20:])
    low, high = after["output_tokens"]["low"], after["output_tokens"]["high"]
    assert low * 0.8 <= used <= high * 1.2


def test_a_pilot_is_part_of_what_may_be_sent(requests: Path, tmp_path: Path) -> None:
    results = tmp_path / "r.jsonl"
    words = ("run", requests, "-o", results, "--simulate", "--simulate-latency", 0, "--pilot", 10, "--yes", "-n")
    assert batchrun(*words, 15)[0] == 0
    assert len(ids(results)) == 15
    assert batchrun(*words, 5)[0] == 0
    assert len(ids(results)) == 20, "the pilot is done: these are five others"


def test_a_pilot_says_what_the_chosen_lines_will_cost(requests: Path, tmp_path: Path) -> None:
    words = ("run", requests, "--simulate", "--simulate-latency", 0, "--pilot", 10)
    for number, (part, chosen) in enumerate(((("-n", 15), 15), (("--sample", 20), 20), (("-n", 10), 10))):
        results = tmp_path / f"{number}.jsonl"
        _, output, error = batchrun(*words, "-o", results, *part)
        assert f"measured 10 of {chosen} lines; 90% intervals for the chosen lines:" in output
        assert isinstance(error, StopError) is (chosen > 10), "where nothing is left, nothing is asked"
        likely, spent = map(float, re.findall(r"cost: ([\d.]+) .* USD, ([\d.]+) of it spent", output)[0])
        assert likely == pytest.approx(spent * chosen / 10, rel=0.4)


def test_what_to_type_after_a_sample_is_the_rest(
    requests: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["run", str(requests), "-o", str(tmp_path / "r.jsonl"), "--simulate", "--simulate-latency", "0"]
    monkeypatch.setattr(sys, "argv", ["batchrun", *words, "--sample", "5"])
    code, output, _ = batchrun(*words, "--sample", 5)
    assert code == 0
    assert f"next: batchrun {' '.join(words)}\n" in output


# ------------------------------------------------------------------------------------ how many in flight


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("64", Concurrency(64, 64)),
        ("auto", Concurrency(1, 2000)),
        ("4-200", Concurrency(4, 200)),
        ("7-7", Concurrency(7, 7)),
    ],
)
def test_concurrency_is_a_number_or_found_out(text: str, expected: Concurrency) -> None:
    assert ConcurrencyType().convert(text, None, None) == expected


@pytest.mark.parametrize("text", ["0", "-4", "x", "4-", "-", "9-3", "10001", "1-10001", "４", "Auto"])
def test_what_is_no_concurrency_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        ConcurrencyType().convert(text, None, None)


async def test_a_capacity_that_nobody_told_is_found_and_kept_to(tmp_path: Path) -> None:
    """20 at once, 429 beyond: nearly all of it is used, and hardly anything refused."""
    requests = written(tmp_path / "many.jsonl", 1200)
    options = GatewayOptions(latency_median_s=0.1, capacity=20)
    async with Gateway(options) as gateway:
        job = Job(str(requests), tmp_path / "r.jsonl", Endpoint(gateway.base_url), limits=Limits(Concurrency(1, 500)))
        outcome = await run_async(job)
        assert gateway.ledger.peak_in_flight >= 20
    assert outcome.report.lines.succeeded == 1200
    assert outcome.report.throttles <= 0.04 * 1200
    assert outcome.report.duration_s < 1200 / 20 * 0.1 * 2.0


async def test_without_a_limit_it_rises_to_what_the_user_allows_and_no_further(tmp_path: Path) -> None:
    requests = written(tmp_path / "many.jsonl", 1500)
    async with Gateway(GatewayOptions(latency_median_s=0.3)) as gateway:
        job = Job(str(requests), tmp_path / "r.jsonl", Endpoint(gateway.base_url), limits=Limits(Concurrency(4, 100)))
        outcome = await run_async(job)
        assert 80 <= gateway.ledger.peak_in_flight <= 100
    assert outcome.report.throttles == 0


async def test_a_bad_key_costs_no_more_than_the_first_few(requests: Path, tmp_path: Path) -> None:
    async with Gateway(GatewayOptions(api_keys={"sk-good-0123456789"}, latency_median_s=0.05)) as gateway:
        endpoint = Endpoint(gateway.base_url, "sk-bad-0123456789")
        limits = Limits()
        outcome = await run_async(Job(str(requests), tmp_path / "r.jsonl", endpoint, limits=limits))
        assert outcome.exit_code == 3
        assert gateway.ledger.requests <= 8


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-limit-requests": "500"}, RateHeaders(limit_requests=500.0)),
        (
            {
                "x-ratelimit-limit-tokens": "600000",
                "x-ratelimit-remaining-tokens": "1000",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-reset-requests": "120ms",
            },
            RateHeaders(None, None, 0.12, 600000.0, 1000.0, 360.0),
        ),
        ({"x-ratelimit-limit-requests": "-1", "x-ratelimit-reset-requests": "50.5s"}, RateHeaders(None, None, 50.5)),
        ({"x-ratelimit-limit-requests": "many", "x-ratelimit-reset-requests": "17"}, RateHeaders(None, None, 17.0)),
    ],
)
def test_rate_headers_are_read_in_every_form(headers: dict[str, str], expected: RateHeaders | None) -> None:
    assert read_rate_headers(headers) == expected
