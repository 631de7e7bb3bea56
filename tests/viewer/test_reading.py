"""Another process reads a large file: the index is the one that this process would make, whatever ends the other."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from batchrun.datasets.tables import Source
from batchrun.errors import ResultFileError
from batchrun.evaluation.evaluate import Question, evaluate, scoring
from batchrun.viewer import blocks, reading
from batchrun.viewer.columns import everything
from batchrun.viewer.gold import Judge
from batchrun.viewer.index import Index
from batchrun.viewer.view import View, select
from tests.html.made import make_job, write_gold
from tests.viewer.serving import index_of
from tests.viewer.test_index import in_file, lines_of, read_all, replace_by_a_copy

ROWS, TIMES = 300, 10
SEARCHES = ("reason", "prompt", "billing", "reason 7", "reas*", "nothing")


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """More than fits into the pipe between two processes; a column of it has more values than there are codes."""
    path = make_job(tmp_path, ROWS)
    path.write_bytes(path.read_bytes() * TIMES)
    return path


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of a few rows."""
    monkeypatch.setattr(blocks, "FIRST_BYTES", 1 << 12)
    monkeypatch.setattr(blocks, "MOST_BYTES", 1 << 14)
    monkeypatch.setattr(blocks, "_PIECE_BYTES", 1 << 11)


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch, small: None) -> None:
    """Any file is large."""
    monkeypatch.setattr(reading, "LEAST_BYTES", 1)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


def known_of(index: Index) -> dict[str, Any]:
    """All that an index knows."""
    columns = index.columns
    return {
        "codes": {facet.name: (facet.values, bytes(facet.codes)) for facet in columns.coded},
        "numbers": {name: numbers.values for name, numbers in columns.numbers.items()},
        "offsets": columns.offsets,
        "found": {words: lines_of(index, q=words) for words in SEARCHES},
        "facets": [facet.counts for facet in select(index, View()).facets],
        "progress": index.progress,
        "samples": index.quiet_hours.samples(),
    }


def opened(results: Path) -> tuple[Index, int]:
    """An index that another process reads for, and the id of that process."""
    index = index_of(results)
    assert index.other is not None
    os.kill(index.other.pid, 0)
    return index, index.other.pid


def close(index: Index, pid: int) -> None:
    """Close it, and see that the other process is no more."""
    index.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def add_what_is_no_record(results: Path) -> None:
    whole = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join([b"{}\n", *whole[:50], b"\n", b"\xff\n", *whole[50:], whole[0][:99]]))


def test_it_finds_what_one_process_finds(results: Path, small: None, request: pytest.FixtureRequest) -> None:
    add_what_is_no_record(results)
    index = read_all(index_of(results))
    assert index.other is None
    expected = known_of(index)
    index.close()
    assert (expected["progress"].damaged, expected["progress"].rows) == (3, ROWS * TIMES)
    assert len(expected["found"]["reason 7"]) == TIMES
    assert len(expected["codes"]["field.reason"][0]) == 255, "and the others have none"
    Path(f"{results}.index").unlink()

    request.getfixturevalue("two")
    index, pid = opened(results)
    read_here = blocks.BlockReader.read
    blocks_here = list[int]()

    def counted(self: blocks.BlockReader, file: Any, start: int) -> blocks.Block:
        block = read_here(self, file, start)
        blocks_here.append(block.rows)
        return block

    request.getfixturevalue("monkeypatch").setattr(blocks.BlockReader, "read", counted)
    assert known_of(read_all(index)) == expected
    assert sum(blocks_here) == 0, "the other process has read all rows"
    close(index, pid)


@pytest.mark.usefixtures("two")
def test_where_it_is_killed_this_one_reads_on(results: Path) -> None:
    index, pid = opened(results)
    for _ in range(3):
        index.read_on()
    assert 0 < len(index.columns) < 100
    os.kill(pid, 9)
    assert lines_of(read_all(index)) == in_file(results)[:500]
    assert (len(index.columns), index.generation) == (ROWS * TIMES, 1)
    close(index, pid)


@pytest.mark.usefixtures("two")
def test_it_ends_with_the_index(results: Path) -> None:
    index, pid = opened(results)
    index.read_on()
    close(index, pid)


@pytest.mark.usefixtures("two")
def test_of_a_file_that_is_replaced_nothing_is_kept(results: Path, tmp_path: Path) -> None:
    index, pid = opened(results)
    for _ in range(4):
        index.read_on()
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[::-1]))
    replace_by_a_copy(results)
    assert lines_of(read_all(index)) == in_file(results)[:500]
    assert (len(index.columns), index.generation) == (ROWS * TIMES, 2)
    close(index, pid)


@pytest.mark.usefixtures("two")
def test_what_comes_later_is_read_here(results: Path) -> None:
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(lines[:40]) + lines[40][:10])
    index, pid = opened(results)
    read_all(index)
    assert (len(index.columns), index.progress.is_done) == (40, True)
    with results.open("ab") as file:
        file.write(lines[40][10:] + b"".join(lines[41:500]))
    assert lines_of(read_all(index)) == in_file(results)
    assert index.generation == 1
    close(index, pid)


@pytest.mark.usefixtures("two")
def test_it_holds_rows_against_gold(results: Path, tmp_path: Path) -> None:
    question = Question(Source(str(write_gold(tmp_path, ROWS))), key="id")
    with scoring(results, question) as work:
        index = index_of(results, Judge(work, "gold"))
        assert index.other is not None
        pid = index.other.pid
        read_all(index)
        codes = index.columns.facets["verdict"]
        found = evaluate(results, question).counts
        assert dict(codes.counts(everything(len(index.columns)))) == {
            "right": found.right * TIMES,
            "wrong": found.wrong * TIMES,
            "unanswered": found.unanswered * TIMES,
        }
        close(index, pid)


@pytest.mark.usefixtures("two")
def test_records_of_another_version_are_refused(results: Path) -> None:
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join([*lines[:100], lines[100].replace(b'"run":{"v":1,', b'"run":{"v":9,')]))
    index, pid = opened(results)
    with pytest.raises(ResultFileError, match="version 9"):
        read_all(index)
    close(index, pid)


_KILLED = """
import os, sys, time
from pathlib import Path
from batchrun.viewer import blocks, reading
from tests.viewer.serving import index_of
reading.LEAST_BYTES, blocks.FIRST_BYTES, blocks.MOST_BYTES, os.cpu_count = 1, 1 << 12, 1 << 14, lambda: 2
index = index_of(Path(sys.argv[1]))
for _ in range(9):
    index.read_on()
os.kill(index.other.pid, 0)
print(len(index.columns), flush=True)
time.sleep(60)
"""


def test_killed_while_it_is_made_it_leaves_no_process_and_is_used_again(results: Path) -> None:
    process = subprocess.Popen([sys.executable, "-c", _KILLED, str(results)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    rows = int(process.stdout.readline())
    process.kill()
    assert process.communicate(timeout=20)[0] == b"", "both processes have closed what they share"
    index = index_of(results)
    assert (len(index.columns), index.generation) == (rows, 0), "nothing is read twice"
    assert 0 < rows < ROWS * TIMES
    assert lines_of(read_all(index)) == in_file(results)[:500]
    assert len(index.columns) == ROWS * TIMES
    index.close()
