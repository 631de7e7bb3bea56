"""What is done about a failure: the whole table, then the waiting and counting, then both over prepared replies."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp
import pytest
from aioresponses import aioresponses
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec.structs import replace

from batchrun.engine.retry import RetryPolicy
from batchrun.records.outcome import Failure, Reply
from batchrun.records.request import parse_request
from batchrun.transport.answer import HttpAnswer, read_answer
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.failures import RULES, Decision, Kind, classify
from batchrun.transport.http import HttpTransport
from batchrun.transport.words import is_for_a_while, quotes_request

RELAY = {"x-oneapi-request-id": "2026010203"}
URL = "http://127.0.0.1:9/v1/responses"
REPLY = Reply(200, b"{}", None, "succeeded", None, None)

TRANSIENT = Decision(Kind.TRANSIENT)
OUTAGE = Decision(Kind.TRANSIENT, is_outage_signal=True)
TRANSIENT_3 = Decision(Kind.TRANSIENT, max_attempts=3)
OUTAGE_3 = Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3)
OUTAGE_OR_START = Decision(Kind.TRANSIENT, is_outage_signal=True, stops_fresh_job=True)
OUTAGE_3_OR_START = Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3, stops_fresh_job=True)
THROTTLE = Decision(Kind.THROTTLE)
FATAL = Decision(Kind.FATAL)
FATAL_OR_START = Decision(Kind.FATAL, stops_fresh_job=True)
STOP = Decision(Kind.STOP)


def answered(status: int, body: Any = None, headers: dict[str, str] | None = None) -> Failure:
    """The failure that an answer amounts to; `body` is bytes as they are, or an error's fields."""
    raw = body if isinstance(body, bytes) else json.dumps({"error": body or {}}).encode()
    failure = read_answer(HttpAnswer(status, headers or {}, raw))
    assert isinstance(failure, Failure)
    return failure


def official(code: str | None, message: str = "m", type_: str = "invalid_request_error") -> dict[str, Any]:
    return {"message": message, "type": type_, "param": None, "code": code}


def new_api(code: str = "", message: str = "m", type_: str = "new_api_error") -> dict[str, Any]:
    return {"message": message, "type": type_, "param": "", "code": code}


def failed_response(code: str | None) -> bytes:
    error = None if code is None else {"code": code, "message": "m"}
    return json.dumps({"id": "r", "object": "response", "status": "failed", "error": error, "output": []}).encode()


NGINX = b"<html><head><title>502 Bad Gateway</title></head></html>"
CHALLENGE = b"<!DOCTYPE html><html><head><title>Just a moment...</title></head></html>"
TOO_FAST = "Rate limit reached for gpt-4.1 on requests per min (RPM): Limit 3. Please try again in 20s."
TOO_LARGE = "Request too large for gpt-4.1 on tokens per min (TPM): Limit 30000, Requested 80000."
HELD = "预扣费额度失败, 用户剩余额度: ＄0.1, 需要预扣费额度: ＄0.2"
MANY = "您已达到总请求数限制：3分钟内最多请求1000次，包括失败次数，请检查您的请求是否正确"
SATURATED = "当前分组上游负载已饱和，请稍后再试"

BAD_KEY = [  # Gemini, OpenAI, Moonshot, Zhipu
    "API key not valid. Please pass a valid API key.",
    "API key expired. Please renew the API key.",
    "Incorrect API key provided: sk-***.",
    "Invalid api_key",
    "ApiKey无效",
    "密钥已过期",
]
NO_MODEL = [  # vLLM, OpenAI, LiteLLM, Ollama, DeepSeek, SiliconFlow, Volcengine, Gemini, OpenRouter, Mistral, Zhipu
    "The model `x` does not exist.",
    "The model `x-1` does not exist or you do not have access to it.",
    "/responses: Invalid model name passed in model=x. Call `/v1/models` to view available models for your key.",
    'model "x:1b" not found, try pulling it first',
    "Model Not Exist",
    "Model does not exist. Please check it carefully.",
    "The model or endpoint ep-1 does not exist or you do not have access to it.",
    "models/x is not found for API version v1beta, or is not supported for generateContent.",
    "x/y is not a valid model ID",
    "Invalid model: x",
    "模型不存在，请检查模型代码。",
]

PAID = b'{"input_tokens":100,"output_tokens":5,"total_tokens":105}'

TABLE: list[tuple[str, int, Any, dict[str, str], Decision]] = [
    # the line's own fault
    *((code, 400, official(code), {}, FATAL) for code in ("context_length_exceeded", "missing_required_parameter")),
    *((code, 400, official(code), {}, FATAL) for code in ("unsupported_parameter", "previous_response_not_found")),
    ("bad schema", 400, official(None, "Invalid schema for response_format"), {}, FATAL),
    ("unprocessable", 422, official(None), {}, FATAL),
    ("relay: bad JSON", 400, new_api("", "unexpected end of JSON input"), RELAY, FATAL),
    ("FastAPI detail", 400, b'{"detail":"Unsupported parameter: max_output_tokens"}', {}, FATAL),
    ("conversation_locked", 400, official("conversation_locked", "Please retry in a few seconds."), {}, TRANSIENT),
    ("model_not_found 400", 400, official("model_not_found"), {}, FATAL),
    ("model_not_found 404", 404, official("model_not_found"), {}, FATAL),
    *(
        (f"no model {status}: {text}", status, {"message": text}, {}, FATAL)
        for status in (400, 404)
        for text in NO_MODEL
    ),
    *((f"no model: {code}", 404, official(code), {}, FATAL) for code in ("ModelNotFound", "1211", "20012")),
    ("a file is not found", 404, official(None, "the file of the model's tool was not found"), {}, FATAL_OR_START),
    ("context length at 500", 500, official("context_length_exceeded"), {}, FATAL),
    # keys
    ("invalid key, direct", 401, official("invalid_api_key", "Incorrect API key provided: sk-***."), {}, STOP),
    ("no code, direct", 401, {"message": "You didn't provide an API key."}, {}, STOP),
    ("401 without a body", 401, b"", {}, STOP),
    ("relay: invalid token", 401, new_api("", "无效的令牌"), RELAY, STOP),
    ("relay: exhausted token", 401, new_api("", "该令牌额度已用尽"), RELAY, STOP),
    ("one-api: no code", 401, {"message": "m", "type": "one_api_error"}, RELAY, STOP),
    ("relay: unknown type, its own words", 401, {"message": "Invalid token", "type": "error"}, RELAY, STOP),
    ("relay: channel key", 401, official("invalid_api_key", "Incorrect API key provided"), RELAY, OUTAGE_3_OR_START),
    ("relay: channel key 403", 403, official("invalid_api_key", "Incorrect API key"), RELAY, OUTAGE_3_OR_START),
    *((f"key {status}: {text}", status, {"message": text}, {}, STOP) for status in (200, 400, 403) for text in BAD_KEY),
    *((f"key: {code}", 400, official(code, "m"), {}, STOP) for code in ("invalid_api_key", "API_KEY_INVALID")),
    ("key by type", 403, official(None, "m", "authentication_error"), {}, STOP),
    ("relay: channel key 400", 400, {"message": BAD_KEY[0]}, RELAY, OUTAGE_3_OR_START),
    ("a token that is none of a key", 400, official(None, "Unexpected token in the JSON body"), {}, FATAL),
    ("relay: other channel", 401, {"message": "x", "type": "authentication_error"}, RELAY, OUTAGE_3_OR_START),
    # money
    ("payment required", 402, b"Payment Required", {}, STOP),
    ("403 quota", 403, new_api("insufficient_user_quota", "用户额度不足"), RELAY, STOP),
    ("403 quota held", 403, new_api("insufficient_user_quota", HELD), RELAY, STOP),
    ("403 quota held, no code", 403, new_api("", HELD), RELAY, STOP),
    ("403 token quota", 403, new_api("pre_consume_token_quota_failed", "remain 1, need 2"), RELAY, STOP),
    *(
        (f"429 {code}", 429, official(code, "You exceeded your current quota", code), headers, STOP)
        for code in (
            "insufficient_quota",
            "credit_balance_exhausted",
            "organization_spend_limit_exceeded",
            "project_spend_limit_exceeded",
            "organization_usage_limit_exceeded",
        )
        for headers in ({}, RELAY)
    ),
    ("429 quota by type", 429, official(None, "m", "insufficient_quota"), {}, STOP),
    ("429 quota in Latin-1", 429, b'{"error":{"message":"d\xe9pass\xe9","code":"insufficient_quota"}}', {}, STOP),
    ("LiteLLM budget 400", 400, {"message": "Budget has been exceeded! Current cost: 1", "type": "x"}, {}, STOP),
    ("LiteLLM budget by type", 400, official("400", "No.", "budget_exceeded"), {}, STOP),
    ("LiteLLM budget 429", 429, official(None, "Budget has been exceeded!", "budget_exceeded"), {}, STOP),
    ("DeepSeek balance", 402, {"message": "Insufficient Balance", "code": "invalid_request_error"}, {}, STOP),
    *(
        (f"money words {status}: {text}", status, {"message": text}, {}, STOP)
        for status in (200, 400, 403, 429, 500)
        for text in (
            *("余额不足或无可用资源包,请充值。", "账户已欠费", "该令牌额度已用尽", "免费额度已耗尽", "餘額不足"),
            "Your credit balance is too low to access the Anthropic API.",
            "Insufficient credits. Add more using https://openrouter.example/credits",
            "Sorry, your account balance is insufficient",
            "Your quota is exhausted, please upgrade",
            "You exceeded your current quota, please check your plan and billing details.",
            "Your team has used all available credits or reached its monthly spending limit.",
            "Your newly created team doesn't have any credits yet.",
            "The account is in arrears",
            "Access denied: payment required",
        )
    ),
    *(
        (f"money code {status}: {code}", status, {"code": code, "message": "no"}, {}, STOP)
        for status in (200, 400, 403, 429, 503)
        for code in ("Arrearage", "1113", 1113, "AccountOverdueError", "InsufficientBalance", "QuotaExhausted", 402)
    ),
    ("money by type", 429, official(None, "m", "exceeded_current_quota_error"), {}, STOP),
    ("money in a plain text of a 200", 200, "余额不足".encode(), {}, STOP),
    ("money per minute", 429, {"message": "You exceeded your current quota: 15 requests per minute"}, {}, THROTTLE),
    ("money per minute, Chinese", 400, {"message": "额度不足: 每分钟 60 次"}, {}, THROTTLE),
    ("money with a wait in words", 429, {"message": "You exceeded your current quota. Retry in 9.5s."}, {}, THROTTLE),
    ("money code per minute", 403, official("insufficient_quota", "tokens/min exceeded"), {}, THROTTLE),
    ("402 per minute", 402, {"message": "3 per minute"}, {}, STOP),
    # permissions
    ("country", 403, official("unsupported_country_region_territory", "Country not supported"), {}, STOP),
    ("IP", 403, new_api("access_denied", "您的 IP 不在令牌允许访问的列表中"), RELAY, STOP),
    ("banned", 403, new_api("", "用户已被封禁"), RELAY, STOP),
    ("group", 403, new_api("", "无权访问 vip 分组"), RELAY, STOP),
    ("model for this token", 403, new_api("", "该令牌无权使用模型：gpt-5"), RELAY, FATAL),
    ("model for this project", 403, official(None, "Project does not have access to model gpt-5"), {}, FATAL),
    ("challenge", 403, CHALLENGE, {}, OUTAGE_OR_START),
    ("403 of no known kind", 403, official(None, "no"), {}, FATAL_OR_START),
    # addresses
    ("wrong path", 404, official("", "Invalid URL (POST /v1/v1/responses)"), {}, STOP),
    ("404 page", 404, NGINX, {}, FATAL_OR_START),
    ("405", 405, b"", {}, FATAL_OR_START),
    ("not implemented", 501, official("api_not_implemented", "API not implemented", "x"), RELAY, STOP),
    # by status
    *((f"HTTP {status}", status, b"", {}, OUTAGE) for status in (408, 409, 425)),
    ("409 of the API", 409, official("conflict", "Another request is in progress."), {}, TRANSIENT),
    ("413 page", 413, NGINX, {}, FATAL),
    ("400 page", 400, NGINX, {}, FATAL_OR_START),
    ("413 relay", 413, new_api("read_request_body_failed"), RELAY, FATAL),
    ("redirect", 307, b"", {}, FATAL),
    *((f"HTTP {status}", status, NGINX, {}, OUTAGE) for status in (500, 502, 503, 504, 520, 524, 527, 530)),
    # too fast
    ("429 requests", 429, official("rate_limit_exceeded", TOO_FAST, "requests"), {}, THROTTLE),
    ("429 tokens", 429, official("rate_limit_exceeded", TOO_FAST, "tokens"), {}, THROTTLE),
    ("429 slow_down", 429, official("slow_down"), {}, THROTTLE),
    ("503 slow_down", 503, official("slow_down"), {}, THROTTLE),
    ("429 too large", 429, official("rate_limit_exceeded", TOO_LARGE, "tokens"), {}, FATAL),
    ("429 window", 429, new_api("", MANY), {}, THROTTLE),
    ("429 saturated", 429, {"message": SATURATED, "type": "upstream_error", "code": "429"}, RELAY, OUTAGE),
    ("429 LiteLLM", 429, {"message": "No deployments available for selected model"}, {}, OUTAGE),
    ("429 page", 429, NGINX, {}, THROTTLE),
    ("429 empty", 429, b"", {}, THROTTLE),
    ("too_many_requests", 429, official(None, "m", "too_many_requests"), {}, THROTTLE),
    *(
        (f"rate words {status}: {text}", status, {"message": text}, {}, THROTTLE)
        for status in (200, 400, 403, 500, 503, 504)
        for text in (
            *(
                "您的账户已达到速率限制，请您控制请求频率",
                "当前并发过高",
                "请求过于频繁",
                "触发限流",
                "超过每分钟请求数",
            ),
            "Rate limit exceeded, please retry later",
            "litellm.RateLimitError: Crossed TPM / RPM / Max Parallel Request Limit",
            "Too many requests",
            "Limit of 60 requests per minute reached",
            "Limit: 100000 tokens per min",
            "Concurrency limit reached",
            "Max parallel request limit reached",
        )
    ),
    *(
        (f"rate code {status}: {code}", status, {"code": code, "message": "no"}, {}, THROTTLE)
        for status in (200, 400, 403, 429, 500)
        for code in (
            "1302",
            1302,
            "Throttling.RateQuota",
            "RESOURCE_EXHAUSTED",
            "ModelAccountTpmRateLimitExceeded",
            429,
        )
    ),
    ("rate by type", 200, official(None, "m", "rate_limit_error"), {}, THROTTLE),
    ("rate by OpenAI's type", 200, official(None, "m", "tokens"), {}, THROTTLE),
    ("rate in a page", 503, b"<html><title>Too Many Requests</title></html>", {}, THROTTLE),
    ("rate in a plain text of a 200", 200, b"rate limit exceeded", {}, THROTTLE),
    ("rate in a piece of an answer", 200, b'{"output":"rate limit exceeded', {}, OUTAGE_3),
    *(
        (f"asked to wait: {status}", status, {"message": "Retry after 7 seconds."}, {}, THROTTLE)
        for status in (403, 503)
    ),
    ("asked to wait: 529", 529, {"message": "Try again in 7s."}, {}, THROTTLE),
    ("asked to wait: 502", 502, {"message": "Try again in 7s."}, {}, OUTAGE),
    ("asked to wait, inside", 200, {"code": 503, "message": "Try again in 7s."}, {}, THROTTLE),
    # the status inside a 200
    *((f"200 with {status}", 200, {"code": status, "message": "m"}, {}, OUTAGE) for status in (500, 502, "503", 504)),
    *((f"200 with {status}", 200, {"code": status, "message": "m"}, {}, FATAL) for status in (400, "422", 413)),
    ("200 with 401", 200, {"code": 401, "message": "m"}, {}, STOP),
    ("200 with 404", 200, {"code": 404, "message": "m"}, {}, FATAL_OR_START),
    ("200 with 408", 200, {"code": 408, "message": "m"}, {}, OUTAGE),
    ("200 with no status", 200, {"code": 1234, "message": "m"}, {}, OUTAGE),
    ("200 with 502, paid", 200, b'{"error":{"code":502},"usage":%s}' % PAID, {}, TRANSIENT_3),
    ("200 with an error, paid", 200, b'{"error":"lost","usage":%s}' % PAID, {}, TRANSIENT_3),
    ("200 with 400, paid", 200, b'{"error":{"code":400},"usage":%s}' % PAID, {}, FATAL),
    ("401 with server_error", 401, official(None, "m", "server_error"), {}, STOP),
    # the gateway's own trouble
    ("server_error", 500, official(None, "The server had an error", "server_error"), {}, OUTAGE),
    ("model_error", 500, official(None, "m", "model_error"), {}, OUTAGE),
    *(
        (f"500 {code}", 500, new_api(code), RELAY, FATAL)
        for code in (
            "invalid_request",
            "convert_request_failed",
            "model_price_error",
            "sensitive_words_detected",
            "prompt_blocked",
            "violation_fee.grok.csam",
        )
    ),
    *(
        (f"500 {code}", 500, new_api(code), RELAY, OUTAGE)
        for code in (
            "do_request_failed",
            "read_response_body_failed",
            "bad_response_body",
            "bad_response",
            "empty_response",
            "get_channel_failed",
            "channel:no_available_key",
            "channel:response_time_exceeded",
            "query_data_error",
            "update_data_error",
            "",
        )
    ),
    ("channel at 400", 400, new_api("channel:invalid_key"), RELAY, OUTAGE),
    ("panic", 500, new_api("", "m", "new_api_panic"), RELAY, OUTAGE),
    ("one-api panic", 500, new_api("", "m", "one_api_panic"), RELAY, OUTAGE),
    ("overloaded", 503, official("server_is_overloaded"), {}, OUTAGE),
    ("no channel for the model", 503, new_api("model_not_found"), RELAY, OUTAGE_3),
    ("no channel, older", 503, new_api("", "当前分组 default 下对于模型 x 无可用渠道"), RELAY, OUTAGE),
    ("upstream no JSON 502", 502, new_api("bad_response_status_code", "m", "upstream_error"), RELAY, OUTAGE),
    ("upstream no JSON 400", 400, new_api("bad_response_status_code", "m", "upstream_error"), RELAY, FATAL),
    ("filtered", 500, official("data_inspection_failed"), {}, FATAL),
    ("key not for this model", 401, official("401", "m", "key_model_access_denied"), {}, FATAL_OR_START),
    ("not from here", 400, official("", "User location is not supported", "FAILED_PRECONDITION"), {}, STOP),
    ("account locked", 429, official("1112", "您的账户已被锁定"), {}, STOP),
    # 200s
    ("200 a wrong line", 200, official("InvalidParameter", "m", ""), {}, FATAL),
    ("200 a wrong line, in words", 200, official("2013", "invalid params", ""), {}, FATAL),
    ("200 error by code", 200, official("invalid_prompt"), {}, FATAL),
    ("200 error by type", 200, official(None), {}, FATAL),
    ("200 error: server", 200, official("server_error", "m", "server_error"), {}, OUTAGE),
    ("200 error: rate", 200, official("rate_limit_exceeded", TOO_FAST, "requests"), {}, THROTTLE),
    ("200 error: quota", 200, official("insufficient_quota"), {}, STOP),
    ("200 error: unknown", 200, official("never_seen", "m", "odd"), {}, OUTAGE),
    ("200 error in words", 200, b'{"error":"out of order"}', {}, OUTAGE),
    ("failed: server_error", 200, failed_response("server_error"), {}, OUTAGE),
    ("failed: rate", 200, failed_response("rate_limit_exceeded"), {}, THROTTLE),
    ("failed: vector store", 200, failed_response("vector_store_timeout"), {}, TRANSIENT),
    ("failed: bio_policy", 200, failed_response("bio_policy"), {}, FATAL),
    ("failed: any other", 200, failed_response("never_seen"), {}, FATAL),
    ("failed: no reason", 200, failed_response(None), {}, OUTAGE),
    *((status, 200, json.dumps({"status": status}).encode(), {}, FATAL) for status in ("queued", "in_progress")),
    ("cancelled", 200, b'{"status":"cancelled"}', {}, FATAL),
    ("unknown status", 200, b'{"status":"resting"}', {}, OUTAGE),
    ("200 empty", 200, b"", {}, OUTAGE_3),
    ("200 HTML", 200, NGINX, {}, OUTAGE_3_OR_START),
    ("200 list", 200, b"[]", {}, OUTAGE_3),
    ("200 cut", 200, b'{"output":[', {}, OUTAGE_3),
]


@pytest.mark.parametrize(
    ("status", "body", "headers", "decision"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_an_answer_is_decided_by_code_then_type_then_status(
    status: int, body: Any, headers: dict[str, str], decision: Decision
) -> None:
    assert classify(answered(status, body, headers)) == decision


NETWORK = [
    ("connect_failed", OUTAGE),
    ("connect_timeout", OUTAGE),
    ("connection_lost", OUTAGE),
    ("dns_failed", OUTAGE_OR_START),
    ("certificate_refused", STOP),
    ("attempt_timeout", OUTAGE),
    ("idle_timeout", OUTAGE),
    ("bad_http", OUTAGE),
    ("stream_truncated", OUTAGE),
    ("response_too_large", FATAL),
    ("redirected", FATAL),
    ("stream_truncated", OUTAGE),
]


@pytest.mark.parametrize(("code", "decision"), NETWORK)
def test_what_the_network_does_is_decided_by_our_own_codes(code: str, decision: Decision) -> None:
    assert classify(Failure(code, "m")) == decision


MONEY_AND_RATES = [
    ("insufficient balance", Kind.STOP),
    ("余额不足", Kind.STOP),
    ("Rate limit", Kind.THROTTLE),
    ("并发", Kind.THROTTLE),
]
KEYS = [("Invalid API key", Kind.STOP), ("密钥无效", Kind.STOP)]


@pytest.mark.parametrize(
    ("status", "text", "decided"),
    [
        *((status, text, kind) for status in (400, 403, 500) for text, kind in MONEY_AND_RATES),
        *((400, text, kind) for text, kind in KEYS),
    ],
)
def test_words_that_stand_in_the_request_do_not_count(status: int, text: str, decided: Kind) -> None:
    failure = answered(status, {"message": f"cannot read: {text}"})
    assert classify(failure).kind is decided
    sent: list[Any] = [text, text.upper(), f'say "{text}" twice']
    bodies = [json.dumps({"input": each}, ensure_ascii=ascii).encode() for each in sent for ascii in (True, False)]
    for body in bodies:
        assert quotes_request(failure, body)
        assert classify(replace(failure, quotes_request=True)).kind is not decided
    assert not quotes_request(failure, b'{"input":"balance: insufficient, rate: limited"}')
    assert not quotes_request(answered(status, {"message": "cannot read"}), bodies[0])
    both = answered(status, {"message": f"cannot read: {text}. The account is in arrears."})
    assert not quotes_request(both, bodies[0]), "not all that it says is in the request"


def test_a_429_is_a_throttle_whatever_it_quotes() -> None:
    failure = answered(429, {"message": "cannot take: rate limit"})
    assert not quotes_request(failure, b"rate limit")
    assert classify(failure).kind is Kind.THROTTLE
    failure = answered(429, {"message": "cannot take: insufficient balance"})
    assert classify(replace(failure, quotes_request=quotes_request(failure, b"insufficient balance"))) == THROTTLE


def test_every_rule_is_the_first_that_fits_some_failure() -> None:
    """A rule that nothing reaches would be a wrong one above it."""
    reached = {
        id(next(rule for rule in RULES if rule.fits(failure)))
        for failure in [
            *(answered(*row[1:4]) for row in TABLE),
            *(Failure(code, "m") for code, _ in NETWORK),
        ]
    }
    unreached = [rule for rule in RULES if id(rule) not in reached]
    assert unreached == []


@given(
    st.text(),
    st.text(),
    st.text(),
    st.none() | st.integers(100, 999),
    st.booleans(),
)
def test_every_failure_has_a_decision(code: str, message: str, type_: str, status: int | None, relay: bool) -> None:
    decision = classify(Failure(code, message, status, type_, from_relay=relay))
    assert decision.max_attempts is None or decision.max_attempts > 0


@given(
    st.sampled_from(["insufficient_quota", "insufficient_user_quota"]), st.integers(200, 599), st.booleans(), st.text()
)
def test_no_status_makes_an_empty_account_worth_waiting_for(code: str, status: int, relay: bool, message: str) -> None:
    failure = Failure(code, message, status, from_relay=relay)
    assume(not is_for_a_while(failure))  # "per minute" tells of a rate, whatever the code says
    assert classify(failure).kind is Kind.STOP


# ------------------------------------------------------------------------------------------------ waiting


def waits_s(count: int, policy: RetryPolicy, attempts: int, asked_s: float | None = None) -> list[list[float]]:
    """By attempt, the waits of many lines that fail over and over."""
    return [[policy.wait_s(attempt, asked_s) for _ in range(count)] for attempt in range(1, attempts)]


def test_the_backoff_is_full_jitter_up_to_a_doubling_bound() -> None:
    """Spread over the whole of it, also at the cap: there lines must not move as a herd."""
    for waits, bound in zip(waits_s(300, RetryPolicy(8, 1.0, 20.0), 8), [1, 2, 4, 8, 16, 20, 20], strict=True):
        assert 0 <= min(waits) < bound * 0.1
        assert bound * 0.9 < max(waits) <= bound
        assert 0.4 < sum(waits) / len(waits) / bound < 0.6
        assert len(set(waits)) > 290


@pytest.mark.parametrize(("asked_s", "least_s"), [(30.0, 30.0), (0.0, 0.0), (99999999999.0, 300.0)])
def test_retry_after_is_the_least_wait_unless_it_is_absurd(asked_s: float, least_s: float) -> None:
    for waits in waits_s(100, RetryPolicy(4), 4, asked_s):
        assert least_s <= min(waits)
        assert max(waits) <= max(least_s, 4.0)


def test_retry_after_does_not_cut_the_jitter_short() -> None:
    late = waits_s(200, RetryPolicy(6), 6, 1.0)[-1]
    assert min(late) == 1.0
    assert max(late) > 10


def test_a_throttled_line_waits_as_long_as_it_was_asked_to_and_else_a_few_seconds() -> None:
    policy = RetryPolicy()
    assert all(policy.throttle_wait_s(nth, 60.0) == 60.0 for nth in range(1, 20))
    assert policy.throttle_wait_s(1, 99999999.0) == 120.0
    assert max(policy.throttle_wait_s(19, None) for _ in range(200)) <= 8.0


# ------------------------------------------------------------------ over aiohttp's client, replies prepared

RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "status": "completed",
    "model": "gpt-4.1",
    "output": [{"type": "message"}],
}
SLOW_DOWN = {"error": official("rate_limit_exceeded", TOO_FAST, "requests")}
LINE = parse_request(b'{"model":"gpt-4.1","input":"hi"}', 1)
Send = Callable[[], Awaitable[Reply | Failure]]


async def sent(replies: aioresponses, policy: RetryPolicy = RetryPolicy()) -> tuple[Reply | Failure, list[float], int]:
    """One line sent as often as a peerless one is: what came of it, the waits, the requests made."""
    waits: list[float] = []
    async with HttpTransport(Endpoint("http://127.0.0.1:9/v1", "sk-test"), Timeouts(), 1 << 26) as transport:
        while isinstance(outcome := await transport.send(LINE), Failure):
            decision, tried = classify(outcome), len(waits) + 1
            if decision.kind is not Kind.TRANSIENT or tried >= (decision.max_attempts or policy.chances.usual):
                break
            waits.append(policy.wait_s(tried, outcome.retry_after_s))
    return outcome, waits, sum(map(len, replies.requests.values()))


async def test_503_then_200(replies: aioresponses) -> None:
    replies.post(URL, status=503, payload={"error": official("server_is_overloaded")})
    replies.post(URL, status=502, body=NGINX, content_type="text/html", headers={"Retry-After": "7"})
    replies.post(URL, payload=RESPONSE)
    outcome, waits, requests = await sent(replies)
    assert isinstance(outcome, Reply)
    assert json.loads(outcome.body) == RESPONSE
    assert requests == 3
    assert waits[0] <= 1.0
    assert waits[1] == 7.0


async def test_a_reset_a_timeout_and_a_torn_body_then_200(replies: aioresponses) -> None:
    replies.post(URL, exception=aiohttp.ServerDisconnectedError())
    replies.post(URL, exception=ConnectionResetError(104, "Connection reset by peer"))
    replies.post(URL, exception=TimeoutError())
    replies.post(URL, body=json.dumps(RESPONSE)[:-9])
    replies.post(URL, payload=RESPONSE)
    outcome, _, requests = await sent(replies, RetryPolicy(max_attempts=9))
    assert isinstance(outcome, Failure), "a torn body may have been billed: three attempts are enough for it"
    assert (outcome.code, requests) == ("invalid_json", 4)


async def test_attempts_used_up(replies: aioresponses) -> None:
    replies.post(URL, status=500, payload={"error": official(None, "m", "server_error")}, repeat=True)
    outcome, waits, requests = await sent(replies)
    assert isinstance(outcome, Failure)
    assert (outcome.code, outcome.status, requests, len(waits)) == ("server_error", 500, 6, 5)


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, official("context_length_exceeded"), Kind.FATAL),
        (401, official("invalid_api_key"), Kind.STOP),
        (429, official("insufficient_quota"), Kind.STOP),
        (429, SLOW_DOWN["error"], Kind.THROTTLE),
        (500, new_api("sensitive_words_detected"), Kind.FATAL),
    ],
)
async def test_what_is_not_transient_is_sent_once(
    replies: aioresponses, status: int, error: dict[str, Any], kind: Kind
) -> None:
    replies.post(URL, status=status, payload={"error": error}, repeat=True)
    outcome, waits, requests = await sent(replies)
    assert isinstance(outcome, Failure)
    assert (classify(outcome).kind, requests, waits) == (kind, 1, [])


async def test_a_transient_failure_that_turns_fatal_ends_there(replies: aioresponses) -> None:
    replies.post(URL, status=502, body=NGINX)
    replies.post(URL, status=400, payload={"error": official("invalid_prompt")})
    replies.post(URL, payload=RESPONSE)
    outcome, _, requests = await sent(replies)
    assert isinstance(outcome, Failure)
    assert (outcome.code, requests) == ("invalid_prompt", 2)


async def test_a_throttle_says_how_long(replies: aioresponses) -> None:
    for headers in ({"Retry-After": "3"}, {"retry-after-ms": "3000"}, {"Retry-After": "nonsense"}):
        replies.post(URL, status=429, payload=SLOW_DOWN, headers=headers)
    waits = [
        outcome.retry_after_s for outcome, *_ in [await sent(replies) for _ in range(3)] if isinstance(outcome, Failure)
    ]
    assert waits == [3.0, 3.0, 20.0]


async def test_a_large_prepared_reply_arrives_whole(replies: aioresponses) -> None:
    """The repair of aioresponses holds beyond the 64 KiB at which it broke."""
    large = RESPONSE | {"output": [{"type": "message", "content": [{"type": "output_text", "text": "x" * (2 << 20)}]}]}
    replies.post(URL, payload=large)
    outcome, _, _ = await sent(replies)
    assert isinstance(outcome, Reply)
    assert json.loads(outcome.body) == large


async def test_each_attempt_sends_the_same_bytes(replies: aioresponses) -> None:
    replies.post(URL, status=502, repeat=5)
    replies.post(URL, payload=RESPONSE)
    await sent(replies)
    (calls,) = replies.requests.values()
    assert [call.kwargs["data"] for call in calls] == [LINE.body] * 6
    assert not any(call.kwargs["allow_redirects"] for call in calls)
