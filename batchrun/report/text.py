"""A report as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.records.money import usd
from batchrun.records.words import counted, duration, printable
from batchrun.stats.histogram import Latency

if TYPE_CHECKING:
    from batchrun.report.report import Cost, Lines, Report, Saved, UsageSum

_COLUMNS = ("model", "lines", "ok", "failed", "input", "cached", "output", "reasoning", "USD")
RUNNING = "the job was running when this was made; do not start it again while it runs"
NO_RECORDS = "there are no records, and no run log says how many lines are to do"


def render(report: Report, answers: str | None = None) -> str:
    """The report as text for people, without colours, ending in a newline. `answers` says where the answers are."""
    parts = [_table(report)]
    parts += [
        f"failed: {count:>6,} × {printable(code)}  {_example(report, code)}" for code, count in report.errors.items()
    ]
    notes = notes_on(report)
    if notes:
        parts.append("note: " + "; ".join(notes))
    rate = f", {report.lines_per_s:,.1f} lines/s" if report.lines_per_s else ""
    parts.append(
        f"attempts for these records: {report.attempts:,}, {_retries(report.retries)}, {report.throttles:,} throttled; "
        f"{duration(report.duration_s)}{rate}"
    )
    if report.limited_s and (shares := _shares(report.limited_s)):
        parts.append("limited by: " + shares)
    for name, of in report.limited_s_by_model.items():
        if shares := _shares(of):
            parts.append(f"limited by, {printable(name)}: {shares}")
    if report.latency_s.p50 is not None:
        parts.append("latency: " + _quantiles(report.latency_s))
    if report.first_text_s.p50 is not None:
        parts.append("first text: " + _quantiles(report.first_text_s))
    if answers:
        parts.append("answers: " + printable(answers))
    if report.stopped:
        parts.append("stopped: " + printable(report.stopped))
    if report.running:
        parts.append("running: " + RUNNING)
    if report.next_change:
        parts.append("first: " + printable(report.next_change))
    if report.next_command:
        parts.append("next: " + printable(report.next_command))
    return "\n".join(parts) + "\n"


def bill_rows(report: Report) -> list[tuple[str, ...]]:
    """The bill as cells: the names of the columns, a row for each model, one for control requests, and one for all."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    rows += [_row(printable(name), model.lines, model.usage, model.cost) for name, model in report.models.items()]
    if (controls := report.controls) is not None:
        rows.append(("control requests", "-", "-", "-", *_sums(controls.usage, controls.cost)))
    if (tries := report.tries) is not None and tries.open_answers:
        rows.append(("open tries", "-", "-", "-", *_sums(tries.usage, tries.cost)))
    rows += [_row(f"at {printable(name)}", one.lines, one.usage, one.cost) for name, one in report.endpoints.items()]
    if len(rows) != 2:
        rows.append(_row("all", report.lines, report.usage, report.cost))
    return rows


def _table(report: Report) -> str:
    rows = bill_rows(report)
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
    return (name, *(f"{count:,}" for count in counts), *_sums(usage, cost))


def _sums(usage: UsageSum, cost: Cost) -> tuple[str, ...]:
    """Tokens and money."""
    tokens = (usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens)
    money = usd(cost.total_usd)
    if cost.price_source == "none":
        money = "unpriced" if cost.unpriced_lines else "-"
    return (*(f"{number:,}" for number in tokens), money)


def notes_on(report: Report) -> list[str]:
    """Facts that the bill does not show, in words."""
    facts = (
        (report.lines.pending, "{:,} still to do"),
        (report.lines.incomplete, "{:,} incomplete (stopped early; counted as failed)"),
        (report.lines.empty, "{:,} empty (no text, refusal or tool call; counted as failed)"),
        (report.lines.invalid, "{:,} invalid (do not fit their schema; counted as failed)"),
        (report.lines.refused, "{:,} refused (counted as ok)"),
        (
            report.at_output_limit,
            "{:,} completed at exactly their limit of output tokens (counted as ok, may be cut off)",
        ),
        (report.usage.lines_without_usage, "{:,} answered without usage (not in the bill)"),
        (report.cost.unpriced_lines, "{:,} without a known price (not in the bill; see --prices)"),
    )
    notes = [text.format(count) for count, text in facts if count]
    if not report.lines.total and not report.running:
        notes.append(NO_RECORDS)
    if report.saved is not None:
        notes.append(saved_in_words(report.saved))
    if report.controls is not None:
        sent = counted(report.controls.requests, "control request")
        notes.append(f"{sent} to see whether the gateway answers (in the bill)")
    if (tries := report.tries) is not None and tries.lines:
        sent = counted(tries.answers, "answer")
        notes.append(f"{counted(tries.lines, 'line')} asked again ({sent} that missed the schema, in the bill)")
    if tries is not None and tries.open_answers:
        notes.append(f"{counted(tries.open_answers, 'answer')} of lines that are still to be asked again (in the bill)")
    notes += _cost_notes(report.cost)
    if report.unbilled_usd:
        notes.append(
            f"possible extra cost (failed attempts, replaced or lost records): up to ${usd(report.unbilled_usd)}"
        )
    if (twice := report.possibly_billed_twice) is not None and twice.lines:
        notes.append(f"{counted(twice.lines, 'line')} in flight when a run ended; {twice.in_words()}")
    return notes


def saved_in_words(saved: Saved) -> str:
    """How many lines needed no request, and what that saved."""
    kinds = ((saved.copied, "copied from equal lines"), (saved.reused, "reused from other results"))
    counts = ", ".join(f"{count:,} {how}" for count, how in kinds if count)
    has_price = saved.cost.price_source != "none"
    worth = f"${usd(saved.cost.total_usd)}" if has_price else f"{saved.usage.total_tokens:,} tokens"
    return f"{counts} (not sent, not in the bill: {worth} saved)"


def _cost_notes(cost: Cost) -> list[str]:
    """What the bill leaves out or takes from the gateway."""
    notes = [
        f"{counted(count, f'{_plain_word(tool)} call')} without a known price (not in the bill)"
        for tool, count in cost.unpriced_calls.items()
    ]
    notes += [
        f"{count:,} served at the tier {_plain_word(tier)}, which has no known price (billed at the standard price)"
        for tier, count in cost.standard_tiers.items()
    ]
    if cost.gateway_usd is not None:
        as_bill = f" (this is the bill of {cost.billed_by_gateway:,})" if cost.billed_by_gateway else ""
        notes.append(f"the gateway says that it charged ${usd(cost.gateway_usd)}{as_bill}")
    return notes


def _plain_word(word: str) -> str:
    """A word of the gateway that is safe to show."""
    return "".join(letter for letter in word[:40] if letter.isprintable())


def _example(report: Report, code: str) -> str:
    example = report.error_examples[code]
    message = printable(" ".join(example.message.split()))
    return f"e.g. {example.custom_id[:40]!r}: {message[:100]}"


def _shares(seconds: dict[str, float]) -> str:
    """The limits that took at least a hundredth of the time, the longest first."""
    total = sum(seconds.values()) or 1.0
    shares = sorted(((taken / total, name) for name, taken in seconds.items()), reverse=True)
    return ", ".join(f"{name.replace('_', ' ')} {share:.0%}" for share, name in shares if share >= 0.01)


def _quantiles(latency: Latency) -> str:
    return f"p50 {latency.p50:g} s, p95 {latency.p95:g} s, p99 {latency.p99:g} s"


def _retries(count: int) -> str:
    return "1 retry" if count == 1 else f"{count:,} retries"
