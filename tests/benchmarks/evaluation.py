"""What `batchrun eval`, by gold and by a judge, and `batchrun compare` cost over a million rows of twenty classes."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

from batchrun.records.request import parse_request
from batchrun.records.result import ResultHead, RunInfo, encode_result
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
    judge = _judge(folder, gold, results)
    other = Path(shutil.copyfile(results, folder / "other.jsonl"))
    told = ("--gold", str(gold))
    commands = {
        "eval": ("`batchrun eval`", ("eval", str(results), *told)),
        "eval_cluster": ("the same with `--cluster`", ("eval", str(results), *told, "--cluster", "document")),
        "eval_judge": (
            "the same with `--judge`, and `--judge-gold` on each row",
            ("eval", str(results), *told, *judge, "--judge-gold", "human"),
        ),
        "compare": ("`batchrun compare` of two files", ("compare", str(results), str(other), *told)),
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
        table.write("custom_id,topic,document,human\n")
        table.writelines(
            f"row-{row:07},label-{label:02},{row // 100},{'fail' if row % 7 else 'pass'}\n"
            for row, label in enumerate(right)
        )
    order = list(range(rows))
    rng.shuffle(order)
    with results.open("wb") as file:
        for row in order:
            said = right[row] if rng.random() < 0.85 else rng.randrange(CLASSES)
            file.write(_record(row, rows, f"label-{said:02}", is_refused=rng.random() < 0.02))


def _record(row: int, rows: int, label: str, *, is_refused: bool) -> bytes:
    outcome = "refused" if is_refused else "succeeded"
    info = run_info(line=row + 1, total_lines=rows, outcome=outcome, usage=Usage(100, 0, 10, 0, 110))
    return _answered(f"row-{row:07}", info, {"topic": label})


def _answered(custom_id: str, info: RunInfo, said: dict[str, str]) -> bytes:
    text = {"type": "output_text", "text": json.dumps(said), "annotations": []}
    message = {"type": "message", "role": "assistant", "content": [text]}
    body = {"id": f"resp_{info.line}", "object": "response", "status": "completed", "output": [message]}
    return encode_result(ResultHead(custom_id, info), 200, None, json.dumps(body).encode())


def _judge(folder: Path, gold: Path, results: Path) -> tuple[str, ...]:
    """The options that score by a judge, which has judged every answer; its requests are made by the command."""
    requests, verdicts = folder / "judge.requests.jsonl", folder / "judge.results.jsonl"
    made = ("-p", "Is {{ answer | tojson }} right?", "-s", "verdict enum(pass|fail), why str", "--model", "judge")
    batchrun("judge", str(gold), str(results), *made, "-o", str(requests))
    batchrun(
        "run", str(requests), "-o", str(verdicts), "-n", "1", "--simulate", "--simulate-latency", "0"
    )  # for its log
    with requests.open("rb") as lines, verdicts.open("wb") as file:
        for number, raw in enumerate(lines, 1):
            line = parse_request(raw.rstrip(b"\n"), number)
            info = run_info(line=number, body_hash=line.body_hash, usage=Usage(100, 0, 10, 0, 110))
            file.write(
                _answered(line.custom_id, info, {"verdict": "fail" if number % 9 else "pass", "why": "as it is"})
            )
    return ("--judge", str(verdicts), "--pass", "verdict=pass")
