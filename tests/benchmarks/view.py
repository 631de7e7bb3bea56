"""What `batchrun view` takes over a million records of 1.2 KB: to open, show, filter and search; memory, index."""

from __future__ import annotations

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import cycle, islice
from pathlib import Path
from urllib.parse import urlsplit

from tests.benchmarks.measure import ENVIRONMENT
from tests.benchmarks.workloads import Row, Scale

LINES = 1_000_000
WORDS = 20_000  # of the language in which prompts and reasons are written; few are frequent, as everywhere
TOPICS = ("billing", "delivery", "defect", "praise", "other")
ASKS = 60  # requests of a kind, of which the 95th percentile is taken
PAGES = ("/rows", "/rows?page=400", "/rows?sort=-cost", "/rows?sort=latency&page=30", "/rows?field.topic=defect&page=9")
FACETS = (
    "/rows?field.topic=billing",
    "/rows?field.topic=defect&field.urgent=true",
    "/rows?status=ok&cost.from=0.0001",
    "/rows?field.topic=praise&sort=-latency",
)
SEARCHES = (
    "/rows?q=reason",  # in every answer
    "/rows?q=classify",  # in every prompt
    *(
        f"/rows?q=w{number}" for number in (*range(16), *range(16, 200, 7), *range(200, WORDS, 997))
    ),  # from the most frequent
    *(f"/rows?q=reason+w{number}+w{number + 1}" for number in range(10)),
    "/rows?q=row-77777",
    "/rows?q=w1901*",
)


def view(folder: Path, scale: Scale) -> list[Row]:
    """The server in a process of its own, asked by HTTP as a browser would."""
    lines = scale.lines(LINES)
    results = folder / "results.jsonl"
    write_job(results, lines)
    with viewing(results) as viewer:
        first_page_s = viewer.first_page_s()
        open_s, meanwhile = viewer.opened_s(), viewer.meanwhile_ms
        open_cpu_s = viewer.cpu_s()
        viewer.settle()
        pages, facets, searches = (viewer.p95_ms(kind) for kind in (PAGES, FACETS, SEARCHES))
        rows = viewer.p95_ms([f"/rows/{number}" for number in random.Random(1).choices(range(lines), k=ASKS)])
        peak = viewer.peak_bytes()
    with viewing(results) as viewer:
        again_s = max(viewer.first_page_s(), viewer.opened_s())
        peak = max(peak, viewer.peak_bytes())
    size = results.stat().st_size
    share = Path(f"{results}.index").stat().st_size / size
    what = f"`batchrun view`, {lines:,} records ({size / 1e9:.2f} GB)"
    return [
        Row("view_first_page", f"{what}: the first page", first_page_s, "s", 2),
        Row("view_open", f"{what}: all rows are there (processor time {open_cpu_s:.0f} s)", open_s, "s", 20),
        Row("view_meanwhile", f"{what}: a page while it is read, p95", meanwhile, "ms", 50),
        Row("view_again", f"{what}: opened again", again_s, "s", 1),
        Row("view_page", f"{what}: a page of the table, p95", pages, "ms", 50),
        Row("view_row", f"{what}: the page of a row, p95", rows, "ms", 50),
        Row("view_facet", f"{what}: a filter, p95", facets, "ms", 100),
        Row("view_search", f"{what}: a search, p95", searches, "ms", 100),
        Row("view_memory", f"{what}: peak memory of all its processes", peak / 1e6, "MB", 200),
        Row("view_index", f"{what}: the index", share, "× the results", 0.4),
    ]


def write_job(results: Path, lines: int) -> None:
    """Requests, answers of 1.2 KB with a label, and a run log that tells of both; answers come in a mixed order."""
    from batchrun.records.index import hash_body
    from batchrun.results.events import Start, encode_events

    rng = random.Random(7)
    words = [f"w{number}" for number in range(WORDS)]
    weights = list(_sums(1 / (number + 2) for number in range(WORDS)))
    texts = [" ".join(rng.choices(words, cum_weights=weights, k=60)) for _ in range(5000)]
    requests = results.with_name("requests.jsonl")
    waiting: list[bytes] = []
    with requests.open("wb") as asked, results.open("wb") as answered:
        for line in range(1, lines + 1):
            body = _request_body(f"{texts[rng.randrange(5000)]} {words[rng.randrange(WORDS)]} {line}")
            asked.write(b'{"custom_id":"row-%d","body":%s}\n' % (line, body))
            waiting.append(_record(line, lines, hash_body(body), texts[rng.randrange(5000)], rng))
            if len(waiting) == 256:
                answered.write(waiting.pop(rng.randrange(256)))
        answered.writelines(waiting)
    start = Start(t=0.0, started="2026-01-01T00:00:00.000Z", requests=requests.name, lines=lines)
    Path(f"{results}.log").write_bytes(encode_events([start]))


def _sums(numbers: Iterator[float]) -> Iterator[float]:
    total = 0.0
    for number in numbers:
        yield (total := total + number)


_FORMAT = json.dumps(
    {
        "type": "json_schema",
        "name": "label",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {
                "topic": {"type": "string", "enum": list(TOPICS)},
                "urgent": {"type": "boolean"},
                "reason": {"type": "string"},
            },
            "required": ["topic", "urgent", "reason"],
            "additionalProperties": False,
        },
    },
    separators=(",", ":"),
).encode()


def _request_body(text: str) -> bytes:
    said = b'{"model":"gpt-4.1-mini","instructions":"Classify the message of a customer.","input":"%s",'
    return (said % text.encode()) + b'"text":{"format":' + _FORMAT + b"}}"


def _record(line: int, lines: int, body_hash: str, text: str, rng: random.Random) -> bytes:
    from batchrun.records.result import ResultHead, RunInfo, encode_result
    from batchrun.records.usage import Usage

    tokens, output = rng.randint(80, 900), rng.randint(10, 200)
    usage = Usage(tokens, 0, output, 0, tokens + output)
    label = json.dumps({"topic": rng.choice(TOPICS), "urgent": rng.random() < 0.2, "reason": text[:180]})
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": label}
    answer = {
        "id": f"resp_{line:032x}",
        "object": "response",
        "status": "completed",
        "model": "gpt-4.1-mini",
        "output": [{"type": "message", "status": "completed", "role": "assistant", "content": [part]}],
        "usage": {"input_tokens": tokens, "output_tokens": output, "total_tokens": tokens + output},
    }
    run = RunInfo(
        v=1,
        line=line,
        total_lines=lines,
        body_hash=body_hash,
        started="2026-01-01T00:00:00.000Z",
        elapsed_s=line / 1000,
        outcome="succeeded",
        requested_model="gpt-4.1-mini",
        model="gpt-4.1-mini",
        path="/v1/responses",
        gateway="127.0.0.1",
        attempts=1,
        latency_s=rng.lognormvariate(0, 0.5),
        usage=usage,
    )
    return encode_result(ResultHead(f"row-{line}", run), 200, f"req_{line:032x}", json.dumps(answer).encode())


@dataclass
class Viewer:
    """A server that runs. `started_at`: by `time.perf_counter`."""

    process: subprocess.Popen[bytes]
    address: str
    started_at: float
    cookie: str = ""
    meanwhile_ms: float = 0.0
    _most_bytes: float = 0.0

    def ask(self, path: str) -> bytes:
        """What it says, as HTML or JSON."""
        place = urlsplit(self.address)
        connection = http.client.HTTPConnection(place.netloc, timeout=60)
        if not self.cookie:
            connection.request("GET", f"{place.path}?{place.query}")
            welcome = connection.getresponse()
            welcome.read()
            self.cookie = welcome.headers["Set-Cookie"].partition(";")[0]
        connection.request("GET", path, headers={"Cookie": self.cookie})
        answer = connection.getresponse()
        body = answer.read()
        connection.close()
        if answer.status != 200:
            raise RuntimeError(f"{path}: {answer.status} {body[:500]!r}")
        return body

    def first_page_s(self) -> float:
        """Seconds from the start of the command until a page shows rows."""
        while b'<tr id="row-' not in self.ask("/rows"):
            time.sleep(0.01)
        return time.perf_counter() - self.started_at

    def opened_s(self) -> float:
        """Seconds from the start of the command until all rows are there, and searched; pages are asked meanwhile."""
        times = []
        while not json.loads(self.ask("/state.json"))["is_done"]:
            begin = time.perf_counter()
            self.ask("/rows")
            times.append((time.perf_counter() - begin) * 1000)
            self._note_memory()
            time.sleep(0.25)
        seconds = time.perf_counter() - self.started_at
        self.meanwhile_ms = sorted(times)[int(0.95 * len(times))] if times else 0.0
        return seconds

    def settle(self) -> None:
        """Wait until nothing is done in the background any more: two seconds in which it takes no time."""
        before = -1.0
        while (now := self.cpu_s()) - before > 0.05:
            before = now
            time.sleep(2)

    def cpu_s(self) -> float:
        """The processor time that it took so far, with that of its processes that have ended."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")

    def p95_ms(self, paths: list[str] | tuple[str, ...]) -> float:
        """The 95th percentile of requests for some paths, in turn."""
        times: dict[str, list[float]] = {path: [] for path in paths}
        for path in islice(cycle(paths), max(ASKS, len(paths))):  # a search is not asked twice
            begin = time.perf_counter()
            self.ask(path)
            times[path].append((time.perf_counter() - begin) * 1000)
        every = sorted(one for some in times.values() for one in some)
        for path, some in times.items() if os.environ.get("BATCHRUN_BENCHMARK_VERBOSE") else ():
            print(f"    {path:<45} first {some[0]:6.1f} ms, median {sorted(some)[len(some) // 2]:6.1f} ms")
        return every[int(0.95 * len(every)) - 1]

    def peak_bytes(self) -> float:
        """The most memory that was resident so far: of all its processes together, as far as that was looked at."""
        return max(self._most_bytes, _kilobytes(self.process.pid, "status", "VmHWM:") * 1024)

    def _note_memory(self) -> None:
        """Look at the memory of all processes now; what they share counts once."""
        pids = [self.process.pid]
        for task in Path(f"/proc/{self.process.pid}/task").iterdir():
            with suppress(OSError):
                pids += map(int, (task / "children").read_text().split())
        self._most_bytes = max(self._most_bytes, sum(_kilobytes(pid, "smaps_rollup", "Pss:") for pid in pids) * 1024)


def _kilobytes(pid: int, file: str, name: str) -> float:
    """What the kernel tells of a process; 0 where that has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/{file}").read_text().splitlines():
            if line.startswith(name):
                return float(line.split()[1])
    return 0.0


@contextmanager
def viewing(results: Path) -> Iterator[Viewer]:
    """`batchrun view` of a result file, for the time of a block."""
    command = [sys.executable, "-m", "batchrun", "view", str(results), "--no-open"]
    started_at = time.perf_counter()
    process = subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().decode().partition(" ")[2].strip()
        yield Viewer(process, address, started_at)
    finally:
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
