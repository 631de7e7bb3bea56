"""What a line costs the processor where four shards on Ray nodes send it, beside a plain run.

It is measured between two lines of the middle, over all processes that there are: none starts meanwhile.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from batchrun.simulator.options import GatewayOptions
from tests.benchmarks.workloads import Row, Scale
from tests.cluster.raylets import Bench, Nodes, below, title
from tests.support import GatewayThread, RunProcess, until, write_prices, write_requests

SHARDS, AT_ONCE, LATENCY_S = 4, 400, 0.1
LINES, FIRST = 40_000, 6_000
LEAST_SHARE = 0.2  # of the lines: fewer are done before all shards have begun


def sharded(folder: Path, scale: Scale) -> list[Row]:
    """Processor time a line, as a multiple of a plain run's; nothing where Ray is not installed."""
    if scale.share < LEAST_SHARE or find_spec("ray") is None:
        return []
    lines = scale.lines(LINES)
    with _gateway() as gateway:
        requests, prices = write_requests(folder / "plain.requests.jsonl", lines), write_prices(folder)
        options = ("-c", str(AT_ONCE), "--prices", str(prices), "-q")
        with RunProcess(gateway.base_url, requests, folder / "plain.jsonl", *options) as run:
            plain = sum(_us_a_line(gateway, lines, lambda: below(run.pid)).values())
    with _gateway() as gateway, Nodes() as nodes:
        job = Bench(folder, gateway, nodes, lines, "-c", str(AT_ONCE), "--shards", str(SHARDS))
        with job.start():
            found = _us_a_line(gateway, lines, lambda: [pid for pid in below(os.getpid()) if pid != os.getpid()])
    what = f"processor time a line, {SHARDS} shards on Ray nodes, -c {AT_ONCE}"
    return [Row("cluster_processor", what, sum(found.values()) / plain, "of a plain run's", 1.35)]


def _gateway() -> GatewayThread:
    return GatewayThread(GatewayOptions(latency_median_s=LATENCY_S, keep_rows=False))


def _us_a_line(gateway: GatewayThread, lines: int, pids: Callable[[], list[int]]) -> dict[str, float]:
    """Microseconds of processor time a line, by what processes call themselves."""
    first = FIRST * lines // LINES
    until(lambda: gateway.ledger.requests >= first, 120)
    sent, before = gateway.ledger.requests, {pid: _used_s(pid) for pid in pids()}
    until(lambda: gateway.ledger.requests >= lines - first, 300)
    count, found = gateway.ledger.requests - sent, dict[str, float]()
    for pid in pids():
        us = 1e6 * (_used_s(pid) - before.get(pid, 0.0)) / count
        found[title(pid)] = found.get(title(pid), 0.0) + us
    return found


def _used_s(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
