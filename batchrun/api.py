"""batchrun from Python: a job is one function call, with typed options and a typed report; nothing is printed.

from batchrun import Endpoint, Job, run

outcome = run(Job("requests.jsonl", Path("results.jsonl"), Endpoint("https://gateway.example/v1", key)))
outcome.report.cost.total_usd
"""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass

from batchrun.engine.observer import Observer, Silent
from batchrun.job.job import Job
from batchrun.job.prepare import prepare
from batchrun.job.run import Run
from batchrun.job.summary import Summary
from batchrun.report.report import Report


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended.

    `report`: the report of the whole result file, over all runs.
    `exit_code`: the exit code that the command would have: 0 if every line succeeded, 1 if some lines are errors,
    3 if the job stopped early (`report.stopped` says why), 128 + its number after a signal (130 after Ctrl-C).
    """

    report: Report
    exit_code: int


async def run_async(job: Job, observer: Observer | None = None) -> Outcome:
    """Run a job in the event loop of the caller. `observer` is told what happens; None means no observer.

    Cancel the task to stop at once: the result file stays valid, and the same call resumes.
    Raises a `BatchrunError` if the job cannot begin: `InputError` for a bad request file, `ResultFileError` for a
    result file that is locked, belongs to other requests, has records of another version or was made from requests
    that were edited since, `UsageError` for anything else. Failed lines, and a job that stops early, raise nothing.
    """
    observer = observer or Silent()
    with contextlib.ExitStack() as files:
        prepared = await asyncio.to_thread(prepare, job, observer, files)
        summary = Summary(prepared, await Run(prepared, observer).send())
        return Outcome(summary.report(), summary.exit_code)


def run(job: Job, observer: Observer | None = None) -> Outcome:
    """Run a job and wait for it: `run_async` for callers without an event loop. Raises what `run_async` raises."""
    return asyncio.run(run_async(job, observer))
