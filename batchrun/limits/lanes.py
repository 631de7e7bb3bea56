"""Lanes: the requests for one model, and whether a limit is that model's own or that of the whole key. Pure.

1. A lane is one gateway and one model. At first all lanes share what is known of the gateway's limits.
2. Until it is known whose limit it is, a refusal holds its own lane only, and says nothing about the others.
3. A limit of the key refuses each model as often as it is asked for. So refusals that hit some models alone, more often
   than chance has it, are those models' own: each gets an `EndpointLimits` of its own.
4. The last model of a job that is refused alone has limits of its own: nothing else would tell, and it slows down none.
5. Refusals that hit all models in use are the key's. From then on they count for all, unless they hit some models
   alone beyond all doubt.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from typing import Any

from batchrun.limits.controller import Controller
from batchrun.limits.endpoint_limits import EndpointLimits
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Concurrency


class Lane:
    """The requests for one model. `limits` may be those of other lanes, too.

    `held_until`: no line of it is sent before, by the run's clock, while those of other lanes are. `is_closed`: none is
    sent any more in this run. `waiters` belongs to the limiter. `back_at`: when the gateway lets requests through
    again, as far as it has said so.
    """

    FIRST_HOLD_S = 0.1

    def __init__(self, model: str, limits: EndpointLimits) -> None:
        self.model = model
        self.limits = limits
        self.held_until = -math.inf
        self.is_closed = False
        self.taken = 0  # lines that workers have
        self.refused_in_a_row = 0  # without an answer
        self.back_at = -math.inf  # as the last refusal said
        self._holds_in_a_row = 0
        self.waiters: deque[Any] = deque()

    def answered(self) -> None:
        """A request was answered."""
        self.refused_in_a_row = self._holds_in_a_row = 0

    def refused(self, asked_s: float | None, now: float) -> None:
        """A request was throttled; the gateway asked to wait so many seconds."""
        self.refused_in_a_row += 1
        self.back_at = now + (asked_s or 0.0)

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

    def __init__(
        self, bounds: Concurrency, now: float, controller: Controller | None = None, *, has_several: bool = False
    ) -> None:
        self.has_several = has_several
        self.last_model: str | None = None
        self.shared = EndpointLimits(bounds, now, controller)
        self.limits = [self.shared]
        self._bounds = bounds
        self._lanes: dict[str, Lane] = {}
        self._window = Window()
        self._is_the_keys = False  # the limit behind the refusals of shared lanes

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

    def close(self, limits: EndpointLimits) -> None:
        """Send nothing more in the lanes with these limits."""
        for lane in self._lanes.values():
            lane.is_closed = lane.is_closed or lane.limits is limits

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

    def admitted(self, lane: Lane) -> None:
        """A request of this lane was answered."""
        if self.has_several and lane.limits is self.shared:
            self._window.admitted(lane.model)

    def holds(self, lane: Lane) -> bool:
        """Whether a refusal holds this lane alone, because it is not known yet whose limit it is."""
        return self.has_several and lane.limits is self.shared and not self._is_the_keys

    def refused(self, lane: Lane, now: float) -> None:
        """A request of this lane was throttled: find out whose limit that is, as far as it can be known."""
        if not self.has_several or lane.limits is not self.shared:
            return
        window = self._window
        window.refused(lane.model)
        is_own = window.hits_some(Window.BEYOND_DOUBT if self._is_the_keys else Window.UNLIKELY)
        if is_own or (lane.model == self.last_model and not self._is_the_keys and window.hits_only(lane.model)):
            for model in window.models_refused:
                apart = self._lanes[model]
                apart.limits = EndpointLimits(Concurrency(1, self._bounds.most), now)
                apart.limits.controller.suppose_rate()
            if self._is_the_keys:
                self.shared.controller.forget_limits(now)
            self._is_the_keys = False
            self._note_limits()
            self._window = Window()
        elif window.hits_all:
            self._is_the_keys = True
            self._window = Window()
            for other in self._lanes.values():
                if other.limits is self.shared:
                    other.release()
        elif window.is_full:
            self._window = Window()

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

    def _note_limits(self) -> None:
        self.limits = list(dict.fromkeys(lane.limits for lane in self._lanes.values()))


class Window:
    """The requests of lanes that share their limits, by model, since the first of them was refused."""

    UNLIKELY, BEYOND_DOUBT = 0.005, 1e-5  # how often chance hits some models alone, whichever they are
    LEAST, MOST = 3, 100  # refusals

    def __init__(self) -> None:
        self.models_refused: set[str] = set()
        self._ended: dict[str, int] = {}
        self._refusals = 0

    def admitted(self, model: str) -> None:
        """A request was answered."""
        if self._refusals:
            self._ended[model] = self._ended.get(model, 0) + 1

    def refused(self, model: str) -> None:
        """A request was throttled."""
        self._refusals += 1
        self._ended[model] = self._ended.get(model, 0) + 1
        self.models_refused.add(model)

    def hits_some(self, chance: float) -> bool:
        """Whether some models alone are refused, which chance would bring about less often than that."""
        if self._refusals < self.LEAST or self.hits_all:
            return False
        theirs = sum(self._ended[model] for model in self.models_refused)
        sets = math.comb(len(self._ended), len(self.models_refused))
        return sets * (theirs / sum(self._ended.values())) ** self._refusals <= chance

    def hits_only(self, model: str) -> bool:
        """Whether all refusals, and enough of them, hit this model."""
        return self._refusals >= self.LEAST and self.models_refused == {model}

    @property
    def hits_all(self) -> bool:
        """Whether all models that are in use are refused, and more than one."""
        return 1 < len(self._ended) == len(self.models_refused)

    @property
    def is_full(self) -> bool:
        """Whether more refusals would not say more."""
        return self._refusals >= self.MOST
