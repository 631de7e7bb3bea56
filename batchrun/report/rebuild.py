"""The report of a result file, or of a directory of them, made again from the files and the run logs beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from msgspec import structs

from batchrun.billing.exposure import bound
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import total_usd
from batchrun.report.report import Report, make_report
from batchrun.results.files import is_running
from batchrun.results.last_run import LastRun, by_model_together, seconds_together
from batchrun.results.parts import files_of
from batchrun.results.paths import ResultPaths
from batchrun.results.scan import read_many
from batchrun.results.tries import open_tries


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A report, the number of damaged lines of the result file, which it leaves out, and the sums it is made of."""

    report: Report
    damaged_lines: int
    tally: Tally


def rebuild(results: Path, prices: PriceBook, books: Mapping[str, PriceBook] | None = None) -> Rebuilt:
    """Make the report of `results`, a result file or a directory, with these prices; `books` has those of endpoints, by
    name.

    Raises `UsageError` if the file has lines and none is a record, `ResultFileError` if a record has another version,
    `OSError` if the file cannot be read.
    """
    tally, damaged, logged = Tally(prices, books), 0, list[Logged]()
    for part in files_of(results):
        sums = Tally(prices, books)
        found, damaged_lines = read_part(part, sums)
        logged += [found] if found is not None else []
        damaged += damaged_lines
        tally.merge(sums)
    whole = LastRun.read(ResultPaths.of(results).log) if results.is_dir() else None
    report = _with_logs(make_report(tally, _pending(tally, logged, whole)), logged)
    return Rebuilt(structs.replace(report, running=_is_running(results)), damaged, tally)


class Logged(NamedTuple):
    """What only the run log of a result file has: lines that may be billed twice, US dollars on no bill."""

    last_run: LastRun
    billed_twice: BilledTwice
    unbilled_usd: Decimal


def read_part(results: Path, tally: Tally) -> tuple[Logged | None, int]:
    """Add one result file to `tally`; what its log says, None without one, and how many of its lines are damaged."""
    part = ResultPaths.of(results)
    last_run, damaged = LastRun.read(part.log), 0
    tries = open_tries(part, last_run.settle_try) if last_run is not None else open_tries(part)
    for heads, damaged_spans in read_many(results):
        damaged += len(damaged_spans)
        tally.add(heads)
        if tries is not None:
            tries.settle(heads)
        if last_run is not None and last_run.sent:
            for head in heads:
                last_run.settle(head.run.started, head.run.line)
    tally.add_controls(last_run.controls if last_run is not None else ())
    tally.add_open(tries.open().heads() if tries is not None else ())
    if last_run is None:
        return None, damaged
    _, gone_usd = last_run.gone(tally.recorded, tally.cost_of_records_usd())
    left_in_flight = bound(last_run.in_flight, tally.book, tally.longest_answer, tally.books)
    unbilled_usd = total_usd((last_run.unbilled_usd, gone_usd))
    return Logged(last_run, last_run.billed_before + left_in_flight, unbilled_usd), damaged


def _pending(tally: Tally, logged: Sequence[Logged], whole: LastRun | None) -> int | None:
    """How many lines have no record, by the log of a run that has no record yet; None where records tell it."""
    last_run = whole or (logged[0].last_run if logged else None)
    if last_run is None or not last_run.lines:
        return None
    if tally.recorded and (whole is not None or last_run.started in tally.starts):
        return None
    return max(0, last_run.lines - tally.recorded)


def _is_running(results: Path) -> bool:
    """Whether some run writes the results; not so where there are no locks to tell it."""
    logs = {ResultPaths.of(path).log for path in (results, *files_of(results))}
    return any(is_running(log, if_unknown=False) for log in logs)


def _with_logs(report: Report, logged: Sequence[Logged]) -> Report:
    """Add the figures that only run logs have."""
    if not logged:
        return report
    return structs.replace(
        report,
        possibly_billed_twice=sum((one.billed_twice for one in logged), BilledTwice()),
        unbilled_usd=total_usd(one.unbilled_usd for one in logged),
        limited_s=seconds_together(one.last_run.limited_s for one in logged) or None,
        limited_s_by_model=by_model_together([one.last_run.limited_s_by_model for one in logged]),
    )
