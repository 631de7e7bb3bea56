"""Instructions a request, counted by valgrind: they do not depend on how busy the machine is, as processor time does.

    python -m tests.benchmarks instructions

One model; then several models; then several models at several endpoints, where a line has to be given to one of them.
A run of many lines less one of few, divided by the difference: so start and end do not count. The kernel's part is not
seen. What is done by the clock and not by the request (the screen, the sync of the files, four times a second) counts
nothing for a request, but the program runs 50 times more slowly here and the clock does not: so `main` makes sleeps
50 times longer, too.
"""

from __future__ import annotations

import asyncio
import compileall
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import batchrun
from tests.benchmarks.measure import ENVIRONMENT, remove_results, serving, write_requests
from tests.benchmarks.workloads import Row, Scale

SLOWER = 50
IN_FLIGHT = 32
GOAL = 1.9  # × the bare loop: the rest of a request's time is the kernel's, which is the same for both
MODELS, ENDPOINTS = 8, 3
# × one model without an endpoints file.
OF_MODELS, OF_ENDPOINTS = 1.02, 1.1


def instructions(folder: Path, scale: Scale) -> list[Row]:
    """Instructions a request, one model, beside those of the bare loop; and those of several models and endpoints."""
    if shutil.which("valgrind") is None:
        print("instructions: skipped, there is no valgrind here to count them")
        return []
    with serving("--together", str(IN_FLIGHT)) as server:

        def loop(requests: Path) -> list[str]:
            return ["tests.benchmarks.bare_loop", server.base_url, str(requests), str(folder / "bare"), str(IN_FLIGHT)]

        def run(requests: Path) -> list[str]:
            results = folder / "results.jsonl"
            remove_results(results)
            return ["batchrun", "run", str(requests), "-o", str(results), "-c", str(IN_FLIGHT), "-q"]

        def run_several(requests: Path) -> list[str]:
            return [*run(requests), "--endpoints", str(_endpoints(folder, server.base_url))]

        for module in (batchrun.__file__, __file__):
            compileall.compile_dir(Path(module).parent, quiet=1)  # or the first run would count that, too
        bare = _a_request(folder, scale, loop)
        one = _a_request(folder, scale, run, server.base_url)
        models = _a_request(folder, scale, run, server.base_url, MODELS)
        several = _a_request(folder, scale, run_several, models=MODELS)
    what = f"instructions a request, one model, {IN_FLIGHT} in flight ({one:,.0f}; a bare loop: {bare:,.0f})"
    what_models = f"{MODELS} models, one gateway ({models:,.0f})"
    what_several = f"{MODELS} models × {ENDPOINTS} endpoints ({several:,.0f})"
    return [
        Row("instructions", what, one / bare, "× bare loop", GOAL, reference=bare),
        Row("instructions_models", what_models, models / one, "× one model", OF_MODELS, reference=one),
        Row("instructions_lanes", what_several, several / one, "× one model", OF_ENDPOINTS, reference=one),
    ]


def _a_request(
    folder: Path, scale: Scale, command: Callable[[Path], list[str]], base_url: str = "", models: int = 1
) -> float:
    """The instructions of one request in a run of many lines, less those of start and end."""
    few = IN_FLIGHT * max(1, int(32 * scale.share))
    counts = []
    for lines in (few, 3 * few):
        requests = write_requests(folder / "requests.jsonl", lines, models=models)
        counts.append(count(base_url, *command(requests)))
    return (counts[1] - counts[0]) / (2 * few)


def _endpoints(folder: Path, base_url: str) -> Path:
    """Several endpoints, which are all the same server."""
    path = folder / "endpoints.toml"
    path.write_text(
        "".join(
            f'[[endpoint]]\nname = "e{number}"\nbase_url = "{base_url}/e{number}/v1"\nconcurrency = {IN_FLIGHT}\n'
            for number in range(ENDPOINTS)
        )
    )
    return path


def count(base_url: str, *module: str) -> int:
    """The instructions of a Python module that runs as a program."""
    command = ("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable, "-m", __name__)
    environment = ENVIRONMENT | {"PYTHONHASHSEED": "0"} | ({"OPENAI_BASE_URL": base_url} if base_url else {})
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
