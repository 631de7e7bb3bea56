"""The summary of a run: its exit code, its report, and what to run next."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass, replace
from decimal import ROUND_UP, Decimal
from typing import Protocol

import msgspec

from batchrun.billing.exposure import bound
from batchrun.billing.tally import Tally
from batchrun.engine.stopping import Stopped
from batchrun.job.job import Job
from batchrun.job.prepare import Earlier
from batchrun.job.run import Ended
from batchrun.records.money import total_usd, usd
from batchrun.report.report import Report, make_report
from batchrun.requests.survey import Survey
from batchrun.results.last_run import by_model_together, seconds_together


class Known(Protocol):
    """What a summary needs of a job: it is one that was `prepared`, or all shards of one together."""

    @property
    def job(self) -> Job:
        """The job."""

    @property
    def survey(self) -> Survey:
        """What the check of its requests found."""

    @property
    def tally(self) -> Tally:
        """All its records."""

    @property
    def earlier(self) -> Earlier | None:
        """What earlier runs left behind."""

    @property
    def done(self) -> Sized:
        """The lines that had a record before."""

    @property
    def total(self) -> int:
        """The number of its lines."""

    @property
    def to_send(self) -> int:
        """How many lines this run was to send."""


@dataclass(frozen=True, slots=True)
class Summary:
    """A job after its run: what was prepared, and how the run ended."""

    prepared: Known
    ended: Ended

    @property
    def left(self) -> int:
        """The number of lines of the request file without a record."""
        return self.prepared.total - len(self.prepared.done) - self.ended.recorded

    @property
    def _chosen_left(self) -> int:
        """The number of lines that this run was to send and did not."""
        return self.prepared.to_send - (self.ended.recorded - self.ended.copied)

    @property
    def stopped(self) -> Stopped | None:
        """Why the run ended early; None if it did not."""
        stopped = self.ended.stopped
        if stopped is None or not self.ended.passed_over:
            return stopped
        likely_usd = self._likely_usd_left
        price = f"about ${usd(likely_usd)} at the average so far" if likely_usd else "an unknown amount"
        return replace(stopped, why=f"{stopped.why}; {self._chosen_left:,} lines are left and would cost {price}")

    @property
    def exit_code(self) -> int:
        """0 if every line succeeded, 1 if some failed, else the code for why the run stopped.

        `docs/formats.md` lists the exit codes.
        """
        if self.stopped is not None:
            return self.stopped.exit_code
        return 1 if self.prepared.tally.failed else 0

    @property
    def enough_usd(self) -> Decimal | None:
        """A `max_cost_usd` that is likely to suffice for the rest; None unless the present one stopped the run."""
        budget = self.ended.budget
        if budget is None or not self.ended.passed_over or not budget.is_short(self.ended.dearest_usd):
            return None
        likely = total_usd((budget.spent, self._likely_usd_left or budget.cap)) * Decimal("1.2")
        enough = max(likely, 2 * budget.cap, total_usd((budget.spent, budget.with_margin(self.ended.dearest_usd))))
        return enough.quantize(Decimal(1).scaleb(enough.adjusted() - 1), ROUND_UP)

    @property
    def _likely_usd_left(self) -> Decimal | None:
        """What the lines that are left will cost at the mean cost so far, in US dollars; None without a record."""
        tally = self.prepared.tally
        return self._chosen_left * tally.cost_of_records_usd() / tally.sent if tally.sent else None

    def report(self, next_command: str | None = None, next_change: str | None = None) -> Report:
        """The report of the whole result file. It says what is next only if a line is pending or failed."""
        tally, earlier = self.prepared.tally, self.prepared.earlier
        report = make_report(tally, self.left)
        stopped, is_left = self.stopped, report.lines.pending or report.lines.failed
        report = msgspec.structs.replace(
            report,
            limited_s=self.ended.limited_s,
            limited_s_by_model=self.ended.limited_s_by_model,
            at_output_limit=self.ended.at_output_limit or None,
            stopped=stopped.why if stopped else None,
            next_change=next_change if is_left else None,
            next_command=next_command if is_left else None,
        )
        if earlier is None:
            return report
        lost = bound(self.ended.unanswered, tally.book, tally.longest_answer, tally.books)
        return msgspec.structs.replace(
            report,
            possibly_billed_twice=earlier.billed_twice + lost,
            unbilled_usd=total_usd((earlier.unbilled_usd, self.ended.unbilled_usd)),
            limited_s=seconds_together([earlier.limited_s, report.limited_s]) or None,
            limited_s_by_model=by_model_together([earlier.limited_s_by_model, report.limited_s_by_model]),
        )
