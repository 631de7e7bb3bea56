"""What it costs to find the lines that need no request, and to write their records."""

from __future__ import annotations

from pathlib import Path
from statistics import median

from tests.benchmarks.measure import batchrun, remove_results, serving, write_requests
from tests.benchmarks.workloads import Row, Scale, write_results

LINES = 1_000_000


def reuse(folder: Path, scale: Scale) -> list[Row]:
    """A million lines whose answers are in another result file, without and with `--dedup`."""
    lines = scale.lines(LINES)
    requests, old = write_requests(folder / "requests.jsonl", lines), folder / "old.jsonl"
    results = folder / "results.jsonl"
    write_results(requests, old, lines)

    def run(base_url: str, *options: str) -> tuple[float, float]:
        remove_results(results)
        cost = batchrun("run", str(requests), "-o", str(results), "-q", *options, base_url=base_url)
        remove_results(results)
        return cost.cpu_s, cost.peak_bytes

    seconds, more, both_more = list[float](), list[float](), list[float]()
    answers = ("--reuse", str(old), "--reuse-any-gateway")
    for _ in range(scale.times):
        with serving() as server:
            _, usual = run(server.base_url, "-n", "1")
            cpu_s, peak = run(server.base_url, *answers)
            _, both_peak = run(server.base_url, *answers, "--dedup")
        seconds.append(cpu_s)
        more.append((peak - usual) / 1e6)
        both_more.append((both_peak - peak) / 1e6)
    what = f"{lines:,} lines against {lines:,} answers with `--reuse`"
    return [
        Row("reuse", f"{what}, processor time", median(seconds), "s", 10),
        Row("reuse_memory", f"{what}, peak memory beyond that of one line sent", median(more), "MB", 60),
        Row(
            "dedup_memory",
            f"{lines:,} different lines with `--dedup` as well, beyond that",
            median(both_more),
            "MB",
            60,
        ),
    ]
