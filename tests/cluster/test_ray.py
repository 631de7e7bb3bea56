"""A job on real Ray nodes: killed, frozen, resumed, and still one record a line, within the limits of the job."""

from __future__ import annotations

import os
import signal
import sys
import time
from decimal import Decimal
from pathlib import Path
from subprocess import run as run_program

import pytest

from batchrun.cluster.merge import merge
from batchrun.simulator.options import GatewayOptions
from tests.asking import most_in_a_minute
from tests.cluster.raylets import ENVIRONMENT, Bench, Nodes, Slowdown, assert_used, below, bench, kill
from tests.end_to_end.test_secrets import CANARY, STOPS, HostileThread, spoilt
from tests.hostile import KEY
from tests.support import GatewayThread, Json, RunProcess, read_records, until, write_requests

pytest.importorskip("ray", reason="the extra `ray` is not installed")
pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("default")]


# Answers come within half a lease's life: what a dead shard had in flight is over before others get its places.
QUICK: Json = {"latency_median_s": 0.8, "latency_p99_s": 1.0}


def test_a_worker_and_a_raylet_are_killed(tmp_path: Path) -> None:
    with bench(tmp_path, 6000, "-c", "400", "--shards", "8", **QUICK) as job, job.start() as run:
        job.sent(1000)
        until(lambda: job.nodes.shards(job.nodes.nodes[0]))
        kill(job.nodes.shards(job.nodes.nodes[0])[0])
        job.sent(2500)
        job.nodes.kill_raylet(job.nodes.nodes[1])
        job.finish(run, 75)
        assert 350 < job.gateway.ledger.peak_in_flight <= 400


def test_a_raylet_is_frozen_and_thaws(tmp_path: Path) -> None:
    with bench(tmp_path, 6000, "-c", "400", "--shards", "6", **QUICK) as job, job.start() as run:
        job.sent(1000)
        raylet = Nodes.raylet(job.nodes.nodes[0])
        os.kill(raylet, signal.SIGSTOP)
        job.sent(4000)
        os.kill(raylet, signal.SIGCONT)
        job.finish(run, 75)
        assert 350 < job.gateway.ledger.peak_in_flight <= 400


def test_the_driver_is_killed_and_the_same_command_goes_on(tmp_path: Path) -> None:
    with bench(tmp_path, 4000, "-c", "400", "--shards", "6", **QUICK) as job:
        with job.start() as run:
            job.sent(1000)
            with job.start() as second:
                assert second.wait(20) == 2
                assert "is being written by another run" in second.screen
            run.kill()
        with job.start() as again:
            job.finish(again, 60)
        assert 350 < job.gateway.ledger.peak_in_flight <= 400


def test_the_coordinator_is_killed(tmp_path: Path) -> None:
    with bench(tmp_path, 6000, "-c", "400", "--shards", "4", **QUICK) as job, job.start() as run:
        job.sent(1000)
        kill(job.nodes.desk())
        job.sent(3000)
        kill(job.nodes.desk())
        job.finish(run, 60)
        assert 350 < job.gateway.ledger.peak_in_flight <= 400


def test_a_second_driver_goes_on_once_the_first_is_dead(tmp_path: Path) -> None:
    """Within ten seconds; where other programs need the processor, too, as many times longer as these slow it down."""
    with bench(tmp_path, 3000, "-c", "20", "--shards", "4") as job:
        with job.start() as first:
            job.sent(300)
            first.kill()
        with Slowdown() as slowdown, job.start() as second:
            sent, died = job.gateway.ledger.requests, time.monotonic()
            until(lambda: job.gateway.ledger.requests > sent + 40, 60)
            took_s = time.monotonic() - died
            times = slowdown.times()
            job.finish(second, 60)
        assert took_s <= 10 * times


def spent(job: Bench) -> Decimal:
    """What the gateway has billed, by the prices of `write_prices`."""
    billed = job.gateway.ledger.billed_usage()
    full = billed.input_tokens - billed.cached_tokens
    return (2 * full + Decimal("0.5") * billed.cached_tokens + 8 * billed.output_tokens) / 10**6


def test_the_bill_stays_below_the_cap_through_kills_of_all_kinds(tmp_path: Path) -> None:
    cap = Decimal("0.9")
    with bench(tmp_path, 4000, "-c", "40", "--shards", "6", "--max-cost", str(cap)) as job:
        with job.start() as run:
            job.sent(300)
            until(lambda: job.nodes.shards(job.nodes.nodes[0]))
            kill(job.nodes.shards(job.nodes.nodes[0])[0])
            job.sent(500)
            kill(job.nodes.desk())
            job.sent(700)
            job.nodes.kill_raylet(job.nodes.nodes[1])
            job.sent(800)
            run.kill()
        with job.start() as again:
            assert again.wait(80) == 3, again.screen
            assert "--max-cost 0.90 is used up" in again.screen
        assert job.gateway.ledger.requests < 4000
        assert cap * Decimal("0.85") <= spent(job) <= cap


def test_a_minute_has_the_requests_that_the_job_may_send_through_a_death_of_the_coordinator(tmp_path: Path) -> None:
    with bench(tmp_path, 9000, "-c", "60", "--rpm", "6000", "--shards", "4") as job, job.start() as run:
        job.sent(3000)
        with Slowdown() as slowdown:
            kill(job.nodes.desk())
            job.finish(run, 110)
            slower = slowdown.times()
        times = [row.arrived_s for row in job.gateway.ledger.rows]
        assert most_in_a_minute(times, [1] * len(times)) <= 6001
        begun, ended = times[200], times[-200]
        assert_used((len(times) - 400) / (ended - begun) / 100, 0.95, slower)


def command_lines(pids: list[int]) -> bytes:
    """The command lines of processes."""
    found = b""
    for pid in pids:
        path = Path(f"/proc/{pid}/cmdline")
        found += path.read_bytes() if path.exists() else b""
    return found


def test_the_key_is_in_no_file_no_argument_and_no_message(tmp_path: Path) -> None:
    with bench(tmp_path, 400, "-c", "20", "--shards", "4", api_keys=[KEY]) as job:
        with HostileThread(STOPS["a wrong key, echoed"]) as server:
            with job.start(base_url=server.base_url) as refused:
                assert refused.wait(60) == 3, refused.screen
            assert "the gateway refuses the key" in refused.screen
            assert "[the api key]" in refused.screen
        with job.start("-v") as run:
            job.sent(100)
            arguments = command_lines(below(os.getpid()))
            kill(job.nodes.desk())
            job.finish(run, 60)
        assert arguments
        assert CANARY not in arguments
        assert CANARY.decode() not in refused.screen + run.screen
        assert spoilt(tmp_path) == spoilt(job.nodes.folder) == []
        assert any(job.nodes.folder.rglob("*.log")), "Ray has written logs, and they were read"


def test_a_cluster_of_this_machine_is_started_and_ended(tmp_path: Path) -> None:
    """As on a fresh clone: with the sample, from the command line, and without a trace."""
    sample = Path(__file__).parents[2] / "samples" / "mixed" / "requests.jsonl"
    words = ["run", str(sample), "-o", "results", "--ray", "local", "--shards", "4", "--simulate"]
    environment = {**os.environ, **{name: value for name, value in ENVIRONMENT.items() if "health" in name}}
    done = run_program(
        [sys.executable, "-m", "batchrun", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=80,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("batchrun: starting Ray on this machine\n")
    assert "all              23  23       0" in done.stderr
    for command in (["verify", str(sample), "results"], ["merge", "results", "-o", "merged.jsonl"]):
        checked = run_program(
            [sys.executable, "-m", "batchrun", *command],
            cwd=tmp_path,
            capture_output=True,
            encoding="utf-8",
            timeout=30,
        )
        assert checked.returncode == 0, checked.stderr
    assert (tmp_path / "merged.jsonl").read_bytes().count(b"\n") == 23


FROM_PYTHON = """
import sys
from pathlib import Path
from batchrun import Endpoint, Job, Ray, run

class Bar:
    def notice(self, text): pass
    def detail(self, text): pass
    def tick(self, status): self.last = status.limited_by

base_url, requests, results = sys.argv[1:]
bar = Bar()
outcome = run(Job(requests, Path(results), Endpoint(base_url, "sk-test")), bar, cluster=Ray("local", shards=2))
print(outcome.exit_code, outcome.report.lines.succeeded, bar.last)
"""


def test_a_job_from_python(tmp_path: Path) -> None:
    facts: Json = {"latency_median_s": 0.01, "latency_p99_s": 0.02}
    with GatewayThread(GatewayOptions(**facts)) as gateway:
        requests, results = write_requests(tmp_path / "requests.jsonl", 60), tmp_path / "results"
        done = run_program(
            [sys.executable, "-c", FROM_PYTHON, gateway.base_url, str(requests), str(results)],
            env={**os.environ, **{name: value for name, value in ENVIRONMENT.items() if "health" in name}},
            capture_output=True,
            encoding="utf-8",
            timeout=80,
        )
        assert done.returncode == 0, done.stderr
        assert (done.stdout.split(), gateway.ledger.requests) == (["0", "60", "tail_of_the_run"], 60)
        assert lines_of(results) == set(range(1, 61))


def test_a_part_of_a_job_and_the_rest_and_its_answers_again(tmp_path: Path) -> None:
    with bench(tmp_path, 600, "-c", "40", "--shards", "4") as job:
        for options, sent in ((["-n", "200"], 200), (["--sample", "300"], None), ([], 600)):
            with job.start(*options) as run:
                assert run.wait(60) == 0, run.screen
            assert sent is None or job.gateway.ledger.requests == sent
        job.check()
        again = RunProcess(
            job.gateway.base_url, job.requests, tmp_path / "again", *job.options, "--reuse", str(job.results)
        )
        with again as run:
            assert run.wait(60) == 0, run.screen
        assert job.gateway.ledger.requests == 600, "each answer was there"
        assert lines_of(tmp_path / "again") == set(range(1, 601))


def lines_of(directory: Path) -> set[int]:
    """The lines that have a record in a directory."""
    merged = directory.with_name(f"{directory.name}.jsonl")
    merge(directory, merged)
    return {record["run"]["line"] for record in read_records(merged)}


def test_an_interrupted_job_stops_in_order_and_goes_on(tmp_path: Path) -> None:
    with bench(tmp_path, 3000, "-c", "20", "--shards", "6") as job:
        with job.start() as run:
            job.sent(300)
            run.signal(signal.SIGINT)
            assert run.wait(30) == 130, run.screen
            assert job.gateway.ledger.billed_requests == job.gateway.ledger.requests, "what was in flight was finished"
        with job.start() as again:
            report = job.finish(again, 60)
        assert report["possibly_billed_twice"]["lines"] == 0
