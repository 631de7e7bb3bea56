"""What a gateway or a file says reaches no screen, log or report as anything but plain text, whatever the encoding."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from batchrun.job.tune import render
from batchrun.records.result import ErrorInfo, ResultHead, encode_result
from batchrun.results.events import Tuned
from tests.end_to_end.test_secrets import HostileThread
from tests.hostile import RESPONSE, http
from tests.support import KEY, RunProcess, run_info, write_prices, write_requests

pytestmark = pytest.mark.slow

LIE = "batchrun: all lines succeeded"
ATTACK = f"\x1b]0;owned\x07\x1b[2J\x1b[31m\x9b1mred\x07\u202egnp.exe\u2066\x85\u2028\n{LIE}\r\x00"
PAGE = f"<html><title>{ATTACK}</title></html>".encode()


def error(**fields: str) -> bytes:
    return json.dumps({"error": fields}, ensure_ascii=False).encode()


ANSWERS = [
    http(error(message=ATTACK, code="invalid_prompt"), 400),
    http(error(message="no", code=ATTACK, type=ATTACK), 400),
    http(PAGE, 502, "text/html"),
    http(json.dumps({**RESPONSE, "model": ATTACK, "service_tier": ATTACK}, ensure_ascii=False).encode()),
    http(json.dumps({**RESPONSE, "status": ATTACK}, ensure_ascii=False).encode()),
    http(b"", 307, Location="https://elsewhere.example/\x1b[31m\x07"),
    http(error(message="slow down", code=ATTACK), 429, retry_after="0"),
    http(b"{" + ATTACK.encode()),
]


def acts(text: str) -> set[str]:
    """The characters of a text that do more than stand there."""
    return {char for char in text if char != "\n" and unicodedata.category(char) in ("Cc", "Zl", "Zp")} | {
        char for char in text if unicodedata.bidirectional(char) in ("RLO", "LRI")
    }


def assert_plain(shown: str) -> None:
    assert acts(shown) == set()
    assert f"\n{LIE}" not in f"\n{shown}"
    assert "Traceback" not in shown


def batchrun(folder: Path, *words: str) -> str:
    """All that a command prints."""
    command = [sys.executable, "-m", "batchrun", *words]
    done = subprocess.run(command, capture_output=True, cwd=folder, check=False)
    return done.stdout.decode() + done.stderr.decode()


def test_what_a_gateway_says_acts_on_no_screen_and_forges_no_line(tmp_path: Path) -> None:
    good = [answer for said in ANSWERS for answer in (said, http())]
    requests, results = write_requests(tmp_path / "requests.jsonl", 2 * len(ANSWERS)), tmp_path / "results.jsonl"
    options = ("-v", "-c", "1", "--max-attempts", "1", "--prices", str(write_prices(tmp_path)))
    with HostileThread(*good) as server, RunProcess(server.base_url, requests, results, *options) as run:
        assert run.wait(60) in (0, 1), run.screen
        screen = run.screen
    reports = [
        batchrun(tmp_path, "report", str(results)),
        batchrun(tmp_path, "report", str(results), "--json"),
        batchrun(tmp_path, "verify", str(requests), str(results)),
        batchrun(tmp_path, "verify", str(requests), str(results), "--json"),
    ]
    for shown in (screen, *reports):
        assert_plain(shown)
    assert "invalid_prompt: redgnp.exe batchrun: all lines succeeded" in screen
    for path in tmp_path.glob("results.jsonl.*"):
        assert acts(path.read_text()) == set(), path.name


def test_what_a_file_says_acts_on_no_screen_and_forges_no_line(tmp_path: Path) -> None:
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    body = {"model": ATTACK, "input": "", "max_output_tokens": 9}
    requests.write_text(json.dumps({"custom_id": ATTACK, "body": body}) + "\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(json.dumps({"custom_id": ATTACK, "url": ATTACK, "method": ATTACK, "body": body}) + "\n")
    run = run_info(model=ATTACK, requested_model=ATTACK, outcome="failed")
    results.write_bytes(encode_result(ResultHead(ATTACK, run, ErrorInfo(ATTACK, ATTACK)), 500, ATTACK, b'""'))
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps({ATTACK: {ATTACK: 1}}))
    log = Tuned(id="1", refused=ATTACK, concurrency=ATTACK, limited_by=ATTACK)
    for shown in (
        batchrun(tmp_path, "validate", "requests.jsonl"),
        batchrun(tmp_path, "validate", "bad.jsonl"),
        batchrun(tmp_path, "estimate", "requests.jsonl"),
        batchrun(tmp_path, "report", "results.jsonl"),
        batchrun(tmp_path, "report", "results.jsonl", "--json"),
        batchrun(tmp_path, "report", "results.jsonl", "--prices", "prices.json"),
        batchrun(tmp_path, "verify", "requests.jsonl", "results.jsonl"),
        batchrun(tmp_path, "run", "requests.jsonl", "-o", "results.jsonl", "--simulate"),
        batchrun(tmp_path, "run", "requests.jsonl", "-o", "new.jsonl", "--simulate", "--max-cost", "1"),
        render(log),
    ):
        assert shown
        assert_plain(shown)


FOREIGN = "模型\u2192ж\ud83d"  # half a character, as a broken file name holds it


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_no_verb_ends_in_a_traceback_where_the_output_cannot_encode_a_name(tmp_path: Path, encoding: str) -> None:
    requests = tmp_path / "requests.jsonl"
    bodies = [{"custom_id": FOREIGN[:-1] + str(n), "body": {"model": FOREIGN[:-1], "input": "…"}} for n in range(3)]
    requests.write_text("".join(json.dumps(line) + "\n" for line in bodies))
    bad = tmp_path / f"{FOREIGN[:-1]}.jsonl"
    bad.write_text('{"custom_id": "模型", "body": {"model": 1}}\n')
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "OPENAI_API_KEY": KEY}
    verbs: list[tuple[int, list[str]]] = [
        (0, ["validate", "requests.jsonl"]),
        (2, ["validate", bad.name]),
        (0, ["estimate", "requests.jsonl"]),
        (0, ["run", "requests.jsonl", "-o", "results.jsonl", "--simulate", "--simulate-latency", "0"]),
        (0, ["run", "requests.jsonl", "-o", "results.jsonl", "--simulate", "-v"]),
        (0, ["report", "results.jsonl"]),
        (0, ["report", "results.jsonl", "--json"]),
        (0, ["verify", "requests.jsonl", "results.jsonl"]),
        (1, ["verify", "requests.jsonl", "results.jsonl", "--model", FOREIGN, "--set", 'user="x"']),
        (2, ["tune", FOREIGN[:-1]]),
        (2, ["report", f"{FOREIGN[:-1]}-not-there"]),
        (2, ["simulator", "--script", FOREIGN[:-1]]),
        (0, ["docs", "limits"]),
        (0, ["--help"]),
        (0, ["run", "--help"]),
    ]
    for code, words in verbs:
        encoded = [word.encode("utf-8", "surrogateescape" if word != FOREIGN else "surrogatepass") for word in words]
        command = [sys.executable.encode(), b"-m", b"batchrun", *encoded]
        done = subprocess.run(command, capture_output=True, env=environment, cwd=tmp_path, check=False)
        assert b"Traceback" not in done.stderr, (words, done.stderr.decode(errors="replace"))
        assert done.returncode == code, (words, done.stderr.decode(errors="replace"))
