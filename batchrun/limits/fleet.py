"""The limiters of a job with several endpoints, seen as one: what the job may do, and what all of them do.

1. Each endpoint has a limiter of its own. A permit is asked for and given back there, and there alone workers wait.
2. The promises of the whole job stand here once, and every limiter keeps them, too. A request that ends makes room for
   those that wait at other endpoints.
3. What the runner, the monitor and `batchrun tune` read is named as it is in a `Limiter`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from batchrun.limits.budget import Budget
from batchrun.limits.in_flight import InFlightBytes
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.limits.promises import Promises


class Fleet:
    """The limiters of several endpoints, by name. `whole` is what the job may do; `limiters` keep it, too.

    Set `has_lines` and `is_outage` as for a `Limiter`. `why_idle(name)`: why an endpoint gets no lines, or None.
    """

    def __init__(self, whole: Promises, limiters: Mapping[str, Limiter], clock: Callable[[], float]) -> None:
        self.bytes = InFlightBytes(whole.limits.max_in_flight_bytes)
        self.is_outage = False
        self.why_idle: Callable[[str], LimitedBy | None] = lambda name: None
        self.by_name = dict(limiters)
        self._all = list(limiters.values())
        self._whole = whole
        self._clock = clock
        self._has_lines = True
        self._is_closed = False
        for limiter in self._all:
            limiter.bytes = self.bytes
            limiter.freed = self.pump

    # ------------------------------------------------------------------------------------------ looking

    def now(self) -> float:
        """The time by the clock of the limiters, in seconds."""
        return self._clock()

    @property
    def limits(self) -> Limits:
        """The limits that the user sets for the whole job."""
        return self._whole.limits

    @property
    def budget(self) -> Budget | None:
        """The budget of the whole job; None without a cap."""
        return self._whole.budget

    @property
    def is_paused(self) -> bool:
        """Whether the user has paused the whole job."""
        return self._whole.is_paused

    @property
    def in_flight(self) -> int:
        """How many requests are in flight, to all endpoints."""
        return self._whole.in_flight

    @property
    def slots(self) -> int:
        """How many requests may be in flight now."""
        return min(self._whole.most_in_flight, sum(limiter.slots for limiter in self._all))

    @property
    def worker_slots(self) -> int:
        """How many workers may have a line."""
        slots = sum(limiter.worker_slots for limiter in self._all)
        return min(slots, self._whole.most_workers)

    @property
    def most_in_flight(self) -> int:
        """How many requests the user allows at once, to all endpoints together."""
        return self._whole.most_in_flight

    @property
    def pace_per_s(self) -> float | None:
        """The pace of all endpoints together, in requests a second; None if one of them has none."""
        paces = [limiter.pace_per_s for limiter in self._all]
        return None if None in paces else sum(pace for pace in paces if pace is not None)

    @property
    def has_lines(self) -> bool:
        """Whether a line is left to send."""
        return self._has_lines

    @has_lines.setter
    def has_lines(self, has_lines: bool) -> None:
        self._has_lines = has_lines
        for limiter in self._all:
            limiter.has_lines = has_lines

    @property
    def limited_by(self) -> LimitedBy:
        """What limits the run now: what limits the endpoint with the most in flight, if it is nothing of the job's."""
        if self._is_closed:
            return LimitedBy.STOPPING
        if self.is_paused:
            return LimitedBy.PAUSED
        if self.is_outage:
            return LimitedBy.OUTAGE
        if self._has_lines and self.in_flight >= self._whole.most_in_flight:
            return LimitedBy.MAXIMUM
        return max(self._all, key=lambda limiter: limiter.in_flight).limited_by

    def limited_by_lane(self) -> dict[str, LimitedBy]:
        """What limits each endpoint now, and each model there that has limits of its own."""
        found: dict[str, LimitedBy] = {}
        for name, limiter in self.by_name.items():
            found[name] = self._limited_by_at(name, limiter)
            found |= {f"{model} at {name}": limit for model, limit in limiter.limited_by_lane().items()}
        return found

    def _limited_by_at(self, name: str, limiter: Limiter) -> LimitedBy:
        limited_by = limiter.limited_by
        if limited_by in (LimitedBy.STOPPING, LimitedBy.PAUSED) or (why := self.why_idle(name)) is None:
            return limited_by
        is_waiting = limited_by is LimitedBy.THROTTLED and why in (LimitedBy.LOWER_TIER, LimitedBy.NO_LINES)
        return limited_by if is_waiting else why

    # ----------------------------------------------------------------------------------------- steering

    def remember(self, requests: Sequence[tuple[float, float]], used_up_s: float | None = None) -> None:
        """What earlier runs sent to any endpoint; see `Promises.remember`."""
        self._whole.remember(requests, used_up_s, self._clock())

    def retune(self, limits: Limits, *, is_paused: bool) -> None:
        """Set other limits for the whole job; while it is paused, no request is sent."""
        self._whole.change(limits, self._clock(), is_paused=is_paused)
        self.pump()

    def give_up(self, now: float) -> float:
        """Close the lanes whose pause goes on beyond the longest outage; returns when to look again."""
        return min(limiter.give_up(now) for limiter in self._all)

    def close(self) -> None:
        """Send nothing more: all waiting workers get None."""
        self._is_closed = True
        self.bytes.close()
        for limiter in self._all:
            limiter.close()

    def pump(self) -> None:
        """Let through those that may send; where all wait for the same place, endpoints take turns."""
        for limiter in self._all:
            if limiter.waiting:
                break
        else:
            return  # as it is in most runs
        self._all.append(self._all.pop(0))
        for limiter in self._all:
            limiter.pump()
