"""All shards of a job as one: what a summary needs of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from batchrun.billing.tally import Tally
from batchrun.engine.stopping import Stopped
from batchrun.job.job import Job
from batchrun.job.prepare import Earlier
from batchrun.job.run import Ended
from batchrun.limits.budget import Budget
from batchrun.records.attempt import BilledTwice
from batchrun.records.money import NOTHING, total_usd
from batchrun.requests.survey import Survey
from batchrun.results.last_run import by_model_together, seconds_together


@dataclass(frozen=True, slots=True)
class Whole:
    """All shards together; see `job.summary.Known`."""

    job: Job
    total: int
    done: range
    to_send: int
    tally: Tally
    earlier: Earlier
    survey: Survey = field(default_factory=Survey)


def together(ends: Sequence[Ended], stopped: Stopped | None, budget: Budget | None = None) -> Ended:
    """How the runs of all shards ended. `limited_s` are the seconds of all shards."""
    return Ended(
        recorded=sum(one.recorded for one in ends),
        copied=sum(one.copied for one in ends),
        stopped=stopped,
        unanswered=tuple(attempt for one in ends for attempt in one.unanswered),
        unbilled_usd=total_usd(one.unbilled_usd for one in ends),
        passed_over=sum(one.passed_over for one in ends),
        dearest_usd=max((one.dearest_usd for one in ends), default=NOTHING),
        budget=budget,
        limited_s=seconds_together(one.limited_s for one in ends) or None,
        limited_s_by_model=by_model_together([one.limited_s_by_model for one in ends]),
        at_output_limit=sum(one.at_output_limit for one in ends),
    )


def earlier_of(all_earlier: Sequence[Earlier]) -> Earlier:
    """What earlier runs of all shards left behind."""
    return Earlier(
        billed_twice=sum((one.billed_twice for one in all_earlier), BilledTwice()),
        unbilled_usd=total_usd(one.unbilled_usd for one in all_earlier),
        limited_s=seconds_together(one.limited_s for one in all_earlier) or None,
        limited_s_by_model=by_model_together([one.limited_s_by_model for one in all_earlier]),
        without_log=frozenset(start for one in all_earlier for start in one.without_log),
        controls=tuple(control for one in all_earlier for control in one.controls),
    )
