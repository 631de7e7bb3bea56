"""What CI stands on: the README's commands, lower bounds of all dependencies, smoke tests of every part."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = sorted(path.parent.name for path in (ROOT / "batchrun").glob("*/__init__.py"))


def test_the_readme_has_the_two_commands_that_ci_runs() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first, second = re.findall(r"^ {4}(python3 -m venv .*)$", readme, re.MULTILINE)[:2]
    assert " --simulate " in first
    assert second.endswith("'.[test]' && .venv/bin/pytest")


def test_every_run_time_dependency_has_a_lowest_version_to_test_with() -> None:
    command = [sys.executable, str(ROOT / ".ci" / "lowest.py")]
    lowest = subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    of_users = [need for name, needs in extras.items() if name not in ("test", "oracle", "browser") for need in needs]
    needs = [*project["dependencies"], *of_users]
    assert sorted(lowest) == sorted(need.replace(">=", "==") for need in needs)


@pytest.mark.parametrize("part", [part for part in PARTS if part != "stats"])  # arithmetic, which the others test
def test_every_part_has_a_smoke_test(part: str) -> None:
    files = (ROOT / "tests" / part).glob("test_*.py")
    assert any("@pytest.mark.smoke\n" in path.read_text(encoding="utf-8") for path in files)
