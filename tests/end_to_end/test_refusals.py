"""What a slip of the hand must not cost: files overwritten, money spent unasked, keys shown, endless waits."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from batchrun import Endpoint, GatewayOptions, Job, UsageError, run

KEY = "sk-canary-0123456789abcdef"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    lines = (orjson.dumps({"model": "gpt-4.1", "input": f"question {number}"}) for number in range(3))
    (tmp_path / "q.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return tmp_path


def batchrun(*words: str, shell: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own; `shell` is a redirection behind it."""
    command = [sys.executable, "-m", "batchrun", *words]
    if shell:
        command = ["sh", "-c", f'exec "$@" {shell}', "sh", *command]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env=os.environ | {"OPENAI_BASE_URL": ""} | environment
    )


SIMULATED = ("--simulate", "--simulate-latency", "0")


@pytest.mark.parametrize("target", ["q.jsonl", "r.jsonl", "r.jsonl.log", "precious.txt", ".", "/dev/null"])
def test_a_report_goes_over_nothing_but_a_report(folder: Path, target: str) -> None:
    assert batchrun("run", "q.jsonl", "-o", "r.jsonl", *SIMULATED).returncode == 0
    (folder / "precious.txt").write_text("my thesis")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    done = batchrun("run", "q.jsonl", "-o", "r.jsonl", "--report", target, *SIMULATED)
    assert done.returncode == 2
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert not Path("/dev/null").is_file()


@pytest.mark.smoke
def test_a_report_goes_over_the_last_report(folder: Path) -> None:
    for _ in range(2):
        assert batchrun("run", "q.jsonl", "-o", "r.jsonl", "--report", "my.json", *SIMULATED).returncode == 0
    assert orjson.loads((folder / "my.json").read_bytes())["lines"]["succeeded"] == 3


@pytest.mark.parametrize("words", [("--simulate-script", "ok"), ("--simulate-latency", "0")])
def test_what_belongs_to_the_simulation_sends_nothing_for_real(words: tuple[str, ...]) -> None:
    done = batchrun("run", "q.jsonl", "-o", "r.jsonl", *words, OPENAI_BASE_URL="http://127.0.0.1:9", OPENAI_API_KEY=KEY)
    assert done.returncode == 2
    assert "needs --simulate" in done.stderr


@pytest.mark.parametrize("option", ["--attempt-timeout", "--rpm", "--grace", "--max-outage", "--idle-timeout"])
@pytest.mark.parametrize("number", ["nan", "inf"])
@pytest.mark.smoke
def test_a_number_must_be_one(option: str, number: str) -> None:
    done = batchrun("run", "q.jsonl", "-o", "r.jsonl", option, number, *SIMULATED)
    assert done.returncode == 2
    assert number in done.stderr


def test_a_key_in_the_place_of_a_name_is_not_shown() -> None:
    done = batchrun("run", "q.jsonl", "-o", "r.jsonl", "--base-url", "https://gateway.example", "--api-key-env", KEY)
    assert done.returncode == 2
    assert KEY not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "shell", "code"),
    [
        (("run", "q.jsonl", "-o", "-", *SIMULATED), ">&-", 2),
        (("run", "-", "-o", "r.jsonl", *SIMULATED), "<&-", 2),
        (("run", "q.jsonl", "-o", "r.jsonl", *SIMULATED), "2>&-", 0),
        (("validate", "q.jsonl"), ">/dev/full", 3),
    ],
)
def test_streams_that_are_closed_or_full_are_no_crash(words: tuple[str, ...], shell: str, code: int) -> None:
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    done = batchrun(*words, shell=shell)
    assert (done.returncode, "Traceback" in done.stderr) == (code, False)


def test_a_long_pause_is_told() -> None:
    words = ("--simulate-script", "429@4 ok; ok; ok!")
    done = batchrun("run", "q.jsonl", "-o", "r.jsonl", *SIMULATED, *words)
    assert done.returncode == 0
    assert "pausing for 4 s: HTTP 429 rate_limit_exceeded" in done.stderr
    assert done.stderr.count("pausing") == 1


def test_paths_may_be_words_and_an_address_must_be_one(folder: Path) -> None:
    job = Job("q.jsonl", "r.jsonl", Endpoint("http://127.0.0.1"), simulate=GatewayOptions())
    assert run(job).report.lines.succeeded == 3
    with pytest.raises(UsageError, match="base URL"):
        run(Job("q.jsonl", folder / "other.jsonl", Endpoint("nonsense")))
    assert not (folder / "other.jsonl").exists()


@pytest.mark.parametrize("lines", [3, 60])
def test_more_connections_than_files_may_be_open_are_fewer_connections(lines: int) -> None:
    """`-c 500` where 150 files may be open: it says so, where it matters, and goes on with what there is."""
    Path("q.jsonl").write_text("".join(f'{{"model":"gpt-4.1","input":"{line}"}}\n' for line in range(lines)))
    command = [sys.executable, "-m", "batchrun", "run", "q.jsonl", "-o", "r.jsonl", "-c", "500", *SIMULATED]
    limited = ["sh", "-c", 'ulimit -n 150 && exec "$@"', "sh", *command]
    done = subprocess.run(limited, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0
    assert ("only 43 in flight: this process may open no more files (ulimit -n)" in done.stderr) is (lines > 43)
