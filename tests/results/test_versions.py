"""A result file of another version is refused whole, and left as it is to the byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from batchrun.cli.main import cli
from tests.support import record, write_prices, write_requests

OURS = [record(f"r-{line}", line) for line in (1, 2, 3)]
ODD = [
    record("r-9", 9).replace(b'"v":1,', b'"v":2,').replace(b'"outcome":', b'"result":'),  # other fields, too
    record("r-9", 9).replace(b'"v":1,', b'"v":1.0,'),
    record("r-9", 9).replace(b'"v":1,', b'"v":"1",'),
    record("r-9", 9).replace(b'"v":1,', b'"v":null,'),
]
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
    "run": (
        "run",
        "requests.jsonl",
        "-o",
        "results.jsonl",
        "--simulate",
        "--prices",
        "prices.json",
        "--changed",
        "keep",
    ),
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


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("other", ODD, ids=["other fields", "1.0", "a string", "null"])
def test_any_other_version_is_one_whatever_else_is_in_the_record(
    other: bytes, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results.jsonl"
    results.write_bytes(OURS[0] + other + OURS[1])
    before = results.read_bytes()
    assert re.search("record version|records without a version", refusal(done(tmp_path, command, monkeypatch)))
    assert results.read_bytes() == before


@pytest.mark.parametrize("others", [OURS, []], ids=["behind good lines", "alone"])
@pytest.mark.parametrize("other", [OLD, NEWER], ids=["no version", "newer"])
def test_half_a_record_of_another_version_is_not_cut_off(
    other: bytes, others: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "results.jsonl"
    results.write_bytes(b"".join(others) + other[:-100])
    before = results.read_bytes()
    assert "record version unknown" in refusal(done(tmp_path, "run", monkeypatch)).replace("'", "")
    assert results.read_bytes() == before


def test_half_a_record_of_this_version_is_cut_off_and_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However little of it is left."""
    for length in (1, 20, OURS[1].index(b'"run"') + 8, OURS[1].index(b'"v"') + 2, len(OURS[1]) - 2):
        results = tmp_path / "results.jsonl"
        results.write_bytes(OURS[0] + OURS[1][:length])
        result = done(tmp_path, "run", monkeypatch)
        assert "the last record was cut off in the middle" in result.stderr, (length, result.output)
        results.unlink()
        results.with_name("results.jsonl.log").unlink()


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
    damaged = [b'{"custom_id":"r-2"}\n', OURS[1][:80] + b"\n", b'{"custom_id":"x","run":{"line":2}}\n']
    results.write_bytes(b"".join([OURS[0], *damaged]))
    result = done(tmp_path, "report", monkeypatch)
    assert result.exit_code == 0, result.output
    assert "3 damaged lines" in result.output
