"""`batchrun merge`: the result files of a directory as one, in the order of the requests.

1. The merged file is a result file like any other: `batchrun run` goes on with it. Its run log has the sums of all
   logs, so that its report is that of the directory; what was asked again is beside it, too.
2. It is written whole, or not at all, and never while a run writes to the directory.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.cluster.plan import Plan, read_plan
from batchrun.datasets.lookup import RecordFile, in_line_order
from batchrun.errors import ResultFileError, UsageError
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import total_usd
from batchrun.report.rebuild import Logged, read_part
from batchrun.results.events import Start, Stop, encode_events
from batchrun.results.files import is_running, sync_directory, writing_whole
from batchrun.results.last_run import by_model_together, last_start, seconds_together
from batchrun.results.parts import parts_of
from batchrun.results.paths import ResultPaths, are_one
from batchrun.version import __version__

PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Merged:
    """What was merged: how many records, of how many lines of the request file; `damaged` lines are left out."""

    records: int
    lines: int
    damaged: int


def merge(directory: Path, output: Path, *, overwrite: bool = False) -> Merged:
    """Write all records of a directory of results to one file, in the order of their lines.

    Raises `UsageError` for names that cannot be, `ResultFileError` while a run writes to the directory, or where there
    is such a file already; `OSError` if a file cannot be read or written.
    """
    plan = read_plan(directory)
    if plan is None:
        raise UsageError(f"{directory} is no directory of results of many machines")
    paths = ResultPaths.of(output)
    _refuse(directory, paths, overwrite=overwrite)
    tally, logged = Tally(PriceBook()), list[Logged]()
    records, damaged = 0, 0
    with writing_whole(paths.results) as file:
        for part in parts_of(directory):
            sums = Tally(tally.book)
            found, _ = read_part(part.results, sums)
            logged += [found] if found is not None else []
            tally.merge(sums)
            with RecordFile(part.results) as source:
                for offset in in_line_order(source):
                    file.write(source.line_at(offset) + b"\n")
                    records += 1
                damaged += source.damaged
        file.flush()
        os.fsync(file.fileno())
        _write_beside(directory, paths, plan, tally, logged)
    sync_directory(paths.results.parent)
    return Merged(records, plan.lines, damaged)


def _refuse(directory: Path, output: ResultPaths, *, overwrite: bool) -> None:
    """Refuse to merge while a run is active, or over what is there."""
    for log in (ResultPaths.of(directory).log, *(part.log for part in parts_of(directory))):
        if is_running(log):
            raise ResultFileError(f"{directory} is being written by a run; merge it once that has ended")
    if any(are_one(part.results.parent, output.results.parent) for part in parts_of(directory)[:1]):
        raise UsageError(f"{output.results} is inside {directory}; choose another -o")
    if output.results.is_dir():
        raise UsageError(f"{output.results} is a directory; choose another -o")
    there = [path for path in (output.results, output.log, output.tries) if os.path.lexists(path)]
    if there and not overwrite:
        raise ResultFileError(f"{there[0]} exists; choose another -o (or --overwrite to replace it)")
    if is_running(output.log):
        raise ResultFileError(f"{output.results} is being written by a run; choose another -o")


def _write_beside(directory: Path, paths: ResultPaths, plan: Plan, tally: Tally, logged: list[Logged]) -> None:
    """The run log and the file of earlier tries, which belong to the merged file before that is there."""
    if tries := [part.tries for part in parts_of(directory) if part.tries.exists()]:
        with writing_whole(paths.tries) as file:
            for piece in _pieces(tries):
                file.write(piece)
    else:
        paths.tries.unlink(missing_ok=True)
    with writing_whole(paths.log) as file:
        file.write(encode_events(list(_events(directory, plan, tally, logged))))


def _events(directory: Path, plan: Plan, tally: Tally, logged: list[Logged]) -> Iterator[Start | Stop]:
    """One run that stands for all: its start has the sums over those before, which it names.

    No event says when requests were sent: so a run that goes on at once takes the last minute for used up.
    """
    told = last_start(ResultPaths.of(directory).log) or Start()
    last = [one.last_run for one in logged]
    yield Start(
        t=0.0,
        version=__version__,
        pid=os.getpid(),
        started="merged",
        requests=told.requests or plan.input,
        input_bytes=plan.size_bytes,
        lines=plan.lines,
        pending=max(0, plan.lines - tally.recorded),
        possibly_billed_twice=sum((one.billed_twice for one in logged), BilledTwice()),
        unbilled_usd=total_usd(one.unbilled_usd for one in logged),
        without_log=sorted({start for one in last for start in one.starts}),
        controls=[control for one in last for control in one.controls],
        records=tally.recorded,
        records_usd=tally.cost_of_records_usd(),
        limited_s=seconds_together(one.limited_s for one in last) or None,
        limited_s_by_model=by_model_together([one.limited_s_by_model for one in last]),
        options=told.options,
        base_url=told.base_url,
        endpoints=told.endpoints,
    )
    yield Stop(t=0.0, why="merged", limited_s=None)


def _pieces(paths: list[Path]) -> Iterator[bytes]:
    for path in paths:
        with contextlib.closing(path.open("rb")) as file:
            while piece := file.read(PIECE_BYTES):
                yield piece
