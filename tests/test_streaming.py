"""Results while they come, requests from Python, a job inside a running loop, and the bar of a notebook."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import io
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun import (
    Endpoint,
    Gateway,
    GatewayOptions,
    InputError,
    Job,
    Limits,
    Result,
    Status,
    StopError,
    UsageError,
    run,
    run_async,
    stream,
)
from batchrun.engine.observer import Silent
from batchrun.job.handout import ROOM_RESULTS
from batchrun.records.answer import text_of
from tests.support import until

ROOT = Path(__file__).parents[1]
NOWHERE = Endpoint("http://127.0.0.1")


def bodies(count: int) -> list[dict[str, Any]]:
    return [{"custom_id": f"r-{i}", "body": {"model": "gpt-4.1", "input": f"question {i}"}} for i in range(count)]


def job(results: Path | None, count: int = 5, script: str = "", **options: Any) -> Job:
    return Job(bodies(count), results, NOWHERE, simulate=GatewayOptions(script=script), **options)


def settled(path: Path) -> int:
    """The number of records in a file, once no more come."""
    before = -1
    while before != (count := len(ids(path))):
        before = count
        time.sleep(0.5)
    return count


def ids(path: Path) -> list[str]:
    """The ids of the whole records of a file that may be written just now."""
    *lines, _ = path.read_bytes().split(b"\n")
    return [json.loads(line)["custom_id"] for line in lines]


# ------------------------------------------------------------------------------------------ results as they come


@pytest.mark.smoke
async def test_each_result_is_in_the_file_before_it_is_handed_out(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    results, seen = stream(job(path, 20)), list[Result]()
    async for result in results:
        seen.append(result)
        assert result.record in path.read_bytes().splitlines()
        assert (result.error, result.run.outcome) == (None, "succeeded")
        assert result.text
        assert result.body["object"] == "response"
    assert [result.custom_id for result in seen] == ids(path)
    assert results.outcome is not None
    assert results.outcome.report.lines.succeeded == 20
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_without_a_result_file_results_are_handed_out_and_nothing_is_printed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert {result.custom_id async for result in stream(job(None))} == {f"r-{i}" for i in range(5)}
    assert capfd.readouterr() == ("", "")


async def test_a_resumed_job_hands_out_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    first = [result.custom_id async for result in stream(job(path, limit=2))]
    rest = [result.custom_id async for result in stream(job(path))]
    assert (len(first), len(rest)) == (2, 3)
    assert [result async for result in stream(job(path))] == []


async def test_a_line_that_failed_is_handed_out_with_its_error(tmp_path: Path) -> None:
    results = [result async for result in stream(job(tmp_path / "r.jsonl", 1, "context"))]
    assert results[0].error is not None
    assert results[0].error.code == "context_length_exceeded"
    assert results[0].text is None


async def test_a_job_that_stops_early_says_so_after_its_last_result(tmp_path: Path) -> None:
    results, seen = stream(job(tmp_path / "r.jsonl", 5, "ok" + 4 * "; badkey*", limits=Limits(1))), list[str]()

    async def consume() -> None:
        async for result in results:
            seen.append(result.custom_id)

    with pytest.raises(StopError, match="refuses the key"):
        await consume()
    assert seen == ["r-0"]
    assert results.outcome is not None
    assert results.outcome.exit_code == 3


async def test_a_job_that_cannot_begin_raises_at_the_first_result(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("my notes\n")
    with pytest.raises(UsageError, match="contains no batchrun results"):
        await anext(stream(job(tmp_path / "notes.txt")))


async def test_a_slow_consumer_slows_the_job_down(tmp_path: Path) -> None:
    """While nobody takes results, no more lines are read than there is room for."""
    path, count = tmp_path / "r.jsonl", 4 * ROOM_RESULTS
    async with stream(job(path, count, limits=Limits(8))) as results:
        await anext(results)
        before = await asyncio.to_thread(settled, path)
        assert ROOM_RESULTS <= before <= ROOM_RESULTS + 2 * 8
        taken = 1 + len([result async for result in results])
    assert taken == count == len(set(ids(path)))


@pytest.mark.parametrize("how", ["aclose", "break", "cancel"])
async def test_a_stream_that_is_left_stops_its_job_and_the_same_job_resumes(tmp_path: Path, how: str) -> None:
    path = tmp_path / "r.jsonl"
    async with Gateway(GatewayOptions(script="ok; ok; stall")) as gateway:
        begun = Job(bodies(20), path, Endpoint(gateway.base_url), limits=Limits(4))

        kept = []

        async def consume() -> None:
            results = stream(begun)
            if how != "break":
                kept.append(results)  # so that it is not the end of the object that stops the job
            taken = 0
            async for _ in results:
                taken += 1
                if taken == 2 and how != "cancel":
                    break
            if how == "aclose":
                await results.aclose()

        consuming = asyncio.create_task(consume())
        if how == "cancel":
            await asyncio.to_thread(until, lambda: path.exists() and len(ids(path)) >= 2)
            consuming.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await consuming
        del consuming
        gc.collect()
        answered = len(ids(path))
        if how == "break":  # the job is stopped by the loop, a little later
            others = [task for task in asyncio.all_tasks() if "_handed_out" in repr(task.get_coro())]
            await asyncio.wait_for(asyncio.gather(*others, return_exceptions=True), 20)
        async with Gateway() as mended:
            outcome = await run_async(Job(bodies(20), path, Endpoint(mended.base_url)))
            assert mended.ledger.requests == 20 - answered
    assert outcome.exit_code == 0
    assert len(set(ids(path))) == len(ids(path)) == 20


def test_the_text_of_an_answer_is_found_in_both_shapes_and_nowhere_else() -> None:
    message = {
        "type": "message",
        "content": [{"type": "output_text", "text": "a"}, {"type": "output_text", "text": "b"}],
    }
    assert text_of({"output": [{"type": "reasoning"}, message, message]}) == "abab"
    assert text_of({"choices": [{"message": {"content": "a"}}]}) == "a"
    broken: list[Any] = [
        None,
        [],
        "a",
        {},
        {"output": None},
        {"output": [None, {"type": "message"}]},
        {"choices": [None]},
    ]
    for body in broken:
        assert text_of(body) is None


async def test_a_cancelled_job_leaves_no_lock_behind_while_it_is_prepared(tmp_path: Path) -> None:
    """The generator holds the preparation up until it is cancelled: the result file must be free afterwards."""
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> Iterator[dict[str, Any]]:
        begun.set()
        assert go_on.wait(20)
        yield from bodies(3)

    path = tmp_path / "r.jsonl"
    running = asyncio.create_task(run_async(Job(slow(), path, NOWHERE, simulate=GatewayOptions())))
    await asyncio.to_thread(begun.wait, 20)
    running.cancel()
    asyncio.get_running_loop().call_later(0.1, go_on.set)
    with pytest.raises(asyncio.CancelledError):
        await running
    assert (await run_async(job(path))).exit_code == 0


# ------------------------------------------------------------------------------------------ requests from Python


def test_requests_are_dicts_in_a_list_or_from_a_generator(tmp_path: Path) -> None:
    for number, requests in enumerate((bodies(3), iter(bodies(3)), tuple(bodies(3)))):
        path = tmp_path / f"{number}.jsonl"
        assert run(Job(requests, path, NOWHERE, simulate=GatewayOptions())).exit_code == 0
        assert sorted(ids(path)) == ["r-0", "r-1", "r-2"]
    bare = [{"model": "gpt-4.1", "input": "Größe?"}, {"model": "gpt-4.1", "input": "Größe?"}]
    run(Job(bare, tmp_path / "bare.jsonl", NOWHERE, simulate=GatewayOptions()))
    first, second = sorted(ids(tmp_path / "bare.jsonl"))
    assert second == f"{first}-2"


def test_a_job_of_dicts_resumes_by_ids_and_content_as_that_of_their_file_does(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    requests = tmp_path / "q.jsonl"
    requests.write_bytes(b"".join(json.dumps(one, separators=(",", ":")).encode() + b"\n" for one in bodies(5)))
    assert run(job(path, limit=2)).report.lines.pending == 3
    assert run(Job(requests, path, NOWHERE, simulate=GatewayOptions())).report.lines.succeeded == 5
    assert run(job(path)).report.attempts == 5, "nothing is sent again"
    edited = [*bodies(4), {"custom_id": "r-4", "body": {"model": "gpt-4.1", "input": "another"}}]
    with pytest.raises(UsageError, match="'r-4' was edited after its answer"):
        run(Job(edited, path, NOWHERE, simulate=GatewayOptions()))


def test_requests_from_a_generator_do_not_stay_in_memory(tmp_path: Path) -> None:
    """200 MB of requests pass through, and the process grows by a fraction of that."""
    script = """
import resource, sys
from batchrun import Endpoint, GatewayOptions, Job, run
def peak_mib(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
def requests():
    for i in range(200):
        yield {"model": "gpt-4.1", "input": f"{i} " + "x" * 1_000_000}
run(Job([{"model": "gpt-4.1", "input": "a"}], "first.jsonl", Endpoint("http://a"), simulate=GatewayOptions()))
before = peak_mib()
run(Job(requests(), "r.jsonl", Endpoint("http://a"), simulate=GatewayOptions(keep_rows=False), limit=1))
print(peak_mib() - before)
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 60


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        ([], "requests: there are none; a generator gives its requests once"),
        (["a"], "requests:1: a str, not a dict"),
        ([{"model": "m", "input": "a"}, 3], "requests:2: a int, not a dict"),
        ([{"model": "m", "input": {1, 2}}], "requests:1: not JSON (Type is not JSON serializable: set)"),
        ([{"model": "m", "input": "a", "temperature": float("nan")}], "requests:1: not JSON (Out of range float"),
        ([{"input": "a"}], 'requests:1: no "model"'),
    ],
)
def test_requests_that_are_none_are_refused_before_anything_is_sent(
    tmp_path: Path, requests: Any, message: str
) -> None:
    with pytest.raises(InputError) as raised:
        run(Job(requests, tmp_path / "r.jsonl", NOWHERE, simulate=GatewayOptions()))
    assert str(raised.value).startswith(message)
    assert not (tmp_path / "r.jsonl").exists()


def test_what_is_no_job_is_refused() -> None:
    begin: Any
    for begin in (run, stream):
        with pytest.raises(UsageError, match=r"^job is 'q.jsonl' \(str\); write Job\("):
            begin("q.jsonl")


@pytest.mark.parametrize("requests", [{"model": "m", "input": "a"}, b"q.jsonl", 7])
def test_what_is_neither_a_path_nor_a_list_is_refused(requests: Any) -> None:
    with pytest.raises(UsageError, match=r"^requests is .*; write the path of a file, or a list of dicts"):
        Job(requests, None, NOWHERE)


def test_an_error_of_the_generator_is_the_callers(tmp_path: Path) -> None:
    def broken() -> Iterator[dict[str, Any]]:
        yield from bodies(2)
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(Job(broken(), tmp_path / "r.jsonl", NOWHERE, simulate=GatewayOptions()))
    assert not (tmp_path / "r.jsonl").exists()


# ------------------------------------------------------------------------------------- in a loop, in a notebook


async def test_run_works_where_a_loop_is_running(tmp_path: Path) -> None:
    assert run(job(tmp_path / "r.jsonl")).report.lines.succeeded == 5
    with pytest.raises(UsageError, match="none for this request file"):
        run(Job([{"model": "gpt-4.1", "input": "another"}], tmp_path / "r.jsonl", NOWHERE, simulate=GatewayOptions()))


def test_a_notebooks_standard_output_takes_no_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    with pytest.raises(UsageError, match="standard output takes no bytes here; name a result file"):
        run(job(None))


def test_ctrl_c_in_a_notebook_stops_the_job_and_gives_its_files_back(tmp_path: Path) -> None:
    script = """
import asyncio, json, os, signal, threading, time
from batchrun import Endpoint, GatewayOptions, Job, Limits, run
requests = [{"model": "gpt-4.1", "input": str(i)} for i in range(20)]
def job(script):
    return Job(requests, "r.jsonl", Endpoint("http://a"), limits=Limits(4), simulate=GatewayOptions(script=script))
def interrupt():
    while not os.path.exists("r.jsonl") or open("r.jsonl").read().count("\\n") < 2: time.sleep(0.01)
    os.kill(os.getpid(), signal.SIGINT)
async def cell():
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as a kernel has it
    threading.Thread(target=interrupt).start()
    try: run(job("ok; ok; stall"))
    except KeyboardInterrupt: print("stopped")
    print(run(job("")).report.lines.succeeded)
asyncio.run(cell())
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.stdout == "stopped\n20\n", done.stderr


NOTEBOOK = """
import sys, types, warnings
warnings.simplefilter("ignore")  # tqdm's own, where ipywidgets is missing
shell = types.SimpleNamespace(config={"IPKernelApp": {}})
sys.modules["IPython"] = types.SimpleNamespace(get_ipython=lambda: shell)
"""
SHOWN = """
from batchrun import Endpoint, GatewayOptions, Job, run
requests = [{"model": "gpt-4.1", "input": str(i)} for i in range(5)]
run(Job(requests, "r.jsonl", Endpoint("http://a"), simulate=GatewayOptions()), progress=True)
"""


@pytest.mark.parametrize(("before", "bar"), [(NOTEBOOK, True), ("", False)])
def test_a_bar_is_shown_in_a_notebook_and_not_in_a_pipe(tmp_path: Path, before: str, bar: bool) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", before + SHOWN],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == ""
    assert ("5/5 100%|" in done.stderr) is bar


def test_a_bar_is_asked_for_with_true(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"progress is 'yes' \(str\); write True or False"):
        run(job(tmp_path / "r.jsonl"), progress="yes")  # type: ignore[arg-type]


def test_a_bar_and_an_observer_see_the_same(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    class Seen(Silent):
        def __init__(self) -> None:
            self.notices: list[str] = []
            self.last: Status | None = None

        def notice(self, text: str) -> None:
            self.notices.append(text)

        def tick(self, status: Status) -> None:
            self.last = status

    seen = Seen()
    run(job(tmp_path / "r.jsonl", limit=3))
    with (tmp_path / "r.jsonl").open("ab") as results:
        results.write(b'{"id":"batch_req_')
    run(job(tmp_path / "r.jsonl"), seen, progress=True)
    assert seen.last is not None
    assert seen.last.done == 5
    assert capfd.readouterr().err == "".join(f"batchrun: {notice}\n" for notice in seen.notices) != ""
