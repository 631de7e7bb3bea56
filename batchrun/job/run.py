"""One run of a job: prepare, send, finish."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from decimal import ROUND_UP, Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batchrun.billing.bounds import Bounds, Unbounded
from batchrun.billing.exposure import bound
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.engine.error_limit import ErrorLimit
from batchrun.engine.observer import Observer, Silent, Status, Stopped
from batchrun.engine.runner import Runner
from batchrun.engine.spending import Spending
from batchrun.engine.writer import RunFacts
from batchrun.errors import DiskError, ResultFileError, UsageError
from batchrun.job.monitor import Monitor
from batchrun.job.resume import Resume
from batchrun.job.tune import request_file
from batchrun.limits.budget import Budget
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.open_files import within_open_files
from batchrun.limits.options import Limits
from batchrun.records.attempt import BilledTwice
from batchrun.records.index import LineSet
from batchrun.records.money import NOTHING, total_usd, usd
from batchrun.records.outcome import Failure, FailureCode, describe
from batchrun.report.report import Report, make_report
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import Sampler, Unwanted, count_pending, first
from batchrun.results.events import LastRun
from batchrun.results.journal import Journal
from batchrun.results.runlog import RunLog
from batchrun.results.store import Sink, Stream
from batchrun.transport.endpoint import Endpoint, check_base_url
from batchrun.transport.http import HttpTransport
from batchrun.version import __version__

if TYPE_CHECKING:
    pass
from batchrun.job.job import Job


class Run:
    """One run of a job. Use as a context manager: it holds the files, locked, until it is left."""

    def __init__(self, job: Job, observer: Observer | None = None) -> None:
        self.job = job
        self.total = 0
        self.pending = 0
        self._observer = observer or Silent()
        self._files = contextlib.ExitStack()
        self._done = LineSet()
        self._billed_twice: BilledTwice | None = None
        self._unbilled_usd = NOTHING
        self._interrupted: signal.Signals | None = None
        self._runner: Runner | None = None
        self._log: RunLog | None = None
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._start = time.monotonic()

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    # ---------------------------------------------------------------------------------- before sending

    def prepare(self) -> None:
        """Open and check everything; the next step costs money.

        Raises `UsageError` and its kin (exit code 2), after which no file has been changed but for a torn tail;
        `DiskError` where the result file could not be rewritten.
        """
        job = self.job
        self._error_limit = ErrorLimit(job.max_errors, self._observer.notice) if job.max_errors is not None else None
        self._tally = Tally(PriceBook.load(Path(job.prices) if job.prices else None))
        self._bounds = Bounds(self._tally.book, job.max_line_cost_usd)
        self._input = RequestFile(job.requests, job.overrides)
        self._files.callback(self._input.close)
        self._sink: Sink
        if job.simulate is None:
            check_base_url(job.endpoint.base_url, insecure_http=True)
        if job.results is None:
            if sys.stdout is None:
                raise UsageError("standard output is closed; name a result file with -o")
            self._sink = Stream(sys.stdout.buffer)
            self._check_all()
        else:
            self._sink = self._take_up(Path(job.results))
        self.total = self._input.survey.lines
        self._sample = self._drawn(job.sample) if job.sample is not None else None
        self.pending = count_pending(self.total, self._done, self._sample, job.limit)
        self._tokens_before = self._tally.tokens

    def _check_all(self) -> None:
        """Check an input of which no line is done."""
        unbounded = self._unbounded()
        self._input.check(unbounded.look if unbounded is not None else None)
        if unbounded is not None:
            unbounded.refuse()

    def _unbounded(self) -> Unbounded | None:
        return Unbounded(self._bounds) if self.job.max_cost_usd is not None else None

    def _drawn(self, size: int) -> LineSet:
        """The sample: so many lines of the whole input, the same in every run."""
        sampler = Sampler(size)
        for line in self._input.requests():
            sampler.add(line)
        return sampler.drawn()

    def _take_up(self, path: Path) -> Journal:
        """Lock the result file and find out what is left to do."""
        self._input.refuse_same_file(path)
        path = Path(os.path.realpath(path))
        if not path.parent.is_dir():
            raise ResultFileError(f"there is no directory {path.parent}; make it, or choose another -o")
        self._log = log = RunLog(path.with_name(path.name + ".log"))
        self._files.callback(lambda: log.close(forget=self._runner is None))
        journal = Journal(path)
        self._files.callback(lambda: journal.close(forget=self._runner is None))
        last_run = LastRun() if journal.is_new or self.job.overwrite else log.last_run
        if self.job.overwrite:
            self._check_all()
            journal.clear()
        else:
            resume = Resume(
                journal,
                log,
                self.job.changed,
                retry_errors=self.job.retry_errors,
                unbounded=self._unbounded(),
            )
            self._done = resume.take_up(self._input, self._tally)
            self._unbilled_usd = total_usd((last_run.unbilled_usd, resume.unbilled_usd))
            for notice in resume.notices:
                self._observer.notice(notice)
        self._billed_twice = self._billed_by(last_run)
        return journal

    def _billed_by(self, last_run: LastRun) -> BilledTwice:
        """What earlier runs may have had billed without a record to show for it; tells of the last one's."""
        new = bound(last_run.sent.values(), self._tally.book, self._tally.longest_answer)
        if new.lines:
            how = "was stopped" if last_run.stopped else "died"
            self._observer.notice(f"{new.lines:,} lines were in flight when the last run {how}; {new.in_words()}")
        return last_run.billed_before + new

    # ------------------------------------------------------------------------------------------ sending

    def _budget(self) -> Budget | None:
        """The cap, with all that earlier runs of this result file have spent, or may have."""
        if self.job.max_cost_usd is None:
            return None
        twice = self._billed_twice or BilledTwice()
        if vague := twice.unknown_lines + twice.estimated_lines:
            self._observer.notice(
                f"--max-cost cannot bound what {vague:,} lines cost that earlier runs without it left in flight"
            )
        spent = total_usd((self._tally.cost_usd(), twice.upper_usd, self._unbilled_usd))
        return Budget(self.job.max_cost_usd, spent)

    async def send(self) -> None:
        """Send every line that is not done. Returns when all are, or when the run was stopped."""
        if not self.pending:
            return
        job = self.job
        limits = self._fitted(job.limits)
        lines = self._input.requests(Unwanted(self._done, self._sample), start=self._done.first_gap())
        self._spending = Spending(self._bounds, self._budget())
        self._start = time.monotonic()
        self._log_event("start", **self._start_facts())
        async with contextlib.AsyncExitStack() as stack:
            endpoint = await self._reachable_endpoint(stack)
            transport = HttpTransport(endpoint, job.timeouts, job.max_response_bytes)
            self._runner = Runner(
                lines=first(lines, job.limit),
                facts=RunFacts(self._started, self.total, "simulated" if job.simulate else job.endpoint.host),
                transport=await stack.enter_async_context(transport),
                limits=limits,
                retry=job.retry,
                grace_s=job.grace_s,
                spending=self._spending,
                error_limit=self._error_limit,
                sink=self._sink,
                tally=self._tally,
                log=self._log,
                watcher=self._observer,
                tick=lambda: self._monitor.tick(),
                explain=self._why_stopped,
            )
            self._monitor = self._watched(self._runner)
            if self._interrupted is not None:
                self._runner.interrupt(self._interrupted)
            await self._runner.run()
        self._finish()

    def _watched(self, runner: Runner) -> Monitor:
        return Monitor(
            runner.limiter,
            requests=request_file(self._sink.path) if isinstance(self._sink, Journal) else None,
            fitted=self._fitted,
            draw=lambda: self._observer.tick(self.status()),
            wake=runner.fill_slots,
            notice=self._observer.notice,
            log_event=runner.log_event,
            stopped=lambda: runner.stopped,
        )

    def interrupt(self, number: signal.Signals) -> None:
        """Pass a signal on: the first one drains, the second leaves at once."""
        if self._runner is not None:
            self._runner.interrupt(number)
        else:
            self._interrupted = number

    def _fitted(self, limits: Limits) -> Limits:
        """The limits, as far as this process may open files for them."""
        ends = 1 if self.job.simulate is None else 2  # a simulated gateway has the other ends in this process
        return within_open_files(limits, self.pending, ends, self._observer.notice)

    async def _reachable_endpoint(self, stack: contextlib.AsyncExitStack) -> Endpoint:
        if self.job.simulate is None:
            return self.job.endpoint
        from batchrun.simulator.app import Gateway

        gateway = await stack.enter_async_context(Gateway(self.job.simulate))
        return Endpoint(gateway.base_url)

    def _why_stopped(self, failure: Failure) -> str:
        """One line: what came back, and what to do about it."""
        what = describe(failure)
        if failure.code in (FailureCode.HTML_INSTEAD_OF_JSON, FailureCode.HTML_PAGE) or failure.status in (404, 405):
            return f"{self.job.endpoint.url('/v1/responses')} answered {what}; is --base-url right?"
        if failure.code in (FailureCode.DNS_FAILED, FailureCode.CERTIFICATE_REFUSED):
            return f"{what}; is --base-url right?"
        if failure.status == 401:
            return f"the gateway refuses the key ({what}); set a good one"
        return f"the gateway refuses every request ({what}); top up the account or change the key"

    def _finish(self) -> None:
        """Make the records durable and end the log; after a disk failure as far as that goes."""
        assert self._runner is not None, "only what has begun can end"
        self._monitor.tick()
        try:
            self._sink.sync()
        except DiskError as error:
            self._runner.stop(str(error), error.exit_code)
        with contextlib.suppress(DiskError):  # without its end in the log a run counts as dead: nothing more
            why = self.stopped.why if self.stopped else "done"
            self._log_event("stop", why=why, numbers=self._runner.newly_recorded(), limited_s=self._limited_s)

    # -------------------------------------------------------------------------------------- the outcome

    @property
    def stopped(self) -> Stopped | None:
        """Why the run ended before its time; None where it did not."""
        if self._runner is None or self._runner.stopped is None or not self._runner.passed_over:
            return self._runner.stopped if self._runner is not None else None
        likely_usd = self._likely_usd_left
        price = f"about ${usd(likely_usd)} at what a line has cost so far" if likely_usd else "nobody can tell how much"
        why = self._runner.stopped.why
        return replace(self._runner.stopped, why=f"{why}; {self._left:,} lines are left, which would cost {price}")

    @property
    def enough_usd(self) -> Decimal | None:
        """A `max_cost_usd` that is likely to do for the rest, where the one there is was what stopped the run."""
        if self._runner is None or self._runner.limiter.budget is None or not self._runner.passed_over:
            return None
        budget = self._runner.limiter.budget
        likely = total_usd((budget.spent, self._likely_usd_left or budget.cap)) * Decimal("1.2")
        enough = max(likely, 2 * budget.cap, total_usd((budget.spent, self._runner.dearest_usd)))
        return enough.quantize(Decimal(1).scaleb(enough.adjusted() - 1), ROUND_UP)

    @property
    def _likely_usd_left(self) -> Decimal | None:
        """What the lines that are left would cost, each as much as those that were answered; None before any was."""
        return self._left * self._tally.cost_usd() / self._tally.recorded if self._tally.recorded else None

    @property
    def exit_code(self) -> int:
        """0 every line succeeded, 1 some failed, else why the run stopped (README: exit codes)."""
        if self.stopped is not None:
            return self.stopped.exit_code
        return 1 if self._tally.failed else 0

    @property
    def recorded(self) -> int:
        """Lines that this run has recorded."""
        return self._runner.recorded if self._runner is not None else 0

    @property
    def done(self) -> int:
        """Lines of the input that had their record before this run."""
        return len(self._done)

    @property
    def only_failures_left(self) -> bool:
        """Whether every line has its record and what failed would not go again by itself."""
        return not self._left and not self._tally.retryable

    @property
    def _left(self) -> int:
        """Lines of the input without a record; the file may hold others, of lines that are no longer there."""
        return self.total - len(self._done) - (self._runner.recorded if self._runner is not None else 0)

    def status(self) -> Status:
        """How far the run is."""
        cost_usd, runner = self._tally.cost_usd(), self._runner
        return Status(
            total=self.total,
            done=self.total - self._left,
            failed=self._tally.failed,
            in_flight=runner.limiter.in_flight if runner is not None else 0,
            slots=runner.limiter.slots if runner is not None else 0,
            limited_by=self._monitor.bottleneck.now.value if runner is not None else LimitedBy.TAIL.value,
            cost_usd=cost_usd,
            projected_usd=cost_usd * self.total / max(1, self._tally.recorded),
            recorded_now=runner.recorded if runner is not None else 0,
            tokens_now=self._tally.tokens - self._tokens_before,
            elapsed_s=time.monotonic() - self._start,
        )

    def report(self, next_command: str | None = None) -> Report:
        """The bill of the whole result file. `next_command` is kept where anything is left to run."""
        report = make_report(self._tally, self._left)
        left = report.lines.pending or report.lines.failed
        twice = self._billed_twice
        if twice is not None and self._runner is not None:
            unanswered = self._runner.unanswered.values()
            twice += bound(unanswered, self._tally.book, self._tally.longest_answer)
        return msgspec.structs.replace(
            report,
            possibly_billed_twice=twice,
            unbilled_usd=self._unbilled_now if self._log is not None else None,
            limited_s=self._limited_s,
            stopped=self.stopped.why if self.stopped else None,
            next_command=next_command if left else None,
        )

    @property
    def _limited_s(self) -> dict[str, float] | None:
        """Seconds of this run by what held it back; of the one before where nothing was sent."""
        if self._runner is not None:
            return self._monitor.bottleneck.rounded()
        return self._log.last_run.limited_s if self._log is not None else None

    @property
    def _unbilled_now(self) -> Decimal:
        now = self._spending.unbilled_usd if self._runner is not None else NOTHING
        return total_usd((self._unbilled_usd, now))

    def _start_facts(self) -> dict[str, object]:
        job = self.job
        return {
            "version": __version__,
            "pid": os.getpid(),
            "started": self._started,
            "requests": self._input.name,
            "input_bytes": self._input.size_bytes,
            "lines": self.total,
            "pending": self.pending,
            "possibly_billed_twice": msgspec.to_builtins(self._billed_twice),
            "unbilled_usd": str(self._unbilled_usd),
            "max_cost_usd": None if job.max_cost_usd is None else str(job.max_cost_usd),
            "base_url": "simulated" if job.simulate else job.endpoint.base_url,
            "concurrency": str(job.limits.bounds),
            "rpm": job.limits.requests_per_minute,
            "tpm": job.limits.tokens_per_minute,
        }

    def _log_event(self, event: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(event, **facts)
