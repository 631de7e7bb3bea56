"""batchrun from Python: a job is one function call, with typed options and a typed report; nothing is printed.

from batchrun import Endpoint, Job, run

outcome = run(Job("requests.jsonl", Path("results.jsonl"), Endpoint("https://gateway.example/v1", key)))
outcome.report.cost.total_usd
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import io
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import TracebackType
from typing import IO, Any, TypeVar

from batchrun import checks
from batchrun.cluster.driver import Driver
from batchrun.cluster.options import Ray
from batchrun.engine.observer import Observer, Silent, Together
from batchrun.errors import StopError
from batchrun.job.handout import HandOut, Nowhere
from batchrun.job.job import Job
from batchrun.job.prepare import Prepared, prepare
from batchrun.job.run import Run
from batchrun.job.summary import Summary
from batchrun.records.answer import Result
from batchrun.report.report import Report
from batchrun.transport.endpoint import Endpoint

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    `report`: the report of the whole result file, over all runs.
    `exit_code`: the exit code that the command would have: 0 if every line succeeded, 1 if some lines are errors,
    3 if the job stopped early (`report.stopped` says why), 128 + its number after a signal (130 after Ctrl-C).
    """

    report: Report
    exit_code: int

    def __str__(self) -> str:
        """The report as text for people."""
        return str(self.report)


async def run_async(
    job: Job, observer: Observer | None = None, *, progress: bool = False, cluster: Ray | None = None
) -> Outcome:
    """Run a job in the event loop of the caller. `observer` is told what happens; None means no observer.

    `cluster`: a Ray cluster on which it runs in shards; `results` is then a directory. None runs it in this process.
    `progress`: whether a bar is shown, on a terminal or in a notebook; elsewhere it is a line every 30 s, on standard
    error.
    Cancel the task to stop at once: the result file stays valid, and the same call resumes.
    Raises a `BatchrunError` if the job cannot begin: `InputError` for a bad request file, `ResultFileError` for a
    result file that is locked, belongs to other requests, has records of another version or was made from requests
    that were edited since, `UsageError` for anything else. Failed lines, and a job that stops early, raise nothing.
    """
    _check(job)
    with _watched(observer, progress=progress) as watcher:
        return await (_sent(job, watcher) if cluster is None else _sent_on_cluster(job, watcher, cluster))


def run(job: Job, observer: Observer | None = None, *, progress: bool = False, cluster: Ray | None = None) -> Outcome:
    """Run a job and wait for it: `run_async` for callers without an event loop. Raises what `run_async` raises.

    Where an event loop is running, as in a notebook, the job gets a thread with a loop of its own. The caller waits for
    it, and the observer is called in that thread.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(run_async(job, observer, progress=progress, cluster=cluster))
    return _run_in_thread(job, observer, progress=progress, cluster=cluster)


def label(
    data: T,
    prompt: str,
    schema: str | Mapping[str, object] | None = None,
    *,
    folder: str | os.PathLike[str],
    endpoint: Endpoint,
    model: str | None = None,
    instructions: str | None = None,
    developer: str | None = None,
    id_column: str | None = None,
    repeat: int = 1,
    prefix: str = "",
    observer: Observer | None = None,
    progress: bool = False,
    **settings: Any,
) -> T:
    """Label every row of a table, and give back a copy of it with the labels.

    `data`: a list of dicts, a pandas or a polars DataFrame; the copy is of the same kind, its rows in the same order.
    Its new columns are the fields of the schema, or `answer` without one, then `_status` (`ok`, or why there is no
    label) and `_error`. `prefix` begins their names.

    `prompt`, `instructions`, `developer`: templates, in which columns are variables. `schema`: the short form, or a
    JSON schema as a text or a dict. `id_column`: the column with an id for each row; None makes ids of the cells that
    the requests use. `repeat`: how often each row is asked; the answers are folded into one.

    `folder`: where all that is sent and answered is kept, as the command keeps it. It is made if it is not there. The
    same call goes on from there, whenever it was stopped: rows that have an answer are not sent again.

    `settings`: any further fields of `Job`, such as `limits`, `max_cost_usd`, `changed` or `simulate`. Equal rows are
    sent once, unless `dedup` is False, and a row whose answer misses its schema is asked again once, unless `reask` is
    another number. `observer`, `progress`: as in `run`.

    Raises what `run` raises where the job cannot begin, `StopError` where it stopped early; then the answers so far
    are in the folder. Rows that failed raise nothing: their `_status` says so.
    """
    from batchrun.labelling.frames import frame_of
    from batchrun.labelling.in_memory import Question, asked, schema_text
    from batchrun.labelling.paths import LabelPaths

    checks.text("prompt", prompt, "a template, such as 'Which team? {{ text }}'")
    texts, count = (prompt, schema_text(schema), instructions, developer), checks.count("repeat", repeat)
    question = Question(*texts, model, id_column, count)
    paths = LabelPaths(checks.path("folder", folder).absolute())
    job = Job(paths.requests, paths.results, endpoint, **{"dedup": True, "reask": 1} | settings)
    with asked(frame_of(data), question, job, paths, prefix, (observer or Silent()).notice) as labelled:
        stopped = run(job, observer, progress=progress).report.stopped
        if stopped is not None:
            raise StopError(f"{stopped}; the answers so far are in {paths.folder}, and the same call goes on")
        found: T = labelled()
        return found


def stream(job: Job, observer: Observer | None = None, *, progress: bool = False) -> ResultStream:
    """The results of a job while they come: `async for result in stream(job)`.

    Each result of this run is handed out once it is in the result file; `results=None` writes none. Results of earlier
    runs are not handed out again. A slow consumer slows the job down: no further line is read while results wait.
    """
    return ResultStream(job, observer, progress=progress)


class ResultStream:
    """The results of a job, in the order in which they come; made by `stream`. It can be iterated once.

    The job begins with the first result that is asked for. `aclose`, the end of an `async with` block, and the
    cancellation of the task that waits for a result stop it at once, as the cancellation of `run_async` does.

    Raises what `run_async` raises where the job cannot begin. After its last result, a job that stopped early raises
    `StopError`: a loop that ends without an error has seen every line that was to be sent.

    `outcome`: how the job ended; None until then.
    """

    def __init__(self, job: Job, observer: Observer | None = None, *, progress: bool = False) -> None:
        self.outcome: Outcome | None = None
        self._job = job
        self._observer = observer
        self._progress = progress
        self._handout: HandOut | None = None
        self._running: asyncio.Task[Outcome] | None = None
        self._is_over = False
        _check(job)

    def __aiter__(self) -> ResultStream:
        return self

    async def __anext__(self) -> Result:
        if self._is_over:
            raise StopAsyncIteration
        if self._handout is None:
            self._handout = HandOut()
            sending = _handed_out(self._job, self._observer, self._handout, progress=self._progress)
            self._running = asyncio.get_running_loop().create_task(sending)
        try:
            result = await self._handout.take()
            if result is not None:
                return result
            assert self._running is not None
            self.outcome = await self._running
        except BaseException:
            await self.aclose()
            raise
        self._is_over = True
        if self.outcome.report.stopped is not None:
            raise StopError(self.outcome.report.stopped)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Stop the job at once, and wait until its files are closed. The same job resumes later."""
        self._is_over = True
        if self._running is not None and not self._running.done():
            self._running.cancel()
            await asyncio.wait([self._running])

    async def __aenter__(self) -> ResultStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        """Stop the job of a loop that was left by `break`: nobody will take its results."""
        running = self._running
        if running is not None and not running.done():
            with contextlib.suppress(RuntimeError):  # the loop is closed
                running.get_loop().call_soon_threadsafe(running.cancel)
        elif running is not None and not running.cancelled():
            running.exception()  # asked for, so that asyncio does not log it


async def _handed_out(job: Job, observer: Observer | None, handout: HandOut, *, progress: bool) -> Outcome:
    """Run a job whose results go to `handout`."""
    try:
        with _watched(observer, progress=progress) as watcher:
            return await _sent(job, watcher, handout, io.BufferedWriter(Nowhere()))
    finally:
        handout.close()


async def _sent(job: Job, observer: Observer, handout: HandOut | None = None, sink: IO[bytes] | None = None) -> Outcome:
    with contextlib.ExitStack() as files:
        prepared = await _prepared(job, observer, files, sink)
        if handout is not None:
            prepared = replace(prepared, handout=handout)
        summary = Summary(prepared, await Run(prepared, observer).send())
        return Outcome(summary.report(), summary.exit_code)


async def _sent_on_cluster(job: Job, observer: Observer, cluster: Ray) -> Outcome:
    """Drive a job on a cluster, in a thread. Cancelled, stop its shards at once, and wait for it."""
    drivers = list[Driver]()

    def drive() -> Outcome:
        with contextlib.ExitStack() as files:
            driver = Driver(job, cluster, observer, files)
            drivers.append(driver)
            driver.send()
            summary = driver.summary()
            return Outcome(summary.report(), summary.exit_code)

    driving = asyncio.ensure_future(asyncio.to_thread(drive))
    try:
        return await asyncio.shield(driving)
    except asyncio.CancelledError:
        for driver in drivers:
            driver.stop("cancelled", StopError.exit_code)
            driver.stop("cancelled", StopError.exit_code)  # once more is at once
        await asyncio.wait([driving])
        driving.exception()
        raise


async def _prepared(job: Job, observer: Observer, files: contextlib.ExitStack, sink: IO[bytes] | None) -> Prepared:
    """Prepare a job in a thread. Cancelled, wait for it: `files` must not be closed while it still opens some."""
    preparing = asyncio.ensure_future(asyncio.to_thread(prepare, job, observer, files, sink))
    try:
        return await asyncio.shield(preparing)
    except asyncio.CancelledError:
        await asyncio.wait([preparing])
        preparing.exception()
        raise


def _check(job: object) -> None:
    checks.instance("job", job, Job, 'Job("requests.jsonl", "results.jsonl", Endpoint(…))')


@contextlib.contextmanager
def _watched(observer: Observer | None, *, progress: bool) -> Iterator[Observer]:
    """The observer of a job, with a bar beside it if one is asked for; the bar is closed at the end."""
    if not checks.flag("progress", progress):
        yield observer or Silent()
        return
    from batchrun.cli.progress import Progress

    bar = Progress()
    try:
        yield bar if observer is None else Together((observer, bar))
    finally:
        bar.close()


def _run_in_thread(job: Job, observer: Observer | None, *, progress: bool, cluster: Ray | None) -> Outcome:
    """Run a job in a thread with an event loop of its own; Ctrl-C in the caller stops it at once."""
    has_begun = threading.Event()
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[Outcome]]] = []

    async def send() -> Outcome:
        task = asyncio.create_task(run_async(job, observer, progress=progress, cluster=cluster))
        running.append((asyncio.get_running_loop(), task))
        has_begun.set()
        return await task

    with concurrent.futures.ThreadPoolExecutor(1, "batchrun") as pool:
        sending = pool.submit(lambda: asyncio.run(send()))
        try:
            return sending.result()
        except BaseException:
            if not sending.done() and has_begun.wait(10):
                ((loop, task),) = running
                loop.call_soon_threadsafe(task.cancel)
            raise
