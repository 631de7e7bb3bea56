"""`-c auto` and `--rpm` against gateways whose limits the client is not told, on real sockets: eight minutes.

A run has more lines than it can send and is interrupted; what the gateway saw is what counts, from the first answer on.
`found_out` has more of them, in virtual time.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import Any

from tests.benchmarks.machine import pin
from tests.benchmarks.measure import remove_results, write_requests
from tests.benchmarks.workloads import Row, Scale
from tests.limits.found_out import UNKNOWN

WARM_UP_S, SHORTEST_S = 10.0, 0.4
GREATEST_PER_S = 400  # lines: more than any of these gateways takes


@dataclass(frozen=True)
class Seen:
    """What a gateway saw of a run: arrivals in seconds from the first, their statuses; and the client's latencies."""

    at_s: list[float]
    status: list[int]
    latencies: list[tuple[float, float]]
    since: float
    until: float

    def count(self, status: int) -> int:
        return sum(
            self.since <= at_s < self.until and found == status
            for at_s, found in zip(self.at_s, self.status, strict=True)
        )

    @property
    def refusals(self) -> float:
        """429s for each answer, over the whole run: finding out counts, too."""
        return self.status.count(429) / max(1, self.status.count(200))

    @property
    def latency_s(self) -> float:
        """The mean, as the client has it."""
        return mean([taken for at_s, taken in self.latencies if self.since <= at_s < self.until] or [0.0])

    @property
    def busiest_second(self) -> int:
        """The most arrivals in any second."""
        return max(bisect_right(self.at_s, at_s + 1) - number for number, at_s in enumerate(self.at_s))


@dataclass(frozen=True)
class Limited:
    """A gateway of the table: its options, and what share of its capacity a run has used."""

    name: str
    what: str
    options: dict[str, Any]
    used: Callable[[Seen], float]
    goal: float
    refusals: float
    run_s: float = 60.0
    arguments: tuple[str, ...] = ()
    schedule: list[tuple[float, int]] = field(default_factory=list)
    body: dict[str, Any] = field(default_factory=dict)


def capacity_of(schedule: list[tuple[float, int]], since: float, until: float) -> float:
    """Slot-seconds between two moments."""
    edges = [since, *(at_s for at_s, _ in schedule if since < at_s < until), until]
    slots = [max((at_s, slots) for at_s, slots in schedule if at_s <= start)[1] for start in edges[:-1]]
    return sum(count * (end - start) for count, (start, end) in zip(slots, itertools.pairwise(edges), strict=True))


def by_requests(per_s: float) -> Callable[[Seen], float]:
    return lambda seen: seen.count(200) / (per_s * (seen.until - seen.since))


def by_slots(latency_s: float, *schedule: tuple[float, int]) -> Callable[[Seen], float]:
    return lambda seen: seen.count(200) * latency_s / capacity_of([*schedule], seen.since, seen.until)


def by_tokens(per_minute: float, tokens: float) -> Callable[[Seen], float]:
    """A minute's worth is stored at the beginning: what of it is left at the warm-up's end can be used, too."""

    def used(seen: Seen) -> float:
        before = sum(at_s < seen.since and status == 200 for at_s, status in zip(seen.at_s, seen.status, strict=True))
        stored = min(per_minute, per_minute * (1 + seen.since / 60) - before * tokens)
        return seen.count(200) * tokens / (stored + per_minute / 60 * (seen.until - seen.since))

    return used


STEPS = [(0.0, 60), (20.0, 20), (40.0, 80)]
BUCKET = {"rpm": 9000, "burst_s": 1.0, "latency_median_s": 0.1, "send_rate_headers": False}
FORTY = {"capacity": 40, "latency_median_s": 0.2}
TOKENS_A_REQUEST = 1000
TABLE = [
    Limited(
        "bucket", "150 requests/s bucket, 100 ms", BUCKET | {"send_retry_after": False}, by_requests(150), 0.95, 0.01
    ),
    Limited("bucket_wait", "the same bucket with `Retry-After`", BUCKET, by_requests(150), 0.95, 0.01),
    Limited(
        "quarter",
        "150 requests/s bucket, 0.25 s of burst, 50 ms, `Retry-After`, in 30 s",
        BUCKET | {"burst_s": 0.25, "latency_median_s": 0.05},
        by_requests(150),
        0.93,
        0.01,
        run_s=30.0,
    ),
    Limited(
        "forty",
        "40 at once, 200 ms, 429 beyond",
        FORTY | {"send_retry_after": False},
        by_slots(0.2, (0, 40)),
        0.95,
        0.01,
    ),
    Limited("forty_wait", "the same 40 with `Retry-After`", FORTY, by_slots(0.2, (0, 40)), 0.95, 0.01),
    Limited("queue", "40 at once, queue beyond, no 429", FORTY | {"queue": True}, by_slots(0.2, (0, 40)), 0.95, 0.0),
    Limited(
        "steps",
        "steps 60 → 20 → 80 at once",
        FORTY | {"capacity": 60, "send_retry_after": False},
        by_slots(0.2, *STEPS),
        0.9,
        0.03,
        schedule=STEPS[1:],
    ),
    Limited(
        "tokens",
        "600,000 tokens/min with headers",
        {"tpm": 600_000, "latency_median_s": 0.5},
        by_tokens(600_000, TOKENS_A_REQUEST),
        0.97,
        0.002,
        run_s=130.0,
        body={"max_output_tokens": TOKENS_A_REQUEST - 11},
    ),
    Limited("rpm", "`--rpm 6000`", {"latency_median_s": 0.2}, by_requests(100), 0.97, 0.0, arguments=("--rpm", "6000")),
]


def pace(folder: Path, scale: Scale) -> list[Row]:
    """The table of limits that nobody told the client, and the promise of `--rpm`."""
    rows = []
    for gateway in TABLE:
        seen = _run(folder, gateway, scale)
        what = f"{gateway.what}: capacity used"
        rows.append(Row(f"{gateway.name}_used", what, gateway.used(seen), "of capacity", gateway.goal, True))
        what = f"{gateway.what}: 429s"
        rows.append(Row(f"{gateway.name}_429s", what, seen.refusals, "per answer", gateway.refusals))
        if gateway.name == "queue":
            rows.append(Row("queue_latency", f"{gateway.what}: mean latency", seen.latency_s / 0.2, "× unqueued", 1.5))
        if gateway.name == "rpm":
            rows.append(Row("rpm_most", f"{gateway.what}: at most", gateway.used(seen), "of promise", 1.0))
            rows.append(Row("rpm_second", f"{gateway.what}: busiest second", seen.busiest_second / 100, "× mean", 1.1))
    return [*rows, _unlimited(folder, scale)]


def found_out(folder: Path, scale: Scale) -> list[Row]:
    """How soon limits are found out, in virtual time: what `tests/limits/found_out.py` says of each gateway."""
    rows = []
    for gateway in UNKNOWN[: max(1, round(len(UNKNOWN) * min(1.0, scale.share)))]:
        found, name, what = gateway.run(), gateway.name, gateway.what
        rows.append(Row(f"{name}_soon", f"{what}: in 30 s", found.soon, "of capacity", gateway.soon, True))
        rows.append(Row(f"{name}_429s", f"{what}: its refusals", found.refusals, "per answer", gateway.refusals))
        rows.append(Row(f"{name}_then", f"{what}: afterwards", found.then, "of capacity", gateway.then, True))
    return rows


def _run(folder: Path, gateway: Limited, scale: Scale) -> Seen:
    run_s = max(SHORTEST_S, gateway.run_s * min(1.0, scale.share))
    requests = _write(folder / "pace.jsonl", int(GREATEST_PER_S * run_s), gateway.body)
    results = folder / "pace-results.jsonl"
    remove_results(results)
    words = [json.dumps(gateway.options), json.dumps(gateway.schedule)]
    command = [sys.executable, "-m", "tests.benchmarks.limited", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        port = int(server.stdout.readline())
        _interrupted_run(f"http://127.0.0.1:{port}", requests, results, run_s + min(1.0, run_s), *gateway.arguments)
        columns = json.loads(server.communicate()[0])
    # From the first answer on: finding the limit counts. `--rpm` is told, so there it is the steady pace.
    since = min(WARM_UP_S, run_s / 2) if gateway.arguments else 0.0
    return Seen(columns["at_s"], columns["status"], _latencies(results), since, min(run_s, columns["at_s"][-1]))


def _write(path: Path, lines: int, body: dict[str, Any]) -> Path:
    if not body:
        return write_requests(path, lines, 200)
    with path.open("w") as file:
        for number in range(lines):
            file.write(json.dumps({"model": "gpt-4.1", "input": f"{number:016d}"} | body) + "\n")
    return path


def _interrupted_run(base_url: str, requests: Path, results: Path, run_s: float, *arguments: str) -> None:
    """`batchrun run` for so long from its first record on, then Ctrl-C."""
    command = [sys.executable, "-m", "batchrun", "run", str(requests), "-o", str(results), "-q", *arguments]
    environment = os.environ | {"OPENAI_API_KEY": "sk-benchmark-0123456789", "OPENAI_BASE_URL": base_url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL, preexec_fn=_alone_and_heeding) as run:
        deadline = time.monotonic() + 30
        while not (results.exists() and results.stat().st_size) and run.poll() is None:
            if time.monotonic() > deadline:
                run.kill()
                raise RuntimeError("no answer within 30 s")
            time.sleep(0.005)
        time.sleep(run_s)
        run.send_signal(signal.SIGINT)
        run.wait(60)


def _alone_and_heeding() -> None:
    """On a core of its own; and Ctrl-C must reach it, also where a shell's `&` has it ignored."""
    pin(0)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _latencies(results: Path) -> list[tuple[float, float]]:
    """(when it was sent, how long it took) of each record, in seconds."""
    from batchrun.results.scan import read_results

    heads = [head for head in read_results(results) if head is not None]
    sent = [(head.run.elapsed_s - (head.run.latency_s or 0.0), head.run.latency_s or 0.0) for head in heads]
    first_s = min((at_s for at_s, _ in sent), default=0.0)
    return [(at_s - first_s, taken_s) for at_s, taken_s in sent]


def _unlimited(folder: Path, scale: Scale) -> Row:
    """How many are in flight 20 s after the start where nothing limits them, 1 s each."""
    from tests.benchmarks.measure import serving

    run_s = max(SHORTEST_S, 21.0 * min(1.0, scale.share))
    requests = write_requests(folder / "pace.jsonl", int(2000 * run_s), 200)
    results = folder / "pace-results.jsonl"
    remove_results(results)
    with serving("--latency-median", "1", "--latency-p99", "1.01") as server:
        _interrupted_run(server.base_url, requests, results, run_s)
    at_s = min(20.0, run_s - 0.2)
    in_flight = sum(sent <= at_s < sent + taken for sent, taken in _latencies(results))
    return Row("unlimited", f"no limit, 1 s latency: in flight after {at_s:.0f} s", in_flight, "requests", 1500, True)
