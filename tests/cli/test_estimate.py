"""`batchrun estimate`, and the pilot of a run, which shows the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import FAST, Command, Terminal, records, write_requests

PILOT = ("run", "requests.jsonl", "-o", "r.jsonl", *FAST, "--pilot", "10")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    return Path(write_requests(tmp_path / "requests.jsonl", 12).name)


def test_an_estimate_is_printed_as_text_or_as_json(batchrun: Command, requests: Path) -> None:
    done = batchrun("estimate", requests)
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("3 lines, 0 done, 3 to do\n")
    made = json.loads(batchrun("estimate", requests, "-o", "absent.jsonl", "--json").out)
    assert (made["lines"], made["lines_left"]) == (3, 3)
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    assert json.loads(batchrun("estimate", requests, "-o", "r.jsonl", "--json").out)["lines_left"] == 0


def test_limits_and_overrides_are_part_of_an_estimate(batchrun: Command, requests: Path) -> None:
    made = json.loads(batchrun("estimate", requests, "--rpm", "1", "--json").out)
    assert made["seconds"]["low"] >= 120, "three requests, one a minute"
    assert batchrun("estimate", requests, "--set", "nonsense").code == 2
    Path("prices.json").write_text('{"gpt-4.1*": {"input": 1000000, "output": 0}}')
    made = json.loads(batchrun("estimate", requests, "--prices", "prices.json", "--json").out)
    assert made["left_usd"]["low"] > 1, "a dollar a token"


# ------------------------------------------------------------------------------------------------ the pilot


def test_a_pilot_without_a_terminal_needs_yes(batchrun: Command, many: Path) -> None:
    done = batchrun(*PILOT)
    assert (done.code, done.out) == (3, "")
    assert "measured 10 of 12 lines" in done.err
    expected = "batchrun: the pilot is done; this is not a terminal; use --yes to send the rest"
    assert done.err.splitlines()[-1] == expected
    assert len(records(Path("r.jsonl"))) == 10
    again = batchrun(*PILOT, "--yes")
    assert again.code == 0
    assert "batchrun: nothing to send" not in again.err
    assert "batchrun: resuming: 10 of 12 done\n" in again.err
    assert len(records(Path("r.jsonl"))) == 12


def test_a_pilot_on_a_terminal_asks(batchrun: Command, many: Path, tmp_path: Path) -> None:
    kept = "the pilot is done and its results are kept; run the same command again to send the rest"
    for answer, code, count in (("n\n", 3, 10), ("y\n", 0, 12)):
        with Terminal(*PILOT, cwd=tmp_path, columns=200) as terminal:
            terminal.read_until("send the rest? [y/N]: ")
            terminal.type(answer)
            assert terminal.exit_code() == code
            assert (f"batchrun: {kept}" in terminal.screen) is (code == 3)
        assert len(records(Path("r.jsonl"))) == count
