"""A result file of another version is refused whole, and left as it is to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchrun.cli.main import cli
from tests.support import record, write_prices, write_requests

OURS = [record(f"r-{line}", line) for line in (1, 2, 3)]
OLD = re.sub(rb'"v":1,', b"", record("r-9", 9))
NEWER = record("r-9", 9).replace(b'"v":1,', b'"v":2,')
WHERE = {
    "the first": lambda other: [other, *OURS],
    "in the middle": lambda other: [OURS[0], other, *OURS[1:]],
    "the last": lambda other: [*OURS, other],
    "the last, without a newline": lambda other: [*OURS, other.rstrip(b"\n")],
    "alone, without a newline": lambda other: [other.rstrip(b"\n")],
    "before a torn line": lambda other: [other, *OURS, OURS[0][:50]],
    "all": lambda other: [other] * 3,
}
COMMANDS = {
    "run": ("run", "requests.jsonl", "-o", "results.jsonl", "--simulate", "--prices", "prices.json"),
    "report": ("report", "results.jsonl", "--prices", "prices.json"),
    "verify": ("verify", "requests.jsonl", "results.jsonl", "--prices", "prices.json"),
    "estimate": ("estimate", "requests.jsonl", "-o", "results.jsonl", "--prices", "prices.json"),
}


def done(folder: Path, command: str, monkeypatch: pytest.MonkeyPatch) -> Result:
    monkeypatch.chdir(folder)
    write_requests(folder / "requests.jsonl", 3)
    write_prices(folder)
    return CliRunner().invoke(cli, list(COMMANDS[command]))


def refusal(result: Result) -> str:
    """What the entry point prints and exits with."""
    error = result.exception
    assert error is not None
    assert getattr(error, "exit_code", None) == 2, error
    return str(error)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("other", "named"), [(OLD, "records without a version"), (NEWER, "record version 2")])
def test_a_file_of_another_version_is_refused_and_untouched(
    other: bytes, named: str, where: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It counted as damage once, was put into quarantine, and its lines were paid for again."""
    results = tmp_path / "results.jsonl"
    results.write_bytes(b"".join(WHERE[where](other)))
    before = results.read_bytes()
    said = refusal(done(tmp_path, command, monkeypatch))
    assert named in said
    assert "left untouched" in said
    assert results.read_bytes() == before
    assert not list(tmp_path.glob("results.jsonl.quarantine"))


def test_rescued_answers_of_another_version_are_not_taken_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results, rescue = tmp_path / "results.jsonl", tmp_path / "results.jsonl.rescue"
    results.write_bytes(b"".join(OURS))
    rescue.write_bytes(NEWER)
    before = results.read_bytes()
    assert "record version 2" in refusal(done(tmp_path, "run", monkeypatch))
    assert (results.read_bytes(), rescue.read_bytes()) == (before, NEWER)


def test_what_is_damaged_is_no_other_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a record, and JSON that is no record, are set aside as before."""
    results = tmp_path / "results.jsonl"
    damaged = [b'{"custom_id":"r-2"}\n', OURS[1][:80] + b"\n", b'{"custom_id":"x","run":{"v":2}}\n']
    results.write_bytes(b"".join([OURS[0], *damaged]))
    result = done(tmp_path, "report", monkeypatch)
    assert result.exit_code == 0, result.output
    assert "3 damaged lines" in result.output
