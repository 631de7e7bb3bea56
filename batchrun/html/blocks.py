"""The tables and charts of a report's page: each from figures that `report` has, none computed here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from batchrun.html import charts
from batchrun.html.page import FEW_FIELDS, MOST_FIELDS, Chart, Table, cut, first_rows, more, most_labels
from batchrun.records.words import counted, duration
from batchrun.report.report import Report
from batchrun.report.survey import LEAST_USD, FieldShares, Survey
from batchrun.report.text import bill_rows
from batchrun.report.timeline import Stretch, Timeline
from batchrun.stats.bins import Bars, bars_of
from batchrun.stats.histogram import Histogram
from batchrun.stats.proportions import Interval

_SHARES = ("p50", "p95", "p99")
_LEAST_STRETCHES = 4  # fewer make no chart
_TABLE_ROWS = 12
SHORT_S = 20.0
"""Of shorter runs it is not shown when something limited them: it is logged once a second, and would be far off."""
_CHARTED_LABELS = 20
_LIMIT_COLUMNS = 12
MOST_MODELS = 30
"""Models that are shown in the bill."""


# ------------------------------------------------------------------------------------------------ the bill


def bill(report: Report) -> Table:
    """The bill by model, as it stands at the end of a run."""
    head, *rows = bill_rows(report)
    names = {
        "cached": "of these cached",
        "reasoning": "of these reasoning",
        "USD": "US dollars",
        "input": "input tokens",
    }
    names |= {"output": "output tokens"}
    of_models, others = rows[: len(report.models)], rows[len(report.models) :]
    shown = [*first_rows(of_models, MOST_MODELS, "model"), *first_rows(others, MOST_MODELS, "row")]
    return Table("The bill by requested model", [names.get(name, name) for name in head], shown)


# ------------------------------------------------------------------------------------------------ over time


def limits(report: Report, timeline: Timeline) -> list[tuple[str, float]]:
    """What limited the runs, with the share of the time of each, as the report's text has it."""
    limited_s = report.limited_s or timeline.limited_s
    total = sum(limited_s.values()) or 1.0
    return [(name, taken / total) for name, taken in limited_s.items()]


def limit_table(report: Report, found: Sequence[tuple[str, float]]) -> Table:
    """What limited the runs as a table, with a column for each model that has limits of its own."""
    models = dict(list(report.limited_s_by_model.items())[:_LIMIT_COLUMNS])
    names = dict.fromkeys([name for name, _ in found] + [name for of in models.values() for name in of])
    whole = dict(found)
    rows = []
    for name in names:
        parts = [of.get(name, 0.0) / (sum(of.values()) or 1.0) for of in models.values()]
        rows.append([name.replace("_", " "), *(f"{part:.1%}" for part in (whole.get(name, 0.0), *parts))])
    left = len(report.limited_s_by_model) - len(models)
    caption = "What limited the runs, by share of the time" + (f"; {more(left, 'model')} not shown" if left else "")
    return Table(caption, ["limited by", "all", *map(cut, models)], rows)


def over_time(timeline: Timeline, limited: Sequence[tuple[str, float]], *, are_drawn: bool) -> Chart:
    """What limited the runs, by `limits`, throughput and requests in flight over time."""
    is_short = timeline.seconds < SHORT_S
    found = [] if is_short else limited
    title = "Lines a second and requests in flight, over time"
    if not is_short:
        title = "What limited the runs, lines a second, and requests in flight, over time"
    drawn = narrow = None
    if are_drawn and len(timeline.stretches) >= _LEAST_STRETCHES:
        drawn, narrow = (charts.over_time(timeline, found, title, width) for width in (charts.WIDE, charts.NARROW))
    runs = ", one run after another; a dashed upright line is where a run began" if timeline.later_runs_s else ""
    about = (
        f"{duration(timeline.seconds)} of running{runs}. In flight are requests that were sent and have no record yet, "
        "those whose answer is about to be written among them"
    )
    if is_short:
        about += ". What limited the runs, and how many requests they allowed, is not drawn for so short a time."
    else:
        about += (
            "; the dashed line is how many the run allowed at once, where that is near. What limits a run is logged "
        )
        about += "once a second at most."
    head = ["from", "lines/s", "in flight", "allowed at once", "limited mostly by"]
    columns = 3 if is_short else len(head)
    rows = [_time_row(stretch)[:columns] for stretch in _few(timeline)]
    return Chart(title, about, Table("Over time", head[:columns], rows, (0, 4)), drawn, narrow)


def _few(timeline: Timeline) -> Iterator[Stretch]:
    """The stretches put together to a few."""
    size = math.ceil(len(timeline.stretches) / _TABLE_ROWS)
    for first in range(0, len(timeline.stretches), size):
        whole = Stretch(timeline.stretches[first].start_s)
        for stretch in timeline.stretches[first : first + size]:
            whole.take(stretch)
        yield whole


def _time_row(stretch: Stretch) -> list[str]:
    limit = max(stretch.limited_s, key=lambda name: stretch.limited_s[name], default="")
    slots = "–" if stretch.slots is None else f"{stretch.slots:,}"
    words = limit.replace("_", " ")
    return [duration(stretch.start_s), f"{stretch.records_per_s:,.1f}", f"{stretch.in_flight:,.1f}", slots, words]


# ------------------------------------------------------------------------------------------- histograms


def histograms(latency: Histogram, found: Survey, *, is_priced: bool, are_drawn: bool) -> list[Chart]:
    """Latency, tokens and cost of the lines, where they have some. Without a price, copies alone would cost 0."""
    told = (
        ("Latency", "seconds", "", latency, 1e-6),
        ("Input tokens", "tokens", "", found.input_tokens, 0.6),
        ("Output tokens", "tokens", "", found.output_tokens, 0.6),
        ("Cost of a line", "US dollars", "$", found.cost_usd, 1.1 * LEAST_USD),
    )
    return [_histogram(*one, are_drawn=are_drawn) for one in told if len(one[3]) and (is_priced or not one[2])]


def _histogram(title: str, unit: str, sign: str, values: Histogram, least: float, *, are_drawn: bool) -> Chart:
    is_whole = unit == "tokens"
    bars = bars_of(values.buckets(), is_whole=is_whole, least=least)
    marks = [charts.Mark(name, _rounded(values, share, is_whole, least)) for name, share in _quantiles()]
    told = ", ".join(f"{mark.name} {sign}{_number(mark.value)}" for mark in marks)
    about = f"{told}{'' if sign else ' ' + ('s' if unit == 'seconds' else unit)}; {counted(len(values), 'line')}"
    if len(values.buckets()) == 1:
        ends = (0.0 if value < least else value for value in (values.lowest, values.highest))
        name = " to ".join(dict.fromkeys(f"{sign}{_number(value)}" for value in ends))  # themselves, and no bounds
        about = f"{name}{'' if sign else f' {unit}'} for each of {counted(len(values), 'line')}."
        return Chart(title, about, Table(title, [], []))
    about += ", on a logarithmic axis." if bars is not None and bars.is_log and are_drawn else "."
    if bars is not None and bars.is_log and bars.zeros and are_drawn:
        about += f" {counted(bars.zeros, 'line')} of 0 {'is' if bars.zeros == 1 else 'are'} not drawn."
    table = Table(f"{title}, {unit}", ["from", "below", "lines"], list(_bar_rows(bars, sign, is_whole)))
    drawn = charts.histogram(bars, marks, title, unit, sign) if are_drawn and bars is not None else None
    return Chart(title, about, table, drawn)


def _quantiles() -> Iterator[tuple[str, float]]:
    return ((name, int(name[1:]) / 100) for name in _SHARES)


def _rounded(values: Histogram, share: float, is_whole: bool, least: float) -> float:
    value = values.quantile(share) or 0.0
    return 0.0 if value < least else float(round(value)) if is_whole else value


def _number(value: float) -> str:
    """A number of three digits in full: `0.000128`, `1,230`."""
    if not value:
        return "0"
    places = max(0, 2 - math.floor(math.log10(value)))
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _bar_rows(bars: Bars | None, sign: str, is_whole: bool) -> Iterator[list[str]]:
    if bars is None:
        return
    if bars.zeros:
        yield [f"{sign}0", "", f"{bars.zeros:,}"]
    for bar in bars.bars:
        if bar.number:
            low, high = (math.ceil(bar.lower), math.ceil(bar.upper)) if is_whole else (bar.lower, bar.upper)
            yield [f"{sign}{_number(low)}", f"{sign}{_number(high)}", f"{bar.number:,}"]


# ------------------------------------------------------------------------------------------------ labels


def label_charts(fields: Sequence[FieldShares], *, are_drawn: bool) -> list[Chart]:
    """The shares of the labels of the first fields; of the first few they are drawn."""
    most = most_labels(len(fields))
    return [
        _label_chart(field, most, are_drawn=are_drawn and place < FEW_FIELDS)
        for place, field in enumerate(fields[:MOST_FIELDS])
    ]


def _label_chart(field: FieldShares, most: int, *, are_drawn: bool) -> Chart:
    title = cut(field.column.name)
    rows = [[cut(one.label) or "(empty)", f"{one.rows:,}", percent(one.share)] for one in field.shares]
    about = f"Of {counted(field.rows, 'row')}."
    if field.is_list:
        about += " A row may have several."
    shown = field.shares[:_CHARTED_LABELS]
    if are_drawn and len(shown) < len(field.shares):
        about += f" The first {len(shown)} of {len(field.shares)} labels are drawn."
    head = ["label", "rows", "share (95% interval)"]
    table = Table(f"Labels in {title}", head, first_rows(rows, most, "label"))
    return Chart(title, about, table, charts.shares(shown, f"Shares of {title}") if are_drawn else None)


def percent(found: Interval) -> str:
    """A share with its interval: `12.3% (11.9% to 12.7%)`; a dash where it is not defined."""
    if found.value is None or found.lower is None or found.upper is None:
        return "–"
    return f"{found.value:.1%} ({found.lower:.1%} to {found.upper:.1%})"
