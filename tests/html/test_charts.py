"""Charts: their words are those that were given, whole and apart; nothing is fetched; no library, no charts."""

from __future__ import annotations

import html
import re
import sys

import pytest

from batchrun.html import charts
from batchrun.report.survey import Share
from batchrun.stats.proportions import wilson


def words(svg: str) -> list[str]:
    return [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", svg)]


@pytest.mark.parametrize(
    "label",
    ['a role="b" c', "x aria-label='y'", "<b>&\"'</b>", "{{ 1 }}", "datum.x", "2026-01-02", "null", "1e3", "a\\b"],
)
def test_a_label_is_shown_as_it_is(label: str) -> None:
    svg = charts.shares([Share(label, 3, wilson(3, 10)), Share("other", 7, wilson(7, 10))], "Shares")
    assert label in words(svg)


def test_two_long_labels_with_the_same_beginning_stay_two() -> None:
    found = [Share("the same long beginning, " + end, 5, wilson(5, 10)) for end in ("one", "two")]
    svg = charts.shares(found, "Shares")
    assert [word for word in words(svg) if word.startswith("the same")] == [
        "the same long beginni…",
        "the same long beginni… (2)",
    ]


def test_what_hides_in_a_label_is_cleaned_out() -> None:
    svg = charts.shares([Share("a\x1b[31mb\u202ec", 3, wilson(3, 10)), Share("", 1, wilson(1, 10))], "t\u202e")
    assert {"abc", "(empty)"} <= set(words(svg))
    assert "\u202e" not in svg


def test_a_chart_fetches_nothing() -> None:
    with pytest.raises(ValueError, match="not allowed"):
        charts.draw({"data": {"url": "http://127.0.0.1:9/x.csv"}, "mark": "bar", "encoding": {}}, "x")


def test_a_chart_holds_no_address_style_or_id() -> None:
    svg = charts.shares([Share("a", 3, wilson(3, 10))], "Shares")
    assert set(re.findall(r'https?://[^"]*', svg)) == {"http://www.w3.org/2000/svg"}, "the name of the format"
    assert not re.findall(r'\s(?:style|id|href)="', svg)
    assert "url(" not in svg


def test_without_the_library_there_are_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert charts.are_available()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    assert not charts.are_available()
