"""What a user may not have meant is said once: a prompt that nobody reads, options that change nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun import Endpoint, GatewayOptions, Job, run
from batchrun.engine.observer import Silent
from batchrun.records.request import Overrides
from batchrun.requests.reader import RequestFile


def write(path: Path, *bodies: dict[str, Any], **fields: Any) -> Path:
    lines = [{"custom_id": f"r-{at}", **fields, "body": body} for at, body in enumerate(bodies)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def warnings(path: Path, overrides: Overrides = Overrides()) -> list[str]:
    with RequestFile(str(path), overrides) as file:
        return file.check().warnings(overrides)


PROMPT, INPUT = {"model": "m", "prompt": "hi"}, {"model": "m", "input": "hi"}
MODEL_SAID = """--model n changes nothing: every line names its model; --set model='"n"' replaces it"""


def test_a_prompt_without_input_is_warned_of_once(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", INPUT, *[PROMPT] * 2000)
    found = (
        'WARNING: "prompt" without "input" (2,000 lines, the first on line 2); write "input", or "messages" for chat'
    )
    assert warnings(path) == [found]
    assert warnings(path, Overrides(fields={"input": b'"x"'})) == []


def test_a_stored_prompt_of_the_responses_api_is_no_mistake(tmp_path: Path) -> None:
    assert warnings(write(tmp_path / "q.jsonl", {"model": "m", "prompt": {"id": "pmpt_1"}})) == []


def test_a_model_that_changes_nothing_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", INPUT, INPUT)
    assert warnings(path, Overrides(model="n")) == [MODEL_SAID]
    assert warnings(path, Overrides(model="m")) == []
    assert warnings(write(path, INPUT, {"input": "x"}), Overrides(model="n")) == []


def test_an_api_that_changes_nothing_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", INPUT, url="/v1/responses")
    assert warnings(path, Overrides(api="embeddings")) == [
        '--api embeddings changes nothing: every line names its "url"'
    ]
    assert warnings(path, Overrides(api="responses")) == []
    assert warnings(write(path, INPUT), Overrides(api="embeddings")) == []


@pytest.mark.smoke
def test_a_run_says_it_and_says_nothing_of_lines_that_are_done(tmp_path: Path) -> None:
    said: list[str] = []

    class Told(Silent):
        def notice(self, text: str) -> None:
            said.append(text)

    simulate = GatewayOptions(latency_median_s=0, latency_p99_s=0)
    path = write(tmp_path / "q.jsonl", INPUT, PROMPT)
    job = Job(str(path), tmp_path / "r.jsonl", Endpoint("http://127.0.0.1"), Overrides(model="n"), simulate=simulate)
    run(job, Told())
    assert [text for text in said if "prompt" in text or "--model" in text] == [warnings(path)[0], MODEL_SAID]
    del said[:]
    run(job, Told())
    assert MODEL_SAID not in said
