"""The pages, read as a reader sees them: sections, tables, fenced blocks, commands to copy, links.

Pure but for reading the files. What stands in fences is no heading, no command and no link.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Page:
    """One Markdown file."""

    path: Path
    text: str

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    @property
    def prose(self) -> str:
        """The page without its fenced blocks."""
        return FENCE.sub("", self.text)

    @property
    def written(self) -> str:
        """What a person wrote: the page without its generated parts."""
        return re.sub(r"<!-- (\w+) -->.*?<!-- /\1 -->", "", self.text, flags=re.DOTALL)

    def fenced(self, language: str) -> list[str]:
        """The blocks in fences of that language."""
        return [block for found, block in FENCE.findall(self.text) if found == language]

    def lines_to_copy(self) -> list[str]:
        """The indented lines: what a reader may copy into a shell, or into a file."""
        return re.findall(r"^ {4}(\S.*)$", self.prose, re.MULTILINE)

    def code_words(self) -> list[str]:
        """What stands between backticks."""
        return [" ".join(word.split()) for word in re.findall(r"`([^`]+)`", self.prose)]

    def headings(self) -> list[str]:
        return re.findall(r"^#+ (.*)$", self.prose, re.MULTILINE)

    def anchors(self) -> set[str]:
        """What a link to a heading of this page may end in, as GitHub makes it."""
        return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in self.headings()}

    def links(self) -> list[str]:
        return [target.replace("\n", "") for target in re.findall(r"\]\(([^)]+)\)", self.prose)]

    def section(self, heading: str) -> str:
        """The text below a heading, up to the next heading of any level."""
        found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", self.prose, re.MULTILINE | re.DOTALL)
        assert found is not None, f"{self.name} has no section {heading!r}"
        return found[1]

    def rows(self, heading: str) -> list[list[str]]:
        """The rows of the tables of a section, cell by cell, without their heads."""
        found: list[list[str]] = []
        for line in self.section(heading).splitlines():
            if not line.startswith("|"):
                continue
            cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            if all(re.fullmatch(r":?-+:?", cell) for cell in cells):
                found.pop()  # the line above was the head of the table
            else:
                found.append(cells)
        return found

    def names(self, heading: str, column: int = 0) -> list[str]:
        """The names between backticks in one column of the tables of a section."""
        return [name for row in self.rows(heading) for name in re.findall(r"`([^`]+)`", row[column])]


def read(path: Path) -> Page:
    return Page(path, path.read_text(encoding="utf-8"))


README = read(ROOT / "README.md")
CHANGELOG = read(ROOT / "CHANGELOG.md")
SAMPLES = read(ROOT / "samples" / "README.md")
MANUAL = {path.stem: read(path) for path in sorted((ROOT / "batchrun" / "docs").glob("*.md"))}
PAGES = [README, CHANGELOG, SAMPLES, *MANUAL.values()]


def shell_lines() -> Iterator[tuple[Page, str]]:
    """Every line that a reader may copy into a shell, with its page."""
    for page in PAGES:
        for line in page.lines_to_copy():
            if not line.startswith("{"):
                yield page, line
