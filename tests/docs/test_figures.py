"""The tables of benchmarks.md come from the JSON of a run of the benchmarks, and from nowhere else."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.benchmarks.workloads import Row
from tests.docs.figures import HEAD, TABLES, Figures, in_words, with_figures
from tests.docs.pages import MANUAL, ROOT

MACHINE = "Some processor, 2 cores, Linux 6.1.2-special-v3, Python 3.11.7"
ROWS = [
    ("check", Row("check", "checking the input", 431.234, "MB/s", 400, more_is_better=True)),
    ("streaming", Row("events", "events decoded", 1_170_000.0, "events/s", 150_000, more_is_better=True)),
    ("startup", Row("help", "`batchrun --help`", 0.1634, "s", 0.15)),
    ("pace", Row("forty_429s", "40 at once: 429s", 0.00234, "per answer", 0.01)),
]
PAGE = "before\n\n<!-- benchmarks -->\n\nold\n\n<!-- /benchmarks -->\n\nbetween\n\n<!-- pace -->\nold\n<!-- /pace -->\n"


def written(rows: list[tuple[str, Row]]) -> dict[str, Any]:
    """What `python -m tests.benchmarks --json FILE` writes for these rows."""
    figures = [{"workload": name} | asdict(row) | {"is_met": row.is_met} for name, row in rows]
    return {"machine": MACHINE, "rows": figures}


def figures_of(rows: list[tuple[str, Row]]) -> Figures:
    return msgspec.convert(written(rows), Figures)


def test_each_row_stands_in_its_table_with_goal_figure_and_machine() -> None:
    assert with_figures(PAGE, figures_of(ROWS)) == (
        "before\n\n<!-- benchmarks -->\n\n"
        "Measured on: Some processor, 2 cores, Linux 6.1, Python 3.11.7.\n\n"
        "| what | goal | measured |\n|---|---|---|\n"
        "| checking the input | ≥ 400 MB/s | 431 MB/s |\n"
        "| events decoded | ≥ 150,000 events/s | 1,170,000 events/s |\n"
        "| `batchrun --help` | ≤ 0.15 s | 0.1634 s (not met) |\n"
        "\n<!-- /benchmarks -->\n\nbetween\n\n<!-- pace -->\n\n"
        "Measured on: Some processor, 2 cores, Linux 6.1, Python 3.11.7.\n\n"
        "| what | goal | measured |\n|---|---|---|\n"
        "| 40 at once: 429s | ≤ 0.01 per answer | 0.00234 per answer |\n"
        "\n<!-- /pace -->\n"
    )


def test_a_table_that_was_not_measured_stays() -> None:
    page = with_figures(PAGE, figures_of(ROWS[3:]))
    assert page.startswith(PAGE[: PAGE.index("<!-- pace")])
    assert "| 40 at once: 429s |" in page


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (1.05, "1.05"), (1.0534, "1.053"), (49.2, "49.2"), (99.96, "99.96"), (2000, "2,000")]
)
def test_a_figure_is_written_for_people(value: float, text: str) -> None:
    assert in_words(value) == text


def test_a_page_without_the_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="no part <!-- benchmarks -->"):
        with_figures("nothing", figures_of(ROWS))


@pytest.mark.parametrize("name", TABLES)
def test_the_page_has_the_markers_with_a_machine_and_a_table_between_them(name: str) -> None:
    text = MANUAL["benchmarks"].text
    start, end = text.index(f"\n<!-- {name} -->\n"), text.index(f"\n<!-- /{name} -->\n")
    part = text[start:end]
    assert "\nMeasured on: " in part
    assert HEAD in part


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    """In a copy of the manual and of what writes it."""
    for folder in ("batchrun", "samples", "tests"):
        (tmp_path / folder).mkdir()
    for source in [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "samples" / "README.md"]:
        (tmp_path / source.relative_to(ROOT)).write_bytes(source.read_bytes())
    for package in ("batchrun", "tests"):
        for source in (ROOT / package).rglob("*"):
            if source.suffix in (".py", ".md"):
                target = tmp_path / source.relative_to(ROOT)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    (tmp_path / "figures.json").write_text(json.dumps(written(ROWS)))
    command = [sys.executable, "-m", "tests.docs", "benchmarks", "figures.json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "batchrun" / "docs" / "benchmarks.md").read_text("utf-8")
    assert page == with_figures(MANUAL["benchmarks"].text, figures_of(ROWS))
    for name in ("commands", "simulator"):
        assert (tmp_path / "batchrun" / "docs" / f"{name}.md").read_text("utf-8") == MANUAL[name].text


@pytest.mark.parametrize("workload", ["large", "resume_bare", "one_line"])
def test_what_files_of_all_sizes_cost_has_a_table_of_its_own(workload: str) -> None:
    figures = figures_of([(workload, ROWS[0][1])])
    assert "| checking the input |" in figures.table("large")
    assert not figures.table("benchmarks")
