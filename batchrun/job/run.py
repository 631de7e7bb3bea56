"""One run of a prepared job: sends its lines and returns how the run ended.

with contextlib.ExitStack() as files:
    prepared = prepare(job, observer, files)   # nothing is sent yet; every refusal comes from here
    ended = await Run(prepared, observer).send()   # engine/runner.py sends the lines
    Summary(prepared, ended).report()
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from batchrun.billing.bounds import Bounds
from batchrun.engine.done import RunFacts
from batchrun.engine.error_limit import stops_fresh_job
from batchrun.engine.gateways import Destination
from batchrun.engine.observer import Guarded, Observer
from batchrun.engine.reask import Reask
from batchrun.engine.runner import Runner
from batchrun.engine.source import FileSource, LineSource
from batchrun.engine.spending import Spending
from batchrun.engine.stopping import Stopped
from batchrun.engine.work import Rules, Work
from batchrun.errors import DiskError
from batchrun.job.control import smallest_success
from batchrun.job.copying import Copying
from batchrun.job.endpoints import NamedEndpoint, lowest_tier
from batchrun.job.handout import HandingStore, PacedSource
from batchrun.job.leased import Leased, sent_before, spent_usd, spent_usd_at
from batchrun.job.monitor import Monitor
from batchrun.job.plan import Skipped
from batchrun.job.prepare import Prepared
from batchrun.limits.budget import CAUTION, Budget
from batchrun.limits.open_files import within_open_files
from batchrun.limits.options import Limits
from batchrun.records.attempt import InFlight
from batchrun.records.money import NOTHING
from batchrun.requests.overrides import as_options
from batchrun.requests.selection import Unwanted, first
from batchrun.results.events import Start, Stop
from batchrun.results.store import ResultStore
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.protocol import Transport
from batchrun.validation.schema import MismatchCheck
from batchrun.version import __version__

if TYPE_CHECKING:
    from batchrun.transport.http import HttpTransport


@dataclass(frozen=True, slots=True)
class Ended:
    """How a run ended. The defaults are those of a run that had nothing to send.

    `recorded`: how many lines got their record, and `copied` how many of them without a request. `stopped`: why
    the run ended early; None if it did not. `unanswered`: the attempts whose outcome is unknown. `unbilled_usd`: what
    may have been spent and is on no bill, in US dollars. `passed_over`: how many lines `budget` had no room for; the
    dearest of them may cost `dearest_usd`. `limited_s`: the seconds of the run by what limited it, and
    `limited_s_by_model` those of models with limits of their own. `at_output_limit`: successes with exactly the output
    tokens allowed.
    """

    recorded: int = 0
    copied: int = 0
    stopped: Stopped | None = None
    unanswered: tuple[InFlight, ...] = ()
    unbilled_usd: Decimal = NOTHING
    passed_over: int = 0
    dearest_usd: Decimal = NOTHING
    budget: Budget | None = None
    limited_s: dict[str, float] | None = None
    limited_s_by_model: dict[str, dict[str, float]] = field(default_factory=dict)
    at_output_limit: int = 0


class Run:
    """Sends every line of a prepared job that is not done. `interrupt` may be called at any time.

    `leased`: the limits of one shard of a larger job, in place of the job's own.
    """

    def __init__(self, prepared: Prepared, observer: Observer, leased: Leased | None = None) -> None:
        self.leased = leased
        self._prepared = prepared
        self._observer = Guarded(observer)
        self._runner: Runner | None = None
        self._copying: Copying | None = None
        self._interrupted: signal.Signals | None = None
        self._asked_to_stop: Stopped | None = None

    def interrupt(self, number: signal.Signals) -> None:
        """Pass a signal on: the first one drains, the second one ends the run at once."""
        if self._copying is not None and (self._copying.is_active or self._interrupted is not None):
            self._copying.stop()
        self._interrupted = self._interrupted or number
        if self._runner is not None:
            self._runner.interrupt(number)

    def stop(self, why: str, exit_code: int) -> None:
        """Send nothing more; what is in flight may finish within the grace time."""
        self._asked_to_stop = self._asked_to_stop or Stopped(why, exit_code)
        if self._copying is not None and self._copying.is_active:
            self._copying.stop()
        if self._runner is not None:
            self._runner.stop(why, exit_code)

    @property
    def left(self) -> int:
        """How many lines are not done, those in flight included."""
        return self._prepared.to_send - (0 if self._runner is None else self._runner.recorded)

    @property
    def is_outage(self) -> bool:
        """Whether nothing but probes can be sent."""
        return self._runner is not None and self._runner.limiter.is_outage

    async def send(self) -> Ended:
        """Send every line that is not done. Returns when all are done, or when the run has stopped.

        Raises `DiskError` if the start of the run cannot be logged; a later disk error stops the run.
        """
        prepared, job = self._prepared, self._prepared.job
        if not prepared.pending:
            return Ended()
        spending = Spending(prepared.bounds, self._budget(), self._observer.notice)
        started = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        prepared.store.log.write(_start_event(prepared, started))
        async with contextlib.AsyncExitStack() as stack:
            if job.endpoints:
                work = _work(prepared, started, None)
                transport: Transport | list[Destination] = await self._destinations(stack, spending)
            else:
                endpoint = await self._reachable_endpoint(stack)
                work = _work(prepared, started, endpoint)
                transport = await stack.enter_async_context(self._transport(endpoint))
            copying = self._copying = Copying(prepared, work.store, work.facts)
            limits = self._fitted(job.limits)
            if self.leased is not None:
                self.leased.promises.most_here = limits.bounds.most
            rules = Rules(
                limits=limits,
                retry=job.retry,
                spending=spending,
                grace_s=job.grace_s,
                error_limit=prepared.error_limit if self.leased is None else self.leased.errors,
                stops_fresh_job=stops_fresh_job(job.max_errors),
                schema_check=prepared.schema_check,
                reask=self._reask(),
                leased=None if self.leased is None else self.leased.promises,
            )
            runner = self._runner = Runner(work, rules, transport, self._observer)
            self._remember(runner)
            if self._interrupted is not None:
                runner.interrupt(self._interrupted)
            if self._asked_to_stop is not None:
                runner.stop(self._asked_to_stop.why, self._asked_to_stop.exit_code)
            monitor = Monitor(prepared, runner, copying, self._observer, self._fitted)
            async with asyncio.TaskGroup() as group:
                watching = group.create_task(monitor.run())
                await copying.reuse()
                await copying.copy_early()
                if copying.stopped is not None:  # a full disk, for example: then no answer can be kept
                    runner.stop(copying.stopped.why, copying.stopped.exit_code)
                if prepared.to_send:
                    await runner.run()
                await copying.copy()
                watching.cancel()
        return self._finish(runner, copying, monitor, spending)

    def _reask(self) -> Reask | None:
        """What asks lines again; None where no line is asked again, and none was to be by an earlier run."""
        prepared, job, notice = self._prepared, self._prepared.job, self._observer.notice
        if not job.reask and not prepared.open_tries:
            return None
        return Reask(
            job.reask, job.max_reasks, prepared.schema_check or MismatchCheck(notice), prepared.open_tries, notice
        )

    def _remember(self, runner: Runner) -> None:
        """Count what earlier runs sent within the last minute for the limits of this one."""
        if self.leased is None:  # else its coordinator counts them
            runner.limiter.remember(*sent_before(self._prepared))

    def _finish(self, runner: Runner, copying: Copying, monitor: Monitor, spending: Spending) -> Ended:
        """Make the records durable and log the end of the run; a disk error here only stops the run."""
        monitor.look()
        store = self._prepared.store
        if copying.stopped is not None:
            runner.stop(copying.stopped.why, copying.stopped.exit_code)
        try:
            store.sync()
        except DiskError as error:
            runner.stop(str(error), error.exit_code)
        limited_s, by_model = monitor.bottleneck.rounded(), monitor.bottleneck.rounded_by_model()
        with contextlib.suppress(DiskError):  # without this event the next run reports that this one died, no more
            why = runner.stopped.why if runner.stopped else "done"
            stop = Stop(
                why=why,
                numbers=runner.newly_recorded(),
                records_usd=self._prepared.tally.cost_of_records_usd(),
                limited_s=limited_s,
                limited_s_by_model=by_model,
            )
            store.log.write(stop)
        return Ended(
            recorded=runner.recorded + copying.recorded,
            copied=copying.recorded,
            stopped=runner.stopped,
            unanswered=tuple(runner.unanswered.values()),
            unbilled_usd=spending.unbilled_usd,
            passed_over=runner.passed_over,
            dearest_usd=runner.dearest_usd,
            budget=runner.limiter.budget,
            limited_s=limited_s,
            limited_s_by_model=by_model,
            at_output_limit=runner.at_output_limit,
        )

    def _budget(self) -> Budget | None:
        """The budget: the cap, and all that earlier runs of this result file have spent or may have spent."""
        prepared = self._prepared
        if self.leased is not None:
            return self.leased.promises.leased_budget
        cap, earlier = prepared.job.max_cost_usd, prepared.earlier
        if cap is None:
            return None
        if earlier is not None and (vague := earlier.billed_twice.unknown_lines + earlier.billed_twice.estimated_lines):
            self._observer.notice(
                f"--max-cost does not cover {vague:,} lines that earlier runs left in flight without it"
            )
        return Budget(cap, spent_usd(prepared, prepared.tally.cost_usd()), CAUTION)

    def _own_budget(self, endpoint: NamedEndpoint) -> Budget | None:
        """The budget of one endpoint."""
        if endpoint.max_cost_usd is None:
            return None
        return Budget(endpoint.max_cost_usd, spent_usd_at(self._prepared, endpoint.name), CAUTION)

    def _fitted(self, limits: Limits) -> Limits:
        """The limits, lowered to the number of files that this process may open."""
        ends = 1 if self._prepared.job.simulate is None else 2  # a simulated gateway has its ends in this process, too
        return within_open_files(limits, self._prepared.pending, ends, self._observer.notice)

    def _transport(self, endpoint: Endpoint, **options: Any) -> HttpTransport:
        from batchrun.transport.http import (
            HttpTransport,  # with aiohttp, which a job with nothing to send does not need
        )

        job = self._prepared.job
        return HttpTransport(endpoint, job.timeouts, job.max_response_bytes, self._observer.notice, **options)

    async def _destinations(self, stack: contextlib.AsyncExitStack, spending: Spending) -> list[Destination]:
        """The endpoints of the job, each with an open client. Each redacts the keys of all."""
        prepared, job = self._prepared, self._prepared.job
        secrets = [secret for one in job.endpoints for secret in one.endpoint.secrets]
        destinations = []
        for one in job.endpoints:
            client = self._transport(one.endpoint, rename=one.rename, secrets=secrets)
            bounds = Bounds(prepared.tally.book_of(one.name), job.max_line_cost_usd)
            totals = prepared.tally.by_endpoint.get(one.name)
            destinations.append(
                Destination(
                    name=one.name,
                    transport=await stack.enter_async_context(client),
                    address=one.endpoint.url("/v1/responses"),
                    spending=spending.beside(one.name, bounds, self._own_budget(one)),
                    limits=replace(one.limits, max_outage_s=job.limits.max_outage_s),
                    weight=one.weight,
                    tier=one.tier,
                    serves=one.serves,
                    has_succeeded=totals is not None and totals.outcomes["succeeded"] > 0,
                )
            )
        return destinations

    async def _reachable_endpoint(self, stack: contextlib.AsyncExitStack) -> Endpoint:
        gateway = self._prepared.simulated
        if gateway is None:
            assert self._prepared.job.endpoint is not None, "a job has one endpoint, or several"
            return self._prepared.job.endpoint
        return Endpoint((await stack.enter_async_context(gateway)).base_url)


def _work(prepared: Prepared, started: str, endpoint: Endpoint | None) -> Work:
    """What the runner works on; `endpoint` is None where there are several."""
    unwanted, requests = Skipped(Unwanted(prepared.done, prepared.sample), prepared.plan), prepared.requests
    lines = requests.requests(unwanted, start=prepared.done.first_gap())
    gateway = "" if endpoint is None else "simulated" if prepared.job.simulate else endpoint.host
    hosts = {one.name: one.endpoint.host for one in prepared.job.endpoints}
    source: LineSource = FileSource(
        first(lines, None if prepared.job.limit is None else prepared.to_send),
        lambda without, start: requests.again().requests(without, start),
    )
    store: ResultStore = prepared.store
    handout = prepared.handout
    if handout is not None:
        source, store = PacedSource(source, handout), HandingStore(store, handout)
    return Work(
        source=source,
        store=store,
        tally=prepared.tally,
        facts=RunFacts(started, requests.total_lines, gateway, hosts),
        address="" if endpoint is None else endpoint.url("/v1/responses"),
        kinds=len(requests.survey.models) * len(requests.survey.endpoints),
        queues=_most_queues(prepared),
        is_sticky=prepared.job.sticky is not None,
        has_succeeded=prepared.tally.sent > prepared.tally.sent_failed,
        find_control=lambda path, model: smallest_success(prepared, path, model),
    )


def _most_queues(prepared: Prepared) -> int:
    """How many triples of path, model and endpoint that they belong to the lines may have."""
    survey, job = prepared.requests.survey, prepared.job
    belong = len(survey.models)
    if job.sticky is not None:
        belong = sum(len(lowest_tier(job.endpoints, model)) for model in survey.models)
    named = len(survey.named) if job.endpoints else 0
    return len(survey.endpoints) * (belong + named)


def _start_event(prepared: Prepared, started: str) -> Start:
    job, earlier = prepared.job, prepared.earlier
    return Start(
        version=__version__,
        pid=os.getpid(),
        started=started,
        requests=prepared.requests.name,
        input_bytes=prepared.requests.size_bytes,
        lines=prepared.total,
        pending=prepared.pending,
        possibly_billed_twice=earlier.billed_twice if earlier is not None else None,
        unbilled_usd=earlier.unbilled_usd if earlier is not None else NOTHING,
        unbilled_by_endpoint=dict(earlier.unbilled_by_endpoint) if earlier is not None else {},
        without_log=sorted(earlier.without_log) if earlier is not None else [],
        records=prepared.tally.recorded,
        records_usd=prepared.tally.cost_of_records_usd(),
        options=as_options(job.overrides),
        controls=list(earlier.controls) if earlier is not None else [],
        limited_s=earlier.limited_s if earlier is not None else None,
        limited_s_by_model=earlier.limited_s_by_model if earlier is not None else {},
        max_cost_usd=job.max_cost_usd,
        base_url="simulated" if job.simulate else "" if job.endpoint is None else job.endpoint.base_url,
        endpoints={one.name: one.endpoint.base_url for one in job.endpoints},
        concurrency=str(job.limits.bounds),
        rpm=job.limits.requests_per_minute,
        tpm=job.limits.tokens_per_minute,
    )
