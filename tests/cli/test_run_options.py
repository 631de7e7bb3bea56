"""What each option of `batchrun run` makes of a job."""

from __future__ import annotations

from dataclasses import fields
from decimal import Decimal
from operator import attrgetter
from pathlib import Path

import pytest

from batchrun.cli import run as run_file
from batchrun.engine.error_limit import MaxErrors
from batchrun.job.job import Job
from batchrun.job.resume import Changed
from batchrun.limits.options import Concurrency
from batchrun.transport.endpoint import Endpoint
from tests.cli.commands import Command

KEY = "sk-canary"
USUAL = Job(requests="requests.jsonl", results=Path("r.jsonl"), endpoint=Endpoint("https://gateway.example/v1", KEY))


def job_of(batchrun: Command, monkeypatch: pytest.MonkeyPatch, *words: str) -> Job:
    """The job that `batchrun run` would run."""
    made: list[Job] = []

    def kept(job: Job, options: object) -> int:
        made.append(job)
        return 0

    monkeypatch.setattr(run_file, "run_job", kept)
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1")
    done = batchrun("run", "requests.jsonl", "-o", "r.jsonl", *words)
    assert (done.code, done.err) == (0, "")
    return made[0]


def test_without_options_a_job_is_the_usual_one(batchrun: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line and Python have the same defaults."""
    assert job_of(batchrun, monkeypatch) == USUAL


@pytest.mark.parametrize(
    ("words", "changes"),
    [
        ("-c 64", {"limits.concurrency": 64}),
        ("--concurrency 4-200", {"limits.concurrency": Concurrency(4, 200)}),
        ("--rpm 3000", {"limits.requests_per_minute": 3000.0}),
        ("--tpm 0.5", {"limits.tokens_per_minute": 0.5}),
        ("--max-outage 7", {"limits.max_outage_s": 7.0}),
        ("--attempt-timeout 7", {"timeouts.attempt_s": 7.0}),
        ("--connect-timeout 7", {"timeouts.connect_s": 7.0}),
        ("--idle-timeout 7", {"timeouts.idle_s": 7.0}),
        ("--max-attempts 7", {"retry.max_attempts": 7}),
        ("--model gpt-4.1", {"overrides.model": "gpt-4.1"}),
        ("--set temperature=0 --set top_p=1", {"overrides.fields": {"temperature": b"0", "top_p": b"1"}}),
        ("--stream", {"overrides.stream": True}),
        ("--no-stream", {"overrides.stream": False}),
        ("--base-url https://other.example", {"endpoint.base_url": "https://other.example"}),
        ("--proxy http://proxy.example:3128", {"endpoint.proxy": "http://proxy.example:3128"}),
        ("--no-keepalive", {"endpoint.keepalive": False}),
        ("--changed keep", {"changed": Changed.KEEP}),
        ("--retry-errors", {"retry_errors": True}),
        ("--overwrite", {"overwrite": True}),
        ("--prices p.toml", {"prices": Path("p.toml")}),
        ("-n 7", {"limit": 7}),
        ("--sample 7", {"sample": 7}),
        ("--max-errors 7", {"max_errors": MaxErrors(count=7)}),
        ("--max-errors 5% --max-errors-on refused", {"max_errors": MaxErrors(rate=0.05, kinds=frozenset({"refused"}))}),
        (
            "--max-cost $7.50 --max-line-cost 0.1",
            {"max_cost_usd": Decimal("7.50"), "max_line_cost_usd": Decimal("0.1")},
        ),
        ("--grace 7", {"grace_s": 7.0}),
        ("--max-response-bytes 2048", {"max_response_bytes": 2048}),
    ],
)
def test_an_option_changes_its_part_of_the_job_and_no_other(
    batchrun: Command, monkeypatch: pytest.MonkeyPatch, words: str, changes: dict[str, object]
) -> None:
    job = job_of(batchrun, monkeypatch, *words.split())
    assert {path: attrgetter(path)(job) for path in changes} == changes
    changed = {field.name for field in fields(Job) if getattr(job, field.name) != getattr(USUAL, field.name)}
    assert changed == {path.partition(".")[0] for path in changes}
    for name in ("limits", "timeouts", "endpoint", "overrides"):
        part, usual = getattr(job, name), getattr(USUAL, name)
        others = {field.name for field in fields(part) if getattr(part, field.name) != getattr(usual, field.name)}
        assert others <= {path.partition(".")[2] for path in changes}


def test_a_key_comes_from_the_variable_or_the_file_that_is_named(
    batchrun: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-mine")
    Path("key").write_text("sk-in-a-file\n")
    for option, value, key in (("--api-key-env", "MY_KEY", "sk-mine"), ("--api-key-file", "key", "sk-in-a-file")):
        endpoint = job_of(batchrun, monkeypatch, option, value).endpoint
        assert endpoint is not None
        assert endpoint.api_key == key


def test_a_simulated_gateway_needs_neither_address_nor_key(batchrun: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(batchrun, monkeypatch, "--simulate")
    assert job.simulate is not None
    assert (job.simulate.latency_median_s, job.simulate.latency_p99_s, job.simulate.script) == (0.3, 1.2, "")
    assert job.endpoint is not None
    assert not job.endpoint.api_key
    words = ("--simulate", "--simulate-latency", "2", "--simulate-script", "429 ok")
    job = job_of(batchrun, monkeypatch, *words)
    assert job.simulate is not None
    assert (job.simulate.latency_median_s, job.simulate.latency_p99_s, job.simulate.script) == (2, 8, "429 ok")


@pytest.mark.parametrize(
    "words",
    [
        ["--simulate-latency", "1"],
        ["--simulate-script", "ok"],
        ["--simulate-answers", "key.jsonl"],
        ["--simulate-accuracy", "0"],
        ["--simulate-mismatches", "0.1"],
    ],
)
def test_options_of_the_simulated_gateway_need_it(batchrun: Command, words: list[str]) -> None:
    done = batchrun("run", "requests.jsonl", "-o", "r.jsonl", "--base-url", "https://gateway.example", *words)
    why = f"{words[0]} needs --simulate; without it requests cost money"
    assert (done.code, done.err.splitlines()[-1]) == (2, f"batchrun: {why}")
