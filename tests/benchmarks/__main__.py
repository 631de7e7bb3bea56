"""`python -m tests.benchmarks [NAME…]`: measure, print the table, write it as JSON.

Each figure is the median of three runs, each beside its reference. `--share 0.01` makes everything small, to see
that it works.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path

from tests.benchmarks.cluster import cluster
from tests.benchmarks.endpoints import endpoints
from tests.benchmarks.evaluation import evaluation
from tests.benchmarks.instructions import instructions
from tests.benchmarks.join import join
from tests.benchmarks.lanes import lanes
from tests.benchmarks.large import large, one_line, resume_bare
from tests.benchmarks.machine import describe, more_files
from tests.benchmarks.pace import found_out, pace
from tests.benchmarks.prepare import prepare
from tests.benchmarks.reuse import reuse
from tests.benchmarks.view import view
from tests.benchmarks.workloads import WORKLOADS, Row, Scale

__all__ = ["WORKLOADS", "main"]

WORKLOADS |= {
    "instructions": instructions,
    "large": large,
    "resume_bare": resume_bare,
    "one_line": one_line,
    "prepare": prepare,
    "reuse": reuse,
    "pace": pace,
    "found_out": found_out,
    "lanes": lanes,
    "cluster": cluster,
    "endpoints": endpoints,
    "join": join,
    "evaluation": evaluation,
    "view": view,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"one of {', '.join(WORKLOADS)}; all without")
    parser.add_argument("--share", type=float, default=1.0, help="share of the full size")
    parser.add_argument("--times", type=int, default=3, help="runs of which the median is taken")
    parser.add_argument("--json", type=Path, default=None, help="write the figures to this file, too")
    options = parser.parse_args()
    if unknown := set(options.names) - set(WORKLOADS):
        parser.error(f"no such workload: {', '.join(sorted(unknown))}")
    more_files()
    print(f"machine: {describe()}")
    rows: list[tuple[str, Row]] = []
    for name in options.names or WORKLOADS:
        with tempfile.TemporaryDirectory(prefix="batchrun-benchmark-") as folder:
            for row in WORKLOADS[name](Path(folder), Scale(options.share, options.times)):
                rows.append((name, row))
                print(_line(row), flush=True)
    if options.json:
        figures = [{"workload": name} | asdict(row) | {"is_met": row.is_met} for name, row in rows]
        options.json.write_text(json.dumps({"machine": describe(), "rows": figures}, indent=2) + "\n")


def _line(row: Row) -> str:
    goal = f"{'≥' if row.more_is_better else '≤'} {row.goal:,.4g}"
    verdict = "met" if row.is_met else "NOT MET"
    reference = f"  (reference {row.reference:,.0f})" if row.reference is not None else ""
    return f"{row.name:<18} {row.value:>10,.4g} {row.unit:<18} {goal:<12} {verdict:<8} {row.what}{reference}"


if __name__ == "__main__":
    main()
