"""A report made again from the files: the same as at the end of the run, damaged lines counted beside it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

import batchrun
from batchrun import Endpoint, Job
from batchrun.billing.pricing import PriceBook
from batchrun.errors import UsageError
from batchrun.report.rebuild import rebuild
from batchrun.report.report import Report
from batchrun.results.events import Event, Limited, Open, Start, Stop, decode_events, encode_events
from batchrun.results.files import open_locked
from batchrun.simulator.options import GatewayOptions
from tests.support import record, write_prices, write_requests


@pytest.fixture
def prices(tmp_path: Path) -> PriceBook:
    return PriceBook.load(write_prices(tmp_path))


@pytest.fixture
def finished(tmp_path: Path) -> tuple[Path, Report]:
    requests = write_requests(tmp_path / "requests.jsonl", 3)
    job = Job(
        str(requests),
        tmp_path / "results.jsonl",
        Endpoint("http://127.0.0.1"),
        prices=write_prices(tmp_path),
        simulate=GatewayOptions(),
    )
    return tmp_path / "results.jsonl", batchrun.run(job).report


def test_it_is_the_report_of_the_run(finished: tuple[Path, Report], prices: PriceBook) -> None:
    results, report = finished
    rebuilt = rebuild(results, prices)
    assert rebuilt.damaged_lines == 0
    assert rebuilt.report.to_json() == report.to_json()


def test_it_is_the_same_by_another_name_of_the_file(
    finished: tuple[Path, Report], prices: PriceBook, tmp_path: Path
) -> None:
    """The run log stands beside the file, not beside a link to it."""
    results, report = finished
    link = tmp_path / "elsewhere" / "link.jsonl"
    link.parent.mkdir()
    link.symlink_to(results)
    assert rebuild(link, prices).report.to_json() == report.to_json()


def test_without_a_run_log_what_only_it_knows_is_left_out(finished: tuple[Path, Report], prices: PriceBook) -> None:
    results, report = finished
    Path(f"{results}.log").unlink()
    expected = msgspec.structs.replace(report, possibly_billed_twice=None, unbilled_usd=None, limited_s=None)
    assert rebuild(results, prices).report.to_json() == expected.to_json()


def test_damaged_lines_are_counted_and_left_out(finished: tuple[Path, Report], prices: PriceBook) -> None:
    results, report = finished
    with results.open("ab") as file:
        file.write(b"nonsense\n\n" + record("r-9")[:20])
    rebuilt = rebuild(results, prices)
    assert rebuilt.damaged_lines == 3, "one that is empty among them"
    assert rebuilt.report.to_json() == report.to_json()


def test_a_file_without_any_result_is_refused(tmp_path: Path, prices: PriceBook) -> None:
    path = tmp_path / "notes.txt"
    path.write_text('{"my": "notes"}\n')
    with pytest.raises(UsageError, match=r"notes\.txt contains no batchrun results$"):
        rebuild(path, prices)


def test_an_empty_file_has_an_empty_report(tmp_path: Path, prices: PriceBook) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"")
    assert rebuild(path, prices).report.lines.total == 0


def begun(results: Path, *, lines: int, started: str = "2026-01-02T03:04:05.678Z") -> None:
    """Add to the log of `results` a run that began and sent nothing."""
    events: list[Event] = [
        Open(t=0.0, pid=1, at=1.0),
        Start(t=0.1, started=started, lines=lines, pending=lines),
        Stop(t=0.2, why="interrupted"),
    ]
    with Path(f"{results}.log").open("ab") as log:
        log.write(encode_events(events))


def test_a_run_without_a_record_yet_says_how_many_lines_are_to_do(tmp_path: Path, prices: PriceBook) -> None:
    path = tmp_path / "results.jsonl"
    path.write_bytes(b"")
    begun(path, lines=292)
    lines = rebuild(path, prices).report.lines
    assert (lines.total, lines.pending) == (292, 292)


def test_a_run_of_more_lines_counts_them_before_its_first_record(
    finished: tuple[Path, Report], prices: PriceBook
) -> None:
    results, _ = finished
    begun(results, lines=5, started="2999-01-02T03:04:05.678Z")
    lines = rebuild(results, prices).report.lines
    assert (lines.total, lines.succeeded, lines.pending) == (5, 3, 2)


def test_it_knows_a_run_by_the_lock_of_its_log(finished: tuple[Path, Report], prices: PriceBook) -> None:
    results, _ = finished
    log = open_locked(Path(f"{results}.log"))
    assert log is not None
    with log:
        assert rebuild(results, prices).report.running
    assert not rebuild(results, prices).report.running


def test_the_lock_of_a_directory_or_of_one_shard_is_that_of_a_run(
    finished: tuple[Path, Report], prices: PriceBook
) -> None:
    results, _ = finished
    folder = results.parent / "many"
    folder.mkdir()
    (folder / "plan.json").write_text("{}")
    results.rename(folder / "shard-00000.jsonl")
    assert not rebuild(folder, prices).report.running
    for name in ("run.log", "shard-00000.jsonl.log"):
        log = open_locked(folder / name)
        assert log is not None
        with log:
            assert rebuild(folder, prices).report.running, name


def test_what_limited_it_is_that_of_all_runs_together(finished: tuple[Path, Report], prices: PriceBook) -> None:
    results, _ = finished
    of_model = {"gpt-4.1": {"rpm": 4.0}}
    runs: list[Event] = [
        Start(t=0.0, started="a"),
        Limited(t=0.5, limited_by="slow_start", limited_s={"slow_start": 0.5}),
        Limited(t=9.0, limited_by="rpm", limited_s={"rpm": 8.0, "slow_start": 1.0}, limited_s_by_model=of_model),
        Start(t=0.0, started="b", limited_s={"rpm": 8.0, "slow_start": 1.0}, limited_s_by_model=of_model),
        Limited(t=0.5, limited_by="slow_start", limited_s={"slow_start": 0.5}),
        Stop(t=3.0, why="done", limited_s={"paused": 2.1, "rpm": 0.9}, limited_s_by_model=of_model),
    ]
    Path(f"{results}.log").write_bytes(encode_events(runs))
    report = rebuild(results, prices).report
    assert list((report.limited_s or {}).items()) == [("rpm", 8.9), ("paused", 2.1), ("slow_start", 1.0)]
    assert report.limited_s_by_model == {"gpt-4.1": {"rpm": 8.0}}


def test_a_run_adds_to_the_sums_of_those_before_it_but_for_overwritten_ones(tmp_path: Path, prices: PriceBook) -> None:
    results = tmp_path / "results.jsonl"
    job = Job(
        str(write_requests(tmp_path / "requests.jsonl", 3)),
        results,
        Endpoint("http://127.0.0.1"),
        prices=write_prices(tmp_path),
        simulate=GatewayOptions(latency_median_s=0.03),
    )
    first, both = batchrun.run(replace(job, limit=1)).report, batchrun.run(job).report
    ends = [end for end in decode_events(Path(f"{results}.log").read_bytes().splitlines()) if isinstance(end, Stop)]
    seconds = [sum((end.limited_s or {}).values()) for end in ends]
    assert len(seconds) == 2
    assert min(seconds) > 0.0
    assert sum((first.limited_s or {}).values()) == pytest.approx(seconds[0], abs=0.001)
    assert sum((both.limited_s or {}).values()) == pytest.approx(sum(seconds), abs=0.001)
    assert rebuild(results, prices).report.to_json() == both.to_json()
    anew = batchrun.run(replace(job, overwrite=True)).report
    assert rebuild(results, prices).report.limited_s == anew.limited_s
