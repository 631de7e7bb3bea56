"""`batchrun.Results`: every record of a file, typed, in the order of the file or of the requests."""

from __future__ import annotations

import random
import tracemalloc
from pathlib import Path

import pytest

from batchrun import Endpoint, GatewayOptions, Job, ResultFileError, Results, StopError, UsageError, run
from batchrun.datasets.lookup import RecordFile, RecordsById
from tests.support import record, write_requests


@pytest.fixture
def shuffled(tmp_path: Path) -> Path:
    """Three thousand records in random order, one line of which is damaged, and a torn one at the end."""
    path = tmp_path / "results.jsonl"
    records = [record(f"r-{line}", line, text=f"answer {line}") for line in range(1, 3001)]
    random.Random(7).shuffle(records)
    records[1000:1000] = [b"not a record\n"]
    path.write_bytes(b"".join(records) + record("r-3001", 3001)[:200])
    return path


def test_results_come_in_the_order_of_the_file_or_of_the_requests(shuffled: Path) -> None:
    in_file = [result.custom_id for result in Results(shuffled)]
    in_order = [result.custom_id for result in Results(shuffled, order="requests")]
    expected = [f"r-{line}" for line in range(1, 3001)]
    assert in_order == expected
    assert in_file != expected
    assert sorted(in_file) == sorted(expected)


@pytest.mark.smoke
def test_results_of_a_run_are_typed(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", 5)
    results = tmp_path / "results.jsonl"
    run(Job(str(requests), results, Endpoint("http://127.0.0.1"), simulate=GatewayOptions()))
    read = list(Results(str(results), order="requests"))
    assert [result.custom_id for result in read] == [f"r-{number}" for number in range(1, 6)]
    assert all(result.text and result.outcome == "succeeded" and result.error is None for result in read)
    assert all(result.usage is not None and result.usage.input_tokens for result in read)


def test_results_may_be_read_again_and_are_read_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"".join(record(f"r-{line}", line, text="x" * 50_000) for line in range(1, 201)))
    results = Results(path)
    tracemalloc.start()
    assert [sum(1 for _ in results) for _ in range(2)] == [200, 200]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2_000_000  # of 10 MB


def test_large_records_are_found_again_whole(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    texts = {f"r-{line}": "ü" * size for line, size in enumerate((0, 3_000, 4_096, 40_000, 400_000), 1)}
    path.write_bytes(b"".join(record(name, int(name[2:]), text=text) for name, text in texts.items()))
    assert {result.custom_id: result.text for result in Results(path, order="requests")} == texts


def test_of_two_records_of_an_id_the_first_one_is_found(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(record("r-1", 1, text="first") + record("r-2", 2) + record("r-1", 1, text="second"))
    with RecordFile(path) as file:
        records = RecordsById(file)
        found = records.find("r-1")
        assert found is not None
        assert found.text == "first"
        assert records.find("r-3") is None
        assert (len(records), file.damaged) == (2, 0)


def test_a_file_without_records_has_no_results(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"")
    assert list(Results(path)) == list(Results(path, order="requests")) == []
    with RecordFile(path) as file:
        assert RecordsById(file).find("r-1") is None


@pytest.mark.parametrize("order", ["file", "requests"])
def test_files_that_are_no_result_files_are_refused(tmp_path: Path, order: str) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b'{"custom_id":"r-1"}\n')
    with pytest.raises(UsageError, match="contains no batchrun results"):
        list(Results(path, order))  # type: ignore[arg-type]
    path.write_bytes(record().replace(b'"v":1', b'"v":2'))
    with pytest.raises(ResultFileError, match="version 2"):
        list(Results(path, order))  # type: ignore[arg-type]


def test_values_are_checked_where_they_come_in(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        Results(tmp_path / "none.jsonl")
    (tmp_path / "results.jsonl").write_bytes(record())
    with pytest.raises(UsageError, match='"file" or "requests"'):
        Results(tmp_path / "results.jsonl", order="random")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="path of a file"):
        Results(None)  # type: ignore[arg-type]


def test_a_file_that_is_changed_while_it_is_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(record("r-1", 1) + record("r-2", 2))
    results = iter(Results(path, order="requests"))
    next(results)
    path.write_bytes(b"\n" * path.stat().st_size)
    with pytest.raises(StopError, match="changed while it was read"):
        next(results)


def test_an_id_with_the_hash_of_another_one_never_gets_its_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which happens by chance once in 30 million files of a million lines."""
    monkeypatch.setattr("batchrun.datasets.lookup.hash64", lambda text: 1)
    path = tmp_path / "results.jsonl"
    path.write_bytes(record("r-1", 1) + record("r-2", 2))
    with RecordFile(path) as file:
        records = RecordsById(file)
        assert [records.find(name) is not None for name in ("r-1", "r-2")] == [True, False]
