"""Charts as inline SVG, drawn by Vega-Lite in this process: no script, no font and no address is in them.

1. The library is the extra `report`. Without it there are no charts, and whoever shows one shows its table.
2. Colours are variables of the page's style, so a chart follows light, dark and print.
3. Texts in a chart have been cleaned, are data and never part of an expression; Vega escapes them.
4. Meaning is never in a colour alone: rows have names, lines have dashes and words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any, NamedTuple

from markupsafe import Markup

from batchrun.records.words import printable, shortened
from batchrun.report.survey import Share
from batchrun.report.timeline import Timeline
from batchrun.stats.bins import Bars, ticks

EXTRA = "pip install 'batchrun[report]'"
WIDE, NARROW = 860, 336  # pixels: of a page on a desk, and of one on a telephone
_LONGEST_LABEL = 22
_Json = dict[str, Any]
_SHORT = "datum.value < 1000 ? format(datum.value, '~r') : format(datum.value, '~s')"  # 0.5, 250, 1.5k
_HALO: _Json = {"type": "rule", "stroke": "var(--page)", "strokeWidth": 3.5}  # a line over bars stands out from them

_CONFIG: _Json = {
    "background": None,
    "font": "system-ui, sans-serif",
    "padding": {"left": 8, "right": 14, "top": 4, "bottom": 4},
    "view": {"stroke": None},
    "axis": {
        "labelColor": "var(--ink)",
        "titleColor": "var(--ink)",
        "gridColor": "var(--rule)",
        "domainColor": "var(--faint)",
        "tickColor": "var(--faint)",
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "titlePadding": 8,
        "labelLimit": 240,
    },
    "bar": {"fill": "var(--accent)"},
    "rect": {"fill": "var(--accent)", "stroke": None},
    "rule": {"stroke": "var(--ink)"},
    "text": {"fill": "var(--ink)", "fontSize": 12},
}


_TAG = re.compile(r"<[^>]*>")
_NOT_SEEN = re.compile(r' (?:role|aria-[a-z]+|pointer-events|version|xmlns:xlink)="[^"]*"')  # half of the size


class Mark(NamedTuple):
    """A value that a histogram names: `p95` at 1.2."""

    name: str
    value: float


def are_available() -> bool:
    """Whether the extra is installed."""
    try:
        import vl_convert  # noqa: F401
    except ImportError:
        return False
    return True


def draw(spec: _Json, title: str) -> Markup:
    """A Vega-Lite chart as an SVG element whose name is `title`. Raises `ImportError` without the extra."""
    import vl_convert

    svg = vl_convert.vegalite_to_svg({**spec, "config": _CONFIG}, vl_version="6.1", allowed_base_urls=[])
    named = f'<svg role="img" aria-label="{escape(printable(title))}" '
    return Markup(named + _TAG.sub(lambda tag: _NOT_SEEN.sub("", tag[0]), svg).removeprefix("<svg "))


# ------------------------------------------------------------------------------------------- histograms


def histogram(bars: Bars, marks: Sequence[Mark], title: str, unit: str, sign: str = "") -> Markup:
    """A histogram of lines, with the places of some values named in it. `sign`: before each number, such as `$`."""
    low, high = bars.bars[0].lower, bars.bars[-1].upper
    most = max(bar.number for bar in bars.bars)
    x: _Json = {
        "field": "lower",
        "type": "quantitative",
        "scale": {"type": "log" if bars.is_log else "linear", "domain": [low, high], "nice": False, "zero": False},
        "axis": {"values": bars.ticks, "format": f"{sign},~r", "grid": False, "labelOverlap": True},
        "title": unit,
    }
    y: _Json = {
        "field": "number",
        "type": "quantitative",
        "scale": {"domain": [0, most], "nice": False},
        "axis": {"values": ticks(0, most, is_whole=True), "labelExpr": _SHORT},
        "title": "lines",
    }
    counted = [bar._asdict() for bar in bars.bars if bar.number]
    bar: _Json = {
        "data": {"values": counted},
        "mark": {"type": "rect", "stroke": "var(--page)", "strokeWidth": 1},
        "encoding": {"x": x, "x2": {"field": "upper"}, "y": y, "y2": {"datum": 0}},
    }
    named = [layer for row, mark in enumerate(marks) for layer in _named(mark, row, low, high)]
    return draw({"width": NARROW - 60, "height": 150, "layer": [bar, *named]}, title)


def _named(mark: Mark, row: int, low: float, high: float) -> list[_Json]:
    """A value's dashed line with its name above the bars; the first one is the highest, so that none crosses a name."""
    top = 14 * row - 42
    at = {"field": "value", "type": "quantitative"}
    data = {"values": [{"value": min(max(mark.value, low), high), "name": mark.name}]}
    line = {"x": at, "y": {"value": top}, "y2": {"value": "height"}}
    return [
        {"data": data, "mark": _HALO, "encoding": line},
        {"data": data, "mark": {"type": "rule", "strokeDash": [3, 3]}, "encoding": line},
        {
            "data": data,
            "mark": {"type": "text", "align": "left", "dx": 4, "baseline": "top"},
            "encoding": {"x": at, "y": {"value": top}, "text": {"field": "name"}},
        },
    ]


# ------------------------------------------------------------------------------------------ over time


def over_time(timeline: Timeline, limits: Sequence[tuple[str, float]], title: str, width: int) -> Markup:
    """What limited the runs, records a second and requests in flight, one above the other over the same time.

    `limits`: what limited the runs, with the share of the time that each took; none where the log does not tell it
    closely enough, and then what the runs allowed is not drawn either.
    """
    unit, seconds = _unit_of_time(timeline.seconds)
    inner = width - (190 if width > 600 else 60)
    end = max(stretch.start_s + stretch.observed_s for stretch in timeline.stretches) / seconds
    x: _Json = {
        "field": "start",
        "type": "quantitative",
        "scale": {"domain": [0, end], "nice": False},
        "axis": {"grid": False, "tickCount": 6, "format": ",~r"},
        "title": f"{unit} of running",
    }
    values = [
        {
            "start": stretch.start_s / seconds,
            "end": (stretch.start_s + stretch.observed_s) / seconds,
            "rate": stretch.records_per_s,
            "in_flight": stretch.in_flight,
            "slots": stretch.slots if limits else None,
        }
        for stretch in timeline.stretches
    ]
    begun = {"data": {"values": [{"start": at / seconds} for at in timeline.later_runs_s]}}
    runs: _Json = {**begun, "mark": {"type": "rule", "strokeDash": [2, 2]}, "encoding": {"x": x}}
    spec: _Json = {
        "vconcat": [
            *([_limit_rows(timeline, limits, x, runs, inner, seconds)] if limits else []),
            _steps(values, x, runs, inner, "rate", "lines/s"),
            _in_flight(values, x, runs, inner),
        ],
        "spacing": 14,
    }
    return draw(spec, title)


def _unit_of_time(seconds: float) -> tuple[str, float]:
    if seconds < 180:
        return "seconds", 1.0
    return ("minutes", 60.0) if seconds < 3 * 3600 else ("hours", 3600.0)


def _limit_rows(
    timeline: Timeline, limits: Sequence[tuple[str, float]], x: _Json, runs: _Json, width: int, seconds: float
) -> _Json:
    """A row for each limit: filled while it held, of each stretch as much as it held."""
    is_wide = width > 400
    names = {limit: f"{limit.replace('_', ' ')} {share:.0%}" for limit, share in limits}
    values = [
        {
            "start": stretch.start_s / seconds,
            "end": (stretch.start_s + held) / seconds,
            "name": names[limit],
        }
        for stretch in timeline.stretches
        for limit, held in stretch.limited_s.items()
        if limit in names
    ]
    axis: _Json = {"title": None, "domain": False, "ticks": False, "grid": False}
    if not is_wide:  # the names stand above their rows, where there is no room beside them
        axis |= {"labelAlign": "left", "labelPadding": 0, "labelOffset": -16}
    y = {"field": "name", "type": "nominal", "sort": list(names.values()), "axis": axis}
    return {
        "width": width,
        "height": {"step": 22 if is_wide else 36},
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "rect", "height": 12},
                "encoding": {
                    "x": {**x, "axis": {**x["axis"], "labels": False, "ticks": False, "title": None}},
                    "x2": {"field": "end"},
                    "y": y,
                },
            },
            *([{**runs, "encoding": {"x": {**x, "axis": None}}}] if runs["data"]["values"] else []),
        ],
    }


def _steps(values: list[_Json], x: _Json, runs: _Json, width: int, name: str, title: str) -> _Json:
    return {
        "width": width,
        "height": 110,
        "layer": [
            {
                "data": {"values": values},
                "mark": {"type": "rect"},
                "encoding": {
                    "x": {**x, "axis": {**x["axis"], "labels": False, "title": None}},
                    "x2": {"field": "end"},
                    "y": {
                        "field": name,
                        "type": "quantitative",
                        "title": title,
                        "axis": {"tickCount": 4, "labelExpr": _SHORT},
                    },
                    "y2": {"datum": 0},
                },
            },
            *([{**runs, "encoding": {"x": {**x, "axis": None}}}] if runs["data"]["values"] else []),
        ],
    }


def _in_flight(values: list[_Json], x: _Json, runs: _Json, width: int) -> _Json:
    """Requests in flight as an area, and as a dashed line how many there might have been, as far as it is near."""
    most = max(value["in_flight"] for value in values) or 1.0
    near = list(_level([value for value in values if value["slots"] is not None and value["slots"] <= 2 * most]))
    steps = _steps(values, x, {"data": {"values": []}}, width, "in_flight", "in flight")
    (area,) = steps["layer"]
    area["encoding"]["x"] = x
    limit: _Json = {
        "data": {"values": near},
        "encoding": {"x": x, "x2": {"field": "end"}, "y": {"field": "slots", "type": "quantitative"}},
    }
    lines = [{**limit, "mark": _HALO}, {**limit, "mark": {"type": "rule", "strokeDash": [4, 2], "strokeWidth": 1.5}}]
    return {**steps, "layer": [area, *(lines if near else []), *([runs] if runs["data"]["values"] else [])]}


def _level(values: Iterable[_Json]) -> Iterator[_Json]:
    """Stretches that follow one another with equal slots as one, so that their line is one as well."""
    last: _Json | None = None
    for value in values:
        if last is not None and last["slots"] == value["slots"] and math.isclose(last["end"], value["start"]):
            last["end"] = value["end"]
            continue
        if last is not None:
            yield last
        last = dict(value)
    if last is not None:
        yield last


# --------------------------------------------------------------------------------------------- shares


def shares(found: Sequence[Share], title: str) -> Markup:
    """Shares of labels as bars, each with the line of its interval."""
    names = _distinct([share.label for share in found])
    values = [
        {"name": name, "share": share.share.value, "lower": share.share.lower, "upper": share.share.upper}
        for name, share in zip(names, found, strict=True)
    ]
    most = max(share.share.upper or 0.0 for share in found)
    y = {"field": "name", "type": "nominal", "sort": names, "title": None, "axis": {"domain": False, "ticks": False}}
    scale = {"domain": [0, min(1.0, most * 1.05)], "nice": False}
    x = {
        "type": "quantitative",
        "scale": scale,
        "axis": {"format": ".0%", "tickCount": 4, "labelOverlap": True, "labelSeparation": 6},
        "title": "share of rows",
    }
    bounds = {"x": {**x, "field": "lower"}, "x2": {"field": "upper"}, "y": y}
    spec: _Json = {
        "width": NARROW - 60 - 7 * min(_LONGEST_LABEL, max(map(len, names))),
        "height": {"step": 22},
        "data": {"values": values},
        "layer": [
            {"mark": {"type": "bar", "height": 12}, "encoding": {"x": {**x, "field": "share"}, "y": y}},
            {"mark": _HALO, "encoding": bounds},
            {"mark": {"type": "rule", "strokeWidth": 1.5}, "encoding": bounds},
        ],
    }
    return draw(spec, title)


def _distinct(labels: Sequence[str]) -> list[str]:
    """Labels that are cleaned and cut, and still tell the rows apart."""
    names = list[str]()
    for label in labels:
        clean = printable(label) or "(empty)"
        name = short = shortened(clean, _LONGEST_LABEL)
        count = 1
        while name in names:
            count += 1
            name = f"{short} ({count})"
        names.append(name)
    return names
