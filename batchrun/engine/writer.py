"""The only writer of a run: it writes together what is ready, and counts it once it is written.

1. Workers hand over records and continue; the writer runs after all workers that are ready have run.
2. Records go into the result file with one write. Counters, bar and bill change after that, never before.
3. Attempts go into the run log with one write, after the records; each is sent only after `may_send` has returned True.
4. If a write fails, the run stops, and no further attempt is sent.
5. The bill waits until the price list is loaded, which takes half a second in a thread of its own. Then records are
   added up four times a second, and where somebody asks: many at once take far less time than each write alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from decimal import Decimal

import msgspec

from batchrun.billing.tally import Tally
from batchrun.engine.done import Done, RunFacts
from batchrun.engine.error_limit import ErrorLimit
from batchrun.engine.output_limit import is_at_output_limit
from batchrun.engine.spending import Spending
from batchrun.errors import BatchrunError, DiskError, StopError
from batchrun.records.attempt import AnsweredControl, InFlight
from batchrun.records.money import NOTHING
from batchrun.records.outcome import Failure, FailureCode, Reply
from batchrun.records.request import RequestLine
from batchrun.records.result import VERSION, ErrorInfo, ResultHead, RunInfo, Try, encode_result
from batchrun.results.events import Billed, Control, Ended, Event, Recorded, Sent, Tried, key_of
from batchrun.results.store import ResultStore
from batchrun.transport.failures import Kind, classify
from batchrun.transport.yielding import yield_to_loop

WRITE_BYTES = 1 << 20
LOG_EVERY_S = 0.25
SYNC_EVERY_S = 1.0


class _ToSend(msgspec.Struct):
    """An attempt that waits until it is in the run log."""

    line: RequestLine
    upper_usd: Decimal
    event: Sent
    turn: asyncio.Future[None]


class Writer:
    """Writes results and the run log. `stop` is called if a write fails, or if the error limit is exceeded.

    `release` is called with the bytes in memory that records held, once they are written.
    """

    def __init__(
        self,
        store: ResultStore,
        facts: RunFacts,
        tally: Tally,
        spending: Spending,
        error_limit: ErrorLimit | None,
        stop: Callable[[BatchrunError], None],
        release: Callable[[int], None] = lambda held_bytes: None,
    ) -> None:
        self.recorded = self.at_output_limit = 0
        self._release = release
        self._store = store
        self._facts = facts
        self._tally = tally
        self._spending = spending
        self._error_limit = error_limit
        self._stop = stop
        self._start = time.monotonic()
        self._loop = asyncio.get_running_loop()
        self._is_closed = False
        self._unanswered: dict[int, tuple[RequestLine, Decimal, str | None]] = {}
        self._newly_recorded: list[int] = []
        self._done: list[Done] = []
        self._tried: list[tuple[ResultHead, Done]] = []
        self._to_send: list[_ToSend] = []
        self._has_work = asyncio.Event()
        self._prices: asyncio.Future[object] | None = None
        self._unbilled: list[ResultHead] = []
        self._unbilled_tries: list[ResultHead] = []
        self._unbilled_controls: list[AnsweredControl] = []

    # ------------------------------------------------------------------------------- for the workers

    def record(self, done: Done) -> None:
        """Queue a result line to be written and then counted."""
        self._done.append(done)
        self._has_work.set()

    def tried(self, done: Done) -> Try:
        """Queue an answer whose line is asked again; it is written before the attempt that asks is let through."""
        head = self._head(done, self._elapsed_s)
        self._tried.append((head, done))
        self._has_work.set()
        return head.run.as_try()

    async def may_send(
        self,
        line: RequestLine,
        attempt: int,
        upper_usd: Decimal,
        ask: int = 1,
        endpoint: str | None = None,
        *,
        is_control: bool = False,
    ) -> bool:
        """Wait until the run log says that an attempt is about to be sent; False if the run stops: do not send it."""
        if self._is_closed:
            return False
        turn: asyncio.Future[None] = self._loop.create_future()
        reserved_usd, size = upper_usd or None, len(line.body)
        limit = line.max_output_tokens
        event = Sent(line.line_number, attempt, line.model, size, limit, reserved_usd, is_control, ask, endpoint)
        self._to_send.append(_ToSend(line, upper_usd, event, turn))
        self._has_work.set()
        try:
            await turn
        except asyncio.CancelledError:
            self._unsent(event)
            raise
        if self._is_closed:
            self._unsent(event)
        return not self._is_closed

    def unsent(self, line: RequestLine, *, is_control: bool = False) -> None:
        """Log that an attempt, which the run log names as sent, was not."""
        self._unsent(Sent(line.line_number, 0, line.model, 0, control=is_control))

    def ended(
        self,
        line: RequestLine,
        failure: Failure,
        unbilled_usd: Decimal = NOTHING,
        endpoint: str | None = None,
        *,
        is_control: bool = False,
    ) -> None:
        """Log that an attempt failed; it may have cost `unbilled_usd`, which is on no bill."""
        event = Ended(line.line_number, failure.code, failure.status, unbilled_usd or NOTHING, is_control, endpoint)
        del self._unanswered[key_of(event)]
        self.log(event)

    def control(self, line: RequestLine, reply: Reply, endpoint: str | None = None) -> None:
        """Log that a control was answered, and put it on the bill: it has no record."""
        answered = AnsweredControl(
            line.model,
            self._facts.started,
            self._elapsed_s,
            reply.model,
            reply.usage,
            reply.service_tier,
            reply.gateway_cost_usd,
            endpoint,
        )
        event = Control(line.line_number, line.url, answered)
        del self._unanswered[key_of(event)]
        self.log(event)
        self._unbilled_controls.append(answered)
        self._load_prices(line.model)

    @property
    def mean_output_tokens(self) -> float:
        """The mean of the answers so far."""
        self._add_up_if_priced()
        return self._tally.output_tokens / max(1, self._tally.sent)

    def log(self, *events: Event) -> None:
        """Write events to the run log; if that fails, the run stops, but requests in flight are still recorded."""
        try:
            self._store.log.write(*events)
        except DiskError as error:
            self._stop(error)

    # -------------------------------------------------------------------------------- for the runner

    async def run(self) -> None:
        """Write what is ready, until cancelled."""
        while True:
            await self._has_work.wait()
            if self._write_some():
                await yield_to_loop()
            else:
                self._has_work.clear()

    async def keep_durable(self) -> None:
        """Log new records four times a second, and sync the result file once a second, until cancelled."""
        synced, synced_at = 0, self._start
        while True:
            await asyncio.sleep(LOG_EVERY_S)
            self.log_recorded()
            if self.recorded > synced and time.monotonic() - synced_at >= SYNC_EVERY_S:
                synced, synced_at = self.recorded, time.monotonic()
                try:
                    await asyncio.to_thread(self._store.sync)
                except DiskError as error:
                    self._stop(error)

    def finish(self) -> None:
        """Write what is left."""
        while self._write_some():
            pass
        self._add_up()

    def close(self) -> None:
        """Send no further attempt: the run is stopping."""
        self._is_closed = True

    def log_recorded(self) -> None:
        """Log the lines that were recorded since the last call."""
        if numbers := self.newly_recorded():
            self.log(Recorded(numbers, self._tally.cost_of_records_usd()))

    def newly_recorded(self) -> list[int]:
        """The lines whose records were written and billed since the last call."""
        self._add_up_if_priced()
        numbers, self._newly_recorded = self._newly_recorded, []
        return numbers

    @property
    def unanswered(self) -> dict[int, InFlight]:
        """The attempts, by `key_of`, whose outcome is unknown."""
        return {
            key: InFlight(line.model, len(line.body), line.max_output_tokens, upper_usd or None, endpoint)
            for key, (line, upper_usd, endpoint) in self._unanswered.items()
        }

    # ---------------------------------------------------------------------------------------- inside

    def _write_some(self) -> bool:
        """Write what is ready, about a megabyte at most; True if more is left."""
        if self._tried:
            self._write_tried()
        if self._done:
            self._record(done := self._next_done())
            self._release(sum([one.held_bytes for one in done]))
        if not self._done and self._to_send:
            to_send, self._to_send = self._to_send, []
            self._let_through(to_send)
        return bool(self._done)

    def _write_tried(self) -> None:
        """Write answers whose lines are asked again; then their attempts have ended."""
        tried, self._tried = self._tried, []
        records = [
            encode_result(head, one.outcome.status, one.outcome.request_id, one.outcome.body) for head, one in tried
        ]
        written = len(records)
        try:
            self._store.append_tries(records)
        except StopError as error:
            written = error.written
            self._stop(error)
        heads = [head for head, _ in tried[:written]]
        for head in heads:
            self._unanswered.pop(head.run.line, None)
        self.log(*map(_tried_event, heads))
        self._unbilled_tries += heads
        self._load_prices(tried[0][1].line.model)

    def _next_done(self) -> list[Done]:
        """The records for one write; no worker waits for the others."""
        size = count = 0
        while size < WRITE_BYTES and count < len(self._done):
            size += len(self._done[count].outcome.body or b"")
            count += 1
        done, self._done = self._done[:count], self._done[count:]
        return done

    def _record(self, done: list[Done]) -> None:
        """Write result lines; then, and only then, count them."""
        elapsed_s = self._elapsed_s
        heads = [self._head(one, elapsed_s) for one in done]
        records = [
            encode_result(head, one.outcome.status, one.outcome.request_id, one.outcome.body)
            for head, one in zip(heads, done, strict=True)
        ]
        written = len(records)
        try:
            self._store.append(records)
        except StopError as error:
            written = error.written
            self._stop(error)
        for head, one in zip(heads[:written], done, strict=False):
            self._count(head, one)
        self._unbilled += heads[:written]
        self._load_prices(done[0].line.model)

    def _load_prices(self, model: str) -> None:
        """Load the price list, once: records go on the bill after that."""
        if self._prices is None:
            self._prices = self._loop.run_in_executor(None, self._tally.book.price, model)

    @property
    def _elapsed_s(self) -> float:
        return round(time.monotonic() - self._start, 3)

    def _count(self, head: ResultHead, done: Done) -> None:
        """Count a line whose record has been written."""
        line, outcome = done.line, done.outcome
        self.recorded += 1
        if self._error_limit is not None:
            self._judge_errors(self._error_limit, head)
        self.at_output_limit += is_at_output_limit(line, outcome)
        self._unanswered.pop(line.line_number, None)
        if isinstance(outcome, Reply):
            return
        if billed_usd := self._spending.at(done.endpoint).recorded(line, outcome):
            self.log(Billed(line.line_number, -billed_usd, done.endpoint))

    def _add_up_if_priced(self) -> None:
        if self._prices is not None and self._prices.done():
            self._add_up()

    def _add_up(self) -> None:
        """Add the written records and the answered controls to the report and the bill."""
        tries, self._unbilled_tries = self._unbilled_tries, []
        self._tally.add_open(tries)
        heads, self._unbilled = self._unbilled, []
        self._tally.add(heads)
        self._newly_recorded += [head.run.line for head in heads]
        controls, self._unbilled_controls = self._unbilled_controls, []
        self._tally.add_controls(controls)

    def _judge_errors(self, limit: ErrorLimit, head: ResultHead) -> None:
        if limit.add(head.run):
            self._stop(StopError(limit.why_stopped()))

    def _let_through(self, to_send: list[_ToSend]) -> None:
        """Log attempts; only after that they may be sent."""
        waiting = [one for one in to_send if not one.turn.done()]  # a turn is done if its worker was cancelled
        if waiting and not self._is_closed:
            self.log(*[one.event for one in waiting])
        for one in waiting:
            if not self._is_closed:
                self._unanswered[key_of(one.event)] = one.line, one.upper_usd, one.event.endpoint
            one.turn.set_result(None)

    def _unsent(self, sent: Sent) -> None:
        """Take back an attempt that the run log may name as sent."""
        if self._unanswered.pop(key_of(sent), None) is not None:
            self.log(Ended(sent.line, FailureCode.UNSENT, control=sent.control))

    def _head(self, done: Done, elapsed_s: float) -> ResultHead:
        line, outcome, facts = done.line, done.outcome, self._facts
        error = None if outcome.error_code is None else ErrorInfo(outcome.error_code, outcome.message)
        timing = outcome.timing
        run = RunInfo(  # the first fields by position: twenty keywords take five times as long
            VERSION,
            line.line_number,
            facts.lines,
            line.body_hash,
            facts.started,
            elapsed_s,
            outcome.outcome,
            line.model,
            line.url,
            facts.gateway if done.endpoint is None else facts.hosts.get(done.endpoint, ""),
            done.attempts,
            done.throttles,
            not isinstance(outcome, Reply) and classify(outcome).kind is not Kind.FATAL,
            _tenths_of_ms(timing.total_s),
            None if timing.first_event_s is None else _tenths_of_ms(timing.first_event_s),
            None if timing.first_text_s is None else _tenths_of_ms(timing.first_text_s),
            model=outcome.model,
            usage=outcome.usage,
            endpoint=done.endpoint,
            schema_error=outcome.schema_error,
            service_tier=outcome.service_tier,
            gateway_cost_usd=outcome.gateway_cost_usd,
        )
        if done.tries or outcome.fenced:
            tries = (*done.tries, run.as_try()) if done.tries else ()
            run = msgspec.structs.replace(run, tries=tries, fenced=outcome.fenced)
        return ResultHead(line.custom_id, run, error)


def _tried_event(head: ResultHead) -> Tried:
    run = head.run
    return Tried(run.line, len(run.all_tries), None if run.usage is None else run.usage.total_tokens)


def _tenths_of_ms(seconds: float) -> float:
    """Seconds, rounded to four decimals in half the time that `round` takes."""
    return int(seconds * 10_000 + 0.5) / 10_000
