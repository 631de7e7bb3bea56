"""The way of a line: read → wait for a turn → send → judge, and perhaps again → record → count.

Follow `Runner._work` from top to bottom. `job/run.py` makes a `Runner` and says what becomes of it.

1. A worker has one line at a time; lines are read when one is free (and 64 KB ahead): memory stays what it is.
2. A line is done when its record is in the store; counters, bar and bill move after that, never before: `writer.py`.
3. Stopping: nobody gets a new turn, what is in flight is finished and recorded, everything else stays undone.
4. A line that waits without a slot (a backoff, an outage) lets another worker have the slot.
5. What has come for many lines at once takes each step together: `transport/yielding.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import msgspec

from batchrun.billing.tally import Tally
from batchrun.engine.error_limit import ErrorLimit
from batchrun.engine.observer import Observer
from batchrun.engine.retry import RetryPolicy, retry_transient
from batchrun.engine.source import LineSource
from batchrun.engine.spending import Spending
from batchrun.engine.stopping import Stopped, why_stopped
from batchrun.engine.writer import Done, RunFacts, Writer
from batchrun.errors import BatchrunError, PipeError, StopError
from batchrun.limits.circuit_breaker import OutageSignal, Verdict
from batchrun.limits.limiter import Limiter, Permit
from batchrun.limits.options import Limits
from batchrun.records.attempt import InFlight
from batchrun.records.money import NOTHING
from batchrun.records.outcome import Failure, Reply, describe
from batchrun.records.request import RequestLine
from batchrun.results.events import Back, Event, Outage, Unmeasured
from batchrun.results.store import ResultStore
from batchrun.transport.failures import Kind, classify
from batchrun.transport.protocol import Transport
from batchrun.transport.yielding import yield_to_loop
from batchrun.validation.schema import MismatchCheck

LONG_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a run works on: its lines, where their records go and are counted, and what every record says of the run.

    `address` is the whole URL of the gateway's first path, for messages.
    """

    source: LineSource
    store: ResultStore
    tally: Tally
    facts: RunFacts
    address: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """What a run keeps to: the limits, how often a line is sent, how long a drain may take, what may be spent.

    `schema_check` looks at answers before they are recorded; `error_limit` stops a job that goes wrong.
    """

    limits: Limits
    retry: RetryPolicy
    spending: Spending
    grace_s: float = 30.0
    error_limit: ErrorLimit | None = None
    schema_check: MismatchCheck | None = None


class _Sends(msgspec.Struct, gc=False):
    """What it took to get one line answered. `failed_in` is the circuit breaker's episode of its first outage signal.

    `upper_usd` is the most that each attempt may cost; 0 where there is no budget to hold it.
    """

    attempts: int = 0
    throttles: int = 0
    failed_in: int | None = None
    upper_usd: Decimal = NOTHING


class Runner:
    """Works off the lines of `work` within `rules`, until there are none or it is stopped."""

    def __init__(self, work: Work, rules: Rules, transport: Transport, observer: Observer) -> None:
        self.stopped: Stopped | None = None
        self.passed_over, self.dearest_usd = 0, NOTHING  # what a budget had no room for: lines, the most one may cost
        self.limiter = Limiter(
            rules.limits, asyncio.get_running_loop().time, self._held_too_long, rules.spending.budget
        )
        self._work_on = work
        self._rules = rules
        self._transport = transport
        self._observer = observer
        self._writer = Writer(work.store, work.facts, work.tally, rules.spending, rules.error_limit, self._stop_for)
        self._has_succeeded = False
        self._is_gone = False
        self._pause_told = float("-inf")
        self._stopping = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._set_aside = 0

    # -------------------------------------------------------------------------------------- the workers

    async def run(self) -> None:
        """Send every line. A mistake in the program ends everything at once; whatever else goes wrong stops it."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                coroutines = (self._writer.run(), self._writer.keep_durable(), self._drain())
                background = [group.create_task(coroutine) for coroutine in coroutines]
                self.fill_slots()
                while self._workers:
                    await asyncio.wait(self._workers, return_when=asyncio.FIRST_COMPLETED)
                    self.fill_slots()  # two that leave at once, each as one too many, may have been the last two
                if self.passed_over:
                    self.stop(self._rules.spending.why_over(), StopError.exit_code)
                for task in background:
                    task.cancel()
        finally:
            self._writer.finish()  # whatever ended the run: an answer that is here has been paid for

    async def _work(self) -> None:
        """One worker. An input that changed stops the job; others may finish and record."""
        try:
            await self._work_off()
        except BatchrunError as error:
            self._stop_for(error)

    async def _work_off(self) -> None:
        """Line after line, until there are none, or more workers than slots."""
        while (line := await self._next_line()) is not None:
            sends = _Sends(upper_usd=self._rules.spending.upper(line))
            outcome = await self._answer(line, sends)
            if outcome is not None:
                self._writer.record(Done(line, outcome, sends.attempts, sends.throttles))
            elif self.stopped is None:
                self._pass_over(sends.upper_usd)
            spare = len(self._workers) - self._set_aside - self.limiter.slots
            if spare > 0:
                return
            if spare < 0:
                self.fill_slots()
            await yield_to_loop()  # the writer, too: it has its turn before more lines are read

    def _pass_over(self, upper_usd: Decimal) -> None:
        """A line that may cost more than the budget has left stays undone; once most is used, so does the rest."""
        self.passed_over += 1
        self.dearest_usd = max(self.dearest_usd, upper_usd)
        if self.limiter.budget is not None and self.limiter.budget.is_used:
            self.stop(self._rules.spending.why_over(), StopError.exit_code)

    async def _next_line(self) -> RequestLine | None:
        line = await self._work_on.source.next() if self.stopped is None else None
        self.limiter.has_lines = line is not None
        return line

    async def _answer(self, line: RequestLine, sends: _Sends) -> Reply | Failure | None:
        """All that is done to get one line answered; None where the job stops and the line stays undone."""
        outcome = await self._attempt(line, sends)
        if isinstance(outcome, Failure) and classify(outcome).kind is Kind.TRANSIENT:
            with self._aside():
                outcome = await retry_transient(
                    outcome, lambda: self._attempt(line, sends), self._rules.retry, self._sleep
                )
        check = self._rules.schema_check
        if check is not None and isinstance(outcome, Reply) and outcome.outcome == "succeeded":
            outcome.schema_error = check.why(line, outcome.body)
        return outcome

    async def _attempt(self, line: RequestLine, sends: _Sends) -> Reply | Failure | None:
        """One attempt that counts. A throttle or an outage does not count: then the line is sent again."""
        while (permit := await self.limiter.acquire(self._tokens_at_most(line), sends.upper_usd)) is not None:
            sends.attempts += 1
            outcome = await self._send(line, permit, sends.attempts)
            if outcome is None:
                self.limiter.unsent(permit)
                return None
            if isinstance(outcome, Reply):
                self.limiter.answered(permit, line.model, _tokens_used(outcome), outcome.rate)
                self._has_succeeded = True
                if self._is_gone:
                    self._note_return()
                return outcome
            decision = classify(outcome)
            if decision.kind is Kind.STOP or (decision.stops_fresh_job and not self._has_succeeded):
                self.limiter.close()  # before the turn goes back: nobody may take it
                self.limiter.abandoned(permit)
                self.stop(why_stopped(outcome, self._work_on.address), StopError.exit_code)
                return None
            if decision.kind is Kind.THROTTLE:
                sends.throttles += 1
                self.limiter.throttled(permit, outcome.retry_after_s, outcome.rate)
                self._tell_pause(outcome)
                continue
            if decision.is_outage_signal and await self._was_outage(permit, line, outcome, sends):
                continue
            if not decision.is_outage_signal:
                self.limiter.refused(permit, _tokens_used(outcome))
            return outcome
        return None

    async def _send(self, line: RequestLine, permit: Permit, attempt: int) -> Reply | Failure | None:
        """Into the run log, then over the wire and back; None where the job is stopping by now."""
        try:
            if not await self._writer.may_send(line, attempt, permit.upper_usd):
                return None
            outcome = await self._transport.send(line)
        except BaseException:  # cancelled: the turn goes back, whatever comes
            self.limiter.abandoned(permit)
            raise
        permit.cost_usd, unbilled_usd = self._rules.spending.settled(line, outcome, permit.upper_usd)
        if isinstance(outcome, Failure):
            self._writer.ended(line, outcome, unbilled_usd)
            self._observer.detail(f"line {line.line_number}, attempt {attempt}: {describe(outcome)}")
        elif unbilled_usd:
            self._writer.log(Unmeasured(line.line_number, unbilled_usd))
        return outcome

    async def _was_outage(self, permit: Permit, line: RequestLine, failure: Failure, sends: _Sends) -> bool:
        """Whether it was the gateway that failed, not this line; waits for what becomes of the others."""
        breaker = self.limiter.breaker
        sign = OutageSignal(line.line_number, line.model, describe(failure), failure.may_be_billed, sends.failed_in)
        if sends.failed_in is None:
            sends.failed_in = breaker.episode
        with self._aside():
            verdict = await self.limiter.failed(permit, sign)
        if breaker.is_outage and not self._is_gone:
            self._is_gone = True
            self._observer.notice(
                f"the gateway is gone ({describe(failure)}); probing until it is back, no line is lost"
            )
            self._writer.log(Outage(failure.code))
        return verdict is Verdict.OUTAGE

    def _tell_pause(self, failure: Failure) -> None:
        """Say so where nothing is sent for a while, once a pause."""
        until, now = self.limiter.paused_until, asyncio.get_running_loop().time()
        if until - now >= LONG_PAUSE_S and until > self._pause_told + 1.0:
            self._pause_told = until
            self._observer.notice(f"pausing for {until - now:.0f} s: {describe(failure)}")

    def _note_return(self) -> None:
        """The gateway was gone: say so where it answers again."""
        if not self.limiter.breaker.is_outage:
            self._is_gone = False
            self._observer.notice("the gateway is back")
            self._writer.log(Back())

    # ----------------------------------------------------------------------------------------- stopping

    def stop(self, why: str, exit_code: int) -> None:
        """Send nothing more; what is in flight may finish within the grace time. The first reason counts."""
        if self.stopped is not None:
            return
        self.stopped = Stopped(why, exit_code)
        self.limiter.close()
        self._writer.close()
        self._stopping.set()
        if count := self.limiter.in_flight:
            rest = f"finishing {count} in flight, up to {self._rules.grace_s:g} s (Ctrl-C leaves at once)"
            self._observer.notice(f"stopping: {why}; {rest}")

    def interrupt(self, number: signal.Signals) -> None:
        """A signal came: the first one drains, any further one leaves at once."""
        if self.stopped is None:
            self.stop(f"interrupted ({number.name})", 128 + number)
        else:
            self._observer.notice("leaving at once; requests in flight may be billed, and are sent again next time")
            self._leave_at_once()

    def _stop_for(self, error: BatchrunError) -> None:
        """What a worker or the writer cannot do; where nobody reads the results, nothing more can be recorded."""
        self.stop(str(error), StopError.exit_code)
        if isinstance(error, PipeError):
            self._leave_at_once()

    def _leave_at_once(self) -> None:
        for worker in self._workers:
            worker.cancel()

    async def _drain(self) -> None:
        """Once the job is stopping, wait out the grace time, then give up what is in flight."""
        await self._stopping.wait()
        await asyncio.sleep(self._rules.grace_s)
        self._leave_at_once()

    def _held_too_long(self, why: str) -> None:
        self.stop(f"no answer from the gateway for {self.limiter.limits.max_outage_s:g} s ({why})", StopError.exit_code)

    # ---------------------------------------------------------------------------------------- the rest

    @property
    def recorded(self) -> int:
        """Lines that have their record."""
        return self._writer.recorded

    @property
    def unanswered(self) -> dict[int, InFlight]:
        """The attempts, by line, of which nobody knows what became."""
        return self._writer.unanswered

    def log(self, event: Event) -> None:
        """Tell the run log; where it cannot be written the job stops, but what is in flight is recorded."""
        self._writer.log(event)

    def newly_recorded(self) -> list[int]:
        """The lines that have their record since this was asked last."""
        return self._writer.newly_recorded()

    @property
    def _most_lines(self) -> int:
        """Lines that may be held at a time, whatever becomes of them."""
        return 2 * self.limiter.slots + 16

    def fill_slots(self) -> None:
        """A worker for every slot, beside those set aside, as long as there are lines; their number is bounded."""
        while self.limiter.has_lines and self._set_aside + self.limiter.slots > len(self._workers) < self._most_lines:
            self._add_worker()

    def _add_worker(self) -> None:
        assert self._group is not None, "workers are added while the run goes on"
        worker = self._group.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """While a line waits without a slot another worker may use the slot; the number of both is bounded."""
        self._set_aside += 1
        if self.stopped is None:
            self.fill_slots()
        try:
            yield
        finally:
            self._set_aside -= 1

    async def _sleep(self, seconds: float) -> None:
        """A backoff, cut short when the job is stopping."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _tokens_at_most(self, line: RequestLine) -> float:
        """What a request may use, at a guess: a token for four bytes, and the answer it allows or the mean so far."""
        if self._rules.limits.tokens_per_minute is None:
            return 0.0
        if line.max_output_tokens is not None:
            return len(line.body) / 4 + line.max_output_tokens
        return len(line.body) / 4 + self._work_on.tally.output_tokens / max(1, self._work_on.tally.recorded)


def _tokens_used(outcome: Reply | Failure) -> float | None:
    """What settles a reservation: the usage reported; nothing for a failure; None (keep it) for an answer without."""
    if outcome.usage is not None:
        return float(outcome.usage.total_tokens)
    return 0.0 if isinstance(outcome, Failure) else None
