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
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal

from batchrun.cluster.finder import Finder, Sendings
from batchrun.cluster.lease import Lease, Report
from batchrun.cluster.minute import MINUTE_S, Flow
from batchrun.cluster.mistakes import Mistakes
from batchrun.cluster.outage import SharedOutage
from batchrun.cluster.places import Places, Seat
from batchrun.cluster.purse import Cap, Purse
from batchrun.cluster.share import Pulse, Share, beat_s, lifetime_s
from batchrun.engine.error_limit import MaxErrors
from batchrun.limits.options import Limits
from batchrun.records.money import NOTHING


@dataclass(frozen=True, slots=True)
class Promised:
    """What a job promises, over all its shards.

    `limits`: requests in flight, requests and tokens a minute. `max_cost_usd`: the cap of all runs together, in US
    dollars. `max_errors`: how many lines of this run may go wrong. None is no limit.
    """

    limits: Limits
    max_cost_usd: Decimal | None = None
    max_errors: MaxErrors | None = None


class Coordinator:
    """Shares what is `promised` over shards.

    `epoch`: greater than that of every coordinator of this job before. `known`: the shards that may hold a lease, whose
    spending is not known, or that sent something in the last minute: those that have been started, by an earlier
    coordinator or an earlier run. `quiet_s`:
    for how many seconds none of their run logs was written to. `beat_s`: seconds from one beat of a shard to the next;
    `lifetime_s`: for how many a lease is good.
    """

    SHARE_S, SHARE_EACH_S = 0.1, 0.004  # how often fair shares are worked out, and that for each shard

    def __init__(
        self, promised: Promised, now: float, *, epoch: int = 1, known: Collection[int] = (), quiet_s: float = 0.0
    ) -> None:
        self.epoch = epoch
        self.stop = ""
        limits = promised.limits
        self._requests_per_s = _per_s(limits.requests_per_minute)
        self._finder = Finder(limits.bounds, now)
        self._places = Places(self._finder.slots)
        self._requests = Flow(limits.requests_per_minute, self._requests_per_s, now, is_whole=True)
        tpm = limits.tokens_per_minute
        self._smooth_per_s = math.inf
        self._tokens = Flow(tpm, _per_s(tpm), now, is_whole=False) if tpm is not None else None
        self._flows = [self._requests, *([] if self._tokens is None else [self._tokens])]
        self._purse = Purse(promised.max_cost_usd) if promised.max_cost_usd is not None else None
        self._mistakes = Mistakes(promised.max_errors) if promised.max_errors is not None else None
        self._outage, self._pulse = SharedOutage(), Pulse(now)
        self._is_paused = False
        self._shares: dict[int, Share] = {}
        self._live: dict[int, Share] = {}
        self._ghosts: list[tuple[float, Seat]] = []  # of incarnations that were followed by another one
        self._files: dict[int, Cap] = {}  # of shards that are not running, by their files
        self._unheard = set(known)
        self._silent = set[int]()  # whose leases have run out; what they may have spent stays charged until it is known
        self._counted = set[int]()  # of which is known, by their files, what they sent in the last minute
        self._is_vague = False  # there are shards of which that is not known
        self._opens_at = now + lifetime_s(len(known)) if known else now
        self._quiet_s = quiet_s
        self._is_open = not known
        self._has_followers = False  # shards whose incarnation before was killed lately
        self._share_at = now
        self.beat_s, self.lifetime_s = beat_s(1), lifetime_s(1)

    @property
    def unheard(self) -> frozenset[int]:
        """The shards whose spending is not known: read their files, and say so by `heard`."""
        return frozenset(self._unheard | self._silent)

    def heard(
        self, shard: int, spent_usd: Decimal, now: float, recent: Sequence[tuple[float, int, float]] | None = None
    ) -> None:
        """A shard is not running, or has no lease any more that an earlier coordinator gave: by its result file and run
        log, it has spent so much at worst, in US dollars.

        `recent`: what it sent in the last minute, as in `Everything`; without it, that counts at its worst.
        """
        if (share := self._shares.get(shard)) is not None:
            if shard in self._silent and self._purse is not None and share.cap is not None:
                self._purse.leave(share.cap)
                share.cap = self._purse.enter(Cap(spent_usd, NOTHING, NOTHING))
            self._silent.discard(shard)
            return
        was_feared = self._is_open and shard in self._unheard
        self._unheard.discard(shard)
        if recent is None:
            self._is_vague = True
        elif shard not in self._counted:
            self._count(recent, now, was_feared=was_feared)
            self._counted.add(shard)
        if self._purse is not None:
            if shard in self._files:
                self._purse.leave(self._files[shard])
            self._files[shard] = self._purse.enter(Cap(spent_usd, NOTHING, NOTHING))
        self._open_when_told(now)

    def _count(self, recent: Sequence[tuple[float, int, float]], now: float, *, was_feared: bool) -> None:
        """Count what a shard sent in the last minute."""
        self._requests.count(((age_s, count) for age_s, count, _ in recent), now, was_feared=was_feared)
        if self._tokens is not None:
            self._tokens.count(((age_s, tokens) for age_s, _, tokens in recent), now, was_feared=was_feared)

    def change(self, promised: Promised, now: float, *, is_paused: bool = False) -> None:
        """Set other limits, as `batchrun tune` asks for. A limit that was not there from the start cannot be added."""
        limits = promised.limits
        self._finder.resize(limits.bounds, now)
        self._places.total = self._finder.slots
        self._requests_per_s = _per_s(limits.requests_per_minute)
        self._requests.change(limits.requests_per_minute, self._requests_per_s)
        if self._tokens is not None:
            self._tokens.change(limits.tokens_per_minute, _per_s(limits.tokens_per_minute))
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
        share.expires_at = max(share.expires_at, now)
        if report.shard not in self._live:
            self._live[report.shard] = share
            self._silent.discard(report.shard)
            self._share_at = now
        if now >= self._share_at:
            self._work_out(now)
        if not self._is_open:
            self._open_when_told(now)
            if not self._is_open:
                # It lives without a lease: else the few that are not yet forgotten would have the shares of all.
                share.expires_at = max(share.expires_at, now + self.lifetime_s)
                return Lease(self.epoch, stop=self.stop)
        return self._grant(share, report, now)

    def _enter(self, report: Report, before: Share | None, now: float) -> Share:
        """A shard begins, or another incarnation of it."""
        share = Share(report, now)
        if before is not None:
            share.has_told = before.has_told  # what it sent before was counted as it was told, or written off
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
        self._finder.gone(share.sendings)
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
        granted = held.requests if held is not None else 0.0
        share.requests = self._requests.enter(report.sent, granted, stagger, now)
        if self._tokens is not None:
            granted = held.tokens if held is not None else 0.0
            share.tokens = self._tokens.enter(report.tokens, granted, stagger * report.needs_tokens, now)
        if report.shard not in self._counted:
            self._count(told.recent, now, was_feared=feared)
        if held is not None:
            share.seat.most = held.slots
        if self._purse is not None:
            if (files := self._files.pop(report.shard, None)) is not None:
                self._purse.leave(files)
            most = held.usd if held is not None and held.usd is not None else NOTHING
            share.cap = self._purse.enter(Cap(report.spent_usd, report.reserved_usd, most))
        self._unheard.discard(report.shard)
        self._open_when_told(now)

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
        if share.requests is not None:
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
        if self._finder.is_fed or report.ended:
            self._finder.hear(share.sendings, report, now)
        self._outage.hear(report, self._pulse.longest_s(self.beat_s, now), now)
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
        if self._finder.is_fed:
            self._follow_finder(now)
            self._finder.granted(share.sendings, share.version)
        share.expires_at = now + self.lifetime_s
        is_outage = self._outage.prober is not None
        waits = is_outage and report.shard != self._outage.prober
        before = share.seat.granted
        slots = self._places.grant(share.seat, is_paused=self._is_paused or bool(self.stop) or waits)
        if is_outage or report.needs_usd or (slots != before and report.peak >= before):
            self._pulse.changed(now)
        period_s, is_idle = share.period_s, not slots and not report.in_flight
        requests = tokens = per_s = math.inf
        if (account := share.requests) is not None and self._requests.per_minute is not None:
            most = 0.0 if is_idle else report.left - account.outstanding
            requests = self._requests.grant(account, most, period_s, now)
            per_s = max(account.per_s, account.outstanding / period_s)
        elif account is not None and self._requests.per_s < math.inf:
            per_s = min(account.per_s, self._requests.per_s)
        per_s = min(per_s, max(1, slots) * self._smooth_per_s)
        if self._tokens is not None and share.tokens is not None:
            tokens = self._tokens.grant(share.tokens, 0.0 if is_idle else math.inf, period_s, now)
        usd, purse = None, self._purse
        if purse is not None and share.cap is not None:
            usd = purse.grant(share.cap, report.needs_usd, may_grow=not self._unheard and not is_idle)
        return Lease(
            epoch=self.epoch,
            version=share.version,
            lifetime_s=self.lifetime_s,
            beat_s=self.beat_s,
            slots=slots,
            requests=requests,
            per_s=per_s,
            tokens=tokens,
            usd=usd,
            usd_left=None if purse is None else purse.left,
            usd_margin=1 if purse is None else purse.margin,
            is_usd_sure=purse is None or purse.is_sure,
            errors_left=math.inf if self._mistakes is None else self._mistakes.left,
            pause_s=self._finder.pause_s(share.sendings, now) if self._finder.is_fed else 0.0,
            wants_events=self._finder.is_fed,
            is_outage=is_outage,
            is_paused=self._is_paused,
            stop=self.stop,
        )

    def _follow_finder(self, now: float) -> None:
        """Share what was found out that the gateway allows, within what the user does."""
        self._places.total = self._finder.slots
        per_s, self._smooth_per_s = self._finder.paces
        if (per_s := min(self._requests_per_s, per_s)) != self._requests.allowed_per_s:
            self._requests.change(self._requests.per_minute, per_s)
            self._work_out(now)

    # ------------------------------------------------------------------------------------------- now and then

    def _open_when_told(self, now: float) -> None:
        """Begin to grant once all is known that can be."""
        is_told = not self._unheard and not self._has_followers and not self._is_vague
        if self._is_open and not self._unheard and not self._is_vague:
            for flow in self._flows:
                flow.calm(now)
        if self._is_open or (now < self._opens_at and not is_told):
            return
        self._is_open = True
        if not is_told:
            active_s = max(0.0, MINUTE_S - self._quiet_s) + self.lifetime_s
            for flow in self._flows:
                if flow.per_minute is not None and (self._unheard or self._is_vague):
                    flow.fear(flow.per_minute * min(1.0, active_s / MINUTE_S), now)
            if self._quiet_s < self.lifetime_s:
                unknown = Seat()
                self._places.hear(unknown, max(0, self._places.total - self._places.charged), 0, 0, None)
                self._free_later(unknown, now, now)
        self._work_out(now)

    def _leave(self, shard: int, share: Share, now: float) -> None:
        """A shard is done: it has nothing in flight and sends nothing more."""
        self._live.pop(shard, None)
        self._finder.gone(share.sendings)
        self._outage.gone(shard)
        if self._purse is not None and share.cap is not None:
            self._purse.follow(share.cap)  # what it did not use of its cap is free
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
        is_free = self._requests.per_minute is None and self._tokens is None and self._mistakes is None
        self.beat_s = self._pulse.beat_s(len(live), now, is_fed=self._finder.is_fed, may_calm=is_free)
        self.lifetime_s = lifetime_s(len(live))
        self._share_at = now + max(self.SHARE_S, len(live) * self.SHARE_EACH_S)
        period_s = sum(share.period_s for share in live) / max(1, len(live))
        for flow in self._flows:
            flow.spread(len(live), period_s)
        self._places.share([share.seat for share in live], now)
        self._requests.share([share.requests for share in live if share.requests is not None])
        if self._tokens is not None:
            self._tokens.share([share.tokens for share in live if share.tokens is not None])
        if self._purse is not None:
            self._purse.parts = len(live)

    def _lapse(self, shard: int, share: Share, now: float) -> None:
        """A lease has run out, and its shard does not tell."""
        del self._live[shard]
        self._finder.gone(share.sendings)
        self._outage.gone(shard)
        if self._purse is not None:
            self._silent.add(shard)
        self._free_later(share.seat, share.expires_at, now)
        share.seat, share.sendings = Seat(), Sendings()
        for flow, account in ((self._requests, share.requests), (self._tokens, share.tokens)):
            if flow is not None and account is not None:
                flow.write_off(account, share.expires_at, now)


def _per_s(per_minute: float | None) -> float:
    return math.inf if per_minute is None else per_minute / MINUTE_S
