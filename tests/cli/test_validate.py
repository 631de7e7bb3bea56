"""`batchrun validate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.cli.commands import Command, Done


def test_validate_sums_up(batchrun: Command) -> None:
    lines: list[dict[str, Any]] = [
        {"custom_id": "a", "body": {"model": "gpt-4.1", "input": "hi", "stream": True}},
        {"model": "gpt-4.1", "input": "hi"},
        {"custom_id": "b", "url": "/v1/embeddings", "body": {"model": "text-embedding-3-small", "input": "hi"}},
    ]
    Path("requests.jsonl").write_text("\n".join(map(json.dumps, lines)))
    size = sum(len(json.dumps(line.get("body", line))) for line in lines)
    expected = (
        "requests.jsonl: 3 lines, all valid\n"
        "models: gpt-4.1 2, text-embedding-3-small 1\n"
        "endpoints: /v1/responses 2, /v1/embeddings 1\n"
        "streamed: 1\n"
        f"bodies: {size} bytes, roughly {size // 4} input tokens\n"
    )
    assert batchrun("validate", "requests.jsonl") == Done(0, expected, "")


def test_validate_reads_standard_input_and_knows_the_overrides(batchrun: Command) -> None:
    done = batchrun("validate", "-", "--model", "gpt-4.1", "--no-stream", stdin='{"input": "hi", "stream": true}\n')
    assert done.code == 0
    assert done.out.startswith("standard input: 1 line, all valid\nmodels: gpt-4.1 1\n")
    assert "streamed: 0\n" in done.out
    refused = batchrun("validate", "-", stdin='{"input": "hi"}\n')
    expected = 'no "model"; write "model": "gpt-4.1" into the body, or pass --model NAME'
    assert refused == Done(2, "", f"standard input:1: {expected}\n")


def test_an_empty_file_is_no_job(batchrun: Command) -> None:
    expected = "standard input: no requests in it; write one JSON object a line\n"
    assert batchrun("validate", "-", stdin="\n \n") == Done(2, "", expected)
