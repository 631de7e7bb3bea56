"""The report as a page: what is in it and in which order, that it asks nothing of anybody, that texts stay texts."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.datasets import tables
from batchrun.datasets.fields import Column
from batchrun.evaluation.evaluate import Question
from batchrun.html import blocks
from batchrun.html.gold import Room
from batchrun.html.page import Table, first_rows
from batchrun.html.report import Source, make_page
from batchrun.report.rebuild import rebuild
from batchrun.report.survey import FieldShares, Share
from batchrun.report.text import render
from batchrun.report.timeline import Stretch, Timeline
from batchrun.results.events import Event, Sent, Start, Stop, encode_events
from batchrun.stats.proportions import Interval
from tests.html.made import AGAIN, HOSTILE, SECRET_ANSWER, SECRET_PROMPT, SHOWN, make_job, write_gold
from tests.html.reading import Page
from tests.support import KEY, write_prices

IN_ORDER = (
    "108 of 120 lines succeeded",
    "What went wrong",
    "Bill",
    "Speed",
    "Lines",
    "Labels",
    "Right and wrong",
    "Twenty rows at random",
)


def page_of(results: Path, *, gold: Path | None = None, with_text: bool = False) -> bytes:
    rebuilt = rebuild(results, PriceBook.load(write_prices(results.parent)))
    question = Question(tables.Source(str(gold)), key="id") if gold is not None else None
    return make_page(Source(rebuilt.report, rebuilt.tally, results, with_text=with_text, gold=question))


@pytest.fixture
def no_charts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "vl_convert", None)


@pytest.mark.smoke
def test_without_the_extra_it_says_how_to_get_charts_and_shows_the_figures_as_tables(
    tmp_path: Path, no_charts: None
) -> None:
    page = Page(page_of(make_job(tmp_path)))
    assert "pip install 'batchrun[report]'" in page.text
    assert not page.all("svg")
    assert not page.all("details"), "nothing is hidden"
    for caption in ("Over time", "Latency, seconds", "Cost of a line, US dollars", "Labels in topic"):
        assert caption in page.text


def test_with_the_extra_each_chart_has_a_name_and_its_figures_as_a_table(tmp_path: Path) -> None:
    page = Page(page_of(make_job(tmp_path)))
    names = [svg["aria-label"] for svg in page.all("svg")]
    assert names[2:] == [
        "Latency",
        "Input tokens",
        "Output tokens",
        "Cost of a line",
        "Shares of topic",
        "Shares of urgent",
    ]
    assert names[0] == names[1] == "What limited the runs, lines a second, and requests in flight, over time"
    assert len(page.all("details")) == 7
    assert "batchrun[report]" not in page.text
    for unit in ("seconds", "tokens", "US dollars", "share of rows", "lines/s", "seconds of running"):
        assert unit in page.text


def test_each_histogram_says_its_percentiles_and_those_of_latency_are_the_texts(tmp_path: Path) -> None:
    results = make_job(tmp_path)
    page = " ".join(Page(page_of(results)).text.split())
    assert len(re.findall(r"p50 \S+, p95 \S+, p99 \S+ (?:s|tokens)?;? ?", page)) == 4
    text = render(rebuild(results, PriceBook.load(write_prices(tmp_path))).report)
    told = re.search(r"latency: p50 (\S+) s, p95 (\S+) s, p99 (\S+) s", text)
    assert told is not None
    assert "p50 {}, p95 {}, p99 {} s".format(*told.groups()) in page


def test_it_has_everything_in_its_order(tmp_path: Path) -> None:
    text = Page(page_of(make_job(tmp_path), gold=write_gold(tmp_path))).text
    places = [text.index(part) for part in IN_ORDER]
    assert places == sorted(places)


def test_what_went_wrong_has_an_example_and_the_way_out_of_each_code(tmp_path: Path) -> None:
    text = Page(page_of(make_job(tmp_path))).text
    assert "6 lines failed with http_503: the answer has an error status" in text
    assert "The next run of the same command sends these lines again." in text
    assert "6 lines failed with invalid_request_error: a code of the gateway" in text
    assert "with --changed resend: the same request gets the same end." in text
    assert re.search(r"For example row-\d\d[24680]0, line \d+: it broke", text)


def test_it_asks_nothing_of_anybody(tmp_path: Path) -> None:
    """Neither an element that loads, nor a script, nor a style that its policy does not name by its hash."""
    page = Page(page_of(make_job(tmp_path, hostile=True), gold=write_gold(tmp_path, hostile=True), with_text=True))
    loading = {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "audio",
        "video",
        "form",
        "base",
        "image",
        "use",
        "a",
    }
    assert {name for name, _ in page.elements} & loading == set()
    for name, attributes in page.elements:
        assert not {"style", "src", "href", "xlink:href", "action", "srcset", "poster"} & attributes.keys(), name
        assert not [one for one in attributes if one.startswith("on")], name
        assert "url(" not in str(attributes.values()), name
    digest = base64.b64encode(hashlib.sha256(page.style.encode()).digest()).decode()
    policy = page.meta("Content-Security-Policy").split("; ")
    assert policy == ["default-src 'none'", f"style-src 'sha256-{digest}'", "base-uri 'none'", "form-action 'none'"]
    assert "url(" not in page.style
    assert "@import" not in page.style


def test_whatever_a_server_or_a_file_said_stays_a_text(tmp_path: Path) -> None:
    results, gold = make_job(tmp_path, hostile=True), write_gold(tmp_path, hostile=True)
    rebuilt = rebuild(results, PriceBook.load(write_prices(tmp_path)))
    question = Question(tables.Source(str(gold)), key="id", by=HOSTILE)
    made = make_page(Source(rebuilt.report, rebuilt.tally, results, with_text=True, gold=question))
    page = Page(made)
    for place in (
        f"{SHOWN}3",
        f"gpt-4.1{SHOWN}",
        f"odd{SHOWN}",
        f"it broke{SHOWN}",
        f"g1{SHOWN}",
        "second line" + SHOWN,
    ):
        assert place in page.text or place[:70] in page.text, place
    assert not set(made.decode()) & set("\x1b\u202e"), "nor what turns letters round or moves a cursor"


def test_prompts_and_answers_are_there_only_where_they_are_asked_for(tmp_path: Path) -> None:
    results = make_job(tmp_path)
    plain, full = page_of(results), Page(page_of(results, with_text=True)).text
    assert SECRET_PROMPT.encode() not in plain
    assert SECRET_ANSWER.encode() not in plain
    drawn = re.findall(r"row-(\d{4}), line \d+, (?:succeeded|failed)", full)
    assert len(drawn) == 20
    for number in map(int, drawn):
        assert f"{SECRET_PROMPT} {number}\nsecond line" in full
        assert number % 10 == 0 or f"{SECRET_ANSWER} {number}" in full


def test_a_request_that_was_changed_since_is_not_shown_beside_its_answer(tmp_path: Path) -> None:
    results = make_job(tmp_path)
    requests = tmp_path / "requests.jsonl"
    requests.write_text(requests.read_text().replace(SECRET_PROMPT, "another prompt"))
    text = Page(page_of(results, with_text=True)).text
    assert "another prompt" not in text
    assert text.count("(the request is not there any more as it was sent)") == 20


def test_it_is_small_however_many_lines_there_are(tmp_path: Path) -> None:
    assert len(page_of(make_job(tmp_path, 4000), gold=write_gold(tmp_path, 4000))) <= 500_000


def changed(results: Path, change: Callable[[int, dict[str, Any]], None], times: int = 1) -> Path:
    """The same records, so many times over, each changed."""
    lines = results.read_bytes().splitlines() * times
    records = [json.loads(line) for line in lines]
    for place, record in enumerate(records):
        change(place, record)
    results.write_text("".join(json.dumps(record) + "\n" for record in records))
    return results


def test_it_is_small_however_many_codes_and_models_there_are(tmp_path: Path, no_charts: None) -> None:
    def change(place: int, record: dict[str, Any]) -> None:
        record["custom_id"] = f"r{place}"
        record["run"] |= {"line": place + 1, "requested_model": f"model-{place % 700:04}-{'m' * 300}"}
        if place % 2:
            record["run"]["outcome"] = "failed"
            record["error"] = {"code": f"code_{place:04}_{'c' * 300}", "message": "it broke " * 50}

    text = page_of(changed(make_job(tmp_path), change, times=15))
    assert len(text) < 200_000
    page = Page(text)
    assert page.text.count("failed with") == 20
    codes = re.search(r"And ([\d,]+) more codes, of ([\d,]+) lines", page.text)
    assert codes is not None
    assert codes[1] == "882"
    assert codes[2] == "882"
    assert "and 670 more models" in page.text, "in the bill"
    assert "and 695 more models; begun" in page.text, "below the title"
    assert "c" * 100 not in page.text


@pytest.mark.parametrize(
    ("tokens", "said"),
    [(lambda _: 489, "489 tokens"), (lambda place: 100_000 + place % 5, "100,000 to 100,004 tokens")],
)
def test_one_value_is_said_exactly_and_no_price_shows_no_cost(
    tmp_path: Path, tokens: Callable[[int], int], said: str
) -> None:
    def change(place: int, record: dict[str, Any]) -> None:
        record["run"]["requested_model"] = "own-model"
        if (usage := record["run"].get("usage")) is not None:
            record["run"]["model"] = "own-model"
            usage |= {"input_tokens": tokens(place), "total_tokens": tokens(place) + usage["output_tokens"]}
        if record["run"]["line"] == 2:
            record["run"]["source"] = {"kind": "copied", "line": 1}  # costs nothing, whatever the price

    page = Page(page_of(changed(make_job(tmp_path), change)))
    assert "Cost of a line" not in page.text
    assert f" {said} for each of 108 lines." in " ".join(page.text.split())
    assert not [svg for svg in page.all("svg") if svg["aria-label"] == "Input tokens"]


def test_bars_and_percentiles_of_narrow_numbers_are_those_of_the_lines(tmp_path: Path) -> None:
    """Prompts of one template differ by a few tokens: each bar has the lines that are within its bounds."""

    def change(place: int, record: dict[str, Any]) -> None:
        if (usage := record["run"].get("usage")) is not None:
            usage |= {"input_tokens": (tokens := 470 + place % 55), "total_tokens": tokens + usage["output_tokens"]}

    results = changed(make_job(tmp_path), change)
    found = sorted(
        record["run"]["usage"]["input_tokens"]
        for record in map(json.loads, results.read_bytes().splitlines())
        if record["run"].get("usage")
    )
    text = " ".join(Page(page_of(results)).text.split())
    (figures,) = re.findall(r"Input tokens, tokens from below lines ((?:\d+ )+)", text)
    bars = re.findall(r"(\d+) (\d+) (\d+) ", figures)
    assert len(bars) > 2
    for lower, upper, lines in bars:
        assert sum(int(lower) <= one < int(upper) for one in found) == int(lines)
    ((p50, p95),) = re.findall(r"Input tokens p50 (\d+), p95 (\d+)", text)
    assert abs(int(p50) - found[len(found) // 2]) <= 1
    assert abs(int(p95) - found[len(found) * 95 // 100]) <= 1


def test_gold_of_many_fields_labels_and_groups_is_cut(tmp_path: Path) -> None:
    table = Table("Labels", ["label", "rows"], first_rows([[f"l{n}", str(n)] for n in range(50)], 40, "label"))
    assert list(table.rows)[-1] == ["and 10 more labels", ""]
    results, gold = make_job(tmp_path), write_gold(tmp_path)
    question = Question(tables.Source(str(gold)), key="id", by="id")
    rebuilt = rebuild(results, PriceBook.load(write_prices(tmp_path)))
    page = Page(make_page(Source(rebuilt.report, rebuilt.tally, results, gold=question)))
    assert "and 80 more groups" in page.text


def test_many_fields_are_shown_in_less_room_and_then_not_at_all(no_charts: None) -> None:
    whole = Interval(0.1, 0.05, 0.2)

    def fields(count: int) -> list[FieldShares]:
        shares = [Share(f"label {place}", 10, whole) for place in range(50)]
        return [FieldShares(Column(f"field {place}"), 500, shares, is_list=False) for place in range(count)]

    assert [len(chart.table.rows) for chart in blocks.label_charts(fields(6), are_drawn=False)] == [50] * 6
    many = blocks.label_charts(fields(30), are_drawn=False)
    assert [len(chart.table.rows) for chart in many] == [21] * 12
    assert list(many[0].table.rows)[-1][0] == "and 30 more labels"
    room = Room(2_000)
    assert [room.takes(cells) for cells in (900, 900, 900, 64)] == [True, True, False, True]


def test_what_limited_a_short_run_is_not_drawn_over_time() -> None:
    stretches = [Stretch(0.25 * n, 0.25, 4, 1.0, 8, {"slow_start": 0.25}) for n in range(160)]
    for seconds, is_drawn in ((15, False), (40, True)):
        timeline = Timeline(stretches[: 4 * seconds], 0.25, [], {"slow_start": 1.0, "tail": 39.0})
        chart = blocks.over_time(timeline, [("tail", 0.975), ("slow_start", 0.025)], are_drawn=True)
        assert ("slow start 2%" in str(chart.drawn)) is is_drawn
        assert ("What limited the runs" in chart.title, len(chart.table.head)) == (is_drawn, 5 if is_drawn else 3)


def test_text_and_page_name_the_same_limits_of_all_runs(tmp_path: Path) -> None:
    results = make_job(tmp_path)
    earlier, of_model = {"gateway_requests": 41.0, "slow_start": 20.0}, {"m": {"rpm": 61.0}}
    events: list[Event] = [
        Start(t=0.0, started=AGAIN, limited_s=earlier, limited_s_by_model=of_model),
        Sent(t=1.0, line=1, attempt=1, model="m", body_bytes=1),
        Stop(t=61.0, why="done", limited_s={"paused": 61.0}, limited_s_by_model={"m": {"paused": 61.0}}),
    ]
    Path(f"{results}.log").write_bytes(encode_events(events))
    text = render(rebuild(results, PriceBook.load(write_prices(tmp_path))).report)
    assert "\nlimited by: paused 50%, gateway requests 34%, slow start 16%\n" in text
    assert "\nlimited by, m: rpm 50%, paused 50%\n" in text
    page = " ".join(Page(page_of(results)).text.split())
    assert (
        "limited by all m paused 50.0% 50.0% gateway requests 33.6% 0.0% slow start 16.4% 0.0% rpm 0.0% 50.0%" in page
    )


def test_the_same_files_make_the_same_page(tmp_path: Path) -> None:
    """The rows are drawn by their ids, in whatever order they were answered."""
    results = make_job(tmp_path)
    first = page_of(results)
    records = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(sorted(records)))
    table = re.compile(rb"<h2>Twenty rows.*", re.DOTALL)
    assert table.findall(page_of(results)) == table.findall(first)


def test_gold_has_figures_confusion_and_mix_ups(tmp_path: Path) -> None:
    text = Page(page_of(make_job(tmp_path), gold=write_gold(tmp_path))).text
    for part in (
        "accuracy of the answered",
        "F1, macro",
        "Cohen's kappa",
        "Figures by label",
        "The most frequent mix-ups",
    ):
        assert part in text
    assert "gold \\ answer" in text


def test_nothing_known_of_the_run_is_said(tmp_path: Path) -> None:
    results = make_job(tmp_path)
    Path(f"{results}.log").unlink()
    text = Page(page_of(results)).text
    assert "There is no run log beside the results" in text
    assert "Labels in" not in text, "the schema is not known either"


def test_a_secret_of_the_environment_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    assert KEY.encode() not in page_of(make_job(tmp_path), with_text=True)


def test_the_page_of_a_labelling_job_has_the_name_of_its_table(tmp_path: Path) -> None:
    folder = tmp_path / "labelled.csv.job"
    folder.mkdir()
    assert "<title>labelled.csv: report</title>" in page_of(make_job(folder)).decode()
    assert "<title>results.jsonl: report</title>" in page_of(make_job(tmp_path)).decode()
