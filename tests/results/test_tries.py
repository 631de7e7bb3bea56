"""`RESULTS.tries`: which answers are open, and what is repaired before a run writes on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from batchrun.records.result import ErrorInfo, ResultHead, RunInfo, Source, Try, encode_result, parse_result
from batchrun.records.usage import Usage
from batchrun.results.paths import ResultPaths
from batchrun.results.tries import OpenTries, TriesFile, open_tries
from tests.support import run_info

HASHES = ("0123456789abcdef" * 2, "fedcba9876543210" * 2)


def run_of(line: int, asks: int, body_hash: str = HASHES[0]) -> RunInfo:
    """How a line was run whose answers have missed so often."""
    tries = tuple(Try(Usage(10 * ask, 0, ask, 0, 11 * ask), "no") for ask in range(1, asks + 1)) if asks > 1 else ()
    return run_info(
        line=line, body_hash=body_hash, outcome="invalid", tries=tries, usage=Usage(10 * asks, 0, asks, 0, 11 * asks)
    )


def missed(line: int, asks: int, body_hash: str = HASHES[0]) -> bytes:
    head = ResultHead(f"r-{line}", run_of(line, asks, body_hash), ErrorInfo("schema_mismatch", "no"))
    return encode_result(head, 200, "req_1", b'{"ask":%d}' % asks)


def head_of(line: int, body_hash: str = HASHES[0], source: Source | None = None) -> ResultHead:
    return ResultHead(f"r-{line}", structs.replace(run_of(line, 1, body_hash), source=source), None)


def opened(paths: ResultPaths, records: Sequence[ResultHead] = ()) -> OpenTries:
    reader = open_tries(paths)
    assert reader is not None
    reader.settle(records)
    return reader.open()


def test_the_last_try_of_a_request_without_a_record_is_open(tmp_path: Path) -> None:
    paths = ResultPaths.of(tmp_path / "results.jsonl")
    tries = [missed(1, 1), missed(2, 1), missed(1, 2), missed(3, 1, HASHES[1])]
    paths.tries.write_bytes(b"".join(tries))
    found = opened(paths, [head_of(2), head_of(3)])
    assert sorted(head.custom_id for head in found.heads()) == ["r-1", "r-3"], "of line 3, another text has the record"
    assert found.take("r-3", HASHES[0]) is None
    one = found.take("r-1", HASHES[0])
    assert one is not None
    assert (len(one.tries), one.reply.body, one.reply.schema_error) == (2, b'{"ask":2}', None)
    assert found.take("r-1", HASHES[0]) is None, "it is taken once"


def test_a_copied_record_has_not_the_tries_of_its_line(tmp_path: Path) -> None:
    paths = ResultPaths.of(tmp_path / "results.jsonl")
    paths.tries.write_bytes(missed(1, 1))
    assert len(opened(paths, [head_of(1, source=Source("copied", line=7))])) == 1
    assert len(opened(paths, [head_of(1)])) == 0


def test_without_a_file_nothing_is_open(tmp_path: Path) -> None:
    assert open_tries(ResultPaths.of(tmp_path / "results.jsonl")) is None


@given(st.data())
def test_any_torn_end_is_cut_off_and_what_was_whole_is_kept(data: st.DataObject) -> None:
    from tempfile import TemporaryDirectory

    records = [missed(line, ask) for line in (1, 2, 3) for ask in (1, 2)]
    whole = b"".join(records)
    size = data.draw(st.integers(0, len(whole)))
    with TemporaryDirectory() as name:
        paths = ResultPaths.of(Path(name) / "results.jsonl")
        paths.tries.write_bytes(whole[:size])
        file = TriesFile(paths)
        found = file.reader(lambda head: None).open()
        kept = [parse_result(raw) for raw in paths.tries.read_bytes().splitlines()]
        ends = [len(b"".join(records[: count + 1])) for count in range(len(records))]
        assert len(kept) == sum(end - 1 <= size for end in ends), "a record is whole without its newline, too"
        assert len(found) == len({head.custom_id for head in kept})
        file.append([missed(9, 1)])
        file.close()
        assert paths.tries.read_bytes().endswith(missed(9, 1))
        assert len(paths.tries.read_bytes().splitlines()) == len(kept) + 1
