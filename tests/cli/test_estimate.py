"""`batchrun estimate`, and the pilot of a run, which shows the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from batchrun.records.attempt import AnsweredControl
from batchrun.records.usage import Usage
from batchrun.results.events import Control, encode_events
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


def test_what_was_spent_on_lines_without_a_record_is_in_the_estimate(batchrun: Command, requests: Path) -> None:
    """Answers to a line that was to be asked again when the run was killed, and control requests."""
    Path("prices.json").write_text('{"gpt-4.1*": {"input": 1, "output": 1000}}')
    batchrun("run", requests, "-o", "r.jsonl", *FAST, "-n", "2")
    usage = Usage(1_000_000, 0, 0, 0, 1_000_000)
    answered = AnsweredControl("gpt-4.1", "2026-01-02T03:04:05.678Z", 1.0, "gpt-4.1", usage)
    control = Control(line=1, path="/v1/responses", answered=answered)
    first, second = Path("r.jsonl").read_bytes().splitlines(keepends=True)
    Path("r.jsonl").write_bytes(first)
    Path("r.jsonl.tries").write_bytes(second)
    with Path("r.jsonl.log").open("a") as log:
        log.write(encode_events([control]).decode())
    asked = ("-o", "r.jsonl", "--prices", "prices.json", "--json")
    spent = json.loads(batchrun("estimate", requests, *asked).out)["spent_usd"]
    report = json.loads(batchrun("report", "r.jsonl", "--prices", "prices.json", "--json").out)
    assert (report["controls"]["requests"], report["tries"]["open_answers"]) == (1, 1)
    assert spent == report["cost"]["total_usd"] > 0


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
