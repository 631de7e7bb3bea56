"""What `batchrun eval` and `batchrun compare` cost over a million rows of twenty classes."""

from __future__ import annotations

import json
import random
from pathlib import Path

from batchrun.records.result import ResultHead, encode_result
from batchrun.records.usage import Usage
from tests.benchmarks.measure import batchrun
from tests.benchmarks.workloads import Row, Scale
from tests.support import run_info

ROWS, CLASSES = 1_000_000, 20
MOST_S, MOST_MB = 40, 150


def evaluation(folder: Path, scale: Scale) -> list[Row]:
    """Each command on results in random order; the processor time and memory of its worst run."""
    rows = scale.lines(ROWS)
    gold, results = folder / "gold.csv", folder / "results.jsonl"
    _write(gold, results, rows)
    told = ("--gold", str(gold))
    commands = {
        "eval": ("`batchrun eval`", ("eval", str(results), *told)),
        "eval_cluster": ("the same with `--cluster`", ("eval", str(results), *told, "--cluster", "document")),
        "compare": ("`batchrun compare` of two files", ("compare", str(results), str(results), *told)),
    }
    found = []
    for name, (what, command) in commands.items():
        runs = [batchrun(*command) for _ in range(scale.times)]
        of = f"{what}, {rows:,} rows of {CLASSES} classes"
        found += [
            Row(name, f"{of}, processor time", max(run.cpu_s for run in runs), "s", MOST_S),
            Row(f"{name}_memory", f"{of}, peak memory", max(run.peak_bytes for run in runs) / 1e6, "MB", MOST_MB),
        ]
    return found


def _write(gold: Path, results: Path, rows: int) -> None:
    """Gold in order, with a document for each hundred rows, and results in random order: 85 % right, 2 % refused."""
    rng = random.Random(1)
    right = [rng.randrange(CLASSES) for _ in range(rows)]
    with gold.open("w") as table:
        table.write("custom_id,topic,document\n")
        table.writelines(f"row-{row:07},label-{label:02},{row // 100}\n" for row, label in enumerate(right))
    order = list(range(rows))
    rng.shuffle(order)
    with results.open("wb") as file:
        for row in order:
            said = right[row] if rng.random() < 0.85 else rng.randrange(CLASSES)
            file.write(_record(row, rows, f"label-{said:02}", is_refused=rng.random() < 0.02))


def _record(row: int, rows: int, label: str, *, is_refused: bool) -> bytes:
    usage = Usage(100, 0, 10, 0, 110)
    outcome = "refused" if is_refused else "succeeded"
    head = ResultHead(f"row-{row:07}", run_info(line=row + 1, total_lines=rows, outcome=outcome, usage=usage))
    text = {"type": "output_text", "text": json.dumps({"topic": label}), "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [text]}
    body = {"id": f"resp_{row}", "object": "response", "status": "completed", "output": [message]}
    return encode_result(head, 200, None, json.dumps(body).encode())
