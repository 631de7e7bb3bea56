"""What a job is told. `prepare.py` checks it, `run.py` sends it, `summary.py` says what it amounts to."""

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
    """Everything that one run is told. `results` is None for standard output.

    `limit` sends no more than so many lines, `sample` only such as are among so many drawn at random.
    `max_cost_usd` caps what all runs of a result file may cost together; it refuses lines whose cost nothing bounds,
    unless `max_line_cost_usd` says what such a line costs at most.
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
