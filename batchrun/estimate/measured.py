"""What each finished line of a job used: the measurements that an estimate is made from.

They are kept in flat arrays, some 70 bytes a line. A line is finished by the rules of `job/resume.py`: it has a record
with the same body, and the next run does not send it again.
"""

from __future__ import annotations

from array import array
from datetime import datetime, timedelta
from typing import NamedTuple

from batchrun.billing.bill import Bill
from batchrun.billing.pricing import PriceBook
from batchrun.records.index import HashTable, hash64
from batchrun.records.request import RequestLine
from batchrun.records.result import ResultHead

_FAILED, _GOES_AGAIN, _HAS_USAGE, _IS_PRICED = 1, 2, 4, 8


class Used(NamedTuple):
    """What one line used. Tokens are None if its answer had no usage, the cost (USD) also if its model has no price."""

    input_tokens: int | None
    output_tokens: int | None
    cost_usd: float | None
    latency_s: float
    attempts: int
    failed: bool
    goes_again: bool


class Finished:
    """The records of a result file. `bill` has the exact cost of all of them."""

    def __init__(self, book: PriceBook, *, retry_errors: bool = False) -> None:
        self.bill = Bill(book)
        self._book = book
        self._retry_errors = retry_errors
        self._places = HashTable()
        self._body_hashes = array("Q")
        self._flags = array("B")
        self._inputs, self._outputs = array("Q"), array("Q")
        self._costs, self._latencies = array("d"), array("f")
        self._attempts = array("H")
        self._run_times: dict[str, float] = {}

    def __len__(self) -> int:
        return len(self._body_hashes)

    @property
    def lines_per_s(self) -> float | None:
        """Records a second, over the time of all runs; None without records."""
        seconds = sum(self._run_times.values())
        return len(self) / seconds if seconds > 0 else None

    def add(self, head: ResultHead) -> None:
        """Add one record."""
        run = head.run
        when = datetime.fromisoformat(run.started) + timedelta(seconds=run.elapsed_s)
        self._run_times[run.started] = max(self._run_times.get(run.started, 0.0), run.elapsed_s)
        failed = head.error is not None
        flags = _FAILED * failed + _GOES_AGAIN * (failed and (run.retryable or self._retry_errors))
        usage, cost = run.usage, 0.0
        if usage is not None:
            flags += _HAS_USAGE
            price = self._book.quote(run.model, run.requested_model, when, run.service_tier).price
            if price is not None:
                flags += _IS_PRICED
                cost = float(price.cost(usage))
            elif run.gateway_cost_usd is not None:  # only the gateway prices its model
                flags += _IS_PRICED
                cost = float(run.gateway_cost_usd)
        elif run.outcome == "failed":  # no answer came, so it used nothing
            flags += _HAS_USAGE + _IS_PRICED
        if usage is not None or run.outcome != "failed":
            charged = [run.gateway_cost_usd]
            self.bill.add(run.model, run.requested_model, [usage], when, (), run.service_tier, charged)
        self._places.set(hash64(head.custom_id), len(self))
        self._body_hashes.append(int(run.body_hash[:16], 16))
        self._flags.append(flags)
        self._inputs.append(usage.input_tokens if usage else 0)
        self._outputs.append(usage.output_tokens if usage else 0)
        self._costs.append(cost)
        self._latencies.append(run.latency_s or 0.0)
        self._attempts.append(min(run.attempts, 65535))

    def find(self, line: RequestLine) -> Used | None:
        """What a line used; None if it has no record, or was edited since."""
        place = self._places.get(hash64(line.custom_id))
        if place is None or self._body_hashes[place] != int(line.body_hash[:16], 16):
            return None
        flags = self._flags[place]
        return Used(
            input_tokens=self._inputs[place] if flags & _HAS_USAGE else None,
            output_tokens=self._outputs[place] if flags & _HAS_USAGE else None,
            cost_usd=self._costs[place] if flags & _IS_PRICED else None,
            latency_s=self._latencies[place],
            attempts=self._attempts[place],
            failed=bool(flags & _FAILED),
            goes_again=bool(flags & _GOES_AGAIN),
        )
