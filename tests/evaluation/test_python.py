"""`batchrun.evaluate` and `batchrun.compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun import UsageError
from tests.evaluation.made import write_gold, write_results


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """Two result files and their gold: three of four right, two of four right."""
    first = write_results(tmp_path / "a.jsonl", {f"r-{at}": {"topic": "yes"} for at in range(4)})
    second = write_results(tmp_path / "b.jsonl", {f"r-{at}": {"topic": "yes" if at < 2 else "NO"} for at in range(4)})
    rows = [(f"r-{at}", "yes" if at < 3 else "no") for at in range(4)]
    return first, second, write_gold(tmp_path / "gold.csv", ["id", "topic"], rows)


def test_the_figures_are_typed(files: tuple[Path, Path, Path]) -> None:
    found = batchrun.evaluate(str(files[0]), files[2], key="id")
    assert isinstance(found, batchrun.Evaluation)
    assert (found.counts.right, found.accuracy.value) == (3, 0.75)


def test_a_scorer_may_be_a_name_or_a_function(files: tuple[Path, Path, Path]) -> None:
    def same_start(gold: Any, answer: Any) -> bool:
        return bool(gold[0].casefold() == answer[0].casefold())

    for scorer, right in (("exact", 2), ("casefold", 3), (same_start, 3)):
        found = batchrun.evaluate(files[1], files[2], key="id", scorers={"topic": scorer})
        assert found.counts.right == right


def test_a_function_that_fails_is_told_of_with_row_and_field(files: tuple[Path, Path, Path]) -> None:
    def divides(gold: Any, answer: Any) -> bool:
        return bool(1 / 0)

    words = "the field topic of 'r-0' cannot be scored: divides raised ZeroDivisionError: division by zero for gold"
    with pytest.raises(UsageError, match=words):
        batchrun.evaluate(files[0], files[2], key="id", scorers={"topic": divides})
    with pytest.raises(UsageError, match="divides gave 'yes'; it must give True, False or None"):
        batchrun.evaluate(files[0], files[2], key="id", scorers={"topic": _named("divides", lambda gold, answer: gold)})


def _named(name: str, function: Any) -> Any:
    function.__name__ = name
    return function


def test_two_files_are_compared(files: tuple[Path, Path, Path]) -> None:
    found = batchrun.compare(files[:2], files[2], key="id")
    assert isinstance(found, batchrun.Comparison)
    assert found.fields["topic"][0].pairs.first_only == 1


def test_without_gold_it_is_shown_how_far_two_files_agree(files: tuple[Path, Path, Path]) -> None:
    found = batchrun.compare(files[:2])
    assert isinstance(found, batchrun.Agreements)
    assert found.fields["topic"][0].agreement.value == 0.5
    with pytest.raises(UsageError, match="by needs gold"):
        batchrun.compare(files[:2], by="lang")  # type: ignore[call-overload]  # as a program without types may


@pytest.mark.parametrize(
    "told",
    [
        {"unanswered": "right"},
        {"seed": -1},
        {"scorers": {"topic": "fuzzy"}},
        {"key": "nothing"},
        {"scorers": {"topic": 7}},
        {"scorers": ["topic"]},
        {"columns": ["topic"]},
        {"columns": {"topic": 7}},
        {"ordinal": "topic"},
        {"ordinal": 7},
    ],
)
def test_a_value_that_cannot_serve_is_refused(files: tuple[Path, Path, Path], told: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        batchrun.evaluate(files[0], files[2], **({"key": "id"} | told))


def test_a_path_in_place_of_a_list_of_them_is_refused(files: tuple[Path, Path, Path]) -> None:
    for path in (files[0], str(files[0])):
        with pytest.raises(UsageError, match=r'results is .*; write a list, such as \["old.jsonl", "new.jsonl"\]'):
            batchrun.compare(path, files[2], key="id")  # type: ignore[arg-type]


def test_one_file_alone_is_not_compared(files: tuple[Path, Path, Path]) -> None:
    with pytest.raises(UsageError, match="needs two result files"):
        batchrun.compare(files[:1], files[2], key="id")


def test_the_gold_of_a_job_is_named_from_python(files: tuple[Path, Path, Path]) -> None:
    """A folder is a result file; without gold the message says that it is not taken from there."""
    folder = files[0].parent / "labelled.csv.job"
    folder.mkdir()
    (folder / "results.jsonl").write_bytes(files[0].read_bytes())
    found = batchrun.evaluate(folder, files[2], key="id")
    assert found.counts == batchrun.evaluate(files[0], files[2], key="id").counts
    with pytest.raises(UsageError, match=r"gold is missing .*also where results is the folder of a job"):
        batchrun.evaluate(folder)
