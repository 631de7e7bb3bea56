"""One shard in a worker: an ordinary job on a part of the request file, which tells the coordinator how it goes.

1. The result file and its run log are locked before anything else: whoever finds them locked sends nothing. So a shard
   has one writer, whatever the cluster believes of the machine on which another one runs.
2. A shard tells how far it is a few times a second, and gets its lease. It is told to stop in the same way.
3. What comes back to the driver are values: sums, no text of requests or answers, no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from dataclasses import dataclass, field, replace
from pathlib import Path
from secrets import token_hex
from typing import Protocol

from batchrun.billing.tally import Tally
from batchrun.cluster.lease import Lease, Report
from batchrun.cluster.secrets import Secrets, with_secrets
from batchrun.cluster.tenant import Tenant
from batchrun.engine.observer import Status
from batchrun.errors import BatchrunError, LockedError, UsageError
from batchrun.job.event_loop import run_loop
from batchrun.job.job import Job
from batchrun.job.leased import Leased
from batchrun.job.prepare import Earlier, Prepared, prepare
from batchrun.job.run import Ended, Run
from batchrun.requests.part import Part
from batchrun.requests.survey import Survey
from batchrun.version import __version__

BEAT_S, LEAST_WAIT_S = 0.2, 0.01
MOST_NOTICES = 20


@dataclass(frozen=True, slots=True)
class Task:
    """What a worker is told of one shard. `job`: without its secrets; its requests and results are those of the shard.

    `input_mtime_ns`: when the request file was last changed, as far as the driver has seen.
    """

    number: int
    job: Job
    part: Part
    input_mtime_ns: int
    version: str = __version__


@dataclass(frozen=True, slots=True)
class Told:
    """What a shard tells: its status, lines for the screen (whether they are details: only for who wants to see all),
    and what its next lease depends on."""

    number: int
    status: Status | None
    notices: tuple[tuple[str, bool], ...] = ()
    report: Report | None = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a shard is told: why it stops, "" while it goes on; `at_once`: without waiting for what is in flight.

    `lease`: what it may do from now on; None: what it has, until that runs out.
    """

    stop: str = ""
    exit_code: int = 0
    at_once: bool = False
    lease: Lease | None = None


class Link(Protocol):
    """The way to the coordinator. Its methods wait for as long as that is away."""

    async def begin(self, number: int) -> tuple[Order, tuple[Secrets, ...]]:
        """Whether the shard may begin, and the secrets of its job."""

    async def tell(self, told: Told) -> Order:
        """Tell how the shard goes."""


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """How a shard ended: what `prepare` knew of it, and how its run ended. `lines`: its requests, `done`: those that
    had a record before, `to_send`: those that it was to send."""

    number: int
    lines: int
    done: int
    to_send: int
    survey: Survey
    tally: Tally
    earlier: Earlier
    ended: Ended


@dataclass(frozen=True, slots=True)
class Refused:
    """A shard was refused, or could not begin: why, with the exit code for that."""

    number: int
    why: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class Busy:
    """Another worker has the lock of the shard: `why` names it."""

    number: int
    why: str


@dataclass(frozen=True, slots=True)
class NotBegun:
    """The job had stopped before the shard began."""

    number: int


End = ShardEnd | Refused | Busy | NotBegun


@dataclass(slots=True)
class Relay:
    """The observer of a shard: keeps the latest status and the lines that are to be told."""

    status: Status | None = None
    _lines: list[tuple[str, bool]] = field(default_factory=list)

    def notice(self, text: str) -> None:
        """Keep a line for every user."""
        self._lines.append((text, False))

    def detail(self, text: str) -> None:
        """Keep a line for those who want to see all; the last few."""
        self._lines.append((text, True))
        if len(self._lines) > 2 * MOST_NOTICES:
            del self._lines[:MOST_NOTICES]

    def tick(self, status: Status) -> None:
        """Keep the status."""
        self.status = status

    def take(self) -> tuple[tuple[str, bool], ...]:
        """The lines since the last call."""
        lines, self._lines = tuple(self._lines[-MOST_NOTICES:]), []
        return lines


def run_shard(task: Task, link: Link) -> End:
    """Run one shard to its end, or until it is told to stop. Raises nothing that a user can act on."""
    try:
        with run_loop() as runner:
            return runner.run(_run(task, link))
    except LockedError as error:
        return Busy(task.number, str(error))
    except BatchrunError as error:
        return Refused(task.number, str(error), error.exit_code)


async def _run(task: Task, link: Link) -> End:
    if task.version != __version__:
        raise UsageError(f"this machine has batchrun {__version__}, the driver {task.version}; install the same on all")
    order, secrets = await link.begin(task.number)
    if order.stop:
        return NotBegun(task.number)
    job, relay = with_secrets(task.job, secrets), Relay()
    _refuse_changed(Path(str(job.requests)), task.input_mtime_ns)
    with contextlib.ExitStack() as files:
        prepared = await asyncio.to_thread(prepare, job, relay, files, None, task.part)
        ended = await _send(task.number, prepared, relay, link) if prepared.pending else Ended()
        return _end(task.number, prepared, ended)


async def _send(number: int, prepared: Prepared, relay: Relay, link: Link) -> Ended:
    """Send what is left of a shard, within its leases."""
    clock = asyncio.get_running_loop().time
    run = Run(prepared, relay, Leased.of(prepared, clock()))
    tenant = Tenant(number, token_hex(8), run, clock)
    beating = asyncio.create_task(_beat(number, run, tenant, relay, link))
    try:
        ended = await run.send()
    finally:
        beating.cancel()
        await asyncio.wait([beating])
    if beating.done() and not beating.cancelled() and (error := beating.exception()) is not None:
        raise error
    why = "" if ended.stopped is None else ended.stopped.why
    await link.tell(Told(number, relay.status, relay.take(), tenant.report(stop=why, is_done=True)))
    return ended


async def _beat(number: int, run: Run, tenant: Tenant, relay: Relay, link: Link) -> None:
    """Tell how the shard goes, a few times a second; take the lease that comes back, or stop where that is the answer.

    A beat without an answer is given up: the lease runs out, and nothing more is sent until there is another one.
    """
    loop = asyncio.get_running_loop()
    while True:
        report, sent_at = tenant.report(), loop.time()
        order = await link.tell(Told(number, relay.status, relay.take(), report))
        wait_s = BEAT_S
        if order.lease is not None:
            tenant.take(order.lease, sent_at)
            wait_s = 0.0 if order.lease.wants_all else order.lease.beat_s
        if order.stop:
            run.stop(order.stop, order.exit_code)
        if order.at_once:
            run.interrupt(signal.SIGTERM)
        await asyncio.sleep(max(LEAST_WAIT_S, sent_at + wait_s - loop.time()))


def _refuse_changed(requests: Path, mtime_ns: int) -> None:
    """Raise `UsageError` if the request file is not there, or was changed since the driver looked at it."""
    try:
        found = requests.stat().st_mtime_ns
    except OSError as error:
        raise UsageError(f"cannot read {requests} on this machine: {error.strerror}; all must see the file") from None
    if found != mtime_ns:
        raise UsageError(f"{requests} changed while running; run the same command again")


def _end(number: int, prepared: Prepared, ended: Ended) -> ShardEnd:
    assert prepared.earlier is not None, "a shard has a result file"
    return ShardEnd(
        number=number,
        lines=prepared.total,
        done=len(prepared.done),
        to_send=prepared.to_send,
        survey=prepared.survey,
        tally=prepared.tally,
        earlier=prepared.earlier,
        ended=replace(ended, budget=None),
    )
