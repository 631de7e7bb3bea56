"""What a run works on, and by which rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from batchrun.billing.tally import Tally
from batchrun.engine.done import RunFacts
from batchrun.engine.error_limit import ErrorLimit
from batchrun.engine.reask import Reask
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.source import LineSource
from batchrun.engine.spending import Spending
from batchrun.limits.leased import LeasedPromises
from batchrun.limits.options import Limits
from batchrun.records.request import RequestLine
from batchrun.results.store import ResultStore
from batchrun.validation.schema import MismatchCheck


@dataclass(frozen=True, slots=True)
class Work:
    """What a run works on.

    `source` gives its lines, `store` takes their records, `tally` counts them, and `facts` are in every record.
    `address` is the full URL of `/v1/responses` at the gateway, for messages. `kinds`: how many pairs of path and model
    the lines have; `queues`: how many triples of path, model and endpoint that they belong to. `is_sticky`: lines that
    begin alike belong to one endpoint. `has_succeeded`: a line of the result file has, in an earlier run;
    `find_control(path, model)` reads the smallest of them, and returns None if there is none.
    """

    source: LineSource
    store: ResultStore
    tally: Tally
    facts: RunFacts
    address: str = ""
    kinds: int = 1
    queues: int = 1
    is_sticky: bool = False
    has_succeeded: bool = False
    find_control: Callable[[str, str], RequestLine | None] = lambda path, model: None


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of a run.

    `limits`: what may be in flight. `retry`: how often a line is sent. `spending`: what may be spent. `grace_s`: how
    many seconds a drain may take. `error_limit` stops a run in which too many lines go wrong; None never does.
    `stops_fresh_job`: a job in which nothing has ever succeeded stops after 20 refusals alike. `schema_check` checks
    answers before they are recorded; None checks nothing. `reask` decides which lines are asked again; None asks none.
    `leased`: what a shard may do by its lease, in place of `limits`; None in a job of its own.
    """

    limits: Limits
    retry: RetryPolicy
    spending: Spending
    grace_s: float = 30.0
    error_limit: ErrorLimit | None = None
    stops_fresh_job: bool = True
    schema_check: MismatchCheck | None = None
    reask: Reask | None = None
    leased: LeasedPromises | None = None
