"""The index: made once, used again, made anew where it is not of the file, and grown with a job that runs."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from batchrun.results.parts import files_of
from batchrun.viewer.index import Index
from batchrun.viewer.view import View, select
from tests.cluster.shards import job_of, mixed_requests, planned, run_shards
from tests.html.made import make_job
from tests.viewer.serving import index_of


def read_all(index: Index) -> Index:
    while index.read_on():
        pass
    return index


def lines_of(index: Index, **view: str) -> list[int]:
    chosen = View.of([*view.items(), ("size", "500")], index.columns)
    return [int(index.columns.numbers["line"].values[row]) for row in select(index, chosen).rows]


def made(results: Path) -> tuple[int, list[int]]:
    """How often the index was made anew when it was opened, and its lines."""
    index = index_of(results)
    try:
        read_on = index.read_on()
        lines = lines_of(read_all(index))
        return (index.generation if read_on else 0), lines
    finally:
        index.close()


@pytest.fixture
def results(tmp_path: Path) -> Path:
    return make_job(tmp_path, 60)


def in_file(results: Path) -> list[int]:
    return [json.loads(line)["run"]["line"] for line in results.read_bytes().splitlines()]


def test_it_is_made_once_and_then_taken_over(results: Path) -> None:
    assert made(results) == (1, in_file(results))
    assert made(results) == (0, in_file(results)), "nothing was read again"


def test_a_taken_over_index_knows_all_it_knew(results: Path) -> None:
    views: tuple[dict[str, str], ...] = (
        {},
        {"status": "failed"},
        {"field.topic": "billing"},
        {"sort": "cost"},
        {"q": "reason"},
        {"cost.from": "0.001"},
    )
    index = read_all(index_of(results))
    before = [lines_of(index, **view) for view in views]
    counts = [facet.counts for facet in select(index, View()).facets]
    index.close()
    again = index_of(results)
    assert [lines_of(again, **view) for view in views] == before
    assert [facet.counts for facet in select(again, View()).facets] == counts
    again.close()


def swap_two_lines(results: Path) -> None:
    lines = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join([lines[1], lines[0], *lines[2:]]))


def replace_by_a_copy(results: Path) -> None:
    shutil.copy(results, copy := results.with_suffix(".new"))
    copy.replace(results)


def cut_off(results: Path) -> None:
    os.truncate(results, len(b"".join(results.read_bytes().splitlines(keepends=True)[:20])))


def change_the_end(results: Path) -> None:
    lines = results.read_bytes().splitlines(keepends=True)
    with results.open("r+b") as file:
        file.write(b"".join([*lines[:-2], lines[-1], lines[-2]]))


def damage_the_index(results: Path) -> None:
    Path(f"{results}.index").write_bytes(b"this is no database, and never was one" * 1000)


def damage_a_block(results: Path) -> None:
    with sqlite3.connect(f"{results}.index") as database:
        database.execute("UPDATE block SET codes = x'00'")


@pytest.mark.parametrize(
    "change", [swap_two_lines, replace_by_a_copy, cut_off, change_the_end, damage_the_index, damage_a_block]
)
def test_it_is_made_anew_where_it_is_not_of_the_file(results: Path, change: object) -> None:
    made(results)
    assert callable(change)
    change(results)
    assert made(results) == (1, in_file(results))


def test_it_grows_with_the_file_and_leaves_a_torn_line(results: Path) -> None:
    whole = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join(whole[:10]))
    index = read_all(index_of(results))
    with results.open("ab", buffering=0) as file:
        file.write(whole[10] + whole[11][:100])
        read_all(index)
        assert len(index.columns) == 11
        assert index.progress.is_done
        file.write(whole[11][100:])
        read_all(index)
        assert len(index.columns) == 12
    assert (index.generation, lines_of(index)) == (1, in_file(results))
    index.close()


@pytest.mark.parametrize("change", [replace_by_a_copy, cut_off])
def test_a_file_that_is_replaced_while_it_is_shown_is_read_anew(results: Path, change: object) -> None:
    index = read_all(index_of(results))
    assert callable(change)
    change(results)
    assert lines_of(read_all(index)) == in_file(results)
    assert index.generation == 2
    index.close()


def test_damaged_lines_are_counted_and_left_out(results: Path) -> None:
    whole = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join([whole[0], b"{}\n", b"\0\n", whole[1]]))
    index = read_all(index_of(results))
    assert (len(index.columns), index.progress.damaged) == (2, 2)
    index.close()


def test_a_second_viewer_has_an_index_of_its_own(results: Path) -> None:
    first, second = index_of(results), index_of(results)
    assert lines_of(read_all(second)) == lines_of(read_all(first)) == in_file(results)
    second.close()
    first.close()
    assert made(results)[0] == 0, "the first one's is there"


def test_a_directory_of_results_is_read_as_one_file(tmp_path: Path) -> None:
    requests, directory = mixed_requests(tmp_path / "requests.jsonl", 120), tmp_path / "results"
    run_shards(job_of(requests, directory), planned(requests, directory, 4))
    lines = [number for path in files_of(directory) for number in in_file(path)]
    assert len(lines) > 100
    assert made(directory) == (1, lines)
    assert made(directory) == (0, lines), "it is kept inside the directory"
