"""What goes on beside the lines while a job runs: what holds it back, the screen, and what `batchrun tune` wants.

All of it happens in `Live.tick`, four times a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Protocol

import msgspec

from batchrun.engine.runner import Stopped, Watcher
from batchrun.errors import UsageError
from batchrun.job import tune
from batchrun.limits.concurrency import Bound, Concurrency
from batchrun.limits.limiter import Limiter, Limits
from batchrun.limits.quotas import LEAST_PER_MINUTE
from batchrun.transport.http import open_files_for

LOG_EVERY_S = 1.0
BUSY = 0.9  # of one core
# What a busy processor does not explain: nothing more would go, however fast this process were.
_OUTSIDE = frozenset(
    {
        Bound.THROTTLED,
        Bound.OWN_REQUESTS,
        Bound.OWN_TOKENS,
        Bound.OUTAGE,
        Bound.BUDGET,
        Bound.PAUSED,
        Bound.LINES,
        Bound.STOPPING,
    }
)

LogEvent = Callable[..., None]


@dataclass(frozen=True, slots=True)
class Status:
    """How far a run is. `done`, `failed` and the costs cover the whole file, what ends in `_now` this run alone.

    `slots` is how many may be in flight, `held_by` what holds the run back (README: what held it back).
    """

    total: int
    done: int
    failed: int
    in_flight: int
    slots: int
    held_by: str
    cost_usd: Decimal
    projected_usd: Decimal
    recorded_now: int
    tokens_now: int
    elapsed_s: float


class Observer(Watcher, Protocol):
    """Who watches a run. Called from the event loop; must return at once."""

    def tick(self, status: Status) -> None:
        """Time to draw: called four times a second, and once at the end."""


class Silent:
    """An observer that looks away."""

    def notice(self, text: str) -> None:
        """Ignore it."""

    def detail(self, text: str) -> None:
        """Ignore it."""

    def tick(self, status: Status) -> None:
        """Ignore it."""


class HeldBack:
    """Seconds of this run by what held it back; tells the run log of the limits as they change."""

    def __init__(self, log_event: LogEvent, clock: Callable[[], float], cpu_clock: Callable[[], float]) -> None:
        self.now = Bound.SLOW_START
        self.seconds: dict[Bound, float] = {}
        self._log_event = log_event
        self._clock, self._cpu_clock = clock, cpu_clock
        self._at, self._cpu_at = clock(), cpu_clock()
        self._logged: tuple[object, ...] = ()
        self._logged_at = float("-inf")

    def note(self, limiter: Limiter) -> None:
        """Look at the limits now; the time since the last look counts for what holds the run back now."""
        at, cpu_at = self._clock(), self._cpu_clock()
        elapsed_s = at - self._at
        self.now = limiter.bound_by
        if self.now not in _OUTSIDE and cpu_at - self._cpu_at >= BUSY * elapsed_s > 0:
            self.now = Bound.CLIENT
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
            "held_by": self.now.value,
            "held_s": self.rounded(),
        }

    def rounded(self) -> dict[str, float]:
        """The seconds by what held the run back, the most first."""
        by_time = sorted(self.seconds.items(), key=lambda item: -item[1])
        return {bound.value: round(seconds, 2) for bound, seconds in by_time}


def within_open_files(limits: Limits, lines: int, ends: int, notice: Callable[[str], None]) -> Limits:
    """The limits, lowered to as many connections of `ends` files each as this process may open for its lines."""
    wanted = min(limits.bounds.most, lines)
    allowed = open_files_for(ends * wanted) // ends
    if not allowed or allowed >= wanted:
        return limits
    notice(f"only {allowed:,} in flight: this process may open no more files (ulimit -n)")
    return replace(limits, concurrency=limits.bounds.at_most(allowed))


class Live:
    """A run as it goes on. `draw` shows it; `requests` is where `batchrun tune` leaves what it wants, if anywhere.

    `fitted` lowers limits to what this process can do; `wake` is called when more may be in flight than before.
    """

    def __init__(
        self,
        limiter: Limiter,
        *,
        requests: Path | None,
        fitted: Callable[[Limits], Limits],
        draw: Callable[[], None],
        wake: Callable[[], None],
        notice: Callable[[str], None],
        log_event: LogEvent,
        stopped: Callable[[], Stopped | None],
    ) -> None:
        self._stopped = stopped
        self.held_back = HeldBack(log_event, time.monotonic, time.process_time)
        self._limiter = limiter
        self._requests = requests
        self._fitted = fitted
        self._draw = draw
        self._wake = wake
        self._notice = notice
        self._log_event = log_event
        self._told = ""
        self._unanswered: tuple[str, str | None] | None = None  # the id of a request, and why it is refused

    def tick(self) -> None:
        """Four times a second."""
        self.held_back.note(self._limiter)
        if self._unanswered is not None:  # by now it shows what came of it
            self._answer(*self._unanswered)
            self._unanswered = None
        if self._requests is not None and (request := tune.take(self._requests)) is not None:
            self._tune(request)
        self._draw()

    def _tune(self, request: tune.Tuning | str) -> None:
        if isinstance(request, str):
            if request != self._told:
                self._told = request
                self._notice(f"a request to tune this run is refused: {request}")
            return
        refused = None
        try:
            changes = self._changed(request)
        except UsageError as error:
            refused = str(error)
        else:
            if changes:
                self._notice(f"tuned: {', '.join(changes)}")
        self._unanswered = (request.id, refused)

    def _answer(self, request_id: str, refused: str | None) -> None:
        limits = self._limiter.limits
        budget = self._limiter.budget
        answer = tune.Tuned(
            id=request_id,
            pid=os.getpid(),
            concurrency=str(limits.bounds),
            rpm=limits.requests_per_minute,
            tpm=limits.tokens_per_minute,
            max_cost_usd=str(budget.cap) if budget is not None else None,
            paused=self._limiter.is_paused,
            slots=self._limiter.slots,
            in_flight=self._limiter.in_flight,
            held_by=self.held_back.now.value,
            refused=refused,
        )
        self._log_event("tuned", **msgspec.to_builtins(answer))

    def _changed(self, request: tune.Tuning) -> list[str]:
        """Do as a request says, all of it or nothing; what has changed, in words. Raises `UsageError`."""
        limits, is_paused, changes = self._limiter.limits, self._limiter.is_paused, []
        if (stopped := self._stopped()) is not None and request != tune.Tuning(request.id):
            raise UsageError(f"this run is stopping: {stopped.why}")
        if any(rate is not None and 0 < rate < LEAST_PER_MINUTE for rate in (request.rpm, request.tpm)):
            raise UsageError(f"--rpm and --tpm are {LEAST_PER_MINUTE:g} at least, or off")
        if request.concurrency is not None:
            limits = self._fitted(replace(limits, concurrency=Concurrency.parse(request.concurrency)))
            changes.append(f"-c {limits.bounds}")
        if request.rpm is not None:
            limits = replace(limits, requests_per_minute=request.rpm or None)
            changes.append(f"--rpm {request.rpm:g}" if request.rpm else "no --rpm")
        if request.tpm is not None:
            limits = replace(limits, tokens_per_minute=request.tpm or None)
            changes.append(f"--tpm {request.tpm:g}" if request.tpm else "no --tpm")
        if request.max_cost_usd is not None:
            if self._limiter.budget is None:
                raise UsageError(
                    "this run began without --max-cost, so nothing is reserved for what is in flight; "
                    "stop it (Ctrl-C) and run it again with --max-cost: it goes on from where it was"
                )
            self._limiter.budget.cap = Decimal(request.max_cost_usd)
            changes.append(f"--max-cost {request.max_cost_usd}")
        if request.paused is not None:
            is_paused = request.paused
            changes.append("paused" if request.paused else "going on")
        self._limiter.retune(limits, is_paused=is_paused)
        self._wake()
        return changes
