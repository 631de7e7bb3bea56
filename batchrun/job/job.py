"""The options of a job. `prepare.py` checks the job, `run.py` sends its lines, `summary.py` sums up the result."""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.engine.error_limit import MaxErrors
from batchrun.engine.retry import RetryPolicy
from batchrun.job.resume import Changed
from batchrun.limits.options import Limits
from batchrun.records.request import Overrides
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.http import Timeouts

if TYPE_CHECKING:
    from batchrun.simulator.options import GatewayOptions


@dataclass(frozen=True, slots=True)
class Job:
    """One job: which requests are sent where, within which limits, and where the results go.

    `requests`: path of the request file; `-` is standard input.
    `results`: path of the result file; None is standard output, and such a job cannot be resumed.
    `endpoint`: the gateway's address, the key, the proxy.
    `overrides`: changes to the body of every request.
    `limits`: requests in flight, requests and tokens a minute, the longest outage.
    `timeouts`: how many seconds an attempt, a connection and the next event of a stream may take.
    `retry`: how often a line is sent, and how long to wait before it is sent again.
    `changed`: what to do with lines that were edited after their answer.
    `retry_errors`: whether all failed lines are sent again, not only the retryable ones.
    `overwrite`: whether existing results are discarded first, without a question.
    `prices`: path of a price file, whose prices win over the list of genai-prices; None uses that list alone.
    `limit`: the most lines that this run sends; None sends all.
    `sample`: how many lines are drawn at random; only these are sent. None sends all.
    `max_errors`: how many lines may go wrong before the job stops; None never stops it.
    `max_cost_usd`: the most that all runs of the result file together may cost, in US dollars; None is no cap.
    With a cap, lines whose request does not bound their cost are refused (`UsageError`).
    `max_line_cost_usd`: the most that such a line may cost, in US dollars; None refuses it.
    `grace_s`: seconds that requests in flight get to finish once the job stops.
    `max_response_bytes`: the largest answer that is kept, in bytes; a larger one is a failure.
    `simulate`: a gateway to simulate in this process, in place of `endpoint`; None simulates none.
    """

    requests: str
    results: Path | None
    endpoint: Endpoint
    overrides: Overrides = Overrides()
    limits: Limits = Limits()
    timeouts: Timeouts = Timeouts()
    retry: RetryPolicy = RetryPolicy()
    changed: Changed = Changed.REFUSE
    retry_errors: bool = False
    overwrite: bool = False
    prices: Path | None = None
    limit: int | None = None
    sample: int | None = None
    max_errors: MaxErrors | None = None
    max_cost_usd: Decimal | None = None
    max_line_cost_usd: Decimal | None = None
    grace_s: float = 30.0
    max_response_bytes: int = 64 * 1024 * 1024
    simulate: GatewayOptions | None = None
