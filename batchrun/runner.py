"""The whole job, top to bottom: check the input, take up the results there are, send what is left, report.

    with Run(job) as run:
        run.prepare()        # nothing is sent yet; every refusal comes from here
        await run.send()     # workers: next line → limiter → transport → retry → journal → tally
        report = run.report()

1. A line is done when its record is in the journal; counters, bar and bill move after that, never before.
2. A worker has one line at a time; lines are read when a worker is free, so memory does not grow with the file.
3. Stopping: nobody gets a new turn, what is in flight is finished and recorded, everything else stays undone.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import msgspec

from batchrun.answer import Failure, Reply
from batchrun.errors import DiskError, StopError
from batchrun.hashes import LineSet
from batchrun.journal import Journal, Sink, Stream
from batchrun.limits import Limiter, Limits, Permit, Verdict
from batchrun.pricing import PriceBook
from batchrun.reader import RequestFile
from batchrun.records import ErrorInfo, Overrides, RequestLine, ResultHead, RunInfo, encode_result
from batchrun.report import Report, Tally
from batchrun.resume import Changed, Resume
from batchrun.retry import Kind, RetryPolicy, classify, retry_transient
from batchrun.runlog import RunLog
from batchrun.transport import Endpoint, Timeouts, Transport
from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.gateway import GatewayOptions

SYNC_EVERY_S = 1.0
TICK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Job:
    """Everything that one run is told. `results` is None for standard output."""

    requests: str
    results: Path | None
    endpoint: Endpoint
    overrides: Overrides = Overrides()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    changed: Changed = Changed.REFUSE
    retry_errors: bool = False
    overwrite: bool = False
    prices: Path | None = None
    grace_s: float = 30.0
    max_response_bytes: int = 64 * 1024 * 1024
    simulate: GatewayOptions | None = None


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is. `done`, `failed` and the costs cover the whole file, what ends in `_now` this run alone."""

    total: int
    done: int
    failed: int
    in_flight: int
    cost_usd: Decimal
    projected_usd: Decimal
    sent_now: int
    tokens_now: int
    elapsed_s: float


class Observer(Protocol):
    """Who watches a run. Called from the event loop; must return at once."""

    def notice(self, text: str) -> None:
        """Something worth a line on the screen."""

    def detail(self, text: str) -> None:
        """Something that only somebody who looks for a cause wants to read."""

    def tick(self, status: Status) -> None:
        """Time to draw: called four times a second, and once at the end."""


class Silent:
    """An observer that looks away."""

    def notice(self, text: str) -> None:
        """Ignore it."""

    def detail(self, text: str) -> None:
        """Ignore it."""

    def tick(self, status: Status) -> None:
        """Ignore it."""


@dataclass(slots=True)
class Stopped:
    """Why a run ended before its time, and the exit code for that."""

    why: str
    exit_code: int


@dataclass(slots=True)
class _Sends:
    """What it took to get one line answered."""

    attempts: int = 0
    throttles: int = 0


class Run:
    """One run of a job. Use as a context manager: it holds the files, locked, until it is left."""

    def __init__(self, job: Job, observer: Observer | None = None) -> None:
        self.job = job
        self.stopped: Stopped | None = None
        self._observer = observer or Silent()
        self._files = contextlib.ExitStack()
        self._done = LineSet()
        self._started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        self._start = time.monotonic()
        self._succeeded_now = 0
        self._recorded_now = 0

    def __enter__(self) -> Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._files.close()

    # ---------------------------------------------------------------------------------- before sending

    def prepare(self) -> None:
        """Open and check everything; the next step costs money.

        Raises `UsageError` and its kin (exit code 2), after which no file has been changed but for a torn tail.
        """
        job = self.job
        book = PriceBook.load(job.prices)
        self._input = RequestFile(job.requests, job.overrides)
        self._files.callback(self._input.close)
        self._tally = Tally(book)
        self._log: RunLog | None = None
        self._sink: Sink
        if job.results is None:
            self._sink = Stream(sys.stdout.buffer)
            self._input.check()
        else:
            self._take_up(job.results)
        self.total = self._input.survey.lines
        self.pending = self.total - len(self._done)
        self._tokens_before = self._tally.tokens

    def _take_up(self, path: Path) -> None:
        """Lock the result file and find out what is left to do."""
        self._log = RunLog(path.with_name(path.name + ".log"))
        self._files.callback(self._log.close, forget=True)
        self._input.refuse_same_file(path)
        journal = Journal(path, overwrite=self.job.overwrite)
        self._files.callback(journal.forget)
        resume = Resume(journal, self._log.last_run(), self.job.changed, retry_errors=self.job.retry_errors)
        self._done = resume.take_up(self._input, self._tally)
        self._sink = journal
        for notice in resume.notices:
            self._observer.notice(notice)

    # ------------------------------------------------------------------------------------------ sending

    async def send(self) -> None:
        """Send every line that is not done. Returns when all are, or when the run was stopped."""
        if not self.pending:
            return
        job = self.job
        self._start = time.monotonic()
        self._limiter = Limiter(job.limits, asyncio.get_running_loop().time, self._held_too_long)
        self._stop_event = asyncio.Event()
        self._lines = self._input.requests(without=self._done)
        self._workers: set[asyncio.Task[None]] = set()
        self._set_aside = 0
        self._write_start_event()
        async with contextlib.AsyncExitStack() as stack:
            endpoint = await self._endpoint(stack)
            transport = Transport(endpoint, job.timeouts, job.max_response_bytes, job.limits.concurrency)
            self._transport = await stack.enter_async_context(transport)
            await self._work_through()
        self._finish()

    async def _work_through(self) -> None:
        """Run the workers to the end; a dead disk ends them all at once."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                beat = group.create_task(self._beat())
                drain = group.create_task(self._drain())
                for _ in range(min(self.job.limits.concurrency, self.pending)):
                    self._add_worker()
                while self._workers:
                    await asyncio.wait(self._workers, return_when=asyncio.FIRST_COMPLETED)
                beat.cancel()
                drain.cancel()
        except* StopError as errors:
            error = errors.exceptions[0]
            self.stop(str(error), StopError.exit_code)

    def _add_worker(self) -> None:
        worker = self._group.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        """One worker: line after line, until there are none or there are more workers than slots."""
        while (line := self._next_line()) is not None:
            outcome, sends = await self._answer(line)
            if outcome is not None:
                self._record(line, outcome, sends)
            if len(self._workers) - self._set_aside > self.job.limits.concurrency:
                return

    def _next_line(self) -> RequestLine | None:
        if self.stopped is not None:
            return None
        try:
            return next(self._lines, None)
        except StopError as error:
            self.stop(str(error), error.exit_code)
            return None

    async def _answer(self, line: RequestLine) -> tuple[Reply | Failure | None, _Sends]:
        """Everything that is done for one line. No outcome: the run is stopping and the line stays undone."""
        sends = _Sends()
        outcome = await self._attempt(line, sends)
        if isinstance(outcome, Failure) and classify(outcome).kind is Kind.TRANSIENT:
            with self._aside():
                outcome = await retry_transient(
                    outcome, lambda: self._attempt(line, sends), self.job.retry, self._sleep
                )
        return outcome, sends

    async def _attempt(self, line: RequestLine, sends: _Sends) -> Reply | Failure | None:
        """One attempt that counts: sent again, without counting, after a throttle or into an outage."""
        while (permit := await self._limiter.acquire(self._tokens_at_most(line))) is not None:
            sends.attempts += 1
            self._log_sent(line, sends.attempts)
            outcome: Reply | Failure | None = None
            try:
                outcome = await self._transport.send(line)
            finally:
                self._limiter.release(permit, _tokens_used(outcome))
            if isinstance(outcome, Reply):
                self._limiter.succeeded(line.model)
                self._succeeded_now += outcome.error_code is None
                return outcome
            self._log_event("ended", line=line.line_number, code=outcome.code, status=outcome.status)
            self._observer.detail(f"line {line.line_number}, attempt {sends.attempts}: {_told(outcome)}")
            decision = classify(outcome)
            fresh = decision.stops_fresh_job and not self._succeeded_now
            if decision.kind is Kind.STOP or fresh:
                self.stop(self._why_stopped(outcome), StopError.exit_code)
                return None
            if decision.kind is Kind.THROTTLE:
                sends.throttles += 1
                self._limiter.throttled(permit, outcome.retry_after_s)
                self._log_event("throttle", line=line.line_number, retry_after_s=outcome.retry_after_s)
                continue
            if not decision.is_outage_sign:
                self._limiter.spoke()
                return outcome
            if await self._was_outage(permit, line, outcome):
                continue
            return outcome
        return None

    async def _was_outage(self, permit: Permit, line: RequestLine, failure: Failure) -> bool:
        """Whether it was the gateway that failed, and not this attempt; waits for what the others see."""
        was_open = not self._limiter.gate.is_shut
        connected = failure.may_be_billed
        with self._aside():
            verdict = await self._limiter.outage_sign(
                permit,
                line.line_number,
                line.model,
                f"{failure.code}: {failure.message}",
                connected=connected,
            )
        if verdict is Verdict.OUTAGE and was_open and self._limiter.gate.is_outage:
            self._observer.notice(f"the gateway does not answer ({failure.message}); probing until it is back")
            self._log_event("outage", code=failure.code)
        return verdict is Verdict.OUTAGE

    def _record(self, line: RequestLine, outcome: Reply | Failure, sends: _Sends) -> None:
        """Write the result line; then, and only then, count it."""
        head = self._head(line, outcome, sends)
        self._sink.append(encode_result(head, outcome.status, outcome.request_id, outcome.body))
        self._recorded_now += 1
        self._tally.add(head)

    def _head(self, line: RequestLine, outcome: Reply | Failure, sends: _Sends) -> ResultHead:
        error = None
        if isinstance(outcome, Failure):
            error = ErrorInfo(outcome.code, outcome.message)
        elif outcome.error_code is not None:
            error = ErrorInfo(outcome.error_code, outcome.message)
        timing = outcome.timing
        run = RunInfo(
            line=line.line_number,
            of=self.total,
            sha=line.sha,
            started=self._started,
            elapsed_s=round(time.monotonic() - self._start, 3),
            outcome="failed" if isinstance(outcome, Failure) else outcome.outcome,
            asked=line.model,
            attempts=sends.attempts,
            throttles=sends.throttles,
            may_heal=isinstance(outcome, Failure) and classify(outcome).kind is Kind.TRANSIENT,
            latency_s=round(timing.total_s, 4),
            first_event_s=_rounded(timing.first_event_s),
            first_text_s=_rounded(timing.first_text_s),
            model=outcome.model,
            usage=outcome.usage,
        )
        return ResultHead(line.custom_id, run, error)

    # ----------------------------------------------------------------------------------------- stopping

    def stop(self, why: str, exit_code: int) -> None:
        """Send nothing more; what is in flight may finish within the grace time. The first reason counts."""
        if self.stopped is None:
            self.stopped = Stopped(why, exit_code)
            self._limiter.close()
            self._stop_event.set()
            if self._limiter.in_flight:
                self._observer.notice(
                    f"stopping: {why}; finishing {self._limiter.in_flight} in flight "
                    f"(up to {self.job.grace_s:g} s; Ctrl-C leaves at once)"
                )

    def interrupt(self, number: signal.Signals) -> None:
        """A signal came: the first one drains, any further one leaves at once."""
        if self.stopped is None:
            self.stop(f"interrupted ({number.name})", 128 + number)
        else:
            self._observer.notice("leaving at once; what was in flight may be billed and goes again next time")
            self.leave_at_once()

    def leave_at_once(self) -> None:
        """Give up what is in flight; its lines stay undone."""
        for worker in self._workers:
            worker.cancel()

    async def _drain(self) -> None:
        """Once the run is stopping, wait out the grace time, then give up."""
        await self._stop_event.wait()
        await asyncio.sleep(self.job.grace_s)
        self.leave_at_once()

    def _held_too_long(self, why: str) -> None:
        minutes = self.job.limits.max_outage_s / 60
        self.stop(f"the gateway has given no answer for {minutes:g} minutes ({why})", StopError.exit_code)

    def _why_stopped(self, failure: Failure) -> str:
        """One line: what came back, and what to do about it."""
        what = _told(failure)
        if failure.code in ("html_instead_of_json", "html_page") or failure.status in (404, 405):
            address = self.job.endpoint.url("/v1/responses")
            return f"{address} answered {what}; is --base-url right?"
        if failure.status == 401:
            return f"the gateway refuses the key ({what}); set a good one"
        if failure.code in ("dns_failed", "certificate_refused"):
            return f"{failure.message}; is --base-url right?"
        return f"the gateway refuses every request ({what}); top up or change the key"

    def _finish(self) -> None:
        """Make the records durable and end the log."""
        with contextlib.suppress(DiskError) if self.stopped else contextlib.nullcontext():
            self._sink.sync()
        self._observer.tick(self.status())
        reason = self.stopped.why if self.stopped else "done"
        with contextlib.suppress(DiskError):
            self._log_event("stop", why=reason, recorded=self._recorded_now)

    # ---------------------------------------------------------------------------------------- the rest

    @property
    def exit_code(self) -> int:
        """0 every line succeeded, 1 some failed, else why the run stopped (design: exit codes)."""
        if self.stopped is not None:
            return self.stopped.exit_code
        return 1 if self._tally.failed else 0

    def status(self) -> Status:
        """How far the run is."""
        cost_usd = self._tally.cost_usd()
        return Status(
            total=self.total,
            done=self._tally.recorded,
            failed=self._tally.failed,
            in_flight=self._limiter.in_flight if hasattr(self, "_limiter") else 0,
            cost_usd=cost_usd,
            projected_usd=cost_usd * self.total / max(1, self._tally.recorded),
            sent_now=self._recorded_now,
            tokens_now=self._tally.tokens - self._tokens_before,
            elapsed_s=time.monotonic() - self._start,
        )

    def report(self, next_command: str | None = None) -> Report:
        """The bill of the whole result file. `next_command` is kept where anything is left to run."""
        report = self._tally.report(self.total - self._tally.recorded)
        left = report.lines.pending or report.lines.failed
        return msgspec.structs.replace(
            report,
            stopped=self.stopped.why if self.stopped else None,
            next_command=next_command if left else None,
        )

    @property
    def only_failures_left(self) -> bool:
        """Whether every line has its record and what failed would not go again by itself."""
        return self._tally.recorded >= self.total and not self._tally.may_heal

    async def _endpoint(self, stack: contextlib.AsyncExitStack) -> Endpoint:
        if self.job.simulate is None:
            return self.job.endpoint
        from batchrun.gateway import Gateway

        gateway = await stack.enter_async_context(Gateway(self.job.simulate))
        return Endpoint(gateway.base_url)

    async def _beat(self) -> None:
        """Four times a second the screen, once a second the disk."""
        synced, last_sync = self._recorded_now, time.monotonic()
        while True:
            await asyncio.sleep(TICK_EVERY_S)
            self._observer.tick(self.status())
            if self._recorded_now > synced and time.monotonic() - last_sync >= SYNC_EVERY_S:
                synced, last_sync = self._recorded_now, time.monotonic()
                await asyncio.to_thread(self._sink.sync)

    async def _sleep(self, seconds: float) -> None:
        """A backoff, cut short when the run is stopping."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop_event.wait()

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """While a line waits without a slot, another worker may use the slot; their number is bounded."""
        self._set_aside += 1
        if self.stopped is None and len(self._workers) < 2 * self.job.limits.concurrency + 16:
            self._add_worker()
        try:
            yield
        finally:
            self._set_aside -= 1

    def _tokens_at_most(self, line: RequestLine) -> float:
        """What a request may use, at a guess: a token for four bytes, and the answer it allows or the mean so far."""
        if self.job.limits.tokens_per_minute is None:
            return 0.0
        if line.max_output_tokens is not None:
            return len(line.body) / 4 + line.max_output_tokens
        return len(line.body) / 4 + self._tally.output_tokens / max(1, self._tally.recorded)

    def _write_start_event(self) -> None:
        job = self.job
        self._log_event(
            "start",
            version=__version__,
            pid=os.getpid(),
            started=self._started,
            requests=self._input.name,
            input_bytes=self._input.size_bytes,
            lines=self.total,
            pending=self.pending,
            base_url="simulated" if job.simulate else job.endpoint.base_url,
            concurrency=job.limits.concurrency,
            rpm=job.limits.requests_per_minute,
            tpm=job.limits.tokens_per_minute,
        )

    def _log_sent(self, line: RequestLine, attempt: int) -> None:
        self._log_event(
            "sent",
            line=line.line_number,
            attempt=attempt,
            model=line.model,
            body_bytes=len(line.body),
            max_output_tokens=line.max_output_tokens,
        )

    def _log_event(self, event: str, **facts: object) -> None:
        if self._log is not None:
            self._log.write(event, **facts)


def _tokens_used(outcome: Reply | Failure | None) -> float | None:
    """What settles a reservation: the usage reported, else nothing used by a failure, else None (keep it)."""
    if outcome is None:
        return None
    if outcome.usage is not None:
        return float(outcome.usage.total_tokens)
    return 0.0 if isinstance(outcome, Failure) else None


def _told(failure: Failure) -> str:
    """A failure in one line."""
    status = f"HTTP {failure.status} " if failure.status else ""
    return f"{status}{failure.code}: {' '.join(failure.message.split())}"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 4)
