"""`batchrun report`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import FAST, Command, Done


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
