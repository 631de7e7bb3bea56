"""`batchrun tune` on a directory: the limits of the whole job, changed while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from batchrun.cluster.coordinator import Promised
from batchrun.engine.observer import Status
from batchrun.errors import DiskError, UsageError
from batchrun.job import tune
from batchrun.job.monitor import cap_usd, tuned
from batchrun.limits.options import Concurrency
from batchrun.limits.quotas import LEAST_PER_MINUTE
from batchrun.results.runlog import RunLog


class Limited:
    """The limits of a job as they are now: `promised`, and whether it `is_paused`."""

    def __init__(self, promised: Promised) -> None:
        self.promised = promised
        self.is_paused = False
        self._answer: tuple[str, str | None] | None = None

    def heed(self, request_file: Path, log: RunLog, status: Status, notice: Callable[[str], None]) -> None:
        """Do what `batchrun tune` asks for, and answer one look later, when the answer shows the effect."""
        if self._answer is not None:
            with contextlib.suppress(DiskError):
                limits, cap = self.promised.limits, self.promised.max_cost_usd
                log.write(tuned(*self._answer, limits, cap, status, is_paused=self.is_paused))
            self._answer = None
        if (request := tune.take(request_file)) is None:
            return
        if isinstance(request, str):
            notice(f"a request to tune this run is refused: {request}")
            return
        refused = None
        try:
            if changes := self._change(request):
                notice(f"tuned: {', '.join(changes)}")
        except UsageError as error:
            refused = str(error)
        self._answer = (request.id, refused)

    def _change(self, request: tune.Tuning) -> list[str]:
        """Make all changes of a request, or none; returns them in words. Raises `UsageError` if it is refused."""
        promised, limits, is_paused, changes = self.promised, self.promised.limits, self.is_paused, list[str]()
        if request.endpoint is not None:
            raise UsageError("limits of one endpoint cannot be changed on a cluster")
        for option, rate, now in (
            ("--rpm", request.rpm, limits.requests_per_minute),
            ("--tpm", request.tpm, limits.tokens_per_minute),
        ):
            if rate is None:
                continue
            if now is None:
                raise UsageError(f"this run began without {option}; stop it, and run it again with that")
            if 0 < rate < LEAST_PER_MINUTE:
                raise UsageError(f"{option} must be at least {LEAST_PER_MINUTE:g}, or off")
            if option == "--rpm":
                limits = replace(limits, requests_per_minute=rate or None)
            else:
                limits = replace(limits, tokens_per_minute=rate or None)
            changes.append(f"{option} {rate:g}" if rate else f"no {option}")
        if request.concurrency is not None:
            limits = replace(limits, concurrency=Concurrency.parse(request.concurrency))
            changes.append(f"-c {limits.bounds}")
        if (cap := cap_usd(request.max_cost_usd)) is not None:
            if promised.max_cost_usd is None:
                raise UsageError("this run began without --max-cost; stop it, and run it again with that")
            promised = replace(promised, max_cost_usd=cap)
            changes.append(f"--max-cost {cap:f}")
        if request.paused is not None:
            is_paused = request.paused
            changes.append("paused" if is_paused else "resumed")
        self.promised, self.is_paused = replace(promised, limits=limits), is_paused
        return changes
