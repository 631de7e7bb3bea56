"""Watches a run from a task beside the runner: notes what limits it, updates the screen, obeys `batchrun tune`.

All of it happens in `Monitor.look`, four times a second. Nothing of it can end the sending: what fails is told, once.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import replace

from batchrun.engine.observer import Observer, Status
from batchrun.engine.runner import Runner
from batchrun.errors import DiskError, UsageError
from batchrun.job import tune
from batchrun.job.bottleneck import Bottleneck
from batchrun.job.copying import Copying
from batchrun.job.eta import Eta
from batchrun.job.prepare import Prepared
from batchrun.limits.fleet import Fleet
from batchrun.limits.limiter import Limiter
from batchrun.limits.options import Limits
from batchrun.results.events import Event

LOOK_EVERY_S = 0.25


class Monitor:
    """Watches a run. `fitted` lowers limits to the open files that this process may have."""

    def __init__(
        self,
        prepared: Prepared,
        runner: Runner,
        copying: Copying,
        observer: Observer,
        fitted: Callable[[Limits], Limits],
    ) -> None:
        self.bottleneck = Bottleneck(time.monotonic, time.process_time)
        self._prepared = prepared
        self._runner = runner
        self._copying = copying
        self._observer = observer
        self._fitted = fitted
        self._start = time.monotonic()
        self._eta = Eta()
        self._tokens_before = prepared.tally.tokens
        self._told, self._heeded = "", ""
        self._unanswered: tuple[tune.Tuning, str | None] | None = None  # a request, and why it is refused

    async def run(self) -> None:
        """Look four times a second, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def look(self) -> None:
        """Note what limits the run, do what `batchrun tune` asks for, and show the status. Raises nothing."""
        for step in (self._note_limits, self._heed_tuning, lambda: self._observer.tick(self.status())):
            try:
                step()
            except Exception as error:
                self._tell_once(f"{type(error).__name__} beside the sending, which goes on: {error}")

    def _note_limits(self) -> None:
        limited = self.bottleneck.note(self._runner.limiter)
        if limited is not None:
            self._log(limited)

    def _log(self, event: Event) -> None:
        """Write to the run log. A full disk does not stop the run here: the next attempt or record will."""
        with contextlib.suppress(DiskError):
            self._prepared.store.log.write(event)

    def _tell_once(self, text: str) -> None:
        if text != self._told:
            self._told = text
            self._observer.notice(text)

    def _heed_tuning(self) -> None:
        if self._unanswered is not None:  # one look later, the answer shows the effect of the change
            self._answer(*self._unanswered)
            self._unanswered = None
        paths = self._prepared.store.paths
        if paths is not None and (request := tune.take(paths.tune)) is not None:
            self._tune(request)

    def status(self) -> Status:
        """How far the run is."""
        prepared, runner, tally = self._prepared, self._runner, self._prepared.tally
        cost_usd, left = tally.cost_usd(), prepared.to_send - runner.recorded
        recorded = runner.recorded + self._copying.recorded
        elapsed_s, limited_by = time.monotonic() - self._start, self.bottleneck.now
        self._eta.note(runner.recorded, elapsed_s, limited_by)
        return Status(
            total=len(prepared.done) + prepared.pending,
            done=len(prepared.done) + recorded,
            failed=tally.failed,
            in_flight=runner.limiter.in_flight,
            slots=runner.limiter.slots,
            limited_by=limited_by.value,
            cost_usd=cost_usd,
            projected_usd=cost_usd + tally.cost_of_records_usd() * left / max(1, tally.sent),
            recorded_now=recorded,
            tokens_now=tally.tokens - self._tokens_before,
            elapsed_s=elapsed_s,
            eta_s=self._eta.left_s(left, limited_by),
            limited_by_model=self._limited_by_model(),
        )

    def _limited_by_model(self) -> dict[str, str]:
        return {model: limit.value for model, limit in self.bottleneck.models_now.items()}

    def _tune(self, request: tune.Tuning | str) -> None:
        if isinstance(request, str):
            self._tell_once(f"a request to tune this run is refused: {request}")
            return
        if request.id and request.id == self._heeded:
            return  # its file could not be removed
        self._heeded = request.id
        refused = None
        try:
            changes = self._changed(request)
        except UsageError as error:
            refused = tune.refusal(request, error)
        else:
            if changes:
                self._observer.notice(f"tuned: {', '.join(changes)}")
        self._unanswered = (request, refused)

    def _answer(self, request: tune.Tuning, refused: str | None) -> None:
        limiter, endpoint, status = self._runner.limiter, request.endpoint, self.status()
        if endpoint is not None and isinstance(limiter, Fleet) and endpoint in limiter.by_name:
            limited_by = status.limited_by_model.get(endpoint, "")
            limiter = limiter.by_name[endpoint]
            status = replace(status, in_flight=limiter.in_flight, slots=limiter.slots, limited_by=limited_by)
        else:
            endpoint = None
        cap = limiter.budget.cap if limiter.budget is not None else None
        now = tune.Tunable(limiter.limits, cap, limiter.is_paused)
        self._log(tune.answer(request.id, refused, now, status, endpoint))

    def _changed(self, request: tune.Tuning) -> list[str]:
        """Make all changes of a request, or none, and return them in words. Raises `UsageError` if it is refused."""
        limiter = self._limiter_of(request.endpoint)
        if (stopped := self._runner.stopped) is not None and request != tune.Tuning(request.id):
            raise UsageError(f"this run is stopping: {stopped.why}")
        budget = limiter.budget
        now = tune.Tunable(limiter.limits, None if budget is None else budget.cap, limiter.is_paused)
        tuned, changes = tune.changed(request, now, self._fitted)
        if budget is not None and tuned.max_cost_usd is not None:
            budget.cap = tuned.max_cost_usd
        limiter.retune(tuned.limits, is_paused=tuned.is_paused)
        self._runner.woken()
        return [f"{change} at {request.endpoint}" for change in changes] if request.endpoint is not None else changes

    def _limiter_of(self, endpoint: str | None) -> Limiter | Fleet:
        """What limits the job, or one of its endpoints. Raises `UsageError` for one that it does not have."""
        limiter = self._runner.limiter
        if endpoint is None:
            return limiter
        names = limiter.by_name if isinstance(limiter, Fleet) else {}
        if endpoint not in names:
            known = f"it has {', '.join(names)}" if names else "it has one, without a name"
            raise UsageError(f"this run has no endpoint {endpoint[:40]!r}; {known}")
        return names[endpoint]
