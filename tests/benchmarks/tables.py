"""What a large table costs: its rows joined with results in random order."""

from __future__ import annotations

import json
import random
from array import array
from pathlib import Path
from statistics import median

import orjson

from batchrun.datasets.prepared import VERSION, Data, Prepared, prepared_path
from batchrun.datasets.row_ids import RowKeys
from batchrun.datasets.tables import Source, open_table
from batchrun.records.result import ResultHead, RunInfo, encode_result
from batchrun.records.usage import Usage
from tests.benchmarks.measure import batchrun
from tests.benchmarks.workloads import Row, Scale

ROWS = 1_000_000
SCHEMA = {
    "type": "object",
    "properties": {"topic": {"enum": ["billing", "delivery", "other"]}, "urgent": {"type": "boolean"}},
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}


def join(folder: Path, scale: Scale) -> list[Row]:
    """`batchrun join` of rows of 200 B with results of 600 B in random order."""
    rows = scale.lines(ROWS)
    data, requests, results = folder / "data.csv", folder / "requests.jsonl", folder / "results.jsonl"
    _write_data(data, rows)
    requests.write_text("{}\n")  # only what stands beside it is read
    with open_table(Source(str(data))) as table:
        made_of = Data(str(data), "csv", table.digest())
    prepared = Prepared(VERSION, made_of, ["text"], rows, rows, "{{ text }}", format={"schema": SCHEMA})
    prepared_path(requests).write_bytes(prepared.to_json())
    _write_results(data, results, rows)
    command = ("join", str(data), str(results), "-o", str(folder / "out.csv"), "--requests", str(requests))
    runs = [batchrun(*command) for _ in range(scale.times)]
    what = f"`batchrun join` of {rows:,} rows with results in random order"
    return [
        Row("join", f"{what}, processor time", median(run.cpu_s for run in runs), "s", 45),
        Row("join_memory", f"{what}, peak memory", median(run.peak_bytes for run in runs) / 1e6, "MB", 90),
    ]


def _write_data(path: Path, rows: int) -> None:
    with path.open("w") as file:
        file.write("name,text,place\n")
        file.writelines(f'n-{number},"text {number}, {"lorem ipsum " * 14}",Berlin\n' for number in range(rows))


def _write_results(data: Path, path: Path, rows: int) -> None:
    """A result for each row, in random order."""
    keys, order = RowKeys(["text"]), array("Q", range(rows))
    random.Random(1).shuffle(order)
    with open_table(Source(str(data))) as table:
        ids = [keys.custom_id(keys.key(row.cells)) for row in table.rows()]
    text = json.dumps({"topic": "billing", "urgent": True})
    message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]}
    body = orjson.dumps({"id": "resp_1", "object": "response", "status": "completed", "output": [message]})
    usage = Usage(120, 0, 20, 0, 140)
    with path.open("wb") as file:
        for number in order:
            run = RunInfo(
                v=1,
                line=number + 1,
                total_lines=rows,
                body_hash="0123456789abcdef" * 2,
                started="2026-01-01T00:00:00.000Z",
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
            file.write(encode_result(ResultHead(ids[number], run), 200, None, body))
