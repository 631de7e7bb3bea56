"""What large files cost before the first request and after the last, beside the check of the same file.

`validate` is the unit: each ratio is the median over runs of the two right after each other.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import batchrun, cost_of, remove_beside, remove_results, serving, write_requests
from tests.benchmarks.workloads import Row, Scale, write_results

LINES = 1_000_000
GOALS = {
    "fresh": ("the first request of a new job", 1.15),
    "finished": ("a finished job, run again", 1.8),
    "report": ("`batchrun report`", 1.2),
    "estimate": ("`batchrun estimate` before the first run", 1.8),
    "estimate_finished": ("the same of a finished job", 1.8),
    "verify": ("`batchrun verify`", 3.0),
}
READ_BOTH = ("finished", "estimate_finished", "verify")
"""What reads both files, with two processes where there is more than one core."""
NO_TOKENIZER = "import sys; sys.modules['rs_bpe'] = None; from batchrun.cli.main import main; main()"


def large(folder: Path, scale: Scale) -> list[Row]:
    """Each command over a million lines of 1 KB, beside `batchrun validate`."""
    lines = scale.lines(LINES)
    _need(folder, lines * 3_000)
    requests, results = write_requests(folder / "large.jsonl", lines, 1000), folder / "results.jsonl"
    write_results(requests, results, lines)
    ratios: dict[str, list[float]] = {name: [] for name in (*GOALS, *(f"{name} one core" for name in READ_BOTH))}
    units = []
    for _ in range(scale.times):
        for name, seconds in _commands(requests, results).items():
            for core in (0, None) if name in READ_BOTH else (0,):
                unit = batchrun("validate", str(requests)).wall_s
                is_beside = name in READ_BOTH and core is not None
                ratios[f"{name} one core" if is_beside else name].append(seconds(core) / unit)
                units.append(unit)
    size = f"{requests.stat().st_size / 1e6:,.0f} MB"
    rows = []
    for name, (what, goal) in GOALS.items():
        beside = f"; on one core {median(ratios[f'{name} one core']):.2f} ×" if name in READ_BOTH else ""
        what = f"{what}, {lines:,} lines ({size}){beside}"
        rows.append(Row(f"large_{name}", what, median(ratios[name]), "× validate", goal, reference=median(units)))
    return rows


def _commands(requests: Path, results: Path) -> dict[str, Callable[[int | None], float]]:
    """The commands by the name of their goal; each returns its seconds, on one core or, for None, on all."""
    asked, recorded = str(requests), str(results)
    without_tokenizer = (sys.executable, "-c", NO_TOKENIZER, "estimate", asked)
    return {
        "fresh": lambda _: _first_request(requests),
        "finished": lambda core: _run_again(requests, results, core),
        "report": lambda _: batchrun("report", recorded).wall_s,
        "estimate": lambda _: cost_of(*without_tokenizer).wall_s,
        "estimate_finished": lambda core: cost_of(*without_tokenizer, "-o", recorded, core=core).wall_s,
        "verify": lambda core: batchrun("verify", asked, recorded, core=core).wall_s,
    }


def _first_request(requests: Path) -> float:
    """The seconds from the start of a new job to its first request."""
    results = requests.with_name("new.jsonl")
    remove_results(results)
    with serving() as server:
        run = batchrun("run", str(requests), "-o", str(results), "-n", "1", "-q", base_url=server.base_url)
    remove_results(results)
    return server.first_at - run.started_at


def _run_again(requests: Path, results: Path, core: int | None) -> float:
    run = batchrun("run", str(requests), "-o", str(results), "-q", base_url="http://127.0.0.1:9", core=core)
    remove_beside(results)
    return run.wall_s


def resume_bare(folder: Path, scale: Scale) -> list[Row]:
    """The first new request behind 200,000 records, beside a loop that only looks for the ids in both files."""
    lines = scale.lines(200_000)
    requests, results = write_requests(folder / "resume.jsonl", lines), folder / "results.jsonl"
    write_results(requests, results, lines)
    with requests.open("a") as file:
        file.write('{"custom_id":"new","body":{"model":"gpt-4.1","input":"one more"}}\n')
    finished = results.stat().st_size
    module = (sys.executable, "-m", "tests.benchmarks.bare_read")

    def first_s(command: Callable[[str], float]) -> float:
        with serving() as server:
            started_at = command(server.base_url)
        os.truncate(results, finished)
        remove_beside(results)
        return server.first_at - started_at

    def ours(base_url: str) -> float:
        return batchrun("run", str(requests), "-o", str(results), "-q", base_url=base_url).started_at

    def bare(base_url: str) -> float:
        return cost_of(*module, base_url, str(requests), str(results)).started_at

    pairs = [(first_s(ours), first_s(bare)) for _ in range(scale.times)]
    bare_s = median(reference for _, reference in pairs)
    what = f"first new request behind {lines:,} records (a bare loop that reads their ids: {bare_s:.2f} s)"
    ratio = median(mine / reference for mine, reference in pairs)
    return [Row("resume_bare", what, ratio, "× bare loop", 2.2, reference=bare_s)]


def one_line(folder: Path, scale: Scale) -> list[Row]:
    """A job of one line: the processor time of the whole program, beside that of the bare loop."""
    one, results = write_requests(folder / "one.jsonl", 1), folder / "results.jsonl"
    module = (sys.executable, "-m", "tests.benchmarks.bare_loop")
    pairs = []
    with serving() as server:
        for _ in range(max(5, scale.times) + 1):
            remove_results(results)
            ours = batchrun("run", str(one), "-o", str(results), "-q", base_url=server.base_url).cpu_s
            bare = cost_of(*module, server.base_url, str(one), str(folder / "bare.out"), "64").cpu_s
            pairs.append((ours, bare))
    ratios = [ours / bare for ours, bare in pairs[1:]]  # the first one may have to read the list of prices
    what = f"a job of one line, processor time (a bare loop: {median(bare for _, bare in pairs):.2f} s)"
    return [Row("one_line", what, median(ratios), "× bare loop", 1.6, reference=median(bare for _, bare in pairs))]


def _need(folder: Path, free_bytes: int) -> None:
    """Raise `RuntimeError` where the disk has too little room for the files."""
    if (free := shutil.disk_usage(folder).free) < free_bytes:
        raise RuntimeError(f"{folder} has {free / 1e9:.1f} GB free; the files need {free_bytes / 1e9:.1f} GB")
