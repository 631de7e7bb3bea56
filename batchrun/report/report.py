"""The bill and the summary: records in, a `Report` out, as JSON or as a table that a person reads.

1. A report is made of records alone, so the one printed at the end and the one made later are the same.
2. Lines are grouped by the model that was asked for; they are priced by the one that answered.
3. Memory does not grow with the file: latencies go into a histogram whose buckets are 2 % wide.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Literal, NamedTuple

import msgspec

from batchrun.billing.exposure import BilledTwice
from batchrun.billing.pricing import Bill, PriceBook, usd
from batchrun.records.request import ResultHead, RunInfo
from batchrun.records.usage import ZERO, Usage
from batchrun.stats.histogram import Histogram, Latency


class Lines(msgspec.Struct, frozen=True):
    """`succeeded` includes `refused`; `failed` includes `incomplete`; `pending` is None where nobody can know.

    Records of lines that are no longer in the input are in all counts but `pending`.
    """

    total: int
    succeeded: int
    failed: int
    pending: int | None
    refused: int
    incomplete: int


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


class Example(msgspec.Struct, frozen=True):
    """The first line that failed with a code."""

    custom_id: str
    line: int
    message: str


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
    half way, on answers without a usage, and on records that were taken out; `held_s`, seconds of the last run by what
    held it back.
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
    held_s: dict[str, float] | None = None
    stopped: str | None = None
    next_command: str | None = None

    def to_json(self) -> bytes:
        """Indented JSON with a newline; money as exact numbers."""
        return msgspec.json.format(_encode(self), indent=2) + b"\n"


_encode = msgspec.json.Encoder(decimal_format="number").encode
_moment = lru_cache(maxsize=64)(datetime.fromisoformat)  # the records of a run have one start


class _Kind(NamedTuple):
    """What nearly all records of a run have in common."""

    asked: str
    answered: str | None
    started: str
    outcome: str


class _Sums:
    """Running sums over the records of one model, or of all."""

    def __init__(self, book: PriceBook) -> None:
        self.outcomes: Counter[str] = Counter()
        self.bill = Bill(book)
        self.attempts = 0
        self.throttles = 0
        self.errors: Counter[str] = Counter()
        self.answered_by: Counter[str] = Counter()
        self.latency, self.first_event, self.first_text = Histogram(), Histogram(), Histogram()

    def add(self, head: ResultHead) -> None:
        run = head.run
        self.outcomes[run.outcome] += 1
        self.attempts += run.attempts
        self.throttles += run.throttles
        if head.error is not None:
            self.errors[head.error.code] += 1
        if run.model is not None:
            self.answered_by[run.model] += 1
        if run.usage is not None or run.outcome != "failed":  # nothing came back for which a usage is missing
            self.bill.add(run.model, run.asked, run.usage, _moment(run.started), run.elapsed_s)
        if run.latency_s is not None:
            self.latency.add(run.latency_s)
        if run.first_event_s is not None:
            self.first_event.add(run.first_event_s)
        if run.first_text_s is not None:
            self.first_text.add(run.first_text_s)

    def add_alike(self, kind: _Kind, runs: list[RunInfo], usages: list[Usage]) -> None:
        """Add records of one kind, with their usages: as `add` of each, in fewer steps."""
        self.outcomes[kind.outcome] += len(runs)
        self.attempts += sum([run.attempts for run in runs])
        self.throttles += sum([run.throttles for run in runs])
        if kind.answered is not None:
            self.answered_by[kind.answered] += len(runs)
        later_s = [run.elapsed_s for run in runs]
        self.bill.add_alike(kind.answered, kind.asked, usages, _moment(kind.started), later_s)
        self.latency.add_all([run.latency_s for run in runs if run.latency_s is not None])
        self.first_event.add_all([run.first_event_s for run in runs if run.first_event_s is not None])
        self.first_text.add_all([run.first_text_s for run in runs if run.first_text_s is not None])

    def lines(self, total: int | None, pending: int | None) -> Lines:
        refused, incomplete = self.outcomes["refused"], self.outcomes["incomplete"]
        recorded = self.outcomes.total()
        return Lines(
            total=recorded if total is None else total,
            succeeded=self.outcomes["succeeded"] + refused,
            failed=self.outcomes["failed"] + incomplete,
            pending=pending,
            refused=refused,
            incomplete=incomplete,
        )

    def cost(self) -> Cost:
        return Cost(self.bill.cost_usd, "USD", self.bill.unpriced_lines, self.bill.price_source)


class Tally:
    """Adds up records as they are written, or read back. `total` is the number of lines of the input."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        self.clear()

    def clear(self) -> None:
        """Forget all records."""
        self._models: dict[str, _Sums] = {}
        self._examples: dict[str, Example] = {}
        self._run_times: dict[str, float] = {}
        self.recorded = 0
        self.failed = 0
        self.may_heal = 0
        self.tokens = 0
        self.output_tokens = 0
        self.longest_answer = 0
        self._of = 0

    def add(self, head: ResultHead) -> None:
        """Count one record."""
        run, usage = head.run, head.run.usage
        self._note_time(run.started, run.elapsed_s)
        self._sums(run.asked).add(head)
        self.recorded += 1
        self._of = run.of
        if head.error is not None:
            self.failed += 1
            self.may_heal += run.may_heal
            example = Example(head.custom_id, run.line, head.error.message)
            self._examples.setdefault(head.error.code, example)
        if usage is not None:
            self.tokens += usage.total_tokens
            self.output_tokens += usage.output_tokens
            if usage.output_tokens > self.longest_answer:
                self.longest_answer = usage.output_tokens

    def add_all(self, heads: Sequence[ResultHead]) -> None:
        """Count many records, in less time than one by one."""
        alike: defaultdict[tuple[str, str | None, str, str], list[RunInfo]] = defaultdict(list)
        for head in heads:
            run = head.run
            if head.error is None and run.usage is not None:
                alike[run.asked, run.model, run.started, run.outcome].append(run)
            else:
                self.add(head)
        for kind, runs in alike.items():
            self._add_alike(_Kind(*kind), runs)
        if heads:
            self._of = heads[-1].run.of

    def _add_alike(self, kind: _Kind, runs: list[RunInfo]) -> None:
        usages = [run.usage for run in runs if run.usage is not None]
        self._note_time(kind.started, max([run.elapsed_s for run in runs]))
        self._sums(kind.asked).add_alike(kind, runs, usages)
        self.recorded += len(runs)
        self.tokens += sum([usage.total_tokens for usage in usages])
        output_tokens = [usage.output_tokens for usage in usages]
        self.output_tokens += sum(output_tokens)
        self.longest_answer = max(self.longest_answer, *output_tokens)

    def _note_time(self, started: str, elapsed_s: float) -> None:
        if elapsed_s >= self._run_times.get(started, 0.0):
            self._run_times[started] = elapsed_s

    def _sums(self, asked: str) -> _Sums:
        sums = self._models.get(asked)
        if sums is None:
            sums = self._models[asked] = _Sums(self.book)
        return sums

    def cost_usd(self) -> Decimal:
        """What the priced records cost, so far."""
        return sum((sums.bill.cost_usd for sums in self._models.values()), Decimal(0))

    def report(self, pending: int | None = None) -> Report:
        """The report now. Without `pending`, it is what the last record says of the input's length."""
        total = _Sums(self.book)
        sources: list[str] = []
        for sums in self._models.values():
            _merge(total, sums)
            sources += [source for source in sums.bill.price_source.split(", ") if source not in [*sources, "none"]]
        pending = max(0, self._of - self.recorded) if pending is None else pending
        usage = _usage_sum([sums.bill for sums in self._models.values()])
        unpriced = sum(sums.bill.unpriced_lines for sums in self._models.values())
        duration_s = sum(self._run_times.values())
        errors = _most_first(total.errors)
        return Report(
            lines=total.lines(self.recorded + pending, pending),
            usage=usage,
            cost=Cost(self.cost_usd(), "USD", unpriced, ", ".join(sources) or "none"),
            models={name: _model_report(sums) for name, sums in sorted(self._models.items())},
            attempts=total.attempts,
            retries=total.attempts - total.throttles - self.recorded,
            throttles=total.throttles,
            errors=errors,
            error_examples={code: self._examples[code] for code in errors},
            latency_s=total.latency.summary(),
            first_event_s=total.first_event.summary(),
            first_text_s=total.first_text.summary(),
            duration_s=round(duration_s, 3),
            lines_per_s=round(self.recorded / duration_s, 3) if duration_s else None,
        )


def _merge(total: _Sums, part: _Sums) -> None:
    total.outcomes.update(part.outcomes)
    total.attempts += part.attempts
    total.throttles += part.throttles
    total.errors.update(part.errors)
    for name in ("latency", "first_event", "first_text"):
        getattr(total, name).merge(getattr(part, name))


def _usage_sum(bills: list[Bill]) -> UsageSum:
    usage = sum((bill.usage for bill in bills), ZERO)
    return UsageSum(
        usage.input_tokens,
        usage.cached_tokens,
        usage.output_tokens,
        usage.reasoning_tokens,
        usage.total_tokens,
        sum(bill.lines_without_usage for bill in bills),
    )


def _most_first(counts: Counter[str]) -> dict[str, int]:
    """The most frequent first, equally frequent ones by name: however they were counted, in parts or one by one."""
    return dict(sorted(counts.items(), key=lambda count: (-count[1], count[0])))


def _model_report(sums: _Sums) -> ModelReport:
    return ModelReport(
        lines=sums.lines(None, None),
        usage=_usage_sum([sums.bill]),
        cost=sums.cost(),
        attempts=sums.attempts,
        throttles=sums.throttles,
        errors=_most_first(sums.errors),
        latency_s=sums.latency.summary(),
        answered_by=_most_first(sums.answered_by),
    )


# ------------------------------------------------------------------------------------------------ as text

_COLUMNS = ("model", "lines", "ok", "failed", "input", "cached", "output", "reasoning", "USD")


def render(report: Report) -> str:
    """The report as a person reads it, without colours, ending in a newline."""
    parts = [_table(report)]
    parts += [f"failed: {count:>6,} × {code}  {_example(report, code)}" for code, count in report.errors.items()]
    notes = _notes(report)
    if notes:
        parts.append("note: " + "; ".join(notes))
    rate = f", {report.lines_per_s:,.1f} lines/s" if report.lines_per_s else ""
    parts.append(
        f"sent: {report.attempts:,} attempts, {report.retries:,} retries, {report.throttles:,} throttled; "
        f"{_duration(report.duration_s)}{rate}"
    )
    if report.held_s and (shares := _shares(report.held_s)):
        parts.append("held by: " + shares)
    if report.latency_s.p50 is not None:
        parts.append("latency: " + _quantiles(report.latency_s))
    if report.first_text_s.p50 is not None:
        parts.append("first text: " + _quantiles(report.first_text_s))
    if report.stopped:
        parts.append("stopped: " + report.stopped)
    if report.next_command:
        parts.append("next: " + report.next_command)
    return "\n".join(parts) + "\n"


def _table(report: Report) -> str:
    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [_row(name, model.lines, model.usage, model.cost) for name, model in report.models.items()]
    if len(report.models) != 1:
        rows.append(_row("all", report.lines, report.usage, report.cost))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    lines = []
    for row in rows:
        cells = [row[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def _row(name: str, lines: Lines, usage: UsageSum, cost: Cost) -> tuple[str, ...]:
    recorded = lines.succeeded + lines.failed
    counts = (recorded, lines.succeeded, lines.failed)
    tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
    money = usd(cost.total_usd)
    if cost.price_source == "none":
        money = "unpriced" if cost.unpriced_lines else "-"
    return (name, *(f"{number:,}" for number in counts + tokens), money)


def _notes(report: Report) -> list[str]:
    """What the table alone would not say."""
    facts = (
        (report.lines.pending, "{:,} still to do"),
        (report.lines.incomplete, "{:,} incomplete (stopped early; counted as failed)"),
        (report.lines.refused, "{:,} refused (counted as ok)"),
        (report.usage.lines_without_usage, "{:,} answered without usage (not in the bill)"),
        (report.cost.unpriced_lines, "{:,} without a known price (not in the bill; see --prices)"),
    )
    notes = [text.format(count) for count, text in facts if count]
    if report.unbilled_usd:
        notes.append(f"up to ${usd(report.unbilled_usd)} more on failed attempts and records that were replaced")
    if (twice := report.possibly_billed_twice) is not None and twice.lines:
        notes.append(f"{twice.lines:,} lines were in flight when a run ended; {twice.in_words()}")
    return notes


def _example(report: Report, code: str) -> str:
    example = report.error_examples[code]
    message = " ".join(example.message.split())
    return f"e.g. {example.custom_id[:40]!r}: {message[:100]}"


def _shares(seconds: dict[str, float]) -> str:
    """What took at least a hundredth of the time, the most first."""
    total = sum(seconds.values()) or 1.0
    shares = sorted(((taken / total, name) for name, taken in seconds.items()), reverse=True)
    return ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for share, name in shares if share >= 0.01)


def _quantiles(latency: Latency) -> str:
    return f"p50 {latency.p50:g} s, p95 {latency.p95:g} s, p99 {latency.p99:g} s"


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02} h" if hours else f"{minutes}:{seconds:02} min"
