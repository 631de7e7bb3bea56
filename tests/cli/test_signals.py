"""Signals in every phase of a run, a clock that jumps, a machine that sleeps: the file stays whole and goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun import Endpoint
from batchrun.records.request import parse_request
from batchrun.simulator.options import GatewayOptions
from tests.support import (
    KEY,
    GatewayThread,
    RunProcess,
    children,
    events,
    has_event,
    ids,
    read_records,
    record,
    strace,
    until,
    write_prices,
    write_requests,
)

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
AT_ONCE_S = 2.0  # one second is promised; a busy machine may take as much again


class Job:
    """Ten requests, their results, and a run of them."""

    def __init__(self, folder: Path) -> None:
        self.requests = write_requests(folder / "requests.jsonl", 10)
        self.results = folder / "results.jsonl"
        self.prices = write_prices(folder)

    def start(self, base_url: str, *options: str, **popen: Any) -> RunProcess:
        options = ("--prices", str(self.prices), "-c", "4", *options)
        return RunProcess(base_url, self.requests, self.results, *options, **popen)

    def finishes(self) -> None:
        """The file is valid, and the same command goes on with it."""
        read_records(self.results)
        with GatewayThread() as gateway:
            endpoint = Endpoint(gateway.base_url, KEY)
            assert batchrun.run(batchrun.Job(str(self.requests), self.results, endpoint)).exit_code == 0
        assert len(ids(self.results)) == 10


@pytest.fixture
def job(tmp_path: Path) -> Job:
    return Job(tmp_path)


def ended(run: RunProcess, number: signal.Signals, within_s: float) -> int:
    """Send a signal; returns the exit code of a process that must be gone in time."""
    sent = time.monotonic()
    run.signal(number)
    code = run.wait()
    assert time.monotonic() - sent < within_s, run.screen
    assert "Traceback" not in run.screen
    return code


# ------------------------------------------------------------------------------------------ before sending


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143), (HUP, 129)])
def test_while_the_requests_are_read(tmp_path: Path, number: signal.Signals, code: int) -> None:
    fifo, results = tmp_path / "requests", tmp_path / "results.jsonl"
    os.mkfifo(fifo)
    with RunProcess("http://127.0.0.1:9", fifo, results) as run, fifo.open("wb"):  # opens once the run reads
        assert ended(run, number, AT_ONCE_S) == code
        assert "nothing is lost" in run.screen
    assert not results.exists()
    assert not Path(f"{results}.log").exists()


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
def test_while_the_file_is_rewritten(job: Job, number: signal.Signals, code: int) -> None:
    line = parse_request(job.requests.read_bytes().splitlines()[0], 1)
    failed = record("r-1", 1, body_hash=line.body_hash, failed=True, retryable=True)
    others = [
        record(f"r-{at}", at, body_hash=parse_request(raw, at).body_hash)
        for at, raw in enumerate(job.requests.read_bytes().splitlines(), 1)
        if at > 1
    ]
    job.results.write_bytes(failed + b"".join(others))
    with job.start("http://127.0.0.1:9", wrapper=strace("fsync:delay_enter=400000:when=1")) as run:
        rewrite = Path(f"{job.results}.rewrite")
        until(lambda: rewrite.exists() and rewrite.stat().st_size == len(b"".join(others)))
        (pid,) = children(run.pid)
        os.kill(pid, number)
        assert run.wait() == code, run.screen
        assert "Traceback" not in run.screen
    assert not rewrite.exists()
    assert len(ids(job.results)) in (9, 10)
    job.finishes()


# ------------------------------------------------------------------------------------- while it is sending


def _connecting(tmp_path: Path) -> Iterator[tuple[str, Callable[[Job], bool]]]:
    """A port whose queue of connections is full: nobody refuses and nobody accepts."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as server:
        address = server.getsockname()
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}", lambda job: has_event(job.results, "sent", 4)
        for filler in fillers:
            filler.close()


def _scripted(script: str) -> Callable[[Path], Iterator[tuple[str, Callable[[Job], bool]]]]:
    def phase(tmp_path: Path) -> Iterator[tuple[str, Callable[[Job], bool]]]:
        with GatewayThread(GatewayOptions(script=script)) as gateway:
            ledger = gateway.ledger
            yield gateway.base_url, lambda job: has_event(job.results, "ended", 4) and ledger.in_flight == 0

    return phase


def _gate_shut(tmp_path: Path) -> Iterator[tuple[str, Callable[[Job], bool]]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound and not listening: connections are refused
        yield f"http://127.0.0.1:{taken.getsockname()[1]}", lambda job: has_event(job.results, "outage")


PHASES = {
    "connecting": _connecting,
    "backing off": _scripted("locked*"),
    "throttled": _scripted("429@60*"),
    "gate shut": _gate_shut,
    "gate shut by 503": _scripted("503*"),
}


@pytest.mark.parametrize(
    ("phase", "number", "code"),
    [
        ("connecting", INT, 130),
        ("backing off", INT, 130),
        ("backing off", HUP, 129),
        ("throttled", TERM, 143),
        ("gate shut", INT, 130),
        ("gate shut by 503", INT, 130),
    ],
)
def test_nothing_answers_and_a_signal_comes(
    tmp_path: Path, job: Job, phase: str, number: signal.Signals, code: int
) -> None:
    """No wait outlives the signal; what hangs in the network gets the grace time and no more."""
    parts = PHASES[phase](tmp_path)
    base_url, has_begun = next(parts)
    options = ["--grace", "0.3", "--max-attempts", "90", "--connect-timeout", "60"]
    with job.start(base_url, *options) as run:
        until(lambda: has_begun(job))
        assert ended(run, number, 0.3 + AT_ONCE_S) == code
        assert f"interrupted ({number.name})" in run.screen
        assert "next: batchrun run" in run.screen
    assert not list(parts)
    assert ids(job.results) == []
    assert events(job.results)[-1]["event"] == "stop"
    job.finishes()


@pytest.mark.parametrize(("number", "code"), [(INT, 130), (TERM, 143)])
@pytest.mark.smoke
def test_the_first_signal_drains(job: Job, number: signal.Signals, code: int) -> None:
    with GatewayThread(GatewayOptions(latency_median_s=0.25)) as gateway:
        with job.start(gateway.base_url) as run:
            until(lambda: gateway.ledger.in_flight == 4)
            assert ended(run, number, 0.25 + AT_ONCE_S) == code
            assert "finishing 4 in flight, up to 30 s (Ctrl-C stops at once)" in run.screen
        assert gateway.ledger.requests == 4, "nothing more is sent"
        assert all(row.delivered for row in gateway.ledger.rows)
    assert len(ids(job.results)) == 4
    job.finishes()


@pytest.mark.parametrize("second", [INT, HUP])
@pytest.mark.smoke
def test_the_second_signal_leaves_at_once(job: Job, second: signal.Signals) -> None:
    with GatewayThread(GatewayOptions(latency_median_s=60)) as gateway, job.start(gateway.base_url) as run:
        until(lambda: gateway.ledger.in_flight == 4)
        run.signal(INT)
        until(lambda: "finishing 4 in flight" in run.screen)
        assert ended(run, second, AT_ONCE_S) == 130
        assert "4 lines in flight when a run ended; up to $" in run.screen
    report = json.loads(Path(f"{job.results}.report.json").read_text())
    assert report["possibly_billed_twice"]["lines"] == 4
    assert report["lines"]["pending"] == 10
    job.finishes()
    start = [event for event in events(job.results) if event["event"] == "start"][-1]
    assert start["possibly_billed_twice"]["lines"] == 4, "the next run knows it, too"


def test_the_grace_time_ends_the_drain(job: Job) -> None:
    hanging = GatewayOptions(latency_median_s=60)
    with GatewayThread(hanging) as gateway, job.start(gateway.base_url, "--grace", "0.3") as run:
        until(lambda: gateway.ledger.in_flight == 4)
        assert ended(run, INT, 0.3 + AT_ONCE_S) == 130
    job.finishes()


def test_the_terminal_is_gone_when_the_hangup_comes(job: Job) -> None:
    """A closed window: nothing can be printed any more, and the drain goes on all the same."""
    master, terminal = os.openpty()
    slow = GatewayOptions(latency_median_s=0.3)
    with GatewayThread(slow) as gateway, job.start(gateway.base_url, stderr=terminal) as run:
        os.close(terminal)
        until(lambda: gateway.ledger.in_flight == 4)
        os.close(master)
        run.signal(HUP)
        assert run.wait() == 129
    assert gateway.ledger.requests == len(ids(job.results)) == 4
    job.finishes()


def test_nohup_is_heeded(job: Job) -> None:
    slow = GatewayOptions(latency_median_s=0.1)
    with GatewayThread(slow) as gateway, job.start(gateway.base_url, wrapper=["nohup"]) as run:
        until(lambda: gateway.ledger.in_flight == 4)
        run.signal(HUP)
        assert run.wait() == 0
    assert len(ids(job.results)) == 10


# ------------------------------------------------------------------------------------------ standard output


@pytest.mark.smoke
def test_results_to_a_pipe(job: Job) -> None:
    with (
        GatewayThread() as gateway,
        RunProcess(gateway.base_url, job.requests, "-", stdout=subprocess.PIPE) as run,
    ):
        lines = run.process.stdout.readlines()  # type: ignore[union-attr]
        assert run.wait() == 0
    assert len({json.loads(line)["custom_id"] for line in lines}) == 10


def test_the_reader_of_the_pipe_goes_away(tmp_path: Path) -> None:
    """`batchrun run … -o - | head -1`: over at once, though two answers will never come."""
    requests = write_requests(tmp_path / "requests.jsonl", 5000)
    script = "stall; stall; ok!"
    with GatewayThread(GatewayOptions(script=script)) as gateway:
        options = ["-c", "3", "--prices", str(write_prices(tmp_path))]
        with RunProcess(gateway.base_url, requests, "-", *options, stdout=subprocess.PIPE) as run:
            stdout = run.process.stdout
            assert stdout is not None
            assert json.loads(stdout.readline())["response"]["status_code"] == 200
            stdout.close()
            closed = time.monotonic()
            assert run.wait() == 3
            assert time.monotonic() - closed < AT_ONCE_S
            assert "cannot write standard output: Broken pipe" in run.screen
            assert "Traceback" not in run.screen
            assert "Exception ignored" not in run.screen
        assert gateway.ledger.requests < 5000


# ------------------------------------------------------------------------------------------------- clocks

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long shift(void) { const char *flag = getenv("JUMP_FILE"); return flag && !access(flag, F_OK) ? 86400 : 0; }
int clock_gettime(clockid_t id, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(id, now);
    if (id == CLOCK_REALTIME) now->tv_sec += shift();
    return result;
}
time_t time(time_t *out) {
    struct timespec n; clock_gettime(CLOCK_REALTIME, &n);
    if (out) *out = n.tv_sec;
    return n.tv_sec;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec n; clock_gettime(CLOCK_REALTIME, &n);
    now->tv_sec = n.tv_sec; now->tv_usec = n.tv_nsec / 1000; return 0;
}
"""


def _jumping_clock(folder: Path) -> dict[str, str]:
    """The environment of a process whose wall clock is a day ahead while `folder/jump` exists."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler to make a clock that jumps")
    (folder / "shim.c").write_text(_SHIM)
    library = folder / "shim.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, folder / "shim.c", "-ldl"], check=True)
    environment = {"LD_PRELOAD": str(library), "JUMP_FILE": str(folder / "jump")}
    (folder / "jump").touch()
    told = subprocess.run(
        [sys.executable, "-c", "import time; print(time.time())"], env=os.environ | environment, capture_output=True
    )
    (folder / "jump").unlink()
    if not 80_000 < float(told.stdout) - time.time() < 90_000:
        pytest.skip("the clock of this Python cannot be shifted")
    return environment


def test_a_wall_clock_that_jumps_a_day_forth_and_back(tmp_path: Path, job: Job) -> None:
    """With a pace, a pause asked for in seconds, a backoff and every deadline at work."""
    environment = _jumping_clock(tmp_path)
    jump = tmp_path / "jump"
    options = GatewayOptions(latency_median_s=0.1, script="ok; locked ok; ok; 429@1 ok; ok!")
    with GatewayThread(options) as gateway:
        with job.start(gateway.base_url, "--rpm", "600", "--attempt-timeout", "20", env=environment) as run:
            until(lambda: gateway.ledger.requests >= 2)
            jump.touch()
            until(lambda: gateway.ledger.requests >= 8)
            jump.unlink()
            assert run.wait(15) == 0, run.screen
        assert gateway.ledger.requests == 12
    report = json.loads(Path(f"{job.results}.report.json").read_text())
    assert 1.0 < report["duration_s"] < 10
    assert report["latency_s"]["p99"] < 5
    assert 0 <= max(event["t"] for event in events(job.results)) < 15


def test_a_machine_that_sleeps_wakes_without_a_storm(job: Job) -> None:
    """Stopped for a second under a pace of 40 a second: afterwards it is that again, and nothing is sent twice."""
    write_requests(job.requests, 60)
    with GatewayThread() as gateway, job.start(gateway.base_url, "--rpm", "2400") as run:
        until(lambda: gateway.ledger.requests >= 5)
        run.signal(signal.SIGSTOP)
        asleep = time.monotonic()
        until(lambda: time.monotonic() - asleep > 1.0)
        run.signal(signal.SIGCONT)
        assert run.wait() == 0
        arrivals = [row.arrived_s for row in gateway.ledger.rows]
    assert len(arrivals) == 60
    woken = [at for at in arrivals if at > asleep + 0.9]
    assert len(woken) > 40
    busiest = max(sum(start <= at < start + 0.5 for at in woken) for start in woken)
    assert busiest <= 28, "twenty in half a second, four that the bucket holds, and what was under way"
