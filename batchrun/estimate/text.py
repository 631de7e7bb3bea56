"""An estimate as text for people: before a job, and after its pilot."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from batchrun.estimate.estimate import MIN_MEASURED, SO_FAR, Estimate
from batchrun.records.money import usd
from batchrun.records.words import counted, duration
from batchrun.stats.intervals import Range


def render_estimate(estimate: Estimate) -> str:
    """The whole estimate as text, ending in a newline."""
    rows = [
        ("", "low", "likely", "high"),
        ("input tokens", *_cells(estimate.input_tokens, _count)),
        ("output tokens", *_cells(estimate.output_tokens, _count)),
        ("USD", *_cells(estimate.left_usd, _money)),
    ]
    if estimate.spent_usd:
        rows.append(("USD in total", *_cells(estimate.total_usd, _money)))
    for name, part in estimate.endpoints.items():
        rows.append((f"USD at {name}, {counted(part.lines_left, 'line')}", *_cells(part.left_usd, _money)))
    if estimate.limited_by is not None:
        rows.append(("time", *_cells(estimate.seconds, _time)))
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    done = estimate.lines - estimate.lines_left
    parts = [f"{counted(estimate.lines, 'line')}, {done:,} done, {estimate.lines_left:,} to do"]
    if estimate.spent_usd:
        parts[0] += f"; ${usd(estimate.spent_usd)} spent"
    for name, *cells in rows:
        parts.append("  ".join([name.ljust(widths[0]), *map(str.rjust, cells, widths[1:])]).rstrip())
    parts += [f"note: {note}" for note in _notes(estimate)]
    return "\n".join(parts) + "\n"


def render_pilot(estimate: Estimate, *, is_whole: bool = True) -> str:
    """What the lines of a pilot say about the job, or about the lines that were chosen of it.

    One fact a line, ending in a newline.
    """
    what = "the whole job" if is_whole else "the chosen lines"
    parts = [
        f"measured {estimate.lines_measured:,} of {counted(estimate.lines, 'line')}; 90% intervals for {what}:",
        f"cost: {_spread(estimate.total_usd, _money)} USD, {usd(estimate.spent_usd)} of it spent",
    ]
    if estimate.limited_by is not None:
        parts.append(f"time: {_spread(estimate.seconds, _time)} more, limited by {estimate.limited_by}")
    parts.append(f"failures: {_spread(estimate.failure_share, _percent)}")
    parts += [f"note: {note}" for note in _notes(estimate)]
    return "\n".join(parts) + "\n"


def _notes(estimate: Estimate) -> list[str]:
    if not estimate.lines_left:
        return []
    notes = [f"input by {estimate.input_by}; output by {estimate.output_by}"]
    if "finished lines" in estimate.output_by:
        notes.append("90% intervals; assume finished lines are representative (a pilot's are)")
    if estimate.output_tokens.likely is None:
        notes.append(
            f"output length unknown until {MIN_MEASURED} lines have finished: `batchrun run --pilot 50` measures it"
        )
    if estimate.lines_unbounded:
        notes.append(f"{counted(estimate.lines_unbounded, 'line')} without max_output_tokens")
    if estimate.lines_naming:
        notes.append(
            f"{counted(estimate.lines_naming, 'line')} with input whose size is unknown until it is answered "
            "(files, images, tools, …)"
        )
    for model, lines in sorted(estimate.unpriced_models.items()):
        notes.append(f"no price is known for {model!r} ({counted(lines, 'line')}; see --prices)")
    if estimate.limited_by == SO_FAR:
        notes.append("time at the speed so far; a longer run may find that the gateway accepts more")
    elif estimate.limited_by is not None:
        notes.append(f"best-case time, limited by {estimate.limited_by}; throttles and outages add to it")
    return notes


def _cells(values: Range, show: Callable[[float], str]) -> tuple[str, str, str]:
    shown = [("?" if value is None else show(value)) for value in (values.low, values.likely, values.high)]
    return shown[0], shown[1], shown[2]


def _spread(values: Range, show: Callable[[float], str]) -> str:
    low, likely, high = _cells(values, show)
    return f"{likely} ({low} to {high})"


def _count(value: float) -> str:
    return f"{round(value):,}"


def _money(value: float) -> str:
    return usd(Decimal(value))


def _percent(value: float) -> str:
    return f"{100 * value:.0f} %" if value >= 0.1 else f"{100 * value:.2g} %"


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 59.5 else duration(seconds)
