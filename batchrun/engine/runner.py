"""The way of a line: read → wait for a slot → send → judge, perhaps send again → record → count.

To follow it, read `Runner._work` from top to bottom. `job/run.py` makes a `Runner` and uses its result.

1. A worker has one line at a time. A line is read when a worker is free (and 64 KB ahead), so memory does not grow.
2. A line is done when its record is in the store. Counters, bar and bill change after that, never before: `writer.py`.
3. When the run stops, no attempt gets a slot any more. Requests in flight are finished and recorded; all other lines
   stay undone.
4. A line that waits without a slot (in a backoff or an outage) leaves its slot to another worker.
5. Answers that arrive together take each step together: `transport/yielding.py`.
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
from batchrun.transport.deadlines import sleep_awake
from batchrun.transport.failures import Kind, classify
from batchrun.transport.protocol import Transport
from batchrun.transport.yielding import yield_to_loop
from batchrun.validation.schema import MismatchCheck

LONG_PAUSE_S = 3.0


@dataclass(frozen=True, slots=True)
class Work:
    """What a run works on.

    `source` gives its lines, `store` takes their records, `tally` counts them, and `facts` are in every record.
    `address` is the full URL of `/v1/responses` at the gateway, for messages.
    """

    source: LineSource
    store: ResultStore
    tally: Tally
    facts: RunFacts
    address: str = ""


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a run.

    `limits`: what may be in flight. `retry`: how often a line is sent. `spending`: what may be spent. `grace_s`: how
    many seconds a drain may take. `error_limit` stops a run in which too many lines go wrong; None never does.
    `schema_check` checks answers before they are recorded; None checks nothing.
    """

    limits: Limits
    retry: RetryPolicy
    spending: Spending
    grace_s: float = 30.0
    error_limit: ErrorLimit | None = None
    schema_check: MismatchCheck | None = None


class _Sends(msgspec.Struct, gc=False):
    """The attempts and throttles of one line. `failed_in` is the circuit breaker's episode of its first outage signal.

    `upper_usd` is the most that each attempt may cost, in US dollars; 0 without a budget.
    """

    attempts: int = 0
    throttles: int = 0
    failed_in: int | None = None
    upper_usd: Decimal = NOTHING


class Runner:
    """Sends the lines of `work` by `rules`, until no line is left or the run is stopped.

    `stopped` says why the run ended early; None if it did not. `passed_over` counts the lines that the budget had no
    room for, and `dearest_usd` is the most that one of them may cost, in US dollars.
    """

    def __init__(self, work: Work, rules: Rules, transport: Transport, observer: Observer) -> None:
        self.stopped: Stopped | None = None
        self.passed_over, self.dearest_usd = 0, NOTHING  # lines that the budget had no room for
        self.limiter = Limiter(
            rules.limits, asyncio.get_running_loop().time, self._held_too_long, rules.spending.budget
        )
        self._work_on = work
        self._rules = rules
        self._transport = transport
        self._observer = observer
        self._writer = Writer(
            work.store,
            work.facts,
            work.tally,
            rules.spending,
            rules.error_limit,
            self._stop_for,
            self.limiter.bytes.remove,
        )
        self._has_succeeded = False
        self._is_gone = False
        self._pause_told = float("-inf")
        self._stopping = asyncio.Event()
        self._group: asyncio.TaskGroup | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._set_aside = 0

    # -------------------------------------------------------------------------------------- the workers

    async def run(self) -> None:
        """Send every line. A bug in the program ends everything at once; every other error stops the run in order."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                coroutines = (self._writer.run(), self._writer.keep_durable(), self._drain())
                background = [group.create_task(coroutine) for coroutine in coroutines]
                self.fill_slots()
                while self._workers:
                    await asyncio.wait(self._workers, return_when=asyncio.FIRST_COMPLETED)
                    self.fill_slots()  # two spare workers may end at the same time and may have been the last two
                if self.passed_over:
                    self.stop(self._rules.spending.why_over(), StopError.exit_code)
                for task in background:
                    task.cancel()
        finally:
            self._writer.finish()  # however the run ended: an answer that has arrived is paid for

    async def _work(self) -> None:
        """One worker. If the request file has changed, the job stops; other workers finish and record their lines."""
        try:
            await self._work_off()
        except BatchrunError as error:
            self._stop_for(error)

    async def _work_off(self) -> None:
        """Work on one line after the other, until no line is left or there are more workers than slots."""
        while (line := await self._next_line()) is not None:
            sends = _Sends(upper_usd=self._rules.spending.upper(line))
            outcome = await self._answer(line, sends)
            if outcome is not None:
                answer_bytes = len(outcome.body or b"")
                self.limiter.bytes.add(answer_bytes)
                held_bytes = len(line.body) + answer_bytes
                self._writer.record(Done(line, outcome, sends.attempts, sends.throttles, held_bytes))
                del line, outcome  # a worker that waits for its next line keeps none of them in memory
            else:
                self.limiter.bytes.remove(len(line.body))
                if self.stopped is None:
                    self._pass_over(sends.upper_usd)
            spare = len(self._workers) - self._set_aside - self.limiter.slots
            if spare > 0:
                return
            if spare < 0:
                self.fill_slots()
            await yield_to_loop()  # lets the writer run before more lines are read

    def _pass_over(self, upper_usd: Decimal) -> None:
        """Leave a line undone that may cost more than the budget has left; if the budget is used up, stop the run."""
        self.passed_over += 1
        self.dearest_usd = max(self.dearest_usd, upper_usd)
        if self.limiter.budget is not None and self.limiter.budget.is_used:
            self.stop(self._rules.spending.why_over(), StopError.exit_code)

    async def _next_line(self) -> RequestLine | None:
        if self.limiter.bytes.is_full:
            await self.limiter.bytes.room()
        line = await self._work_on.source.next() if self.stopped is None else None
        self.limiter.has_lines = line is not None
        self.limiter.bytes.add(len(line.body) if line is not None else 0)
        return line

    async def _answer(self, line: RequestLine, sends: _Sends) -> Reply | Failure | None:
        """Get one line answered, with retries; None if the line stays undone: the job stops, or the budget is short."""
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
        """One attempt that counts. A throttle or an outage does not count; the line is then sent again."""
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
                self.limiter.close()  # before the slot is given back, so that no other line gets it
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
        """Log the attempt, send it and return its outcome; None if the job is stopping by then."""
        try:
            if not await self._writer.may_send(line, attempt, self._rules.spending.reserved(permit.upper_usd)):
                return None
            outcome = await self._transport.send(line)
        except BaseException:  # cancelled, for example: the slot must be given back in any case
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
        """Whether the gateway failed and not this line; waits until the circuit breaker has decided."""
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
        """Show a notice, once for each pause, if nothing is sent for a while."""
        until, now = self.limiter.paused_until, asyncio.get_running_loop().time()
        if until - now >= LONG_PAUSE_S and until > self._pause_told + 1.0:
            self._pause_told = until
            self._observer.notice(f"pausing for {until - now:.0f} s: {describe(failure)}")

    def _note_return(self) -> None:
        """Show a notice when the gateway answers again after an outage."""
        if not self.limiter.breaker.is_outage:
            self._is_gone = False
            self._observer.notice("the gateway is back")
            self._writer.log(Back())

    # ----------------------------------------------------------------------------------------- stopping

    def stop(self, why: str, exit_code: int) -> None:
        """Send nothing more; requests in flight may finish within the grace time. Only the first reason is kept."""
        if self.stopped is not None:
            return
        self.stopped = Stopped(why, exit_code)
        self.limiter.close()
        self._writer.close()
        self._stopping.set()
        if count := self.limiter.in_flight:
            rest = f"finishing {count} in flight, up to {self._rules.grace_s:g} s (Ctrl-C stops at once)"
            self._observer.notice(f"stopping: {why}; {rest}")

    def interrupt(self, number: signal.Signals) -> None:
        """Act on a signal: the first one drains, any further one ends the run at once."""
        if self.stopped is None:
            self.stop(f"interrupted ({number.name})", 128 + number)
        else:
            self._observer.notice(
                "stopping at once; requests in flight may be billed, and are sent again by the next run"
            )
            self._leave_at_once()

    def _stop_for(self, error: BatchrunError) -> None:
        """Stop because of an error in a worker or the writer; at once if the reader of a pipe is gone."""
        self.stop(str(error), StopError.exit_code)
        if isinstance(error, PipeError):
            self._leave_at_once()

    def _leave_at_once(self) -> None:
        for worker in self._workers:
            worker.cancel()

    async def _drain(self) -> None:
        """Wait until the run stops, then for the grace time, then cancel the requests in flight."""
        await self._stopping.wait()
        await sleep_awake(self._rules.grace_s)
        self._leave_at_once()

    def _held_too_long(self, why: str) -> None:
        self.stop(f"no answer from the gateway for {self.limiter.limits.max_outage_s:g} s ({why})", StopError.exit_code)

    # ---------------------------------------------------------------------------------------- the rest

    @property
    def recorded(self) -> int:
        """The number of lines that this run has recorded."""
        return self._writer.recorded

    @property
    def at_output_limit(self) -> int:
        """The number of recorded successes that have exactly the output tokens that they were allowed."""
        return self._writer.at_output_limit

    @property
    def unanswered(self) -> dict[int, InFlight]:
        """The attempts, by line, whose outcome is unknown."""
        return self._writer.unanswered

    def log(self, event: Event) -> None:
        """Write an event to the run log; if that fails, the run stops, but requests in flight are still recorded."""
        self._writer.log(event)

    def newly_recorded(self) -> list[int]:
        """The lines that were recorded since the last call."""
        return self._writer.newly_recorded()

    @property
    def _most_lines(self) -> int:
        """The most lines that may be in memory at a time."""
        return 2 * self.limiter.slots + 16

    def fill_slots(self) -> None:
        """Start workers until each slot has one, not counting those that wait without a slot, up to `_most_lines`."""
        while self.limiter.has_lines and self._set_aside + self.limiter.slots > len(self._workers) < self._most_lines:
            self._add_worker()

    def _add_worker(self) -> None:
        assert self._group is not None, "workers are added while the run goes on"
        worker = self._group.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._workers.discard)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[None]:
        """While a line waits without a slot, another worker may use the slot; `_most_lines` limits their number."""
        self._set_aside += 1
        if self.stopped is None:
            self.fill_slots()
        try:
            yield
        finally:
            self._set_aside -= 1

    async def _sleep(self, seconds: float) -> None:
        """A backoff, which ends early if the run stops."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    def _tokens_at_most(self, line: RequestLine) -> float:
        """A guess of the tokens that a request uses: one for four bytes, plus its output limit or the mean so far."""
        if self._rules.limits.tokens_per_minute is None:
            return 0.0
        if line.max_output_tokens is not None:
            return len(line.body) / 4 + line.max_output_tokens
        return len(line.body) / 4 + self._work_on.tally.output_tokens / max(1, self._work_on.tally.recorded)


def _tokens_used(outcome: Reply | Failure) -> float | None:
    """The tokens that settle a reservation: as reported; 0 for a failure; None (keep it) for an answer without one."""
    if outcome.usage is not None:
        return float(outcome.usage.total_tokens)
    return 0.0 if isinstance(outcome, Failure) else None
