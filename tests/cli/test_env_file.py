"""A .env file: read as python-dotenv reads it, and nothing in it is executed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batchrun.cli.env_file import load_env_file, read_env
from batchrun.errors import UsageError

ENTRIES = {
    "A=1": "1",
    "export A=1": "1",
    "  A = 1  ": "1",
    "A=": "",
    "A=sk-a#b": "sk-a#b",
    "A=1 # a comment": "1",
    "A='x # y' # a comment": "x # y",
    'A="a\\nb \\"c\\" \\\\"': 'a\nb "c" \\',
    "A='a\\nb'": "a\\nb",
    'A="two\nlines"': "two\nlines",
    "A=$(touch x)`id`${HOME}": "$(touch x)`id`${HOME}",
    'A="$(touch x)"': "$(touch x)",
    "A=1\r\nB=2\r\n": "1",
    "# A=0\n\nA=1": "1",
    "A=0\nA=1": "1",
    "JUST_A_NAME\nA=1": "1",
}


@pytest.mark.parametrize("text", ENTRIES)
def test_an_entry_is_read_as_it_stands(text: str) -> None:
    assert read_env(text, ".env")["A"] == ENTRIES[text]


@pytest.mark.parametrize(
    "text", ['B=1\nA="sk-secret', "B=1\nA='sk-secret", "B=1\n sk-secret: 1", 'B=1\nA="sk-secret"x']
)
def test_a_line_that_cannot_be_read_is_named_and_not_shown(text: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_env(text, ".env")
    assert str(refused.value) == ".env:2: write NAME=VALUE, and close its quotes if it has some"


def test_variables_that_are_set_win(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / ".env"
    file.write_text("\ufeffBATCHRUN_TEST_A=file\nBATCHRUN_TEST_B=file\n", encoding="utf-8")
    monkeypatch.setenv("BATCHRUN_TEST_A", "set")
    monkeypatch.setenv("BATCHRUN_TEST_B", "x")
    monkeypatch.delenv("BATCHRUN_TEST_B")
    load_env_file(file)
    assert (os.environ["BATCHRUN_TEST_A"], os.environ["BATCHRUN_TEST_B"]) == ("set", "file")


@pytest.mark.parametrize("content", [None, b"A=\xff"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / ".env"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError, match=r"cannot read .*\.env: "):
        load_env_file(file)
