"""`help(batchrun.Job)` tells everything: the docstring of a public class names every field, between backticks."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Any

import msgspec
import pytest

import batchrun
from batchrun.report.report import Report
from tests.docs.program import structs_in
from tests.docs.test_pages import OLD_WORDS

PUBLIC: dict[str, Any] = {name: getattr(batchrun, name) for name in batchrun.__all__ if name != "__version__"}
CLASSES: list[type] = [thing for thing in PUBLIC.values() if isinstance(thing, type)]
CLASSES += [struct for struct in structs_in(Report) if struct is not Report]


def field_names(kind: type) -> list[str]:
    """The fields of a dataclass, a struct, an enum; the attributes of an exception."""
    if is_dataclass(kind):
        return [field.name for field in fields(kind)]
    if issubclass(kind, msgspec.Struct):
        return list(kind.__struct_fields__)
    if issubclass(kind, Enum):
        return [member.name for member in kind]
    if issubclass(kind, Exception):
        return [
            name for name, value in vars(kind).items() if name[0] != "_" and name != "exit_code" and not callable(value)
        ]
    return []


def own_functions(kind: type) -> list[tuple[str, Any]]:
    """The public methods and properties that a class defines itself."""
    found = [(name, value) for name, value in vars(kind).items() if not name.startswith("_")]
    return [(name, value) for name, value in found if isinstance(value, property | classmethod) or callable(value)]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_docstring_of_a_public_class_names_every_field(kind: type) -> None:
    text = inspect.cleandoc(kind.__doc__ or "")
    assert text
    assert not text.startswith(f"{kind.__name__}(")  # what `dataclass` writes where nobody has
    assert [name for name in field_names(kind) if not re.search(rf"`{name}`", text)] == []


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_public_method_and_property_has_a_docstring(kind: type) -> None:
    assert [name for name, function in own_functions(kind) if not inspect.getdoc(function)] == []


@pytest.mark.parametrize("name", PUBLIC)
def test_help_shows_what_a_public_name_is(name: str) -> None:
    text = inspect.getdoc(PUBLIC[name]) or ""
    assert text.splitlines()[0].endswith((".", ":"))
    for words in OLD_WORDS:
        assert re.search(rf"(?<!\w)(?:{words})(?!\w)", text, re.IGNORECASE) is None


@pytest.mark.parametrize("name", ["run", "run_async"])
def test_the_functions_name_the_errors_that_they_raise(name: str) -> None:
    assert "Raises" in (PUBLIC[name].__doc__ or "")
