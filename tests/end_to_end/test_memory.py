"""`--max-in-flight-bytes`: large requests and answers are sent, and few of them are in memory at a time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.end_to_end.test_secrets import HostileThread
from tests.hostile import RESPONSE, Asked, http
from tests.support import KEY, ids, read_records, write_prices

pytestmark = pytest.mark.slow

MIB = 1 << 20
SCRIPT = """
import resource, subprocess, sys
done = subprocess.run(sys.argv[1:], stderr=subprocess.DEVNULL)
print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024)
"""


def peak_mib(folder: Path, base_url: str, *options: str) -> int:
    """The peak memory of a whole run that must end well, in MiB."""
    words = ["run", "q.jsonl", "-o", "r.jsonl", "--base-url", base_url, "--prices", str(write_prices(folder)), *options]
    command = [sys.executable, "-c", SCRIPT, sys.executable, "-m", "batchrun", *words]
    environment = {**os.environ, "OPENAI_API_KEY": KEY}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, check=True)
    code, mib = map(int, done.stdout.split())
    assert code == 0
    return mib


def write_large(path: Path, lines: int, size: int) -> None:
    with path.open("w") as file:
        for number in range(1, lines + 1):
            body = {"model": "gpt-4.1", "input": "x" * size, "max_output_tokens": 9}
            file.write(json.dumps({"custom_id": f"r-{number}", "body": body}) + "\n")


async def slow(writer: asyncio.StreamWriter, asked: Asked) -> None:
    """An answer after so long that all requests that may be in flight are."""
    await asyncio.sleep(2)
    writer.write(http())


@pytest.mark.parametrize(
    ("lines", "megabytes", "most_at_once", "most_mib"),
    [(40, 20, 27, 1100), (24, 60, 9, 1300)],  # without a bound the second took 65 MB a line
)
def test_large_requests_take_little_memory(
    tmp_path: Path, lines: int, megabytes: int, most_at_once: int, most_mib: int
) -> None:
    """512 MiB are in memory at a time, and what is made of one line for a moment."""
    write_large(tmp_path / "q.jsonl", lines, megabytes * 1_000_000)
    with HostileThread(slow) as server:
        peak = peak_mib(tmp_path, server.base_url, "-c", str(lines))
        assert 5 <= server.peak_in_flight <= most_at_once
    (tmp_path / "q.jsonl").unlink()
    assert peak < most_mib
    assert len(ids(tmp_path / "r.jsonl")) == lines


@pytest.mark.parametrize("what", ["requests", "answers"])
def test_a_small_limit_lets_one_line_after_the_other_through(tmp_path: Path, what: str) -> None:
    """Each of them is larger than the limit."""
    size = 3 * MIB if what == "requests" else 10
    write_large(tmp_path / "q.jsonl", 12, size)
    answer = json.dumps({**RESPONSE, "padding": "x" * (10 if what == "requests" else 3 * MIB)}).encode()
    with HostileThread(http(answer)) as server:
        peak_mib(tmp_path, server.base_url, "-c", "12", "--max-in-flight-bytes", "100000")
        if what == "requests":
            assert server.peak_in_flight == 1
    assert len(read_records(tmp_path / "r.jsonl")) == 12
