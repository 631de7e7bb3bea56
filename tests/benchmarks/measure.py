"""Running a command and measuring it; requests and results to run it on."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.machine import pin


@dataclass(frozen=True)
class Cost:
    """What one process cost: processor seconds (user and system), wall seconds, peak resident bytes; what it said."""

    cpu_s: float
    wall_s: float
    peak_bytes: int
    output: bytes = b""


def cost_of(*command: str, core: int | None = 0, base_url: str = "") -> Cost:
    """Run a command to its end, by itself on a core. Raises `RuntimeError` with its output where it fails."""
    environment = os.environ | {"OPENAI_API_KEY": "sk-benchmark-0123456789", "OPENAI_BASE_URL": base_url}
    start = time.perf_counter()
    process = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        preexec_fn=None if core is None else lambda: pin(core),
    )
    assert process.stdout is not None
    with process.stdout as pipe:
        output = pipe.read()
    _, status, usage = os.wait4(process.pid, 0)
    wall_s = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}:\n{output.decode()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, wall_s, usage.ru_maxrss * 1024, output)


def batchrun(*arguments: str, base_url: str = "") -> Cost:
    """The cost of one `batchrun` command."""
    return cost_of(sys.executable, "-m", "batchrun.cli", *arguments, base_url=base_url)


def median_of(times: int, measure: object) -> float:
    """The median of several measurements."""
    assert callable(measure)
    return median(measure() for _ in range(times))


class Server:
    """The benchmark's gateway, running. `drawn_s` is the sum of the latencies it drew, once it has ended."""

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.server", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.base_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.drawn_s = 0.0

    def stop(self) -> None:
        output, _ = self._process.communicate()
        self.drawn_s = float(output or 0)


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(*options)
    try:
        yield server
    finally:
        server.stop()


def write_requests(path: Path, lines: int, line_bytes: int = 600) -> Path:
    """A file of Batch lines of about `line_bytes` each."""
    start, end = '{"custom_id":"r-', '","method":"POST","url":"/v1/responses","body":{"model":"gpt-4.1","input":"'
    filling = "lorem ipsum " * (max(0, line_bytes - len(start) - len(end) - 20) // 12)
    with path.open("w") as file:
        file.writelines(f'{start}{number}{end}{filling}{number}"}}}}\n' for number in range(lines))
    return path


def remove_results(results: Path) -> None:
    """Take away a result file and what stands beside it."""
    for path in results.parent.glob(results.name + "*"):
        path.unlink()
