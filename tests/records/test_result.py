"""Result lines: what is written is read again, and written again from there."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec import Raw

from batchrun.records.result import (
    ErrorInfo,
    ResultHead,
    RunInfo,
    Source,
    encode_result,
    encode_stored_all,
    parse_stored_all,
)
from batchrun.records.usage import Usage


def run(line: int, **fields: object) -> RunInfo:
    told = ("2026-01-01T00:00:00.000Z", 1.5, "succeeded", "m", "/v1/responses", "host", 1)
    return RunInfo(1, line, 9, 32 * "a", *told, **fields)  # type: ignore[arg-type]


PLAIN = (ResultHead("r-1", run(1, usage=Usage(120, 0, 80, 0, 200))), b'{"text":"one"}')
LINES = {
    "an answer": PLAIN,
    "letters beyond ASCII": (ResultHead('Grüße "1"\n\u2028', run(2)), '{"text":"\u2028 ü"}'.encode()),
    "a charge, and a source": (
        ResultHead("r-3", run(3, gateway_cost_usd=Decimal("0.10"), source=Source("copied"))),
        b"1.0e2",
    ),
    "an error without an answer": (ResultHead("r-4", run(0xFFFFFFFFF), ErrorInfo("timeout", "none came")), None),
    "blanks in the answer": (ResultHead("r-5", run(5)), b'{ "text":\r"one" }'),
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_stored_line_is_written_again_as_it_was(line: tuple[ResultHead, bytes | None]) -> None:
    records = [encode_result(head, 200 if body else None, "id-1", body) for head, body in (PLAIN, line, PLAIN)]
    stored = parse_stored_all(records)
    heads = [ResultHead(one.custom_id, one.run, one.error) for one in stored if one is not None]
    assert encode_stored_all(heads, [one.response for one in stored if one is not None]) == records


def test_no_lines_are_none() -> None:
    assert encode_stored_all([], []) == list[bytes]()


def test_a_response_keeps_its_bytes() -> None:
    (record,) = encode_stored_all([PLAIN[0]], [Raw(b'{ "a":1.50 }')])
    assert b'"response":{ "a":1.50 },' in record
