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
from batchrun.results.runlog import RunLog


class Limited:
    """The limits of a job as they are now: `promised`, and whether it `is_paused`."""

    def __init__(self, promised: Promised) -> None:
        self.promised = promised
        self.is_paused = False
        self._answer: tuple[str, str | None] | None = None

    @property
    def _now(self) -> tune.Tunable:
        return tune.Tunable(self.promised.limits, self.promised.max_cost_usd, self.is_paused)

    def heed(self, request_file: Path, log: RunLog, status: Status, notice: Callable[[str], None]) -> None:
        """Do what `batchrun tune` asks for, and answer one look later, when the answer shows the effect."""
        if self._answer is not None:
            with contextlib.suppress(DiskError):
                log.write(tune.answer(*self._answer, self._now, status))
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
            refused = tune.refusal(request, error)
        self._answer = (request.id, refused)

    def _change(self, request: tune.Tuning) -> list[str]:
        """Make all changes of a request, or none; returns them in words. Raises `UsageError` if it is refused."""
        limits = self.promised.limits
        if request.endpoint is not None:
            raise UsageError("limits of one endpoint cannot be changed on a cluster")
        for option, rate, now in (
            ("--rpm", request.rpm, limits.requests_per_minute),
            ("--tpm", request.tpm, limits.tokens_per_minute),
        ):
            if rate is not None and now is None:  # its shards count nothing that could be limited
                raise UsageError(f"this run began without {option}; stop it, and run it again with that")
        tuned, changes = tune.changed(request, self._now)
        self.promised = replace(self.promised, limits=tuned.limits, max_cost_usd=tuned.max_cost_usd)
        self.is_paused = tuned.is_paused
        return changes
