"""Shards of a job, each an ordinary run on its part, and the merged file: the same as a plain run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun import GatewayOptions, UsageError, run
from batchrun.billing.pricing import PriceBook
from batchrun.cluster.merge import Merged, merge
from batchrun.cluster.secrets import Secrets, with_secrets, without_secrets
from batchrun.cluster.shard import Busy, NotBegun, Order, Refused
from batchrun.errors import ResultFileError
from batchrun.report.rebuild import rebuild
from batchrun.report.verify import Verifier
from batchrun.requests.reader import RequestFile
from batchrun.results.journal import Journal
from batchrun.results.parts import shard_path
from batchrun.results.paths import ResultPaths
from batchrun.transport.endpoint import Endpoint
from tests.cluster.shards import Here, job_of, mixed_requests, planned, run_shards, whole
from tests.support import Json, read_records


def _text(record: Json) -> str:
    """What the model said."""
    (part,) = (part for item in record["response"]["body"]["output"] for part in item.get("content") or ())
    return str(part["text"])


@pytest.mark.smoke
def test_merged_they_are_what_a_plain_run_writes(tmp_path: Path) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 200)
    plain = run(job_of(requests, tmp_path / "plain.jsonl")).report
    directory = tmp_path / "results"
    plan = planned(requests, directory, 5)
    ends = [whole(end) for end in run_shards(job_of(requests, directory), plan)]
    assert [end.lines for end in ends] == [shard.lines for shard in plan.shards]
    assert merge(directory, tmp_path / "merged.jsonl") == Merged(plain.lines.total, plain.lines.total, 0)
    mine, theirs = read_records(tmp_path / "merged.jsonl"), read_records(tmp_path / "plain.jsonl")
    theirs.sort(key=lambda record: record["run"]["line"])
    for one, other in zip(mine, theirs, strict=True):
        assert one["custom_id"] == other["custom_id"]
        assert _text(one) == _text(other)
        for name in ("line", "total_lines", "body_hash", "usage"):
            assert one["run"][name] == other["run"][name]
    for results in (directory, tmp_path / "merged.jsonl"):
        report = rebuild(results, PriceBook()).report
        assert (report.lines, report.usage, report.cost) == (plain.lines, plain.usage, plain.cost)
        with RequestFile(str(requests)) as file:
            assert Verifier(file, results, PriceBook()).run().is_complete
    again = run(job_of(requests, tmp_path / "merged.jsonl")).report
    assert (again.lines, again.possibly_billed_twice, again.unbilled_usd) == (
        plain.lines,
        plain.possibly_billed_twice,
        plain.unbilled_usd,
    ), "a plain run goes on with the merged file, and knows its runs"


def test_a_shard_goes_on_where_it_was(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 200), tmp_path / "results"
    plan = planned(requests, directory, 4)
    run_shards(job_of(requests, directory, limit=20), plan, [2])
    end = whole(run_shards(job_of(requests, directory), plan, [2])[0])
    assert (end.done, end.ended.recorded) == (20, plan.shards[2].lines - 20)
    run_shards(job_of(requests, directory), plan)
    merged = merge(directory, tmp_path / "merged.jsonl")
    assert merged.records == merged.lines == plan.lines


def test_what_is_left_is_said_and_a_plain_run_sends_it(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 200), tmp_path / "results"
    plan = planned(requests, directory, 4)
    run_shards(job_of(requests, directory), plan, [0, 3])
    merged = merge(directory, tmp_path / "merged.jsonl")
    assert (merged.records, merged.lines) == (plan.shards[0].lines + plan.shards[3].lines, plan.lines)
    assert run(job_of(requests, tmp_path / "merged.jsonl")).report.lines.succeeded == plan.lines
    report = rebuild(directory, PriceBook()).report
    assert report.lines.pending == plan.shards[1].lines + plan.shards[2].lines


def test_nothing_is_merged_over_what_is_there_nor_while_a_run_writes(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 50), tmp_path / "results"
    plan = planned(requests, directory, 2)
    run_shards(job_of(requests, directory), plan)
    target = tmp_path / "merged.jsonl"
    target.write_text("mine\n")
    with pytest.raises(ResultFileError, match="exists; choose another -o"):
        merge(directory, target)
    assert target.read_text() == "mine\n"
    assert merge(directory, target, overwrite=True).records == plan.lines
    with pytest.raises(UsageError, match="is inside"):
        merge(directory, directory / "all.jsonl")
    with pytest.raises(UsageError, match="is no directory of results"):
        merge(tmp_path, target)


def test_one_writer_has_a_shard(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 50), tmp_path / "results"
    plan = planned(requests, directory, 2)
    with Journal(ResultPaths.of(shard_path(directory, 1))):
        (end,) = run_shards(job_of(requests, directory), plan, [1])
        assert isinstance(end, Busy)
        assert "is being written by another run" in end.why
    assert whole(run_shards(job_of(requests, directory), plan, [1])[0]).ended.recorded == plan.shards[1].lines


def test_a_shard_that_may_not_begin_touches_nothing(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 50), tmp_path / "results"
    plan, job = planned(requests, directory, 2), job_of(requests, directory)
    stopped = Here(without_secrets(job)[1], Order("interrupted (SIGINT)", 130))
    assert run_shards(job, plan, [0], stopped) == [NotBegun(0)]
    assert not list(directory.glob("shard-*"))


def test_a_request_file_that_changed_since_the_driver_looked_is_refused(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 50), tmp_path / "results"
    plan, job = planned(requests, directory, 2), job_of(requests, directory)

    class Edited(Here):
        async def begin(self, number: int) -> tuple[Order, tuple[Secrets, ...]]:
            requests.write_text(requests.read_text() + "\n")
            return await super().begin(number)

    (end,) = run_shards(job, plan, [0], Edited(without_secrets(job)[1]))
    assert end == Refused(0, f"{requests} changed while running; run the same command again", 2)


def test_a_task_holds_no_secret() -> None:
    endpoint = Endpoint(
        "https://gateway.example/v1", "sk-canary-1", "http://u:canary-2@proxy:1", secret_headers={"X": "canary-3"}
    )
    job = job_of(Path("r.jsonl"), Path("results"), endpoint=endpoint, simulate=None)
    bare, secrets = without_secrets(job)
    import pickle

    assert b"canary" not in pickle.dumps(bare)
    assert "canary" not in repr(bare) + repr(secrets)
    assert with_secrets(bare, secrets) == job


def test_a_shard_tells_how_it_goes(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 50), tmp_path / "results"
    plan, job = planned(requests, directory, 2), job_of(requests, directory)
    (directory / "shard-00000.jsonl").write_text(json.dumps({"no": "record"}))
    here = Here(without_secrets(job)[1])
    (end,) = run_shards(job, plan, [0], here)
    assert isinstance(end, Refused)
    assert "contains no batchrun results" in end.why


def test_what_limited_all_shards_together_stays_known_of_the_merged_file(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 12), tmp_path / "results"
    job = job_of(requests, directory, simulate=GatewayOptions(latency_median_s=0.02))
    ends = run_shards(job, planned(requests, directory, 2))
    seconds = [sum((whole(end).ended.limited_s or {}).values()) for end in ends]
    merge(directory, tmp_path / "merged.jsonl")
    told = [rebuild(results, PriceBook()).report.limited_s or {} for results in (directory, tmp_path / "merged.jsonl")]
    assert min(seconds) > 0.0
    assert sum(told[0].values()) == pytest.approx(sum(seconds), abs=0.001)
    assert told[1] == told[0]
