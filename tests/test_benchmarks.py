"""The benchmarks, made small: that they work, not what they measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.__main__ import WORKLOADS
from tests.benchmarks.large import GOALS
from tests.docs.figures import TABLES, Figures

ROOT = Path(__file__).parent.parent


def measure(figures: Path, *names: str) -> str:
    """Measure these workloads, as small as can be, into a file; what is printed."""
    size = ["--share", "0.0005", "--times", "1", "--json", str(figures)]
    command = [sys.executable, "-m", "tests.benchmarks", *names, *size]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long  # everything runs fifty times more slowly
def test_instructions_are_counted_where_there_is_valgrind(tmp_path: Path) -> None:
    printed = measure(tmp_path / "figures.json", "instructions")
    rows = json.loads((tmp_path / "figures.json").read_text())["rows"]
    names = [row["name"] for row in rows]
    assert names == ["instructions", "instructions_models", "instructions_lanes"] or "no valgrind" in printed


@pytest.mark.slow
def test_every_other_workload_runs_and_its_figures_are_written(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    printed = measure(figures, *(name for name in WORKLOADS if name != "instructions"))
    rows = json.loads(figures.read_text())["rows"]
    tables = msgspec.json.decode(figures.read_bytes(), type=Figures)
    assert all(tables.table(name) for name in TABLES)
    assert {row["name"] for row in rows} >= {
        "processor_600",
        "pool_500",
        "memory",
        "check",
        "resume_200000",
        "report",
        "join",
        "join_memory",
        "export",
        "export_memory",
        "eval",
        "eval_cluster_memory",
        "compare",
        "prepare",
        "prepare_memory",
        "reuse",
        "reuse_memory",
        "dedup_memory",
        *(
            f"view_{name}"
            for name in ("first_page", "open", "again", "page", "row", "facet", "search", "memory", "index")
        ),
    } | {f"large_{name}" for name in GOALS}
    assert all(row["name"] in printed for row in rows)
