"""A directory of result files is read as one file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchrun.datasets.lookup import RecordFile, in_line_order
from batchrun.datasets.results import Results
from batchrun.results.parts import PLAN, files_of, identity_of, is_still, open_results, read_at, shard_path, size_of
from batchrun.results.scan import read_many
from tests.support import record


def directory_of(folder: Path, *contents: bytes) -> Path:
    folder.mkdir()
    (folder / PLAN).write_text("{}")
    for number, content in enumerate(contents):
        shard_path(folder, number).write_bytes(content)
    return folder


def test_its_bytes_are_those_of_its_files_in_order(tmp_path: Path) -> None:
    parts = [b"one\ntwo\n", b"", b"three\n" * 50_000, b"", b"four\n"]
    directory, whole = directory_of(tmp_path / "results", *parts), b"".join(parts)
    with open_results(directory) as file:
        assert file.read() == whole
        assert size_of(file) == len(whole)
        for offset in (0, 3, 7, 8, 9, 299_990, len(whole) - 5, len(whole) - 1):
            file.seek(offset)
            assert file.readline() == whole[offset:].splitlines(keepends=True)[0]
            assert file.tell() == offset + len(whole[offset:].splitlines(keepends=True)[0])
            assert read_at(file, 40, offset) == whole[offset : offset + 40]
        assert read_at(file, 9, len(whole)) == b""
        assert file.seek(-5, os.SEEK_END) == len(whole) - 5
        assert file.read() == b"four\n"


def test_half_a_line_at_the_end_of_a_file_stays_alone(tmp_path: Path) -> None:
    first, second = record("r-1", 1), record("r-2", 2)
    directory = directory_of(tmp_path / "results", first + second[:100], record("r-3", 3))
    found = list(read_many(directory))
    assert [head.custom_id for heads, _ in found for head in heads] == ["r-1", "r-3"]
    assert [span for _, damaged in found for span in damaged] == [(len(first), len(first) + 101)]


def test_files_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    directory = directory_of(tmp_path / "results")
    for number in (100_000, 99_999, 3):
        shard_path(directory, number).write_bytes(record(f"r-{number}", number))
    (directory / "shard-00003.jsonl.log").write_bytes(b"{}\n")
    (directory / "shard-old.jsonl").write_bytes(b"no record\n")
    assert [path.name for path in files_of(directory)] == [
        "shard-00003.jsonl",
        "shard-99999.jsonl",
        "shard-100000.jsonl",
    ]


def test_records_are_found_at_their_offsets(tmp_path: Path) -> None:
    contents = [b"".join(record(f"r-{n}", n) for n in numbers) for numbers in ((3, 1), (5, 4), (9, 8, 7))]
    directory = directory_of(tmp_path / "results", *contents)
    with RecordFile(directory) as file:
        assert [file.at(offset).run.line for offset in in_line_order(file)] == [1, 3, 4, 5, 7, 8, 9]
    assert [result.run.line for result in Results(directory, order="requests")] == [1, 3, 4, 5, 7, 8, 9]


def test_it_is_another_one_once_a_file_has_grown(tmp_path: Path) -> None:
    directory = directory_of(tmp_path / "results", record("r-1", 1), record("r-2", 2))
    with open_results(directory) as file:
        assert is_still(file, directory, 0)
        identity = identity_of(file)
        with shard_path(directory, 0).open("ab") as grown:
            grown.write(record("r-3", 3))
        assert not is_still(file, directory, 0)
    with open_results(directory) as again:
        assert identity_of(again) != identity
        assert is_still(again, directory, 0)


@pytest.mark.parametrize("has_plan", [False, True])
def test_a_directory_without_a_plan_is_none_of_results(tmp_path: Path, *, has_plan: bool) -> None:
    directory = directory_of(tmp_path / "results", record())
    if not has_plan:
        (directory / PLAN).unlink()
    assert files_of(directory) == ([shard_path(directory, 0)] if has_plan else [directory])
