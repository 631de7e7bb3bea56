"""A job as files, for tests of pages: two runs, answers with labels, failures; and texts that mean harm."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

from batchrun.records.index import hash_body
from batchrun.records.result import ErrorInfo, ResultHead, encode_result
from batchrun.records.usage import Usage
from batchrun.results.events import Ended, Event, Limited, Open, Recorded, Sent, Start, Stop, encode_events
from tests.support import MODEL, run_info

HOSTILE = "<script>alert('x')</script><img src=https://evil.example/a.png>\"'&amp;\u202e\x1b[31m</style></svg>"
SHOWN = "<script>alert('x')</script><img src=https://evil.example/a.png>\"'&amp;</style></svg>"
"""What of it is to be seen as text: all but the marks that turn letters round, and what would move a cursor."""
TOPICS = ("billing", "delivery", "defect", "praise")
SECRET_PROMPT, SECRET_ANSWER = "the prompt of row", "the reason of row"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": [*TOPICS, HOSTILE]},
        "urgent": {"type": "boolean"},
        "reason": {"type": "string"},
    },
    "required": ["topic", "urgent", "reason"],
    "additionalProperties": False,
}
STARTED, AGAIN = "2026-01-02T03:04:05.678Z", "2026-01-02T04:00:00.000Z"


def make_job(folder: Path, rows: int = 120, *, hostile: bool = False) -> Path:
    """Write requests, results and run log of a job; returns the result file. Every tenth row failed."""
    rng = random.Random(5)
    results, requests = folder / "results.jsonl", folder / "requests.jsonl"
    asked, answered = list[bytes](), list[bytes]()
    for line in range(1, rows + 1):
        custom_id = f"{HOSTILE}{line}" if hostile and line % 3 == 0 else f"row-{line:04}"
        body = _body(line, hostile=hostile)
        asked.append(json.dumps({"custom_id": custom_id, "body": json.loads(body)}, separators=(",", ":")).encode())
        answered.append(_record(custom_id, line, rows, hash_body(body), rng, hostile=hostile))
    requests.write_bytes(b"".join(line + b"\n" for line in asked))
    rng.shuffle(answered)
    results.write_bytes(b"".join(answered))
    Path(f"{results}.log").write_bytes(encode_events(_events(rows, requests)))
    return results


def write_gold(folder: Path, rows: int = 120, *, hostile: bool = False) -> Path:
    """A table of right answers for the job, its columns `id`, `topic` and one of another name."""
    column = HOSTILE if hostile else "group"
    lines = []
    for line in range(1, rows + 1):
        custom_id = f"{HOSTILE}{line}" if hostile and line % 3 == 0 else f"row-{line:04}"
        lines.append({"id": custom_id, "topic": TOPICS[line % 4], column: f"g{line % 2}{HOSTILE if hostile else ''}"})
    path = folder / "gold.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def _body(line: int, *, hostile: bool) -> bytes:
    text = f"{SECRET_PROMPT} {line}\nsecond line" + (HOSTILE if hostile else "")
    schema = {"type": "json_schema", "name": "label", "strict": True, "schema": SCHEMA}
    body = {"model": MODEL, "input": text, "instructions": "Sort it.", "text": {"format": schema}}
    return json.dumps(body, separators=(",", ":")).encode()


def _record(custom_id: str, line: int, total: int, body_hash: str, rng: random.Random, *, hostile: bool) -> bytes:
    model = f"gpt-4.1{HOSTILE}" if hostile and line % 2 else MODEL
    tokens, output = rng.randint(80, 900), int(rng.lognormvariate(3, 0.6)) + 1
    facts: dict[str, Any] = {
        "line": line,
        "total_lines": total,
        "body_hash": body_hash,
        "started": STARTED if line <= total // 2 else AGAIN,
        "elapsed_s": float(line),
        "requested_model": model,
        "latency_s": rng.lognormvariate(0, 0.7),
    }
    if line % 10 == 0:
        code = "http_503" if line % 20 else (f"odd{HOSTILE}" if hostile else "invalid_request_error")
        message = f"it broke{HOSTILE if hostile else ''}"
        run = run_info(outcome="failed", attempts=3, retryable=code == "http_503", **facts)
        return encode_result(ResultHead(custom_id, run, ErrorInfo(code, message)), 503, None, b'{"error":{}}')
    topic = HOSTILE if hostile and line % 7 == 0 else TOPICS[(line if line % 5 else line + 1) % 4]
    said = json.dumps({"topic": topic, "urgent": line % 4 == 0, "reason": f"{SECRET_ANSWER} {line}"})
    part = {"type": "output_text", "text": said}
    answer = {"object": "response", "output": [{"type": "message", "content": [part]}]}
    usage = Usage(tokens, 0, output, 0, tokens + output)
    run = run_info(model=model, usage=usage, **facts)
    return encode_result(ResultHead(custom_id, run, None), 200, "req_1", json.dumps(answer).encode())


def _events(rows: int, requests: Path) -> list[Event]:
    """Two runs of a minute each, which sent two requests a second at most."""
    events: list[Event] = []
    half = rows // 2
    limited = {"gateway_requests": 41.0, "slow_start": 20.0}
    for started, first, before in ((STARTED, 1, None), (AGAIN, half + 1, limited)):
        size = requests.stat().st_size
        events += [
            Open(t=0.0, pid=1, at=1.0),
            Start(
                t=0.0,
                started=started,
                requests=requests.name,
                input_bytes=size,
                options={},
                lines=rows,
                limited_s=before,
            ),
            Limited(t=0.5, slots=8, in_flight=1, limited_by="slow_start"),
        ]
        for line in range(first, first + half):
            at = (line - first) * 60 / half
            events.append(Sent(t=at, line=line, attempt=1, model=MODEL, body_bytes=100))
            if line % 10 == 0:
                events.append(Ended(t=at + 0.4, line=line, code="http_503"))
            events.append(Recorded(t=at + 0.5, numbers=[line]))
            if line == first + half // 3:
                events.append(Limited(t=at + 0.5, slots=4, in_flight=2, limited_by="gateway_requests"))
        events.append(Stop(t=61.0, why="done", limited_s=limited))
    return sorted(events[: len(events) // 2], key=lambda event: event.t) + sorted(
        events[len(events) // 2 :], key=lambda event: event.t
    )
