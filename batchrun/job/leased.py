"""What takes the place of a job's own limits where it is one shard of a larger one: they are those of its lease."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from batchrun.billing.tally import Tally
from batchrun.engine.error_limit import LeasedErrorLimit
from batchrun.job.prepare import Prepared
from batchrun.limits.leased import LeasedBudget, LeasedPromises
from batchrun.records.money import NOTHING, total_usd
from batchrun.results.last_run import LastRun


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
    last_run = prepared.store.log.last_run
    earlier = recent_of(last_run, prepared.tally)
    return [(age_s, tokens) for age_s, _, tokens in earlier], last_run.recent.lost_age_s(time.time())


def recent_of(last_run: LastRun, tally: Tally) -> tuple[tuple[float, int, float], ...]:
    """What a result file's runs sent within the last minute, by its run log: (seconds ago, requests, tokens)."""
    lines, at = max(1, tally.sent), time.time()
    used = (tally.output_tokens / lines, tally.tokens / lines)
    return tuple((one.age_s, 1, one.tokens) for one in last_run.recent.earlier(at, time.monotonic(), *used))


def spent_usd(prepared: Prepared, billed_usd: Decimal) -> Decimal:
    """What is billed, and what earlier runs of the result file may have spent beyond it, in US dollars."""
    earlier = prepared.earlier
    if earlier is None:
        return billed_usd
    return total_usd((billed_usd, earlier.billed_twice.upper_usd, earlier.unbilled_usd))


def spent_usd_at(prepared: Prepared, endpoint: str) -> Decimal:
    """The same for one of several endpoints: what nobody knows the endpoint of may have been spent at each."""
    billed_usd, earlier = prepared.tally.cost_usd_at(endpoint), prepared.earlier
    if earlier is None:
        return billed_usd
    known = earlier.unbilled_by_endpoint
    unknown_usd = total_usd((earlier.billed_twice.upper_usd, earlier.unbilled_usd, -total_usd(known.values())))
    return total_usd((billed_usd, known.get(endpoint, NOTHING), max(unknown_usd, NOTHING)))
