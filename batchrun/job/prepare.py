"""Prepares a job before it costs money: opens, locks and checks its files, and finds the lines that are left.

Every refusal of a job comes from here. Nothing has been sent when `prepare` returns.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import chain
from pathlib import Path
from typing import IO, TYPE_CHECKING

from batchrun.billing.bounds import Bounds, Unbounded
from batchrun.billing.exposure import bound, bound_by_endpoint
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.engine.error_limit import ErrorLimit
from batchrun.engine.observer import Observer
from batchrun.errors import UsageError
from batchrun.job.batch_answers import batch_records
from batchrun.job.endpoints import books_of, refuse_misnamed, refuse_unserved
from batchrun.job.handout import HandOut
from batchrun.job.job import Job
from batchrun.job.lost_log import LostRuns, worst_case
from batchrun.job.plan import Plan, Skipped
from batchrun.job.resume import Changed, Resume
from batchrun.records.attempt import AnsweredControl, BilledTwice
from batchrun.records.index import LineSet
from batchrun.records.money import total_usd, usd_by_endpoint
from batchrun.records.outcome import MISMATCH
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead
from batchrun.records.words import counted
from batchrun.requests.overrides import as_options
from batchrun.requests.part import Part, body_key
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import Unwanted, count_pending, draw, ranked
from batchrun.requests.survey import Survey
from batchrun.results.answers import Answers
from batchrun.results.last_run import LastRun
from batchrun.results.paths import ResultPaths
from batchrun.results.store import FileStore, StreamStore
from batchrun.results.tries import OpenTries
from batchrun.transport.endpoint import check_endpoint
from batchrun.validation.schema import MismatchCheck

if TYPE_CHECKING:
    from batchrun.simulator.app import Gateway


@dataclass(frozen=True, slots=True)
class Earlier:
    """What the run log says about earlier runs, beyond their records.

    `billed_twice`: lines that were in flight when a run ended. `unbilled_usd`: what may have been spent and is on no
    bill, in US dollars. `unbilled_by_endpoint`: what of both was spent at one of several endpoints, as far as that is
    known. `limited_s`: the seconds of them all by what limited them; None if the log does not say.
    `limited_s_by_model`: the same for each model that has limits of its own.
    `without_log`: the starts of runs whose log is gone; the amounts have their worst case. `controls`: the control
    requests that were answered; they are on the bill.
    """

    billed_twice: BilledTwice
    unbilled_usd: Decimal
    limited_s: dict[str, float] | None
    limited_s_by_model: dict[str, dict[str, float]]
    without_log: frozenset[str] = frozenset()
    controls: tuple[AnsweredControl, ...] = ()
    unbilled_by_endpoint: Mapping[str, Decimal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A job that has been checked. Its files stay open and locked until the stack that `prepare` got is closed.

    `done`: the lines that are not sent again, because they have a record. `sample`: the lines that this run may send;
    None for all. `pending`: how many lines it will record, of which `plan` says which need no request.
    `tally` has counted the records of earlier runs, and `open_tries` is what they got for lines that were to be asked
    again. `earlier` is None if the results go to a pipe. `handout` takes the
    results as they are written; None where nobody waits for them.
    `simulated` is the gateway where one is simulated.
    """

    job: Job
    requests: RequestFile
    store: FileStore | StreamStore
    tally: Tally
    bounds: Bounds
    error_limit: ErrorLimit | None
    schema_check: MismatchCheck | None
    open_tries: OpenTries
    done: LineSet
    plan: Plan
    sample: LineSet | None
    pending: int
    earlier: Earlier | None
    handout: HandOut | None = None
    simulated: Gateway | None = None

    @property
    def total(self) -> int:
        """The number of lines that this job has of the request file."""
        return self.requests.survey.lines

    @property
    def survey(self) -> Survey:
        """What the check of the request file found."""
        return self.requests.survey

    @property
    def to_send(self) -> int:
        """How many lines this run will send."""
        return self.pending - len(self.plan)


def prepare(
    job: Job,
    observer: Observer,
    files: contextlib.ExitStack,
    sink: IO[bytes] | None = None,
    part: Part | None = None,
) -> Prepared:
    """Open and check everything. The next step costs money. `files` closes the files when it is closed.

    Where the job names no result file, its results go to `sink`, or else to standard output. `part`: the lines of the
    request file that this job has; None for all.

    Raises `UsageError` or a subclass (exit code 2) if the job is refused; the result file has then only been repaired.
    Raises `DiskError` if the result file cannot be rewritten.
    """
    max_errors = job.max_errors
    error_limit = ErrorLimit(max_errors) if max_errors is not None else None
    is_checked = job.reask > 0 or (max_errors is not None and MISMATCH in max_errors.kinds)
    schema_check = MismatchCheck(observer.notice) if is_checked else None
    tally = Tally(PriceBook.load(job.prices), books_of(job.endpoints))
    bounds = Bounds(tally.book, job.max_line_cost_usd)
    requests = RequestFile(job.requests, job.overrides, part)
    files.callback(requests.close)
    simulated = _simulated(job)
    if simulated is None and job.endpoint is not None:
        check_endpoint(job.endpoint)
    answers = answers_of(job, files, frozenset() if part is None else part.repeated)
    plan = Plan(dedup=job.dedup, answers=answers, schema_check=MismatchCheck(observer.notice))
    files.callback(plan.close)
    start = _Start(job, observer, requests, tally, bounds, plan, None if part is None else part.highest_rank)
    store, done, earlier = (
        start.on_stream(sink, files) if job.results is None else start.on_files(Path(job.results), files)
    )
    for warning in requests.survey.warnings(job.overrides):
        observer.notice(warning)
    refuse_unserved(job.endpoints, requests.survey.models)
    if simulated is None:
        refuse_misnamed(job.endpoints, requests.survey.named, requests.name)
    sample = start.sample()
    return Prepared(
        job=job,
        requests=requests,
        store=store,
        tally=tally,
        bounds=bounds,
        error_limit=error_limit,
        schema_check=schema_check,
        open_tries=start.open_tries,
        done=done,
        plan=plan,
        sample=sample,
        pending=count_pending(requests.survey.lines, done, sample, job.limit),
        earlier=earlier,
        simulated=simulated,
    )


def _simulated(job: Job) -> Gateway | None:
    """The simulated gateway, which does not listen yet; None where there is none."""
    if job.simulate is None:
        return None
    from batchrun.simulator.app import Gateway

    options = job.simulate
    if options.requests is None and isinstance(job.requests, str) and job.requests != "-":
        options = replace(options, requests=Path(job.requests))
    return Gateway(options)


def answers_of(job: Job, files: contextlib.ExitStack, repeated: frozenset[int] = frozenset()) -> Answers | None:
    """The answers that may be reused, but for those to `repeated` bodies; None if there are none.

    Raises `UsageError` if a file cannot be read.
    """
    if not job.reuse and not job.reuse_batch:
        return None
    own = "simulated" if job.simulate is not None else "" if job.endpoint is None else job.endpoint.host
    if job.endpoints and not job.reuse_any_gateway:
        raise UsageError("with several endpoints, --reuse and --reuse-batch need --reuse-any-gateway")
    is_left = (lambda body_hash, path: body_key(body_hash, path) in repeated) if repeated else None
    answers = Answers(None if job.reuse_any_gateway else own, is_left)
    files.callback(answers.close)
    for path in job.reuse:
        answers.open(path)
    for asked, answered in job.reuse_batch:
        answers.add_batch(batch_records(asked, answered), str(answered))
    return answers


_Started = tuple[FileStore | StreamStore, LineSet, Earlier | None]


@dataclass(slots=True)
class _Start:
    """Finds where a job starts: its result file, the lines that are done, and what earlier runs left behind."""

    job: Job
    observer: Observer
    requests: RequestFile
    tally: Tally
    bounds: Bounds
    plan: Plan
    highest_rank: int | None
    _sample: LineSet | None = None
    open_tries: OpenTries = field(default_factory=OpenTries)

    def on_stream(self, sink: IO[bytes] | None, files: contextlib.ExitStack) -> _Started:
        """Start with results that go to `sink`, or else to standard output: no line is done."""
        if sink is None and sys.stdout is None:
            raise UsageError("standard output is closed; name a result file with -o")
        if sink is None and (sink := getattr(sys.stdout, "buffer", None)) is None:  # a notebook's
            raise UsageError("standard output takes no bytes here; name a result file")
        self._check_new()
        store = StreamStore(sink, keeps=len(self.plan.copies) > 0)
        files.callback(store.close)
        return store, LineSet(), None

    def on_files(self, results: Path, files: contextlib.ExitStack) -> _Started:
        """Lock the result file and find the lines that are left."""
        paths = ResultPaths.of(results, locks=not self.job.no_lock)
        named = self.job.requests
        requests = Path(named) if isinstance(named, str) and named != "-" else None
        paths.refuse_clashes({"the request file": requests, "the price file": self.job.prices})
        for path in chain(self.job.reuse, *self.job.reuse_batch):
            paths.refuse_clashes({"a file to reuse": path})
        paths.refuse_long_name(with_tries=self.job.reask > 0)
        self.requests.refuse_same_file(results)
        store = FileStore(paths)
        files.callback(store.close)
        if self.job.overwrite:
            self._check_new()
            store.clear()
            self._begin_tries(store)
            return store, LineSet(), self._earlier(store.log.last_run)
        resume = Resume(
            store,
            Changed(self.job.changed),
            retry_errors=self.job.retry_errors,
            options=as_options(self.job.overrides),
            endpoints=[one.name for one in self.job.endpoints],
            check_new=self._check_new,
            look_ahead=self._look_ahead,
        )
        done = resume.take_up(self.requests, self.tally)
        self.open_tries = resume.open_tries
        self._begin_tries(store)
        self.tally.add_controls(store.log.last_run.controls)
        for notice in resume.notices:
            self.observer.notice(notice)
        earlier = self._earlier(store.log.last_run)
        earlier = replace(
            earlier,
            unbilled_usd=total_usd((earlier.unbilled_usd, resume.unbilled_usd)),
            unbilled_by_endpoint=usd_by_endpoint(earlier.unbilled_by_endpoint, resume.unbilled_by_endpoint),
        )
        return store, done, self._with_lost(earlier, resume.lost, done, store.paths.log.name)

    def _begin_tries(self, store: FileStore) -> None:
        """Open the file of earlier tries before it is needed: what keeps it from being written is told now."""
        if self.job.reask:
            store.tries.begin()

    def sample(self) -> LineSet | None:
        """The lines that are drawn; None if all are taken. Ask once the requests are checked."""
        if self._sample is None and self.job.sample is not None:
            lines = self.requests.requests()
            highest = self.highest_rank
            self._sample = draw(lines, self.job.sample) if highest is None else ranked(lines, highest)
        return self._sample

    def _check_new(self) -> None:
        """Check a request file of which no line is done, and plan for its lines."""
        if self.plan.is_active:
            if (
                self.job.sample is None
                and self.job.limit is None
                and self.job.overrides.url is None
                and not self.job.reuse_batch
            ):
                self.plan.check_new(self.requests)  # in one go
                self._refuse_unbounded(LineSet())
            else:
                self.requests.check()
                self._look_ahead(LineSet(), iter(()))
            return
        unbounded = self._unbounded()
        self.requests.check(unbounded.look if unbounded is not None else None)
        if unbounded is not None:
            unbounded.refuse()

    def _look_ahead(self, done: LineSet, staying: Iterator[ResultHead]) -> None:
        """Plan for the lines that are not done, and refuse those to be sent that have no bound."""
        if self.plan.is_active and len(done) < self.requests.survey.lines:
            self.plan.make(self.requests, Unwanted(done, self.sample()), self.job.limit, staying)
        self._refuse_unbounded(done)

    def _refuse_unbounded(self, done: LineSet) -> None:
        """Raise `UsageError` if a line that is to be sent has no bound, and there is a cap."""
        if (unbounded := self._unbounded()) is not None:
            for line in self.requests.requests(without=Skipped(done, self.plan)):
                unbounded.look(line)
            unbounded.refuse()

    def _unbounded(self) -> Unbounded | None:
        """What refuses lines without a bound; None without a cap."""
        job = self.job
        if not job.has_cap:
            return None
        if not job.endpoints or job.max_cost_usd is not None:
            return Unbounded(self.bounds, self._bounds_by_endpoint() if job.endpoints else None)
        capped = [one.name for one in job.endpoints if one.max_cost_usd is not None]
        bounds = {name: found for name, found in self._bounds_by_endpoint().items() if name in capped}
        return Unbounded(self.bounds, bounds, f"max_cost_usd of {', '.join(capped)}")

    def _bounds_by_endpoint(self) -> dict[str, tuple[Callable[[str], bool], Bounds]]:
        """For each of several endpoints, by name, whether it serves a model, and the bounds there."""
        max_line_usd, tally = self.job.max_line_cost_usd, self.tally
        return {one.name: (one.serves, Bounds(tally.book_of(one.name), max_line_usd)) for one in self.job.endpoints}

    def _upper_anywhere(self) -> Callable[[RequestLine], Decimal | None]:
        """The most that an attempt of a line may cost, wherever it was sent; None if no price is known."""
        everywhere = list(self._bounds_by_endpoint().values()) or [(lambda model: True, self.bounds)]

        def upper(line: RequestLine) -> Decimal | None:
            amounts = [bounds.upper(line) for serves, bounds in everywhere if serves(line.model)]
            return max((amount for amount in amounts if amount is not None), default=None)

        return upper

    def _with_lost(self, earlier: Earlier, lost: LostRuns, done: LineSet, log: str) -> Earlier:
        """Add the worst case of runs whose log is gone, and say so."""
        if not lost.starts:
            return earlier
        worst = worst_case(self.requests, done, lost, self.job.limits.bounds.most, self._upper_anywhere(), self.tally)
        self.observer.notice(worst.in_words(log))
        return replace(
            earlier,
            billed_twice=earlier.billed_twice + worst.billed_twice,
            unbilled_usd=total_usd((earlier.unbilled_usd, worst.unbilled_usd)),
            without_log=frozenset(lost.starts),
        )

    def _earlier(self, last_run: LastRun) -> Earlier:
        """What the run log says about earlier runs; shows a notice about lines that the last one left in flight."""
        prices = (self.tally.book, self.tally.longest_answer, self.tally.books)
        new, by_endpoint = bound(last_run.in_flight, *prices), bound_by_endpoint(last_run.in_flight, *prices)
        if new.lines:
            how = "was stopped" if last_run.stopped else "died"
            self.observer.notice(f"{counted(new.lines, 'line')} in flight when the last run {how}; {new.in_words()}")
        return Earlier(
            last_run.billed_before + new,
            last_run.unbilled_usd,
            last_run.limited_s,
            last_run.limited_s_by_model,
            controls=tuple(last_run.controls),
            unbilled_by_endpoint=usd_by_endpoint(last_run.unbilled_by_endpoint, by_endpoint),
        )
