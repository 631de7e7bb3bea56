"""Records by their fields: nothing is lost and nothing is out of its place, whatever the records have in common."""

from __future__ import annotations

import pytest

from batchrun.records.columns import Columns, Usages
from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, Source, Try
from batchrun.records.usage import Usage


def head(line: int, *, error: str = "", **fields: object) -> ResultHead:
    told = (
        "2026-01-01T00:00:00.000Z",
        line / 2,
        "failed" if error else "succeeded",
        "m",
        "/v1/responses",
        "host",
        line,
    )
    run = RunInfo(1, line, 9, 32 * "a", *told, **fields)  # type: ignore[arg-type]
    return ResultHead(f"r-{line}", run, ErrorInfo(error, "why") if error else None)


ODD_ONES = {
    "another model answered": head(2, model="n"),
    "another tier": head(2, service_tier="flex"),
    "another endpoint": head(2, endpoint="a"),
    "copied": head(2, source=Source("copied", line=1)),
    "failed": head(2, error="x"),
}


@pytest.mark.parametrize("odd", ODD_ONES.values(), ids=ODD_ONES)
def test_records_that_differ_are_apart_and_keep_their_order(odd: ResultHead) -> None:
    heads = [head(1), odd, head(3)]
    assert Columns(heads).kind is None
    parts = Columns(heads).by_kind()
    assert [(part.kind == kind, part.numbers) for kind, part in parts] == [(True, [1, 3]), (True, [2])]


@pytest.mark.parametrize("fields", [{}, {"source": Source("reused", "f", 1)}, {"error": "x"}])
def test_records_of_one_kind_stay_together(fields: dict[str, str]) -> None:
    records = Columns([head(line, **fields) for line in (3, 1, 2)])
    ((kind, same),) = records.by_kind()
    assert same is records
    assert (kind.source, kind.error_code) == ("reused" if "source" in fields else None, fields.get("error"))
    assert (records.numbers, records.attempts, records.elapsed_s) == ([3, 1, 2], [3, 1, 2], [1.5, 0.5, 1.0])
    assert records.is_clean == ("error" not in fields)


def test_errors_of_several_codes_and_sources_of_several_kinds_are_apart() -> None:
    codes = [head(1, error="x"), head(2, error="y")]
    sources = [head(1, source=Source("reused", "f", 1)), head(2, source=Source("copied", line=1))]
    assert [len(list(Columns(heads).by_kind())) for heads in (codes, sources)] == [2, 2]


def test_records_that_were_asked_again_are_known() -> None:
    asked_again = head(2, tries=(Try(), Try()))
    assert Columns([head(1), asked_again]).tried == [asked_again.run]


def test_the_tokens_of_those_that_tell_them_are_there_by_field() -> None:
    one, other = Usage(1, 2, 3, 4, 5, 6), Usage(10, 20, 30, 40, 50, 60, {"web_search": 1})
    usages = Usages([one, None, other])
    assert (usages.lines, usages.told) == ([one, None, other], [one, other])
    assert (usages.input, usages.cached, usages.output) == ((1, 10), (2, 20), (3, 30))
    assert (usages.reasoning, usages.total, usages.cache_write) == ((4, 40), (5, 50), (6, 60))
    assert usages.tool_calls == (None, {"web_search": 1})
    assert usages.has_tool_calls
    assert not Usages([one, None]).has_tool_calls
    assert [list(Usages(none).input) for none in ([], [None])] == [[], []]
