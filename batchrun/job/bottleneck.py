"""What limits a run, over time. Pure; the clocks are passed in."""

from __future__ import annotations

from collections.abc import Callable

from batchrun.limits.fleet import Fleet
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.limiter import Limiter
from batchrun.results.events import Limited

LOG_EVERY_S = 1.0
BUSY = 0.9  # of one core
# Limits that a busy processor does not explain: a faster client would not send more.
_OUTSIDE = frozenset(
    {
        LimitedBy.THROTTLED,
        LimitedBy.OWN_REQUESTS,
        LimitedBy.OWN_TOKENS,
        LimitedBy.OUTAGE,
        LimitedBy.BUDGET,
        LimitedBy.MEMORY,
        LimitedBy.PAUSED,
        LimitedBy.TAIL,
        LimitedBy.SHUT,
        LimitedBy.LOWER_TIER,
        LimitedBy.NO_LINES,
        LimitedBy.SHARDS,
        LimitedBy.STOPPING,
    }
)


class Bottleneck:
    """The seconds of a run by what limited it; `now` is what limits it at the moment.

    `models` and `models_now` have the same for each model that has limits of its own.
    """

    def __init__(self, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self.now = LimitedBy.SLOW_START
        self.seconds: dict[LimitedBy, float] = {}
        self.models_now: dict[str, LimitedBy] = {}
        self.models: dict[str, dict[LimitedBy, float]] = {}
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at, self._cpu_at = clock(), cpu_clock()
        self._logged: tuple[object, ...] = ()
        self._logged_at = float("-inf")

    def note(self, limiter: Limiter | Fleet) -> Limited | None:
        """Find out what limits the run now, and count the time since the last call for it.

        Returns an event for the run log, at most once a second and only if something has changed; else None.
        """
        at, cpu_at = self._clock(), self._cpu_clock()
        elapsed_s = at - self._at
        self.now = limiter.limited_by
        if self.now not in _OUTSIDE and cpu_at - self._cpu_at >= BUSY * elapsed_s > 0:
            self.now = LimitedBy.CLIENT
        self.seconds[self.now] = self.seconds.get(self.now, 0.0) + elapsed_s
        self.models_now = limiter.limited_by_lane()
        for model, limit in self.models_now.items():
            seconds = self.models.setdefault(model, {})
            seconds[limit] = seconds.get(limit, 0.0) + elapsed_s
        self._at, self._cpu_at = at, cpu_at
        pace_per_s = limiter.pace_per_s
        state = (self.now, self.models_now, limiter.slots, None if pace_per_s is None else float(f"{pace_per_s:.2g}"))
        if state == self._logged or at - self._logged_at < LOG_EVERY_S:
            return None
        self._logged, self._logged_at = state, at
        return Limited(
            slots=limiter.slots,
            in_flight=limiter.in_flight,
            per_s=None if pace_per_s is None else round(pace_per_s, 3),
            limited_by=self.now.value,
            limited_s=self.rounded(),
            limited_s_by_model=self.rounded_by_model(),
        )

    def rounded(self) -> dict[str, float]:
        """The seconds by what limited the run, the longest first."""
        return _rounded(self.seconds)

    def rounded_by_model(self) -> dict[str, dict[str, float]]:
        """The same for each model that has limits of its own."""
        return {model: _rounded(seconds) for model, seconds in self.models.items()}


def _rounded(seconds_by: dict[LimitedBy, float]) -> dict[str, float]:
    by_time = sorted(seconds_by.items(), key=lambda item: -item[1])
    return {limit.value: round(seconds, 2) for limit, seconds in by_time}
