"""What goes on beside the lines while a job runs: what holds it back, the screen, and what `batchrun tune` wants.

All of it happens in `Monitor.tick`, four times a second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import msgspec

from batchrun.engine.observer import Stopped
from batchrun.errors import UsageError
from batchrun.job import tune
from batchrun.job.bottleneck import Bottleneck, LogEvent
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Concurrency, Limits
from batchrun.limits.quotas import LEAST_PER_MINUTE


class Monitor:
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
        self.bottleneck = Bottleneck(log_event, time.monotonic, time.process_time)
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
        self.bottleneck.note(self._limiter)
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
            limited_by=self.bottleneck.now.value,
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
