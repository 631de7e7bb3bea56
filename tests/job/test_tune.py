"""`batchrun tune`: the request file, who may leave one, and a live run that does as it says."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from batchrun import Endpoint, Job, run
from batchrun.cli.main import cli
from batchrun.engine.observer import Status
from batchrun.errors import DiskError, StopError, UsageError
from batchrun.job import tune
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Concurrency, Limits
from batchrun.results.events import Event, Limited, Start
from batchrun.results.paths import ResultPaths
from batchrun.results.runlog import RunLog
from batchrun.simulator.options import GatewayOptions
from tests.asking import in_virtual_time, most_in_a_minute
from tests.support import (
    KEY,
    GatewayThread,
    RunProcess,
    events,
    has_event,
    has_records,
    until,
    write_prices,
    write_requests,
)

# ------------------------------------------------------------------------------------- the request file


@pytest.fixture
def left(tmp_path: Path) -> Path:
    """Where a run looks for a request."""
    return ResultPaths.of(tmp_path / "results.jsonl").tune


def write(path: Path, text: str, mode: int = 0o600) -> None:
    path.write_text(text)
    path.chmod(mode)


def test_where_nothing_lies_there_is_nothing_to_do(left: Path) -> None:
    assert tune.take(left) is None


def test_a_request_is_taken_away_as_it_is_read(left: Path) -> None:
    write(left, '{"id":"7","concurrency":"64","rpm":3000,"paused":true}')
    assert tune.take(left) == tune.Tuning("7", "64", 3000.0, paused=True)
    assert not left.exists()


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_request_that_others_may_write_is_refused(left: Path, mode: int) -> None:
    write(left, '{"id":"7","paused":true}', mode)
    assert tune.take(left) == "results.jsonl.tune can be written by other users"
    assert not left.exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give a file away")
def test_a_request_of_somebody_else_is_refused(left: Path) -> None:
    write(left, '{"id":"7","paused":true}')
    os.chown(left, 12345, 12345)
    assert tune.take(left) == "results.jsonl.tune can be written by other users"


def test_a_link_to_a_request_is_refused(left: Path, tmp_path: Path) -> None:
    write(tmp_path / "elsewhere", '{"id":"7","paused":true}')
    left.symlink_to(tmp_path / "elsewhere")
    assert isinstance(tune.take(left), str)
    assert (tmp_path / "elsewhere").exists()


def test_a_pipe_in_its_place_holds_nothing_up(left: Path) -> None:
    os.mkfifo(left, 0o600)
    assert isinstance(tune.take(left), str)
    assert not left.exists()


def test_a_folder_in_its_place_is_refused_and_left_alone(left: Path) -> None:
    (left / "inside").mkdir(parents=True)
    for _ in range(2):
        assert tune.take(left) == "results.jsonl.tune can be written by other users"
    assert (left / "inside").exists()


@pytest.mark.parametrize(
    "text", ["", "{", '{"rpm":-3}', "[]", '{"rpm":"many"}', '{"id":"7","pad":"' + "x" * 9000 + '"}']
)
def test_what_is_no_request_is_refused(left: Path, text: str) -> None:
    write(left, text)
    assert tune.take(left) == "results.jsonl.tune is not a batchrun request"


# --------------------------------------------------------------------------------------------- who asks


def test_without_a_run_there_is_nobody_to_tune(tmp_path: Path, left: Path) -> None:
    results = tmp_path / "results.jsonl"
    with pytest.raises(UsageError, match="no run is writing"):
        tune.ask(results, tune.Tuning(paused=True))
    log = RunLog(tmp_path / "results.jsonl.log")
    log.write(Start())
    log.close()
    with pytest.raises(UsageError, match="no run is writing"):
        tune.ask(results, tune.Tuning(paused=True))
    assert not left.exists()


def test_a_run_that_does_not_answer_is_told_of(tmp_path: Path, left: Path) -> None:
    log = RunLog(tmp_path / "results.jsonl.log")  # it is being prepared
    with pytest.raises(StopError, match="reads it when it starts to send"):
        tune.ask(tmp_path / "results.jsonl", tune.Tuning(paused=True), patience_s=0.1)
    assert left.stat().st_mode & 0o777 == 0o600
    assert isinstance(tune.take(left), tune.Tuning)
    log.close()


def test_a_run_that_ends_meanwhile_leaves_no_request_behind(tmp_path: Path, left: Path) -> None:
    log = RunLog(tmp_path / "results.jsonl.log")

    def end() -> None:
        until(left.exists)
        log.close()

    ending = threading.Thread(target=end)
    ending.start()
    with pytest.raises(UsageError, match="has ended"):
        tune.ask(tmp_path / "results.jsonl", tune.Tuning(paused=True))
    ending.join()
    assert not left.exists(), "or the next run would be paused"


# ------------------------------------------------------------------------------------------ the limiter


def test_a_paused_limiter_lets_nobody_through_and_goes_on_where_it_was() -> None:
    async def play() -> None:
        limiter = Limiter(Limits(2), asyncio.get_running_loop().time, lambda why: None)
        first = await limiter.acquire(0)
        limiter.retune(limiter.limits, is_paused=True)
        waits = asyncio.create_task(limiter.acquire(0))
        await asyncio.sleep(100)
        assert first is not None
        assert not waits.done()
        assert limiter.limited_by.value == "paused"
        limiter.answered(first, None)
        await asyncio.sleep(100)
        assert not waits.done()
        limiter.retune(limiter.limits, is_paused=False)
        await asyncio.sleep(0)
        assert waits.done()

    in_virtual_time(play)


def test_other_limits_hold_from_then_on() -> None:
    async def play() -> None:
        clock = asyncio.get_running_loop().time
        limiter = Limiter(Limits(4), clock, lambda why: None)
        times: list[float] = []
        highest = 0

        async def work() -> None:
            nonlocal highest
            while clock() < began + 360 and (permit := await limiter.acquire(500)) is not None:
                times.append(clock())
                highest = max(highest, limiter.in_flight)
                await asyncio.sleep(0.1)
                limiter.answered(permit, 500.0)

        began = clock()
        workers = [asyncio.create_task(work()) for _ in range(40)]
        await asyncio.sleep(10)
        assert highest == 4
        limiter.retune(Limits(40, requests_per_minute=600), is_paused=False)
        changed = clock()
        await asyncio.sleep(110)
        paced = [time for time in times if time > changed]
        assert most_in_a_minute(paced, [1] * len(paced)) <= 601
        assert len(paced) >= 0.97 * 600 * 110 / 60
        limiter.retune(Limits(40, tokens_per_minute=60_000), is_paused=False)
        changed = clock()
        await asyncio.sleep(110)
        paced = [time for time in times if time > changed]
        assert most_in_a_minute(paced, [500] * len(paced)) <= 60_500
        limiter.retune(Limits(Concurrency(1, 12)), is_paused=False)
        await asyncio.sleep(5)
        highest = 0
        await asyncio.sleep(20)
        assert highest == 12
        await asyncio.gather(*workers)

    in_virtual_time(play)


# -------------------------------------------------------------------------------------------- a live run


@pytest.fixture
def gateway() -> Iterator[GatewayThread]:
    with GatewayThread(GatewayOptions(latency_median_s=0.1)) as thread:
        yield thread


def tuned(results: Path, *words: object) -> Any:
    return CliRunner().invoke(cli, ["tune", str(results), *map(str, words)])


@pytest.mark.smoke
def test_a_run_does_as_it_is_told(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 4000), tmp_path / "results.jsonl"
    prices = write_prices(tmp_path)
    capped = ("-c", "2", "--prices", str(prices), "--max-cost", "1000")
    with RunProcess(gateway.base_url, requests, results, *capped) as run:
        until(lambda: has_records(results, 4))
        assert gateway.ledger.peak_in_flight == 2
        done = tuned(results, "-c", "30", "--rpm", "60000", "--max-cost", "900")
        assert done.exit_code == 0, done.output
        assert f"process {run.pid}: -c 30, --rpm 60000, --max-cost 900; " in done.output
        until(lambda: gateway.ledger.peak_in_flight == 30)

        assert "paused" in tuned(results, "--pause").output
        until(lambda: gateway.ledger.in_flight == 0)
        sent = gateway.ledger.requests
        still = tuned(results)
        done = len(results.read_bytes().splitlines())
        how_far = rf"{done}/4,000 done \(\d+%\), ETA [\d:]+, 0 failed, \$0\.\d+ of ~\$\d+\.\d+"
        assert re.fullmatch(how_far, still.output.splitlines()[1])
        assert still.output.startswith(f"process {run.pid}: -c 30, --rpm 60000, --max-cost 900; paused, 0 still in")
        assert gateway.ledger.requests == sent
        assert tuned(results, "--resume", "--rpm", "off").output.count("--rpm") == 0
        until(lambda: gateway.ledger.requests > sent)

        assert tuned(results, "--max-cost", "0.0001").exit_code == 0
        assert run.wait() == 3, "what is spent is more than the cap: nothing more is sent"
        assert "--max-cost 0.0001 is used up" in run.screen
        assert "tuned: -c 30, --rpm 60000, --max-cost 900" in run.screen
    stood = [event for event in events(results) if event["event"] == "tuned"]
    assert len(stood) == 5
    assert not ResultPaths.of(results).tune.exists()
    assert KEY not in json.dumps(stood)


def test_a_run_without_a_cap_takes_none_and_changes_nothing_else(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 4000), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run:
        until(lambda: has_records(results, 1))
        refused = tuned(results, "-c", "9", "--max-cost", "5")
        assert isinstance(refused.exception, UsageError)
        assert "began without --max-cost" in str(refused.exception)
        assert str(refused.exception).endswith("; nothing was changed (-c 9, --max-cost 5)")
        assert "-c 2;" in tuned(results).output
        assert gateway.ledger.peak_in_flight == 2
        run.kill()


def test_an_endpoint_without_a_cap_names_its_own_way_to_one() -> None:
    """The run may have one."""
    request = tune.Tuning(endpoint="a", max_cost_usd="5")
    with pytest.raises(UsageError, match=r"^endpoint a began without max_cost_usd, .*write it in the endpoints file"):
        tune.changed(request, tune.Tunable(Limits(), None, is_paused=False))


def test_who_tunes_at_once_is_heard_one_after_the_other(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 4000), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run:
        until(lambda: has_records(results, 1))
        asked = [tune.Tuning(concurrency=str(number)) for number in range(11, 16)]
        with ThreadPoolExecutor(5) as pool:
            answers = list(pool.map(lambda tuning: tune.ask(results, tuning), asked))
        assert {answer.pid for answer in answers} == {run.pid}
        run.kill()
    assert sum(event["event"] == "tuned" for event in events(results)) == 5


def test_a_folder_in_the_way_is_told_of_once_and_holds_nothing_up(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 60), tmp_path / "results.jsonl"
    ResultPaths.of(results).tune.mkdir()
    with RunProcess(gateway.base_url, requests, results, "-c", "4") as run:
        assert run.wait() == 0
        assert run.screen.count("a request to tune this run is refused") == 1


NONSENSE: list[dict[str, Any]] = [
    {"max_cost_usd": "a lot"},
    {"max_cost_usd": "NaN"},
    {"max_cost_usd": "sNaN"},
    {"max_cost_usd": "-1"},
    {"max_cost_usd": "1e999999"},
    {"max_cost_usd": ""},
    {"concurrency": "many"},
    {"concurrency": "9" * 3000},
    {"rpm": 1e-9},
]


def test_a_request_that_makes_no_sense_is_refused_in_words_and_ends_nothing(
    tmp_path: Path, gateway: GatewayThread
) -> None:
    """`batchrun tune` writes no such request; anybody with an editor may."""
    requests, results = write_requests(tmp_path / "requests.jsonl", 20_000), tmp_path / "results.jsonl"
    log = ResultPaths.of(results).log
    with RunProcess(gateway.base_url, requests, results, "-c", "2", "--max-cost", "100") as process:
        until(lambda: has_records(results, 1))
        for number, change in enumerate(NONSENSE):
            tune._lay_down(ResultPaths.of(results).tune, json.dumps({"id": f"n{number}", **change}).encode(), 9)
            until(lambda: f'"id":"n{number}"'.encode() in log.read_bytes())  # noqa: B023
        answers = [event for event in events(results) if event["event"] == "tuned"]
        assert len(answers) == 9
        assert all(answer["refused"] and answer["concurrency"] == "2" for answer in answers)
        assert "Traceback" not in process.screen
        recorded = results.read_bytes().count(b"\n")
        until(lambda: has_records(results, recorded + 5))
        process.kill()


class BrokenObserver:
    """Fails at everything."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)

    def detail(self, text: str) -> None:
        raise RuntimeError("no detail")

    def tick(self, status: Status) -> None:
        raise RuntimeError("the window is gone")


def test_a_screen_that_fails_ends_no_run_and_is_told_once(tmp_path: Path) -> None:
    requests, observer = write_requests(tmp_path / "requests.jsonl", 30), BrokenObserver()
    simulated = GatewayOptions(latency_median_s=0.3, script="500 ok", keep_rows=False)
    job = Job(str(requests), tmp_path / "results.jsonl", Endpoint("http://127.0.0.1"), simulate=simulated)
    assert run(job, observer).exit_code == 0
    assert len([text for text in observer.notices if "has failed (RuntimeError" in text]) == 1


def test_a_log_of_limits_that_cannot_be_written_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is full for a moment: attempts need their log, limits do not."""
    requests, really = write_requests(tmp_path / "requests.jsonl", 30), RunLog.write

    def write(log: RunLog, *told: Event) -> None:
        if any(isinstance(event, Limited) for event in told):
            raise DiskError("no room")
        really(log, *told)

    monkeypatch.setattr(RunLog, "write", write)
    simulated = GatewayOptions(latency_median_s=0.3, keep_rows=False)
    job = Job(str(requests), tmp_path / "results.jsonl", Endpoint("http://127.0.0.1"), simulate=simulated)
    assert run(job).exit_code == 0


def test_a_run_that_is_stopping_says_so_and_takes_nothing_up(tmp_path: Path) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 40), tmp_path / "results.jsonl"
    with (
        GatewayThread(GatewayOptions(latency_median_s=3)) as slow,
        RunProcess(slow.base_url, requests, results, "-c", "4") as run,
    ):
        until(lambda: slow.ledger.in_flight == 4)
        run.signal(signal.SIGTERM)
        until(lambda: "stopping" in run.screen)
        refused = tuned(results, "-c", "9")
        assert "this run is stopping: interrupted (SIGTERM)" in str(refused.exception)
        assert "limited by stopping" in tuned(results).output
        assert run.wait() == 143


@pytest.mark.parametrize("rate", ["1e-300", "0", "-3", "nan"])
def test_a_rate_that_is_none_is_refused_by_whoever_reads_it(rate: str) -> None:
    for words in (["tune", "r.jsonl"], ["run", "q.jsonl", "-o", "r.jsonl"]):
        for option in ("--rpm", "--tpm"):
            done = CliRunner().invoke(cli, [*words, option, rate])
            assert done.exit_code == 2
            assert option in done.output


def test_what_was_tuned_ends_with_the_run(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 60), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run:
        until(lambda: has_records(results, 1))
        assert tuned(results, "--pause").exit_code == 0
        run.kill()
    with RunProcess(gateway.base_url, requests, results, "-c", "9") as again:
        assert again.wait() == 0
    assert has_records(results, 60)


def test_ctrl_c_ends_a_run_that_is_paused(tmp_path: Path, gateway: GatewayThread) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 4000), tmp_path / "results.jsonl"
    with RunProcess(gateway.base_url, requests, results, "-c", "2") as run:
        until(lambda: has_records(results, 1))
        assert tuned(results, "--pause").exit_code == 0
        run.signal(signal.SIGINT)
        assert run.wait() == 130
    assert has_event(results, "stop")
