"""The run log: what an earlier run said, how it ended, and who has the job now."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.exposure import bound
from batchrun.billing.prices import PriceFile
from batchrun.billing.pricing import PriceBook
from batchrun.errors import DiskError, ResultFileError
from batchrun.records.attempt import BilledTwice, InFlight
from batchrun.results.events import Ended, Event, Outage, Recorded, Sent, Start, Stop
from batchrun.results.last_run import LastRun
from batchrun.results.runlog import RunLog
from tests.support import file_size_limit, near

STARTED = "2026-01-02T03:04:05.678Z"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.jsonl.log"


def written(path: Path, *events: Event) -> None:
    log = RunLog(path, clock=lambda: 0.0)
    for event in events:
        log.write(event)
    log.close()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sent(line: int, model: str = "m", body_bytes: int = 100, **facts: Any) -> Sent:
    return Sent(line, 1, model, body_bytes, **facts)


START = Start(pid=77, started=STARTED)
STOP = Stop(why="done")


def last_run(path: Path) -> LastRun:
    log = RunLog(path)
    log.close()
    return log.last_run


# ------------------------------------------------------------------------------------------------- events


def test_an_event_is_one_line_with_its_time(path: Path) -> None:
    times = iter([100.0, 100.0, 101.2345])
    log = RunLog(path, clock=lambda: next(times))
    log.write(Outage("connect_failed"))
    log.close()
    assert lines(path) == [
        {"event": "open", "pid": os.getpid(), "at": near(time.time(), abs=60), "clock": 100.0, "t": 0.0},
        {"event": "outage", "code": "connect_failed", "t": 1.234},
    ]


def test_a_log_is_added_to(path: Path) -> None:
    written(path, START, STOP)
    written(path, START)
    assert [line["event"] for line in lines(path)] == ["open", "start", "stop", "open", "start"]


def test_only_a_log_that_no_run_began_in_is_forgotten(path: Path) -> None:
    RunLog(path).close()
    assert not path.exists()
    log = RunLog(path)
    log.write(Start())
    log.close()
    assert path.exists()
    RunLog(path).close()
    assert path.exists(), "another run's events are in it"


# ----------------------------------------------------------------------------------------------- last run


def test_no_run_before(path: Path) -> None:
    last = last_run(path)
    assert (last.started, last.stopped, last.sent, last.billed_before) == ("", True, {}, BilledTwice())


@pytest.mark.smoke
def test_what_was_in_flight_is_what_was_sent_and_neither_ended_nor_recorded(path: Path) -> None:
    written(
        path,
        START,
        sent(1),
        sent(2),
        sent(3, model="gpt", body_bytes=7, max_output_tokens=9),
        Ended(1, "x"),
        Recorded([2]),
        sent(4),
        Ended(4, "x"),
        sent(4),
    )
    last = last_run(path)
    assert (last.started, last.stopped) == (STARTED, False)
    assert (list(last.sent), last.in_flight) == ([3, 4], [InFlight("gpt", 7, 9), InFlight("m", 100, None)])


def test_a_record_settles_a_line_of_the_same_run_alone(path: Path) -> None:
    written(path, START, sent(1), sent(2))
    last = last_run(path)
    last.settle("2025-01-02T03:04:05.678Z", 1)
    last.settle(STARTED, 2)
    assert list(last.sent) == [1]


def test_an_orderly_stop_leaves_in_flight_what_was_given_up(path: Path) -> None:
    written(path, START, sent(1), sent(2), Recorded([1]), Stop(why="interrupted"))
    last = last_run(path)
    assert last.stopped
    assert list(last.sent) == [2]


def test_only_the_last_run_counts_and_it_carries_those_before(path: Path) -> None:
    before = BilledTwice(3, Decimal("0.25"), 1, 2)
    written(path, START, sent(1))
    written(path, Start(pid=78, started="later", possibly_billed_twice=before), sent(5))
    last = last_run(path)
    assert (last.started, list(last.sent)) == ("later", [5])
    assert last.billed_before == before


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_torn_event_is_passed_over_and_the_next_stands_alone(path: Path, cut: int) -> None:
    written(path, START, sent(1), sent(2))
    path.write_bytes(path.read_bytes()[:-cut])
    written(path, Ended(1))
    assert json.loads(path.read_bytes().splitlines()[-1])["event"] == "ended"
    assert list(last_run(path).sent) == ([2] if cut == 1 else [])


@pytest.mark.parametrize(
    "garbage", [b"\0" * 50, b"{", b"[1]", b'{"event": 7}', b"\xff", b'{"event":"sent","line":"x"}']
)
def test_unreadable_lines_say_nothing(path: Path, garbage: bytes) -> None:
    written(path, START, sent(1))
    with path.open("ab") as file:
        file.write(garbage + b"\n")
    written(path, sent(2))
    assert list(last_run(path).sent) == [1, 2]


def test_a_look_from_outside(path: Path) -> None:
    """`batchrun report` reads the log without having it; while the run goes on, nothing has been left behind."""
    assert LastRun.read(path) is None
    written(path, START, sent(1))
    log = RunLog(path)
    assert (read := LastRun.read(path)) is not None
    assert read.started == STARTED
    assert read.sent == {}
    log.close()
    assert (read := LastRun.read(path)) is not None
    assert list(read.sent) == [1]


# --------------------------------------------------------------------------------------------- full disks


def test_an_event_that_does_not_fit_leaves_nothing_behind(path: Path) -> None:
    """EFBIG from the kernel at every byte: half an event would swallow the one after it."""
    log = RunLog(path, clock=lambda: 0.0)
    log.write(Start())
    before = path.read_bytes()
    for size in range(len(before), len(before) + 20):
        with file_size_limit(size), pytest.raises(DiskError, match=r"cannot write .* File too large; free some space"):
            log.write(sent(1))
        assert path.read_bytes() == before
    log.write(Stop())
    log.close()
    assert [line["event"] for line in lines(path)] == ["open", "start", "stop"]


def test_a_full_disk_does_not_keep_a_job_from_looking(path: Path) -> None:
    with file_size_limit(0):
        log = RunLog(path)
    assert path.read_bytes() == b""
    log.close()


@pytest.mark.parametrize("make", [Path.mkdir, lambda path: path.parent.rmdir()])
def test_a_log_that_cannot_be_opened(tmp_path: Path, make: Any) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder / "results.jsonl.log")
    with pytest.raises(ResultFileError, match=r"cannot write .*results\.jsonl\.log"):
        RunLog(folder / "results.jsonl.log")


# --------------------------------------------------------------------------------------------------- lock

_HOLD = """
import sys, pathlib, batchrun.results.runlog
log = batchrun.results.runlog.RunLog(pathlib.Path(sys.argv[1]))
print("has it", flush=True)
sys.stdin.read()
"""


def test_another_process_is_refused_with_the_id_of_the_first(path: Path) -> None:
    written(path, START)
    command = [sys.executable, "-c", _HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"has it\n"
        with pytest.raises(
            ResultFileError, match=rf"results\.jsonl is being written by another run \(process {holder.pid}\); wait"
        ):
            RunLog(path)
        holder.kill()
    RunLog(path).close()  # the lock went with the process


def test_a_moment_of_somebody_looking_is_waited_for(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = RunLog(path)
    monkeypatch.setattr(time, "sleep", lambda seconds: first.close())
    RunLog(path).close()


# ------------------------------------------------------------------------------------------ what it may cost

_PRICES = {"priced": {"input": 2, "cached": 4, "output": 8}}


@pytest.fixture
def book(tmp_path: Path) -> PriceBook:
    (tmp_path / "prices.json").write_text(json.dumps(_PRICES))
    return PriceBook(PriceFile.load(tmp_path / "prices.json"))


def test_the_bound_takes_a_token_a_byte_at_the_dearest_and_the_longest_answer_allowed(book: PriceBook) -> None:
    assert bound([InFlight("priced", 1000, 500)], book, 10**9) == BilledTwice(1, Decimal("0.008"), 0, 0)


def test_without_a_limit_the_longest_answer_stands_in_and_is_said_so(book: PriceBook) -> None:
    twice = bound([InFlight("priced", 1000), InFlight("priced", 1000, 500)], book, 250)
    assert twice == BilledTwice(2, Decimal("0.014"), 1, 0)
    assert twice.in_words() == (
        "up to $0.014 may have been billed twice (1 set no max_output_tokens: counted as the longest answer so far)"
    )


def test_what_nobody_can_know_is_not_called_nothing(book: PriceBook) -> None:
    some = bound([InFlight("priced", 1000, 500), InFlight("nobody-knows-it", 1000, 500)], book, 0)
    assert some == BilledTwice(2, Decimal("0.006") + Decimal("0.002"), 0, 1)
    assert some.in_words() == "up to $0.008 may have been billed twice, and an unknown amount for 1 of them"
    none = bound([InFlight("priced", 1000)], book, 0)
    assert none == BilledTwice(1, Decimal(0), 0, 1)
    assert "cost is unknown" in none.in_words()


def test_nothing_in_flight(book: PriceBook) -> None:
    assert bound([], book, 0) == BilledTwice()


def test_many_events_are_read_together_and_a_torn_one_among_them_is_left_out(path: Path) -> None:
    written(path, START, *map(sent, range(1, 3000)), Recorded(list(range(1, 2500))))
    lines = path.read_bytes().splitlines(keepends=True)
    whole, torn = LastRun(lines), LastRun([*lines[:1500], lines[1500][:20] + b"\n", *lines[1501:]])
    assert list(whole.sent) == list(torn.sent) == list(range(2500, 3000))
    assert len(torn.recent) == len(whole.recent) - 1
