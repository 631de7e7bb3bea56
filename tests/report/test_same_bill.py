"""One bill, however it is made: at the end of the run, by `report`, by `verify`, and by a run that resumes the file."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun import Endpoint, Job
from batchrun.billing.pricing import PriceBook
from batchrun.report.rebuild import rebuild
from batchrun.report.report import Report
from batchrun.report.text import render
from batchrun.report.verify import Verifier
from batchrun.requests.reader import RequestFile
from tests.support import KEY

Json = dict[str, Any]
USAGE = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
MESSAGE = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "ok"}]}
SEARCH = {"type": "web_search_call", "id": "ws", "status": "completed", "action": {"type": "search", "query": "x"}}
OPEN_PAGE = SEARCH | {"action": {"type": "open_page", "url": "https://x.example"}}
CODE = {"type": "code_interpreter_call", "id": "ci", "status": "completed", "code": "1"}
FUNCTION = {"type": "function_call", "id": "fc", "call_id": "c", "name": "f", "arguments": "{}"}


def response(model: str, usage: Any = USAGE, *items: Json, **fields: Any) -> Json:
    output = [*items, MESSAGE]
    return {"object": "response", "status": "completed", "model": model, "output": output, "usage": usage} | fields


def chat(model: str, usage: Any, **message: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", "content": "ok"} | message, "finish_reason": "stop"}
    return {"object": "chat.completion", "model": model, "choices": [choice], "usage": usage}


@contextmanager
def answering(body: Json) -> Iterator[str]:
    """A gateway that gives every request the same answer; its base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            data = json.dumps(body).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_lines(path: Path, url: str, model: str, count: int = 3) -> Path:
    content = {"messages": [{"role": "user", "content": "x"}]} if "chat" in url else {"input": "x"}
    lines = [
        {"custom_id": f"r-{number}", "url": url, "body": {"model": model, **content}} for number in range(1, count + 1)
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


PLAIN = Decimal("0.00045")  # 1,000 and 100 tokens of gpt-5-mini
BEYOND = "gpt-nobody-prices-this"

CASES = [
    pytest.param(response("gpt-5-mini"), PLAIN, [], id="nothing special"),
    pytest.param(
        chat("grok-4", {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35})
        | {
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 35}
            | {"completion_tokens_details": {"reasoning_tokens": 20}}
        },
        Decimal("0.000405"),
        [],
        id="reasoning besides",
    ),
    pytest.param(
        response("claude-sonnet-4-5", {"input_tokens": 21, "cache_read_input_tokens": 4000, "output_tokens": 50}),
        Decimal("0.002013"),
        [],
        id="cached besides",
    ),
    pytest.param(
        response("gpt-5-mini", {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}),
        Decimal(0),
        ["3 answered without usage (not in the bill)"],
        id="zero",
    ),
    pytest.param(response("gpt-5-mini", service_tier="flex"), PLAIN / 2, [], id="flex"),
    pytest.param(response("gpt-5-mini", service_tier="priority"), PLAIN * Decimal("1.8"), [], id="priority"),
    pytest.param(response("gpt-5-mini", service_tier="default"), PLAIN, [], id="default tier"),
    pytest.param(
        response("gpt-5-mini", service_tier="scale"),
        PLAIN,
        ["3 served at the tier scale, which has no known price (billed at the standard price)"],
        id="a tier without a price",
    ),
    pytest.param(
        response("gpt-5-mini", USAGE, SEARCH, OPEN_PAGE, SEARCH, FUNCTION),
        PLAIN + Decimal("0.02"),
        [],
        id="web searches, of which an opened page is none",
    ),
    pytest.param(
        response("gpt-5-mini", USAGE, {"type": "file_search_call", "id": "fs", "status": "completed", "queries": []}),
        PLAIN + Decimal("0.0025"),
        [],
        id="file search",
    ),
    pytest.param(
        response("gpt-5-mini", USAGE, CODE, CODE, SEARCH),
        PLAIN + Decimal("0.01"),
        ["6 code_interpreter calls without a known price (not in the bill)"],
        id="a tool without a price",
    ),
    pytest.param(
        chat(
            "gpt-5-mini",
            {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
            annotations=[{"type": "url_citation", "url_citation": {"url": "https://x.example"}}] * 2,
        ),
        PLAIN + Decimal("0.01"),
        [],
        id="a chat that has searched the web",
    ),
    pytest.param(
        response("claude-sonnet-4-5", USAGE | {"server_tool_use": {"web_search_requests": 2}}),
        Decimal("0.0045") + Decimal("0.02"),
        [],
        id="searches in the usage",
    ),
    pytest.param(
        response(BEYOND, USAGE | {"cost": 0.00042}),
        Decimal("0.00042"),
        ["the gateway says that it charged $0.00126 (this is the bill of 3)"],
        id="the gateway's charge is the bill",
    ),
    pytest.param(
        response(BEYOND, USAGE | {"cost_in_usd_ticks": 4_200_000}),
        Decimal("0.00042"),
        ["the gateway says that it charged $0.00126 (this is the bill of 3)"],
        id="the gateway's charge in xAI's ticks",
    ),
    pytest.param(
        response("gpt-5-mini", USAGE | {"cost": "0.000016"}),
        PLAIN,
        ["the gateway says that it charged $0.000048"],
        id="the gateway's charge as a text",
    ),
    pytest.param(
        response("gpt-5-mini", USAGE | {"cost": 1.6e-05}),
        PLAIN,
        ["the gateway says that it charged $0.000048"],
        id="the gateway's charge beside the bill",
    ),
    pytest.param(
        response(BEYOND, USAGE | {"cost": 0.01, "is_byok": True}),
        Decimal(0),
        ["3 without a known price (not in the bill; see --prices)"],
        id="the maker charges besides",
    ),
    pytest.param(response("ft:gpt-4o-mini-2024-07-18:acme::Bxyz123"), Decimal("0.00042"), [], id="a fine-tuned model"),
]


@pytest.mark.parametrize(("body", "line_usd", "notes"), CASES)
def test_the_bill_is_the_same_however_it_is_made(
    body: Json, line_usd: Decimal, notes: list[str], tmp_path: Path
) -> None:
    url = "/v1/chat/completions" if "choices" in body else "/v1/responses"
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    with answering(body) as base_url:
        reports = []
        for count in (2, 3, 3):  # the second run resumes the file, the third has nothing to do
            job = Job(str(write_lines(requests, url, body["model"], count)), results, Endpoint(base_url, KEY))
            reports.append(batchrun.run(job).report)
    ended, again = reports[1:]
    assert ended.cost.total_usd == 3 * line_usd
    assert render(ended).count("not in the bill") == sum("not in the bill" in note for note in notes)
    for note in notes:
        assert note in render(ended)
    assert bill(again) == bill(ended)
    assert bill(rebuild(results, PriceBook.load(None)).report) == bill(ended)
    with RequestFile(str(requests), job.overrides) as file:
        verified = Verifier(file, results, PriceBook.load(None)).run()
    assert verified.is_complete, verified.findings
    assert (verified.total_usd, verified.unpriced_lines) == (ended.cost.total_usd, ended.cost.unpriced_lines)
    assert verified.lines_without_usage == ended.usage.lines_without_usage
    assert verified.usage.total_tokens == ended.usage.total_tokens


def bill(report: Report) -> tuple[object, ...]:
    return report.cost, report.usage, report.unbilled_usd, [model.cost for model in report.models.values()]


def test_verify_sees_a_tier_and_a_charge_that_the_payload_does_not_have(tmp_path: Path) -> None:
    requests, results = tmp_path / "requests.jsonl", tmp_path / "results.jsonl"
    with answering(response("gpt-5-mini", USAGE | {"cost": 0.5}, service_tier="flex")) as base_url:
        batchrun.run(
            Job(str(write_lines(requests, "/v1/responses", "gpt-5-mini", 1)), results, Endpoint(base_url, KEY))
        )
    whole = results.read_text()
    for run, other in (('"service_tier":"flex"}', '"service_tier":"priority"}'), ('usd":0.5', 'usd":0.1')):
        assert whole.count(run) >= 1
        results.write_text(whole.replace(run, other, 1))
        with RequestFile(str(requests), Job(str(requests), results, Endpoint("http://x")).overrides) as file:
            assert Verifier(file, results, PriceBook.load(None)).run().wrong_usage == 1
