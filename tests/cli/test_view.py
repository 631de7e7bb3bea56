"""`batchrun view`, as a process."""

from __future__ import annotations

import signal
import subprocess
import sys
import urllib.request
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from tests.html.made import make_job


@pytest.mark.smoke
def test_view_serves_the_rows_until_it_is_interrupted(tmp_path: Path) -> None:
    results = make_job(tmp_path, 20)
    command = [sys.executable, "-m", "batchrun", "view", str(results), "--no-open"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.removeprefix("page: ").strip()
        assert address.startswith("http://127.0.0.1:"), line
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        with opener.open(address, timeout=20) as page:
            assert page.url.endswith("/rows"), "the token is not in the address any more"
            assert b"results.jsonl" in page.read()
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=20)
    assert process.returncode == 0
    token = address.partition("token=")[2]
    assert token not in told
    assert all(token.encode() not in path.read_bytes() for path in tmp_path.iterdir()), "it is in no file"


def test_view_says_what_it_cannot_show(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "batchrun", "view", str(tmp_path / "nothing.jsonl"), "--no-open"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "nothing.jsonl" in done.stderr
