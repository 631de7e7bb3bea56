"""Which lines of its shard a shard sends, and which answers it takes: over all shards, what a plain run would."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from batchrun import Job, Overrides, UsageError, run
from batchrun.cluster.chosen import highest_rank, limits_of, repeated_bodies
from batchrun.cluster.driver import refuse_unshared
from batchrun.cluster.merge import merge
from batchrun.cluster.plan import Plan
from batchrun.cluster.planning import Input, in_turn
from batchrun.requests.part import Part
from tests.cluster.shards import job_of, mixed_requests, planned, run_shards, whole
from tests.support import Json, read_records

SHARDS = 4


def parts_of(plan: Plan) -> list[Part]:
    return [plan.part(number) for number in range(len(plan.shards))]


def records_of(directory: Path) -> list[Json]:
    merged = directory.with_name("merged.jsonl")
    merge(directory, merged, overwrite=True)
    return read_records(merged)


@pytest.mark.parametrize(
    ("limit", "without_record", "failed", "shares"),
    [
        (5, [3, 3, 3], [0, 0, 0], [3, 2, 0]),
        (5, [0, 1, 9], [0, 0, 0], [0, 1, 4]),
        (9, [1, 1, 1], [0, 2, 5], [1, 3, 5]),
        (0, [3], [3], [0]),
        (100, [3, 4], [1, 0], [4, 4]),
    ],
)
def test_a_limit_is_shared_in_the_order_of_the_file(
    limit: int, without_record: list[int], failed: list[int], shares: list[int]
) -> None:
    assert limits_of(limit, without_record, failed) == shares


@pytest.mark.parametrize("size", [1, 17, 1000])
def test_a_sample_is_that_of_a_plain_run(tmp_path: Path, size: int) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 120), tmp_path / "results"
    plain = job_of(requests, tmp_path / "plain.jsonl", sample=size)
    run(plain)
    plan = planned(requests, directory, SHARDS)
    highest = highest_rank(Input(requests, "requests.jsonl", Overrides()), parts_of(plan), size, in_turn)
    parts = [replace(part, highest_rank=highest) for part in parts_of(plan)]
    for end in run_shards(replace(plain, results=directory), plan, parts=parts):
        whole(end)
    drawn = sorted(record["run"]["line"] for record in read_records(tmp_path / "plain.jsonl"))
    assert [record["run"]["line"] for record in records_of(directory)] == drawn
    assert len(drawn) == min(size, plan.lines)


@pytest.fixture
def twice(tmp_path: Path) -> Path:
    """Thirty bodies, of which ten occur again in the second half, under other ids."""
    bodies = [{"model": "gpt-4.1", "input": f"question {number}"} for number in [*range(30), *range(10)]]
    lines = [json.dumps({"custom_id": f"r-{at}", "body": body}) for at, body in enumerate(bodies)]
    path = tmp_path / "requests.jsonl"
    path.write_text("\n".join(lines) + "\n")
    return path


def reusing(requests: Path, directory: Path, *, knows: bool = True, **reuse: object) -> list[Json]:
    """The records of shards that reuse answers; `knows`: each knows which bodies occur more than once."""
    plan = planned(requests, directory, SHARDS)
    parts, source = parts_of(plan), Input(requests, "requests.jsonl", Overrides())
    if knows:
        repeated = repeated_bodies(source, parts, directory, in_turn)
        parts = [replace(part, repeated=bodies) for part, bodies in zip(parts, repeated, strict=True)]
    for end in run_shards(job_of(requests, directory, **reuse), plan, parts=parts):
        whole(end)
    return records_of(directory)


def taken(records: list[Json]) -> Counter[tuple[str, int]]:
    """How often each answer was taken."""
    sources = [record["run"]["source"] for record in records if "source" in record["run"]]
    return Counter((source["file"], source["line"]) for source in sources)


def test_no_answer_is_taken_twice(tmp_path: Path, twice: Path) -> None:
    first = tmp_path / "first.jsonl"
    run(job_of(twice, first, limit=30))
    found = taken(reusing(twice, tmp_path / "results", reuse=first))
    assert len(found) == 20, "of the bodies that occur once"
    assert set(found.values()) == {1}
    assert max(taken(reusing(twice, tmp_path / "unaware", knows=False, reuse=first)).values()) == 2


def test_an_answer_of_a_batch_is_taken_by_its_id_also_where_its_body_occurs_again(tmp_path: Path, twice: Path) -> None:
    lines = [json.loads(line) for line in twice.read_text().splitlines()]
    asked, answered = tmp_path / "batch.jsonl", tmp_path / "output.jsonl"
    asked.write_text("".join(json.dumps(one | {"method": "POST", "url": "/v1/responses"}) + "\n" for one in lines))
    run(job_of(twice, tmp_path / "first.jsonl"))
    outputs = [
        {"id": "b", "custom_id": one["custom_id"], "response": one["response"], "error": None}
        for one in read_records(tmp_path / "first.jsonl")
    ]
    answered.write_text("".join(json.dumps(one) + "\n" for one in outputs))
    found = taken(reusing(twice, tmp_path / "results", reuse_batch=(asked, answered)))
    assert len(found) == 40
    assert set(found.values()) == {1}


def test_answers_of_the_results_themselves_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    job: Job = job_of(tmp_path / "requests.jsonl", Path("results"), reuse="results")
    with pytest.raises(UsageError, match="is the directory of the results itself"):
        refuse_unshared(job)
