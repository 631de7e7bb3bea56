"""Instructions a request, counted by valgrind: they do not depend on how busy the machine is, as processor time does.

    python -m tests.benchmarks instructions

A run of many lines less one of few, divided by the difference: so start and end do not count. The kernel's part is not
seen. What is done by the clock and not by the request (the screen, the sync of the files, four times a second) counts
nothing for a request, but the program runs 50 times more slowly here and the clock does not: so `main` makes sleeps
50 times longer, too.
"""

from __future__ import annotations

import asyncio
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from tests.benchmarks.measure import ENVIRONMENT, remove_results, serving, write_requests
from tests.benchmarks.workloads import Row, Scale

SLOWER = 50
IN_FLIGHT = 32
GOAL = 1.9  # × the bare loop: the rest of a request's time is the kernel's, which is the same for both


def instructions(folder: Path, scale: Scale) -> list[Row]:
    """Instructions a request, one model, beside those of the bare loop."""
    if shutil.which("valgrind") is None:
        print("instructions: skipped, there is no valgrind here to count them")
        return []
    few = IN_FLIGHT * max(1, int(32 * scale.share))
    results = folder / "results.jsonl"
    ours, bare = [], []
    with serving("--together", str(IN_FLIGHT)) as server:
        for lines in (IN_FLIGHT, few, 3 * few):  # the first run writes the bytecode of all modules, and does not count
            requests = str(write_requests(folder / "requests.jsonl", lines))
            remove_results(results)
            run = ("batchrun", "run", requests, "-o", str(results), "-c", str(IN_FLIGHT), "-q")
            ours.append(count(server.base_url, *run))
            loop = ("tests.benchmarks.bare_loop", server.base_url, requests, str(folder / "bare.out"), str(IN_FLIGHT))
            bare.append(count(server.base_url, *loop))
    mine, theirs = ((many - less) / (2 * few) for _, less, many in (ours, bare))
    what = f"instructions a request, one model, {IN_FLIGHT} in flight ({mine:,.0f}; a bare loop: {theirs:,.0f})"
    return [Row("instructions", what, mine / theirs, "× bare loop", GOAL, reference=theirs)]


def count(base_url: str, *module: str) -> int:
    """The instructions of a Python module that runs as a program."""
    command = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", __name__)
    environment = ENVIRONMENT | {"OPENAI_BASE_URL": base_url, "PYTHONHASHSEED": "0"}
    done = subprocess.run([*command, *module], env=environment, capture_output=True, text=True, timeout=600)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or found is None:
        raise RuntimeError(f"{' '.join(module)} failed:\n{done.stderr[-2000:]}")
    return int(found[1])


def main() -> None:
    sleep = asyncio.sleep
    sys.argv = sys.argv[1:]
    with patch("asyncio.sleep", lambda seconds: sleep(SLOWER * seconds)):
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
