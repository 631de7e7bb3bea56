"""The report of a result file: made from a `Tally`, written as JSON.

Its figures come from records, so the report at the end of a run and one that is made later are the same.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Literal

import msgspec

from batchrun.billing.bill import Bill
from batchrun.billing.tally import Example, Tally, Totals
from batchrun.records.attempt import BilledTwice
from batchrun.records.words import printable_json
from batchrun.report.text import render
from batchrun.stats.histogram import Latency


class Lines(msgspec.Struct, frozen=True):
    """Lines by outcome. All counts except `pending` include recorded lines that are no longer in the request file.

    `total`: lines with a record, plus `pending`.
    `succeeded`: whole answers, `refused` included.
    `failed`: records with an error; `incomplete`, `empty` and `invalid` included.
    `pending`: lines without a record; None for one model.
    `refused`: answers in which the model declines.
    `incomplete`: answers that stopped early.
    `empty`: completed responses without any output.
    `invalid`: answers that do not fit their schema after all tries (`--reask`).
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
    """The sum of the tokens that answers report.

    `input_tokens`: all input tokens.
    `cached_tokens`: the part of them that was read from a cache.
    `output_tokens`: all output tokens.
    `reasoning_tokens`: the part of them that the model spent on reasoning.
    `total_tokens`: input and output.
    `lines_without_usage`: answers without a valid usage; they are not in the sums.
    """

    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    total_tokens: int
    lines_without_usage: int


class Cost(msgspec.Struct, frozen=True):
    """What the answers cost.

    `total_usd`: US dollars, exact.
    `currency`: always `USD`.
    `unpriced_lines`: lines of models without a known price; they are not in `total_usd`.
    `price_source`: the sources of the prices, with the version of the list.
    `unpriced_calls`: calls of paid tools without a known price, by tool; they are not in `total_usd`.
    `standard_tiers`: lines that were served at a service tier without a known price of its own, by tier; they are in
    `total_usd` at the standard price.
    `gateway_usd`: US dollars that the gateway itself says it charged, for all lines where it says so; null without any.
    `billed_by_gateway`: lines of models without another known price; what the gateway says is in `total_usd`.
    """

    total_usd: Decimal
    currency: Literal["USD"]
    unpriced_lines: int
    price_source: str
    unpriced_calls: dict[str, int]
    standard_tiers: dict[str, int]
    gateway_usd: Decimal | None
    billed_by_gateway: int


class Saved(msgspec.Struct, frozen=True):
    """Lines that have an answer without a request of their own.

    `copied`: lines with the answer of an equal line of the same file (`--dedup`).
    `reused`: lines with the answer of another result file (`--reuse`).
    `usage`: the tokens of these answers, which are billed once, where they were sent.
    `cost`: the US dollars that sending them again would have cost.
    """

    copied: int
    reused: int
    usage: UsageSum
    cost: Cost


class Controls(msgspec.Struct, frozen=True):
    """Control requests: a request that had succeeded is sent again, to find out whether the gateway is there.

    `requests`: how many were answered.
    `usage`: their tokens.
    `cost`: their US dollars.
    """

    requests: int
    usage: UsageSum
    cost: Cost


class Tries(msgspec.Struct, frozen=True):
    """Lines that were asked again, because their answers missed their schema.

    `lines`: how many lines with a record.
    `answers`: how many answers they got before the last one; these are in `usage` and `cost` of the report, too.
    `open_answers`: answers to lines that have no record yet; they are on the bill, in no line of `models`.
    `usage`, `cost`: tokens and US dollars of the open answers.
    """

    lines: int
    answers: int
    open_answers: int
    usage: UsageSum
    cost: Cost


class ModelReport(msgspec.Struct, frozen=True):
    """The report of one requested model, or of one endpoint.

    `lines`, `usage`, `cost`, `attempts`, `throttles`, `errors`, `latency_s`: as in `Report`, for these lines.
    `answered_by`: lines by the model that answered.
    """

    lines: Lines
    usage: UsageSum
    cost: Cost
    attempts: int
    throttles: int
    errors: dict[str, int]
    latency_s: Latency
    answered_by: dict[str, int]


class Report(msgspec.Struct, frozen=True):
    """The summary of a result file, over all runs.

    `lines`: lines by outcome.
    `usage`: tokens, those of control requests and of all tries included.
    `cost`: US dollars, for the same.
    `models`: the same for each requested model, without control requests and open tries.
    `endpoints`: the same for each endpoint, by name, where there are several.
    `attempts`: HTTP requests that led to the records, including throttled ones; those of lines without a record are
    not among them, nor is the first one of each further ask of a line (`tries` has these).
    `retries`: attempts that were neither the first of their line nor throttled.
    `throttles`: attempts that the gateway answered with "too fast".
    `errors`: failed lines by error code, the most frequent first.
    `error_examples`: the first line of each error code.
    `latency_s`: seconds of the attempts that ended in a record.
    `first_event_s`, `first_text_s`: seconds to the first event and to the first text of streams.
    `duration_s`: seconds of all runs, each from its start to its last record.
    `lines_per_s`: records divided by `duration_s`; None if that is 0.
    `possibly_billed_twice`: lines that were in flight when a run ended, and the most that they may have cost. This
    field and the next two come from the run log; they are None without one.
    `unbilled_usd`: US dollars, an upper bound: what may have been spent in addition to `cost`, on attempts that failed
    halfway, on answers without a usage, and on records that were replaced or are gone from the result file.
    `limited_s`: seconds of all runs by what limited them, the longest first; `limited_s_by_model`: the same for each
    model that has limits of its own.
    `saved`: lines that were copied or reused, which cost nothing; None if there are none. They are in `lines` and in
    `errors`, and not in `usage`, `cost`, `attempts` and the seconds.
    `controls`: control requests that were answered; None if there are none. They come from the run log, too.
    `tries`: lines that were asked again; None if there are none.
    `at_output_limit`: successes of the last run with exactly as many output tokens as their request allows, which may
    be cut off; None if there are none, and in a report that is made later.
    `stopped`: why the last run ended early; None if it did not, and in a report that is made later.
    `running`: whether a run was writing the result file when the report was made; False in the report of a run's end.
    `next_change`: what to change before that command, in words, for failed lines that would end the same way again.
    `next_command`: the command to run next. Both are None if there is nothing to do, from Python, and in a report that
    is made later, but for the command that shows how far a running job is.
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
    limited_s_by_model: dict[str, dict[str, float]] = {}
    saved: Saved | None = None
    endpoints: dict[str, ModelReport] = {}
    controls: Controls | None = None
    tries: Tries | None = None
    at_output_limit: int | None = None
    stopped: str | None = None
    running: bool = False
    next_change: str | None = None
    next_command: str | None = None

    def __str__(self) -> str:
        """The report as text for people, as the command prints it."""
        return render(self).removesuffix("\n")

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as exact numbers."""
        return printable_json(msgspec.json.format(_encode(self), indent=2) + b"\n")


_encode = msgspec.json.Encoder(decimal_format="number").encode


def make_report(tally: Tally, pending: int | None = None) -> Report:
    """The report of a tally. `pending` is the number of lines without a record; if it is None, it is computed from
    the length of the request file that the last record names."""
    total, bill = tally.total(), tally.bill()
    pending = max(0, tally.total_lines - tally.recorded) if pending is None else pending
    errors = _most_first(total.errors)
    return Report(
        lines=_lines(total, tally.recorded + pending, pending),
        usage=_usage(bill),
        cost=_cost(bill),
        models={name: _model_report(totals) for name, totals in sorted(tally.by_model.items())},
        attempts=total.attempts,
        retries=max(0, total.attempts - total.throttles - tally.sent),  # a throttle may be a line's last attempt
        throttles=total.throttles,
        errors=errors,
        error_examples={code: tally.examples[code] for code in errors},
        latency_s=total.latency.summary(),
        first_event_s=total.first_event.summary(),
        first_text_s=total.first_text.summary(),
        duration_s=round(tally.duration_s, 3),
        lines_per_s=round(tally.recorded / tally.duration_s, 3) if tally.duration_s else None,
        saved=_saved(total),
        endpoints={name: _model_report(totals) for name, totals in sorted(tally.by_endpoint.items())},
        controls=_controls(tally),
        tries=_tries(tally, total),
    )


def _saved(total: Totals) -> Saved | None:
    if not total.sources:
        return None
    return Saved(total.sources["copied"], total.sources["reused"], _usage(total.saved), _cost(total.saved))


def _tries(tally: Tally, total: Totals) -> Tries | None:
    count, bill = tally.open_tries()
    if not total.asked_again and not count:
        return None
    return Tries(total.asked_again, total.tries, count, _usage(bill), _cost(bill))


def _controls(tally: Tally) -> Controls | None:
    if not tally.control_requests:
        return None
    return Controls(tally.control_requests, _usage(tally.controls), _cost(tally.controls))


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
    return Cost(
        total_usd=bill.cost_usd,
        currency="USD",
        unpriced_lines=bill.unpriced_lines,
        price_source=bill.price_source,
        unpriced_calls=_most_first(bill.unpriced_calls),
        standard_tiers=_most_first(bill.standard_tiers),
        gateway_usd=bill.gateway_usd if bill.gateway_lines else None,
        billed_by_gateway=bill.billed_by_gateway,
    )


def _most_first(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first, equally frequent ones by name, so that the order of counting does not matter."""
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
