"""Each row of the table: what is measured, at what size, and the goal it is held to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from tests.benchmarks.measure import batchrun, cost_of, remove_beside, remove_results, serving, write_requests


@dataclass(frozen=True)
class Row:
    """One figure: `value` in `unit`, held to `goal` (at most, or at least where `more_is_better`).

    `reference` is what the same run measured for comparison, None where the goal is absolute.
    """

    name: str
    what: str
    value: float
    unit: str
    goal: float
    more_is_better: bool = False
    reference: float | None = None

    @property
    def is_met(self) -> bool:
        return self.value >= self.goal if self.more_is_better else self.value <= self.goal


@dataclass(frozen=True)
class Scale:
    """How large the workloads are: `share` of the full size (1.0), each figure the median of `times`."""

    share: float
    times: int

    def lines(self, full: int) -> int:
        return max(100, int(full * self.share))


Workload = Callable[[Path, Scale], list[Row]]


def processor(folder: Path, scale: Scale) -> list[Row]:
    """Processor time a request, batchrun beside the bare loop, in pairs."""
    return [_processor(folder, scale, size) for size in (600, 4096)]


def _processor(folder: Path, scale: Scale, answer_bytes: int) -> Row:
    lines = scale.lines(20_000)
    many = write_requests(folder / "many.jsonl", lines)
    one = write_requests(folder / "one.jsonl", 1)
    results = folder / "results.jsonl"
    pairs = scale.times if scale.share < 1 else max(9, scale.times)  # what else the machine does shows in single ones
    ours, bare = [], []
    with serving("--answer-bytes", str(answer_bytes)) as server:

        def run(requests: Path) -> float:
            remove_results(results)
            return batchrun("run", str(requests), "-o", str(results), "-c", "64", "-q", base_url=server.base_url).cpu_s

        def loop(requests: Path) -> float:
            module = (sys.executable, "-m", "tests.benchmarks.bare_loop")
            return cost_of(*module, server.base_url, str(requests), str(folder / "bare.out"), "64").cpu_s

        for _ in range(pairs):
            ours.append((run(many) - run(one)) / lines)
            bare.append((loop(many) - loop(one)) / lines)
    ratio = median(mine / theirs for mine, theirs in zip(ours, bare, strict=True))
    mine_us, bare_us = median(ours) * 1e6, median(bare) * 1e6
    what = (
        f"processor time a request, {answer_bytes:,} B answers, 64 in flight, no latency "
        f"({mine_us:.0f} µs; a bare aiohttp and uvloop loop that writes its output: {bare_us:.0f} µs)"
    )
    return Row(f"processor_{answer_bytes}", what, ratio, "× bare loop", 1.3, reference=bare_us)


def profile(folder: Path, scale: Scale) -> list[Row]:
    """Where the processor time of a request goes, room by room; how much of what is measured without that it is."""
    lines = scale.lines(20_000)
    many, one = write_requests(folder / "many.jsonl", lines), write_requests(folder / "one.jsonl", 1)
    results = folder / "results.jsonl"
    rooms, measured_s = Counter[str](), 0.0
    with serving() as server:
        for _ in range(scale.times):
            for requests, sign in ((many, 1), (one, -1)):
                remove_results(results)
                command = (sys.executable, "-m", "tests.benchmarks.profile")
                sampled = cost_of(*command, server.base_url, str(requests), str(results))
                for room, seconds in json.loads(sampled.output).items():
                    rooms[room] += sign * seconds
                remove_results(results)
                options = ("-o", str(results), "-c", "64", "-q")
                measured_s += sign * batchrun("run", str(requests), *options, base_url=server.base_url).cpu_s
    requests_made = lines * scale.times
    for room, seconds in rooms.most_common():
        print(f"    {room:<14} {seconds / requests_made * 1e6:6.1f} µs {seconds / measured_s:6.1%}")
    what = f"processor time of a request ({measured_s / requests_made * 1e6:.0f} µs) that the profile accounts for"
    return [Row("profile", what, rooms.total() / measured_s, "of the time", 0.9, more_is_better=True)]


def pool(folder: Path, scale: Scale) -> list[Row]:
    """How full the pool is kept: time to 99 % answered, by the sum of the latencies over the slots."""
    return [_pool(folder, scale, 500, 1.05), _pool(folder, scale, 2000, 1.10)]


def _pool(folder: Path, scale: Scale, in_flight: int, goal: float) -> Row:
    lines = scale.lines(50 * in_flight)  # of these the last one of each slot keeps it half empty
    requests = write_requests(folder / "pool.jsonl", lines)
    results = folder / "results.jsonl"
    ratios, costs = [], []
    for _ in range(scale.times):
        remove_results(results)
        with serving("--latency-median", "0.2", "--latency-p99", "1.5") as server:
            run = batchrun(
                "run", str(requests), "-o", str(results), "-c", str(in_flight), "-q", base_url=server.base_url
            )
        ratios.append(_time_to_99_percent(results) / (server.drawn_s / in_flight))
        costs.append(run.cpu_s / lines * 1e6)
    what = f"time to 99 % of {lines:,} lines answered, {in_flight:,} in flight ({median(costs):.0f} µs each)"
    return Row(f"pool_{in_flight}", what, median(ratios), "× latencies / in flight", goal)


def _time_to_99_percent(results: Path) -> float:
    from batchrun.results.scan import read_results

    ends = sorted(head.run.elapsed_s for head in read_results(results) if head is not None)
    return ends[int(0.99 * len(ends)) - 1]


def memory(folder: Path, scale: Scale) -> list[Row]:
    """Peak resident memory over a whole run, and how it grows with ten times the lines."""
    few, many = scale.lines(200_000), scale.lines(2_000_000)
    peaks = {lines: _peak(folder, lines) for lines in (few, many)}
    return [
        Row("memory", f"peak memory, {few:,} lines of 1 KB, 64 in flight", peaks[few] / 1e6, "MB", 60),
        Row("memory_growth", f"peak memory, {many:,} lines", peaks[many] / peaks[few], f"× that of {few:,}", 1.2),
    ]


def _peak(folder: Path, lines: int) -> float:
    requests = write_requests(folder / "large.jsonl", lines, 1000)
    results = folder / "results.jsonl"
    remove_results(results)
    with serving() as server:
        run = batchrun("run", str(requests), "-o", str(results), "-c", "64", "-q", base_url=server.base_url)
    requests.unlink()
    remove_results(results)
    return run.peak_bytes


def check(folder: Path, scale: Scale) -> list[Row]:
    """How fast the input is checked."""
    lines = scale.lines(400_000)
    many, one = write_requests(folder / "many.jsonl", lines, 1000), write_requests(folder / "one.jsonl", 1)
    megabytes = many.stat().st_size / 1e6

    def speed() -> float:
        return megabytes / (batchrun("validate", str(many)).cpu_s - batchrun("validate", str(one)).cpu_s)

    value = median(speed() for _ in range(scale.times))
    what = f"checking the input, {megabytes:,.0f} MB in lines of 1 KB, one core"
    return [Row("check", what, value, "MB/s", 400, more_is_better=True)]


def resume(folder: Path, scale: Scale) -> list[Row]:
    """Seconds from the start to the first new request, with so many finished lines."""
    return [_resume(folder, scale, 200_000, 1.5), _resume(folder, scale, 1_000_000, 5.0)]


def _resume(folder: Path, scale: Scale, full: int, goal: float) -> Row:
    lines = scale.lines(full)
    requests, results = write_requests(folder / "resume.jsonl", lines), folder / "results.jsonl"
    remove_results(results)
    write_results(requests, results, lines)
    with requests.open("a") as file:
        file.write('{"custom_id":"new","body":{"model":"gpt-4.1","input":"one more"}}\n')
    finished = results.stat().st_size
    seconds = []
    for _ in range(scale.times):
        with serving() as server:
            run = batchrun("run", str(requests), "-o", str(results), "-q", base_url=server.base_url)
        seconds.append(server.first_at - run.started_at)
        os.truncate(results, finished)
        remove_beside(results)
    remove_results(results)
    what = f"first new request of a resume behind {lines:,} finished lines"
    return Row(f"resume_{full}", what, median(seconds), "s", goal * scale.share if scale.share > 1 else goal)


def write_results(requests: Path, results: Path, lines: int) -> None:
    """A finished result file of 1.2 KB a record, as a run would have written it."""
    from batchrun.records.request import parse_request
    from batchrun.records.result import ResultHead, RunInfo, encode_result
    from batchrun.records.usage import Usage
    from tests.benchmarks.server import answer

    body = answer(850).partition(b"\r\n\r\n")[2]
    usage = Usage(120, 0, 80, 0, 200)
    with requests.open("rb") as source, results.open("wb") as target:
        for number, raw in enumerate(source, 1):
            line = parse_request(raw.rstrip(b"\n"), number)
            run = RunInfo(
                line=number,
                v=1,
                total_lines=lines,
                body_hash=line.body_hash,
                started="2026-01-01T00:00:00.000Z",
                elapsed_s=number / 1000,
                outcome="succeeded",
                requested_model=line.model,
                path="/v1/responses",
                gateway="127.0.0.1",
                attempts=1,
                latency_s=0.25,
                model=line.model,
                usage=usage,
            )
            target.write(encode_result(ResultHead(line.custom_id, run), 200, None, body))


def startup(folder: Path, scale: Scale) -> list[Row]:
    """Processor seconds until the help is there, and until a job of ten lines is done."""
    ten = write_requests(folder / "ten.jsonl", 10)
    results = folder / "results.jsonl"
    with serving() as server:

        def run() -> float:
            remove_results(results)
            return batchrun("run", str(ten), "-o", str(results), "-q", base_url=server.base_url).cpu_s

        job_s = median(run() for _ in range(scale.times))
    help_s = median(batchrun("--help").cpu_s for _ in range(scale.times))
    return [
        Row("help", "`batchrun --help`, processor time", help_s, "s", 0.15),
        Row("ten_lines", "a job of ten lines from start to end, processor time", job_s, "s", 0.5),
    ]


def streaming(folder: Path, scale: Scale) -> list[Row]:
    """Decoding of server-sent events alone, and the making of a whole streamed answer."""
    from batchrun.transport.assemble import ResponseAssembler
    from batchrun.transport.sse import EventDecoder

    event = (
        b"event: response.output_text.delta\ndata: "
        b'{"type":"response.output_text.delta","sequence_number":7,"item_id":"msg_1","output_index":0,'
        b'"content_index":0,"delta":" token","logprobs":[],"obfuscation":"abcdefgh"}\n\n'
    )
    count = scale.lines(200_000)
    stream = event * count
    chunks = [stream[start : start + 65536] for start in range(0, len(stream), 65536)]
    completed = b'data: {"type":"response.completed","response":{"id":"r","status":"completed","output":[]}}\n\n'

    def events_per_s() -> float:
        decoder, start = EventDecoder(), time.process_time()
        for chunk in chunks:
            decoder.feed(chunk)
        return count / (time.process_time() - start)

    def answer_ms() -> float:
        start = time.process_time()
        decoder, assembler = EventDecoder(), ResponseAssembler()
        for received in decoder.feed(event * 2000 + completed):
            assembler.add(received)
        assembler.result()
        return (time.process_time() - start) * 1000

    speed = median(events_per_s() for _ in range(scale.times))
    cost = median(answer_ms() for _ in range(scale.times))
    return [
        Row("events", "server-sent events decoded", speed, "events/s", 150_000, more_is_better=True),
        Row("streamed_answer", "a streamed answer of 2,000 deltas, decoded", cost, "ms", 15),
    ]


def loop_lag(folder: Path, scale: Scale) -> list[Row]:
    """How long the event loop is held while a job runs, by a heartbeat of 5 ms beside it."""
    from batchrun import Endpoint, Job, Limits, run_async

    requests = write_requests(folder / "lag.jsonl", scale.lines(20_000))
    results = folder / "results.jsonl"

    async def measure(base_url: str) -> float:
        lags: list[float] = []

        async def beat() -> None:
            loop = asyncio.get_running_loop()
            while True:
                due = loop.time() + 0.005
                await asyncio.sleep(0.005)
                lags.append(loop.time() - due)

        heart = asyncio.create_task(beat())
        key = "sk-benchmark-0123456789"
        await run_async(Job(str(requests), results, Endpoint(base_url, key), limits=Limits(concurrency=64)))
        heart.cancel()
        return sorted(lags)[int(0.999 * len(lags))] * 1000

    with serving() as server:
        figures = []
        for _ in range(scale.times):
            remove_results(results)
            figures.append(asyncio.run(measure(server.base_url)))
    what = "event loop held, 99.9th percentile, 600 B answers, 64 in flight"
    return [Row("loop_lag", what, median(figures), "ms", 50)]


def report(folder: Path, scale: Scale) -> list[Row]:
    """`batchrun report` over a million records."""
    lines = scale.lines(1_000_000)
    requests, results = write_requests(folder / "report.jsonl", lines), folder / "results.jsonl"
    remove_results(results)
    write_results(requests, results, lines)
    runs = [batchrun("report", str(results)) for _ in range(scale.times)]
    remove_results(results)
    what = f"`batchrun report` over {lines:,} records"
    peak = median(run.peak_bytes for run in runs)
    return [
        Row("report", what, median(run.wall_s for run in runs), "s", 8),
        Row("report_memory", f"{what}, peak memory", peak / 1e6, "MB", 100),
    ]


WORKLOADS: dict[str, Workload] = {
    "processor": processor,
    "profile": profile,
    "pool": pool,
    "memory": memory,
    "check": check,
    "resume": resume,
    "startup": startup,
    "streaming": streaming,
    "loop_lag": loop_lag,
    "report": report,
}
