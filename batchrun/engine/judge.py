"""What is done with the outcome of an attempt: record the line, set it aside, hold its record back, or stop the run.

`transport.failures.classify` says what a failure is, `attribution.py` and `refusals.py` whose fault it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from batchrun.engine.asked import Asked
from batchrun.engine.attribution import Peers
from batchrun.engine.case import Case
from batchrun.engine.dispatcher import Dispatcher, Next
from batchrun.engine.done import Done
from batchrun.engine.gateways import PROBE_EVERY_S, Gateway
from batchrun.engine.outages import Outages
from batchrun.engine.pauses import Pauses
from batchrun.engine.reask import Reask
from batchrun.engine.refusals import Alike, Held
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.sender import Sender
from batchrun.engine.spent_quota import About, SpentQuotas
from batchrun.engine.stopping import why_all_refused, why_stopped
from batchrun.limits.fleet import Fleet
from batchrun.limits.limiter import Limiter
from batchrun.limits.permit import Permit
from batchrun.records.money import usd
from batchrun.records.outcome import Failure, Reply, describe
from batchrun.records.words import duration
from batchrun.results.events import Back, Outage
from batchrun.transport.failures import Kind, classify
from batchrun.transport.words import tells_of_no_model
from batchrun.validation.schema import Fit, MismatchCheck

OVERLOADED = (503, 529)
FOLLOWED_FROM = 3  # throttles of one line: from then on it waits as long as was asked for, whatever others got


class Doubt(NamedTuple):
    """Many lines were refused alike at an endpoint, and it is open whose fault that is."""

    gateway: Gateway
    failure: Failure


class Judge:
    """Acts on outcomes. `stop(why)` stops the run; `changed` is set after each failure.

    `limiter` is that of the whole job. `doubted` is a refusal that many lines have got alike, while it is open whose
    fault that is.
    """

    def __init__(
        self,
        sender: Sender,
        dispatcher: Dispatcher,
        limiter: Limiter | Fleet,
        gateways: Sequence[Gateway],
        outages: Outages,
        *,
        retry: RetryPolicy,
        schema_check: MismatchCheck | None,
        reask: Reask | None,
        stop: Callable[[str], None],
        changed: asyncio.Event,
    ) -> None:
        self.doubted: Doubt | None = None
        self._limiter, self._writer, self._observer = limiter, sender.writer, sender.observer
        self._dispatcher = dispatcher
        self._gateways = gateways
        self._outages = outages
        self._retry = retry
        self._schema_check = schema_check
        self._reask = reask if reask is not None and reask.most else None
        self._stop = stop
        self._changed = changed
        self._quotas = SpentQuotas(dispatcher, sender.observer, asyncio.get_running_loop().time)
        self._now = asyncio.get_running_loop().time
        self._pauses = Pauses(sender.observer, asyncio.get_running_loop().time)

    # ---------------------------------------------------------------------------------------- outcomes

    def answered(self, one: Next, permit: Permit, reply: Reply) -> None:
        """A whole answer came: record it or ask the line again, and let it speak for the gateway."""
        case, peers, sent, line = one.case, one.peers, permit.sent, one.case.line
        assert line is not None
        queue = case.queue
        gateway = peers.gateway
        if gateway.limiter.answered(permit, tokens_used(reply), reply.rate):
            self._dispatcher.room.end_waits(self._now(), FOLLOWED_FROM - 1)
            self._changed.set()
            where = "" if gateway.name is None else f" at {gateway.name}"
            self._observer.notice(f"going on{where}: requests are answered during the wait that was asked for")
        fit: Fit | None = None
        if reply.outcome == "succeeded":
            if self._reask is not None:
                fit = self._reask.judge(case, line, reply)
            elif self._schema_check is not None:
                reply.schema_error = self._schema_check.why(line, reply.body)
        if fit is None:
            queue.left -= 1
            self._record(case, reply, gateway)
        now = self._now()
        if reply.outcome == "empty":
            peers.refused(sent, now)
            self._changed.set()
            return
        was_open = peers.breaker.open_since is not None
        peers.succeeded(case, line, sent, now)
        gateway.refusals.has_succeeded = gateway.has_answered = True
        if fit is not None:
            self._ask_again(one, reply, fit)
        if gateway.refusals.held:
            self._record_held(gateway, gateway.refusals.released(sent.at, now))
        if gateway.refusals.barred_at < math.inf:
            self._quotas.answered(gateway, sent)
            self._changed.set()
        if gateway.shut_since is not None and sent.at > gateway.shut_since:
            self._reopen(gateway)
        if was_open or queue in self._dispatcher.room.parked:
            self.news(peers)

    def failed(self, one: Next, permit: Permit, failure: Failure) -> None:
        """An attempt failed: decide whose fault it is, as far as that is known now."""
        case, peers, decision = one.case, one.peers, classify(failure)
        gateway = peers.gateway
        refusals, limiter = gateway.refusals, gateway.limiter
        case.last = failure
        refusals.looked(failure)
        gateway.has_answered = gateway.has_answered or failure.may_be_billed
        is_probe = gateway.shut_since is not None and permit.sent.at > gateway.shut_since  # of one that is shut
        stays_shut = is_probe and (decision.stops_fresh_job or (gateway.refuses_all and decision.kind is Kind.FATAL))
        about = self._quotas.about(one, permit.sent, failure) if decision.kind is Kind.STOP else None
        if about is About.MODEL:
            limiter.failed(permit)
            peers.abandoned(permit.sent, self._now())
            self._dispatcher.set_aside(case, self._now())
        elif (
            stays_shut
            or (about is About.ACCOUNT and refusals.is_final(case.number, failure, self._now()))
            or (decision.stops_fresh_job and refusals.stops_fresh(failure, is_last=self._is_last))
        ):
            self._stopped(one, permit, why_stopped(failure, gateway.address, gateway.name))
        elif decision.kind is Kind.THROTTLE:
            self._throttled(one, permit, failure)
        elif decision.kind is Kind.FATAL and not refusals.is_outage_sign(failure):
            limiter.refused(permit, tokens_used(failure))
            self._refused(one, permit, failure)
        else:
            self._transient(one, permit, failure)
        if is_probe and not stays_shut:
            if decision.kind in (Kind.THROTTLE, Kind.FATAL):
                self._reopen(gateway)  # the key is good
            elif decision.kind is Kind.TRANSIENT:
                gateway.put_off(self._now())
        self._changed.set()

    def news(self, peers: Peers) -> None:
        """Something was found out about these peers: judge what is in doubt again."""
        if peers.is_overloaded and peers.breaker.is_outage:
            peers.is_overloaded = False
            peers.lane.limits.controller.forget_limits(self._now())
        self._dispatcher.news(peers)
        self._changed.set()

    # ------------------------------------------------------------------------------------- the records

    def at_fault(self, case: Case, gateway: Gateway) -> None:
        """The last failure of a line is its record; if it was asked again, its last answer is."""
        case.queue.left -= 1
        self._record(case, case.last, gateway)

    def vouched(self, gateway: Gateway) -> None:
        """The control was answered: the refusals that are held back are the lines' own."""
        gateway.refusals.vouch(self._now())
        self._record_held(gateway, gateway.refusals.take_all())

    def take_back(self, gateway: Gateway) -> None:
        """The control was not answered: the refused lines are sent again after the outage."""
        for one in gateway.refusals.take_all():
            one.case.queue.left += 1
            self._dispatcher.back(one.case)

    def record_rest(self) -> None:
        """No line is left to speak: record what is held back, or stop if it points to a wrong address."""
        for gateway in self._gateways:
            held = gateway.refusals.take_all()
            odd = next((one.failure for one in held if classify(one.failure).stops_fresh_job), None)
            if odd is None or not gateway.refusals.may_stop_fresh:
                self._record_held(gateway, held)
            elif gateway.name is None:
                self._stop(why_stopped(odd, gateway.address))
            else:
                self._shut(gateway, why_stopped(odd, gateway.address, gateway.name), held)

    # ------------------------------------------------------------------------------------------ inside

    def _stopped(self, one: Next, permit: Permit, why: str) -> None:
        """No line can get past this: the job stops, or the endpoint is shut where there are others."""
        gateway, now = one.peers.gateway, self._now()
        if gateway.name is None:
            self._limiter.close()  # before the slot is given back, so that no other line gets it
        else:
            self._shut(gateway, why)
        gateway.limiter.abandoned(permit)
        one.peers.abandoned(permit.sent, now)
        if gateway.name is None:
            self._stop(why)
        else:
            self._dispatcher.set_aside(one.case, now)

    def _shut(self, gateway: Gateway, why: str, held: Sequence[Held] = ()) -> None:
        """Shut one of several endpoints; the lines whose refusals were held back go to the others."""
        now = self._now()
        gateway.refuses_all = gateway.refuses_all or bool(held)
        if gateway.shut(why, now):
            self._observer.notice(
                f"{gateway.name} is shut: {why}; its lines go elsewhere, and one request in "
                f"{duration(PROBE_EVERY_S)} finds out whether it is back"
            )
            self._writer.log(Outage("shut", gateway.name))
        for one in held:
            one.case.queue.left += 1
            self._dispatcher.set_aside(one.case, now)
        self._changed.set()

    def used_up(self, gateway: Gateway) -> None:
        """The budget of one of several endpoints is used up: nothing more is sent there in this run."""
        budget = gateway.spending.own_budget
        assert budget is not None, "only a budget has no room for a line"
        spent = f"its max_cost_usd of {usd(budget.cap)} is used up (up to ${usd(budget.spent)} spent)"
        why = f"{spent}; raise it in the endpoints file to send more there"
        if gateway.shut(why, math.inf):
            gateway.used_up_usd = budget.cap
            self._observer.notice(f"{gateway.name} is shut: {why}")

    def _reopen(self, gateway: Gateway) -> None:
        gateway.open()
        self._observer.notice(f"{gateway.name} is back")
        self._writer.log(Back(gateway.name))
        for peers in self._dispatcher:
            if peers.gateway is gateway:
                self.news(peers)

    def _transient(self, one: Next, permit: Permit, failure: Failure) -> None:
        """Another attempt may not fail: the line waits for it while others pass."""
        case, peers, now = one.case, one.peers, self._now()
        is_probe = peers.gateway.name is not None and peers.breaker.is_outage
        if failure.status_for_rules in OVERLOADED and peers.succeeded_at > -math.inf and not is_probe:
            peers.gateway.limiter.throttled(permit, None, failure.rate)  # while it is no outage, it came with load
            peers.is_overloaded = True
        else:
            peers.gateway.limiter.failed(permit)
        was_outage = peers.breaker.is_outage
        peers.failed(case, failure, permit.sent, now)
        if not peers.gateway.has_answered and not peers.breaker.is_outage:
            peers.begin_outage(now, describe(failure))
        if peers.breaker.is_outage and not was_outage:
            self.news(peers)
        self._dispatcher.set_aside(case, now + self._retry.wait_s(case.attempts, failure.retry_after_s))

    def _throttled(self, one: Next, permit: Permit, failure: Failure) -> None:
        """The gateway said "too fast": the job slows down, and the line waits while others pass it."""
        case, peers, now = one.case, one.peers, self._now()
        is_the_lines_own = case.is_last_try or peers.is_known_to_be_throttled(case)
        case.throttles += 1
        peers.throttled(case, permit.sent, now)
        peers.throttle = failure
        gateway = peers.gateway
        if is_the_lines_own:
            gateway.limiter.refused(permit, 0.0)
        else:
            gateway.limiter.throttled(permit, failure.retry_after_s, failure.rate)
            self._pauses.tell(failure, peers)
        if case.is_last_try:
            self.at_fault(case, gateway)
        else:
            asked_s = failure.retry_after_s
            if gateway.name is not None or peers.lane.asks_for_longer(gateway.limiter.limits.longest_outage_s, now):
                asked_s = None  # elsewhere it need not wait, and so long a wait closes the lane
            elif case.throttles < FOLLOWED_FROM:
                asked_s = peers.lane.limits.followed_s(asked_s, now)
            self._dispatcher.set_aside(case, now + self._retry.throttle_wait_s(case.throttles, asked_s))

    def _refused(self, one: Next, permit: Permit, failure: Failure) -> None:
        """The line was refused: hold its record back until a success follows, or too many are refused alike."""
        now, case, peers, refusals = self._now(), one.case, one.peers, one.peers.gateway.refusals
        in_outage = peers.breaker.is_open and refusals.has_succeeded
        was_there = peers.missing is None
        if was_there and peers.succeeded_at == -math.inf and tells_of_model(failure) and case.queue.has_other(peers):
            self._has_no(peers, failure)
        peers.refused(permit.sent, now, failure)
        if was_there and peers.missing is not None:
            self.news(peers)
        if peers.missing is not None and case.queue.has_other(peers):
            self._dispatcher.set_aside(case, now)
            return
        if in_outage:  # a proxy may answer for a backend that is gone
            self._dispatcher.back(case)
            return
        case.queue.left -= 1
        alike = refusals.refused(case, failure, now)
        if alike is Alike.STOP:
            self._all_refused(one, failure, refusals.take_all())
        elif alike is Alike.CONTROL:
            self.doubted = Doubt(peers.gateway, failure)
        self._record_held(peers.gateway, refusals.released(-math.inf, now))

    def _has_no(self, peers: Peers, failure: Failure) -> None:
        """One of several endpoints does not have a model: its lines go to the others."""
        peers.missing = failure
        self._observer.notice(
            f"{peers.gateway.name} has no {peers.model} ({describe(failure)}); its lines go elsewhere"
        )

    def _all_refused(self, one: Next, failure: Failure, held: list[Held]) -> None:
        why = why_all_refused(failure, one.case.number)
        if one.peers.gateway.name is None:
            self._stop(why)
        else:
            self._shut(one.peers.gateway, why, held)

    def _record_held(self, gateway: Gateway, held: Iterable[Held]) -> None:
        for one in held:
            self._record(one.case, one.failure, gateway)

    def _ask_again(self, one: Next, reply: Reply, fit: Fit) -> None:
        """Keep an answer that misses its schema, and let the line go again, with all its attempts."""
        case, line, before = one.case, one.case.line, one.case.asked
        assert line is not None
        attempts, tries = (case.attempts, ()) if before is None else (before.attempts + case.attempts, before.tries)
        self._limiter.bytes.add(len(reply.body) - (0 if before is None else len(before.reply.body)))
        this = self._writer.tried(
            Done(line, reply, attempts, case.throttles, tries=tries, endpoint=one.peers.gateway.name)
        )
        case.asked = Asked(reply, fit, (*tries, this), attempts - 1, one.peers.gateway.name)
        case.attempts, case.failures, case.refusals, case.last, case.is_last_try = 0, None, None, None, False
        case.elsewhere = None
        self._dispatcher.set_aside(case, self._now())
        self._changed.set()

    def _record(self, case: Case, outcome: Reply | Failure | None, gateway: Gateway) -> None:
        """Hand a line and its outcome over to be written; none of them is kept in memory here."""
        if case.asked is not None:
            self._record_asked(case, case.asked, outcome, gateway)
            return
        line = case.line
        assert line is not None, "only a line in memory is recorded"
        assert outcome is not None, "only a line that has an outcome is recorded"
        answer_bytes = len(outcome.body or b"")
        self._limiter.bytes.add(answer_bytes)
        held_bytes = len(line.body) + answer_bytes
        self._writer.record(Done(line, outcome, case.attempts, case.throttles, held_bytes, (), gateway.name))
        case.line = case.last = None

    def _record_asked(self, case: Case, asked: Asked, outcome: Reply | Failure | None, gateway: Gateway) -> None:
        """The same for a line that was asked again: where no answer came to that, its last answer is its record."""
        line, held_bytes, tries, attempts = case.line, case.held_bytes, asked.tries, asked.attempts + case.attempts
        endpoint = gateway.name
        assert line is not None, "only a line in memory is recorded"
        if isinstance(outcome, Reply):
            self._limiter.bytes.add(len(outcome.body))
            held_bytes += len(outcome.body)
        else:
            outcome, tries, attempts = asked.closed(outcome), tries[:-1], attempts + 1
            endpoint = asked.endpoint
        self._writer.record(Done(line, outcome, attempts, case.throttles, held_bytes, tries, endpoint))
        case.line = case.last = case.asked = None

    @property
    def _is_last(self) -> bool:
        """Whether nothing else is in flight or waits."""
        return self._limiter.in_flight == 1 and self._dispatcher.is_read and not self._dispatcher.room


def tokens_used(outcome: Reply | Failure) -> float | None:
    """The tokens that settle a reservation: as reported; 0 for a failure; None (keep it) for an answer without one."""
    if outcome.usage is not None:
        return float(outcome.usage.total_tokens)
    return 0.0 if isinstance(outcome, Failure) else None


def tells_of_model(failure: Failure) -> bool:
    """Whether a refusal says that the key may not use this model, or that there is none."""
    return tells_of_no_model(failure) or (failure.status_for_rules == 403 and "model" in failure.message.lower())
