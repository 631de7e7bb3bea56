"""What it costs to make requests from a table: processor time and memory a row, and that neither grows with it."""

from __future__ import annotations

import csv
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import Cost, batchrun
from tests.benchmarks.workloads import Row, Scale

LINES = 1_000_000
_WORDS = ("lorem", "ipsum", "dolor sit amet,", 'a "quoted" word', "é", "consectetur", "adipiscing elit.")
_ASK = (
    *("-p", "Classify the ticket.\nSubject: {{ subject }}\nText: {{ text }}"),
    *("-s", "topic enum(billing|delivery|other): what it is about, urgent bool, score int(1..5), note? str"),
    *("--model", "gpt-4.1"),
)


def write_table(path: Path, rows: int, row_bytes: int = 1000) -> Path:
    """A CSV of rows of about that size, no two of them equal."""
    words = [" ".join(_WORDS[(start + at) % len(_WORDS)] for at in range(200)) for start in range(len(_WORDS))]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "subject", "text", "lang"])
        for number in range(rows):
            text = words[number % len(words)][: row_bytes - 50]
            writer.writerow([f"t-{number}", f"Ticket {number}", text, "de"])
    return path


def prepare(folder: Path, scale: Scale) -> list[Row]:
    """`batchrun prepare` of a CSV with rows of 1 KB, beside a tenth of it."""
    rows = scale.lines(LINES)
    whole, tenth = (_costs(folder, count, scale.times) for count in (rows, rows // 10))
    what = f"requests from a CSV, {rows:,} rows of 1 KB"
    cpu_us = median(cost.cpu_s for cost in whole) / rows * 1e6
    tenth_us = median(cost.cpu_s for cost in tenth) / (rows // 10) * 1e6
    peak, less = (median(cost.peak_bytes for cost in costs) / 1e6 for costs in (whole, tenth))
    return [
        Row("prepare", f"{what}, processor time", cpu_us, "µs a row", 25),
        Row("prepare_linear", f"the same beside a tenth of it, a row: {tenth_us:.3g} µs", cpu_us / tenth_us, "×", 1.2),
        Row("prepare_memory", f"{what}, peak memory (a tenth of it: {less:.1f} MB)", peak, "MB", 60),
    ]


def _costs(folder: Path, rows: int, times: int) -> list[Cost]:
    table, requests = write_table(folder / f"{rows}.csv", rows), folder / "requests.jsonl"
    costs = [batchrun("prepare", str(table), "-o", str(requests), *_ASK) for _ in range(times)]
    table.unlink()
    requests.unlink()
    return costs
