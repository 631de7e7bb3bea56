"""What an answer means: successes whole, everything else a failure with a code, nothing paid for thrown away."""

from __future__ import annotations

import base64
import json
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import ENDPOINTS, RESPONSES
from batchrun.records.result import ResultHead, encode_result, parse_stored
from batchrun.records.usage import Usage
from batchrun.transport.answer import MESSAGE_LIMIT, HttpAnswer, read_answer, stored_body
from tests.support import run_info

Json = dict[str, Any]
CHAT_URL, EMBEDDINGS_URL = ENDPOINTS[1:]

USAGE = {"input_tokens": 11, "output_tokens": 3, "total_tokens": 14}
COUNTED = Usage(11, 0, 3, 0, 14)
PART = {"type": "output_text", "annotations": [], "text": "Grüße"}
MESSAGE = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [PART]}
RESPONSE: Json = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1700000000.5,
    "status": "completed",
    "error": None,
    "incomplete_details": None,
    "model": "gpt-4.1-2025-04-14",
    "output": [MESSAGE],
    "usage": USAGE,
}
CHAT: Json = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-4.1",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "hi"}}],
    "usage": {"prompt_tokens": 11, "completion_tokens": 3, "total_tokens": 14},
}
EMBEDDINGS: Json = {
    "object": "list",
    "model": "text-embedding-3-small",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.1, -0.2]}],
    "usage": {"prompt_tokens": 11, "total_tokens": 11},
}
BODY = json.dumps(RESPONSE).encode()
SHAPES = [(RESPONSES, RESPONSE), (CHAT_URL, CHAT), (EMBEDDINGS_URL, EMBEDDINGS)]


def read(body: bytes | Json, status: int = 200, url: str = RESPONSES, **more: Any) -> Reply | Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    outcome = read_answer(HttpAnswer(status, more.pop("headers", {}), raw, url, **more))
    check_storable(outcome)
    return outcome


def check_storable(outcome: Reply | Failure) -> None:
    """Whatever comes of an answer, its record is one line that every reader takes, ours included."""
    head = ResultHead("r-1", run_info(outcome="failed", model=outcome.model))
    record = encode_result(head, outcome.status, outcome.request_id, outcome.body)
    assert record.count(b"\n") == 1
    orjson.loads(record)
    json.loads(record)
    parse_stored(record[:-1])
    orjson.dumps([outcome.message, outcome.error_code if isinstance(outcome, Reply) else [outcome.code, outcome.type]])
    assert len(outcome.message) <= MESSAGE_LIMIT


def reply(body: bytes | Json, **more: Any) -> Reply:
    outcome = read(body, **more)
    assert isinstance(outcome, Reply)
    return outcome


def failure(body: bytes | Json, status: int = 200, **more: Any) -> Failure:
    outcome = read(body, status, **more)
    assert isinstance(outcome, Failure)
    assert outcome.status == status
    return outcome


# --------------------------------------------------------------------------------------------- successes


@pytest.mark.parametrize(("url", "body"), SHAPES)
def test_a_whole_answer_is_kept_byte_for_byte(url: str, body: Json) -> None:
    raw = json.dumps(body).encode()
    output_tokens = 0 if body is EMBEDDINGS else 3
    assert reply(raw, url=url, headers={"x-request-id": "req_1"}) == Reply(
        status=200,
        body=raw,
        request_id="req_1",
        outcome="succeeded",
        model=body["model"],
        usage=Usage(11, 0, output_tokens, 0, 11 + output_tokens),
    )


def test_a_relay_may_leave_nearly_everything_out() -> None:
    assert reply({"output": [MESSAGE]}).outcome == "succeeded"
    assert reply({"output": [{"type": "reasoning"}, {"type": "function_call"}, {"type": "vendor:x"}]}).model is None


@pytest.mark.parametrize(("url", "body"), SHAPES)
def test_the_service_tier_is_what_the_gateway_says_it_served(url: str, body: Json) -> None:
    """Where it is a string; a request's own wish is not looked at."""
    assert reply(body | {"service_tier": "flex"}, url=url).service_tier == "flex"
    for other in (None, 7, {"a": 1}, ["flex"]):
        assert reply(body | {"service_tier": other}, url=url).service_tier is None
    assert reply(body, url=url).service_tier is None


@pytest.mark.parametrize("member", [b'"x":"\\ud800"', b'"x":' + b"[" * 3000 + b"]" * 3000], ids=["surrogate", "deep"])
def test_the_service_tier_of_nonstandard_json_is_kept_too(member: bytes) -> None:
    for tier, kept in ((b'"priority"', "priority"), (b'"p\\ud800"', "p?"), (b"[1]", None)):
        raw = BODY[:-1] + b',"service_tier":' + tier + b"," + member + b"}"
        assert reply(raw).service_tier == kept


def test_a_request_id_is_taken_from_whoever_gives_one() -> None:
    assert reply(RESPONSE, headers={"x-oneapi-request-id": "2026"}).request_id == "2026"
    assert reply(RESPONSE, headers={"x-request-id": "a", "x-oneapi-request-id": "b"}).request_id == "a"
    assert reply(RESPONSE, headers={"x-request-id": "req\udcff"}).request_id == "req?", (
        "as odd bytes come from the wire"
    )
    assert reply(RESPONSE).request_id is None


@pytest.mark.parametrize(
    "usage", [None, {}, [], "11", {"input_tokens": "11"}, {"input_tokens": -1, "output_tokens": 0}]
)
def test_usage_that_is_none_is_not_invented(usage: Any) -> None:
    assert reply(RESPONSE | {"usage": usage}).usage is None


def test_an_odd_model_is_none() -> None:
    assert reply(RESPONSE | {"model": 4.1}).model is None


# ---------------------------------------------------------------------------------- whole but not all well


@pytest.mark.parametrize(
    ("details", "code"),
    [
        ({"reason": "max_output_tokens"}, "incomplete_max_output_tokens"),
        ({"reason": "content_filter"}, "incomplete_content_filter"),
        ({}, "incomplete_unknown"),
        (None, "incomplete_unknown"),
        ("odd", "incomplete_unknown"),
    ],
)
def test_an_incomplete_answer_is_kept_and_billed_but_no_success(details: Any, code: str) -> None:
    kept = reply(RESPONSE | {"status": "incomplete", "incomplete_details": details})
    assert (kept.outcome, kept.error_code, kept.usage) == ("incomplete", code, COUNTED)
    assert json.loads(kept.body)["output"] == [MESSAGE]


def test_an_incomplete_answer_needs_no_output() -> None:
    body = {key: value for key, value in RESPONSE.items() if key != "output"} | {"status": "incomplete"}
    assert reply(body).outcome == "incomplete"


@pytest.mark.parametrize(
    ("ended_as", "status", "outcome"),
    [
        ("response.incomplete", "completed", "incomplete"),
        ("response.incomplete", None, "incomplete"),
        ("response.completed", "incomplete", "incomplete"),
        ("response.completed", None, "succeeded"),
        ("response.done", "completed", "succeeded"),
    ],
)
def test_a_stream_s_ending_and_its_status_say_the_worse(ended_as: str, status: str | None, outcome: str) -> None:
    assert reply(RESPONSE | {"status": status}, ended_as=ended_as).outcome == outcome


def test_a_stream_that_ended_as_failed_is_no_answer() -> None:
    assert failure(RESPONSE, ended_as="response.failed").code == "response_failed"


def test_a_refusal_is_counted_as_one() -> None:
    refusing = MESSAGE | {"content": [PART, {"type": "refusal", "refusal": "No."}]}
    assert reply(RESPONSE | {"output": [{"type": "reasoning", "content": None}, refusing]}).outcome == "refused"


@pytest.mark.parametrize(
    "output",
    [
        [MESSAGE | {"content": [PART | {"text": '"refusal"'}]}],
        [MESSAGE | {"content": [PART, "refusal"]}],
        [MESSAGE | {"content": "refusal"}],
        ["refusal"],
    ],
)
def test_the_word_refusal_is_no_refusal(output: Any) -> None:
    assert reply(RESPONSE | {"output": output}).outcome == "succeeded"


@pytest.mark.parametrize("output", [[], None])
def test_a_completed_answer_that_holds_nothing_was_paid_for_and_is_no_success(output: Any) -> None:
    kept = reply(RESPONSE | {"output": output})
    assert (kept.outcome, kept.error_code, kept.usage) == ("empty", "empty_output", COUNTED)


@pytest.mark.parametrize(
    ("reason", "outcome", "code"),
    [
        ("length", "incomplete", "incomplete_max_output_tokens"),
        ("content_filter", "incomplete", "incomplete_content_filter"),
        ("tool_calls", "succeeded", None),
        (None, "succeeded", None),
    ],
)
def test_a_chat_completion_is_judged_by_its_finish_reason(reason: Any, outcome: str, code: str | None) -> None:
    choices = [*CHAT["choices"], {"finish_reason": reason, "message": None}]
    kept = reply(CHAT | {"choices": choices}, url=CHAT_URL)
    assert (kept.outcome, kept.error_code) == (outcome, code)


@pytest.mark.parametrize(
    ("reason", "outcome", "code"),
    [
        ("STOP", "succeeded", None),
        ("eos", "succeeded", None),
        ("", "succeeded", None),
        ("MAX_TOKENS", "incomplete", "incomplete_max_output_tokens"),
        ("SAFETY", "incomplete", "incomplete_content_filter"),
        ("sensitive", "incomplete", "incomplete_content_filter"),
        ("refusal", "refused", None),
        ("never_seen", "incomplete", "incomplete_never_seen"),
        (7, "incomplete", "incomplete_of_no_known_kind"),
        ([], "incomplete", "incomplete_of_no_known_kind"),
    ],
)
def test_a_finish_reason_that_is_unknown_is_no_success_and_is_paid_for_once(
    reason: Any, outcome: str, code: str | None
) -> None:
    choices = [CHAT["choices"][0] | {"finish_reason": reason}]
    kept = reply(CHAT | {"choices": choices}, url=CHAT_URL)
    assert (kept.outcome, kept.error_code, kept.usage) == (outcome, code, COUNTED)


@pytest.mark.parametrize("reason", ["error", "network_error", "insufficient_system_resource", "abort", "ERROR"])
def test_a_finish_reason_that_tells_of_an_error_is_one(reason: str) -> None:
    failed = failure(CHAT | {"choices": [CHAT["choices"][0] | {"finish_reason": reason}]}, url=CHAT_URL)
    assert (failed.code, failed.message) == ("error_in_200", f"the choice ends with finish_reason {reason.lower()}")
    assert (failed.model, failed.usage) == (CHAT["model"], COUNTED)


ERROR = {"code": 502, "message": "Upstream lost"}


@pytest.mark.parametrize(
    ("choice", "code", "inner"),
    [
        ({"error": ERROR, "finish_reason": "error"}, "502", 502),
        ({"error": ERROR, "finish_reason": None}, "502", 502),
        ({"error": {"code": 429, "message": "slow"}, "finish_reason": "stop"}, "429", 429),
        ({"error": "lost"}, "error_in_200", None),
    ],
)
def test_an_error_inside_a_choice_is_the_answer_s(choice: Json, code: str, inner: int | None) -> None:
    failed = failure(CHAT | {"choices": [*CHAT["choices"], CHAT["choices"][0] | choice]}, url=CHAT_URL)
    assert (failed.code, failed.inner_status, failed.usage) == (code, inner, COUNTED)


REASONING = {"type": "reasoning", "id": "rs_1", "summary": []}


def message(content: Any) -> Json:
    return MESSAGE | {"content": content}


@pytest.mark.parametrize(
    "output",
    [
        [REASONING],
        [REASONING | {"summary": [{"type": "summary_text", "text": "hm"}]}],
        [message([])],
        [message(None)],
        [message("")],
        [message([PART | {"text": ""}])],
        [message([PART | {"text": None}])],
        [message([PART | {"text": " \n"}]), REASONING],
        [message([{}])],
        [{}],
        [None],
    ],
)
def test_a_response_without_a_text_a_refusal_or_a_call_is_empty(output: list[Any]) -> None:
    kept = reply(RESPONSE | {"output": output})
    assert (kept.outcome, kept.error_code, kept.usage) == ("empty", "empty_output", COUNTED)


@pytest.mark.parametrize(
    "item",
    [
        {"type": "function_call", "name": "f", "arguments": ""},
        {"type": "image_generation_call", "result": "aGk="},
        {"type": "web_search_call"},
        {"type": "vendor:x"},
        message([PART | {"text": ""}, {"type": "output_audio", "data": "aGk="}]),
        message([{"type": "refusal", "refusal": "No."}]),
        message([{"text": "hi"}]),
        message("hi"),
        {"role": "assistant", "content": "hi"},
    ],
)
def test_any_item_but_reasoning_and_an_empty_message_is_content(item: Json) -> None:
    assert reply(RESPONSE | {"output": [REASONING, item]}).outcome in ("succeeded", "refused")


@pytest.mark.parametrize(
    "said",
    [
        {"content": ""},
        {"content": None},
        {"content": "", "reasoning_content": "hm", "tool_calls": []},
        {"content": [], "refusal": None},
        {"content": [{"type": "text", "text": ""}]},
        {},
    ],
)
def test_a_chat_completion_without_a_text_a_refusal_or_a_call_is_empty(said: Json) -> None:
    choices = [{"finish_reason": "stop", "message": {"role": "assistant"} | said}]
    kept = reply(CHAT | {"choices": choices}, url=CHAT_URL)
    assert (kept.outcome, kept.error_code, kept.usage) == ("empty", "empty_output", COUNTED)
    choices += CHAT["choices"]
    assert reply(CHAT | {"choices": choices}, url=CHAT_URL).outcome == "succeeded", "another choice holds something"


@pytest.mark.parametrize(
    "said",
    [
        {"tool_calls": [{"function": {"name": "f", "arguments": ""}}]},
        {"function_call": {"name": "f"}},
        {"audio": {"data": "aGk="}},
        {"images": [{"image_url": {"url": "data:"}}]},
        {"content": [{"type": "image_url", "image_url": {}}]},
        {"content": [{"text": "hi"}]},
    ],
)
def test_calls_images_and_audio_are_content_of_a_chat_completion(said: Json) -> None:
    choices = [{"finish_reason": "stop", "message": {"content": None} | said}]
    assert reply(CHAT | {"choices": choices}, url=CHAT_URL).outcome == "succeeded"


@pytest.mark.parametrize("data", [[], [{"embedding": []}], [{"embedding": ""}], [{"embedding": None}], [None]])
def test_an_answer_without_an_embedding_is_empty(data: list[Any]) -> None:
    kept = reply(EMBEDDINGS | {"data": data}, url=EMBEDDINGS_URL)
    assert (kept.outcome, kept.error_code) == ("empty", "empty_output")


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", None])
def test_a_reason_to_be_incomplete_decides_whatever_the_status_says(status: str | None) -> None:
    kept = reply(RESPONSE | {"status": status, "incomplete_details": {"reason": "max_output_tokens"}})
    assert (kept.outcome, kept.error_code) == ("incomplete", "incomplete_max_output_tokens")
    for nothing in ({}, {"reason": None}, {"reason": ""}, "odd"):
        assert reply(RESPONSE | {"incomplete_details": nothing}).outcome == "succeeded"


def test_a_chat_completion_may_refuse() -> None:
    choices = [{"finish_reason": "stop", "message": {"content": None, "refusal": "No."}}]
    assert reply(CHAT | {"choices": choices}, url=CHAT_URL).outcome == "refused"


# ---------------------------------------------------------------------------------- 200s that are no answer

PAGE = b"<!doctype html><html><head><TITLE>\n New API </TITLE></head></html>"


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "empty_body", "the gateway answered 200 with nothing in it"),
        (b" \r\n", "empty_body", "the gateway answered 200 with nothing in it"),
        (PAGE, "html_instead_of_json", "got an HTML page (New API)"),
        (b"\n<html>", "html_instead_of_json", "got an HTML page (without a title)"),
        (b"[]", "not_a_response", "got JSON that is no response object: []"),
        (b"null", "not_a_response", "got JSON that is no response object: null"),
        (b'"ok"', "not_a_response", 'got JSON that is no response object: "ok"'),
        (b"{}", "not_a_response", "got JSON without an output: {}"),
        (b'{"output":"hi"}', "not_a_response", 'got JSON without an output: {"output":"hi"}'),
        (b'{"output":null}', "not_a_response", 'got JSON without an output: {"output":null}'),
        (b'{"status":"completed"}', "not_a_response", 'got JSON without an output: {"status":"completed"}'),
        (json.dumps(CHAT).encode(), "not_a_response", "got JSON without an output: "),
        (b"Bad Gateway", "invalid_json", "got broken JSON (Expecting value: line 1 column 1 (char 0)): Bad Gateway"),
        (BODY[:-1], "invalid_json", "got broken JSON ("),
        (BODY + BODY, "invalid_json", "got broken JSON (Extra data"),
        (BODY.replace(b"11", b"NaN"), "invalid_json", "got broken JSON (NaN is not JSON)"),
        (BODY.replace(b"11", b"-Infinity"), "invalid_json", "got broken JSON (-Infinity is not JSON)"),
        (BODY.replace(b"Gr\\u00fc", b"Gr\xfc"), "invalid_json", "got bytes that are not UTF-8: "),
        (BODY.replace(b"Gr\\u00fc", b"a\nb"), "invalid_json", "got broken JSON (Invalid control character"),
        (BODY.replace(b"Gr\\u00fc", b"a\0b"), "invalid_json", "got broken JSON (Invalid control character"),
        (b"[" * 100_000, "invalid_json", "got JSON that is not whole: [[["),
        (b"[" * 100_000 + b"]" * 100_000, "invalid_json", "got JSON that is not whole: [[["),
    ],
)
def test_a_200_that_is_no_answer_fails_under_a_code_of_its_own(body: bytes, code: str, message: str) -> None:
    failed = failure(body)
    assert failed.code == code
    assert failed.message.startswith(message)
    assert failed.body == stored_body(body), "what came is kept"


@pytest.mark.parametrize(("url", "other"), [(CHAT_URL, EMBEDDINGS), (EMBEDDINGS_URL, CHAT), (CHAT_URL, RESPONSE)])
def test_an_answer_of_another_endpoint_is_none(url: str, other: Json) -> None:
    assert failure(other, url=url).code == "not_a_response"


@pytest.mark.parametrize("choices", [[], None, "hi", ["hi"]])
def test_a_chat_completion_without_choices_is_none(choices: Any) -> None:
    assert failure(CHAT | {"choices": choices}, url=CHAT_URL).code == "not_a_response"


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_a_status_that_is_no_end_fails_under_its_name(status: str) -> None:
    assert failure(RESPONSE | {"status": status}).code == f"response_{status}"


def test_a_status_of_any_kind_is_no_crash() -> None:
    assert failure(RESPONSE | {"status": 7}).code == "response_of no known kind"
    assert failure(RESPONSE | {"status": "x" * 1000}).code == "response_" + "x" * 40


def test_a_failed_response_speaks_by_its_error() -> None:
    error = {"code": "invalid_prompt", "message": "No."}
    failed = failure(RESPONSE | {"status": "failed", "output": [], "error": error})
    assert (failed.code, failed.message, failed.type) == ("invalid_prompt", "No.", "response_failed")
    assert (failed.model, failed.usage) == (RESPONSE["model"], COUNTED)
    assert failure(RESPONSE | {"status": "failed"}).code == "response_failed"


def test_a_top_level_error_in_a_200_is_one() -> None:
    failed = failure({"error": {"message": "no", "type": "server_error"}})
    assert (failed.code, failed.type, failed.message) == ("server_error", "server_error", "no")
    assert failure({"error": "no"}).code == "error_in_200"
    assert failure({"error": {"code": "c"}} | EMBEDDINGS, url=EMBEDDINGS_URL).code == "c"


@pytest.mark.parametrize(
    ("body", "code", "text", "inner"),
    [
        ({"error": {"code": 402, "message": "m"}}, "402", "m", 402),
        ({"code": 1113, "msg": "余额不足", "data": None}, "1113", "余额不足", None),
        ({"code": 1113, "msg": "余额不足", "data": [], "choices": [], "output": []}, "1113", "余额不足", None),
        ({"object": "error", "message": "m", "type": "t", "code": 429}, "429", "m", 429),
        ({"type": "error", "message": "m"}, "error", "m", None),
        ({"base_resp": {"status_code": 1002, "status_msg": "m"}} | RESPONSE | CHAT | EMBEDDINGS, "1002", "m", None),
        ([{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}], "429", "m", 429),
        ({"message": "Too many requests"}, "error_in_200", "Too many requests", None),
        ({"detail": "Not Found"}, "error_in_200", "Not Found", None),
    ],
)
@pytest.mark.parametrize("url", ENDPOINTS)
def test_an_error_in_a_200_is_one_in_any_envelope(body: Any, code: str, text: str, inner: int | None, url: str) -> None:
    failed = failure(json.dumps(body).encode(), url=url)
    assert (failed.code, failed.message, failed.inner_status) == (code, text, inner)


@pytest.mark.parametrize(
    ("beside", "outcome", "code"),
    [
        ({"error": {"code": "c", "message": "m"}}, "failed", "c"),
        ({"type": "error", "message": "m"}, "failed", "error"),
        ({"object": "error", "message": "m", "code": "c"}, "failed", "c"),
        ({"base_resp": {"status_code": 1002, "status_msg": "m"}}, "failed", "1002"),
        ({"status": "failed"}, "failed", "response_failed"),
        ({"status": "incomplete"}, "incomplete", "incomplete_unknown"),
        ({"incomplete_details": {"reason": "content_filter"}}, "incomplete", "incomplete_content_filter"),
    ],
)
@pytest.mark.parametrize("item", [MESSAGE, {"type": "function_call", "name": "f", "arguments": "{}"}])
def test_what_is_wrong_beside_a_whole_response_counts(item: Json, beside: Json, outcome: str, code: str) -> None:
    read_as = read(RESPONSE | {"output": [item]} | beside)
    assert (read_as.outcome, read_as.error_code) == (outcome, code)


def test_words_of_success_beside_a_whole_answer_are_no_error() -> None:
    for well in ({"code": 200, "msg": "ok"}, {"code": 0}, {"base_resp": {"status_code": 0, "status_msg": ""}}):
        for url, body in SHAPES:
            assert reply(body | well, url=url).outcome == "succeeded"
    assert failure({"code": 0, "msg": "ok", "data": None}).code == "not_a_response"


@pytest.mark.parametrize(
    "tail", [b"\n\ndata: [DONE]\n\n", b"[DONE]", b"\n: ping\n\n", b"\r\n0\r\n\r\n", b"\0\0", b"}", b"\nevent: done"]
)
@pytest.mark.parametrize(("url", "body"), SHAPES)
def test_what_stands_behind_a_whole_answer_takes_nothing_from_it(url: str, body: Json, tail: bytes) -> None:
    raw = json.dumps(body, ensure_ascii=False).encode()
    kept = reply(raw + tail, url=url)
    assert (kept.outcome, kept.body) == ("succeeded", raw)
    failed = failure(b'{"error":{"code":429,"message":"m"}}' + tail, 502, url=url)
    assert (failed.code, failed.inner_status) == ("429", 429)


def test_an_error_that_is_null_or_empty_is_none() -> None:
    hollow = {"message": "", "type": "", "param": None, "code": None}
    nothings: tuple[Any, ...] = (None, {}, "", False, hollow, {"code": 0, "message": "success"})
    for nothing in nothings:
        assert reply(RESPONSE | {"error": nothing}).outcome == "succeeded"


# -------------------------------------------------------------------------------------- nonstandard JSON


def deep(levels: int) -> bytes:
    return BODY[:-1] + b',"x":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.parametrize(
    "body",
    [
        json.dumps(RESPONSE, indent=4).encode(),
        json.dumps(RESPONSE, indent=2).replace("\n", "\r\n").encode() + b"\r\n",
        json.dumps(RESPONSE, ensure_ascii=False).replace("Grüße", "\u2028\u2029\x85").encode(),
        BODY.replace(b"Gr", b"\\u0000"),
        BODY.replace(b"Gr", b"\\ud83d\\ude00"),
        BODY[:-1] + b',"x":18446744073709551617,"y":-123456789012345678901234567890}',
        BODY[:-1] + b',"x":1e-999,"y":1.000000000000000000000000000001E+2}',
        BODY[:-1] + b',"id":"again"}',
        deep(499),
        BODY.replace(b"Gr", b"x" * (8 << 20)),
    ],
    ids=["pretty", "CRLF", "U+2028", "NUL", "pair", "2^64", "numbers", "doubled", "depth 500", "8 MB"],
)
def test_odd_but_readable_json_is_a_success_with_its_value_unchanged(body: bytes) -> None:
    kept = reply(body)
    assert (kept.outcome, kept.error_code, kept.usage) == ("succeeded", None, COUNTED)
    assert json.loads(kept.body) == json.loads(body)
    assert len(kept.body) == len(body.strip())


NONSTANDARD = {
    "half a pair": BODY.replace(b"Gr", b"\\ud800"),
    "the other half": BODY.replace(b"Gr", b"a\\udc00b"),
    "half a pair in the model": BODY.replace(b"gpt", b"\\ud800"),
    "a number past every float": BODY[:-1] + b',"x":1e999}',
    "an integer of 5,000 digits": BODY[:-1] + b',"x":' + b"9" * 5000 + b"}",
    "depth 501": deep(500),
    "depth 1,100": deep(1100),
    "depth 5,000": deep(5000),
    "depth 100,000": deep(100_000),
    "depth in the output": BODY.replace(b'"output": [', b'"output": [' + b"[" * 10_000 + b"]" * 10_000 + b","),
}


@pytest.mark.parametrize("name", NONSTANDARD)
def test_nonstandard_json_was_paid_for_and_is_kept_whole_as_text(name: str) -> None:
    body = NONSTANDARD[name]
    kept = reply(body)
    assert (kept.outcome, kept.error_code, kept.usage) == ("failed", "nonstandard_json", COUNTED)
    assert orjson.loads(kept.body) == body.decode()
    assert kept.model == RESPONSE["model"].replace("gpt", "?" if "model" in name else "gpt")


@pytest.mark.parametrize(("url", "body"), SHAPES)
@pytest.mark.parametrize("member", [b'"x":"\\ud800"', b'"x":' + b"[" * 3000 + b"]" * 3000], ids=["surrogate", "deep"])
def test_every_endpoint_may_answer_in_nonstandard_json(url: str, body: Json, member: bytes) -> None:
    raw = json.dumps(body).encode()[:-1] + b"," + member + b"}"
    assert reply(raw, url=url).error_code == "nonstandard_json"


@pytest.mark.parametrize("member", [b'"x":"\\ud800"', b'"x":' + b"[" * 3000 + b"]" * 3000], ids=["surrogate", "deep"])
@pytest.mark.parametrize(
    ("fields", "code"),
    [
        (b'"error":{"code":"invalid_prompt","message":"no"},"status":"failed"', "invalid_prompt"),
        (b'"error":"no"', "error_in_200"),
        (b'"status":"failed","output":[1]', "response_failed"),
        (b'"status":"queued","output":[1]', "response_queued"),
        (b'"status":"completed"', "not_a_response"),
        (b'"output":[]', "not_a_response"),
    ],
)
def test_nonstandard_json_that_is_no_answer_fails_all_the_same(member: bytes, fields: bytes, code: str) -> None:
    assert failure(b"{" + fields + b"," + member + b"}").code == code


@pytest.mark.parametrize("levels", [450, 600, 990, 3000, 100_000])
def test_an_error_may_be_deep(levels: int) -> None:
    raw = b'{"error":' + b"[" * levels + b"]" * levels + b"}"
    for status in (200, 400):
        failed = failure(raw, status)
        assert failed.code == ("error_in_200" if status == 200 else "http_400")
        assert "[[[" in failed.message


# ------------------------------------------------------------------------------------------------ errors


def test_an_error_keeps_all_that_came_with_it() -> None:
    raw = b'{\n"error":{"message":"Slow down.","type":"requests","param":null,"code":"rate_limit_exceeded"}}'
    failed = failure(raw, 429, headers={"x-request-id": "req_1"}, retry_after_s=2.0)
    assert failed == Failure(
        code="rate_limit_exceeded",
        message="Slow down.",
        status=429,
        type="requests",
        body=raw.replace(b"\n", b" "),
        request_id="req_1",
        retry_after_s=2.0,
        looks_like_api=True,
    )


@pytest.mark.parametrize("status", [200, 400, 502])
@pytest.mark.parametrize(
    ("body", "is_api"),
    [
        (b'{"error":"no"}', True),
        (b' \r\n{"detail":"no"}', True),
        (b'[{"error":{"code":429}}]', True),
        (b'{"error":{"message":"cut', True),
        (b"[]", True),
        (b"", False),
        (b"<html><title>400 The plain HTTP request was sent to HTTPS port</title>", False),
        (b"Client sent an HTTP request to an HTTPS server.\n", False),
        (b"[error] no upstream", False),
        (b"null", False),
    ],
)
def test_what_does_not_look_like_the_api_is_told_apart(body: bytes, is_api: bool, status: int) -> None:
    """A web page or plain text comes from what stands in the API's place: another port, a proxy, a firewall."""
    assert failure(body, status).looks_like_api is is_api


@pytest.mark.parametrize("status", [199, 304, 418])
def test_no_status_but_2xx_is_a_success(status: int) -> None:
    assert failure(RESPONSE, status).code == f"http_{status}"


@pytest.mark.parametrize("status", [201, 202, 203, 206, 299])
@pytest.mark.parametrize(("url", "body"), SHAPES)
def test_any_2xx_with_a_whole_answer_is_one(url: str, body: Json, status: int) -> None:
    kept = reply(body, status=status, url=url)
    assert (kept.outcome, kept.status) == ("succeeded", status)
    assert failure(b"", status).code == "empty_body"
    assert failure({"error": "no"}, status).code == "error_in_200"


def test_the_wait_in_the_words_counts_where_no_header_gives_one() -> None:
    raw = b'{"error":{"message":"Please try again in 6.5s."}}'
    assert failure(raw, 429).retry_after_s == 6.5
    assert failure(raw, 429, retry_after_s=0.0).retry_after_s == 0.0


def test_a_relay_is_known_by_its_header() -> None:
    assert failure(b"{}", 401, headers={"x-oneapi-request-id": "2026"}).from_relay
    assert not failure(b"{}", 401, headers={"x-request-id": "2026"}).from_relay


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "http_502", "HTTP 502: no body"),
        (b"upstream connect error", "http_502", "HTTP 502: upstream connect error"),
        (b"<html><title>502 Bad Gateway</title>", "html_page", "HTTP 502: 502 Bad Gateway"),
        (b"{}", "http_502", "HTTP 502 without a message"),
        (b"null", "http_502", "HTTP 502: null"),
        (b'{"error":{"type":"upstream_error"}}', "upstream_error", "HTTP 502 without a message"),
        (b'{"error":{"code":"c","message":"caf\xe9"}}', "c", "caf\ufffd"),
        (b'{"error":{"code":"c","message":"\\ud800"}}', "c", "?"),
        (b'{"error":{"code":"c","message":"m"},"x":NaN}', "c", "m"),
        (b'{"error":{"code":"c","message":"m"},"x":1e999}', "c", "m"),
        (b'{"error":{"code":"c","message":"m","x":' + b"9" * 5000 + b"}}", "c", "m"),
        (b'{"error":{"code":123456789012345678901234567890}}', "123456789012345678901234567890", "HTTP 502 without"),
        (b'{"detail":[123456789012345678901234567890]}', "http_502", "[123456789012345678901234567890]"),
        (b'{"error":{"code":"c","message":"m"', "http_502", 'HTTP 502: {"error":{"code":"c"'),
        (b"\xff\xfe\x00", "http_502", "HTTP 502: \ufffd\ufffd"),
    ],
)
def test_an_error_is_understood_as_far_as_it_can_be(body: bytes, code: str, message: str) -> None:
    failed = failure(body, 502)
    assert failed.code == code
    assert failed.message.startswith(message)


def test_messages_are_cut_to_what_is_worth_keeping() -> None:
    assert len(failure(b"x" * 5000, 500).message) == MESSAGE_LIMIT
    assert len(failure({"error": {"message": "x" * 5000}}, 500).message) == MESSAGE_LIMIT


# ------------------------------------------------------------------------------------------- stored bodies


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        (b'{"a":\n1.50}', b'{"a": 1.50}'),
        (b"plain", b'"plain"'),
        (b"", b'""'),
        (b'"\\ud800"', b'"\\"\\\\ud800\\""'),
        (b"1e999", b'"1e999"'),
        (b'{"a":NaN}', b'"{\\"a\\":NaN}"'),
        (b"\xff", b'{"base64":"/w=="}'),
        (b"[" * 600 + b"]" * 600, b'"' + b"[" * 600 + b"]" * 600 + b'"'),
    ],
)
def test_any_body_is_stored_so_that_every_reader_takes_it(body: bytes, stored: bytes) -> None:
    assert stored_body(body) == stored


@given(st.binary())
def test_no_byte_of_a_body_is_lost(body: bytes) -> None:
    value = orjson.loads(stored_body(body))
    kept = base64.b64decode(value["base64"]) if isinstance(value, dict) and "base64" in value else value
    assert kept == body or str(kept).encode() == body or value == orjson.loads(body)


# ------------------------------------------------------------------------------------------- cut and fuzzed

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)
layouts = st.sampled_from([{}, {"indent": 1}, {"separators": (",", ":"), "ensure_ascii": False}])
extras = st.dictionaries(
    st.text().filter(lambda name: name not in ("error", "status", "output", "choices", "data")), json_values, max_size=3
)


def bodies(extra: Json, shape: tuple[str, Json], layout: Json, nonstandard: bytes) -> tuple[str, bytes]:
    url, fields = shape
    raw = json.dumps(fields | extra, **layout).encode(errors="replace")
    return url, (raw.rstrip()[:-1] + b',"z":' + nonstandard + b"}") if nonstandard else raw


nonstandard_values = st.sampled_from([b"", b'"\\ud800"', b"1e999", b"[" * 600 + b"]" * 600, b"9" * 4400])
valid = st.builds(bodies, extras, st.sampled_from(SHAPES), layouts, nonstandard_values)


@given(valid)
def test_a_whole_answer_is_always_a_reply(answer: tuple[str, bytes]) -> None:
    url, raw = answer
    assert reply(raw, url=url).outcome in ("succeeded", "failed")


@given(valid, st.data())
def test_a_cut_answer_is_never_one(answer: tuple[str, bytes], data: st.DataObject) -> None:
    url, raw = answer
    cut = data.draw(st.integers(0, len(raw) - 1))
    assert isinstance(read(raw[:cut], url=url), Failure)


def test_no_prefix_of_an_answer_is_one() -> None:
    for body in (
        BODY,
        json.dumps(RESPONSE, indent=1, ensure_ascii=False).encode(),
        NONSTANDARD["half a pair"],
        deep(700),
    ):
        for end in range(len(body)):
            assert isinstance(read_answer(HttpAnswer(200, {}, body[:end])), Failure)


def check_any(body: bytes, status: int, url: str) -> None:
    """No bytes make `read_answer` raise, or say something that cannot be stored."""
    outcome = read(body, status, url)
    if isinstance(outcome, Reply):
        assert status == 200, "only 200 is tried of the 2xx"
        assert isinstance(json.loads(body), dict)


any_bodies = (
    st.binary()
    | json_values.map(lambda value: json.dumps(value).encode())
    | st.builds(
        lambda at, junk: BODY[: at % len(BODY)] + junk + BODY[at % len(BODY) + len(junk) :],
        st.integers(0, 999),
        st.binary(max_size=3),
    )
)
any_answers = (any_bodies, st.sampled_from([200, 400, 401, 429, 500, 503]), st.sampled_from(ENDPOINTS))


@given(*any_answers)
def test_no_bytes_break_the_judgement(body: bytes, status: int, url: str) -> None:
    check_any(body, status, url)


@pytest.mark.long
@settings(max_examples=50_000, deadline=None)
@given(*any_answers)
def test_no_bytes_break_the_judgement_at_length(body: bytes, status: int, url: str) -> None:
    check_any(body, status, url)
