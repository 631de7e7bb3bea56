"""`batchrun simulator`."""

from __future__ import annotations

import re
import socket
import subprocess

import pytest

from tests.cli.commands import BATCHRUN, Command, Done


def test_the_gateway_says_where_it_listens_and_a_taken_port_is_a_usage_error(batchrun: Command) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = batchrun("simulator", "--port", str(port))
    why = "Address already in use; choose another --port (0 takes a free one)"
    assert done == Done(2, "", f"batchrun: cannot listen on port {port}: {why}\n")


def test_the_gateway_serves_until_it_is_interrupted() -> None:
    command = [*BATCHRUN, "simulator", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert re.fullmatch(r"listening: http://127\.0\.0\.1:\d+/v1\n", process.stdout.readline())
        process.terminate()
        assert process.wait(timeout=20) == 0
        assert process.stderr.read() == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--script", "429 oops"], "fault script: unknown word 'oops'"),
        (["--api-key-env", "ABSENT_KEY"], "--api-key-env ABSENT_KEY: there is no such variable"),
        (["--latency", "2", "--latency-p99", "1"], "latencies are not negative, and the p99 is not below the median"),
    ],
)
def test_a_gateway_that_cannot_be_is_refused(batchrun: Command, words: list[str], message: str) -> None:
    assert batchrun("simulator", *words) == Done(2, "", f"batchrun: {message}\n")
