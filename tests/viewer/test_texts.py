"""Long texts: a piece at a time, and all of it in the end."""

from __future__ import annotations

import html
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from batchrun.viewer.texts import PIECE
from tests.html.made import make_job
from tests.viewer.serving import Served, serving
from tests.viewer.test_second import rewritten, with_label

LONG_NUMBER = "12345678901234567890123"
LONG = "".join(f"word{number} " for number in range(30_000))


def with_long_reason(results: Path, reason: str) -> Path:
    """The same job; the reason of line 7 is that text."""
    rewritten(results, lambda record: with_label(record, reason=reason) if record["run"]["line"] == 7 else record)
    return results


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    results = with_long_reason(make_job(tmp_path_factory.mktemp("long"), 20), LONG)
    with serving(results) as viewer:
        yield viewer


def number_of(viewer: Served, line: int) -> int:
    return int(viewer.rows(f"line.from={line}&line.to={line}")["rows"][0]["number"])


def test_a_page_shows_the_beginning_and_says_what_is_left(served: Served) -> None:
    page = served.ask(f"/rows/{number_of(served, 7)}").text
    assert f"{len(LONG) - PIECE:,} more characters" in page
    assert "word29999" not in page
    assert len(page) < 5 * PIECE
    assert "more characters" not in served.ask(f"/rows/{number_of(served, 8)}").text


def test_the_pieces_make_the_whole_text(served: Served) -> None:
    number, text, at = number_of(served, 7), "", 0
    while True:
        told = served.ask(f"/rows/{number}/text.json?part=value-2&from={at}").json
        text += told["text"]
        assert told["left"] == len(LONG) - len(text)
        if told["next"] is None:
            break
        at = told["next"]
    assert text == LONG


@pytest.mark.parametrize("part", ["answer", "raw", "prompt-0", "prompt-1", "value-0", "error", "reasoning"])
def test_each_text_of_a_row_can_be_asked_for(served: Served, part: str) -> None:
    answer = served.ask(f"/rows/{number_of(served, 7)}/text.json?part={part}&from=0")
    assert answer.status == 200
    assert (answer.json["text"] == "") == (part in ("error", "reasoning"))


@pytest.mark.parametrize(
    "path", ["0/text.json", "0/text.json?part=x&from=0", "0/text.json?part=raw&from=-1", "x/text.json"]
)
def test_what_is_not_there_is_not_found(served: Served, path: str) -> None:
    assert served.ask(f"/rows/{path}").status == 404


def test_tool_calls_reasoning_error_and_attempts_stand_on_the_page_of_a_row(tmp_path: Path) -> None:
    said = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "First I weighed it."}]}
    arguments = f'{{"order": {LONG_NUMBER}}}'
    call = {"type": "function_call", "name": "look_up", "arguments": arguments, "call_id": int(LONG_NUMBER)}

    def change(record: dict[str, Any]) -> dict[str, Any]:
        if record["run"]["line"] == 7:
            record["response"]["body"]["output"] += [said, call]
        return record

    results = make_job(tmp_path, 20)
    rewritten(results, change)
    with serving(results) as viewer:
        page = html.unescape(viewer.ask(f"/rows/{number_of(viewer, 7)}").text)
        places = [page.index(part) for part in ("Reasoning summary", "First I weighed it.", "Tool calls", "look_up")]
        assert places == sorted(places)
        assert page.count(f'"order": {LONG_NUMBER}') == 1
        assert page.count(LONG_NUMBER) == 3, "no digit of it is lost in the record"
        assert "The raw record" in page
        assert viewer.rows(f"q=look_up+{LONG_NUMBER}")["total"] == 1
        failed = viewer.ask(f"/rows/{number_of(viewer, 10)}").text
        for shown in ("it broke", "<dt>attempts</dt><dd>3</dd>", "<dt>outcome</dt><dd>failed</dd>"):
            assert shown in failed, shown


def test_a_piece_of_what_means_harm_is_safe_to_show(tmp_path: Path) -> None:
    with serving(make_job(tmp_path, 20, hostile=True)) as viewer:
        told = viewer.ask(f"/rows/{number_of(viewer, 8)}/text.json?part=prompt-1&from=0")
        assert told.headers["Content-Type"] == "application/json"
        assert "\u202e" not in told.json["text"]
        assert "<script>" in told.json["text"], "the page puts it in place as text"
