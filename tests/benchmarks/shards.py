"""What a line costs the processor where four shards on Ray nodes send it, beside a plain run of the same command.

1. Counted is the processor time, user and system, of all that the job makes run: the workers with Ray's threads in
   them, the coordinator, the driver, and Ray's own processes on three nodes (raylets, GCS, agents). Not counted is the
   gateway, a process of its own that does far less than its clients.
2. It is counted while the middle of the file is sent, all shards at work: a long job consists of that. What a job costs
   once, such as Ray's start (seconds) and the loading of each worker, is no line's cost, and not in it.
3. Answers come so quickly that both runs have always something to do. A process that waits is woken for a line or two,
   where a busy one takes many together: that takes 3 % more instructions (valgrind) and up to twice the time, as the
   processor has turned to something else meanwhile. Two runs that wait differently cannot be compared by their lines.
4. The two runs take turns, and the least of each counts: what else the machine does only ever adds.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks.measure import Server, remove_results, serving
from tests.benchmarks.workloads import Row, Scale
from tests.cluster.raylets import ENVIRONMENT, Nodes, below, title
from tests.hostile import KEY
from tests.support import RunProcess, until, write_prices, write_requests

SHARDS, AT_ONCE, LATENCY_S = 4, 400, 0.02
LINES, FIRST, LAST = 48_000, 0.3, 0.7  # counted between these shares of all records
LEAST_SHARE = 0.2  # of the lines: fewer are done before all shards have begun
GOAL = 1.35

Pids = Callable[[], Iterable[int]]


def sharded(folder: Path, scale: Scale) -> list[Row]:
    """Processor time a line, as a multiple of a plain run's; nothing where Ray is not installed."""
    if scale.share < LEAST_SHARE or find_spec("ray") is None:
        return []
    with serving("--latency-median", str(LATENCY_S), "--latency-p99", str(1.2 * LATENCY_S)) as server:
        job = _Job(folder, scale.lines(LINES), server)
        bytes_in_all = job.all_bytes()
        with Nodes() as nodes:
            plain, ours = list[Counter[str]](), list[Counter[str]]()
            for _ in range(scale.times):
                plain.append(job.plain(bytes_in_all))
                ours.append(job.sharded(nodes, bytes_in_all))
    one, least = min(plain, key=Counter.total), min(ours, key=Counter.total)
    shards = sum(us for name, us in least.items() if name.startswith("ray::_run_shard"))
    what = (
        f"processor time a line, {SHARDS} shards on Ray nodes, -c {AT_ONCE}, all always busy ({least.total():.0f} µs: "
        f"{shards:.0f} µs in the shards, {least.total() - shards:.0f} µs in Ray, coordinator and driver; "
        f"a plain run: {one.total():.0f} µs)"
    )
    return [Row("cluster_processor", what, least.total() / one.total(), "of a plain run's", GOAL)]


class _Job:
    """A request file, and the two ways to send it."""

    def __init__(self, folder: Path, lines: int, server: Server) -> None:
        self._folder, self._lines, self._server = folder, lines, server
        self._requests = write_requests(folder / "requests.jsonl", lines, max_output_tokens=200)
        self._options = ("-c", str(AT_ONCE), "--prices", str(write_prices(folder)), "-q")
        self._results, self._directory = folder / "results.jsonl", folder / "results"

    def all_bytes(self) -> int:
        """How large the results are in the end: records are of one size, so that bytes tell how many there are."""
        with self._run(self._results) as run:
            assert run.wait(300) == 0, run.screen
        return self._results.stat().st_size

    def plain(self, in_all: int) -> Counter[str]:
        """Microseconds a line in a plain run, by what processes call themselves."""
        remove_results(self._results)
        with self._run(self._results) as run:
            found = self._us_a_line(lambda: [self._results], lambda: below(run.pid), in_all)
            assert run.wait(300) == 0, run.screen
        return found

    def sharded(self, nodes: Nodes, in_all: int) -> Counter[str]:
        """The same on a cluster: all processes below this one, but for the gateway's."""
        shutil.rmtree(self._directory, ignore_errors=True)
        others = {os.getpid(), *below(self._server.pid)}
        with self._run(self._directory, "--ray", nodes.address, "--shards", str(SHARDS)) as run:
            files = lambda: self._directory.glob("shard-*.jsonl")  # noqa: E731
            found = self._us_a_line(files, lambda: set(below(os.getpid())) - others, in_all)
            assert run.wait(300) == 0, run.screen
        return found

    def _run(self, results: Path, *options: str) -> RunProcess:
        url, environment = f"{self._server.base_url}/v1", {**ENVIRONMENT, "OPENAI_API_KEY": KEY}
        return RunProcess(url, self._requests, results, *self._options, *options, env=environment)

    def _us_a_line(self, files: Callable[[], Iterable[Path]], pids: Pids, in_all: int) -> Counter[str]:
        def written() -> int:
            return sum(path.stat().st_size for path in files() if path.exists())

        until(lambda: written() >= FIRST * in_all, 120)
        before, first = {pid: _used_s(pid) for pid in pids()}, written()
        until(lambda: written() >= LAST * in_all, 300)
        count, found = (written() - first) / in_all * self._lines, Counter[str]()
        for pid in pids():
            found[title(pid)] += 1e6 * (_used_s(pid) - before.get(pid, 0.0)) / count  # type: ignore[assignment]
        return found


def _used_s(pid: int) -> float:
    """Seconds of processor time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
