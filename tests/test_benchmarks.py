"""The benchmarks, made small: that they work, not what they measure."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from tests.benchmarks.large import GOALS
from tests.docs.figures import TABLES, Figures

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent


def test_every_workload_runs_and_its_figures_are_written(tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.benchmarks", "--share", "0.0005", "--times", "1", "--json", str(figures)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
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
    assert all(row["name"] in done.stdout for row in rows)
