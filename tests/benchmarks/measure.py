"""Running a command and measuring it; requests and results to run it on."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

# A process starts with the peak memory of the one that it was forked from: so a small one stands in between.
_LAUNCHER = """
import json, os, sys, time
report, core, *command = sys.argv[1:]
if core and hasattr(os, "sched_setaffinity") and int(core) < (os.cpu_count() or 1):
    os.sched_setaffinity(0, {int(core)})
started_at = time.time()
start = time.perf_counter()
child = os.posix_spawnp(command[0], command, os.environ)
_, status, usage = os.wait4(child, 0)
wall_s = time.perf_counter() - start
cpu_s = usage.ru_utime + usage.ru_stime
os.write(int(report), json.dumps([cpu_s, wall_s, usage.ru_maxrss * 1024, started_at]).encode())
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""

ENVIRONMENT = os.environ | {"OPENAI_API_KEY": "sk-benchmark-0123456789"}
ENVIRONMENT.pop("PYTHONDONTWRITEBYTECODE", None)  # a program that is installed has its bytecode


@dataclass(frozen=True)
class Cost:
    """What one process cost: processor seconds (user and system), wall seconds, peak resident bytes.

    `started_at` is in seconds since 1970, `output` what it said.
    """

    cpu_s: float
    wall_s: float
    peak_bytes: int
    started_at: float
    output: bytes = b""


def cost_of(*command: str, core: int | None = 0, base_url: str = "") -> Cost:
    """Run a command to its end, by itself on a core; on all of them for None.

    Raises `RuntimeError` with its output where it fails.
    """
    environment = ENVIRONMENT | {"OPENAI_BASE_URL": base_url}
    ours, theirs = os.pipe()
    with os.fdopen(ours, "rb") as figures:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(theirs), "" if core is None else str(core), *command],
            env=environment,
            pass_fds=[theirs],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        os.close(theirs)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout.decode()[-2000:]}")
        cpu_s, wall_s, peak_bytes, started_at = json.load(figures)
        return Cost(cpu_s, wall_s, peak_bytes, started_at, done.stdout)


def batchrun(*arguments: str, core: int | None = 0, base_url: str = "") -> Cost:
    """The cost of one `batchrun` command, by itself on a core; on all of them for None."""
    return cost_of(sys.executable, "-m", "batchrun", *arguments, core=core, base_url=base_url)


class Server:
    """The benchmark's gateway, running. Once it has ended, `drawn_s` is the sum of the latencies it drew.

    And `first_at` is when the first request came, in seconds since 1970.
    """

    def __init__(self, *options: str) -> None:
        command = [sys.executable, "-m", "tests.benchmarks.server", *options]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        self.base_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"
        self.drawn_s = self.first_at = 0.0

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def stop(self) -> None:
        output, _ = self._process.communicate()
        self.drawn_s, self.first_at = map(float, output.split() or (0, 0))


@contextlib.contextmanager
def serving(*options: str) -> Iterator[Server]:
    """A server for the time of a block."""
    server = Server(*options)
    try:
        yield server
    finally:
        server.stop()


def write_requests(path: Path, lines: int, line_bytes: int = 600, models: int = 1) -> Path:
    """A file of Batch lines of about `line_bytes` each, which ask for so many models in turn."""
    start, middle = '{"custom_id":"r-', '","method":"POST","url":"/v1/responses","body":{"model":"'
    names = ["gpt-4.1", *(f"gpt-4.1-{number}" for number in range(1, models))]
    filling = "lorem ipsum " * (max(0, line_bytes - len(start) - len(middle) - 39) // 12)
    with path.open("w") as file:
        file.writelines(
            f'{start}{number}{middle}{names[number % models]}","input":"{filling}{number}"}}}}\n'
            for number in range(lines)
        )
    return path


def remove_results(results: Path) -> None:
    """Take away a result file and what stands beside it."""
    results.unlink(missing_ok=True)
    remove_beside(results)


def remove_beside(results: Path) -> None:
    """Take away what stands beside a result file."""
    for path in results.parent.glob(results.name + ".*"):
        path.unlink()
