"""Answers that do not fit the JSON schema their request asked for, counted by `--max-errors-on mismatch`."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

import orjson
import pytest

from batchrun import Endpoint, Gateway, GatewayOptions, Job, Limits, run_async
from batchrun.engine.error_limit import MaxErrors
from batchrun.records.index import digest
from batchrun.records.request import ENDPOINTS, RESPONSES, RequestLine
from batchrun.validation.schema import CHAT, KEPT_SCHEMAS, WHY_LIMIT, Fit, MismatchCheck, wanted_schema
from tests.hostile import BODY, KEY, RESPONSE, Hostile, http, sse, whole_stream

LABEL = {
    "type": "object",
    "properties": {"label": {"enum": ["bug", "praise"]}, "page": {"type": "integer"}},
    "required": ["label"],
    "additionalProperties": False,
}
LABEL_FORMAT = {"type": "json_schema", "name": "label", "schema": LABEL}


def asking(wanted: Any, url: str = RESPONSES) -> RequestLine:
    """A request for an answer of this `text.format` or `response_format`."""
    fields = {"text": {"format": wanted}} if url == RESPONSES else {"response_format": wanted}
    body = orjson.dumps({"model": "gpt-4.1", "input": "x", **fields})
    return RequestLine(17, "r-17", url, body, digest(body), "gpt-4.1", stream=False, derived=False)


def message(*texts: str) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text, "annotations": []} for text in texts]
    return {"type": "message", "role": "assistant", "content": content}


def response(*items: Any) -> bytes:
    return orjson.dumps({**RESPONSE, "output": items})


def completion(*messages: Any) -> bytes:
    choices = [{"index": index, "finish_reason": "stop", "message": one} for index, one in enumerate(messages)]
    return orjson.dumps({"object": "chat.completion", "choices": choices})


def why(wanted: Any, text: str) -> str | None:
    return MismatchCheck(pytest.fail).why(asking(wanted), response(message(text)))


# ------------------------------------------------------------------------------------- what is asked for


@pytest.mark.parametrize(
    ("url", "fields", "expected"),
    [
        (RESPONSES, {"text": {"format": LABEL_FORMAT}}, orjson.dumps(LABEL)),
        (RESPONSES, {"text": {"format": {"type": "json_object"}, "verbosity": "low"}}, b""),
        (RESPONSES, {"text": {"format": {"type": "text"}}, "user": "json_schema"}, None),
        (RESPONSES, {"input": "what is a json_schema?"}, None),
        (RESPONSES, {"input": "json_schema", "text": None}, None),
        (RESPONSES, {"input": "json_schema", "text": "odd"}, None),
        (RESPONSES, {"response_format": {"type": "json_object"}}, None),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": LABEL}}}, orjson.dumps(LABEL)),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}, b""),
        (CHAT, {"response_format": {"type": "json_schema", "json_schema": {"schema": None}}}, b""),
        (CHAT, {"response_format": {"type": "json_object"}}, b""),
        (CHAT, {"text": {"format": LABEL_FORMAT}}, None),
        (ENDPOINTS[2], {"response_format": {"type": "json_object"}}, None),
    ],
)
def test_a_request_says_what_its_answer_must_fit(url: str, fields: Any, expected: bytes | None) -> None:
    assert wanted_schema(url, orjson.dumps({"model": "gpt-4.1", "input": "x"} | fields)) == expected


# ---------------------------------------------------------------------------------------- what mismatches


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"label": "bug"}', None),
        (' {"label": "praise", "page": 3}\n', None),
        ('{"label": "sk-canary"}', 'label: the value is not one of "bug" or "praise"'),
        ('{"label": "bug", "page": "sk-canary"}', 'page: the value is not of type "integer"'),
        ("{}", '"label" is a required property'),
        ("[]", 'the value is not of type "object"'),
        ('```json\n{"label": "bug"}\n```', "not strict JSON: unexpected character, expected a JSON value: line 1"),
        ('{"label": "bu', "not strict JSON: unexpected end of data"),
        ('{"label": NaN}', "not strict JSON: "),
        ('{"label": "bug", "label": "praise"}', 'not strict JSON: the key "label" stands twice in an object'),
        ('{"label": "bug", "label": "bug"}', "not strict JSON: the key"),
        ("[" * 5000, "not strict JSON: depth limit exceeded"),
        ("", "it has no text"),
        (" \n", "it has no text"),
    ],
)
@pytest.mark.smoke
def test_a_text_fits_or_it_is_said_why_not(text: str, expected: str | None) -> None:
    found = why(LABEL_FORMAT, text)
    assert found is None if expected is None else found is not None and found.startswith(expected)


@pytest.mark.parametrize(("text", "fits"), [('{"any": 1}', True), ("[1, 2]", True), ("Sure!", False), ("", False)])
def test_a_json_object_may_be_any_json(text: str, fits: bool) -> None:
    assert (why({"type": "json_object"}, text) is None) is fits


def test_the_reason_is_short_on_one_line_and_nothing_a_terminal_obeys() -> None:
    found = why(LABEL_FORMAT, orjson.dumps({"label": "bug", "\x1b[31m\n" + "k" * 5000: 1}).decode())
    assert found is not None
    assert found.startswith("Additional properties are not allowed (")
    assert len(found) == WHY_LIMIT
    assert found.isprintable()


CALL = {"type": "function_call", "name": "look_up", "call_id": "c", "arguments": "{}"}
CHAT_FORMAT = {"type": "json_schema", "json_schema": {"name": "label", "schema": LABEL}}
GOOD, BAD = '{"label": "bug"}', '{"label": "none"}'


@pytest.mark.parametrize(
    ("items", "fits"),
    [
        ([message('{"label":', '"bug"}')], True),
        ([{"type": "reasoning", "summary": []}, message(GOOD)], True),
        ([{"type": "reasoning", "summary": []}], False),
        ([message("Let me look."), {"type": "web_search_call"}, message(GOOD)], True),
        ([message(GOOD), {"type": "web_search_call"}, message(BAD)], False),
        ([CALL], True),
        ([message("Let me look."), CALL], True),
        ([{"role": "assistant", "content": [{"text": BAD}]}], False),
        ([{"type": "message", "content": None}], False),
    ],
)
def test_the_last_message_of_a_response_must_fit(items: list[Any], fits: bool) -> None:
    """Unless the response ends with the call of a tool: then its text is still to come."""
    assert (MismatchCheck(pytest.fail).why(asking(LABEL_FORMAT), response(*items)) is None) is fits


@pytest.mark.parametrize(
    ("messages", "fits"),
    [
        ([{"content": GOOD}], True),
        ([{"content": BAD}], False),
        ([{"content": GOOD}, {"content": BAD}], False),
        ([{"content": [{"type": "text", "text": GOOD}]}], True),
        ([{"content": None}], False),
        ([None], False),
        ([{"content": None, "tool_calls": [{"id": "c"}]}], True),
        ([{"content": None, "function_call": {"name": "f"}}], True),
    ],
)
def test_each_choice_of_a_chat_completion_must_fit(messages: list[Any], fits: bool) -> None:
    assert (MismatchCheck(pytest.fail).why(asking(CHAT_FORMAT, CHAT), completion(*messages)) is None) is fits


def test_a_request_without_a_schema_never_misfits() -> None:
    """Nor is its answer looked at."""
    assert MismatchCheck(pytest.fail).why(asking({"type": "text"}), b"anything") is None


# ------------------------------------------------------------------------------ schemas that cannot be checked


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "wat"},
        {"$ref": "#/$defs/missing"},
        {"$ref": "other.json"},
        {"$ref": "file:///etc/hostname"},
        {"$schema": "http://example.invalid/draft"},
        {"pattern": "("},
        {"pattern": "^(?!b)((a|a)\\2?)+$"},
        {"minLength": -1},
        "text",
        3,
    ],
)
def test_a_schema_that_cannot_be_checked_is_told_once_and_counts_nothing(schema: Any) -> None:
    told: list[str] = []
    check = MismatchCheck(told.append)
    for _ in range(3):
        assert check.why(asking(LABEL_FORMAT | {"schema": schema}), response(message("no JSON at all"))) is None
    assert len(told) == 1
    assert told[0].startswith("line 17: its JSON schema cannot be checked (")
    assert told[0].endswith("answers to such schemas do not count as schema mismatches")


def test_a_schema_elsewhere_is_not_fetched() -> None:
    """A listening socket that nobody connects to, whichever way the schema names it."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        told: list[str] = []
        for schema in ({"$ref": address}, {"$schema": address}, {"$id": address, "$ref": "other.json"}):
            line = asking(LABEL_FORMAT | {"schema": schema})
            assert MismatchCheck(told.append).why(line, response(message("{}"))) is None
        assert len(told) == 3
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize("schema", [{"$ref": "#"}, {"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#"}]}}}])
@pytest.mark.smoke
def test_a_schema_that_goes_round_in_circles_ends(schema: Any) -> None:
    assert why(LABEL_FORMAT | {"schema": schema}, "{}") is None


def test_schemas_are_compiled_once_and_kept_within_bounds() -> None:
    check = MismatchCheck(pytest.fail)
    for number in (*range(3 * KEPT_SCHEMAS), *[3 * KEPT_SCHEMAS - 1] * 100):
        schema = {"type": "object", "minProperties": number}
        check.why(asking(LABEL_FORMAT | {"schema": schema}), response(message("{}")))
    kept = check._compiled.cache_info()
    assert (kept.currsize, kept.misses) == (KEPT_SCHEMAS, 3 * KEPT_SCHEMAS)


# ------------------------------------------------------------------------------------------- counted in a run


def written(path: Path, lines: int, **fields: Any) -> Path:
    bodies = ({"model": "gpt-4.1", "input": f"question {number}", **fields} for number in range(lines))
    records = (orjson.dumps({"custom_id": f"r-{number}", "body": body}) for number, body in enumerate(bodies))
    path.write_bytes(b"\n".join(records) + b"\n")
    return path


@pytest.fixture
def requests(tmp_path: Path) -> Path:
    return written(tmp_path / "requests.jsonl", 12, text={"format": LABEL_FORMAT})


async def batchrun(server: Hostile, requests: Path, *words: object) -> tuple[int, str]:
    """The command line in a process of its own: its exit code, and what it said."""
    arguments = ["run", requests, "-o", requests.with_name("results.jsonl"), "--base-url", server.base_url, *words]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "batchrun", *map(str, arguments)),
        env={**os.environ, "OPENAI_API_KEY": KEY},
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode is not None
    return process.returncode, said.decode()


def records_of(requests: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in requests.with_name("results.jsonl").read_bytes().splitlines()]


@pytest.mark.smoke
async def test_mismatches_stop_the_job_and_stay_successes(requests: Path) -> None:
    good, bad = http(response(message(GOOD))), http(response(message('{"label": "sk-canary"}')))
    async with Hostile(good, good, bad, good, bad, good) as server:
        options = ("-c", 1, "--max-errors", 1, "--max-errors-on", "schema_mismatch")
        code, said = await batchrun(server, requests, *options)
        assert (code, len(server.asked)) == (3, 5)
        why = 'e.g. line 3: label: the value is not one of "bug" or "praise"'
        assert f"--max-errors 1 is exceeded: 2 schema mismatches ({why}) of 5 lines of this run" in said
        assert "sk-canary" not in said
        assert [record["run"]["outcome"] for record in records_of(requests)] == ["succeeded"] * 5
        mismatch = 'label: the value is not one of "bug" or "praise"'
        noted = {record["run"]["line"]: record["run"].get("schema_error") for record in records_of(requests)}
        assert noted == {1: None, 2: None, 3: mismatch, 4: None, 5: mismatch}
        code, _ = await batchrun(server, requests, *options)
        assert (code, len(server.asked)) == (0, 12), "what is paid for is not sent again"


async def test_without_the_word_no_answer_is_checked(requests: Path) -> None:
    async with Hostile(http(BODY)) as server:
        code, _ = await batchrun(server, requests, "-c", 1, "--max-errors", 1)
    assert code == 0


def job(requests: Path, base_url: str, limit: str, *kinds: str) -> Job:
    results = requests.with_name("results.jsonl")
    max_errors = MaxErrors.parse(limit, kinds)
    return Job(str(requests), results, Endpoint(base_url, KEY), limits=Limits(concurrency=1), max_errors=max_errors)


async def test_one_mismatch_beside_a_failure_is_said_as_one(requests: Path) -> None:
    bad_request = http(b'{"error": {"code": "bad", "message": "no"}}', 400)
    async with Hostile(http(BODY), bad_request) as server:
        outcome = await run_async(job(requests, server.base_url, "1", "schema_mismatch", "failed"))
    why = "not strict JSON: unexpected character, expected a JSON value: line 1 column 1 (char 0)"
    stopped = f"--max-errors 1 is exceeded: 1 schema mismatch (line 1: {why}), 1 failed of 2 lines of this run"
    assert (outcome.report.stopped, outcome.exit_code) == (stopped, 3)


async def test_a_rate_of_mismatches_stops_the_job(requests: Path) -> None:
    written(requests, 120, text={"format": LABEL_FORMAT})
    good, bad = http(response(message(GOOD))), http(response(message(BAD)))
    async with Hostile(*[good, bad] * 60) as server:
        outcome = await run_async(job(requests, server.base_url, "20%", "schema_mismatch"))
        assert len(server.asked) == 100
    assert outcome.report.stopped is not None
    assert outcome.report.stopped.startswith(
        "--max-errors 20% is exceeded: 50 of the last 100 lines (50 schema mismatches (e.g. "
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_what_fits_goes_through_to_the_end_streamed_or_not(requests: Path, stream: bool) -> None:
    written(requests, 40, text={"format": LABEL_FORMAT}, stream=stream)
    async with Gateway(GatewayOptions()) as gateway:
        outcome = await run_async(job(requests, gateway.base_url, "0", "schema_mismatch"))
    assert (outcome.exit_code, outcome.report.lines.succeeded) == (0, 40)


async def test_a_streamed_answer_that_misfits_is_counted_too(requests: Path) -> None:
    written(requests, 5, text={"format": LABEL_FORMAT}, stream=True)
    async with Hostile(sse(*whole_stream(BAD, output=[message(BAD)]))) as server:
        outcome = await run_async(job(requests, server.base_url, "0", "schema_mismatch"))
    assert (outcome.exit_code, outcome.report.lines.succeeded) == (3, 1)


# ------------------------------------------------------------------------------------- all that does not fit


def fit(text: str, wanted: Any = LABEL_FORMAT) -> Fit | None:
    return MismatchCheck(pytest.fail).fit(asking(wanted), response(message(text)))


def test_each_mismatch_says_where_what_and_what_came() -> None:
    found = fit('{"label": "spam", "page": "two", "more~/": 1}')
    assert found is not None
    assert not found.was_fenced
    told = {one.where: (one.wrong, one.came) for one in found.mismatches}
    assert told["/label"] == ('the value is not one of "bug" or "praise"', '"spam"')
    assert told["/page"] == ('the value is not of type "integer"', '"two"')
    assert "more~/" in told[""][0]
    assert found.mismatches[0].in_words() == why(LABEL_FORMAT, '{"label": "spam", "page": "two", "more~/": 1}')


def test_what_is_no_json_is_one_mismatch_of_the_whole() -> None:
    found = fit("Sure! Here it is")
    assert found is not None
    (one,) = found.mismatches
    assert (one.where, one.came) == ("", "")
    assert one.wrong.startswith("not strict JSON: ")


def test_an_answer_that_says_two_things_under_one_key_is_asked_again() -> None:
    found = fit('{"label": "bug", "label": "praise"}')
    assert found is not None
    assert [one.wrong for one in found.mismatches] == ['not strict JSON: the key "label" stands twice in an object']


@pytest.mark.parametrize("text", ['```json\n{"label": "bug"}\n```', '\n```\n{"label": "bug"}\n```\n'])
def test_one_code_fence_is_taken_off(text: str) -> None:
    assert fit(text) == Fit(text, (), True)


@pytest.mark.parametrize("text", ['It is ```json\n{"label": "bug"}\n```', '```\n```json\n{"label": "bug"}\n```\n```'])
def test_nothing_else_is_mended(text: str) -> None:
    found = fit(text)
    assert found is not None
    assert found.mismatches


def test_where_nothing_is_asked_for_nothing_is_found() -> None:
    assert fit("anything", {"type": "text"}) is None
    assert fit("{}", {"type": "json_object"}) == Fit("{}")
    call = {"type": "function_call", "name": "x", "arguments": "{}"}
    assert MismatchCheck(pytest.fail).fit(asking(LABEL_FORMAT), response(call)) is None


def test_of_several_choices_the_first_that_does_not_fit_is_told() -> None:
    answer = completion({"content": '{"label": "bug"}'}, {"content": '{"label": "x"}'}, {"content": "y"})
    wanted = {"type": "json_schema", "json_schema": {"name": "label", "schema": LABEL}}
    found = MismatchCheck(pytest.fail).fit(asking(wanted, CHAT), answer)
    assert found is not None
    assert found.text == '{"label": "x"}'


def test_a_schema_that_cannot_be_checked_has_no_mismatch_and_is_told_once() -> None:
    told: list[str] = []
    check = MismatchCheck(told.append)
    bad = {"type": "json_schema", "schema": {"pattern": "(?=x)"}}
    for _ in range(2):
        assert check.fit(asking(bad), response(message("1"))) is None
    assert len(told) == 1
