"""What a large table costs with its labels: rows joined with results in random order."""

from __future__ import annotations

import json
import random
from itertools import count
from pathlib import Path
from statistics import median

import msgspec
import orjson

from batchrun.records.request import parse_request
from batchrun.records.result import ResultHead, RunInfo, encode_result
from batchrun.records.usage import Usage
from batchrun.results.events import Start
from batchrun.results.paths import ResultPaths
from tests.benchmarks.measure import batchrun
from tests.benchmarks.workloads import Row, Scale

ROWS = 1_000_000
SCHEMA = "topic enum(billing|delivery|other), urgent bool"
LABEL = {"topic": "billing", "urgent": True}
STARTED = "2026-01-01T00:00:00.000Z"


def join(folder: Path, scale: Scale) -> list[Row]:
    """`batchrun join` of rows of 200 B with results of 700 B in random order; `batchrun export` of the same."""
    rows = scale.lines(ROWS)
    data, requests, results = folder / "data.csv", folder / "requests.jsonl", folder / "results.jsonl"
    _write_data(data, rows)
    asked = ("-p", "About: {{ text }}", "-s", SCHEMA, "--model", "gpt-4.1")
    batchrun("prepare", str(data), "-o", str(requests), *asked)
    _write_results(requests, results)
    found = []
    for name, read in {"join": (str(data), str(results)), "export": (str(results),)}.items():
        runs = [batchrun(name, *read, "-o", str(folder / f"{name}.csv")) for _ in range(scale.times)]
        what = f"`batchrun {name}` of {rows:,} rows with results in random order"
        peak = median(run.peak_bytes for run in runs) / 1e6
        found.append(Row(name, f"{what}, processor time", median(run.cpu_s for run in runs), "s", 45))
        found.append(Row(f"{name}_memory", f"{what}, peak memory", peak, "MB", 90))
    return found


def _write_data(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.write("name,text,place\n")
        file.writelines(f'n-{number},"text {number}, {"lorem ipsum " * 14}",Berlin\n' for number in range(rows))


def _write_results(requests: Path, path: Path) -> None:
    """A result for each request, in random order, and the run log that names the requests."""
    with requests.open("rb") as lines:
        asked = map(parse_request, lines, count(1))
        sent = [(line.line_number, line.custom_id, line.body_hash) for line in asked]
    start = Start(t=0.0, started=STARTED, requests=str(requests), input_bytes=requests.stat().st_size, options={})
    ResultPaths.of(path).log.write_bytes(msgspec.json.encode(start) + b"\n")
    random.Random(1).shuffle(sent)
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": json.dumps(LABEL)}]}
    body = orjson.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": [message]})
    usage, total = Usage(120, 0, 20, 0, 140), len(sent)
    with path.open("wb") as file:
        for number, custom_id, body_hash in sent:
            run = RunInfo(
                v=1,
                line=number,
                total_lines=total,
                body_hash=body_hash,
                started=STARTED,
                elapsed_s=1.0,
                outcome="succeeded",
                requested_model="gpt-4.1",
                path="/v1/responses",
                gateway="127.0.0.1",
                attempts=1,
                latency_s=0.25,
                model="gpt-4.1",
                usage=usage,
            )
            file.write(encode_result(ResultHead(custom_id, run), 200, None, body))
