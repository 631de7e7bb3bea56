"""What takes the place of a job's own limits where it is one shard of a larger one: they are those of its lease."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from batchrun.engine.error_limit import LeasedErrorLimit
from batchrun.job.prepare import Prepared
from batchrun.limits.leased import LeasedBudget, LeasedPromises
from batchrun.records.money import total_usd


@dataclass(frozen=True, slots=True)
class Leased:
    """The limits of a shard: nothing is sent before `promises` has a part. `errors`: None without `--max-errors`."""

    promises: LeasedPromises
    errors: LeasedErrorLimit | None

    @classmethod
    def of(cls, prepared: Prepared, now: float) -> Leased:
        """Those of a prepared shard, by its files; `now` is the time of the event loop that will run it."""
        job = prepared.job
        budget = None
        if job.max_cost_usd is not None:
            budget = LeasedBudget(job.max_cost_usd, spent_usd(prepared, prepared.tally.cost_usd()))
        promises = LeasedPromises(job.limits, now, budget)
        promises.remember(*sent_before(prepared), now)
        return cls(promises, LeasedErrorLimit(job.max_errors) if job.max_errors is not None else None)


def sent_before(prepared: Prepared) -> tuple[Sequence[tuple[float, float]], float | None]:
    """What earlier runs of the result file sent within the last minute, as for `Promises.remember`."""
    tally, recent = prepared.tally, prepared.store.log.last_run.recent
    lines, at = max(1, tally.sent), time.time()
    earlier = recent.earlier(at, time.monotonic(), tally.output_tokens / lines, tally.tokens / lines)
    return [(request.age_s, request.tokens) for request in earlier], recent.lost_age_s(at)


def spent_usd(prepared: Prepared, billed_usd: Decimal) -> Decimal:
    """What is billed, and what earlier runs of the result file may have spent beyond it, in US dollars."""
    earlier = prepared.earlier
    if earlier is None:
        return billed_usd
    return total_usd((billed_usd, earlier.billed_twice.upper_usd, earlier.unbilled_usd))
