"""The page in a browser: it asks nobody, fits a telephone, can be read in light and dark and on paper; text stays text.

The screenshots are kept where pytest keeps its temporary files, for people to look at.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.html.made import SHOWN, make_job, write_gold
from tests.html.test_report import page_of

CHROMIUM = Path("/usr/bin/chromium")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
LEAST_CONTRAST = 4.5
WIDTHS = {"desk": 1280, "telephone": 400}

sync_api = pytest.importorskip("playwright.sync_api", reason="the extra `browser` is not installed (playwright)")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no {CHROMIUM} (apt-get install chromium)"),
    pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not in PATH"),
]


@dataclass
class Seen:
    """What a browser asked for and complained of while a page was open."""

    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with sync_api.sync_playwright() as running:
        yield running


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page with everything in it, and one of a job whose every text means harm."""
    found = {}
    for name, hostile in (("plain", False), ("hostile", True)):
        folder = tmp_path_factory.mktemp(name)
        results, gold = make_job(folder, hostile=hostile), write_gold(folder, hostile=hostile)
        found[name] = folder / "report.html"
        found[name].write_bytes(page_of(results, gold=gold, with_text=True))
    return found


class Browser:
    """Chromium with a new profile; `open` shows a page, and what it does from then on is in `seen`."""

    def __init__(self, playwright: Any, profile: Path, width: int, scheme: str) -> None:
        self._context = playwright.chromium.launch_persistent_context(
            str(profile),
            executable_path=str(CHROMIUM),
            headless=True,
            args=list(FLAGS),
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
        )
        self.seen = Seen()

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *_: object) -> None:
        self._context.close()

    def open(self, path: Path) -> Any:
        return self.open_address(path.as_uri())

    def open_address(self, address: str) -> Any:
        page = self._context.new_page()
        self._context.on("request", lambda request: self.seen.requests.append(request.url))
        page.on("console", lambda message: self.seen.complaints.append(message.text))
        page.on("pageerror", lambda error: self.seen.complaints.append(str(error)))
        page.on("dialog", self._dismiss)
        page.goto(address)
        return page

    def _dismiss(self, dialog: Any) -> None:
        self.seen.complaints.append(dialog.message)
        dialog.dismiss()


@pytest.fixture
def browse(playwright: Any, tmp_path: Path) -> Any:
    def browse(width: int = 1280, scheme: str = "light") -> Browser:
        return Browser(playwright, tmp_path / f"profile-{width}-{scheme}", width, scheme)

    return browse


@pytest.mark.parametrize("name", ["plain", "hostile"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("device", WIDTHS)
def test_it_asks_nobody_complains_of_nothing_and_fits(
    browse: Any, pages: dict[str, Path], tmp_path: Path, name: str, scheme: str, device: str
) -> None:
    width = WIDTHS[device]
    with browse(width, scheme) as browser:
        page = browser.open(pages[name])
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, "nothing to scroll sideways"
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = false)")
        page.screenshot(path=tmp_path / f"{name}-{device}-{scheme}.png", full_page=True)
        assert browser.seen == Seen([pages[name].as_uri()], []), "the page itself, and nothing else"


def test_script_stays_text(browse: Any, pages: dict[str, Path]) -> None:
    with browse() as browser:
        page = browser.open(pages["hostile"])
        assert page.evaluate("document.querySelectorAll('script, img, iframe, object, link, form').length") == 0
        text = page.evaluate("document.body.textContent")
        for place in (f"{SHOWN}3", f"gpt-4.1{SHOWN}", f"odd{SHOWN}", f"it broke{SHOWN}", f"second line{SHOWN}"):
            assert place in text, place
        assert browser.seen.complaints == []


CONTRASTS = """
() => {
  const channels = color => (color.match(/[\\d.]+/g) || []).map(Number);
  const over = (top, below) => {
    const alpha = top[3] === undefined ? 1 : top[3];
    return [0, 1, 2].map(i => top[i] * alpha + below[i] * (1 - alpha));
  };
  const ground = element => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) layers.unshift(channels(getComputedStyle(at).backgroundColor));
    return layers.reduce((below, top) => over(top, below), [255, 255, 255]);
  };
  const light = color => color.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const contrast = (one, other) => {
    const [a, b] = [light(one), light(other)].sort((a, b) => b - a);
    return (a + 0.05) / (b + 0.05);
  };
  const found = [];
  for (const element of document.body.querySelectorAll('*')) {
    const inChart = element.closest('svg');
    const style = getComputedStyle(element);
    const says = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
    const colors = [];
    if (says) colors.push(inChart ? style.fill : style.color);
    if (inChart && element.closest('.mark-rect') && element.localName === 'path') colors.push(style.fill);
    for (const color of colors) {
      if (color === 'none') continue;
      const below = ground(inChart || element);
      found.push([contrast(over(channels(color), below), below), element.localName, element.textContent.slice(0, 40)]);
    }
  }
  return found;
}
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("media", ["screen", "print"])
def test_every_text_and_bar_stands_out_from_its_ground(
    browse: Any, pages: dict[str, Path], scheme: str, media: str
) -> None:
    with browse(1280, scheme) as browser:
        page = browser.open(pages["plain"])
        page.emulate_media(media=media, color_scheme=scheme)
        page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
        found = page.evaluate(CONTRASTS)
        assert len(found) > 300, "texts and bars were looked at"
        assert [one for one in found if one[0] < LEAST_CONTRAST] == []


def background(page: Any) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_it_follows_light_and_dark_and_is_light_on_paper(browse: Any, pages: dict[str, Path]) -> None:
    with browse(1280, "dark") as browser:
        page = browser.open(pages["plain"])
        assert background(page) == "rgb(20, 23, 27)"
        page.emulate_media(media="print", color_scheme="dark")
        assert background(page) == "rgb(255, 255, 255)"
        page.emulate_media(media="screen", color_scheme="light")
        assert background(page) == "rgb(255, 255, 255)"


def test_on_paper_nothing_is_cut_off_and_charts_stand_for_their_tables(
    browse: Any, pages: dict[str, Path], tmp_path: Path
) -> None:
    with browse() as browser:
        page = browser.open(pages["plain"])
        page.pdf(path=tmp_path / "report.pdf", format="A4")
        page.emulate_media(media="print")
        page.set_viewport_size({"width": 700, "height": 900})  # of an A4 sheet with its margins
        page.screenshot(path=tmp_path / "plain-print.png", full_page=True)
        wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth + 1).length"
        assert page.evaluate(wide) == 0
        assert not page.evaluate("[...document.querySelectorAll('details')].some(one => one.checkVisibility())")
        assert page.evaluate("document.documentElement.scrollWidth") <= 700
        assert (tmp_path / "report.pdf").stat().st_size > 20_000


@pytest.mark.parametrize("device", WIDTHS)
def test_a_chart_shows_its_words_in_a_readable_size_and_whole(browse: Any, pages: dict[str, Path], device: str) -> None:
    """None is smaller than 9 pixels, and none hangs out of the window."""
    with browse(WIDTHS[device]) as browser:
        page = browser.open(pages["plain"])
        sizes = page.evaluate(
            """[...document.querySelectorAll('svg text')].map(text => text.getBoundingClientRect())
               .filter(box => box.width).map(box => [box.left, box.right, box.height])"""
        )
        assert len(sizes) > 60
        assert min(left for left, _, _ in sizes) >= 0
        assert max(right for _, right, _ in sizes) <= WIDTHS[device]
        assert min(height for _, _, height in sizes) >= 9


def test_tables_can_be_scrolled_by_keys_and_have_names(browse: Any, pages: dict[str, Path]) -> None:
    with browse(400) as browser:
        page = browser.open(pages["plain"])
        unnamed = "[...document.querySelectorAll('.scroll, svg')].filter(one => !one.getAttribute('aria-label')).length"
        assert page.evaluate(unnamed) == 0
        assert page.evaluate("[...document.querySelectorAll('.scroll')].every(one => one.tabIndex === 0)")
        levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.localName[1]))")
        assert levels[0] == 1
        assert all(after - before <= 1 for before, after in pairwise(levels)), "none is left out"
