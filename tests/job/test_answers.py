"""Answers that are whole, and yet not all that was asked for: told, paid once, and bought again only if asked to."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.hostile import KEY, RESPONSE, Hostile, http

Json = dict[str, Any]


def answer(**fields: Any) -> bytes:
    return http(json.dumps(RESPONSE | fields).encode())


def written(folder: Path, *bodies: Json) -> Path:
    requests = folder / "requests.jsonl"
    requests.write_text("".join(json.dumps({"model": "m"} | body) + "\n" for body in bodies))
    return requests


def report(folder: Path) -> Json:
    parsed: Json = json.loads((folder / "results.jsonl.report.json").read_text())
    return parsed


async def run(server: Hostile, requests: Path, *options: str) -> tuple[int | None, str]:
    """The exit code of `batchrun run`, and what it says."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchrun", "run", str(requests), "-o", str(requests.with_name("results.jsonl"))),
        *options,
        env=os.environ | {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": KEY},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return process.returncode, said.decode()


async def test_answers_at_their_output_limit_are_told(tmp_path: Path) -> None:
    requests = written(
        tmp_path, *({"input": str(number), "max_output_tokens": limit} for number, limit in enumerate((16, 17, 16)))
    )
    usage = {"input_tokens": 7, "output_tokens": 16, "total_tokens": 23}
    async with Hostile(answer(usage=usage)) as server:
        code, said = await run(server, requests)
    assert code == 0
    assert "2 completed at exactly their limit of output tokens (counted as ok, may be cut off)" in said
    assert report(tmp_path)["at_output_limit"] == 2


async def test_an_empty_answer_is_paid_for_once_and_bought_again_only_on_request(tmp_path: Path) -> None:
    requests = written(tmp_path, {"input": "one"}, {"input": "two"})
    async with Hostile(answer(output=[{"type": "reasoning", "summary": []}])) as server:
        code, said = await run(server, requests)
        assert (code, len(server.asked)) == (1, 2)
        assert "2 empty (no text, refusal or tool call; counted as failed)" in said
        lines = report(tmp_path)["lines"]
        assert (lines["empty"], lines["failed"], lines["succeeded"]) == (2, 2, 0)
        assert report(tmp_path)["usage"]["input_tokens"] == 2 * RESPONSE["usage"]["input_tokens"]
        await run(server, requests)
        assert len(server.asked) == 2
        await run(server, requests, "--retry-errors")
        assert len(server.asked) == 4
        code, said = await run(server, requests, "--overwrite", "--max-errors", "0", "--max-errors-on", "empty")
        assert code == 3
