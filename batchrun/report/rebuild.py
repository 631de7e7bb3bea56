"""The report of a result file, made again from the file and the run log beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from msgspec import structs

from batchrun.billing.exposure import bound
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import Tally
from batchrun.records.money import total_usd
from batchrun.report.report import Report, make_report
from batchrun.results.last_run import LastRun
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
    """Make the report of the result file `results` with these prices; `books` has those of endpoints, by name.

    Raises `UsageError` if the file has lines and none is a record, `ResultFileError` if a record has another version,
    `OSError` if the file cannot be read.
    """
    paths = ResultPaths.of(results)
    last_run = LastRun.read(paths.log)
    tries = open_tries(paths, last_run.settle_try) if last_run is not None else open_tries(paths)
    tally, damaged = Tally(prices, books), 0
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
    report = make_report(tally)
    return Rebuilt(report if last_run is None else _with_log(report, tally, last_run), damaged, tally)


def _with_log(report: Report, tally: Tally, last_run: LastRun) -> Report:
    """Add the figures that only the run log has."""
    _, gone_usd = last_run.gone(tally.recorded, tally.cost_of_records_usd())
    left_in_flight = bound(last_run.in_flight, tally.book, tally.longest_answer, tally.books)
    return structs.replace(
        report,
        possibly_billed_twice=last_run.billed_before + left_in_flight,
        unbilled_usd=total_usd((last_run.unbilled_usd, gone_usd)),
        limited_s=last_run.limited_s,
        limited_s_by_model=last_run.limited_s_by_model,
    )
