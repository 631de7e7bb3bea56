"""What is done for lines that are stuck: a probe, a control, a last try, or a record.

The *control* is the smallest request that has succeeded in this result file, sent again where no peer is left to speak.
It is reserved, logged and billed like any other, and is told apart on the bill.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from decimal import Decimal

from batchrun.engine.attribution import Peers
from batchrun.engine.dispatcher import Dispatcher
from batchrun.engine.gateways import Gateway
from batchrun.engine.judge import Judge, tokens_used
from batchrun.engine.routing import Queue, Step
from batchrun.engine.sender import Sender
from batchrun.limits.circuit_breaker import CONTROL
from batchrun.limits.permit import Permit
from batchrun.records.outcome import Failure, Reply, describe
from batchrun.records.request import RequestLine
from batchrun.transport.failures import Kind, classify

FEW_LINES = 2
FEW_THROTTLES = 8  # of one line; each of two has 5 by then


class Standstill:
    """Acts for lines that are stuck.

    `find(path, model)` reads the smallest request that succeeded in an earlier run, and returns None if there is none.
    `stop(why)` ends the run.
    """

    def __init__(
        self,
        sender: Sender,
        dispatcher: Dispatcher,
        judge: Judge,
        find: Callable[[str, str], RequestLine | None],
        stop: Callable[[str], None],
    ) -> None:
        self._sender = sender
        self._dispatcher = dispatcher
        self._judge = judge
        self._find = find
        self._stop = stop
        self._now = asyncio.get_running_loop().time

    def unstick(self, *, may_control: bool) -> Peers | None:
        """Do what can be done at once; returns the peers that a control should be sent for, or None."""
        now, wanted = self._now(), None
        if (doubted := self._judge.doubted) is not None:
            return self._in_doubt(doubted.gateway, describe(doubted.failure), now) if may_control else None
        for due in self._dispatcher.steps(now):
            peers = due.peers
            if due.step is Step.LAST_TRY:
                self._dispatcher.release(due)
            elif due.step is Step.EVIDENCE and peers.gateway.name is not None and not peers.is_open:
                peers.begin_outage(
                    now
                )  # nobody can speak for an endpoint that is away: what failed there does not count
                self._judge.news(peers)
            elif not peers.has_control or peers.gateway.shut_since is not None:
                if due.step is Step.PROBE:
                    self._dispatcher.release(due)
                else:
                    self._decide(due.queue, peers, now)
            elif may_control and peers.control_due() <= now:
                wanted = wanted or peers
            elif due.step is Step.PROBE:
                self._dispatcher.release(due)
        return wanted

    async def control(self, peers: Peers) -> None:
        """Send a control for these peers, and act on what comes back."""
        if peers.control is None:
            peers.may_find_control = False
            peers.control = await asyncio.to_thread(self._find, peers.path, peers.model)
        if (line := peers.control) is None:
            return
        peers.control_at = self._now()  # the last one; each is CONTROL_EVERY_S after it
        gateway = peers.gateway
        upper_usd = gateway.spending.upper(line)
        permit = await self._sender.acquire(line, upper_usd, peers)
        if permit is None:  # the run stops, its lane waits, or a budget has no room for it
            self._not_sent(peers, upper_usd)
            return
        if peers.breaker.is_open:
            peers.breaker.begin_probe(CONTROL, permit.sent.at)
        outcome = await self._send(line, peers, permit)
        limiter = gateway.limiter
        if outcome is None:
            limiter.unsent(permit)
        elif isinstance(outcome, Reply):
            limiter.answered(permit, tokens_used(outcome), outcome.rate)
            self._sender.writer.control(line, outcome, gateway.name)
            self._answered(peers, permit.sent.at)
        elif classify(outcome).kind is Kind.THROTTLE:
            limiter.throttled(permit, outcome.retry_after_s, outcome.rate)
            peers.breaker.refused(CONTROL, self._now())
        else:
            limiter.failed(permit)
            self._failed(peers, describe(outcome))

    # ------------------------------------------------------------------------------------------ inside

    def _not_sent(self, peers: Peers, upper_usd: Decimal) -> None:
        """A control got no permit. Where the job has no money for it, nobody can tell whose fault it is.

        In an outage the lines themselves are tried instead. Else those that wait stay undone, and the run ends once
        there is nothing else to do.
        """
        spending = peers.gateway.spending
        if not peers.gateway.limiter.never_fits(upper_usd):
            return
        is_whole = spending.budget is not None and spending.budget.never_fits(upper_usd)
        if is_whole and (self._judge.doubted is not None or not peers.breaker.is_open):
            if self._judge.doubted is not None or self._dispatcher.are_all_stuck:
                self._stop(spending.why_no_control(upper_usd))
            return
        if is_whole:
            self._sender.observer.notice(f"{spending.why_no_control(upper_usd)}; these lines are tried themselves")
        peers.may_find_control = False
        peers.control = None

    async def _send(self, line: RequestLine, peers: Peers, permit: Permit) -> Reply | Failure | None:
        try:
            return await self._sender.send(line, peers, permit, 1, is_control=True)
        except BaseException:
            peers.gateway.limiter.abandoned(permit)
            raise

    def _in_doubt(self, gateway: Gateway, why: str, now: float) -> Peers | None:
        """Many lines were refused alike: pause the endpoint; returns the peers whose control decides."""
        concerned = [peers for peers in self._dispatcher if peers.gateway is gateway]
        for peers in concerned:
            peers.breaker.open(now, why)
            peers.breaker.begin_probe(CONTROL, now)
        wanted = next((peers for peers in concerned if peers.has_control), None)
        if wanted is None:  # nobody can speak for the gateway
            self._answered(concerned[0], now)
        return wanted

    def _answered(self, peers: Peers, sent_at: float) -> None:
        """The lines are at fault."""
        for others in self._concerned(peers):
            others.vouch(sent_at, self._now())
            self._judge.news(others)
        self._judge.vouched(peers.gateway)

    def _failed(self, peers: Peers, why: str) -> None:
        """The gateway is at fault: nothing that has failed counts."""
        for others in self._concerned(peers):
            others.begin_outage(self._now(), why, CONTROL)
            self._judge.news(others)
        self._judge.take_back(peers.gateway)

    def _concerned(self, peers: Peers) -> list[Peers]:
        """All peers at that endpoint, if the control decides about refusals; else its own."""
        doubted, self._judge.doubted = self._judge.doubted, None
        if doubted is None:
            return [peers]
        return [others for others in self._dispatcher if others.gateway is doubted.gateway]

    def _decide(self, queue: Queue, peers: Peers, now: float) -> None:
        """No peer has ever succeeded: one or two lines of a fresh job are recorded, more of them are an outage.

        More lines that are throttled go on: where nothing has ever got through, that tells of the limit, not of them.
        One or two go on until they have been throttled `FEW_THROTTLES` times together.
        """
        stuck = self._dispatcher.stuck(queue)
        is_fresh = all(one.gateway.refusals.is_fresh for one in queue.routes)
        are_few = is_fresh and len(stuck) <= FEW_LINES and self._dispatcher.is_last(queue)
        goes_on = not are_few or sum(case.throttles for case in stuck) < FEW_THROTTLES
        failed = []
        for case in stuck:
            at = case.peers or peers
            if goes_on and at.forget_throttles(case, last_alone=are_few):
                self._dispatcher.set_aside(case, now)
            elif are_few:
                self._judge.at_fault(case, at.gateway)
            else:
                failed.append(case)
                self._dispatcher.back(case)
        if not failed:
            return
        why = next((describe(case.last) for case in failed if case.last is not None), "no answer")
        for at in {at for case in failed for at in (case.doubted_at if case.peers is not None else [peers])}:
            at.begin_outage(now, why)
            self._judge.news(at)  # a line may go to an endpoint where it has not failed yet
