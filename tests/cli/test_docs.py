"""`batchrun docs`."""

from __future__ import annotations

from pathlib import Path

import pytest

import batchrun as package
from tests.cli.commands import Command, Done

PAGES = sorted((Path(package.__file__).parent / "docs").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
@pytest.mark.smoke
def test_a_page_is_printed_as_it_is(batchrun: Command, page: Path) -> None:
    assert batchrun("docs", page.stem) == Done(0, page.read_text(encoding="utf-8"), "")


def test_without_a_topic_the_pages_are_listed_with_what_they_are_about(batchrun: Command) -> None:
    done = batchrun("docs")
    assert (done.code, done.err) == (0, "")
    rows = [line for line in done.out.splitlines() if not line.startswith(" ")]
    assert [row.split()[0] for row in rows] == [page.stem for page in PAGES]
    for page in PAGES:
        paragraph = " ".join(page.read_text(encoding="utf-8").split("\n\n")[1].split())
        (row,) = (row for row in rows if row.split()[0] == page.stem)
        assert paragraph.startswith(row.split(maxsplit=1)[1])
    assert max(map(len, done.out.splitlines())) <= 100


@pytest.mark.parametrize("topic", ["nonsense", "", "../README", "guide.md"])
def test_an_unknown_topic_is_a_usage_error_that_names_the_topics(batchrun: Command, topic: str) -> None:
    known = ", ".join(page.stem for page in PAGES)
    expected = f"batchrun: there is no page {topic!r}; the pages are: {known}\n"
    assert batchrun("docs", topic) == Done(2, "", expected)
