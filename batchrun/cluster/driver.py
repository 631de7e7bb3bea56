"""The driver of a job on a cluster: one plan, one bar, one bill, one report.

with contextlib.ExitStack() as files:
    driver = Driver(job, Ray("local"), observer, files)   # nothing is sent yet; nearly every refusal comes from here
    driver.send()   # starts the shards, and waits for them
    driver.summary().report()

1. The directory is locked while the driver lives. A second one is refused until then.
2. What a shard has told last is what the bar shows of it; what it has returned is what the report counts.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.cluster.chosen import highest_rank, limits_of, repeated_bodies
from batchrun.cluster.coordinator import Promised
from batchrun.cluster.desk import Heard
from batchrun.cluster.directory import clear, open_directory
from batchrun.cluster.options import Ray
from batchrun.cluster.plan import Plan, read_plan, refuse_changed, refuse_uncuttable, write_plan
from batchrun.cluster.planning import Input, check_again, make_plan, refuse_other_bytes, shards_for
from batchrun.cluster.progress import Board
from batchrun.cluster.ray_cluster import RayCluster
from batchrun.cluster.secrets import without_secrets
from batchrun.cluster.sending import Before, Sending, spent_usd
from batchrun.cluster.shard import Task
from batchrun.cluster.summary import Whole, earlier_of, together
from batchrun.cluster.tuning import Limited
from batchrun.engine.observer import Guarded, Observer
from batchrun.engine.stopping import Stopped
from batchrun.errors import DiskError, UsageError
from batchrun.job.endpoints import NamedEndpoint, books_of
from batchrun.job.job import Job
from batchrun.job.leased import recent_of
from batchrun.job.prepare import Earlier
from batchrun.job.run import Ended
from batchrun.job.summary import Summary
from batchrun.limits.budget import Budget
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import NOTHING, total_usd
from batchrun.records.words import counted
from batchrun.report.rebuild import read_part
from batchrun.requests.overrides import as_options
from batchrun.requests.part import Part
from batchrun.requests.survey import Survey
from batchrun.results.events import Start, Stop
from batchrun.results.files import is_running
from batchrun.results.parts import shard_path
from batchrun.results.paths import ResultPaths, are_one
from batchrun.results.runlog import written_at
from batchrun.version import __version__


class Driver:
    """A job on a cluster. What is opened is closed with `files`. Raises `UsageError` or a subclass if it is refused."""

    def __init__(self, job: Job, options: Ray, observer: Observer, files: contextlib.ExitStack) -> None:
        refuse_unshared(job)
        self.job = job
        self._options = options
        self._observer = Guarded(observer)
        assert job.results is not None, "refused before"
        self._directory = Path(os.path.realpath(job.results))
        self._requests = Path(os.path.realpath(str(job.requests)))
        self._source = Input(self._requests, str(job.requests), job.overrides)
        refuse_uncuttable(Path(str(job.requests)))
        self._log = open_directory(self._directory)
        files.callback(self._log.close)
        if job.overwrite:
            clear(self._directory)
        plan = read_plan(self._directory)
        if plan is not None:
            refuse_changed(plan, self._requests, self._directory)
        if options.address == "local":  # it takes seconds, in which nothing else is said
            self._observer.notice("starting Ray on this machine")
        self._cluster = RayCluster(options)
        files.callback(self._cluster.close)
        self._survey = Survey()
        self.plan = self._planned(plan)
        self._board = Board(self.plan.lines)
        self._earlier: dict[int, Looked] = {}
        before = self._look_at_shards()
        bare, secrets = without_secrets(job)
        self._limits = self._limits_of_shards()
        self._board.lines = self._most_done()
        self._limited = Limited(Promised(job.limits, job.max_cost_usd, job.max_errors))
        self._sending = Sending(
            self._cluster, self._tasks(bare), secrets, self._limited, self._board, self._observer, before, self._read
        )

    # ---------------------------------------------------------------------------------------- preparing

    def _planned(self, plan: Plan | None) -> Plan:
        """The plan of the directory: the one that is there, or a new one."""
        if plan is None:
            shards = shards_for(self._requests.stat().st_size, self._cluster.workers, self._options.shards)
            plan, self._survey = make_plan(self._source, self._directory, shards, self._cluster.each)
            write_plan(self._directory, plan)
            return plan
        if self._options.shards not in (None, len(plan.shards)):
            cut = f"{self.job.results} was cut into {counted(len(plan.shards), 'shard')}"
            self._observer.notice(f"{cut}; --shards changes nothing")
        refuse_other_bytes(plan, self._source, self._directory, self._cluster.each)
        check_again(plan, self._source, self._directory, self._cluster.each)
        return plan

    def _look_at_shards(self) -> Before:
        """Find out what earlier runs have left of each shard."""
        bare, _ = without_secrets(self.job)
        paths = [shard_path(self._directory, number) for number in range(len(self.plan.shards))]
        numbers = [number for number, path in enumerate(paths) if ResultPaths.of(path).log.exists()]
        found = self._cluster.each(_look, [(paths[number], self.job.prices, bare.endpoints) for number in numbers])
        known, spent, quiet_s = set[int](), dict[int, Heard](), math.inf
        for number, one in zip(numbers, found, strict=True):
            self._earlier[number] = one
            self._board.set_earlier(number, one.tally)
            quiet_s = min(quiet_s, one.quiet_s)
            if one.is_running:  # by a worker that has lost its driver
                known.add(number)
            else:
                spent[number] = Heard(one.spent_usd, one.recent, time.monotonic())
        return Before(frozenset(known), spent, quiet_s)

    def _read(self, number: int) -> tuple[Heard, bool]:
        """What the files of a shard say that it has spent and sent, and whether a worker has it."""
        looked = _look(shard_path(self._directory, number), self.job.prices, ())
        return Heard(looked.spent_usd, looked.recent, time.monotonic()), looked.is_running

    def _limits_of_shards(self) -> list[int] | None:
        """How many lines each shard may send; None without `--limit`."""
        if self.job.limit is None:
            return None
        recorded, failed = [0] * len(self.plan.shards), [0] * len(self.plan.shards)
        for number, one in self._earlier.items():
            recorded[number], failed[number] = one.tally.recorded, one.tally.failed
        left = [shard.lines - count for shard, count in zip(self.plan.shards, recorded, strict=True)]
        return limits_of(self.job.limit, left, failed)

    def _most_done(self) -> int:
        """How many lines will have a record once this run is done. Of two samples, one has all lines of the other."""
        if self._limits is not None:
            return min(self.plan.lines, self.done + sum(self._limits))
        return self.plan.lines if self.job.sample is None else max(self.done, min(self.plan.lines, self.job.sample))

    @property
    def done(self) -> int:
        """How many lines have a record of earlier runs."""
        return sum(one.tally.recorded for one in self._earlier.values())

    # ------------------------------------------------------------------------------------------ sending

    def stop(self, why: str, exit_code: int) -> None:
        """Stop all shards: what is in flight may finish within the grace time. Once more, they stop at once."""
        self._sending.stop(why, exit_code)

    def send(self) -> None:
        """Run all shards; returns once each has ended."""
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._log.write(self._start_event(started))
        tuned = ResultPaths.of(self._directory).tune
        self._sending.run(
            lambda: self._limited.heed(tuned, self._log, self._board.last, self._observer.notice),
        )
        ended = self._ended()
        why = ended.stopped.why if ended.stopped else "done"
        with contextlib.suppress(DiskError):
            self._log.write(Stop(why=why, limited_s=ended.limited_s, limited_s_by_model=ended.limited_s_by_model))
        self._observer.tick(self._board.status({}, is_stopping=ended.stopped is not None))

    def _tasks(self, job: Job) -> list[Task]:
        mtime_ns, limits = self._requests.stat().st_mtime_ns, self._limits
        reuse = tuple(Path(os.path.realpath(path)) for path in job.reuse)
        batches = tuple(tuple(Path(os.path.realpath(path)) for path in pair) for pair in job.reuse_batch)
        job = replace(job, requests=str(self._requests), overwrite=False, reuse=reuse, reuse_batch=batches)
        tasks = []
        for number, part in enumerate(self._parts()):
            limit = None if limits is None else limits[number]
            its = replace(job, results=shard_path(self._directory, number), limit=limit)
            tasks.append(Task(number, its, part, mtime_ns))
        return tasks

    def _parts(self) -> list[Part]:
        """The lines of each shard, with what it has to know of those of the others."""
        job, each = self.job, self._cluster.each
        parts = [self.plan.part(number) for number in range(len(self.plan.shards))]
        if job.sample is not None:
            highest = highest_rank(self._source, parts, job.sample, each)
            parts = [replace(part, highest_rank=highest) for part in parts]
        if job.reuse or job.reuse_batch:
            repeated = repeated_bodies(self._source, parts, self._directory, each)
            parts = [replace(part, repeated=one) for part, one in zip(parts, repeated, strict=True)]
        return parts

    # --------------------------------------------------------------------------------------- afterwards

    def summary(self) -> Summary:
        """What became of the job."""
        book = PriceBook.load(self.job.prices)
        tally, all_earlier, done, survey = Tally(book, books_of(self.job.endpoints)), list[Earlier](), 0, Survey()
        to_send = 0
        for number, shard in enumerate(self.plan.shards):
            if (end := self._sending.ends.get(number)) is not None:
                tally.merge(end.tally)
                survey.merge(end.survey)
                all_earlier.append(end.earlier)
                done, to_send = done + end.done, to_send + end.to_send
                continue
            left = shard.lines
            if number in self._earlier:
                looked = self._earlier[number]
                tally.merge(looked.tally)
                all_earlier.append(looked.earlier)
                done, left = done + looked.tally.recorded, left - looked.tally.recorded
            to_send += left if self._limits is None else self._limits[number]
        whole = Whole(self.job, self.plan.lines, range(done), to_send, tally, earlier_of(all_earlier), survey)
        return Summary(whole, self._ended())

    def _ended(self) -> Ended:
        ends, order = [end.ended for end in self._sending.ends.values()], self._sending.order
        return together(ends, Stopped(order.stop, order.exit_code) if order.stop else None, self._budget())

    def _budget(self) -> Budget | None:
        """The cap, and all that was spent of it at worst."""
        cap = self._limited.promised.max_cost_usd
        if cap is None:
            return None
        spent = [one.spent_usd for number, one in self._earlier.items() if number not in self._sending.ends]
        return Budget(cap, total_usd((*spent, *map(spent_usd, self._sending.ends.values()))))

    def _start_event(self, started: str) -> Start:
        job = self.job
        return Start(
            version=__version__,
            pid=os.getpid(),
            started=started,
            requests=str(job.requests),
            input_bytes=self.plan.size_bytes,
            lines=self.plan.lines,
            pending=self.plan.lines - self.done,
            options=as_options(job.overrides),
            max_cost_usd=job.max_cost_usd,
            base_url="simulated" if job.simulate else "" if job.endpoint is None else job.endpoint.base_url,
            endpoints={one.name: one.endpoint.base_url for one in job.endpoints},
            concurrency=str(job.limits.bounds),
            rpm=job.limits.requests_per_minute,
            tpm=job.limits.tokens_per_minute,
        )


class Looked(NamedTuple):
    """What a shard has from earlier runs. `spent_usd`: at worst; `is_running`: a worker has it now; `quiet_s`: for how
    many seconds nothing was written to its run log; `recent`: what it sent in the last minute."""

    tally: Tally
    earlier: Earlier
    spent_usd: Decimal
    is_running: bool
    quiet_s: float
    recent: tuple[tuple[float, int, float], ...]


def _look(results: Path, prices: Path | None, endpoints: tuple[NamedEndpoint, ...]) -> Looked:
    """Look at one shard, without a change. It may be written just now, by a worker that has lost its driver."""
    log = ResultPaths.of(results).log
    running, quiet_s = is_running(log), max(0.0, time.time() - (written_at(log) or 0.0))
    tally = Tally(PriceBook.load(prices), books_of(endpoints))
    logged = read_part(results, tally)[0] if results.exists() else None
    earlier = Earlier(BilledTwice(), NOTHING, None, {})
    recent: tuple[tuple[float, int, float], ...] = ()
    if logged is not None:
        last = logged.last_run
        earlier = Earlier(logged.billed_twice, logged.unbilled_usd, last.limited_s, last.limited_s_by_model)
        recent = recent_of(logged.last_run, tally)
    spent = total_usd((tally.cost_usd(), earlier.billed_twice.upper_usd, earlier.unbilled_usd))
    return Looked(tally, earlier, spent, running, quiet_s, recent)


def refuse_unshared(job: Job) -> None:
    """Raise `UsageError` for what a job on a cluster cannot do."""
    if not isinstance(job.requests, str) or job.requests == "-":
        raise UsageError("on a cluster the requests are a file that all machines can read; write them to one first")
    if job.results is None:
        raise UsageError("on a cluster the results go to a directory that all machines can write to; name one with -o")
    if job.endpoints:
        raise UsageError(
            "--endpoints does not work with --ray: the limits and caps of each endpoint would not be shared; "
            "name one gateway with --base-url"
        )
    if job.dedup:
        raise UsageError("--dedup does not work with --ray: equal lines of two shards would both be sent, and paid")
    if job.limit is not None and job.sample is not None:
        raise UsageError(
            "--limit and --sample do not work together with --ray: "
            "nobody counts beforehand how many lines of a sample each shard has left; leave one out"
        )
    for path in job.reuse:
        if are_one(path, job.results):
            raise UsageError(f"--reuse {path} is the directory of the results itself; leave it out")
