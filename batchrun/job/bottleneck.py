"""What limits a run, over time: seconds by what held it back, told to the run log as it changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter

LOG_EVERY_S = 1.0
BUSY = 0.9  # of one core
# What a busy processor does not explain: nothing more would go, however fast this process were.
_OUTSIDE = frozenset(
    {
        LimitedBy.THROTTLED,
        LimitedBy.OWN_REQUESTS,
        LimitedBy.OWN_TOKENS,
        LimitedBy.OUTAGE,
        LimitedBy.BUDGET,
        LimitedBy.PAUSED,
        LimitedBy.TAIL,
        LimitedBy.STOPPING,
    }
)
LogEvent = Callable[..., None]


class Bottleneck:
    """Seconds of this run by what held it back; tells the run log of the limits as they change."""

    def __init__(self, log_event: LogEvent, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self.now = LimitedBy.SLOW_START
        self.seconds: dict[LimitedBy, float] = {}
        self._log_event = log_event
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at, self._cpu_at = clock(), cpu_clock()
        self._logged: tuple[object, ...] = ()
        self._logged_at = float("-inf")

    def note(self, limiter: Limiter) -> None:
        """Look at the limits now; the time since the last look counts for what holds the run back now."""
        at, cpu_at = self._clock(), self._cpu_clock()
        elapsed_s = at - self._at
        self.now = limiter.limited_by
        if self.now not in _OUTSIDE and cpu_at - self._cpu_at >= BUSY * elapsed_s > 0:
            self.now = LimitedBy.CLIENT
        self.seconds[self.now] = self.seconds.get(self.now, 0.0) + elapsed_s
        self._at, self._cpu_at = at, cpu_at
        pace_per_s = limiter.controller.pace_per_s
        state = (self.now, limiter.slots, None if pace_per_s is None else float(f"{pace_per_s:.2g}"))
        if state != self._logged and at - self._logged_at >= LOG_EVERY_S:
            self._logged, self._logged_at = state, at
            self._log_event("limits", **self.facts(limiter))

    def facts(self, limiter: Limiter) -> dict[str, Any]:
        """The limits, what holds the run back, and for how long what did."""
        pace_per_s = limiter.controller.pace_per_s
        return {
            "slots": limiter.slots,
            "in_flight": limiter.in_flight,
            "per_s": None if pace_per_s is None else round(pace_per_s, 3),
            "limited_by": self.now.value,
            "limited_s": self.rounded(),
        }

    def rounded(self) -> dict[str, float]:
        """The seconds by what held the run back, the most first."""
        by_time = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {bound.value: round(seconds, 2) for bound, seconds in by_time}
