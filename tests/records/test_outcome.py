"""Failure codes: each says when it is given, and batchrun makes its own from the enum alone."""

from __future__ import annotations

import ast
import json
import pickle
from collections.abc import Iterator
from pathlib import Path

import msgspec
import orjson
import pytest

import batchrun
from batchrun.records.outcome import (
    FAMILIES,
    Failure,
    FailureCode,
    describe,
    http_code,
    incomplete_code,
    response_code,
)
from batchrun.records.result import ErrorInfo

PACKAGE = Path(batchrun.__file__).parent


@pytest.mark.parametrize("code", FailureCode)
def test_a_code_is_its_name_and_says_when_it_is_given(code: FailureCode) -> None:
    assert code == code.name.lower()
    assert len(code.meaning.split()) > 3
    assert not code.meaning.endswith(".")


def test_codes_of_a_family_begin_with_its_name() -> None:
    made = [http_code(503), response_code("queued"), incomplete_code("max_output_tokens")]
    assert made == ["http_503", "response_queued", "incomplete_max_output_tokens"]
    assert [next(start for start in FAMILIES if code.startswith(start)) for code in made] == list(FAMILIES)


def test_a_code_is_text_to_whoever_stores_or_compares_it() -> None:
    code: str = FailureCode.DNS_FAILED
    assert (code, f"{code}", {code: 1}) == ("dns_failed", "dns_failed", {"dns_failed": 1})
    stored: list[str | bytes] = [msgspec.json.encode({"code": code}), orjson.dumps({"code": code})]
    stored.append(json.dumps({"code": code}))
    assert [json.loads(raw) for raw in stored] == [{"code": "dns_failed"}] * 3
    assert msgspec.json.encode(ErrorInfo(code, "m")) == msgspec.json.encode(ErrorInfo("dns_failed", "m"))
    assert pickle.loads(pickle.dumps(code)) is code
    assert describe(Failure(code, "no\naddress")) == "dns_failed: no address"


def literals(tree: ast.AST) -> Iterator[str]:
    """Strings, and the starts of f-strings, that are no docstring."""
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    formatted = {id(value) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for value in node.values[1:]}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings | formatted:
            yield node.value


def test_batchruns_own_codes_are_made_from_the_enum_and_the_functions_beside_it() -> None:
    """A string that is written out would be one that no docs test asks for."""
    own = {*FailureCode, *FAMILIES}
    assert set(literals(ast.parse('f("unsent")\nf(f"http_{status}")'))) & own == {"unsent", "http_"}
    for folder in ("transport", "engine", "job", "billing", "limits", "results"):
        for path in (PACKAGE / folder).glob("*.py"):
            assert set(literals(ast.parse(path.read_text(encoding="utf-8")))) & own == set(), path


@pytest.mark.parametrize(
    ("status", "inner", "counts"),
    [
        (200, 402, 402),
        (201, 503, 503),
        (200, None, 200),
        (500, 429, 429),
        (400, 402, 402),
        (401, 500, 401),
        (500, 400, 500),
        (None, None, None),
        (None, 429, 429),
    ],
)
def test_a_status_inside_counts_where_the_outer_one_says_less(
    status: int | None, inner: int | None, counts: int | None
) -> None:
    assert Failure("c", "m", status, inner_status=inner).status_for_rules == counts
