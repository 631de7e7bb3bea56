"""The page about the inside: its constants have the values of the code, its paths and folders exist."""

from __future__ import annotations

import importlib
import re
from decimal import Decimal
from types import ModuleType
from typing import Any

import pytest

from tests.docs.pages import MANUAL, ROOT

PAGE = MANUAL["internals"]
NUMBER = r"\d[\d,]*(?:\.\d+)?"


def constants(module: ModuleType) -> list[tuple[str, Any]]:
    """Every upper-case name of a module and of its classes, with its value: a name may stand in two classes."""
    places = [module, *(kind for kind in vars(module).values() if isinstance(kind, type))]
    own = [place for place in places if place is module or place.__module__ == module.__name__]
    return [(name, value) for place in own for name, value in vars(place).items() if re.fullmatch(r"[A-Z_]+", name)]


def rows_of_constants() -> list[tuple[list[ModuleType], list[str], str]]:
    """Each row of the table: the modules that its part names, the constants, the cell with their values."""
    found, modules = [], list[ModuleType]()
    for name, value, why in PAGE.rows("The constants"):
        if name.startswith("**"):
            paths = re.findall(r"`([\w/]+)\.py`", why)
            modules = [importlib.import_module("batchrun." + path.replace("/", ".")) for path in paths]
        elif names := re.findall(r"`([A-Z_]+)`", name):
            found.append((modules, names, value))
    return found


ROWS = rows_of_constants()


@pytest.mark.parametrize(("modules", "names", "cell"), ROWS, ids=[" ".join(names) for _, names, _ in ROWS])
def test_a_constant_has_the_value_that_the_page_gives(modules: list[ModuleType], names: list[str], cell: str) -> None:
    told = [float(number.replace(",", "")) for number in re.findall(NUMBER, cell)]
    defined = [pair for module in modules for pair in constants(module)]
    for name in names:
        values = [value if isinstance(value, tuple) else (value,) for found, value in defined if found == name]
        assert values, name
        fitting = [value for value in values if [*map(float, value)] == told[: len(value)]]
        assert fitting, f"{name} is {values}, the page says {cell}"
        told = told[len(fitting[0]) :]


def test_every_constant_of_these_modules_has_its_row() -> None:
    told: dict[ModuleType, set[str]] = {}
    for modules, names, _ in ROWS:
        for module in modules:
            told.setdefault(module, set()).update(names)
    others = {"MINUTE_S", "INTERVALS", "NOTHING"}  # a unit, and what is derived or imported
    for module, rows in told.items():
        numbers = {name for name, value in constants(module) if isinstance(value, int | float | Decimal | tuple)}
        assert numbers - rows - others == set(), module.__name__


def test_every_path_that_the_page_names_exists() -> None:
    for word in PAGE.code_words():
        if re.fullmatch(r"(batchrun/|limits/)[\w/]+\.py", word):
            assert (ROOT / word).exists() or (ROOT / "batchrun" / word).exists(), word


def test_the_table_of_folders_is_that_of_the_package() -> None:
    folders = {path.parent.name for path in (ROOT / "batchrun").glob("*/__init__.py")}
    assert {name.rstrip("/") for name in PAGE.names("Folders")} == folders
    drawn = set(re.findall(r"(\w+)/", PAGE.fenced("text")[1]))
    assert drawn == folders | {"docs"}
