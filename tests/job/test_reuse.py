"""Answers of other result files: which are taken, in which order, and what the records and the bill say of them."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from batchrun import GatewayOptions, Job, UsageError
from batchrun.records.result import RunInfo
from batchrun.results import answers
from tests.job.test_dedup import FAST, Bench, write
from tests.support import GatewayThread, RunProcess, events, read_records, until


@pytest.fixture
def bench(tmp_path: Path) -> Any:
    with GatewayThread(FAST) as gateway:
        yield Bench(tmp_path, gateway)


def answered(bench: Bench, questions: list[str], **changes: Any) -> Path:
    """A result file with an answer to each question, and a bench that is as new."""
    write(bench.requests, questions)
    bench.run(**{"dedup": False} | changes)
    old = bench.results.rename(bench.folder / f"old-{len(list(bench.folder.iterdir()))}.jsonl")
    for path in bench.folder.glob("results.jsonl.*"):
        path.unlink()
    return old


def reused(bench: Bench, *files: Path, **changes: Any) -> int:
    """Run with answers to reuse; how many requests were sent."""
    before = bench.sent()
    assert bench.run(**{"dedup": False, "reuse": files} | changes).exit_code == 0
    return bench.sent() - before


@pytest.mark.smoke
def test_a_line_takes_the_answer_of_another_file_and_costs_nothing(bench: Bench) -> None:
    old = answered(bench, ["one", "two", "three"])
    kept = {record["run"]["body_hash"]: record for record in read_records(old)}
    write(bench.requests, ["three", "new", "one"], ["x", "y", "z"])
    assert reused(bench, old) == 1
    records = bench.records()
    for custom_id in ("x", "z"):
        run = records[custom_id]["run"]
        before = kept[run["body_hash"]]
        assert records[custom_id]["response"] == before["response"]
        assert run["source"] == {"kind": "reused", "file": str(old), "line": before["run"]["line"]}
        assert (run["attempts"], "latency_s" in run) == (0, False)
    assert "source" not in records["y"]["run"]
    report = bench.run(dedup=False).report
    assert report.saved is not None
    assert (report.saved.copied, report.saved.reused) == (0, 2)
    assert report.usage.input_tokens == records["y"]["run"]["usage"]["input_tokens"]


def test_nothing_is_noted_as_sent_and_nothing_is_connected_to_where_all_is_reused(bench: Bench) -> None:
    old = answered(bench, ["one", "two"])
    write(bench.requests, ["two", "one"])
    assert reused(bench, old) == 0
    assert not [event for event in events(bench.results) if event["event"] == "sent"]
    assert sum(len(event.get("numbers", ())) for event in events(bench.results)) == 2


def test_the_kth_equal_line_takes_the_kth_answer_and_further_ones_are_sent(bench: Bench) -> None:
    old = answered(bench, ["same", "same"])
    ids = [record["response"]["body"]["id"] for record in read_records(old)]
    write(bench.requests, ["same"] * 3)
    assert reused(bench, old) == 1
    found = [bench.records()[f"r-{number}"]["response"]["body"]["id"] for number in (1, 2, 3)]
    assert found[:2] == ids
    assert found[2] not in ids


def test_over_two_runs_no_answer_is_taken_twice(bench: Bench) -> None:
    old = answered(bench, ["same"] * 4)
    write(bench.requests, ["same"] * 4)
    assert reused(bench, old, limit=2) == 0
    assert reused(bench, old) == 0
    assert len({record["response"]["body"]["id"] for record in bench.records().values()}) == 4


def test_a_copy_is_no_answer_of_its_own(bench: Bench) -> None:
    old = answered(bench, ["same"] * 3, dedup=True)
    write(bench.requests, ["same"] * 3)
    assert reused(bench, old) == 2


def test_an_answer_that_two_files_have_is_one_answer(bench: Bench) -> None:
    first = answered(bench, ["same"])
    second = answered(bench, ["same"], reuse=(first,))
    assert read_records(second)[0]["run"]["source"]["kind"] == "reused"
    write(bench.requests, ["same"] * 2)
    assert reused(bench, first, second) == 1


def test_with_dedup_one_answer_serves_all_equal_lines(bench: Bench) -> None:
    old = answered(bench, ["same"])
    write(bench.requests, ["same"] * 4 + ["other"] * 2)
    assert reused(bench, old, dedup=True) == 1
    kinds = [bench.records()[f"r-{number}"]["run"].get("source", {}).get("kind") for number in range(1, 7)]
    assert kinds == ["reused", "copied", "copied", "copied", None, "copied"]


@pytest.mark.parametrize("outcome", ["refused", "incomplete", "failed"])
def test_only_successes_are_reused(bench: Bench, outcome: str) -> None:
    old = answered(bench, ["one"])
    old.write_bytes(old.read_bytes().replace(b'"outcome":"succeeded"', f'"outcome":"{outcome}"'.encode()))
    write(bench.requests, ["one"])
    assert reused(bench, old) == 1


def test_another_gateways_answers_are_taken_only_where_that_is_said(bench: Bench) -> None:
    old = answered(bench, ["one"])
    own = json.dumps(read_records(old)[0]["run"]["gateway"]).encode()
    old.write_bytes(old.read_bytes().replace(b'"gateway":' + own, b'"gateway":"elsewhere.example"'))
    write(bench.requests, ["one"])
    assert reused(bench, old, limit=0) == 0
    assert reused(bench, old, reuse_any_gateway=True) == 0
    assert bench.records()["r-1"]["run"]["gateway"] == "elsewhere.example"
    bench.results.unlink()
    (bench.folder / "results.jsonl.log").unlink()
    assert reused(bench, old) == 1


@pytest.mark.parametrize(
    ("old", "new"), [(b'"path":"/v1/responses"', b'"path":"/v1/embeddings"'), (b'"body_hash":"', b'"body_hash":"0000')]
)
def test_another_endpoint_or_body_is_no_match(bench: Bench, old: bytes, new: bytes) -> None:
    path = answered(bench, ["one"])
    lines = path.read_bytes()
    if b"body_hash" in old:
        at = lines.index(old) + len(old)
        lines = lines[:at] + b"0000" + lines[at + 4 :]
    else:
        lines = lines.replace(old, new)
    path.write_bytes(lines)
    write(bench.requests, ["one"])
    assert reused(bench, path) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_a_line_goes_by_its_body_to_an_endpoint_and_takes_an_answer_of_that_one_alone(bench: Bench, path: str) -> None:
    body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "one"}]}
    bench.requests.write_text(json.dumps({"custom_id": "r-1", "body": body}) + "\n")
    bench.run(dedup=False)
    old = bench.results.rename(bench.folder / "old.jsonl")
    (bench.folder / "results.jsonl.log").unlink()
    old.write_bytes(old.read_bytes().replace(b'"path":"/v1/chat/completions"', b'"path":"%b"' % path.encode()))
    assert reused(bench, old) == (path == "/v1/responses")


def test_an_answer_that_does_not_fit_the_schema_is_not_reused(bench: Bench) -> None:
    schema = {"type": "object", "properties": {"topic": {"enum": ["a"]}}, "required": ["topic"]}
    form = {"format": {"type": "json_schema", "name": "n", "schema": schema}}
    body = {"model": "gpt-4.1", "input": "one", "text": form}
    bench.requests.write_text("".join(json.dumps({"custom_id": f"r-{n}", "body": body}) + "\n" for n in (1, 2)))
    bench.run(dedup=False)
    old = bench.results.rename(bench.folder / "old.jsonl")
    (bench.folder / "results.jsonl.log").unlink()
    first, second = old.read_bytes().splitlines(keepends=True)
    assert b'\\"topic\\"' in first
    old.write_bytes(first.replace(b'\\"topic\\"', b'\\"other\\"') + second)
    assert reused(bench, old) == 1
    assert bench.records()["r-1"]["response"]["body"]["id"] == json.loads(second)["response"]["body"]["id"]


@pytest.mark.parametrize("is_fresh", [True, False])
def test_where_hashes_collide_no_line_gets_the_answer_of_another(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, is_fresh: bool
) -> None:
    old = answered(bench, ["one", "two"])
    by_hash = {record["run"]["body_hash"]: record["response"]["body"]["id"] for record in read_records(old)}
    keys = answers._keys
    monkeypatch.setattr(answers, "_keys", lambda hashes, paths: ([1] * len(hashes), keys(hashes, paths)[1]))
    write(bench.requests, ["two", "one", "three"])
    if not is_fresh:
        bench.run(dedup=False, limit=1)
    reused(bench, old)
    for record in bench.records().values():
        if "source" in record["run"]:
            assert record["response"]["body"]["id"] == by_hash[record["run"]["body_hash"]]


def test_answers_that_change_between_the_look_and_the_copy_stop_the_run_and_nothing_wrong_is_written(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = answered(bench, ["one", "two"])
    write(bench.requests, ["one", "two"])
    really = answers.Answers.read

    def exchanged(self: answers.Answers, *args: Any) -> None:
        really(self, *args)
        old.write_bytes(b"".join(reversed(old.read_bytes().splitlines(keepends=True))))

    monkeypatch.setattr(answers.Answers, "read", exchanged)
    outcome = bench.run(dedup=False, reuse=(old,))
    assert outcome.exit_code == 3
    assert outcome.report.stopped is not None
    assert "changed while running" in outcome.report.stopped
    assert bench.sent() == 2, "only what was answered before"
    monkeypatch.undo()
    assert reused(bench, old) == 0
    by_hash = {record["run"]["body_hash"]: record["response"]["body"]["id"] for record in read_records(old)}
    for record in bench.records().values():
        assert record["response"]["body"]["id"] == by_hash[record["run"]["body_hash"]]


def test_with_a_budget_for_nothing_all_that_is_there_is_reused(bench: Bench) -> None:
    body = {"model": "gpt-4.1", "input": "no limit of output"}
    bench.requests.write_text(json.dumps({"custom_id": "r-1", "body": body}) + "\n")
    bench.run(dedup=False)
    old = bench.results.rename(bench.folder / "old.jsonl")
    (bench.folder / "results.jsonl.log").unlink()
    assert reused(bench, old, max_cost_usd="0.000001") == 0


def test_what_cannot_be_reused_is_refused_before_anything_is_written(bench: Bench) -> None:
    write(bench.requests, ["one"])
    for path, told in ((bench.folder / "none.jsonl", "cannot read"), (bench.requests, "no batchrun results")):
        with pytest.raises(UsageError, match=told):
            bench.run(reuse=(path,))
    assert not bench.results.exists()
    bench.run()
    before = bench.results.read_bytes()
    with pytest.raises(UsageError, match="a file to reuse"):
        bench.run(reuse=(bench.results,), overwrite=True)
    assert bench.results.read_bytes() == before


def test_a_file_that_ends_in_half_a_record_gives_its_whole_ones(bench: Bench) -> None:
    old = answered(bench, ["one", "two"])
    old.write_bytes(old.read_bytes()[:-20])
    write(bench.requests, ["one", "two"])
    assert reused(bench, old) == 1


def test_all_that_a_record_says_of_the_answer_is_kept(bench: Bench) -> None:
    """A field that is added to the record later must be either here, or in what `Copying` takes over."""
    of_the_attempt = {"attempts", "throttles", "latency_s", "first_event_s", "first_text_s", "tries"}
    of_the_line = {"line", "total_lines", "started", "elapsed_s", "source"}
    old = answered(bench, ["one"])
    record = read_records(old)[0]
    record["run"] |= {
        "schema_error": "x",
        "gateway_cost_usd": 0.5,
        "service_tier": "flex",
        "endpoint": "a",
        "fenced": True,
    }
    old.write_text(json.dumps(record) + "\n")
    write(bench.requests, ["one"])
    reused(bench, old)
    run = bench.records()["r-1"]["run"]
    for name in RunInfo.__struct_fields__:
        if name not in of_the_attempt | of_the_line:
            assert run.get(name) == record["run"].get(name), name


def test_a_job_takes_one_path_or_several(tmp_path: Path) -> None:
    from batchrun import Endpoint

    def job(reuse: Any) -> Job:
        return Job("r.jsonl", None, Endpoint("http://127.0.0.1"), reuse=reuse, simulate=GatewayOptions())

    assert job("a.jsonl").reuse == (Path("a.jsonl"),)
    assert job(["a.jsonl", Path("b.jsonl")]).reuse == (Path("a.jsonl"), Path("b.jsonl"))
    for wrong in (7, [7], b"a.jsonl"):
        with pytest.raises(UsageError, match="reuse"):
            job(wrong)


# ------------------------------------------------------------------------------------------------- batches


def batch_of(bench: Bench, questions: list[str], done: list[int], ids: list[str] | None = None) -> tuple[Path, Path]:
    """The input and the output of an OpenAI Batch that answered some of its lines, the last one first."""
    folder = bench.folder / f"batch-{len(list(bench.folder.iterdir()))}"
    folder.mkdir()
    asked = write(folder / "input.jsonl", questions, ids)
    names = ids or [f"r-{number}" for number in range(1, len(questions) + 1)]
    lines = []
    for at in reversed(range(len(questions))):
        body = {
            "id": f"resp_{at}",
            "object": "response",
            "status": "completed",
            "model": "gpt-4.1",
            "output": [
                {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": f"answer {at}"}]}
            ],
            "usage": {"input_tokens": 5, "output_tokens": 7, "total_tokens": 12},
        }
        response = {"status_code": 200, "request_id": f"req_{at}", "body": body}
        line = {"id": f"batch_req_{at}", "custom_id": names[at], "response": response, "error": None}
        if at not in done:
            line |= {"response": None, "error": {"code": "batch_expired", "message": "This request was not executed"}}
        lines.append(json.dumps(line) + "\n")
    answered = folder / "output.jsonl"
    answered.write_text("".join(lines))
    return asked, answered


@pytest.mark.smoke
def test_a_batch_that_expired_goes_on_here(bench: Bench) -> None:
    pair = batch_of(bench, ["one", "two", "three", "four"], [0, 2])
    write(bench.requests, ["one", "two", "three", "four"])
    assert reused(bench, reuse_batch=pair) == 2
    records = bench.records()
    assert records["r-1"]["response"]["body"]["id"] == "resp_0"
    assert records["r-3"]["response"] == {
        "status_code": 200,
        "request_id": "req_2",
        "body": records["r-3"]["response"]["body"],
    }
    assert records["r-3"]["run"]["usage"]["output_tokens"] == 7
    assert records["r-3"]["run"]["source"] == {"kind": "reused", "file": str(pair[1]), "line": 2}
    assert "source" not in records["r-2"]["run"]


def test_a_batch_is_paired_by_id_and_only_then_by_body(bench: Bench) -> None:
    ids = ["a#1", "a#2", "a#3"]
    pair = batch_of(bench, ["same"] * 3, [1, 2], ids)
    write(bench.requests, ["same"] * 3, ids)
    assert reused(bench, reuse_batch=pair) == 1
    records = bench.records()
    assert "source" not in records["a#1"]["run"], "the answers to the others are theirs"
    assert [records[f"a#{number}"]["response"]["body"]["id"] for number in (2, 3)] == ["resp_1", "resp_2"]


def test_a_line_with_another_id_takes_the_answer_to_its_body(bench: Bench) -> None:
    pair = batch_of(bench, ["one", "two"], [0, 1])
    write(bench.requests, ["two", "one", "two"], ["x", "y", "r-2"])
    assert reused(bench, reuse_batch=pair) == 1
    sources = {custom_id: record["run"].get("source") for custom_id, record in bench.records().items()}
    assert sources["x"] is None, "the line r-2 has the answer to r-2"
    assert bench.records()["r-2"]["response"]["body"]["id"] == "resp_1"
    assert bench.records()["y"]["response"]["body"]["id"] == "resp_0"


def test_an_edited_request_does_not_take_the_answer_with_its_id(bench: Bench) -> None:
    pair = batch_of(bench, ["one", "two"], [0, 1])
    write(bench.requests, ["another", "two"])
    assert reused(bench, reuse_batch=pair) == 1
    assert "source" not in bench.records()["r-1"]["run"]


def test_answers_of_a_batch_that_are_no_success_are_sent_again(bench: Bench) -> None:
    asked, answered_path = batch_of(bench, ["one", "two", "three"], [0, 1, 2])
    text = answered_path.read_text()
    text = text.replace('"status_code": 200, "request_id": "req_0"', '"status_code": 500, "request_id": "req_0"')
    lines = text.splitlines(keepends=True)
    lines[1] = lines[1].replace('"completed"', '"incomplete"')
    answered_path.write_text("".join([*lines, "not JSON\n", '{"custom_id": "nobody", "response": null}\n']))
    write(bench.requests, ["one", "two", "three"])
    assert reused(bench, reuse_batch=[(asked, answered_path)]) == 2


def test_two_files_that_are_no_batch_are_refused(bench: Bench) -> None:
    asked, answered_path = batch_of(bench, ["one"], [0])
    write(bench.requests, ["one"])
    with pytest.raises(UsageError, match="has no answer to a line of"):
        bench.run(reuse_batch=(answered_path, asked))
    with pytest.raises(UsageError, match="cannot read"):
        bench.run(reuse_batch=(asked, bench.folder / "none.jsonl"))
    for wrong in ("a.jsonl", ["a.jsonl"], [("a.jsonl",)], 7):
        with pytest.raises(UsageError, match="reuse_batch"):
            bench.run(reuse_batch=wrong)


# --------------------------------------------------------------------------------------------------- kills


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_killed_at_any_moment_each_answer_is_taken_once_and_nothing_is_sent_that_was_there(
    bench: Bench, seed: int
) -> None:
    """Five equal lines of each of many questions, and four answers to each."""
    chance = random.Random(seed)
    questions = [f"question {number % 1500}" for number in range(6000)]
    old = answered(bench, questions)
    before = bench.sent()
    write(bench.requests, [*questions, *[f"question {number}" for number in range(1500)]])
    options = ("--reuse", str(old), "--prices", str(bench.prices), "-c", "8")
    while True:
        at = bench.results.read_bytes().count(b"\n") if bench.results.exists() else 0
        goal = at + chance.randrange(1, 3000)
        with RunProcess(bench.gateway.base_url, bench.requests, bench.results, *options) as process:

            def is_due(process: RunProcess = process, goal: int = goal) -> bool:
                has_some = bench.results.exists() and bench.results.read_bytes().count(b"\n") >= goal
                return has_some or process.process.poll() is not None

            until(is_due)
            if process.process.poll() is not None:
                assert process.wait() == 0
                break
            process.kill()
    assert len(bench.records()) == 7500
    taken = [record["run"]["source"]["line"] for record in read_records(bench.results) if "source" in record["run"]]
    assert len(taken) == len(set(taken)) == 6000
    assert bench.sent() - before >= 1500
