"""The driver of a job on a cluster: one plan, one bar, one bill, one report.

with contextlib.ExitStack() as files:
    driver = Driver(job, Ray("local"), observer, files)   # nothing is sent yet; nearly every refusal comes from here
    driver.send()   # starts the shards, and waits for them
    driver.summary().report()

1. The directory is locked while the driver lives. A second one is refused until then.
2. A shard whose worker dies is started again by Ray, and one whose lock another worker still has is started again here.
3. What a shard has told last is what the bar shows of it; what it has returned is what the report counts.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.cluster.desk import Held
from batchrun.cluster.directory import clear, open_directory
from batchrun.cluster.options import Ray
from batchrun.cluster.plan import Plan, read_plan, refuse_changed, refuse_uncuttable, write_plan
from batchrun.cluster.planning import Input, check_again, make_plan, refuse_other_bytes, shards_for
from batchrun.cluster.progress import Board
from batchrun.cluster.ray_cluster import RayCluster
from batchrun.cluster.secrets import without_secrets
from batchrun.cluster.shard import Busy, NotBegun, Order, Refused, ShardEnd, Task
from batchrun.cluster.summary import Whole, earlier_of, together
from batchrun.engine.observer import Guarded, Observer, Status
from batchrun.engine.stopping import Stopped
from batchrun.errors import BatchrunError, DiskError, UsageError
from batchrun.job.endpoints import NamedEndpoint, books_of
from batchrun.job.job import Job
from batchrun.job.prepare import Earlier
from batchrun.job.run import Ended
from batchrun.job.summary import Summary
from batchrun.limits.options import Concurrency
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import NOTHING
from batchrun.records.words import counted
from batchrun.report.rebuild import read_part
from batchrun.requests.overrides import as_options
from batchrun.requests.survey import Survey
from batchrun.results.events import Start, Stop
from batchrun.results.parts import shard_path
from batchrun.results.paths import ResultPaths
from batchrun.version import __version__

LOOK_EVERY_S = 0.25
BUSY_S = 1.0  # until a shard that another worker still has is started again
GIVE_UP_BUSY_S = 300.0


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
        self._cluster = RayCluster(options)
        files.callback(self._cluster.close)
        self._survey = Survey()
        self.plan = self._planned(plan)
        self._board = Board(self.plan.lines, [one.lines for one in self.plan.shards])
        self._ends: dict[int, ShardEnd] = {}
        self._earlier: dict[int, tuple[Tally, Earlier]] = {}
        self._stop = Order()
        self._look_at_shards()

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

    def _look_at_shards(self) -> None:
        """Find out what earlier runs have left of each shard."""
        job, numbers = self.job, list[int]()
        bare, _ = without_secrets(job)
        for number in range(len(self.plan.shards)):
            if ResultPaths.of(shard_path(self._directory, number)).log.exists():
                numbers.append(number)
        paths = [ResultPaths.of(shard_path(self._directory, number)) for number in numbers]
        found = self._cluster.each(_look, [(part, job.prices, bare.endpoints) for part in paths])
        for number, (tally, earlier) in zip(numbers, found, strict=True):
            self._earlier[number] = (tally, earlier)
            self._board.set_earlier(number, tally)

    @property
    def done(self) -> int:
        """How many lines have a record of earlier runs."""
        return sum(tally.recorded for tally, _ in self._earlier.values())

    # ------------------------------------------------------------------------------------------ sending

    def stop(self, why: str, exit_code: int) -> None:
        """Stop all shards: what is in flight may finish within the grace time. Once more, they stop at once."""
        if self._stop.stop:
            self._stop = replace(self._stop, at_once=True)
        else:
            self._stop = Order(why, exit_code)
            self._observer.notice(f"stopping: {why}; finishing what is in flight, up to {self.job.grace_s:g} s")

    def send(self) -> None:
        """Run all shards; returns once each has ended."""
        job, secrets = without_secrets(self.job)
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._log.write(self._start_event(started))
        self._cluster.open_desk()
        mtime_ns = self._requests.stat().st_mtime_ns
        job = replace(job, requests=str(self._requests), overwrite=False)
        running, waiting = dict[object, int](), dict[int, float]()

        def start(number: int) -> None:
            of_shard = replace(job, results=shard_path(self._directory, number))
            task = Task(number, of_shard, self.plan.part(number), mtime_ns)
            running[self._cluster.start(task)] = number

        for number in range(len(self.plan.shards)):
            start(number)
        incarnation, told = "", Order()
        busy_since = time.monotonic()
        while running or waiting:
            for one in self._cluster.ended(list(running), LOOK_EVERY_S):
                number = running.pop(one)
                if self._heed(number, one):
                    waiting[number] = time.monotonic() + BUSY_S
                else:
                    busy_since = time.monotonic()
            if not running and waiting and not self._stop.stop:
                time.sleep(LOOK_EVERY_S)
            for number in [number for number, at in waiting.items() if at <= time.monotonic() or self._stop.stop]:
                del waiting[number]
                if not self._stop.stop:
                    start(number)
            if len(running) + len(waiting) > 0 and time.monotonic() - busy_since > GIVE_UP_BUSY_S and waiting:
                self._give_up_busy(list(waiting))
            seen = self._cluster.look()
            if seen is not None:
                if seen.incarnation != incarnation or told != self._stop:
                    self._cluster.hold(Held(secrets, self._stop))
                    incarnation, told = seen.incarnation, self._stop
                self._show(seen.statuses, seen.notices)
        self._end()

    def _heed(self, number: int, running: object) -> bool:
        """Take note of how a shard ended; True if it has to be started again."""
        try:
            end = self._cluster.result(running)
        except BatchrunError as error:
            end = Refused(number, str(error), error.exit_code)
        match end:
            case ShardEnd():
                self._ends[number] = end
                self._board.set_end(number, end)
                if end.ended.stopped is not None and not self._stop.stop:
                    self.stop(end.ended.stopped.why, end.ended.stopped.exit_code)
            case Busy():
                self._board.busy(number)
                return True
            case Refused():
                if not self._stop.stop:
                    self.stop(end.why, end.exit_code)
            case NotBegun():
                pass
        return False

    def _give_up_busy(self, numbers: list[int]) -> None:
        names = ", ".join(shard_path(self._directory, number).name for number in numbers[:3])
        self.stop(f"another process has {names} and does not end; end it, and run the same command again", 3)

    def _show(self, statuses: dict[int, Status], notices: list[tuple[int, str, bool]]) -> None:
        for number, text, is_detail in notices:
            if self._board.is_new(text):
                tell = self._observer.detail if is_detail else self._observer.notice
                tell(f"shard {number}: {text}")
        self._observer.tick(self._board.status(statuses, is_stopping=bool(self._stop.stop)))

    def _end(self) -> None:
        """Log the end, and show the last state."""
        ended = self._ended()
        why = ended.stopped.why if ended.stopped else "done"
        with contextlib.suppress(DiskError):
            self._log.write(Stop(why=why, limited_s=ended.limited_s, limited_s_by_model=ended.limited_s_by_model))
        self._observer.tick(self._board.status({}, is_stopping=True))

    # --------------------------------------------------------------------------------------- afterwards

    def summary(self) -> Summary:
        """What became of the job."""
        book = PriceBook.load(self.job.prices)
        tally, all_earlier, done, survey = Tally(book, books_of(self.job.endpoints)), list[Earlier](), 0, Survey()
        to_send = 0
        for number, shard in enumerate(self.plan.shards):
            if (end := self._ends.get(number)) is not None:
                tally.merge(end.tally)
                survey.merge(end.survey)
                all_earlier.append(end.earlier)
                done, to_send = done + end.done, to_send + end.to_send
                continue
            to_send += shard.lines
            if number in self._earlier:
                before, earlier = self._earlier[number]
                tally.merge(before)
                all_earlier.append(earlier)
                done, to_send = done + before.recorded, to_send - before.recorded
        whole = Whole(self.job, self.plan.lines, range(done), to_send, tally, earlier_of(all_earlier), survey)
        return Summary(whole, self._ended())

    def _ended(self) -> Ended:
        ends = [end.ended for end in self._ends.values()]
        stopped = Stopped(self._stop.stop, self._stop.exit_code) if self._stop.stop else None
        return together(ends, stopped)

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


def _look(part: ResultPaths, prices: Path | None, endpoints: tuple[NamedEndpoint, ...]) -> tuple[Tally, Earlier]:
    """What a shard has from earlier runs. It may be written just now, by a worker that has lost its driver."""
    tally = Tally(PriceBook.load(prices), books_of(endpoints))
    logged = read_part(part.results, tally)[0] if part.results.exists() else None
    if logged is None:
        return tally, Earlier(BilledTwice(), NOTHING, None, {})
    return tally, Earlier(logged.billed_twice, logged.unbilled_usd, logged.last_run.limited_s, {})


def refuse_unshared(job: Job) -> None:
    """Raise `UsageError` for what a job on a cluster cannot do."""
    if not isinstance(job.requests, str) or job.requests == "-":
        raise UsageError("on a cluster the requests are a file that all machines can read; write them to one first")
    if job.results is None:
        raise UsageError("on a cluster the results go to a directory that all machines can write to; name one with -o")
    told = {
        "--sample": job.sample is not None,
        "--limit": job.limit is not None,
        "--dedup": job.dedup,
        "--reuse": bool(job.reuse),
        "--reuse-batch": bool(job.reuse_batch),
    }
    limits = job.limits
    unshared = {
        "-c": limits.bounds != Concurrency(),
        "--rpm": limits.requests_per_minute is not None,
        "--tpm": limits.tokens_per_minute is not None,
        "--max-cost": job.max_cost_usd is not None,
        "--max-errors": job.max_errors is not None,
    }
    if job.simulate is None:
        raise UsageError("--ray sends to simulated gateways alone so far: its shards do not share limits yet")
    if refused := [name for name, value in unshared.items() if value]:
        raise UsageError(f"{', '.join(refused)} does not work with --ray yet: its shards do not share limits")
    if refused := [name for name, value in told.items() if value]:
        raise UsageError(f"{', '.join(refused)} does not work with --ray; run it without, or merge and run the rest so")
