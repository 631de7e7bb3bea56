"""`job.toml`: what is written is read again, whatever stands in it."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.errors import UsageError
from batchrun.labelling.job_file import JobFile

TEXTS = st.text(st.characters(codec="utf-8"), max_size=40)


@given(TEXTS, st.lists(TEXTS, max_size=4), st.dictionaries(st.sampled_from(["prompt", "schema"]), TEXTS))
def test_what_is_written_is_read_again(name: str, words: list[str], texts: dict[str, str]) -> None:
    gold = {name: name, **texts}
    job = JobFile(name, "0f", tuple(words), ("--proxy",), name, texts, gold, bool(words))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "job.toml")
        job.write(path)
        assert JobFile.read(path) == job


@pytest.mark.smoke
def test_there_may_be_none(tmp_path: Path) -> None:
    assert JobFile.read(tmp_path / "job.toml") is None


def test_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    job = JobFile("data-\udcff.csv", "0f", (), (), "/", {})
    with pytest.raises(UsageError, match="is not UTF-8"):
        job.write(tmp_path / "job.toml")
    assert not list(tmp_path.iterdir())
