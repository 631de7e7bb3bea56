"""`batchrun report`."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.commands import FAST, Command, Done


@pytest.mark.smoke
def test_report_makes_the_same_bill_from_the_file_alone(batchrun: Command, requests: Path) -> None:
    printed = batchrun("run", requests, "-o", "r.jsonl", *FAST).err
    written = Path("r.jsonl.report.json").read_text()
    assert batchrun("report", "r.jsonl") == Done(0, printed, "")
    assert batchrun("report", "r.jsonl", "--json") == Done(0, written, "")


def test_report_takes_the_users_prices(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    Path("prices.json").write_text('{"gpt-4.1*": {"input": 1000000, "output": 0}}')
    made = json.loads(batchrun("report", "r.jsonl", "--prices", "prices.json", "--json").out)
    assert made["cost"]["total_usd"] == made["usage"]["input_tokens"]
    assert made["cost"]["price_source"] == "prices.json"


def test_report_counts_damaged_lines_beside_the_bill(batchrun: Command, requests: Path) -> None:
    printed = batchrun("run", requests, "-o", "r.jsonl", *FAST).err
    with Path("r.jsonl").open("ab") as results:
        results.write(b'\0\0\0\n{"id":"batch_req_')
    expected = "batchrun: skipped 2 damaged lines in r.jsonl\n"
    assert batchrun("report", "r.jsonl") == Done(0, printed, expected)


@pytest.mark.parametrize("name", ["r.jsonl", "-o my answers.jsonl", "it's.jsonl"])
@pytest.mark.parametrize("script", ["", "400; ok; ok"])
def test_the_command_that_shows_an_answer_works_as_printed(
    batchrun: Command, requests: Path, name: str, script: str
) -> None:
    done = batchrun("run", requests, f"--output={name}", *FAST, "-c", "1", "--simulate-script", script)
    line = next(line for line in done.err.splitlines() if line.startswith("answers: "))
    where, command = line.removeprefix("answers: ").split("; look at one: ")
    assert where == name
    shown = subprocess.run(command, shell=True, capture_output=True, encoding="utf-8", check=True)
    record = json.loads(shown.stdout)
    assert (record["error"], record["response"]["status_code"]) == (None, 200)
    assert len(shown.stdout.splitlines()) > 10, "for people to read"
    assert line in batchrun("report", "--", name).out.splitlines()


def test_without_an_answer_there_is_nothing_to_look_at(batchrun: Command, requests: Path) -> None:
    assert "answers:" not in batchrun("run", requests, "-o", "r.jsonl", *FAST, "--simulate-script", "400").err
    assert "answers:" not in batchrun("run", requests, "-o", "-", *FAST).err
