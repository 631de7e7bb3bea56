"""The endpoints of a job, as the engine sees them: where to send, what is known of each, and whether it is shut.

1. A job with one endpoint has one `Gateway`, without a name; nothing of it is ever shut: where it fails for good, the
   job stops.
2. Where there are several, one that no line can get past (a dead key, an empty account, a wrong address) is shut: its
   lines go to the others, and one request in `PROBE_EVERY_S` finds out whether it is back.
3. What its models fail at is with their peers (`attribution.py`), what they are limited by is with its limiter.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING

from batchrun.engine.refusals import Refusals
from batchrun.engine.spending import Spending
from batchrun.limits.fleet import Fleet
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.limits.promises import Promises
from batchrun.transport.protocol import Transport

if TYPE_CHECKING:
    from batchrun.engine.attribution import Peers
    from batchrun.engine.case import Case
    from batchrun.limits.lanes import Lane

PROBE_EVERY_S = 300.0
PACED_AHEAD, PACED_AHEAD_S = 2, 0.05  # lines that may wait for the pace of an endpoint, so that none of it is lost


@dataclass(frozen=True, slots=True)
class Destination:
    """One of several endpoints to send to.

    `name`: as in records. `address`: the full URL of `/v1/responses` there, for messages. `weight`: its share while
    others have room, too. `tier`: it is used only while none of a lower tier is open. `serves(model)`: whether it has
    that model. `limits`: what the user allows there. `has_succeeded`: a line has, in an earlier run. `spending`: what
    lines cost there.
    """

    name: str
    transport: Transport
    address: str
    spending: Spending
    limits: Limits = Limits()
    weight: float = 1.0
    tier: int = 1
    serves: Callable[[str], bool] = lambda model: True
    has_succeeded: bool = False


def fleet_of(
    destinations: Sequence[Destination],
    whole: Promises,
    has_several_models: bool,
    stops_fresh: bool,
    on_closed: Callable[[], None],
) -> tuple[Fleet, list[Gateway]]:
    """The limiters and the state of several endpoints, within the promises of the `whole` job.

    `on_closed` is called where an endpoint, or a model there, has refused everything for too long.
    """
    clock = asyncio.get_running_loop().time
    shares = Shares(whole)
    limiters: dict[str, Limiter] = {}
    gateways = []
    for one in destinations:
        limiter = limiters[one.name] = Limiter(
            one.limits,
            clock,
            lambda why: on_closed(),
            one.spending.own_budget,
            has_several_models=has_several_models,
            whole=whole,
        )
        refusals = Refusals(has_succeeded=one.has_succeeded, stops_fresh=stops_fresh)
        gateways.append(
            Gateway(
                one.name,
                one.transport,
                one.address,
                limiter,
                refusals,
                one.spending,
                shares,
                weight=one.weight,
                tier=one.tier,
                serves=one.serves,
            )
        )
    return Fleet(whole, limiters, clock), gateways


class Shares:
    """Whose turn it is: each endpoint gets lines by its weight while it has room; lost turns are not made up for.

    `whole` says how many lines workers may have, for all endpoints together; `taken` is how many they have.
    """

    def __init__(self, whole: Promises) -> None:
        self.taken = 0
        self._whole = whole
        self._now = 0.0

    @property
    def has_room(self) -> bool:
        """Whether a worker may have one more line."""
        return self.taken < self._whole.most_in_flight

    def first(self, routes: Sequence[Peers]) -> Peers:
        """The one of these endpoints whose turn it is first."""
        first, first_at, now = routes[0], math.inf, self._now
        for peers in routes:
            at = peers.gateway.next_turn
            if at < now:
                at = now
            if at < first_at:
                first, first_at = peers, at
        return first

    def give(self, gateway: Gateway) -> None:
        """A line goes there."""
        self.taken += 1
        self._now = max(gateway.next_turn, self._now)
        gateway.next_turn = self._now + 1 / gateway.weight


class Gateway:
    """An endpoint and its state. `name` is None where it is the only one.

    `has_answered`: anything has come from it. `next_turn` belongs to its shares.
    """

    def __init__(
        self,
        name: str | None,
        transport: Transport,
        address: str,
        limiter: Limiter,
        refusals: Refusals,
        spending: Spending,
        shares: Shares,
        *,
        weight: float = 1.0,
        tier: int = 1,
        serves: Callable[[str], bool] = lambda model: True,
    ) -> None:
        self.name, self.transport, self.address = name, transport, address
        self.limiter, self.refusals, self.spending = limiter, refusals, spending
        self.shares, self.weight, self.tier, self.serves = shares, weight, tier, serves
        self.next_turn = 0.0
        self.has_answered = False
        self.shut_since: float | None = None
        self.why = ""  # it is shut
        self.refuses_all = False  # it is shut because it refused line after line: another refusal does not open it
        self.used_up_usd: Decimal | None = None  # its cap, where it is shut because that is used up
        self.probe: Case | None = None  # the line that finds out whether it is back
        self.spent: list[Lane] = []  # of models whose quota is spent
        self.more_models = 0  # found so since anything was answered, beside those in flight by then
        self._probe_at = math.inf

    def has_room(self, lane: Lane, now: float) -> bool:
        """Whether one more line may be given to a worker that may have one: it could be sent now, or nearly so."""
        if not lane.has_room(now):
            return False
        limits, promises = lane.limits, self.limiter.promises
        controller = limits.controller
        if now < controller.paused_until or promises.is_paused:
            return False
        ahead = limits.taken - limits.in_flight
        if ahead < PACED_AHEAD:
            return True
        pace_per_s = controller.pace_per_s
        if pace_per_s is None and not promises.is_paced:
            return True
        return ahead < PACED_AHEAD + (pace_per_s or 0.0) * PACED_AHEAD_S

    def given(self, peers: Peers, case: Case) -> None:
        """A worker has a line for it; where it is away, that is a probe."""
        self.shares.give(self)
        if self.shut_since is not None:
            self.probe = case
        elif peers.breaker.is_open:
            peers.probed_by = case

    @property
    def has_had_lines(self) -> bool:
        """Whether a worker has had a line for it in this run."""
        return self.next_turn > 0

    def ended(self, peers: Peers, case: Case) -> None:
        """The worker is done with it."""
        self.shares.taken -= 1
        if self.probe is case:
            self.probe = None
        if peers.probed_by is case:
            peers.probed_by = None

    def has_room_for_others(self, now: float) -> bool:
        """Whether there is room for a line of a model that has not been seen yet."""
        shared = self.limiter.lanes.shared
        if self.shut_since is not None or self.limiter.is_paused or now < shared.controller.paused_until:
            return False
        return self.shares.has_room and shared.has_room

    def pauses(self, now: float) -> list[float]:
        """When the pauses end that the gateway asked for."""
        until = [limits.controller.paused_until for limits in self.limiter.lanes.limits]
        return [at for at in until if at > now]

    # ------------------------------------------------------------------------------------------ shut

    def shut(self, why: str, now: float) -> bool:
        """Send no more but a probe now and then, or, with `now` infinite, none; True if it was open until now."""
        if self.shut_since == math.inf:
            return False
        was_open = self.shut_since is None
        if was_open:
            self.shut_since = now
        self.why = why
        self._probe_at = now + PROBE_EVERY_S
        if was_open:
            self.limiter.send_back_all()
            for lane in self.spent:  # it was no quota of theirs, or they find out again
                lane.is_closed = False
            self.spent.clear()
        return was_open

    def open(self) -> None:
        """It is back."""
        self.shut_since, self.why, self.refuses_all, self.used_up_usd = None, "", False, None

    @property
    def may_spend_more(self) -> bool:
        """Whether it is shut because its cap was used up, and that has been raised since."""
        budget, used_up_usd = self.spending.own_budget, self.used_up_usd
        return used_up_usd is not None and budget is not None and budget.cap > used_up_usd

    def put_off(self, now: float) -> None:
        """A probe told nothing."""
        self._probe_at = now + PROBE_EVERY_S

    @property
    def probe_at(self) -> float:
        """From when on the next probe may be sent; never while one is on its way or it is open."""
        return math.inf if self.shut_since is None or self.probe is not None else self._probe_at
