"""A part of a request file: the numbers and ids of its lines are those of the whole file."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from batchrun.errors import StopError
from batchrun.records.request import RequestLine
from batchrun.requests.part import Part
from batchrun.requests.reader import RequestFile, derived_key


def write(path: Path, count: int) -> list[int]:
    """A file of lines with own ids; where each line begins, and the end."""
    lines = [json.dumps({"custom_id": f"r-{n}", "body": {"model": "m", "input": f"{n}"}}) for n in range(1, count + 1)]
    path.write_text("".join(line + "\n" for line in lines))
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line) + 1)
    return starts


def lines_of(path: Path, part: Part | None = None) -> list[RequestLine]:
    with RequestFile(str(path), part=part) as file:
        file.check()
        return list(file.requests())


@pytest.mark.smoke
def test_parts_together_are_the_file(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    starts = write(path, 10_000)
    cuts = [0, 1, 4095, 4096, 4097, 9_999, 10_000]
    found = [
        line
        for a, b in pairwise(cuts)
        for line in lines_of(path, Part(starts[a], starts[b], a + 1, total_lines=10_000))
    ]
    assert found == lines_of(path)


def test_a_part_gives_its_lines_again_from_any_of_them(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    starts = write(path, 9_000)
    with RequestFile(str(path), part=Part(starts[2_000], starts[8_500], 2_001, 9_000)) as file:
        file.check()
        with file.again() as twin:
            assert [line.line_number for line in twin.requests(start=7_000)] == list(range(7_000, 8_501))
        assert (file.first_line, file.total_lines, file.survey.lines) == (2_001, 9_000, 6_500)


def test_bare_bodies_go_on_with_the_occurrences_of_earlier_parts(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    line = json.dumps({"model": "m", "input": "the same"})
    path.write_text(f"{line}\n" * 4)
    ids = [one.custom_id for one in lines_of(path)]
    size = len(line) + 1
    part = Part(2 * size, 4 * size, 3, 4, {derived_key(ids[0]): 2})
    assert [one.custom_id for one in lines_of(path, part)] == ids[2:] == [f"{ids[0]}-3", f"{ids[0]}-4"]
    single = Part(3 * size, 4 * size, 4, 4, {derived_key(ids[0]): 3})
    assert [one.custom_id for one in lines_of(path, single)] == ids[3:], "also where it occurs but once in the part"


def test_a_part_that_is_cut_off_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    starts = write(path, 100)
    with RequestFile(str(path), part=Part(starts[50], starts[100], 51, 100)) as file:
        file.check()
        path.write_bytes(path.read_bytes()[: starts[80]])
        with pytest.raises(StopError, match="was cut off while running"):
            list(file.requests())
