"""What became of a job in one sentence, and what to do next: for a report that is made from files alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec

from batchrun.billing.tally import Tally
from batchrun.records.money import usd
from batchrun.records.outcome import FAMILIES, FailureCode
from batchrun.records.remedies import SENT_AGAIN, WAYS_OUT, Remedy, by_remedy, remedy_for
from batchrun.records.words import counted
from batchrun.report.report import Lines, Report
from batchrun.report.text import RUNNING

_MEANINGS = {code.value: code.meaning for code in FailureCode}


class _Told(msgspec.Struct):
    """What the report of a run says of the end of that run."""

    lines: Lines
    stopped: str | None = None
    next_change: str | None = None
    next_command: str | None = None


def with_last_words(report: Report, path: Path) -> Report:
    """The report with what the run itself said is next, where the report that it wrote at `path` has the same lines.

    While a run is going on, what the one before it said is next counts no more.
    """
    if report.running:
        return report
    try:
        told = msgspec.json.decode(path.read_bytes(), type=_Told)
    except (OSError, ValueError):
        return report
    if told.lines != report.lines:
        return report
    return msgspec.structs.replace(
        report, stopped=told.stopped, next_change=told.next_change, next_command=told.next_command
    )


def verdict(report: Report) -> str:
    """What is done, what failed, what it cost: one sentence without its full stop."""
    lines = report.lines
    if not lines.total:
        return "There are no records"
    counts = [f"{lines.failed:,} failed"] if lines.failed else []
    counts += [f"{lines.pending:,} are still to do"] if lines.pending else []
    if counts:
        done = f"{lines.succeeded:,} of {counted(lines.total, 'line')} succeeded, {' and '.join(counts)}"
    else:
        done = f"All {lines.total:,} lines succeeded" if lines.total > 1 else "The only line succeeded"
    return f"{done}; {_cost(report)}"


def _cost(report: Report) -> str:
    cost, parts, without = report.cost, list[str](), report.usage.lines_without_usage
    if (cost.price_source != "none" or not cost.unpriced_lines) and (cost.total_usd or not without):
        parts.append(f"the bill is ${usd(cost.total_usd)}")
    if cost.unpriced_lines:
        parts.append(f"{counted(cost.unpriced_lines, 'line')} {_have(cost.unpriced_lines)} no known price")
    if without:
        whose = "its" if without == 1 else "their"
        parts.append(f"{counted(without, 'answer')} {_have(without)} no usage ({whose} cost is not known)")
    return " and ".join(parts)


def _have(count: int) -> str:
    return "has" if count == 1 else "have"


def what_next(report: Report, tally: Tally) -> str:
    """What to do next, in words."""
    if report.running:
        return RUNNING
    if not report.lines.total:
        return "no run log says how many lines are to do: run the command that makes these results"
    if not report.lines.pending and not report.lines.failed:
        return "nothing is left to do"
    if report.lines.pending:
        return f"run the same command again: it sends the {counted(report.lines.pending, 'line')} left"
    remedies = by_remedy(tally.final_errors)
    if not remedies and not tally.retryable:
        return "nothing is left to do: the lines that failed are in the request file no more"
    if not remedies:
        return "run the same command again: it sends the failed lines again"
    if set(remedies) == {Remedy.SEND_AGAIN}:
        return "run the same command again with --retry-errors"
    return "see below what to change before the failed lines are sent again"


def meaning(code: str) -> str:
    """When an error code is given; of the gateway's own codes, that they are its own."""
    if code in _MEANINGS:
        return _MEANINGS[code]
    return next((text for start, text in FAMILIES.items() if code.startswith(start)), "a code of the gateway")


def ways_out(report: Report, tally: Tally, code: str) -> Iterator[str]:
    """What to do about the lines that failed with a code, in sentences."""
    final = tally.final_errors[code]
    if report.running and (final or tally.retryable):
        yield "Once the run has ended:"
    if final < report.errors[code] and tally.retryable:
        yield SENT_AGAIN
    if final:
        yield WAYS_OUT[remedy_for(code)]
