"""The way of a line: read → wait for a slot → send → judge → record → count.

To follow it, read `Runner._work` and `Runner._attempt`. `job/run.py` makes a `Runner` and uses its result.

1. A worker has one line at a time, for one attempt. What cannot be sent now waits in the dispatcher, without a worker;
   a few such lines are in memory, all others are kept as numbers. So memory does not grow.
2. A line is done when its record is in the store. Counters, bar and bill change after that, never before: `writer.py`.
3. When the run stops, no attempt gets a slot any more. Requests in flight are finished and recorded; all other lines
   stay undone.
4. Whose fault a failure is, is decided in `attribution.py` and `refusals.py`; `dispatcher.py` says what is sent next.
5. Lines that are ready together share a write of the result file, and one of the run log.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
from collections.abc import Sequence
from decimal import Decimal
from functools import partial

from batchrun.engine.case import Case
from batchrun.engine.dispatcher import Dispatcher, Next
from batchrun.engine.gateways import Destination, Gateway, Shares, fleet_of
from batchrun.engine.idle import why_idle
from batchrun.engine.judge import Judge
from batchrun.engine.observer import Observer
from batchrun.engine.outages import Outages
from batchrun.engine.queues import Queues
from batchrun.engine.refusals import Refusals
from batchrun.engine.sender import Sender
from batchrun.engine.standstill import Standstill
from batchrun.engine.stopping import Stopped, why_closed
from batchrun.engine.work import Rules, Work
from batchrun.engine.writer import Writer
from batchrun.errors import BatchrunError, PipeError, StopError
from batchrun.limits.fleet import Fleet
from batchrun.limits.limiter import Limiter
from batchrun.limits.promises import Promises
from batchrun.records.attempt import InFlight
from batchrun.records.money import NOTHING
from batchrun.records.outcome import Reply
from batchrun.records.words import counted
from batchrun.results.events import Event
from batchrun.transport.deadlines import sleep_awake
from batchrun.transport.protocol import Transport
from batchrun.transport.yielding import yield_to_loop

BESIDE_CONTROL_S = 0.25  # how often to look while a control is in flight
EARLY_S = 0.001  # a timer may fire that much too early, because the clocks of the loop and the system are rounded


class Runner:
    """Sends the lines of `work` by `rules`, over one transport or to several endpoints, until no line is left.

    `stopped` says why the run ended early; None if it did not. `passed_over` counts the lines that the budget had no
    room for, and `dearest_usd` is the most that one of them may cost, in US dollars.
    """

    def __init__(
        self, work: Work, rules: Rules, transport: Transport | Sequence[Destination], observer: Observer
    ) -> None:
        self.stopped: Stopped | None = None
        self.passed_over, self.dearest_usd = 0, NOTHING  # lines that the budget had no room for
        now = asyncio.get_running_loop().time
        self._rules = rules
        self._observer = observer
        self._stopping = asyncio.Event()
        self._changed = asyncio.Event()
        self.limiter, gateways = self._gateways(work, rules, transport)
        self._group: asyncio.TaskGroup | None = None
        self._workers: set[asyncio.Task[None]] = set()
        self._starting = 0  # workers that have no line yet
        self._control: asyncio.Task[None] | None = None
        self._writer = Writer(
            work.store, work.facts, work.tally, rules.spending, rules.error_limit, self._stop_for, self._release
        )
        self._sender = Sender(self._writer, observer)
        self._dispatcher = Dispatcher(
            work.source,
            Queues(rules.retry.chances, gateways, work.queues, has_earlier=work.has_succeeded, sticky=work.is_sticky),
            now,
            self._capacity,
            self.limiter.bytes,
            rules.reask,
        )
        self._outages = Outages(self._dispatcher, observer, self._writer.log)
        self._judge = Judge(
            self._sender,
            self._dispatcher,
            self.limiter,
            gateways,
            self._outages,
            retry=rules.retry,
            schema_check=rules.schema_check,
            reask=rules.reask,
            stop=self._stop_in_order,
            changed=self._changed,
        )
        see = self._sender, self._dispatcher, self._judge
        self._standstill = Standstill(*see, work.find_control, self._stop_in_order)
        if isinstance(self.limiter, Fleet):
            self.limiter.why_idle = partial(why_idle, self._dispatcher)

    def _gateways(
        self, work: Work, rules: Rules, transport: Transport | Sequence[Destination]
    ) -> tuple[Limiter | Fleet, list[Gateway]]:
        """The endpoint of the job, or all of them, with their limiters; and what limits the whole job."""
        has_several = work.kinds > 1
        now = asyncio.get_running_loop().time
        whole = rules.leased or Promises(rules.limits, now(), rules.spending.budget)
        if isinstance(transport, Sequence):
            return fleet_of(transport, whole, has_several, rules.stops_fresh_job, self._changed.set)
        limiter = Limiter(rules.limits, now, self._held_too_long, has_several_models=has_several, promises=whole)
        refusals = Refusals(has_succeeded=work.has_succeeded, stops_fresh=rules.stops_fresh_job)
        return limiter, [Gateway(None, transport, work.address, limiter, refusals, rules.spending, Shares(whole))]

    # -------------------------------------------------------------------------------------- the workers

    async def run(self) -> None:
        """Send every line. A bug in the program ends everything at once; every other error stops the run in order."""
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                if self._rules.leased is not None:
                    self._rules.leased.woken = self.woken
                coroutines = (self._writer.run(), self._writer.keep_durable(), self._drain())
                background = [group.create_task(coroutine) for coroutine in coroutines]
                while await self._goes_on():
                    pass
                if self.passed_over:
                    self.stop(self._why_over(), StopError.exit_code)
                for task in background:
                    task.cancel()
        finally:
            self._writer.finish()  # however the run ended: an answer that has arrived is paid for

    async def _goes_on(self) -> bool:
        """Fill the slots, do what lines that are stuck ask for, and wait for a change; False at the end of the run."""
        self._changed.clear()
        until = math.inf
        if self.stopped is None:
            until = self._look_after_stuck()
            self.fill_slots()
        if not self._workers and self._control is None and (self.stopped is not None or self._dispatcher.is_done):
            if self.stopped is None:
                self._judge.record_rest()
            return self.stopped is None and not self._dispatcher.is_done
        if not self._workers and self._control is None and (closed := self._dispatcher.all_closed()):
            self._judge.record_rest()
            self._writer.finish()  # what is said to be done is
            self._stop_in_order(why_closed(closed, self.recorded, asyncio.get_running_loop().time()))
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(until if until < math.inf else None):
                await self._changed.wait()
        return True

    def _look_after_stuck(self) -> float:
        """Do what is due for lines that cannot go; returns when to look again, by the loop's clock."""
        now, limits = asyncio.get_running_loop().time(), self.limiter.limits
        if (peers := self._standstill.unstick(may_control=self._control is None)) is not None:
            assert self._group is not None, "controls are sent while the run goes on"
            self._control = self._group.create_task(self._standstill.control(peers))
            self._control.add_done_callback(self._control_done)
        self.limiter.is_outage = self._dispatcher.is_stuck
        self._dispatcher.note_last_model()
        if not self.limiter.is_paused and (why := self._outages.look(now, limits)) is not None:
            self.stop(why, StopError.exit_code)
        give_up_at = math.inf if self.limiter.is_paused else self.limiter.give_up(now)
        until = min(self._outages.next_at(limits), self._dispatcher.next_at(now), give_up_at)
        return max(until, now + (EARLY_S if self._control is None else BESIDE_CONTROL_S))

    async def _work(self) -> None:
        """One worker: sends one line after the other, until there is none for the moment or there are more workers than
        slots. If the request file has changed, the job stops; other workers finish and record their lines."""
        self._starting -= 1
        try:
            while self.stopped is None and (following := await self._dispatcher.next()) is not None:
                if not self.limiter.has_lines:
                    self.limiter.has_lines = True
                self.fill_slots()
                if following.limits is None:
                    self._judge.at_fault(following.case, following.peers.gateway)
                    continue
                try:
                    await self._attempt(following)
                    if following.case.line is not None:
                        await yield_to_loop()  # it has no record: however many lines cannot go, others get a turn
                finally:  # at the last moment, so that no further worker is made for its place
                    self._dispatcher.ended(following)
            self.limiter.has_lines = False
        except BatchrunError as error:
            self._stop_for(error)

    async def _attempt(self, following: Next) -> None:
        """Send a line once; what becomes of it then is for the judge to say."""
        case, peers, line = following.case, following.peers, following.case.request
        gateway = peers.gateway
        upper_usd = gateway.spending.upper(line)
        permit = await self._sender.acquire(line, upper_usd, peers)
        if permit is None and self.stopped is None and self._goes_elsewhere(following, upper_usd):
            return
        if permit is None:
            case.queue.left -= 1
            self._release(case.held_bytes)
            if self.stopped is None:
                self._pass_over(upper_usd)
            return
        if not self._may_still_go(following, permit.sent.at):
            gateway.limiter.unsent(permit)
            return
        peers.sent(permit.sent)
        if gateway.name is not None:
            self.fill_slots()  # another line may wait for its pace
        case.attempts += 1
        try:
            outcome = await self._sender.send(line, peers, permit, case.attempts, case.ask)
        except BaseException:  # cancelled, for example: the slot must be given back in any case
            gateway.limiter.abandoned(permit)
            peers.abandoned(permit.sent, asyncio.get_running_loop().time())
            raise
        if isinstance(outcome, Reply):
            self._judge.answered(following, permit, outcome)
        elif outcome is not None:
            self._judge.failed(following, permit, outcome)
        else:
            now = asyncio.get_running_loop().time()
            gateway.limiter.unsent(permit)
            peers.abandoned(permit.sent, now)
            if self.stopped is None:
                case.attempts -= 1
                self._dispatcher.set_aside(case, now)

    def _goes_elsewhere(self, following: Next, upper_usd: Decimal) -> bool:
        """Whether a line got no permit because its lane or its endpoint is closed for now; then it waits."""
        case, gateway = following.case, following.peers.gateway
        if gateway.limiter.never_fits(upper_usd):
            return self._fits_elsewhere(case, gateway)
        if gateway.shut_since is None:  # its lane has to wait
            self._dispatcher.wait_for_room(case)
        else:
            self._dispatcher.set_aside(case, asyncio.get_running_loop().time())
        return True

    def _fits_elsewhere(self, case: Case, gateway: Gateway) -> bool:
        """Whether a line waits for another endpoint, because the budget of this one has no room for it."""
        budget = gateway.spending.own_budget
        if budget is None or not budget.never_fits(gateway.spending.upper(case.request)):
            return False
        if budget.is_used:
            self._judge.used_up(gateway)
        case.barred = (*case.barred, gateway)
        is_closed = case.queue.is_closed  # then the job ends, and says why
        if is_closed or any(peers.gateway not in case.barred for peers in case.queue.routes if not peers.is_closed):
            self._dispatcher.set_aside(case, asyncio.get_running_loop().time())
            return True
        return False

    def _may_still_go(self, following: Next, now: float) -> bool:
        """Whether a line with a permit may be sent; else it waits: its breaker has opened meanwhile, or its endpoint is
        shut."""
        case, peers = following.case, following.peers
        if peers.gateway.name is None:
            if peers.breaker.open_since is None or peers.breaker.may_pass(now):
                return True
            self._dispatcher.back(case)
            return False
        if peers.is_open or case in (peers.gateway.probe, peers.probed_by):
            return True
        self._dispatcher.set_aside(case, now)
        return False

    def _pass_over(self, upper_usd: Decimal) -> None:
        """Leave a line undone that may cost more than the budget has left; if the budget is used up, stop the run."""
        self.passed_over += 1
        self.dearest_usd = max(self.dearest_usd, upper_usd)
        if self.limiter.budget is not None and self.limiter.budget.is_used:
            self.stop(self._why_over(), StopError.exit_code)

    def _why_over(self) -> str:
        budget = self._rules.spending.budget
        if budget is not None and budget.is_short(self.dearest_usd):
            return self._rules.spending.why_over()
        return f"no endpoint has room for {counted(self.passed_over, 'line')} within its max_cost_usd"

    def woken(self, is_back: bool = False) -> None:
        """There are other limits, or a new lease, which may say that the gateway is back."""
        for peers in self._dispatcher if is_back else ():
            peers.breaker.hurry(asyncio.get_running_loop().time())
        self.limiter.pump()
        self.fill_slots()
        self._changed.set()

    # ----------------------------------------------------------------------------------------- stopping

    def stop(self, why: str, exit_code: int) -> None:
        """Send nothing more; requests in flight may finish within the grace time. Only the first reason is kept."""
        if self.stopped is not None:
            return
        self.stopped = Stopped(why, exit_code)
        self.limiter.close()
        self._writer.close()
        self._stopping.set()
        self._changed.set()
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

    def _stop_in_order(self, why: str) -> None:
        self.stop(why, StopError.exit_code)

    def _leave_at_once(self) -> None:
        for worker in (*self._workers, *((self._control,) if self._control is not None else ())):
            worker.cancel()

    async def _drain(self) -> None:
        """Wait until the run stops, then for the grace time, then cancel the requests in flight."""
        await self._stopping.wait()
        await sleep_awake(self._rules.grace_s)
        self._leave_at_once()

    def _held_too_long(self, why: str) -> None:
        self._stop_in_order(f"no answer from the gateway for {self.limiter.limits.longest_outage_s:g} s ({why})")

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
        """The attempts whose outcome is unknown."""
        return self._writer.unanswered

    def log(self, event: Event) -> None:
        """Write an event to the run log; if that fails, the run stops, but requests in flight are still recorded."""
        self._writer.log(event)

    def newly_recorded(self) -> list[int]:
        """The lines that were recorded since the last call."""
        return self._writer.newly_recorded()

    def fill_slots(self) -> None:
        """Start workers until each place has one, as far as there are lines for them."""
        if (free := self.limiter.worker_slots - len(self._workers)) <= 0 or self._dispatcher.is_full:
            return  # as it is while all slots are in use
        for _ in range(min(free, self._dispatcher.places() - self._starting)):
            self._starting += 1
            self._add_worker()

    def _add_worker(self) -> None:
        assert self._group is not None, "workers are added while the run goes on"
        worker = self._group.create_task(self._work())
        self._workers.add(worker)
        worker.add_done_callback(self._worker_done)

    def _worker_done(self, worker: asyncio.Task[None]) -> None:
        self._workers.discard(worker)
        self._changed.set()

    def _control_done(self, control: asyncio.Task[None]) -> None:
        self._control = None
        self._changed.set()

    def _release(self, size: int) -> None:
        """So many bytes of bodies and answers are written: more lines may be read."""
        was_full = self.limiter.bytes.is_full
        self.limiter.bytes.remove(size)
        if was_full:
            self._changed.set()

    def _capacity(self) -> int:
        """How many waiting lines may be in memory."""
        return 2 * self.limiter.slots + 16
