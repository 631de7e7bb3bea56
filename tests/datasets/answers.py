"""Records of answers for the tests of tables: what a gateway could have said to a request with a schema."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from batchrun.records.outcome import Outcome
from batchrun.records.result import ErrorInfo, ResultHead, encode_result
from batchrun.records.usage import Usage
from tests.support import MODEL, run_info

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": ["billing", "delivery", "other"]},
        "urgent": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string"}},
        "span": {"type": "object", "properties": {"start": {"type": "integer"}, "share": {"type": ["number", "null"]}}},
    },
    "required": ["topic", "urgent"],
    "additionalProperties": False,
}
GOOD = {"topic": "billing", "urgent": True, "tags": ["a", "b"], "span": {"start": 3, "share": 0.5}}


def request(custom_id: str, schema: Any = SCHEMA, model: str | None = MODEL) -> bytes:
    """A line of a request file that asks for an answer to a schema; None asks for any text."""
    body: dict[str, Any] = {"input": f"about {custom_id}"} | ({"model": model} if model else {})
    if schema is not None:
        body["text"] = {"format": {"type": "json_schema", "name": "label", "schema": schema}}
    return json.dumps({"custom_id": custom_id, "body": body}).encode() + b"\n"


def message(text: str, kind: str = "output_text") -> dict[str, Any]:
    return {"type": "message", "content": [{"type": kind, "refusal" if kind == "refusal" else "text": text}]}


def answer(
    custom_id: str,
    said: Any,
    line: int = 1,
    *,
    outcome: Outcome = "succeeded",
    error: tuple[str, str] | None = None,
    output: Sequence[Any] | None = None,
    **run: Any,
) -> bytes:
    """A record of an answer: `said` is its text, or the value that its text is the JSON of."""
    text = said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)
    body = json.dumps({"object": "response", "output": output if output is not None else [message(text)]})
    facts = {"model": MODEL, "usage": Usage(10, 0, 20, 0, 30), "line": line, "outcome": outcome} | run
    head = ResultHead(custom_id, run_info(**facts), ErrorInfo(*error) if error else None)
    return encode_result(head, 200, "req_1", body.encode())


def failure(custom_id: str, line: int = 1, code: str = "http_503", text: str = "it is\nbusy") -> bytes:
    """A record of a request without an answer."""
    head = ResultHead(custom_id, run_info(line=line, outcome="failed"), ErrorInfo(code, text))
    return encode_result(head, None, None, None)


def name_requests(results: Path, requests: Path) -> None:
    """Write a run log that names the request file, and its size if it is there."""
    event: dict[str, Any] = {
        "event": "start",
        "t": 0.1,
        "started": "2026-01-02T03:04:05.678Z",
        "requests": str(requests),
    }
    if requests.exists():
        event["input_bytes"] = requests.stat().st_size
    results.with_name(results.name + ".log").write_text(json.dumps(event, separators=(",", ":")) + "\n")
