"""What is done with the outcome of an attempt: record the line, set it aside, hold its record back, or stop the run.

`transport.failures.classify` says what a failure is, `attribution.py` and `refusals.py` whose fault it is.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable

from batchrun.engine.asked import Asked
from batchrun.engine.attribution import Case, Peers
from batchrun.engine.dispatcher import Dispatcher, Next
from batchrun.engine.outages import Outages
from batchrun.engine.reask import Reask
from batchrun.engine.refusals import Alike, Held, Refusals
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.sender import Sender
from batchrun.engine.stopping import why_all_refused, why_stopped
from batchrun.engine.writer import Done
from batchrun.limits.lanes import Lane
from batchrun.limits.limiter import Permit
from batchrun.records.outcome import Failure, Reply, describe
from batchrun.transport.failures import Kind, classify
from batchrun.validation.schema import Fit, MismatchCheck

LONG_PAUSE_S = 3.0
TELL_PAUSE_EVERY_S = 60.0
OVERLOADED = (503, 529)
FOLLOWED_FROM = 3  # throttles of one line: from then on it waits as long as was asked for, whatever others got


class Judge:
    """Acts on outcomes. `stop(why)` stops the run; `changed` is set after each failure.

    `doubted` is a refusal that many lines have got alike, while it is open whose fault that is.
    """

    def __init__(
        self,
        sender: Sender,
        dispatcher: Dispatcher,
        refusals: Refusals,
        outages: Outages,
        *,
        retry: RetryPolicy,
        schema_check: MismatchCheck | None,
        reask: Reask | None,
        address: str,
        stop: Callable[[str], None],
        changed: asyncio.Event,
    ) -> None:
        self.doubted: Failure | None = None
        self._limiter, self._writer, self._observer = sender.limiter, sender.writer, sender.observer
        self._dispatcher = dispatcher
        self._refusals = refusals
        self._outages = outages
        self._retry = retry
        self._schema_check = schema_check
        self._reask = reask if reask is not None and reask.most else None
        self._address = address
        self._stop = stop
        self._changed = changed
        self._now = asyncio.get_running_loop().time
        self._pause_told_at, self._longest_pause_told_s = -math.inf, 0.0

    # ---------------------------------------------------------------------------------------- outcomes

    def answered(self, one: Next, permit: Permit, reply: Reply) -> None:
        """A whole answer came: record it or ask the line again, and let it speak for the gateway."""
        case, peers, sent, line = one.case, one.peers, permit.sent, one.case.line
        assert line is not None
        if self._limiter.answered(permit, tokens_used(reply), reply.rate):
            self._dispatcher.room.end_waits(self._now(), FOLLOWED_FROM - 1)
            self._changed.set()
            self._observer.notice("going on: requests are answered during the wait that was asked for")
        fit: Fit | None = None
        if reply.outcome == "succeeded":
            if self._reask is not None:
                fit = self._reask.judge(case, line, reply)
            elif self._schema_check is not None:
                reply.schema_error = self._schema_check.why(line, reply.body)
        if fit is None:
            peers.left -= 1
            self._record(case, reply)
        now = self._now()
        if reply.outcome == "empty":
            peers.refused(sent, now)
            self._changed.set()
            return
        was_open = peers.breaker.open_since is not None
        peers.succeeded(case, line, sent, now)
        self._refusals.has_succeeded = self._outages.has_answered = True
        if fit is not None:
            self._ask_again(one, reply, fit)
        if self._refusals.held:
            self._record_held(self._refusals.released(sent.at, now))
        if was_open or peers in self._dispatcher.room.parked:
            self.news(peers)

    def failed(self, one: Next, permit: Permit, failure: Failure) -> None:
        """An attempt failed: decide whose fault it is, as far as that is known now."""
        case, peers, decision = one.case, one.peers, classify(failure)
        case.last = failure
        self._refusals.looked(failure)
        self._outages.has_answered = self._outages.has_answered or failure.may_be_billed
        if (decision.kind is Kind.STOP and self._refusals.is_final(case.number, failure)) or (
            decision.stops_fresh_job and self._refusals.stops_fresh(failure, is_last=self._is_last)
        ):
            self._limiter.close()  # before the slot is given back, so that no other line gets it
            self._limiter.abandoned(permit)
            peers.abandoned(permit.sent, self._now())
            self._stop(why_stopped(failure, self._address))
        elif decision.kind is Kind.THROTTLE:
            self._throttled(one, permit, failure)
        elif decision.kind is Kind.FATAL and not self._refusals.is_outage_sign(failure):
            self._limiter.refused(permit, tokens_used(failure))
            self._refused(one, permit, failure)
        else:
            self._transient(one, permit, failure)
        self._changed.set()

    def news(self, peers: Peers) -> None:
        """Something was found out about these peers: judge what is in doubt again."""
        if peers.is_overloaded and peers.breaker.is_outage:
            peers.is_overloaded = False
            peers.lane.limits.controller.forget_limits(self._now())
        self._dispatcher.news(peers)
        self._changed.set()

    # ------------------------------------------------------------------------------------- the records

    def at_fault(self, case: Case, peers: Peers) -> None:
        """The last failure of a line is its record; if it was asked again, its last answer is."""
        peers.left -= 1
        self._record(case, case.last)

    def vouched(self) -> None:
        """The control was answered: the refusals that are held back are the lines' own."""
        self._refusals.vouch(self._now())
        self._record_held(self._refusals.take_all())

    def take_back(self) -> None:
        """The control was not answered: the refused lines are sent again after the outage."""
        for one in self._refusals.take_all():
            if one.case.line is not None:
                peers = self._dispatcher.peers_of(one.case.line)
                peers.left += 1
                self._dispatcher.back(one.case, peers)

    def record_rest(self) -> None:
        """No line is left to speak: record what is held back, or stop if it points to a wrong address."""
        held = self._refusals.take_all()
        odd = next((one.failure for one in held if classify(one.failure).stops_fresh_job), None)
        if odd is not None and self._refusals.may_stop_fresh:
            self._stop(why_stopped(odd, self._address))
        else:
            self._record_held(held)

    # ------------------------------------------------------------------------------------------ inside

    def _transient(self, one: Next, permit: Permit, failure: Failure) -> None:
        """Another attempt may not fail: the line waits for it while others pass."""
        case, peers, now = one.case, one.peers, self._now()
        if failure.status_for_rules in OVERLOADED and peers.succeeded_at > -math.inf:
            self._limiter.throttled(permit, None, failure.rate)  # as long as it is no outage, it came with load
            peers.is_overloaded = True
        else:
            self._limiter.failed(permit)
        was_outage = peers.breaker.is_outage
        peers.failed(case, failure, permit.sent, now)
        if not self._outages.has_answered and not peers.breaker.is_outage:
            peers.begin_outage(now, describe(failure))
        if peers.breaker.is_outage and not was_outage:
            self.news(peers)
        self._dispatcher.set_aside(case, peers, now + self._retry.wait_s(case.attempts, failure.retry_after_s))

    def _throttled(self, one: Next, permit: Permit, failure: Failure) -> None:
        """The gateway said "too fast": the job slows down, and the line waits while others pass it."""
        case, peers, now = one.case, one.peers, self._now()
        is_the_lines_own = case.is_last_try or peers.is_known_to_be_throttled(case)
        case.throttles += 1
        peers.throttled(case, permit.sent, now)
        peers.throttle = failure
        if is_the_lines_own:
            self._limiter.refused(permit, 0.0)
        else:
            self._limiter.throttled(permit, failure.retry_after_s, failure.rate)
            self._tell_pause(failure, peers.lane)
        if case.is_last_try:
            self.at_fault(case, peers)
        else:
            asked_s = failure.retry_after_s
            if case.throttles < FOLLOWED_FROM:
                asked_s = peers.lane.limits.followed_s(asked_s, now)
            wait_s = self._retry.throttle_wait_s(case.throttles, asked_s)
            self._dispatcher.set_aside(case, peers, now + wait_s)

    def _refused(self, one: Next, permit: Permit, failure: Failure) -> None:
        """The line was refused: hold its record back until a success follows, or too many are refused alike."""
        now = self._now()
        in_outage = one.peers.breaker.is_open and self._refusals.has_succeeded
        one.peers.refused(permit.sent, now, failure)
        if in_outage:  # a proxy may answer for a backend that is gone
            self._dispatcher.back(one.case, one.peers)
            return
        one.peers.left -= 1
        alike = self._refusals.refused(one.case, failure, now)
        if alike is Alike.STOP:
            self._refusals.take_all()
            self._stop(why_all_refused(failure, one.case.number))
        elif alike is Alike.CONTROL:
            self.doubted = failure
        self._record_held(self._refusals.released(-math.inf, now))

    def _record_held(self, held: Iterable[Held]) -> None:
        for one in held:
            self._record(one.case, one.failure)

    def _ask_again(self, one: Next, reply: Reply, fit: Fit) -> None:
        """Keep an answer that misses its schema, and let the line go again, with all its attempts."""
        case, line, before = one.case, one.case.line, one.case.asked
        assert line is not None
        attempts, tries = (case.attempts, ()) if before is None else (before.attempts + case.attempts, before.tries)
        self._limiter.bytes.add(len(reply.body) - (0 if before is None else len(before.reply.body)))
        this = self._writer.tried(Done(line, reply, attempts, case.throttles, tries=tries))
        case.asked = Asked(reply, fit, (*tries, this), attempts - 1)
        case.attempts, case.failures, case.refusals, case.last, case.is_last_try = 0, None, None, None, False
        self._dispatcher.set_aside(case, one.peers, self._now())
        self._changed.set()

    def _record(self, case: Case, outcome: Reply | Failure | None) -> None:
        """Hand a line and its outcome over to be written; none of them is kept in memory here."""
        if case.asked is not None:
            self._record_asked(case, case.asked, outcome)
            return
        line = case.line
        assert line is not None, "only a line in memory is recorded"
        assert outcome is not None, "only a line that has an outcome is recorded"
        answer_bytes = len(outcome.body or b"")
        self._limiter.bytes.add(answer_bytes)
        self._writer.record(Done(line, outcome, case.attempts, case.throttles, len(line.body) + answer_bytes))
        case.line = case.last = None

    def _record_asked(self, case: Case, asked: Asked, outcome: Reply | Failure | None) -> None:
        """The same for a line that was asked again: where no answer came to that, its last answer is its record."""
        line, held_bytes, tries, attempts = case.line, case.held_bytes, asked.tries, asked.attempts + case.attempts
        assert line is not None, "only a line in memory is recorded"
        if isinstance(outcome, Reply):
            self._limiter.bytes.add(len(outcome.body))
            held_bytes += len(outcome.body)
        else:
            outcome, tries, attempts = asked.closed(outcome), tries[:-1], attempts + 1
        self._writer.record(Done(line, outcome, attempts, case.throttles, held_bytes, tries))
        case.line = case.last = case.asked = None

    @property
    def _is_last(self) -> bool:
        """Whether nothing else is in flight or waits."""
        return self._limiter.in_flight == 1 and self._dispatcher.is_read and not self._dispatcher.room

    def _tell_pause(self, failure: Failure, lane: Lane) -> None:
        """Show a notice if nothing is sent for a while, for one model or at all; again if it lasts."""
        until, now = max(lane.limits.controller.paused_until, lane.held_until), self._now()
        is_longer = until - now > 1.5 * self._longest_pause_told_s
        if (
            not lane.is_closed
            and until - now >= LONG_PAUSE_S
            and (is_longer or now > self._pause_told_at + TELL_PAUSE_EVERY_S)
        ):
            self._pause_told_at, self._longest_pause_told_s = now, until - now
            is_of_all = len(self._limiter.lanes.limits) == 1 and until > lane.held_until
            whom = "" if is_of_all else f" {lane.model}"
            self._observer.notice(f"pausing{whom} for {until - now:.0f} s: {describe(failure)}")


def tokens_used(outcome: Reply | Failure) -> float | None:
    """The tokens that settle a reservation: as reported; 0 for a failure; None (keep it) for an answer without one."""
    if outcome.usage is not None:
        return float(outcome.usage.total_tokens)
    return 0.0 if isinstance(outcome, Failure) else None
