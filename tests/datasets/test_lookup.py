"""Records that are read many at a time are those that are read one by one, whatever stands between them."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.datasets.lookup import RecordFile
from batchrun.errors import ResultFileError, UsageError
from batchrun.records.answer import Result, read_result
from batchrun.records.result import ResultHead, UnknownVersionError, encode_result
from tests.support import record, run_info

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ODD_BODIES = [
    b'{"output_text":"a","seed":%d}' % 10**30,
    b'{"output_text":"a","seed":%b}' % (b"1" * 5000),
    b'{"output_text":"a","x":1e400}',
    b'{"output_text":"a","x":-0,"y":-0.0,"z":1E5}',
    b'{"output_text":"a","output_text":"b"}',
    b'{"output_text":NaN}',
    b'{"output_text":"\xff"}',
    b'{"output_text":"\xed\xa0\x80"}',
    rb'{"output_text":"half a pair \ud800"}',
    b'{"output_text":' + 400 * b"[" + 400 * b"]" + b"}",
    b'{"output_text":' + 5000 * b"[" + 5000 * b"]" + b"}",
    b"{",
    b"null",
]


def answered(body: bytes, **facts: Any) -> bytes:
    return encode_result(ResultHead("r-1", run_info(**facts)), 200, None, body)


ODD_LINES = [
    *map(answered, ODD_BODIES),
    b"\n",
    b"not a record\n",
    b'{"custom_id":"r-1"}\n',
    record(failed=True),
    record()[:-40] + b"\n",
    record().replace(b"\n", b"\r\n"),
    encode_result(ResultHead("r-1", run_info(outcome="failed")), None, None, None),
    answered(b"{}", body_hash="no hash"),
    answered(b"{}", started="yesterday"),
    record().replace(b'"status_code":200,', b"").replace(b'"body":', b'"other":'),
    record().replace(b'"response":{', b'"response":[{').replace(b'},"error"', b'}],"error"'),
    record().replace(b'"response":', b'"more":"\xff","response":'),
    record().replace(b'"v":1', b'"v":2'),
]
LINES = st.one_of(
    st.builds(json.dumps, JSON_VALUES, ensure_ascii=st.booleans()).map(lambda body: answered(body.encode())),
    st.sampled_from(ODD_LINES),
    st.just(record()),
)


def one_by_one(lines: list[bytes]) -> tuple[list[tuple[Result, int]], int]:
    """The records with their offsets, and how many lines are none."""
    found, damaged, offset = list[tuple[Result, int]](), 0, 0
    for raw in lines:
        try:
            found.append((read_result(raw.removesuffix(b"\n")), offset))
        except UnknownVersionError:
            raise
        except ValueError:
            damaged += 1
        offset += len(raw)
    return found, damaged


def check_that_both_ways_agree(lines: list[bytes]) -> None:
    """A file of these lines has the same records, in the same places, and as many damaged lines."""
    try:
        expected: Any = one_by_one(lines)
    except UnknownVersionError:
        expected = None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        path.write_bytes(b"".join(lines))
        with RecordFile(path) as file:
            try:
                read: Any = (list(file.placed_results()), file.damaged)
            except ResultFileError:
                read = None
            except UsageError:  # there are lines, and none of them is a record
                assert file.damaged
                read = ([], file.damaged)
    assert read == expected


@given(st.lists(LINES, max_size=6), st.booleans())
def test_records_are_read_together_as_they_are_one_by_one(lines: list[bytes], ends_torn: bool) -> None:
    if ends_torn:
        lines = [*lines, record()[:-1]]
    check_that_both_ways_agree(lines)


@pytest.mark.parametrize("line", ODD_LINES)
def test_an_odd_line_is_read_among_others_as_it_is_alone(line: bytes) -> None:
    check_that_both_ways_agree([record(), line, record()])


def test_rare_payloads_take_nothing_from_their_neighbours() -> None:
    """The quick reader refuses one of three: all three come."""
    odd = answered(b'{"output_text":"odd","x":1e400}')
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "results.jsonl")
        path.write_bytes(record(text="before") + odd + record(text="after"))
        with RecordFile(path) as file:
            assert [result.text for result in file.results()] == ["before", "odd", "after"]
            assert file.damaged == 0


def test_many_records_come_with_the_offsets_at_which_they_are_found_again(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    lines = [record(f"r-{line}", line, text="ü" * (line % 900)) for line in range(1, 400)]
    lines[50:50] = [b"damaged\n"]
    path.write_bytes(b"".join(lines))
    with RecordFile(path) as file:
        batches = [len(results) for results, _ in file.batches()]
        assert len(batches) > 1
        assert sum(batches) == 399
        placed = list(file.placed_results())
        assert [file.at(offset) for _, offset in placed] == [result for result, _ in placed]
        assert file.damaged == 1
