"""Real Ray nodes on loopback, and `batchrun run --ray` on them: killed and frozen by the kernel, ended by their ids."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest

from batchrun.cluster.merge import merge
from batchrun.simulator.options import GatewayOptions
from tests.hostile import KEY
from tests.support import GatewayThread, Json, RunProcess, children, read_records, until, write_prices, write_requests

ENVIRONMENT = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # keeps the nodes on loopback
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "RAY_health_check_period_ms": "500",  # a dead node is noticed in seconds, not in a quarter of a minute
    "RAY_health_check_failure_threshold": "3",
    "RAY_health_check_timeout_ms": "1000",
    "RAY_health_check_initial_delay_ms": "1000",
}


BUSY = 1.25  # times slower than alone


def below(pid: int) -> list[int]:
    """All processes below one, itself first."""
    found = [pid]
    for child in _children(pid):
        found += below(child)
    return found


def _children(pid: int) -> list[int]:
    try:
        return children(pid)
    except OSError:
        return []


def title(pid: int) -> str:
    """What a process calls itself; "" if it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        return ""


def kill(*pids: int) -> None:
    """SIGKILL to processes, by their ids."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


class Nodes:
    """A head without room for shards, and `workers` nodes with room for `cpus` each. All of them end with the block."""

    _LITTLE: ClassVar[Json] = {"include_dashboard": False, "no_monitor": True, "include_log_monitor": False}

    def __init__(self, workers: int = 2, cpus: int = 2) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))  # a short name: there are sockets below it
        self._count, self._cpus = workers, cpus

    def __enter__(self) -> Self:
        os.environ.update(ENVIRONMENT)
        from ray._common import utils
        from ray.cluster_utils import Cluster

        untyped: Any = utils

        # `Cluster` writes its address there, whatever folder it is given, and fails where Ray has never been started.
        Path(untyped.get_default_ray_temp_dir()).mkdir(exist_ok=True)
        store = 80 << 20
        head = {"num_cpus": 0, "object_store_memory": store, "temp_dir": str(self.folder)} | self._LITTLE
        self._cluster: Any = Cluster(initialize_head=True, head_node_args=head)
        self.nodes = [self.add() for _ in range(self._count)]
        return self

    def __exit__(self, *_: object) -> None:
        pids = [pid for node in [self._cluster.head_node, *self.nodes] for pid in self._all(node)]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        with contextlib.suppress(Exception):
            self._cluster.shutdown()
        kill(*pids)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def address(self) -> str:
        return str(self._cluster.address)

    def add(self) -> Any:
        """Another node."""
        return self._cluster.add_node(num_cpus=self._cpus, object_store_memory=80 << 20)

    @staticmethod
    def raylet(node: Any) -> int:
        """The process of a node's raylet."""
        return int(node.all_processes["raylet"][0].process.pid)

    def kill_raylet(self, node: Any) -> None:
        """SIGKILL to a raylet. It is waited for: its workers end only once their parent is gone."""
        process = node.all_processes["raylet"][0].process
        process.kill()
        process.wait(10)

    def _all(self, node: Any) -> list[int]:
        pids = [info.process.pid for infos in node.all_processes.values() for info in infos]
        return [one for pid in pids for one in below(pid)]

    def shards(self, node: Any) -> list[int]:
        """The processes in which shards run on a node."""
        return [pid for pid in below(self.raylet(node)) if title(pid).startswith("ray::_run_shard")]

    def desk(self) -> int:
        """The process of the coordinator."""
        nodes = [self._cluster.head_node, *self.nodes]
        (found,) = [pid for node in nodes for pid in below(self.raylet(node)) if title(pid).startswith("ray::Desk")]
        return found


class Slowdown:
    """How many times slower than alone a program is that wants a tenth of a processor, while this is open."""

    _PROGRAM = """
import sys, threading, time
over = threading.Event()
threading.Thread(target=lambda: (sys.stdin.read(), over.set()), daemon=True).start()
wall = cpu = 0.0
while not over.wait(0.09):
    began, used = time.monotonic(), time.process_time()
    while time.process_time() < used + 0.01:
        pass
    wall, cpu = wall + time.monotonic() - began, cpu + time.process_time() - used
print(wall / cpu if cpu else 1.0)
"""

    def __enter__(self) -> Self:
        pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self._process = subprocess.Popen([sys.executable, "-c", self._PROGRAM], **pipes)
        return self

    def times(self) -> float:
        """So many times until now: 1 at the least."""
        told, _ = self._process.communicate()
        return max(1.0, float(told))

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()


def assert_used(share: float, least: float, slower: float) -> None:
    """At least so much of a limit is used. Nothing is known where other programs make this machine too slow for it."""
    if share < least and slower > BUSY:
        pytest.skip(
            f"{share:.2f} is used where {least} should be, on a machine that others make {slower:.1f} times slower"
        )
    assert share >= least


class Bench:
    """A job on nodes, against one simulated gateway that sees all its shards."""

    def __init__(self, folder: Path, gateway: GatewayThread, nodes: Nodes, lines: int, *options: str) -> None:
        self.folder, self.gateway, self.nodes, self.lines = folder, gateway, nodes, lines
        self.requests = write_requests(folder / "requests.jsonl", lines, max_output_tokens=200)
        self.results = folder / "results"
        self.options = ["--ray", nodes.address, "--prices", str(write_prices(folder)), "-q", *options]

    def start(self, *options: str, base_url: str | None = None) -> RunProcess:
        """The driver, in a process of its own."""
        url = base_url or self.gateway.base_url
        environment = {**ENVIRONMENT, "OPENAI_API_KEY": KEY}
        return RunProcess(url, self.requests, self.results, *self.options, *options, env=environment)

    def sent(self, count: int) -> None:
        """Wait until the gateway has got so many requests."""
        until(lambda: self.gateway.ledger.requests >= count, 90)

    def finish(self, run: RunProcess, deadline_s: float = 60.0) -> Json:
        """Wait for the end of a run; returns the report, once all that must hold was looked at."""
        assert run.wait(deadline_s) == 0, run.screen
        return self.check()

    def check(self) -> Json:
        """Nothing is missing, nothing doubled, and no more was billed twice than was told."""
        merged = self.folder / f"merged-{time.monotonic_ns()}.jsonl"
        merge(self.results, merged)
        records = read_records(merged)
        assert [one["custom_id"] for one in records] == [f"r-{number}" for number in range(1, self.lines + 1)]
        report: Json = json.loads((self.results / "run.report.json").read_text())
        told = report["possibly_billed_twice"]["lines"]
        assert self.gateway.ledger.billed_requests - self.lines <= told, "more was billed twice than was told"
        return report


@contextlib.contextmanager
def bench(folder: Path, lines: int, *options: str, workers: int = 2, **gateway: Any) -> Iterator[Bench]:
    """Nodes, a gateway and a job; all of them are gone afterwards."""
    facts = {"latency_median_s": 0.05, "latency_p99_s": 0.1} | gateway
    with GatewayThread(GatewayOptions(**facts)) as served, Nodes(workers) as nodes:
        yield Bench(folder, served, nodes, lines, *options)
