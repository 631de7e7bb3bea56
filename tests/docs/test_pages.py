"""The pages as pages: links, length, words, versions, public names."""

from __future__ import annotations

import re
import tomllib

import pytest

import batchrun
from batchrun.version import __version__
from tests.docs.pages import CHANGELOG, MANUAL, PAGES, README, ROOT, Page, read
from tests.docs.program import COMMANDS, help_of

LONGEST_README = 150

OLD_WORDS = (
    # what the program was called, or said, before it used the words of its field
    r"held by|held (?:it|a run|the run) back|holds? (?:it|a run|the run) back|held_by|held_s",
    r"misfits?",
    r"glance[sd]?|strays?|others_first|envelopes?",
    r"may heal|may_heal|awkward(?:_json)?|misbilled",
    r"batchrun gateway",
    r"going on: |all fit to send|set a good one|holds no result of|stands already|lose them",
    r"nobody (?:can|is|knows)|lays? down",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_page_uses_a_word_that_is_gone(page: Page) -> None:
    for words in OLD_WORDS:
        found = re.search(rf"(?<!\w)(?:{words})(?!\w)", page.written, re.IGNORECASE)
        assert found is None, f"{page.name}: {found[0]}"


@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_no_help_uses_a_word_that_is_gone(name: str) -> None:
    text = " ".join(help_of(*name.split()).split())
    for words in OLD_WORDS:
        found = re.search(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE)
        assert found is None, found


def test_the_readme_is_short() -> None:
    assert len(README.text.splitlines()) <= LONGEST_README


def test_the_readme_leads_to_every_page_of_the_manual() -> None:
    assert [name for name in MANUAL if f"batchrun/docs/{name}.md" not in README.links()] == []


@pytest.mark.parametrize("page", MANUAL.values(), ids=lambda page: page.name)
def test_a_page_begins_with_its_title_and_what_it_is_about(page: Page) -> None:
    title, blank, about = page.text.splitlines()[:3]
    assert title.startswith("# ")
    assert not blank
    assert about[:1].isalpha()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Page) -> None:
    for target in page.links():
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        file = (page.path.parent / path).resolve() if path else page.path
        assert file.exists(), target
        assert file.is_relative_to(ROOT), target
        assert not anchor or anchor in read(file).anchors(), target


@pytest.mark.parametrize("page", MANUAL.values(), ids=lambda page: page.name)
def test_a_page_of_the_manual_links_only_to_what_is_installed_with_it(page: Page) -> None:
    for target in page.links():
        assert target.startswith(("https://", "#")) or re.fullmatch(r"\w+\.md(#[\w-]+)?", target), target


def test_the_changelog_has_this_version() -> None:
    assert f"\n## [{__version__}]" in CHANGELOG.text
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == ">=3.11"


def test_the_stability_page_promises_the_public_names_and_no_others() -> None:
    kinds = (
        "functions",
        "a job and its options",
        "its result",
        "watching it",
        "the simulator",
        "exceptions",
        "version",
    )
    rows = [row for row in MANUAL["stability"].rows("Stable") if row[0] in kinds]
    assert len(rows) == len(kinds)
    assert sorted(name for row in rows for name in re.findall(r"`(\w+)`", row[1])) == sorted(batchrun.__all__)


def test_every_public_name_is_explained() -> None:
    explained = {word for page in ("python", "stability") for word in MANUAL[page].code_words()}
    assert [name for name in batchrun.__all__ if name not in explained] == []
