"""Shares the limits and the budget of a job over its shards: `Coordinator.beat` takes a report and gives a lease.

1. Pure: every method takes `now`, seconds of one monotonic clock. Nothing waits here, nothing is random.
2. Nobody is granted what another has not given back: what a shard may still hold is charged to it until it reports that
   it holds less, or until its lease has run out. After that, requests count as sent, and money as spent, at worst.
3. A coordinator that comes back knows nothing. It grants nothing before all shards that may hold a lease have told
   everything, or the longest lease has run out; then what the others may have sent counts as sent at worst. Nobody is
   granted more money before all of them have told, or their files were read (`heard`).
4. What a beat costs does not depend on the number of shards: fair shares are worked out a few times a second.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from decimal import Decimal

from batchrun.cluster.lease import LIFETIME_S, Lease, Report
from batchrun.cluster.minute import MINUTE_S, Account, Flow
from batchrun.cluster.mistakes import Mistakes
from batchrun.cluster.places import Places, Seat
from batchrun.cluster.purse import Cap, Purse
from batchrun.engine.error_limit import MaxErrors
from batchrun.limits.options import Limits
from batchrun.records.money import NOTHING

BEAT_S, BEATS_PER_S = 0.2, 256.0  # a beat costs its carrier some 0.4 ms of processor time


def beat_s(shards: int) -> float:
    """Seconds from one beat of a shard to the next, with so many shards alive."""
    return max(BEAT_S, shards / BEATS_PER_S)


def lifetime_s(shards: int) -> float:
    """For how many seconds a lease is good, with so many shards alive."""
    return max(LIFETIME_S, 4 * beat_s(shards))


@dataclass(frozen=True, slots=True)
class Promised:
    """What a job promises, over all its shards.

    `limits`: requests in flight, requests and tokens a minute. `max_cost_usd`: the cap of all runs together, in US
    dollars. `max_errors`: how many lines of this run may go wrong. None is no limit.
    """

    limits: Limits
    max_cost_usd: Decimal | None = None
    max_errors: MaxErrors | None = None


class Share:
    """What one incarnation of a shard has. `version` is that of the last lease that it was granted."""

    __slots__ = (
        *("beat", "cap", "counted_at", "errors", "expires_at", "has_told", "incarnation", "lines", "period_s"),
        *("reported_at", "requests", "seat", "tokens", "version"),
    )

    def __init__(self, report: Report, now: float) -> None:
        self.incarnation = report.incarnation
        self.beat = self.version = self.lines = self.errors = 0
        self.expires_at = self.reported_at = now
        self.period_s = 0.2
        self.has_told = False
        self.seat = Seat()
        self.requests: Account | None = None
        self.tokens: Account | None = None
        self.cap: Cap | None = None
        self.counted_at: dict[int, float] = {}  # when what a report said was sent was counted, by its beat


class Coordinator:
    """Shares what is `promised` over shards.

    `epoch`: greater than that of every coordinator of this job before. `known`: the shards that may hold a lease, or
    whose spending is not known: those that have been started, by an earlier coordinator or an earlier run. `quiet_s`:
    for how many seconds none of their run logs was written to.
    """

    SHARE_S, SHARE_EACH_S = 0.1, 0.004  # how often fair shares are worked out, and that for each shard

    def __init__(
        self, promised: Promised, now: float, *, epoch: int = 1, known: Collection[int] = (), quiet_s: float = 0.0
    ) -> None:
        self.epoch = epoch
        self.stop = ""
        limits = promised.limits
        self._promised = promised
        self._places = Places(limits.bounds.most)
        self._requests = _flow(limits.requests_per_minute, now, is_whole=True)
        self._tokens = _flow(limits.tokens_per_minute, now, is_whole=False)
        self._purse = Purse(promised.max_cost_usd) if promised.max_cost_usd is not None else None
        self._mistakes = Mistakes(promised.max_errors) if promised.max_errors is not None else None
        self._is_paused = False
        self._shares: dict[int, Share] = {}
        self._live: dict[int, Share] = {}
        self._ghosts: list[tuple[float, Seat]] = []  # of incarnations that were followed by another one
        self._files: dict[int, Cap] = {}  # of shards that are not running, by their files
        self._unheard = set(known)
        self._opens_at = now + lifetime_s(len(known)) if known else now
        self._quiet_s = quiet_s
        self._is_open = not known
        self._has_followers = False  # shards whose incarnation before was killed lately
        self._share_at = now

    @property
    def beat_s(self) -> float:
        """Seconds from one beat of a shard to the next."""
        return beat_s(len(self._live))

    @property
    def lifetime_s(self) -> float:
        """For how many seconds a lease is good."""
        return lifetime_s(len(self._live))

    @property
    def unheard(self) -> frozenset[int]:
        """The shards whose spending is not known: read their files, and say so by `heard`."""
        return frozenset(self._unheard)

    def heard(self, shard: int, spent_usd: Decimal, now: float) -> None:
        """A shard is not running; by its result file and run log, it has spent so much at worst, in US dollars."""
        if shard in self._shares:
            return
        self._unheard.discard(shard)
        if self._purse is not None:
            if shard in self._files:
                self._purse.leave(self._files[shard])
            self._files[shard] = self._purse.enter(Cap(spent_usd, NOTHING, NOTHING))
        self._open_when_told(now)

    def change(self, promised: Promised, *, is_paused: bool = False) -> None:
        """Set other limits, as `batchrun tune` asks for. A limit that was not there from the start cannot be added."""
        limits = promised.limits
        self._places.total = limits.bounds.most
        for flow, per_minute in (
            (self._requests, limits.requests_per_minute),
            (self._tokens, limits.tokens_per_minute),
        ):
            if flow is not None:
                flow.change(per_minute, math.inf if per_minute is None else per_minute / MINUTE_S)
        if self._purse is not None and promised.max_cost_usd is not None:
            self._purse.cap = promised.max_cost_usd
        self._is_paused = is_paused

    # ------------------------------------------------------------------------------------------- a beat

    def beat(self, report: Report, now: float) -> Lease:
        """A shard reports; returns what it may do from now on."""
        share = self._shares.get(report.shard)
        if share is None or share.incarnation != report.incarnation:
            share = self._enter(report, share, now)
        elif report.beat <= share.beat:
            return Lease(self.epoch)  # it was overtaken
        if not share.has_told:
            if report.everything is None:
                return Lease(self.epoch, wants_all=True)
            self._take_over(share, report, now)
        self._hear(share, report, now)
        if report.is_done:
            self._leave(report.shard, share, now)
            return Lease(self.epoch, stop=self.stop)
        if report.shard not in self._live:
            share.expires_at = max(share.expires_at, now)
            self._live[report.shard] = share
            self._share_at = now
        if now >= self._share_at:
            self._work_out(now)
        if not self._is_open:
            self._open_when_told(now)
            if not self._is_open:
                return Lease(self.epoch, stop=self.stop)
        return self._grant(share, report, now)

    def _enter(self, report: Report, before: Share | None, now: float) -> Share:
        """A shard begins, or another incarnation of it."""
        share = Share(report, now)
        if before is not None:
            share.has_told = True  # what it sent before was counted as it was told, or written off
            share.requests, share.tokens, share.cap = before.requests, before.tokens, before.cap
            self._bury(report.shard, before, now)
            if self._purse is not None and share.cap is not None:
                self._purse.follow(share.cap)
        self._shares[report.shard] = share
        return share

    def _free_later(self, seat: Seat, expires_at: float, now: float) -> None:
        """Free the places of a dead shard: once what it sent at the end of its lease is answered, within as long."""
        if seat.charged and (until := expires_at + self.lifetime_s) > now:
            self._ghosts.append((until, seat))
        else:
            self._places.leave(seat)

    def _bury(self, shard: int, share: Share, now: float) -> None:
        """Another incarnation has the lock, so this one is dead; its places are free once its lease has run out."""
        self._live.pop(shard, None)
        self._free_later(share.seat, share.expires_at, now)
        for flow, account in ((self._requests, share.requests), (self._tokens, share.tokens)):
            if flow is not None and account is not None:
                flow.write_off(account, now, now)
                account.used = account.granted = account.written_off = 0.0  # the new one counts from nothing

    def _take_over(self, share: Share, report: Report, now: float) -> None:
        """A shard tells what this coordinator cannot know: what it holds of an earlier one, and what it has sent."""
        told = report.everything
        assert told is not None
        share.has_told = True
        held, was_feared = told.lease, report.shard in self._unheard
        self._has_followers = self._has_followers or (was_feared and not report.epoch)
        if held is not None:
            share.expires_at = now + told.expires_s
        feared = was_feared and self._is_open
        stagger = (report.shard * 0.618) % 1.0  # so that equal shards do not get their first requests together
        if self._requests is not None:
            granted = held.requests if held is not None else 0.0
            share.requests = self._requests.enter(report.sent, granted, stagger, now)
            self._requests.count(((age_s, count) for age_s, count, _ in told.recent), now, was_feared=feared)
        if self._tokens is not None:
            granted = held.tokens if held is not None else 0.0
            share.tokens = self._tokens.enter(report.tokens, granted, stagger * report.needs_tokens, now)
            self._tokens.count(((age_s, tokens) for age_s, _, tokens in told.recent), now, was_feared=feared)
        if held is not None:
            share.seat.most = held.slots
        if self._purse is not None:
            if (files := self._files.pop(report.shard, None)) is not None:
                self._purse.leave(files)
            most = held.usd if held is not None and held.usd is not None else NOTHING
            share.cap = self._purse.enter(Cap(report.spent_usd, report.reserved_usd, most))
        self._unheard.discard(report.shard)

    def _hear(self, share: Share, report: Report, now: float) -> None:
        """Take note of what a shard tells."""
        if report.beat > 1 and share.beat:
            share.period_s += 0.3 * (min(now - share.reported_at, self.lifetime_s) - share.period_s)
        share.beat, share.reported_at = report.beat, now
        # It asks again only once it has an answer, or has given it up. So it can get no other lease than what it holds.
        is_known = report.epoch == self.epoch and report.version in (0, share.version)
        held = report.version if is_known else None
        seat = share.seat
        slots = None if held is None else 0 if held == 0 else seat.granted
        self._places.hear(seat, report.in_flight, report.peak, report.left, slots)
        if self._requests is not None and share.requests is not None:
            self._requests.hear(share.requests, report.sent, 1.0, share.period_s, now)
        if self._tokens is not None and share.tokens is not None:
            self._tokens.hear(share.tokens, report.tokens, max(1.0, report.needs_tokens), share.period_s, now)
            self._correct(share, report, now)
        if self._purse is not None and share.cap is not None:
            self._purse.learn(report.usd_margin, is_sure=report.is_usd_sure)
            usd = None if held is None else NOTHING if held == 0 else share.cap.granted
            self._purse.hear(share.cap, report.spent_usd, report.reserved_usd, usd)
        if self._mistakes is not None:
            self._mistakes.add(report.lines - share.lines, report.errors - share.errors)
            self.stop = self.stop or self._mistakes.why_stopped
            share.lines, share.errors = report.lines, report.errors
        self.stop = self.stop or report.stop

    def _correct(self, share: Share, report: Report, now: float) -> None:
        assert self._tokens is not None
        assert share.tokens is not None
        for beat, tokens in report.corrections:
            at = share.counted_at.get(beat)
            if at is not None or tokens > 0:
                self._tokens.correct(share.tokens, now if at is None else at, tokens, now)
        share.counted_at[report.beat] = now
        while share.counted_at and next(iter(share.counted_at.values())) < now - MINUTE_S:
            del share.counted_at[next(iter(share.counted_at))]

    # ------------------------------------------------------------------------------------------ granting

    def _grant(self, share: Share, report: Report, now: float) -> Lease:
        share.version += 1
        lifetime_s = self.lifetime_s
        share.expires_at = now + lifetime_s
        self._live[report.shard] = share
        slots = self._places.grant(share.seat, is_paused=self._is_paused or bool(self.stop))
        period_s, is_idle = share.period_s, not slots and not report.in_flight
        requests = tokens = per_s = math.inf
        if self._requests is not None and share.requests is not None:
            account = share.requests
            most = 0.0 if is_idle else report.left - account.outstanding
            requests = self._requests.grant(account, most, period_s, now)
            per_s = max(account.per_s, account.outstanding / period_s)
        if self._tokens is not None and share.tokens is not None:
            tokens = self._tokens.grant(share.tokens, 0.0 if is_idle else math.inf, period_s, now)
        usd = left = None
        if self._purse is not None and share.cap is not None:
            usd = self._purse.grant(share.cap, report.needs_usd, may_grow=not self._unheard and not is_idle)
            left = self._purse.left
        return Lease(
            epoch=self.epoch,
            version=share.version,
            lifetime_s=lifetime_s,
            beat_s=self.beat_s,
            slots=slots,
            requests=requests,
            per_s=per_s,
            tokens=tokens,
            usd=usd,
            usd_left=left,
            usd_margin=self._purse.margin if self._purse is not None else 1,
            is_usd_sure=self._purse is None or self._purse.is_sure,
            errors_left=self._mistakes.left if self._mistakes is not None else math.inf,
            stop=self.stop,
        )

    # ------------------------------------------------------------------------------------------- now and then

    def _open_when_told(self, now: float) -> None:
        """Begin to grant once all is known that can be."""
        is_told = not self._unheard and not self._has_followers
        if self._is_open or (now < self._opens_at and not is_told):
            return
        self._is_open = True
        if not is_told:
            active_s = max(0.0, MINUTE_S - self._quiet_s) + self.lifetime_s
            for flow in (self._requests, self._tokens):
                if flow is not None and flow.per_minute is not None and self._unheard:
                    flow.fear(flow.per_minute * min(1.0, active_s / MINUTE_S), now)
            if self._quiet_s < self.lifetime_s:
                unknown = Seat()
                self._places.hear(unknown, max(0, self._places.total - self._places.charged), 0, 0, None)
                self._free_later(unknown, now, now)
        self._work_out(now)

    def _leave(self, shard: int, share: Share, now: float) -> None:
        """A shard is done: it has nothing in flight and sends nothing more."""
        self._live.pop(shard, None)
        self._places.leave(share.seat)
        for flow, account in ((self._requests, share.requests), (self._tokens, share.tokens)):
            if flow is not None and account is not None:
                flow.outstanding -= account.outstanding
                account.granted = account.used

    def _work_out(self, now: float) -> None:
        """Take back what leases had that have run out, and work out fair shares anew."""
        for shard, share in list(self._live.items()):
            if share.expires_at < now:
                self._lapse(shard, share, now)
        for ghost in [ghost for ghost in self._ghosts if ghost[0] <= now]:
            self._ghosts.remove(ghost)
            self._places.leave(ghost[1])
        live = self._live.values()
        self._share_at = now + max(self.SHARE_S, len(live) * self.SHARE_EACH_S)
        period_s = sum(share.period_s for share in live) / max(1, len(live))
        for flow in (self._requests, self._tokens):
            if flow is not None:
                flow.spread(len(live), period_s)
        self._places.share([share.seat for share in live], now)
        if self._requests is not None:
            self._requests.share([share.requests for share in live if share.requests is not None])
        if self._tokens is not None:
            self._tokens.share([share.tokens for share in live if share.tokens is not None])
        if self._purse is not None:
            self._purse.parts = len(live)

    def _lapse(self, shard: int, share: Share, now: float) -> None:
        """A lease has run out, and its shard does not tell."""
        del self._live[shard]
        self._free_later(share.seat, share.expires_at, now)
        share.seat = Seat()
        for flow, account in ((self._requests, share.requests), (self._tokens, share.tokens)):
            if flow is not None and account is not None:
                flow.write_off(account, share.expires_at, now)


def _flow(per_minute: float | None, now: float, *, is_whole: bool) -> Flow | None:
    if per_minute is None:
        return None
    return Flow(per_minute, per_minute / MINUTE_S, now, is_whole=is_whole)
