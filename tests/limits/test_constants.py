"""The manual's table of constants is that of the code: each one is there, and none that is gone."""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path

import pytest

import batchrun

INTERNALS = (Path(batchrun.__file__).parent / "docs" / "internals.md").read_text(encoding="utf-8")
MODULES = ["concurrency", "controller", "plateau", "rate", "headers", "spurious", "circuit_breaker"]


def constants(module: str) -> set[str]:
    """The names in capitals of a module and of its classes that are not enums."""
    loaded = import_module(f"batchrun.limits.{module}")
    own = [value for value in vars(loaded).values() if isinstance(value, type) and value.__module__ == loaded.__name__]
    names = {name for owner in own if not hasattr(owner, "__members__") for name in vars(owner)}
    return {name for name in names if name.isupper()}


@pytest.mark.parametrize("module", MODULES)
def test_each_constant_is_in_the_manuals_table(module: str) -> None:
    table = INTERNALS.partition("### The constants")[2]
    section = re.search(rf"`limits/{module}\.py` \|\n((?:\| (?!\*\*).*\n)+)", table)
    assert section is not None
    named = set(re.findall(r"`([A-Z_]+)`", "".join(row.partition(" | ")[0] for row in section[1].splitlines(True))))
    outside = {"AUTO_MOST", "START"}  # of the options, and of the module itself
    assert named - outside == constants(module)
