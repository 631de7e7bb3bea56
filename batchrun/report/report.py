"""The summary of a result file: a tally in, a `Report` out, as JSON.

Made of records alone, so the one printed at the end and the one made later are the same.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Literal

import msgspec

from batchrun.billing.bill import Bill
from batchrun.billing.tally import Example, Tally, Totals
from batchrun.records.attempt import BilledTwice
from batchrun.stats.histogram import Latency


class Lines(msgspec.Struct, frozen=True):
    """`succeeded` includes `refused`; `failed` includes `incomplete`, `empty` and `invalid`.

    `pending` is None where nobody can know.
    Records of lines that are no longer in the input are in all counts but `pending`.
    """

    total: int
    succeeded: int
    failed: int
    pending: int | None
    refused: int
    incomplete: int
    empty: int
    invalid: int


class UsageSum(msgspec.Struct, frozen=True):
    """Tokens; cached ones are part of the input, reasoning ones part of the output.

    `lines_without_usage` counts answers; a failed line has none, and no bill that anybody could know.
    """

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    lines_without_usage: int


class Cost(msgspec.Struct, frozen=True):
    """US dollars, exact; `unpriced_lines` used tokens at a price nobody knows and are not in `total_usd`."""

    total_usd: Decimal
    currency: Literal["USD"]
    unpriced_lines: int
    price_source: str


class ModelReport(msgspec.Struct, frozen=True):
    """What one model did; the fields mean what they mean in `Report`."""

    lines: Lines
    usage: UsageSum
    cost: Cost
    attempts: int
    throttles: int
    errors: dict[str, int]
    latency_s: Latency
    answered_by: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    """What a result file amounts to. `attempts` counts HTTP requests, throttled ones included.

    `duration_s` adds up the runs, each from its start to its last record. `stopped` says why the last run ended
    early, `next_command` what to run then. Three figures come from the run log beside the results, and are None where
    there is none: `possibly_billed_twice`, and `unbilled_usd`, what may have been spent besides on attempts that failed
    half way, on answers without a usage, and on records that were taken out; `limited_s`, seconds of the last run by
    what limited it.
    """

    lines: Lines
    usage: UsageSum
    cost: Cost
    models: dict[str, ModelReport]
    attempts: int
    retries: int
    throttles: int
    errors: dict[str, int]
    error_examples: dict[str, Example]
    latency_s: Latency
    first_event_s: Latency
    first_text_s: Latency
    duration_s: float
    lines_per_s: float | None
    possibly_billed_twice: BilledTwice | None = None
    unbilled_usd: Decimal | None = None
    limited_s: dict[str, float] | None = None
    stopped: str | None = None
    next_command: str | None = None

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as exact numbers."""
        return msgspec.json.format(_encode(self), indent=2) + b"\n"


_encode = msgspec.json.Encoder(decimal_format="number").encode


def make_report(tally: Tally, pending: int | None = None) -> Report:
    """The report now. Without `pending`, it is what the last record says of the input's length."""
    total = tally.total()
    pending = max(0, tally.total_lines - tally.recorded) if pending is None else pending
    errors = _most_first(total.errors)
    return Report(
        lines=_lines(total, tally.recorded + pending, pending),
        usage=_usage(total.bill),
        cost=_cost(total.bill),
        models={name: _model_report(totals) for name, totals in sorted(tally.by_model.items())},
        attempts=total.attempts,
        retries=total.attempts - total.throttles - tally.recorded,
        throttles=total.throttles,
        errors=errors,
        error_examples={code: tally.examples[code] for code in errors},
        latency_s=total.latency.summary(),
        first_event_s=total.first_event.summary(),
        first_text_s=total.first_text.summary(),
        duration_s=round(tally.duration_s, 3),
        lines_per_s=round(tally.recorded / tally.duration_s, 3) if tally.duration_s else None,
    )


def _lines(totals: Totals, total: int, pending: int | None) -> Lines:
    outcomes = totals.outcomes
    succeeded = outcomes["succeeded"] + outcomes["refused"]
    return Lines(
        total=total,
        succeeded=succeeded,
        failed=outcomes.total() - succeeded,
        pending=pending,
        refused=outcomes["refused"],
        incomplete=outcomes["incomplete"],
        empty=outcomes["empty"],
        invalid=outcomes["invalid"],
    )


def _usage(bill: Bill) -> UsageSum:
    usage = bill.usage
    return UsageSum(
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
        bill.lines_without_usage,
    )


def _cost(bill: Bill) -> Cost:
    return Cost(bill.cost_usd, "USD", bill.unpriced_lines, bill.price_source)


def _most_first(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first, equally frequent ones by name: however they were counted, in parts or one by one."""
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def _model_report(totals: Totals) -> ModelReport:
    return ModelReport(
        lines=_lines(totals, totals.outcomes.total(), None),
        usage=_usage(totals.bill),
        cost=_cost(totals.bill),
        attempts=totals.attempts,
        throttles=totals.throttles,
        errors=_most_first(totals.errors),
        latency_s=totals.latency.summary(),
        answered_by=_most_first(totals.answered_by),
    )
