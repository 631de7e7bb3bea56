"""`batchrun verify`."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.commands import FAST, Command, write_requests


def test_the_exit_code_says_whether_a_result_file_is_complete(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    done = batchrun("verify", requests, "r.jsonl")
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith("\ncomplete\n")
    write_requests(requests, 4)
    done = batchrun("verify", requests, "r.jsonl", "--json")
    found = json.loads(done.out)
    assert (done.code, found["missing"], found["is_complete"]) == (1, 1, False)


def test_what_the_run_changed_has_to_be_said_again(batchrun: Command, requests: Path) -> None:
    changes = ("--model", "gpt-4.1-mini", "--set", "temperature=0", "--stream")
    batchrun("run", requests, "-o", "r.jsonl", *FAST, *changes)
    assert batchrun("verify", requests, "r.jsonl", *changes).code == 0
    assert batchrun("verify", requests, "r.jsonl").code == 1


def test_answers_in_the_rescue_file_are_named(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    lines = Path("r.jsonl").read_bytes().splitlines(keepends=True)
    Path("r.jsonl").write_bytes(b"".join(lines[:2]))
    Path("r.jsonl.rescue").write_bytes(lines[2])
    told = "batchrun: the answers in r.jsonl.rescue are not counted; the next run adds them\n"
    assert batchrun("verify", requests, "r.jsonl").err == told
    assert batchrun("report", "r.jsonl").err == told
