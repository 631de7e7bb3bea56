"""A shard's side of its lease: what it tells at each beat, and what a lease changes in its run.

    run = Run(prepared, observer, Leased.of(prepared, loop.time()))
    tenant = Tenant(shard, incarnation, run, loop.time)
    sending = create_task(run.send())
    while not sending.done():
        report, sent_at = tenant.report(), loop.time()
        lease = await …beat(report)                # one at a time; one that is given up is not taken any more
        tenant.take(lease, sent_at)

The time at which a lease runs out is counted from before its beat was sent.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from batchrun.cluster.lease import Ended, Everything, Lease, Report
from batchrun.job.leased import Leased
from batchrun.limits.leased import Part
from batchrun.limits.limited_by import LimitedBy
from batchrun.records.money import NOTHING


class LeasedRun(Protocol):
    """The run of a shard, such as `job.run.Run`."""

    leased: Leased | None

    @property
    def left(self) -> int:
        """How many lines are not done, those in flight included."""

    @property
    def is_outage(self) -> bool:
        """Whether nothing but probes can be sent."""


class Tenant:
    """Reports for the `run` of a shard, and lets it have its lease. `clock` is that of the run's event loop."""

    def __init__(self, shard: int, incarnation: str, run: LeasedRun, clock: Callable[[], float]) -> None:
        assert run.leased is not None, "the limits of a shard are those of its lease"
        self._shard, self._incarnation = shard, incarnation
        self._run, self._promises, self._errors = run, run.leased.promises, run.leased.errors
        self._clock = clock
        self._lease: Lease | None = None
        self._epoch = self._beat = self._reported_errors = 0
        self._tells_all = True

    def report(self, *, stop: str = "", is_done: bool = False) -> Report:
        """What to tell now. `stop`: why the run stopped, where the whole job has to; `is_done`: no line is left."""
        now, promises, errors, budget = self._clock(), self._promises, self._errors, self._promises.leased_budget
        lease = self._lease if self._lease is not None and now < promises.part.expires_at else None
        self._beat += 1
        promises.report = self._beat + 1
        everything = None
        if self._tells_all:
            everything = Everything(lease, max(0.0, promises.part.expires_at - now), promises.recent(now))
        self._reported_errors = errors.errors if errors is not None else 0
        first, sends, endings = promises.follower.take_events()
        corrections, promises.corrections = promises.corrections, {}
        report = Report(
            shard=self._shard,
            incarnation=self._incarnation,
            beat=self._beat,
            epoch=self._epoch if lease is None else lease.epoch,
            version=0 if lease is None else lease.version,
            in_flight=promises.in_flight,
            peak=promises.peak,
            left=self._run.left,
            sent=promises.sent,
            tokens=promises.tokens,
            corrections=tuple(corrections.items()),
            needs_tokens=promises.needs_tokens,
            spent_usd=NOTHING if budget is None else budget.spent,
            reserved_usd=NOTHING if budget is None else budget.reserved,
            needs_usd=promises.needs_usd,
            usd_margin=1 if budget is None else budget.margin,
            is_usd_sure=budget is not None and budget.is_sure,
            lines=0 if errors is None else errors.lines,
            errors=self._reported_errors,
            answered=promises.follower.answered,
            first_send=first,
            sends=tuple((now - at, version) for at, version in sends),
            ended=tuple(Ended(one.number, now - one.ended_at, one.outcome, one.asked_s) for one in endings),
            is_outage=self._run.is_outage,
            stop=stop,
            is_done=is_done,
            everything=everything,
        )
        promises.peak, promises.needs_usd = promises.in_flight, NOTHING
        return report

    def take(self, lease: Lease, sent_at: float) -> None:
        """A lease has come, in answer to the beat that was sent at `sent_at` by the clock: it rules from now on."""
        self._epoch, self._tells_all = lease.epoch, lease.wants_all
        if not lease.version:
            return
        was_outage = self._lease is not None and self._lease.is_outage
        self._lease = lease
        now = self._clock()
        if self._errors is not None:
            self._errors.allowed = self._reported_errors + lease.errors_left
        part = Part(
            version=lease.version,
            expires_at=sent_at + lease.lifetime_s,
            slots=lease.slots,
            requests=lease.requests,
            per_s=lease.per_s,
            tokens=lease.tokens,
            usd=lease.usd,
            usd_left=lease.usd_left,
            usd_margin=lease.usd_margin,
            paused_until=now + lease.pause_s,
            paused_by=_paused_by(lease),
            keeps_events=lease.wants_events,
            is_back=was_outage and not lease.is_outage,
        )
        self._promises.take_part(part, now)


def _paused_by(lease: Lease) -> LimitedBy:
    """Why a lease has no slots, where it has none."""
    if lease.is_paused:
        return LimitedBy.PAUSED
    return LimitedBy.OUTAGE if lease.is_outage else LimitedBy.SHARDS
