"""Lanes: the requests for one model, and whether a limit is that model's own or that of the whole key. Pure.

1. A lane is one gateway and one model. At first all lanes share what is known of the gateway's limits.
2. Until it is known whose limit it is (`whose_limit.py`), a refusal holds its own lane only, and says nothing about the
   others.
3. A model with a limit of its own gets an `EndpointLimits` of its own. It begins with what was answered of late, and
   none of the refusals that told of it count there.
4. The last model of a job that is refused alone has limits of its own: nothing else would tell, and it slows down none.
5. Once the limit is known to be the key's, refusals count for all.
6. Headers count for all models, unless they are known to tell of one model's own limits (`whose_headers.py`). Once half
   of these is used, the model gets limits of its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from batchrun.limits.controller import Controller, Sent
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.headers import is_mostly_used
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency
from batchrun.limits.whose_headers import WhoseHeaders
from batchrun.limits.whose_limit import WhoseLimit
from batchrun.records.outcome import RateHeaders


class Recent:
    """How many answers came a second, within the last second or two."""

    def __init__(self) -> None:
        self._from, self._count, self._before = 0.0, 0, 0

    def add(self, now: float) -> None:
        """An answer came."""
        self._move_on(now)
        self._count += 1

    def per_s(self, now: float) -> float:
        """So many came a second."""
        self._move_on(now)
        return (self._before + self._count) / (1.0 + now - self._from)

    def _move_on(self, now: float) -> None:
        if now >= self._from + 1.0:
            self._before = self._count if now < self._from + 2.0 else 0
            self._from, self._count = now, 0


class Lane:
    """The requests for one model. `limits` may be those of other lanes, too.

    `held_until`: no line of it is sent before, by the run's clock, while those of other lanes are. `is_closed`: none is
    sent any more in this run. `waiters` belongs to the limiter. `back_at`: when the gateway lets requests through
    again, as far as it has said so.
    """

    FIRST_HOLD_S = 0.1
    SURE = 3  # refusals in a row, each of a request that was sent after the one before was refused
    ASK_AGAIN_S = 1.0  # after a refusal, where nothing else is to be sent

    def __init__(self, model: str, limits: EndpointLimits) -> None:
        self.model = model
        self.limits = limits
        self.held_until = -math.inf
        self.is_closed = False
        self.taken = 0  # lines that workers have
        self.back_at = -math.inf  # as the last refusal said
        self._refused_in_a_row, self._refused_at = 0, -math.inf  # without an answer
        self._holds_in_a_row = 0
        self.answers = Recent()  # while it shares its limits
        self.waiters: deque[Any] = deque()

    def answered(self) -> None:
        """A request was answered."""
        self._refused_in_a_row = self._holds_in_a_row = 0

    def refused(self, asked_s: float | None, sent_at: float, now: float) -> None:
        """A request was throttled; the gateway asked to wait so many seconds."""
        if sent_at >= self._refused_at:  # a burst counts once
            self._refused_in_a_row += 1
            self._refused_at = now
        self.back_at = now + (asked_s or 0.0)

    def asks_for_longer(self, longest_outage_s: float, now: float) -> bool:
        """Whether it asks for a longer wait than an outage may last, and than any wait that is followed."""
        return self.back_at - now > max(longest_outage_s, Controller.MAX_ASKED_S)

    def is_spent(self, longest_outage_s: float, now: float) -> bool:
        """Whether it surely asks for so long: its quota is spent."""
        return self._refused_in_a_row >= self.SURE and self.asks_for_longer(longest_outage_s, now)

    def ask_again(self, longest_outage_s: float, now: float) -> None:
        """Nothing else is to be sent: if it asks for so long, find out soon whether that is sure."""
        if 0 < self._refused_in_a_row < self.SURE and self.asks_for_longer(longest_outage_s, now):
            at, controller = self._refused_at + self.ASK_AGAIN_S, self.limits.controller
            self.held_until = min(self.held_until, at)
            controller.paused_until = min(controller.paused_until, at)

    def hold(self, asked_s: float | None, now: float) -> None:
        """Send nothing for as long as the gateway asked for, or else for a time that doubles."""
        if now >= self.held_until:  # those that were in flight by then do not double it
            self._holds_in_a_row += 1
        doubled_s = min(self.FIRST_HOLD_S * 2.0 ** min(self._holds_in_a_row - 1, 9), Controller.MAX_PAUSE_S)
        self.held_until = max(self.held_until, now + min(asked_s or doubled_s, Controller.MAX_ASKED_S))

    def release(self) -> None:
        """It was held for what is not its own limit."""
        self.held_until, self._holds_in_a_row = -math.inf, 0

    def has_room(self, now: float) -> bool:
        """Whether a further line may be given to a worker."""
        if self._holds_in_a_row and self.taken:
            return False  # one finds out whether requests are let through again
        limits = self.limits
        if limits.is_doubted and limits.taken:
            return False
        return limits.taken < limits.controller.slots and now >= self.held_until and not self.is_closed

    def is_held(self, now: float) -> bool:
        """Whether no line of it is sent now, while those of other lanes are."""
        return self.is_closed or now < self.held_until


class Lanes:
    """The lanes of one gateway; `shared` are the limits of those that have none of their own.

    `limits` has all limits in use, each once. `has_several`: the file has lines for more than one model.
    `last_model`: the one that all lines ask for that are left; None while there are several. `controller` finds the
    shared limits out; None makes one.
    """

    BEGIN = 2.0  # times what was answered of late, when it was held: a pace too high is soon told, one too low is not

    def __init__(
        self, bounds: Concurrency, now: float, controller: Controller | None = None, *, has_several: bool = False
    ) -> None:
        self.has_several = has_several
        self.is_doubted = False
        self.last_model: str | None = None
        self.shared = EndpointLimits(bounds, now, controller)
        self.limits = [self.shared]
        self._bounds = bounds
        self._lanes: dict[str, Lane] = {}
        self._whose, self._whose_headers = WhoseLimit(), WhoseHeaders()
        self._told_apart = set[str]()  # models whose headers tell of their own limits
        self._the_keys_since = -math.inf  # known to be the key's

    def __iter__(self) -> Iterator[Lane]:
        return iter(self._lanes.values())

    def of(self, model: str) -> Lane:
        """The lane of a model."""
        lane = self._lanes.get(model)
        if lane is None:
            lane = self._lanes[model] = Lane(model, self.shared)
            self._note_limits()
        return lane

    @property
    def busiest(self) -> EndpointLimits:
        """The limits that the most lines wait for or are in flight by."""
        return self.limits[0] if len(self.limits) == 1 else max(self.limits, key=lambda limits: limits.taken)

    def doubt(self, *, is_over: bool = False) -> None:
        """Nobody knows whether anything is still answered: send one request at a time, until the doubt `is_over`."""
        self.is_doubted = not is_over
        for limits in {self.shared, *self.limits}:
            limits.is_doubted = not is_over

    @property
    def are_closed(self) -> bool:
        """Whether nothing can be sent any more."""
        return all(lane.is_closed for lane in self._lanes.values())

    @property
    def slots(self) -> int:
        """How many requests all lanes together may have in flight, for all that their own limits say."""
        if len(self.limits) == 1:
            return self.limits[0].controller.slots
        return sum(limits.controller.slots for limits in self.limits)

    def resize(self, bounds: Concurrency, now: float) -> None:
        """Set other bounds for the requests in flight."""
        self._bounds = bounds
        for limits in self.limits:
            limits.controller.concurrency.resize(bounds, now)

    def sent(self, lane: Lane) -> None:
        """A request of this lane goes out, where there are several."""
        if lane.limits is self.shared:
            self._whose.sent(lane.model)

    def answered(
        self, lane: Lane, limits: EndpointLimits, sent: Sent, rate: RateHeaders | None, now: float
    ) -> RateHeaders | None:
        """A request of this lane, sent by these limits, was answered; returns what its headers tell of them."""
        lane.answered()
        if not self.has_several or limits is not self.shared:
            return rate
        if lane.limits is not limits:
            return None
        lane.answers.add(now)
        whose = self._whose_headers
        whose.read(lane.model, rate, now)
        if rate is None or not whose.is_own(lane.model):
            return rate
        if lane.model not in self._told_apart:
            self._told_apart.add(lane.model)
            limits.controller.forget_headers()
        if is_mostly_used(rate):
            lane.limits = EndpointLimits(Concurrency(1, self._bounds.most), now)
            lane.limits.begin_told(rate, sent, lane.taken, now)
            self._apart(lane)
        return None

    def holds(self, lane: Lane) -> bool:
        """Whether a refusal holds this lane alone, because it is not known yet whose limit it is."""
        return self.has_several and lane.limits is self.shared and not self._whose.is_the_keys

    def holds_alone(self, lane: Lane, limits: EndpointLimits, retry_after_s: float | None, now: float) -> bool:
        """Hold a lane for a refusal of a request that was sent by these limits, if that says nothing of any other.

        One that was sent before its lane had limits of its own holds it only where the gateway asked for that.
        """
        if not self.holds(lane) and limits is lane.limits:
            return False
        asked_s = lane.limits.followed_s(retry_after_s, now)
        if limits is lane.limits or asked_s:
            lane.hold(asked_s, now)
        return True

    def refused(self, lane: Lane, sent_at: float, now: float) -> None:
        """A request of this lane was throttled: find out whose limit that is, as far as it can be known."""
        if not self.has_several or lane.limits is not self.shared:
            return
        whose, was_the_keys = self._whose, self._whose.is_the_keys
        if was_the_keys and sent_at < self._the_keys_since:
            return  # the rest of a burst
        whose.refused(lane.model)
        own = whose.own()
        if not was_the_keys and lane.model == self.last_model and whose.hits_only(lane.model):
            own = [lane.model]
        for model in own:
            self._set_apart(self._lanes[model], now)
        if own and was_the_keys:
            self.shared.controller.forget_limits(now)
        if whose.is_the_keys and not was_the_keys:
            self._the_keys_since = now
            for other in self._lanes.values():
                if other.limits is self.shared:
                    other.release()

    def limited_by(self, now: float) -> dict[str, LimitedBy]:
        """What limits each model that has limits of its own, now."""
        return {
            lane.model: LimitedBy.THROTTLED
            if lane.is_held(now)
            else lane.limits.limited_by(now, has_lines=lane.limits.taken > 0)
            for lane in self._lanes.values()
            if lane.limits is not self.shared
        }

    def kept_free(self, limits: EndpointLimits, now: float) -> int:
        """How many of the job's places other lanes need, whose pace lets them go before an answer comes back."""
        others = {lane.limits for lane in self._lanes.values() if lane.waiters and lane.limits is not limits}
        # Not all of them: lanes that keep places free for one another would all wait.
        return min(self._bounds.most // 4, sum(other.due_soon(now) for other in others))

    def _set_apart(self, lane: Lane, now: float) -> None:
        """Give a lane limits of its own, which are used up now."""
        lane.limits = EndpointLimits(Concurrency(1, self._bounds.most), now)
        lane.limits.begin(self.BEGIN * lane.answers.per_s(now), lane.taken, now)
        self._apart(lane)

    def _apart(self, lane: Lane) -> None:
        self._whose.set_apart(lane.model)
        self._whose_headers.set_apart(lane.model)
        lane.release()
        self._note_limits()

    def _note_limits(self) -> None:
        self.limits = list(dict.fromkeys(lane.limits for lane in self._lanes.values()))
