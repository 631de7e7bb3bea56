"""The viewer in Chromium, as a person would use it; screenshots are kept where pytest keeps its temporary files."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from batchrun.errors import UsageError
from batchrun.simulator.options import GatewayOptions
from batchrun.viewer import running
from batchrun.viewer.running import Change, RunState
from tests.html.made import SHOWN, make_job
from tests.html.test_browser import CONTRASTS, LEAST_CONTRAST, WIDTHS, Browser, browse, playwright, pytestmark
from tests.support import GatewayThread, RunProcess, has_records, until, write_requests
from tests.viewer.serving import Served, serving
from tests.viewer.test_review import review_of
from tests.viewer.test_second import ROWS, make_second
from tests.viewer.test_table import COLUMN, row, table_of, write_table
from tests.viewer.test_table import results as table_results
from tests.viewer.test_texts import with_long_reason

__all__ = ["browse", "playwright", "pytestmark", "table_results"]

LINES_OF_COUNTS = """
[...document.querySelectorAll("#facets .count")].map(one => {
  const range = document.createRange();
  range.selectNodeContents(one);
  return range.getClientRects().length;
})
"""


def opened(browser: Browser, served: Served) -> Any:
    """The page, opened by the address that is printed; all that it asks for must be of the server."""
    page = browser.open_address(served.guard.address)
    assert page.url == f"{served.guard.origin}/rows", "the token has left the address"
    return page


def assert_quiet(browser: Browser, served: Served) -> None:
    assert browser.seen.complaints == []
    assert [url for url in browser.seen.requests if not url.startswith((served.guard.origin, "data:"))] == []


def test_filter_search_open_a_row_and_go_back(browse: Any, tmp_path: Path) -> None:
    with serving(make_job(tmp_path, 300)) as served, browse() as browser:
        page = opened(browser, served)
        page.locator("section[aria-label=topic] a", has_text="billing").click()
        page.wait_for_url("**/rows?field.topic=billing")
        page.keyboard.press("/")
        page.keyboard.type("reason")
        page.keyboard.press("Enter")
        page.wait_for_url("**/rows?*q=reason*")
        assert "cost.from" not in page.url, "what was left empty is not in the address"
        found, shown = page.locator("#found").inner_text(), page.inner_text("#rows")
        assert found.startswith("75 rows of 300")
        for key in ("j", "j", "j", "k"):
            page.keyboard.press(key)
        focused = "document.activeElement.textContent"
        second = page.evaluate(focused)
        page.keyboard.press("Enter")
        page.wait_for_url("**/rows/*")
        assert "the prompt of row" in page.inner_text("main")
        page.keyboard.press("b")
        page.wait_for_url("**/rows?*q=reason*")
        assert (page.locator("#found").inner_text(), page.inner_text("#rows")) == (found, shown)
        assert page.evaluate(focused) == second, "where the row was opened"
        page.go_back()
        page.wait_for_url("**/rows/*")
        page.go_back()
        page.wait_for_url("**/rows?*q=reason*")
        page.wait_for_function("text => document.activeElement.textContent === text", arg=second)
        page.keyboard.press("j")
        assert page.evaluate(focused) == page.locator("#rows tbody a").nth(2).inner_text()
        assert_quiet(browser, served)


def test_keys_go_over_the_end_of_a_page_and_the_end_of_the_server_is_said(browse: Any, tmp_path: Path) -> None:
    with browse() as browser:
        with serving(make_job(tmp_path, 12)) as served:
            page = opened(browser, served)
            page.goto(f"{served.guard.origin}/rows?size=4")
            focused = "document.activeElement.textContent"
            for _ in range(4):
                page.keyboard.press("j")
            page.keyboard.press("j")
            page.wait_for_url("**page=2*")
            page.wait_for_function(
                "() => document.activeElement.closest('tr') === document.querySelector('#rows tbody tr')"
            )
            page.keyboard.press("j")
            assert page.evaluate(focused) == page.locator("#rows tbody a").nth(1).inner_text()
            page.keyboard.press("k")
            page.keyboard.press("k")
            page.wait_for_url("**/rows?size=4*")
            page.wait_for_function(
                "() => document.activeElement.closest('tr') === document.querySelector('#rows tbody tr:last-child')"
            )
            assert_quiet(browser, served)
            assert page.locator("#gone").inner_text() == ""
        page.locator("#gone", has_text="The server has ended. To go on, type: batchrun view").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_it_fits_and_can_be_read_and_script_stays_text(browse: Any, tmp_path: Path, scheme: str, device: str) -> None:
    results = make_job(tmp_path, 60, hostile=True)
    review = review_of(results, 5)
    with closing(review.file), serving(results, review) as served, browse(WIDTHS[device], scheme) as browser:
        page = opened(browser, served)
        for name, path in (("rows", "/rows?size=60"), ("row", "/rows/2"), ("review", "/review/0")):
            page.goto(served.guard.origin + path)
            page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
            page.screenshot(path=tmp_path / f"{name}-{device}-{scheme}.png", full_page=True)
            assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device], path
            assert page.evaluate("document.querySelectorAll('script').length") == 1, "our own"
            assert page.evaluate("document.querySelectorAll('img, iframe, object').length") == 0
            assert [one for one in page.evaluate(CONTRASTS) if one[0] < LEAST_CONTRAST] == []
            unnamed = "[...document.querySelectorAll('input:not([type=hidden]), button, a')].filter(one => "
            unnamed += "!one.textContent.trim() && !one.labels?.length && !one.getAttribute('aria-label')).length"
            assert page.evaluate(unnamed) == 0
        page.goto(f"{served.guard.origin}/rows?size=60")
        heights = page.evaluate("[...document.querySelectorAll('#rows tbody tr')].map(row => row.offsetHeight)")
        assert max(heights) < 40, "each row has one line, however long its id"
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert set(page.evaluate(LINES_OF_COUNTS)) == {1}, "a number is never broken, however long the value beside it"
        assert SHOWN in page.inner_text("body")
        assert_quiet(browser, served)


def test_new_rows_appear_within_two_seconds_and_the_place_is_kept(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 60)
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:40]))
    with serving(results) as served, browse() as browser:
        page = opened(browser, served)
        page.wait_for_timeout(1200)  # the page has asked once how many there are
        for _ in range(20):
            page.keyboard.press("j")
        focused = "document.activeElement.textContent"
        before, top = page.evaluate(focused), page.evaluate("document.activeElement.getBoundingClientRect().top")
        with results.open("ab") as file:
            file.write(b"".join(lines[40:45]))
        page.locator("#found", has_text="45 rows").wait_for(timeout=2000)
        assert page.locator("#rows tbody tr[id]").count() == 45
        assert page.evaluate(focused) == before
        assert page.evaluate("document.activeElement.getBoundingClientRect().top") == pytest.approx(top, abs=1)
        assert_quiet(browser, served)


def test_rows_that_come_before_the_page_first_asks_are_shown(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 60)
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:40]))
    with serving(results) as served, browse() as browser:

        def grown(route: Any) -> None:
            results.write_bytes(b"".join(lines[:45]))
            until(lambda: served.index.progress.rows == 45)
            route.continue_()

        page = opened(browser, served)
        page.route("**/state.json", grown, times=1)
        page.reload()
        page.locator("#found", has_text="45 rows").wait_for(timeout=4000)
        assert page.locator("#rows tbody tr[id]").count() == 45


@pytest.mark.parametrize("pressed", [5, 38])
def test_the_place_is_kept_whatever_is_above_the_rows(browse: Any, tmp_path: Path, pressed: int) -> None:
    results = make_job(tmp_path, 60)
    results.write_bytes(b"".join(results.read_bytes().splitlines(keepends=True)[:40]))
    with serving(results) as served, browse() as browser:
        page = opened(browser, served)
        assert "40 of 60 lines have a record" in page.inner_text("#run-state")
        page.evaluate("window.whole = document.documentElement.outerHTML")
        for _ in range(pressed):
            page.keyboard.press("j")
        place = "document.activeElement.getBoundingClientRect().top"
        focused, top = page.evaluate("document.activeElement.textContent"), page.evaluate(place)
        for above in ("", "<p>It runs.</p>" * 3, "<p>It is preparing.</p>", "<p>It runs.</p>" * 5, ""):
            newer = """above => {
                const fresh = new DOMParser().parseFromString(window.whole, "text/html");
                fresh.getElementById("run-state").innerHTML = above;
                takeOver(fresh);
            }"""
            page.evaluate(newer, above)
            page.evaluate("() => new Promise(shown => requestAnimationFrame(() => requestAnimationFrame(shown)))")
            assert page.evaluate("document.activeElement.textContent") == focused
            assert page.evaluate(place) == pytest.approx(top, abs=1), above
        assert_quiet(browser, served)


def test_a_live_run_is_followed_paused_and_resumed_by_keys(browse: Any, tmp_path: Path) -> None:
    requests, results = write_requests(tmp_path / "requests.jsonl", 2000), tmp_path / "results.jsonl"
    with (
        GatewayThread(GatewayOptions(latency_median_s=0.1)) as gateway,
        RunProcess(gateway.base_url, requests, results, "-c", "4") as run,
    ):
        until(lambda: has_records(results, 5))
        with serving(results) as served, browse() as browser:
            page = opened(browser, served)
            page.locator("#run progress").wait_for(timeout=8000)
            before = page.locator("#run progress").get_attribute("value")
            page.wait_for_function("value => document.querySelector('#run progress').value > value", arg=int(before))
            page.screenshot(path=tmp_path / "run.png")
            page.keyboard.press("p")
            page.locator("#run-pause button", has_text="Resume").wait_for()
            until(lambda: gateway.ledger.in_flight == 0)
            sent = gateway.ledger.requests
            page.locator("#run-limits summary").click()
            page.get_by_label("Requests in flight").fill("30")
            page.keyboard.press("Enter")
            page.locator("#run-pause button").focus()
            page.keyboard.press("Enter")
            page.locator("#run-pause button", has_text="Pause").wait_for()
            until(lambda: gateway.ledger.peak_in_flight == 30)
            assert gateway.ledger.requests > sent
            page.get_by_label("Requests in flight").fill("many")
            page.keyboard.press("Enter")
            page.locator("#run-said", has_text="many").wait_for()
            page.screenshot(path=tmp_path / "limits.png")
            page.locator("#found", has_text="2,000 rows").wait_for()
            page.locator("#run progress").wait_for(state="detached")
            assert run.wait() == 0
            assert browser.seen.complaints == []


class _Run:
    """A run that is there until it is said to have ended."""

    has_ended = False

    def is_there(self) -> bool:
        return not self.has_ended

    def tune(self, change: Change) -> RunState:
        limits = {"concurrency": "4", "rpm": "", "tpm": "", "max_cost": ""}
        return RunState(12, 20, False, ("12 of 20",), limits)


def test_a_run_that_ended_while_a_row_was_open_is_not_shown_on_the_rows(
    browse: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "ASK_EVERY_S", 0.0)  # the rows are shown with what was known before, and it is asked
    run = _Run()
    with serving(make_job(tmp_path, 20), writer=run) as served, browse() as browser:
        page = opened(browser, served)
        page.locator("#run-pause button").wait_for()
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/rows/*")
        run.has_ended = True
        page.keyboard.press("b")
        page.wait_for_url("**/rows#row-*")
        page.locator("#run-pause button").wait_for(state="detached")
        page.locator("#run progress").wait_for(state="detached")
        assert_quiet(browser, served)


class _Refusing(_Run):
    """A run that refuses the first change."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def tune(self, change: Change) -> RunState:
        if change != Change():
            self.asked.append(change.rpm)
            if len(self.asked) == 1:
                raise UsageError("The run does not take that now.")
        return super().tune(change)


def test_limits_that_were_refused_can_be_sent_again_as_they_are(browse: Any, tmp_path: Path) -> None:
    run = _Refusing()
    with serving(make_job(tmp_path, 20), writer=run) as served, browse() as browser:
        page = opened(browser, served)
        page.locator("#run-limits summary").click(timeout=8000)
        page.get_by_label("Requests a minute").fill("600")
        page.keyboard.press("Enter")
        page.locator("#run-said", has_text="does not take that now").wait_for()
        page.get_by_label("Requests a minute").press("Enter")
        until(lambda: run.asked == ["600", "600"])
        page.locator("#run-said", has_not_text="now").wait_for(state="attached")
        assert_quiet(browser, served)


LONGEST_TASK = """
() => new Promise(done => {
  const tasks = [];
  new PerformanceObserver(list => tasks.push(...list.getEntries().map(one => one.duration)))
    .observe({ type: "longtask", buffered: true });
  setTimeout(() => done(Math.max(0, ...tasks)), 300);
})
"""


def test_a_record_of_30_mb_opens_without_freezing_the_page(browse: Any, tmp_path: Path) -> None:
    results = with_long_reason(make_job(tmp_path, 20), "a long word " * 2_500_000)
    with serving(results) as served, browse() as browser:
        page = opened(browser, served)
        page.goto(f"{served.guard.origin}/rows?line.from=7&line.to=7")
        page.keyboard.press("j")
        page.keyboard.press("Enter")
        page.wait_for_url("**/rows/*")
        assert page.evaluate(LONGEST_TASK) < 2000, "milliseconds in which no key is heard"
        reason = page.locator("dd .long").nth(2)
        assert len(reason.inner_text()) < 110_000
        reason.get_by_role("button").focus()
        page.keyboard.press("Enter")
        reason.locator("span", has_text="29,800,000 more characters").wait_for()
        assert len(reason.inner_text()) > 200_000
        assert page.evaluate("document.activeElement.textContent") == "Show more", "the focus is where it was"
        page.evaluate("document.activeElement.dataset.part = 'nothing'")
        page.keyboard.press("Enter")
        reason.locator("span", has_text="There is no such text.").wait_for()
        browser.seen.complaints.clear()  # of the 404 that was asked for
        page.keyboard.press("b")
        page.wait_for_url("**/rows?line*")
        assert_quiet(browser, served)


def test_two_runs_are_compared_by_keys(browse: Any, tmp_path: Path) -> None:
    with serving(make_job(tmp_path, ROWS), second=make_second(tmp_path / "b")) as served, browse() as browser:
        page = opened(browser, served)
        page.locator("section[aria-label='A and B'] a", has_text="differs").click()
        page.wait_for_url("**/rows?compared=differs")
        assert page.locator("#found").inner_text().startswith(f"3 rows of {ROWS + 1}")
        page.keyboard.press("d")
        page.keyboard.press("Enter")
        page.locator("#comparison .diff").first.wait_for()
        assert page.locator("#comparison .both").first.is_hidden()
        lines = "name => getComputedStyle(document.querySelector(`#comparison ${name}`)).textDecorationLine"
        assert [page.evaluate(lines, name) for name in ("del", "ins")] == ["line-through", "underline"], (
            "no colour alone"
        )
        page.keyboard.press("d")
        page.locator("#comparison .both").first.wait_for()
        assert page.locator("#comparison .diff").first.is_hidden()
        page.screenshot(path=tmp_path / "both.png")
        page.keyboard.press("j")
        page.wait_for_url("**place=1")
        page.screenshot(path=tmp_path / "diff.png")
        page.keyboard.press("b")
        page.wait_for_url("**/rows?compared=differs#row-*")
        assert_quiet(browser, served)


def test_the_rows_of_another_file_in_the_same_place_are_shown_anew(browse: Any, tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    with serving(results) as served, browse() as browser:
        page = opened(browser, served)
        first = page.locator("#rows tbody tr").first
        before = first.inner_text()
        page.keyboard.press("j")
        focused = "document.activeElement.textContent"
        name = page.evaluate(focused)
        other = tmp_path / "other.jsonl"
        other.write_bytes(b"".join(reversed(results.read_bytes().splitlines(keepends=True))))
        last = json.loads(other.read_bytes().split(b"\n")[0])["custom_id"]
        assert last not in before
        other.replace(results)
        page.locator("#rows tbody tr:first-child", has_text=last).wait_for()
        assert page.evaluate(focused) == name, "the row is gone to where it stands now"
        assert page.locator("#rows tbody tr:last-child.here").count() == 1
        assert_quiet(browser, served)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_a_table_whose_columns_mean_harm_fits_and_stays_text(
    browse: Any, table_results: Path, tmp_path: Path, scheme: str, device: str
) -> None:
    data = write_table(tmp_path / "data.csv", [row(number) for number in range(8)])
    with (
        serving(table_results, table=table_of(table_results, data)) as served,
        browse(WIDTHS[device], scheme) as browser,
    ):
        page = opened(browser, served)
        page.locator("#rows td", has_text="cell 4").wait_for()
        number = served.rows("line.from=4&line.to=4")["rows"][0]["number"]  # answers stand as they came
        for name, path in (("table", "/rows"), ("table-row", f"/rows/{number}")):
            page.goto(served.guard.origin + path)
            page.screenshot(path=tmp_path / f"{name}-{device}-{scheme}.png", full_page=True)
            assert COLUMN in page.inner_text("main"), path
            assert page.evaluate("document.documentElement.scrollWidth") <= WIDTHS[device]
            assert page.evaluate("document.querySelectorAll('script').length") == 1, "our own"
            assert [one for one in page.evaluate(CONTRASTS) if one[0] < LEAST_CONTRAST] == []
        assert_quiet(browser, served)
