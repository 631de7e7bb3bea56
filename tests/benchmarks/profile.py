"""Where a request's processor time goes: one run, sampled from within.

    python -m tests.benchmarks.profile http://127.0.0.1:PORT requests.jsonl results.jsonl

prints the processor seconds of each room as JSON. A timer of processor time interrupts the run; each sample belongs
to the innermost frame that is batchrun's or a library's. The standard library's time is that of who called it, and
where nobody did, the event loop's; collecting garbage falls on whoever made the last object.
"""

from __future__ import annotations

import contextlib
import json
import signal
import sys
import time
from collections import defaultdict
from pathlib import Path
from types import FrameType

import batchrun
from batchrun.cli.signals import drive
from batchrun.engine.observer import Silent
from batchrun.job.job import Job
from batchrun.job.prepare import prepare
from batchrun.job.run import Run
from batchrun.limits.options import Limits
from batchrun.transport.endpoint import Endpoint

EVERY_S = 0.001
PACKAGE = f"{Path(batchrun.__file__).parent}/"
LIBRARIES = {  # in whose files → under what name
    "/aiohttp/": "aiohttp",
    "/yarl/": "aiohttp",
    "/multidict/": "aiohttp",
    "/aiohappyeyeballs/": "aiohttp",
    "/genai_prices/": "genai_prices",
}


class Sampler:
    """Adds up processor seconds by room while it is entered."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    def __enter__(self) -> Sampler:
        self._last_s = time.process_time()
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
        return self

    def __exit__(self, *_: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        now_s = time.process_time()  # the kernel ticks more slowly than the timer: a sample weighs what has passed
        self.seconds[room_of(frame)] += now_s - self._last_s
        self._last_s = now_s


def room_of(frame: FrameType | None) -> str:
    """The module of batchrun's, or the library, that is at work; the event loop where none of them is."""
    while frame is not None:
        path = frame.f_code.co_filename
        if path.startswith(PACKAGE) and not path.endswith("/signals.py"):  # it drives the event loop
            return Path(path).stem
        for part, library in LIBRARIES.items():
            if part in path:
                return library
        if path.startswith("<frozen importlib"):
            return "imports"
        frame = frame.f_back
    return "event loop"


def main() -> None:
    base_url, requests, results = sys.argv[1:]
    job = Job(requests, Path(results), Endpoint(base_url, "sk-benchmark-0123456789"), limits=Limits(concurrency=64))
    with Sampler() as sampler, contextlib.ExitStack() as files:
        drive(Run(prepare(job, Silent(), files), Silent()))
    print(json.dumps(sampler.seconds))


if __name__ == "__main__":
    main()
