"""The plan: ranges at the ends of lines, numbers and ids of the whole file, made once, refused for another file."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun import Overrides, UsageError
from batchrun.cluster import ids
from batchrun.cluster.ids import Met, tell_apart
from batchrun.cluster.plan import cut, measure, read_plan, refuse_changed, refuse_uncuttable, write_plan
from batchrun.cluster.planning import Input, in_turn, make_plan, refuse_other_bytes, shards_for
from batchrun.errors import InputError, ResultFileError
from batchrun.records.request import RequestLine
from batchrun.requests.reader import RequestFile
from tests.cluster.shards import mixed_requests, planned


def lines_of(path: Path) -> list[RequestLine]:
    with RequestFile(str(path)) as file:
        file.check()
        return list(file.requests())


@given(st.lists(st.binary(max_size=30).map(lambda line: line.replace(b"\n", b"")), min_size=1), st.integers(1, 12))
def test_ranges_cover_the_file_and_end_with_lines(lines: list[bytes], shards: int) -> None:
    data = b"\n".join(lines) + (b"\n" if len(lines) % 2 else b"")
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else "/tmp") / f"batchrun-cut-{id(lines)}"
    try:
        path.write_bytes(data)
        ranges = cut(path, shards) if data else []
        assert b"".join(data[one.start : one.end] for one in ranges) == data
        assert len(ranges) <= shards
        assert all(one.end > one.start for one in ranges)
        assert all(data[one.end - 1 : one.end] == b"\n" for one in ranges[:-1])
        counted = sum(measure(path, one).lines for one in ranges)
        assert counted == data.count(b"\n") + (not data.endswith(b"\n") and bool(data))
    finally:
        path.unlink()


@pytest.mark.parametrize("shards", [1, 2, 7, 40])
@pytest.mark.smoke
def test_lines_have_the_numbers_and_ids_of_a_plain_run(tmp_path: Path, shards: int) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 300)
    expected = lines_of(requests)
    assert len({line.custom_id for line in expected}) == len(expected) < 300
    plan = planned(requests, tmp_path / "results", shards)
    found = list[RequestLine]()
    for number, shard in enumerate(plan.shards):
        with RequestFile(str(requests), part=plan.part(number)) as file:
            assert file.check().lines == shard.lines
            assert file.total_lines == len(expected)
            found += file.requests()
    assert found == expected
    assert len(plan.shards) == shards


def test_ids_that_occur_twice_are_refused_as_in_a_plain_run(tmp_path: Path) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 200)
    bare = next(line for line in lines_of(requests) if line.custom_id.endswith("-2"))
    twice = [
        {"custom_id": "r-3", "body": {"model": "m", "input": "x"}},
        {"custom_id": bare.custom_id, "body": {"model": "m"}},
    ]
    with requests.open("a") as file:
        file.writelines(json.dumps(line) + "\n" for line in twice)
    with pytest.raises(InputError) as plain, RequestFile(str(requests)) as file:
        file.check()
    with pytest.raises(InputError) as planning:
        planned(requests, tmp_path / "results", 9)
    assert planning.value.count == plain.value.count == 2
    problems = [problem.replace(str(requests), "requests.jsonl") for problem in plain.value.problems]
    assert planning.value.problems == problems
    assert [path.name for path in (tmp_path / "results").iterdir()] == [], "nothing is left behind"


def test_lines_that_cannot_be_sent_are_named_by_their_own_numbers(tmp_path: Path) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 200)
    with requests.open("a") as file:
        file.write("{\n" * 30)
    with pytest.raises(InputError) as refused:
        planned(requests, tmp_path / "results", 9)
    assert refused.value.count == 30
    assert refused.value.problems[0].startswith("requests.jsonl:201: not JSON")
    assert len(refused.value.problems) == 20


def test_buckets_find_what_is_repeated_in_any_two_ranges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "BUCKET", 8)
    requests = mixed_requests(tmp_path / "requests.jsonl", 300)
    plan, survey = make_plan(Input(requests, "requests", Overrides()), tmp_path, 5, in_turn)
    with RequestFile(str(requests)) as file:
        assert survey == file.check()
    assert any(shard.before for shard in plan.shards)


def test_equal_bare_bodies_are_numbered_over_all_ranges() -> None:
    a, b = "req-00000000000000aa", "req-00000000000000bb"
    ranges = [[Met(1, a, True), Met(2, b, True)], [Met(5, a, True), Met(6, a, True)], [Met(9, f"{a}-3", False)]]
    apart = tell_apart("r.jsonl", ranges)
    assert apart.before == [{}, {a: 1}, {}]
    assert (apart.repeated, apart.in_all) == (2, 1)
    assert apart.problems == ['r.jsonl:9: "custom_id" duplicates line 6; give each line its own']


def test_a_plan_is_made_once(tmp_path: Path) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 50)
    plan = planned(requests, tmp_path / "results", 4)
    assert read_plan(tmp_path / "results") == plan
    with pytest.raises(ResultFileError, match="was made by another run just now"):
        write_plan(tmp_path / "results", plan)
    (tmp_path / "results" / "plan.json").write_text("{")
    with pytest.raises(ResultFileError, match="is no plan of batchrun"):
        read_plan(tmp_path / "results")


@pytest.mark.parametrize("place", ["head", "middle", "tail", "size"])
def test_a_file_that_was_changed_is_refused_with_the_way_out(tmp_path: Path, place: str) -> None:
    requests = mixed_requests(tmp_path / "requests.jsonl", 3000)
    plan, directory = planned(requests, tmp_path / "results", 4), tmp_path / "results"
    source = Input(requests, "requests.jsonl", Overrides())

    def look() -> None:
        refuse_changed(plan, requests, directory)
        refuse_other_bytes(plan, source, directory, in_turn)

    look()
    data = bytearray(requests.read_bytes())
    at = {"head": 30, "middle": len(data) // 2, "tail": len(data) - 30, "size": 0}[place]
    if place == "size":
        data += b"\n"
    else:
        data[at] = ord("!") if data[at] != ord("!") else ord("?")
    requests.write_bytes(data)
    with pytest.raises(ResultFileError, match=r"is not the file that .*plan\.json was made for.*--reuse"):
        look()


def test_what_cannot_be_cut_is_refused_with_the_way_out(tmp_path: Path) -> None:
    packed = tmp_path / "requests.jsonl.gz"
    packed.write_bytes(gzip.compress(b"{}\n"))
    with pytest.raises(UsageError, match=r"is gzip-compressed and .*; unpack it first: gunzip -k"):
        refuse_uncuttable(packed)
    with pytest.raises(UsageError, match="is not a regular file"):
        refuse_uncuttable(tmp_path)
    with pytest.raises(UsageError, match="No such file"):
        refuse_uncuttable(tmp_path / "nothing")


def test_there_are_more_shards_than_workers_but_no_tiny_ones() -> None:
    assert shards_for(100 << 20, 8, None) == 32
    assert shards_for(5 << 20, 8, None) == 5
    assert shards_for(100, 8, None) == 1
    assert shards_for(100, 8, 7) == 7
    with pytest.raises(UsageError, match="at most 100,000"):
        shards_for(100, 8, 100_001)
