"""`batchrun tune`: changes the limits of an active run by a file beside its results.

1. `batchrun tune` writes `RESULTS.tune` atomically. The run looks for it four times a second, removes it and changes
   its limits. It answers with an event `tuned` in its run log, which has the id of the request.
2. Only the owner may tune: a request that belongs to another user, or that others may write, is removed and refused.
3. A run that is still preparing reads the request when it starts to send. The changes end with the run.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, Annotated, NamedTuple

import msgspec

from batchrun import checks
from batchrun.engine.observer import Status
from batchrun.errors import StopError, UsageError
from batchrun.limits.options import Concurrency, Limits
from batchrun.limits.quotas import LEAST_PER_MINUTE
from batchrun.records.money import usd_for_a_glance
from batchrun.records.words import clock_time, printable
from batchrun.results.events import Tuned, decode_event
from batchrun.results.files import is_running
from batchrun.results.paths import ResultPaths

_LARGEST = 4096
_POLL_S = 0.05
_ASKED_OFTEN_S = 10.0


Rate = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Tuning(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request to change limits; None leaves a limit unchanged, 0 removes it. `concurrency` is written as for `-c`.

    `endpoint`: the one of several whose limits are meant; None for those of the whole job.
    """

    id: str = ""
    concurrency: str | None = None
    rpm: Rate | None = None
    tpm: Rate | None = None
    max_cost_usd: str | None = None
    paused: bool | None = None
    endpoint: str | None = None


class Tunable(NamedTuple):
    """What of a run can be tuned: its limits, its cap in US dollars (None without one), and whether it is paused."""

    limits: Limits
    max_cost_usd: Decimal | None
    is_paused: bool


def changed(
    request: Tuning, now: Tunable, fitted: Callable[[Limits], Limits] = lambda limits: limits
) -> tuple[Tunable, list[str]]:
    """What a request makes of a run, and the changes in words. `fitted` lowers limits to what the process may have.

    All is changed, or nothing: raises `UsageError` if the request is refused. Anybody may have written it.
    """
    limits, cap, is_paused = now
    changes = list[str]()
    if any(rate is not None and 0 < rate < LEAST_PER_MINUTE for rate in (request.rpm, request.tpm)):
        raise UsageError(f"--rpm and --tpm must be at least {LEAST_PER_MINUTE:g}, or off")
    if request.concurrency is not None:
        limits = fitted(replace(limits, concurrency=Concurrency.parse(request.concurrency)))
        changes.append(f"-c {limits.bounds}")
    if request.rpm is not None:
        limits = replace(limits, requests_per_minute=request.rpm or None)
        changes.append(f"--rpm {request.rpm:g}" if request.rpm else "no --rpm")
    if request.tpm is not None:
        limits = replace(limits, tokens_per_minute=request.tpm or None)
        changes.append(f"--tpm {request.tpm:g}" if request.tpm else "no --tpm")
    if request.max_cost_usd is not None:
        cap = _usd(request.max_cost_usd)
        if now.max_cost_usd is None:
            raise UsageError(_without_cap(request.endpoint))
        changes.append(f"--max-cost {cap:f}")
    if request.paused is not None:
        is_paused = request.paused
        changes.append("paused" if is_paused else "resumed")
    return Tunable(limits, cap, is_paused), changes


def _without_cap(endpoint: str | None) -> str:
    """Why there is no cap to change, and what to do for one."""
    what, way_out = "this run began without --max-cost", "run the same command with --max-cost"
    if endpoint is not None:
        what = f"endpoint {endpoint} began without max_cost_usd"
        way_out = "write it in the endpoints file, then run the same command"
    return f"{what}, so nothing is reserved for what is in flight; stop it (Ctrl-C) and {way_out}: it resumes"


def _usd(text: str) -> Decimal:
    """An amount of US dollars. Raises `UsageError`."""
    try:
        usd = Decimal(text)
    except InvalidOperation:
        usd = Decimal("NaN")
    if not usd.is_finite() or not checks.LEAST_USD <= usd <= checks.MOST_USD:
        raise UsageError(f"--max-cost {text[:40]!r} is not an amount of US dollars, such as 20 or 0.5")
    return usd


def refusal(request: Tuning, error: UsageError) -> str:
    """Why a request is refused; of several changes, that none was made."""
    parts = asked(request)
    return f"{error}; nothing was changed ({', '.join(parts)})" if len(parts) > 1 else str(error)


def answer(request_id: str, refused: str | None, now: Tunable, status: Status, endpoint: str | None = None) -> Tuned:
    """The answer to a request: what is so now, how the run is doing, and why the request was refused, if it was.

    `endpoint`: the one of several whose limits and requests these are; None: those of the whole job.
    """
    limits, cap, is_paused = now
    return Tuned(
        id=request_id,
        pid=os.getpid(),
        endpoint=endpoint,
        concurrency=str(limits.bounds),
        rpm=limits.requests_per_minute,
        tpm=limits.tokens_per_minute,
        max_cost_usd=None if cap is None else str(cap),
        paused=is_paused,
        slots=status.slots,
        in_flight=status.in_flight,
        limited_by=status.limited_by,
        total=status.total,
        done=status.done,
        failed=status.failed,
        eta_s=None if status.eta_s is None else round(status.eta_s, 1),
        cost_usd=status.cost_usd,
        projected_usd=status.projected_usd,
        limited_by_model=dict(status.limited_by_model),
        refused=refused,
    )


def take(path: Path) -> Tuning | str | None:
    """Read and remove the request at `path`: the request, or why it is refused; None if there is none."""
    try:
        if not _is_ours(path.lstat()):
            raise PermissionError
        with open(path, "rb", opener=_open_no_other) as file:
            if not _is_ours(os.fstat(file.fileno())):
                raise PermissionError
            text = file.read(_LARGEST)
        return msgspec.json.decode(text, type=Tuning)
    except FileNotFoundError:
        return None
    except PermissionError:
        return f"{path.name} can be written by other users"
    except OSError as error:
        return f"{path.name} cannot be read ({error.strerror})"
    except msgspec.DecodeError:
        return f"{path.name} is not a batchrun request"
    finally:
        with contextlib.suppress(OSError):  # a directory cannot be removed; it is reported once
            path.unlink()


def _open_no_other(path: str, flags: int) -> int:
    """Open the file itself, not the target of a symbolic link, and do not wait for the other end of a pipe."""
    return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))


def _is_ours(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    if not hasattr(os, "geteuid"):
        return True  # Windows: the permissions of the directory decide
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def ask(results: Path, tuning: Tuning, patience_s: float = _ASKED_OFTEN_S) -> Tuned:
    """Send a request to the run that writes `results`, and wait up to `patience_s` seconds for its answer.

    Raises `UsageError` if no run is active or it refuses the request, `StopError` if no answer comes in time.
    """
    paths = ResultPaths.of(results)
    nobody = UsageError(f"no run is writing {paths.results}; limits for the next one are options of `batchrun run`")
    if not is_running(paths.log):
        raise nobody
    tuning = msgspec.structs.replace(tuning, id=secrets.token_hex(8))
    try:
        log = paths.log.open("rb")
    except OSError:
        raise nobody from None
    with log:
        log.seek(0, os.SEEK_END)
        _lay_down(paths.tune, msgspec.json.encode(tuning), patience_s)
        for answer in _answers(log, paths.log, patience_s):
            if answer.id == tuning.id:
                if answer.refused is not None:
                    raise UsageError(printable(answer.refused))
                return answer
    if is_running(paths.log):
        raise StopError(
            f"no answer within {patience_s:g} s; a run that is still preparing reads it when it starts to send"
        )
    paths.tune.unlink(missing_ok=True)
    raise UsageError(f"the run that was writing {paths.results} has ended")


def asked(tuning: Tuning) -> list[str]:
    """The parts of a request, in the words of the command."""
    words = [f"--endpoint {tuning.endpoint}"] if tuning.endpoint is not None else []
    words += [f"-c {tuning.concurrency}"] if tuning.concurrency is not None else []
    for name, rate in (("--rpm", tuning.rpm), ("--tpm", tuning.tpm)):
        words += [f"{name} {rate:g}" if rate else f"{name} off"] if rate is not None else []
    words += [f"--max-cost {tuning.max_cost_usd}"] if tuning.max_cost_usd is not None else []
    return words + (["--pause" if tuning.paused else "--resume"] if tuning.paused is not None else [])


def render(tuned: Tuned) -> str:
    """The limits and the state of the run as text for people: two lines, and one for each model with its own limits."""
    limits = [f"-c {tuned.concurrency}"]
    limits += [f"--rpm {tuned.rpm:g}"] if tuned.rpm is not None else []
    limits += [f"--tpm {tuned.tpm:g}"] if tuned.tpm is not None else []
    limits += [f"--max-cost {tuned.max_cost_usd}"] if tuned.max_cost_usd is not None else []
    models = "".join(f"{line}\n" for line in of_models(tuned))
    where = "" if tuned.endpoint is None else f", {tuned.endpoint}"
    return (
        printable(f"process {tuned.pid}{where}: {', '.join(limits)}; {doing(tuned)}") + f"\n{how_far(tuned)}\n{models}"
    )


def doing(tuned: Tuned) -> str:
    """What the run does now, and what limits it."""
    state = f"{tuned.in_flight:,} of {tuned.slots:,} in flight, limited by {tuned.limited_by.replace('_', ' ')}"
    if tuned.paused:
        state = f"paused, {tuned.in_flight:,} still in flight; --resume continues"
    return printable(state)


def of_models(tuned: Tuned) -> list[str]:
    """What limits each model that has limits of its own."""
    return [
        printable(f"{model}: limited by {limit.replace('_', ' ')}") for model, limit in tuned.limited_by_model.items()
    ]


def how_far(tuned: Tuned) -> str:
    """How far the run is: the figures of its bar."""
    facts = [f"{tuned.done:,}/{tuned.total:,} done ({100 * tuned.done // max(1, tuned.total)}%)"]
    facts += [f"ETA {clock_time(tuned.eta_s)}"] if tuned.eta_s is not None else []
    facts.append(f"{tuned.failed:,} failed")
    if tuned.cost_usd:
        facts.append(f"${usd_for_a_glance(tuned.cost_usd)} of ~${usd_for_a_glance(tuned.projected_usd)}")
    return ", ".join(facts)


def _lay_down(path: Path, data: bytes, patience_s: float) -> None:
    """Write a request atomically, once the run has removed the one before."""
    give_up = time.monotonic() + patience_s
    temporary = path.with_name(f".{secrets.token_hex(8)}.tune")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        while True:
            try:
                os.link(temporary, path)
                return
            except FileExistsError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(_POLL_S)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _answers(log: IO[bytes], path: Path, patience_s: float) -> Iterator[Tuned]:
    """The answers in a log, as they arrive, until `patience_s` seconds have passed or the run has ended."""
    give_up, torn = time.monotonic() + patience_s, b""
    while True:
        is_over = time.monotonic() > give_up or not is_running(path)
        *lines, torn = (torn + log.read()).split(b"\n")
        for line in lines:
            if isinstance(event := decode_event(line), Tuned):
                yield event
        if is_over:
            return
        time.sleep(_POLL_S)
