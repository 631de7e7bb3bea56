"""The review in Chromium, by keys: as a person would decide, and faster than a person should."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from batchrun.datasets.corrections import read_corrections
from batchrun.results.paths import ResultPaths
from batchrun.viewer.review import Review
from tests.html.made import make_job
from tests.html.test_browser import browse, playwright, pytestmark
from tests.support import until
from tests.viewer.serving import Served, serving
from tests.viewer.test_browser import assert_quiet, opened
from tests.viewer.test_corrected_join import job, joined
from tests.viewer.test_review import answer_anew, review_of, written
from tests.viewer.test_second import CHANGED, ROWS, make_second

__all__ = ["browse", "job", "playwright", "pytestmark"]

PRESS = """
keys => keys.forEach(key => document.activeElement.dispatchEvent(
  new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true })))
"""
"""Keys so fast that nothing happens between them."""


@contextmanager
def in_review(browse: Any, results: Path, review: Review) -> Iterator[tuple[Any, Served]]:
    """The page of a review at its first row, and its server. At the end nothing may have been complained of."""
    with closing(review.file), serving(results, review) as served, browse() as browser:
        page = opened(browser, served)
        page.locator("a", has_text="Review").click()
        page.wait_for_url("**/review/0")
        yield page, served
        assert_quiet(browser, served)


def test_ten_rows_are_decided_by_keys_alone(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 120)
    review = review_of(results, 10)
    with in_review(browse, results, review) as (page, served):
        for place in range(9):
            page.keyboard.press("Enter")
            page.wait_for_url(f"**/review/{place + 1}")
        page.keyboard.press("1")
        page.locator("[data-active][data-field=urgent]").wait_for()
        page.keyboard.press("2")
        page.locator("[data-active][data-field=reason]").wait_for()
        page.keyboard.press("e")
        page.keyboard.type("a better reason")
        page.keyboard.press("Enter")
        page.locator("[role=status]", has_text="All rows are decided").wait_for()
        corrections = ResultPaths.of(served.index.results).corrections
        command = page.locator("[role=status] code").inner_text()
        assert command == f"batchrun join DATA {served.index.results} -o corrected.csv --corrections {corrections}"
    found = read_corrections(ResultPaths.of(results).corrections)
    assert len(found.by_row) == 10
    last = found.values(review.queue.rows[9].id)
    assert last == {"topic": "billing", "urgent": False, "reason": "a better reason"}


def test_a_key_that_is_held_decides_once(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    with in_review(browse, results, review) as (page, _):
        page.keyboard.down("Enter")
        page.wait_for_url("**/review/1")
        for _ in range(5):
            page.keyboard.down("Enter")  # as the system repeats a key that is held
        page.keyboard.up("Enter")
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/2")
        page.locator("[data-active] button").first.focus()
        page.keyboard.press("Enter")
        page.locator("[data-field=topic] .done").wait_for()
        assert page.evaluate("document.activeElement.dataset.field") == "urgent", "the next one has the focus"
        page.locator("#accept").focus()
        for _ in range(5):
            page.keyboard.down("Enter")  # on a button the browser itself repeats
        page.keyboard.up("Enter")
        page.wait_for_url("**/review/3")
        assert page.locator("#said").inner_text() == ""
    decided = read_corrections(ResultPaths.of(results).corrections)
    assert set(decided.by_row) == {row.id for row in review.queue.rows[:3]}
    assert len(written(results)) == 9


def test_ten_rows_decided_by_keys_are_in_the_joined_table(browse: Any, job: Path) -> None:
    results = job / "results.jsonl"
    before = joined(job)
    review = review_of(results, 10)
    with in_review(browse, results, review) as (page, _):
        for place, row in enumerate(review.queue.rows):
            page.wait_for_url(f"**/review/{place}")
            if place % 2:
                key = "1" if before[row.id]["topic"] != "billing" else "2"
                page.keyboard.press(key)
                page.locator("[data-active][data-field=urgent]").wait_for()
            page.keyboard.press("Enter")
        page.locator("[role=status]", has_text="All rows are decided").wait_for()
    after = joined(job, "--corrections", ResultPaths.of(results).corrections)
    for place, row in enumerate(review.queue.rows):
        was = before[row.id]["topic"]
        topic = was if not place % 2 else "billing" if was != "billing" else "delivery"
        assert after[row.id] == before[row.id] | {"topic": topic}


def test_fast_keys_decide_what_is_shown_and_nothing_else(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    first, second = (row.id for row in review.queue.rows[:2])
    with in_review(browse, results, review) as (page, _):
        page.evaluate(PRESS, ["2", "1", "n"])  # two fields, and a note on the second
        page.locator("[data-field=urgent] .done", has_text="true").wait_for()
        page.keyboard.type("sx")  # the page was made anew meanwhile, and the cursor is where it was
        page.keyboard.press("Enter")
        page.locator("[data-field=urgent] .done", has_text="sx").wait_for()
        page.evaluate(PRESS, ["Enter", "1", "Enter"])  # the next row is not shown yet
        page.locator("#said", has_text=f"Enter was pressed before {second} was shown").wait_for()
        assert page.url.endswith("/review/1")
        decided = read_corrections(ResultPaths.of(results).corrections)
        assert set(decided.by_row) == {first}
        assert {name: one.to for name, one in decided.of(first).items() if name != "reason"} == {
            "topic": "delivery",
            "urgent": True,
        }
        page.evaluate(PRESS, ["s", "s", "k"])
        page.wait_for_url("**/review/2")
        page.keyboard.press("k")
        page.wait_for_url("**/review/1")
        page.evaluate(
            PRESS, ["1", "2", "Enter", "n", "b", "x"]
        )  # a note on what was decided last, though its row is left
        page.wait_for_function("() => document.activeElement.value === 'bx'")
        assert page.url.endswith("/review/1")
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/2")
        page.evaluate(PRESS, ["n", "b", "Enter"])
        page.locator("#count", has_text="2 decided").wait_for()
        until(lambda: read_corrections(ResultPaths.of(results).corrections).of(second)["reason"].note == "b")
        page.wait_for_url("**/review/2")
        decided = read_corrections(ResultPaths.of(results).corrections)
        assert decided.of(second)["reason"].note == "b"
        assert [decided.values(second)[name] for name in ("topic", "urgent")] == ["billing", False]
        page.evaluate(PRESS, ["u", "u", "u"])  # both notes, and what they were on
        page.locator("[data-active][data-field=reason]").wait_for()
        assert page.locator("h1").inner_text() == second
        page.go_back()
        page.wait_for_url("**/review/2")
        page.wait_for_function("id => document.querySelector('h1').textContent !== id", arg=second)
        page.keyboard.press("d")
        page.locator("#said", has_text="two files").wait_for()
        page.keyboard.press("/")
        page.wait_for_url("**/rows#q")
        page.wait_for_function("() => document.activeElement.id === 'q'")
    decided = read_corrections(ResultPaths.of(results).corrections)
    assert set(decided.of(second)) == {"topic", "urgent"}


def test_what_was_pressed_too_early_is_still_said_when_the_next_row_is_there(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    first, second = (row.id for row in review.queue.rows[:2])
    said = f"Enter was pressed before {second} was shown, and decided nothing."
    with in_review(browse, results, review) as (page, _):
        page.evaluate(PRESS, ["Enter", "Enter"])
        page.locator("#said", has_text=said).wait_for()
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/2")
        assert page.inner_text("#said") == said
    assert set(read_corrections(ResultPaths.of(results).corrections).by_row) == {first, second}


def test_a_decision_that_is_refused_takes_what_was_pressed_after_it_with_it(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    with in_review(browse, results, review) as (page, _):
        page.keyboard.press("e")
        page.keyboard.type("no topic")
        submit = "document.activeElement.form.requestSubmit();"
        page.evaluate(f"() => {{ {submit} ({PRESS})(['1', 'Enter']); }}")
        page.locator("#said", has_text="would not fit its schema").wait_for()
        page.wait_for_function("() => document.querySelector('[data-active]').dataset.field === 'topic'")
        assert written(results) == []
        assert page.locator("[data-field=topic] [data-key=e]").input_value() == "no topic"
        page.wait_for_function("() => document.activeElement.matches('[data-field=topic] [data-key=e]')")
        page.keyboard.press("Enter")  # refused again
        page.wait_for_function("() => document.activeElement.matches('[data-field=topic] [data-key=e]')")


def test_wrong_skip_note_and_the_differences_of_two_files_by_keys(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, ROWS)
    second = make_second(tmp_path / "b")
    review = review_of(results, ROWS)
    place = next(place for place, row in enumerate(review.queue.rows) if row.line == CHANGED)
    with closing(review.file), serving(results, review, second=second) as served, browse() as browser:
        page = opened(browser, served)
        page.goto(f"{served.guard.origin}/review/{place}")
        page.keyboard.press("d")
        page.locator("#comparison .both").first.wait_for()
        page.keyboard.press("d")
        page.locator("#comparison .diff").first.wait_for()
        page.keyboard.press("x")
        page.locator("[data-field=topic] .done", has_text="wrong").wait_for()
        page.keyboard.press("n")
        page.keyboard.type("see B")
        page.keyboard.press("Enter")
        page.locator("[data-field=topic] .done", has_text="see B").wait_for()
        page.keyboard.press("s")
        page.wait_for_url(f"**/review/{place + 1}")
        page.keyboard.press("k")
        page.wait_for_url(f"**/review/{place}")
        page.keyboard.press("j")
        page.wait_for_url(f"**/review/{place + 1}")
        assert_quiet(browser, served)
    known = read_corrections(ResultPaths.of(results).corrections).by_row
    assert {row: list(fields) for row, fields in known.items()} == {review.queue.rows[place].id: ["topic"]}
    (one,) = known[review.queue.rows[place].id].values()
    assert (one.is_wrong, one.note) == (True, "see B")


def test_an_answer_that_came_after_the_page_is_shown_before_it_is_decided_on(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    with in_review(browse, results, review) as (page, served):
        answer_anew(results, review.queue.rows[0].id, served)
        page.keyboard.press("Enter")
        page.locator("#said", has_text="another answer now than was shown").wait_for()
        assert written(results) == []
        page.locator("[data-field=reason] .said", has_text="another reason").wait_for()  # the words come first
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/1")
    assert (
        read_corrections(ResultPaths.of(results).corrections)
        .values(review.queue.rows[0].id)["reason"]
        .startswith("another reason")
    )


def test_what_is_half_written_stays_with_its_row_and_the_page_says_so(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 40)
    review = review_of(results, 5)
    first = review.queue.rows[0].id
    with in_review(browse, results, review) as (page, _):
        page.keyboard.press("u")
        page.locator("#said", has_text="nothing to take back").wait_for()
        page.keyboard.press("1")
        page.locator("[data-field=topic] .done").wait_for()
        page.keyboard.press("n")
        page.keyboard.type("half a no")
        page.keyboard.press("Escape")
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/1")
        page.locator("#said", has_text=f"Not saved: the note on topic of {first}").wait_for()
        page.keyboard.press("k")
        page.wait_for_url("**/review/0")
        assert page.locator("[data-field=topic] [data-key=n]").input_value() == "half a no"
        page.locator("[data-field=topic] [data-key=n]").focus()
        page.keyboard.type("te")
        page.keyboard.press("Enter")
        page.wait_for_url("**/review/1")
    decided = read_corrections(ResultPaths.of(results).corrections)
    assert decided.of(first)["topic"].note == "half a note"
