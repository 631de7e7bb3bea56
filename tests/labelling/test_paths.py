"""The folder of a labelling job: for one process at a time, and without what a kill left."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.errors import UsageError
from batchrun.labelling.paths import LabelPaths


def test_what_a_kill_left_half_written_is_removed_and_nothing_else(tmp_path: Path) -> None:
    paths = LabelPaths.beside(tmp_path / "out.csv")
    paths.folder.mkdir()
    drafts = [".0123456789abcdef.draft", ".fedcba9876543210.tmp"]
    others = ["notes.tmp", ".short.draft", "job.toml"]
    for name in drafts + others:
        (paths.folder / name).write_text("")
    with pytest.raises(UsageError), paths.held(), paths.held():
        pass
    assert {path.name for path in paths.folder.iterdir()} == {*others, "lock"}


def test_without_locks_nothing_is_removed(tmp_path: Path) -> None:
    """Another process may be writing it."""
    paths = LabelPaths.beside(tmp_path / "out.csv")
    paths.folder.mkdir()
    draft = paths.folder / f".{'0' * 16}.draft"
    draft.write_text("")
    with paths.held(locks=False), paths.held(locks=False):
        assert draft.exists()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot write"), LabelPaths.beside(tmp_path / "none" / "out.csv").held():
        pass
