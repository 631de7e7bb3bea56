"""Equal requests are sent once: what the gateway's ledger says, what the records say, and what a kill leaves."""

from __future__ import annotations

import json
import random
import signal
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchrun import Endpoint, GatewayOptions, Job, Limits, Outcome, run, stream
from batchrun.requests import duplicates
from tests.support import KEY, MODEL, GatewayThread, RunProcess, events, read_records, until, write_prices

FAST = GatewayOptions(latency_median_s=0.0, latency_p99_s=0.0)


def write(path: Path, questions: list[str], ids: list[str] | None = None) -> Path:
    names = ids or [f"r-{number}" for number in range(1, len(questions) + 1)]
    with path.open("w") as file:
        for custom_id, question in zip(names, questions, strict=True):
            body = {"model": MODEL, "input": question, "max_output_tokens": 500}
            file.write(json.dumps({"custom_id": custom_id, "body": body}) + "\n")
    return path


class Bench:
    """A folder with a job, and the gateway that it is sent to."""

    def __init__(self, folder: Path, gateway: GatewayThread) -> None:
        self.folder, self.gateway = folder, gateway
        self.requests, self.results = folder / "requests.jsonl", folder / "results.jsonl"
        self.prices = write_prices(folder)

    def job(self, **changes: Any) -> Job:
        endpoint = Endpoint(self.gateway.base_url, KEY)
        plain: dict[str, Any] = {"prices": self.prices, "dedup": True}
        results = changes.pop("results", self.results)
        return Job(str(self.requests), results, endpoint, **plain | changes)

    def run(self, **changes: Any) -> Outcome:
        return run(self.job(**changes))

    def sent(self) -> int:
        return self.gateway.ledger.requests

    def records(self) -> dict[str, Any]:
        return {record["custom_id"]: record for record in read_records(self.results)}


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    with GatewayThread(FAST) as gateway:
        yield Bench(tmp_path, gateway)


@pytest.fixture
def failing(tmp_path: Path) -> Any:
    """Makes a bench whose gateway follows a script."""
    gateways: list[GatewayThread] = []

    def make(script: str) -> Bench:
        gateways.append(GatewayThread(GatewayOptions(script=script, latency_median_s=0.0, latency_p99_s=0.0)))
        return Bench(tmp_path, gateways[-1].__enter__())

    yield make
    for gateway in gateways:
        gateway.__exit__(None, None, None)


# ------------------------------------------------------------------------------------------ sent once


@pytest.mark.smoke
def test_of_a_file_with_forty_percent_duplicates_exactly_sixty_percent_are_sent(bench: Bench) -> None:
    questions = [f"question {number % 60}" for number in range(100)]
    write(bench.requests, questions)
    outcome = bench.run()
    assert outcome.exit_code == 0
    assert bench.sent() == 60
    by_question = dict[str, Any]()
    for number, question in enumerate(questions, 1):
        found = bench.records()[f"r-{number}"]
        original = by_question.setdefault(question, found)
        assert found["response"]["body"] == original["response"]["body"]
        assert found["run"]["line"] == number
        expected = None if original is found else {"kind": "copied", "line": original["run"]["line"]}
        assert found["run"].get("source") == expected


def test_without_it_every_line_is_sent(bench: Bench) -> None:
    write(bench.requests, ["same"] * 10)
    bench.run(dedup=False)
    assert bench.sent() == 10


def test_a_copy_costs_nothing_and_the_report_says_what_was_saved(bench: Bench) -> None:
    write(bench.requests, ["same"] * 10)
    report = bench.run().report
    saved = report.saved
    assert saved is not None
    assert (saved.copied, saved.reused) == (9, 0)
    assert saved.cost.total_usd == 9 * report.cost.total_usd > 0
    assert saved.usage.input_tokens == 9 * report.usage.input_tokens > 0
    assert (report.attempts, report.retries) == (1, 0)
    assert report.lines.succeeded == 10
    assert f"9 copied from equal lines (not sent, not in the bill: ${saved.cost.total_usd:.3g}" in str(report)[:2000]


def test_a_copy_has_no_times_of_its_own(bench: Bench) -> None:
    write(bench.requests, ["same"] * 2)
    bench.run()
    copied = bench.records()["r-2"]["run"]
    assert copied["attempts"] == 0
    assert "latency_s" not in copied
    report = bench.run().report
    assert report.latency_s.p50 == report.latency_s.p99, "one attempt has a latency"


def test_repeats_of_a_row_are_each_sent_and_copied_only_from_the_same_repeat(bench: Bench) -> None:
    ids = [f"{row}#{repeat}" for row in "ab" for repeat in (1, 2, 3)]
    write(bench.requests, ["same"] * 6, ids)
    bench.run()
    assert bench.sent() == 3
    records = bench.records()
    for repeat in (1, 2, 3):
        assert records[f"b#{repeat}"]["run"]["source"]["line"] == repeat
        assert records[f"b#{repeat}"]["response"]["body"] == records[f"a#{repeat}"]["response"]["body"]
    assert len({records[f"a#{repeat}"]["response"]["body"]["id"] for repeat in (1, 2, 3)}) == 3


def test_bare_bodies_are_copied_too(bench: Bench) -> None:
    body = json.dumps({"model": MODEL, "input": "same"})
    bench.requests.write_text(f"{body}\n{body}\n{body}\n")
    bench.run()
    assert bench.sent() == 1
    assert len(bench.records()) == 3


def test_what_is_sent_counts_and_not_what_is_written(bench: Bench) -> None:
    bodies = [{"model": MODEL, "input": "same", "temperature": heat} for heat in (0, 1)]
    lines = [json.dumps({"custom_id": f"r-{number}", "body": body}) for number, body in enumerate(bodies)]
    bench.requests.write_text("\n".join(lines) + "\n")
    from batchrun.records.request import Overrides

    bench.run(overrides=Overrides(fields={"temperature": 0}))
    assert bench.sent() == 1


def test_where_hashes_collide_no_line_gets_the_answer_of_another(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "hash64", lambda text: 1)
    write(bench.requests, ["one", "two", "one", "three", "two"])
    outcome = bench.run()
    assert outcome.exit_code == 0
    assert bench.sent() == 3
    inputs = {custom_id: record["response"]["body"]["id"] for custom_id, record in bench.records().items()}
    assert inputs["r-1"] == inputs["r-3"] != inputs["r-2"] == inputs["r-5"] != inputs["r-4"]


def test_where_even_the_tags_collide_the_other_line_stays_undone_and_is_sent_by_the_next_run(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(bench.requests, ["one", "two"])
    with monkeypatch.context() as colliding:
        colliding.setattr("batchrun.job.plan.key_of", lambda *_: (1, 1))
        colliding.setattr("batchrun.job.copying.key_of", lambda *_: (1, 1))
        assert bench.run().report.lines.pending == 1
        assert set(bench.records()) == {"r-1"}
    assert bench.run().exit_code == 0
    assert "source" not in bench.records()["r-2"]["run"]


# -------------------------------------------------------------------------------------------- failures


def test_copies_share_the_failure_of_their_original(failing: Any) -> None:
    bench = failing("ok; context")
    write(bench.requests, ["good", "bad", "bad", "bad"])
    outcome = bench.run(limits=Limits(concurrency=1))
    assert outcome.exit_code == 1
    assert bench.sent() == 2
    records = bench.records()
    assert records["r-3"]["error"] == records["r-4"]["error"] == records["r-2"]["error"] is not None
    assert outcome.report.lines.failed == 3


def test_failures_that_may_heal_are_sent_again_once_for_all(failing: Any) -> None:
    from batchrun.engine.retry import RetryPolicy

    bench = failing("ok; 500 ok")
    write(bench.requests, ["good", "bad", "bad"])
    one = RetryPolicy(max_attempts=1)
    assert bench.run(limits=Limits(concurrency=1), retry=one).exit_code == 1
    assert [record["error"] is None for record in bench.records().values()] == [True, False, False]
    before = bench.sent()
    assert bench.run(limits=Limits(concurrency=1), retry=one).exit_code == 0
    assert bench.sent() == before + 1
    assert bench.records()["r-3"]["run"]["source"] == {"kind": "copied", "line": 2}


# ------------------------------------------------------------------------------------------- across runs


def test_an_answer_of_an_earlier_run_is_copied_and_not_sent(bench: Bench) -> None:
    write(bench.requests, ["one", "two"])
    bench.run(dedup=False)
    write(bench.requests, ["one", "two", "two", "one", "three", "three"])
    assert bench.run().exit_code == 0
    assert bench.sent() == 3
    assert [bench.records()[f"r-{number}"]["run"]["source"]["line"] for number in (3, 4, 6)] == [2, 1, 5]


def test_a_success_is_copied_rather_than_an_earlier_failure(failing: Any) -> None:
    bench = failing("context; ok")
    write(bench.requests, ["same", "same"])
    bench.run(dedup=False, limits=Limits(concurrency=1))
    write(bench.requests, ["same", "same", "same"])
    bench.run()
    assert bench.records()["r-3"]["error"] is None


def test_an_original_that_was_edited_is_sent_again_and_its_copies_keep_their_answer(bench: Bench) -> None:
    write(bench.requests, ["same", "same", "same"])
    bench.run()
    before = bench.records()["r-2"]
    write(bench.requests, ["other", "same", "same"])
    assert bench.run(changed="resend").exit_code == 0
    assert bench.sent() == 2
    assert bench.records()["r-2"] == before


def test_a_line_that_was_edited_into_an_equal_one_is_copied(bench: Bench) -> None:
    write(bench.requests, ["one", "two"])
    bench.run()
    write(bench.requests, ["two", "two"])
    assert bench.run(changed="resend").exit_code == 0
    assert bench.sent() == 2
    assert bench.records()["r-1"]["run"]["source"] == {"kind": "copied", "line": 2}


def test_a_line_edited_into_what_another_was_before_it_was_edited_itself_is_sent(bench: Bench) -> None:
    write(bench.requests, ["one", "two"])
    bench.run()
    write(bench.requests, ["two", "one"])
    assert bench.run(changed="resend").exit_code == 0
    assert bench.sent() == 4, "both records were removed, so nothing was left to copy from"
    assert all("source" not in record["run"] for record in bench.records().values())


@pytest.mark.parametrize("choice", [{"limit": 3}, {"sample": 5}])
def test_of_a_part_of_the_file_only_its_own_lines_are_sent_and_copied(bench: Bench, choice: dict[str, int]) -> None:
    write(bench.requests, [f"question {number % 3}" for number in range(12)])
    (count,) = choice.values()
    bench.run(**choice)
    records = bench.records()
    assert len(records) == count
    assert bench.sent() == len({json.dumps(record["response"]["body"]["id"]) for record in records.values()}) <= 3
    bench.run()
    assert bench.sent() == 3
    assert len(bench.records()) == 12


def test_with_a_budget_copies_need_none(bench: Bench) -> None:
    write(bench.requests, ["same"] * 20)
    cost = bench.run(limit=1).report.cost.total_usd
    outcome = bench.run(max_cost_usd=cost + Decimal("1e-9"))
    assert outcome.exit_code == 0
    assert outcome.report.cost.total_usd == cost
    assert bench.sent() == 1


def test_a_line_without_a_bound_is_copied_under_a_budget_and_an_original_without_one_is_refused(bench: Bench) -> None:
    from batchrun import UsageError

    write(bench.requests, ["same"])
    text = bench.requests.read_text().replace(', "max_output_tokens": 500', "")
    bench.requests.write_text(text)
    bench.run()
    bench.requests.write_text(text + text.replace("r-1", "r-2"))
    assert bench.run(max_cost_usd=1).exit_code == 0
    bench.requests.write_text(text + text.replace("r-1", "r-3").replace("same", "other"))
    with pytest.raises(UsageError, match="cannot cap lines"):
        bench.run(max_cost_usd=1)


# --------------------------------------------------------------------------------------- kills and pipes


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_killed_at_any_moment_nothing_is_sent_twice_beyond_what_was_in_flight(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    questions = [f"question {chance.randrange(120)}" for _ in range(400)]
    with GatewayThread(GatewayOptions(latency_median_s=0.02, latency_p99_s=0.05)) as gateway:
        bench = Bench(tmp_path, gateway)
        write(bench.requests, questions)
        options = ("--dedup", "-c", "4", "--prices", str(bench.prices))
        kills = 0
        while True:
            with RunProcess(gateway.base_url, bench.requests, bench.results, *options) as process:
                at = len(bench.results.read_bytes().splitlines()) if bench.results.exists() else 0
                goal = at + chance.randrange(1, 150)

                def is_due(process: RunProcess = process, goal: int = goal) -> bool:
                    has_some = bench.results.exists() and bench.results.read_bytes().count(b"\n") >= goal
                    return has_some or process.process.poll() is not None

                until(is_due)
                if process.process.poll() is not None:
                    assert process.wait() == 0
                    break
                process.kill()
                kills += 1
        counts = Counter(row.body_sha256 for row in gateway.ledger.rows)
        assert len(counts) == len(set(questions))
        assert sum(counts.values()) - len(counts) <= 4 * kills
        assert len(bench.records()) == 400
        by_body = dict[str, Any]()
        for record in read_records(bench.results):
            answer = by_body.setdefault(record["run"]["body_hash"], record["response"]["body"])
            assert record["response"]["body"] == answer
        recorded = [number for event in events(bench.results) for number in event.get("numbers", ())]
        assert len(recorded) == len(set(recorded))


def test_a_drain_copies_what_is_there_and_leaves_the_rest_undone(tmp_path: Path) -> None:
    with GatewayThread(GatewayOptions(latency_median_s=0.05, latency_p99_s=0.1)) as gateway:
        bench = Bench(tmp_path, gateway)
        write(bench.requests, [f"question {number // 2}" for number in range(400)])
        options = ("--dedup", "-c", "2", "--prices", str(bench.prices))
        with RunProcess(gateway.base_url, bench.requests, bench.results, *options) as process:
            until(lambda: bench.results.exists() and bench.results.read_bytes().count(b"\n") >= 5)
            process.signal(signal.SIGINT)
            assert process.wait() == 130
        records = bench.records()
        sent = [record for record in records.values() if "source" not in record["run"]]
        assert len(records) == 2 * len(sent) < 400


def test_a_job_without_a_result_file_copies_too(bench: Bench) -> None:
    import asyncio

    write(bench.requests, ["one", "two", "one", "one"])

    async def collect() -> list[str]:
        return [result.custom_id async for result in stream(bench.job(results=None))]

    assert sorted(asyncio.run(collect())) == ["r-1", "r-2", "r-3", "r-4"]
    assert bench.sent() == 2


def test_results_that_are_handed_out_come_once_each(bench: Bench) -> None:
    import asyncio

    write(bench.requests, ["one", "two", "one", "one"])

    async def collect() -> list[str]:
        return [result.custom_id async for result in stream(bench.job())]

    assert sorted(asyncio.run(collect())) == ["r-1", "r-2", "r-3", "r-4"]
    assert len(bench.records()) == 4


# ----------------------------------------------------------------------------------------- any file at all


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    questions=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12),
    cut=st.integers(0, 12),
)
def test_any_file_run_in_any_two_parts_sends_each_request_once(questions: list[str], cut: int) -> None:
    import tempfile

    with GatewayThread(FAST) as gateway, tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), gateway)
        write(bench.requests, questions)
        if cut:
            bench.run(limit=cut)
        assert bench.run().exit_code == 0
        assert bench.sent() == len(set(questions))
        answers = {question: set[str]() for question in questions}
        for number, question in enumerate(questions, 1):
            answers[question].add(bench.records()[f"r-{number}"]["response"]["body"]["id"])
        assert all(len(found) == 1 for found in answers.values())
