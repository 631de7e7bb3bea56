"""The report as a page: one file to keep and to pass on, made from a result file and what stands beside it.

Prompts and answers are left out unless they are asked for: a report is passed on more easily than the data.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchrun.billing.tally import Tally, cost_of
from batchrun.datasets.labels import Label
from batchrun.datasets.requests_of import find_requests
from batchrun.errors import UsageError
from batchrun.evaluation.asked import RESULTS_OF_JOB, Asked
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.html import blocks, charts
from batchrun.html.gold import gold_part
from batchrun.html.page import GENERATOR, MOST_FIELDS, Chart, Table, cut, more, render
from batchrun.records.answer import Result, refusal_of
from batchrun.records.money import usd
from batchrun.records.prompt import Turn, turns_of
from batchrun.records.words import counted, duration
from batchrun.report.prompts import requests_of_lines
from batchrun.report.report import Report
from batchrun.report.survey import DRAWN_ROWS, Survey, survey
from batchrun.report.text import notes_on
from batchrun.report.timeline import read_timeline
from batchrun.report.verdict import meaning, verdict, ways_out, what_next
from batchrun.results.paths import ResultPaths

_LONGEST_TEXT, _LONGEST_MESSAGE = 20_000, 300  # characters
MOST_PROBLEMS, _NAMED_MODELS = 20, 5
"""Error codes that a page shows, the most frequent first."""
_LARGEST_TEXTS = 5_000_000  # characters of all rows together


@dataclass(frozen=True, slots=True)
class Source:
    """What a page is made of: a report, the sums it is made of, the result file.

    `damaged`: lines of the file that are no records. `with_text`: whether prompts and answers are shown. `gold`: what
    the answers are held against.
    """

    report: Report
    tally: Tally
    results: Path
    damaged: int = 0
    with_text: bool = False
    gold: Question | None = None


def make_page(source: Source) -> bytes:
    """The page of a result file, in UTF-8.

    Raises `UsageError`, `InputError` or `ResultFileError` where a file cannot serve, `OSError` where it cannot be read.
    """
    are_drawn = charts.are_available()
    report, tally = source.report, source.tally
    found, why_no_labels = _survey(source)
    timeline = read_timeline(ResultPaths.of(source.results).log)
    over_time = limits = None
    if timeline is not None:
        limited = blocks.limits(report, timeline)
        over_time = blocks.over_time(timeline, limited, are_drawn=are_drawn)
        limits = blocks.limit_table(report, limited)
    return render(
        "report.html.j2",
        name=_name(source.results),
        subtitle=_subtitle(report, tally),
        verdict=_sentence(report, tally),
        command=report.next_command,
        change=_capital(report.next_change or ""),
        notice=None if are_drawn else f"Charts are drawn where their library is installed: {charts.EXTRA}",
        problems=list(_problems(report, tally)),
        more_problems=_more_problems(report),
        remarks=list(_remarks(source)),
        bill=blocks.bill(report),
        prices=_prices(report),
        speed=_speed(report),
        timeline=over_time,
        limits=limits,
        histograms=blocks.histograms(
            tally.total().latency, found, is_priced=report.cost.price_source != "none", are_drawn=are_drawn
        ),
        labels=_labels(found, why_no_labels, are_drawn=are_drawn),
        gold=gold_part(evaluate(source.results, source.gold)) if source.gold is not None else None,
        rows=_Rows.of(source, found),
        footer=f"Made by {GENERATOR}. Quantiles and the bounds of bars are within 1%.",
    )


def _survey(source: Source) -> tuple[Survey, str]:
    """What the records hold, and why nothing is known of their labels; "" where something is."""
    try:
        asked, why = Asked.of(source.results), ""
    except UsageError as error:
        asked, why = Asked(), str(error)
    return survey(source.results, source.tally.book, asked), why


# ------------------------------------------------------------------------------------------------- the top


def _name(results: Path) -> str:
    """The result file; of a labelling job the table that it makes."""
    table = results.absolute().parent.name.removesuffix(".job")
    return table if results.name == RESULTS_OF_JOB and table != results.absolute().parent.name else results.name


def _subtitle(report: Report, tally: Tally) -> str:
    left = len(report.models) - _NAMED_MODELS
    named = [cut(model) for model in islice(report.models, _NAMED_MODELS)]
    parts = [", ".join(named) + (f" and {more(left, 'model')}" if left > 0 else "")] if named else []
    if tally.starts:
        first, last = min(tally.starts)[:16].replace("T", " "), max(tally.starts)[:16].replace("T", " ")
        parts.append(f"begun {first} UTC" if first == last else f"begun {first} UTC, last run {last} UTC")
    return "; ".join(parts)


def _sentence(report: Report, tally: Tally) -> str:
    said = verdict(report)
    if report.stopped:
        said += f"; the run stopped early: {report.stopped}"
    return f"{said}." if report.next_command and not report.running else f"{said}; {what_next(report, tally)}."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


@dataclass(frozen=True, slots=True)
class _Problem:
    lines: str
    code: str
    meaning: str
    ways_out: list[str]
    example: str
    line: str
    message: str


def _problems(report: Report, tally: Tally) -> Iterator[_Problem]:
    for code, count in islice(report.errors.items(), MOST_PROBLEMS):
        example = report.error_examples[code]
        message = cut(" ".join(example.message.split()), _LONGEST_MESSAGE)
        told = list(ways_out(report, tally, code))
        where = (cut(example.custom_id), f"{example.line:,}")
        yield _Problem(counted(count, "line"), cut(code), meaning(code), told, *where, message)


def _more_problems(report: Report) -> str:
    """How many codes are not shown; "" where all are."""
    left = list(report.errors.values())[MOST_PROBLEMS:]
    return f"And {more(len(left), 'code')}, of {counted(sum(left), 'line')}." if left else ""


def _remarks(source: Source) -> Iterator[str]:
    if source.damaged:
        yield f"{counted(source.damaged, 'line')} of the result file {'is' if source.damaged == 1 else 'are'} damaged"
    yield from map(_capital, notes_on(source.report))


def _prices(report: Report) -> str:
    cost = report.cost
    if cost.price_source == "none":
        return "No price is known for these models." if cost.unpriced_lines else "No answer has a usage."
    return (
        f"Exact, in US dollars, at the prices of {cost.price_source}. "
        "Cached tokens are part of the input, reasoning tokens of the output."
    )


def _speed(report: Report) -> str:
    rate = f", {report.lines_per_s:,.1f} lines a second" if report.lines_per_s else ""
    retries = "1 retry" if report.retries == 1 else f"{report.retries:,} retries"
    return (
        f"{counted(report.attempts, 'attempt')} for these records, {retries}, {report.throttles:,} throttled by the "
        f"gateway, in {duration(report.duration_s)}{rate}."
    )


# ---------------------------------------------------------------------------------------------- the labels


@dataclass(frozen=True, slots=True)
class _LabelPart:
    about: str
    charts: list[Chart]


def _labels(found: Survey, why: str, *, are_drawn: bool) -> _LabelPart | None:
    if found.statuses is None:
        return _LabelPart(f"There are none to show: {why}.", []) if why else None
    counts = ", ".join(f"{count:,} {status}" for status, count in found.statuses.most_common())
    about = (
        f"Answers by the schema of the first request: {counts}. Only those that are ok have labels. The intervals are "
        "Wilson's, of 95%: they hold for rows drawn at random from a larger whole, and do not say how often a label is "
        "right."
    )
    if not found.fields:
        about += " No field has a few values that return, so there are no shares to show."
    if (left := len(found.fields) - MOST_FIELDS) > 0:
        about += f" {more(left, 'field')} {'is' if left == 1 else 'are'} not shown."
    return _LabelPart(about, blocks.label_charts(found.fields, are_drawn=are_drawn))


# ------------------------------------------------------------------------------------------- rows at random


@dataclass(frozen=True, slots=True)
class _NamedTurn:
    name: str
    text: str


@dataclass(frozen=True, slots=True)
class _RowTexts:
    title: str
    turns: list[_NamedTurn]


@dataclass(frozen=True, slots=True)
class _Rows:
    """Rows drawn at random, as a table, and with texts."""

    title: str
    about: str
    table: Table
    texts: list[_RowTexts]

    @classmethod
    def of(cls, source: Source, found: Survey) -> _Rows:
        """The rows of a survey."""
        count = len(found.rows)
        title = {0: "No rows", 1: "One row", DRAWN_ROWS: "Twenty rows at random"}.get(count, f"{count} rows at random")
        about = "The same ones each time: they are drawn by their ids."
        if not source.with_text:
            about += " Prompts and answers are left out; --with-text shows them."
        fields = found.fields[:MOST_FIELDS]
        names = [cut(field.column.name) for field in fields]
        head = [
            "id",
            "line",
            "outcome",
            *names,
            "model",
            "input",
            "output",
            "US dollars",
            "seconds",
            "attempts",
            "error",
        ]
        rows = [
            [
                *_first_cells(row),
                *(cut(field.in_row(label)) for field in fields),
                *_last_cells(row, source.tally),
            ]
            for row, label in zip(found.rows, found.labels, strict=True)
        ]
        words = (0, *range(2, 4 + len(names)), len(head) - 1)
        table = Table("Rows at random", head, rows, words)
        return cls(title, about, table, list(_texts(source, found)) if source.with_text else [])


def _first_cells(row: Result) -> list[str]:
    return [cut(row.custom_id), f"{row.run.line:,}", row.outcome]


def _last_cells(row: Result, tally: Tally) -> list[str]:
    from_billing = _cost(row, tally)
    usage, latency = row.usage, row.run.latency_s
    tokens = ["–", "–"] if usage is None else [f"{usage.input_tokens:,}", f"{usage.output_tokens:,}"]
    error = "" if row.error is None else row.error.code
    seconds = "–" if latency is None else f"{latency:,.2f}"
    model = row.run.model or row.run.requested_model
    return [cut(model), *tokens, from_billing, seconds, f"{row.run.attempts:,}", cut(error, 60)]


def _cost(row: Result, tally: Tally) -> str:
    cost = cost_of(row.run, tally.book)
    return "–" if cost is None else usd(cost)


def _texts(source: Source, found: Survey) -> Iterator[_RowTexts]:
    """What each row was asked, and what was answered."""
    requests = find_requests(source.results, None)
    numbers = {row.run.line for row in found.rows}
    asked = requests_of_lines(requests, source.results, numbers) if requests is not None else {}
    left = _LARGEST_TEXTS
    for row, label in zip(found.rows, found.labels, strict=True):
        request = asked.get(row.run.line)
        turns = list[_NamedTurn]()
        if request is None or request.body_hash != row.run.body_hash:
            turns.append(_NamedTurn("Prompt", "(the request is not there any more as it was sent)"))
        else:
            turns += [_NamedTurn(_turn_name(turn), _beginning(turn.text)) for turn in turns_of(request.body)]
        turns.append(_NamedTurn("Answer", _beginning(_answer(row, label))))
        left -= sum(len(turn.text) for turn in turns)
        yield _RowTexts(f"{cut(row.custom_id)}, line {row.run.line:,}, {row.outcome}", turns)
        if left < 0:
            break


def _turn_name(turn: Turn) -> str:
    pictures = f", with {counted(len(turn.pictures), 'picture')}" if turn.pictures else ""
    return f"Prompt: {turn.role}{pictures}"


def _answer(row: Result, label: Label | None) -> str:
    said = row.text or refusal_of(row.body) or ""
    parts = [said] if said else []
    parts += [f"{call.name}({call.arguments})" for call in row.tool_calls]
    if row.error is not None:
        parts.append(f"{row.error.code}: {row.error.message}")
    elif label is not None and not label.is_ok and label.error:
        parts.append(f"{label.status}: {label.error}")
    return "\n".join(parts) or "(none)"


def _beginning(text: str) -> str:
    if len(text) <= _LONGEST_TEXT:
        return text
    return f"{text[:_LONGEST_TEXT]}… ({len(text) - _LONGEST_TEXT:,} more characters)"
