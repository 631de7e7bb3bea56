"""`batchrun join`, after `prepare` and `run`."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.cli.commands import FAST, Command

TOPICS = {"billing", "delivery", "other"}


@pytest.mark.smoke
def test_from_a_table_to_its_labels(batchrun: Command) -> None:
    rows = [{"id": f"{number:03}", "text": f"message {number}"} for number in range(20)]
    Path("data.csv").write_text("id,text\n" + "".join(f"{row['id']},{row['text']}\n" for row in rows))
    schema = "topic enum(billing|delivery|other), urgent bool"
    made = ("prepare", "data.csv", "-p", "About: {{ text }}", "-s", schema, "--model", "gpt-4.1")
    assert batchrun(*made, "-o", "requests.jsonl").code == 0
    assert batchrun("run", "requests.jsonl", "-o", "results.jsonl", *FAST, "-n", "15").code == 0
    done = batchrun("join", "data.csv", "results.jsonl", "-o", "labelled.csv")
    assert (done.code, done.out, done.err) == (1, "15 ok, 5 missing: labelled.csv\n", "")
    assert batchrun("run", "requests.jsonl", "-o", "results.jsonl", *FAST).code == 0
    done = batchrun("join", "data.csv", "results.jsonl", "-o", "labelled.csv")
    assert (done.code, done.out, done.err) == (0, "20 ok: labelled.csv\n", "")
    with Path("labelled.csv").open(newline="") as lines:
        labelled = list(csv.DictReader(lines))
    assert [{"id": row["id"], "text": row["text"]} for row in labelled] == rows
    assert all(row["topic"] in TOPICS and row["urgent"] in ("true", "false") for row in labelled)


def test_the_costs_of_the_rows_add_up_to_the_bill(batchrun: Command, requests: Path) -> None:
    Path("prices.json").write_text(json.dumps({"gpt-4.1": {"input": 1.1, "cached": 0.37, "output": 7.3}}))
    assert batchrun("run", requests, "-o", "r.jsonl", *FAST, "-n", "2").code == 0
    batchrun("export", "r.jsonl", "-o", "out.csv", "--with", "cost", "--prices", "prices.json")
    with Path("out.csv").open(newline="") as lines:
        costs = [row["_cost_usd"] for row in csv.DictReader(lines)]
    report = json.loads(batchrun("report", "r.jsonl", "--prices", "prices.json", "--json").out, parse_float=Decimal)
    assert sorted(map(bool, costs)) == [False, True, True]
    assert sum(map(Decimal, filter(None, costs))) == report["cost"]["total_usd"] > 0


def test_answers_to_requests_that_were_changed_since_are_told(batchrun: Command) -> None:
    """Whatever the options of the run were; and only where requests and answers are known to differ."""
    Path("data.csv").write_text("text\na\nb\nc\n")
    made = ("prepare", "data.csv", "-o", "requests.jsonl", "-p")
    options = ("--model", "gpt-4.1", "--set", "temperature=0", "--no-stream")
    batchrun(*made, "About: {{ text }}")
    batchrun("run", "requests.jsonl", "-o", "r.jsonl", *FAST, *options)
    joining = ("join", "data.csv", "r.jsonl", "-o", "out.csv")
    exporting = ("export", "r.jsonl", "-o", "table.csv")
    assert [batchrun(*joining).err, batchrun(*exporting).err] == ["", ""]
    batchrun(*made, "On: {{ text }}")
    told = "batchrun: 3 answers are to requests that were changed since; run the requests again to replace them"
    assert [batchrun(*words).err for words in (joining, exporting)] == [f"{told} (--changed resend)\n"] * 2
    batchrun("run", "requests.jsonl", "-o", "r.jsonl", *FAST, *options, "--changed", "resend")
    assert [batchrun(*joining).err, batchrun(*exporting).err] == ["", ""]
    Path("data.csv").write_text("text\nc\nb\na\n")
    assert "answers are to requests" not in batchrun(*joining).err


def test_answers_in_the_rescue_file_are_named(batchrun: Command) -> None:
    Path("data.csv").write_text("text\na\n")
    batchrun("prepare", "data.csv", "-p", "{{ text }}", "--model", "gpt-4.1", "-o", "requests.jsonl")
    batchrun("run", "requests.jsonl", "-o", "results.jsonl", *FAST)
    Path("results.jsonl.rescue").write_bytes(Path("results.jsonl").read_bytes())
    done = batchrun("join", "data.csv", "results.jsonl", "-o", "out.csv")
    assert (done.code, done.err) == (
        *(0, "batchrun: the answers in results.jsonl.rescue are not counted; the next run adds them\n"),
    )
