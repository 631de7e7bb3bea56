"""Disks that fail under a run: it stops sending at once, leaves a whole file, says why, and goes on when it can."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, Job, run
from batchrun.api import Outcome
from batchrun.errors import DiskError, ResultFileError
from batchrun.limits.options import Limits
from batchrun.records.request import parse_request
from batchrun.results import files, journal, runlog
from batchrun.simulator.options import GatewayOptions
from tests.support import (
    KEY,
    FailingFile,
    Faults,
    GatewayThread,
    RunProcess,
    events,
    file_size_limit,
    has_records,
    ids,
    mounted,
    read_records,
    record,
    strace,
    until,
    write_prices,
    write_requests,
)

SIX = [f"r-{number}" for number in range(1, 7)]


class Bench:
    """Six requests, a gateway, and where the results go."""

    def __init__(self, folder: Path, gateway: GatewayThread, in_flight: int = 2) -> None:
        self.gateway = gateway
        self.in_flight = in_flight
        self.folder = folder
        self.requests = write_requests(folder / "requests.jsonl", 6)
        self.results = folder / "results.jsonl"
        self.prices = write_prices(folder)

    def run(self) -> Outcome:
        endpoint = Endpoint(self.gateway.base_url, KEY)
        return run(Job(str(self.requests), self.results, endpoint, limits=Limits(self.in_flight), prices=self.prices))

    def start(self, *options: str, **popen: Any) -> RunProcess:
        options = ("--prices", str(self.prices), "-c", "2", *options)
        return RunProcess(self.gateway.base_url, self.requests, self.results, *options, **popen)

    def finishes(self) -> None:
        assert self.run().exit_code == 0
        assert ids(self.results) == SIX

    @property
    def lost(self) -> int:
        """Answers that were billed and are not in the file."""
        return self.gateway.ledger.billed_requests - len(ids(self.results) if self.results.exists() else ())


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with GatewayThread() as gateway:
        yield Bench(tmp_path, gateway)


@pytest.fixture
def slow_bench(tmp_path: Path) -> Iterator[Bench]:
    with GatewayThread(GatewayOptions(latency_median_s=0.3)) as gateway:
        yield Bench(tmp_path, gateway)


# ------------------------------------------------------------------------------------------------ torture


def _tortured(bench: Bench, faults: Faults, monkeypatch: pytest.MonkeyPatch) -> str:
    """A run with one call failing; returns how it ended: that it is "done", "stopped" or "refused", and why."""

    def opening(module: str) -> Callable[[Path], object]:
        def opened(path: Path) -> object:
            faults.call(f"open {module}")
            file = open_locked(path)
            return file and FailingFile(file, faults)

        return opened

    open_locked = files.open_locked
    with monkeypatch.context() as patched:
        patched.setattr(journal, "open_locked", opening("journal"))
        patched.setattr(runlog, "open_locked", opening("log"))
        patched.setattr(os, "fsync", faults.before("fsync", os.fsync))
        patched.setattr(journal, "datasync", lambda fd: faults.call("fdatasync"))
        try:
            outcome = bench.run()
        except (DiskError, ResultFileError) as error:
            return f"refused: {error}"
    if outcome.exit_code == 3:
        return f"stopped: {outcome.report.stopped}"
    assert outcome.exit_code == 0
    return f"done with {bench.results}"


@pytest.mark.parametrize("in_flight", [1, 2, 6])
@pytest.mark.parametrize("what", ["ENOSPC", "EIO", "short"])
def test_the_nth_call_of_a_whole_run_fails_for_every_n(
    tmp_path: Path, what: str, in_flight: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Result file and run log, every open, write and sync: as curl and SQLite do it.

    One by one, each line has its own writes; together, those that are ready share one.
    """
    ends = []
    for when in range(1, 200):
        folder = tmp_path / str(when)
        folder.mkdir()
        faults = Faults(what, when)
        with GatewayThread() as gateway:
            bench = Bench(folder, gateway, in_flight)
            ends.append(_tortured(bench, faults, monkeypatch))
            if len(faults.calls) < when:
                break
            failed = faults.calls[when - 1]
            assert str(bench.results) in ends[-1], "it says where"
            if ends[-1].startswith("refused"):
                assert gateway.ledger.requests == 0
            until(lambda: gateway.ledger.in_flight == 0)
            assert bench.lost <= 1, f"{failed} cost more than the answer that could not be written"
            sent, stored = gateway.ledger.requests, len(ids(bench.results)) if bench.results.exists() else 0
            assert sent - stored <= in_flight, f"{failed}: it went on sending"
            assert bench.run().exit_code == 0
            assert ids(bench.results) == SIX
            assert gateway.ledger.requests <= 7
    counts = Counter(end.partition(":")[0] for end in ends)
    assert ends[-1].startswith("done")
    assert len(ends) > (15 if in_flight == 1 else 7)
    # Six in flight may all be ready at once: then there is one write, and one sync, that can fail.
    assert counts["stopped"] >= {1: 11, 2: 3, 6: 2}[in_flight]
    assert 2 <= counts["refused"] <= 5


@pytest.mark.parametrize("when", [3, 4, 7])
def test_a_log_that_cannot_be_written_loses_no_answer(bench: Bench, when: int, monkeypatch: pytest.MonkeyPatch) -> None:
    faults = Faults("ENOSPC", when)
    bench.in_flight = 1  # so that each attempt has a write of its own
    open_locked = files.open_locked
    with monkeypatch.context() as patched:
        patched.setattr(runlog, "open_locked", lambda path: FailingFile(open_locked(path), faults))
        outcome = bench.run()
    assert outcome.exit_code == 3
    assert "results.jsonl.log: No space left on device" in (outcome.report.stopped or "")
    assert bench.lost == 0
    told = [event["event"] for event in events(bench.results)]
    assert told.count("sent") == bench.gateway.ledger.requests, "what cannot be logged is not sent"
    bench.finishes()
    assert bench.gateway.ledger.requests == 6


def test_file_size_limits_of_every_kind(tmp_path: Path) -> None:
    """EFBIG by the kernel, for whichever file grows past the limit first."""
    ends = set()
    for size in (0, 100, 400, 700, 1000, 1500, 2500, 4000, 6000, 8000, 12_000, 50_000):
        folder = tmp_path / str(size)
        folder.mkdir()
        with GatewayThread() as gateway:
            bench = Bench(folder, gateway)
            with file_size_limit(size):
                try:
                    code = bench.run().exit_code
                except DiskError as error:
                    code = error.exit_code
                    assert gateway.ledger.requests == 0
            ends.add(code)
            assert gateway.ledger.requests - (len(ids(bench.results)) if bench.results.exists() else 0) <= 2
            bench.finishes()
    assert ends == {0, 3}


# ---------------------------------------------------------------------------------------------- the kernel


@pytest.mark.smoke
def test_a_disk_that_fills_up_under_a_run(bench: Bench) -> None:
    with mounted(bench.folder / "disk", "size=64k") as disk:
        ballast = disk / "ballast"
        ballast.write_bytes(bytes(40_000))
        bench.results = disk / "results.jsonl"
        write_requests(bench.requests, 100)
        with bench.start() as stopped:
            assert stopped.wait() == 3
            assert "No space left on device" in stopped.screen
            assert "ake room" in stopped.screen
            assert "next: batchrun run" in stopped.screen
        kept = len(read_records(bench.results))
        assert 3 < kept < 100
        assert bench.gateway.ledger.requests <= kept + 2
        with bench.start() as again:  # still no room: nothing is sent, nothing is lost
            assert again.wait() == 3
        kept_again = len(read_records(bench.results))  # a last record may fit in what a shorter log or report leaves
        assert kept_again >= kept
        assert bench.gateway.ledger.requests <= kept_again + 4
        ballast.unlink()
        write_requests(bench.requests, 20)
        with bench.start() as room:
            assert room.wait() == 0
        assert {f"r-{number}" for number in range(1, 21)} <= set(ids(bench.results))


def test_a_screen_on_the_full_disk(bench: Bench) -> None:
    """`2> run.log` beside the results: that nothing can be printed costs no answer and changes no exit code."""
    with Path("/dev/full").open("wb") as screen:
        for _ in range(2):
            with bench.start(stderr=screen) as run_:
                assert run_.wait() == 0
    assert bench.lost == 0
    bench.results.write_text("notes\n")
    with Path("/dev/full").open("wb") as screen, bench.start(stderr=screen) as run_:
        assert run_.wait() == 2


def test_a_process_with_a_file_size_limit(bench: Bench) -> None:
    if shutil.which("prlimit") is None:
        pytest.skip("prlimit is not installed")
    write_requests(bench.requests, 100)
    with bench.start(wrapper=["prlimit", "--fsize=20000"]) as stopped:
        assert stopped.wait() == 3
        assert "File too large" in stopped.screen
    kept = len(read_records(bench.results))
    assert 3 < kept < 100
    assert bench.gateway.ledger.requests <= kept + 2


def _prepare_a_rewrite(bench: Bench) -> None:
    """A result file with a failure that goes again, so that the run begins with a rewrite."""
    line = parse_request(bench.requests.read_bytes().splitlines()[0], 1)
    good = parse_request(bench.requests.read_bytes().splitlines()[1], 2)
    failed = record("r-1", 1, body_hash=line.body_hash, failed=True, retryable=True)
    bench.results.write_bytes(failed + record("r-2", 2, body_hash=good.body_hash))


KERNEL = [  # fault, whether it counts on the result file alone, what is said, whether anything may be sent
    ("write:error=ENOSPC:when=1", True, "No space left on device", True),
    ("write:error=EIO:when=3", True, "Input/output error", True),
    ("fdatasync:error=EIO:when=1", False, "cannot sync", True),
    ("fsync:error=EIO:when=1", False, "cannot rewrite", False),
    ("rename:error=EXDEV:when=1", False, "cannot rewrite", False),
]


@pytest.mark.parametrize(("fault", "on_results", "says", "sends"), KERNEL, ids=[fault for fault, *_ in KERNEL])
def test_a_system_call_that_fails(bench: Bench, fault: str, on_results: bool, says: str, sends: bool) -> None:
    if not sends:
        _prepare_a_rewrite(bench)
    before = len(ids(bench.results)) if bench.results.exists() else 0
    with bench.start(wrapper=strace(fault, path=bench.results if on_results else None)) as stopped:
        assert stopped.wait() == 3, stopped.screen
        assert says in stopped.screen
        assert "Traceback" not in stopped.screen
    kept = len(read_records(bench.results))
    assert kept >= before
    assert (bench.gateway.ledger.requests > 0) is sends
    assert bench.gateway.ledger.requests <= kept - before + 2
    bench.finishes()


@pytest.mark.smoke
def test_a_failed_sync_stops_the_run_and_is_not_tried_again(slow_bench: Bench) -> None:
    """A sync in the middle of a run: the kernel may have dropped the pages, so a second one proves nothing."""
    bench, trace = slow_bench, slow_bench.folder / "trace"
    write_requests(bench.requests, 60)
    with bench.start(wrapper=strace("fdatasync:error=EIO:when=1", log=trace)) as stopped:
        assert stopped.wait() == 3
        assert "cannot sync" in stopped.screen
    assert trace.read_text().count("fdatasync(") == 1
    kept = len(ids(bench.results))
    assert 0 < kept < 30, "it stopped after a second or so"
    assert bench.lost == 0, "what was in flight has been recorded"
    assert [event["event"] for event in events(bench.results)][-1] == "stop"


@pytest.mark.long
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["write", "fsync", "fdatasync", "rename", "ftruncate"])
def test_the_nth_system_call_fails_for_every_n(tmp_path: Path, call: str, error: str) -> None:
    """The same torture by the kernel; writes count where they go to the result file or to the log."""
    for file in ("results.jsonl", "results.jsonl.log") if call in ("write", "ftruncate") else (None,):
        codes: list[int] = []
        while len(codes) < 40:
            folder = tmp_path / f"{file}-{len(codes)}"
            folder.mkdir()
            with GatewayThread() as gateway:
                bench = Bench(folder, gateway)
                _prepare_a_rewrite(bench)
                with bench.results.open("ab") as file_:
                    file_.write(record("r-3")[:200])  # and a torn tail
                trace = folder / "trace"
                fault = f"{call}:error={error}:when={len(codes) + 1}"
                with bench.start(wrapper=strace(fault, path=folder / file if file else None, log=trace)) as run_:
                    codes.append(run_.wait())
                assert codes[-1] in (0, 2, 3), run_.screen
                assert "Traceback" not in run_.screen
                assert gateway.ledger.requests <= 2 + bench.results.read_bytes().count(b"\n")
                struck = "(INJECTED)" in trace.read_text()
                bench.finishes()
            if not struck:
                break
        print(f"\n{call} {error} {file or 'any'}: {len(codes) - 1} places, exit codes {codes}")
        assert codes[-1] == 0


# ------------------------------------------------------------------------------ somebody else at the files


def _unlinked(results: Path) -> None:
    results.unlink()


def _replaced(results: Path) -> None:
    other = results.with_name("other")
    other.write_bytes(results.read_bytes().splitlines(keepends=True)[0])
    other.replace(results)


def _truncated(results: Path) -> None:
    os.truncate(results, len(results.read_bytes().splitlines(keepends=True)[0]))


def _moved(results: Path) -> None:
    results.rename(results.with_name("moved"))


@pytest.mark.parametrize(
    ("happens", "says", "lost"),
    [
        (_unlinked, "was removed while running", 0),
        (_replaced, "was replaced while running", 0),
        (_truncated, "was changed by another program", 1),
        (_moved, "was removed while running", 2),
    ],
)
def test_the_result_file_is_taken_away(
    slow_bench: Bench, happens: Callable[[Path], None], says: str, lost: int
) -> None:
    """Noticed at the next answer; what was in flight is saved, and only what somebody else took is sent again."""
    bench = slow_bench
    with bench.start() as stopped:
        until(lambda: has_records(bench.results, 2))
        until(lambda: bench.gateway.ledger.in_flight == 2)
        happens(bench.results)
        assert stopped.wait() == 3, stopped.screen
        assert says in stopped.screen
        assert "saved in results.jsonl.rescue" in stopped.screen
    assert bench.gateway.ledger.requests == 4, "nothing more is sent"
    bench.finishes()
    assert bench.gateway.ledger.requests == 6 + lost


def test_the_run_log_is_taken_away(slow_bench: Bench) -> None:
    """It adds to the results and is never needed: the run goes on without it."""
    bench = slow_bench
    with bench.start() as run_:
        until(lambda: has_records(bench.results, 2))
        Path(f"{bench.results}.log").unlink()
        assert run_.wait() == 0
    assert ids(bench.results) == SIX


def test_the_requests_change_under_the_run(bench: Bench) -> None:
    """What is in flight is finished and recorded before the run stops."""
    write_requests(bench.requests, 60, instructions="x" * 50_000)
    with bench.start() as stopped:
        until(lambda: has_records(bench.results, 2))
        write_requests(bench.requests, 60, instructions="y" * 50_000)
        assert stopped.wait() == 3
        assert "changed while running" in stopped.screen
    assert bench.gateway.ledger.requests < 60
    assert bench.lost == 0
