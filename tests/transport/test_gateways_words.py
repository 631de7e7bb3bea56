"""What gateways write about rates, money, accounts and filters, in their own words and envelopes, is understood."""

from __future__ import annotations

import json
from typing import Any

import pytest

from batchrun.records.outcome import Failure
from batchrun.transport.answer import HttpAnswer, read_answer
from batchrun.transport.failures import Kind, classify
from batchrun.transport.words import quotes_request

STOP, THROTTLE, FATAL, TRANSIENT = Kind.STOP, Kind.THROTTLE, Kind.FATAL, Kind.TRANSIENT


def failed(status: int, body: Any, headers: dict[str, str] | None = None) -> Failure:
    raw = body.encode() if isinstance(body, str) else json.dumps(body, ensure_ascii=False).encode()
    failure = read_answer(HttpAnswer(status, headers or {}, raw))
    assert isinstance(failure, Failure)
    return failure


def error(message: str, **fields: object) -> dict[str, Any]:
    return {"error": {"message": message, **fields}}


GEMINI = {
    "code": 429,
    "message": "You exceeded your current quota, please check your plan and billing details.",
    "status": "RESOURCE_EXHAUSTED",
    "details": [
        {"@type": "type.googleapis.com/google.rpc.QuotaFailure", "violations": [{"quotaId": "PerMinute"}]},
        {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "35.5s"},
    ],
}
XML = "<?xml version='1.0'?>\n<Error><Code>{}</Code><Message>{}</Message></Error>"


@pytest.mark.parametrize(
    ("status", "body", "kind"),
    [
        # money
        (400, error("You have reached your specified API usage limits. You will regain access on 1 May."), STOP),
        (403, error("Credit limit exceeded, please upgrade your plan", type="credit_limit"), STOP),
        (429, error("You have exceeded your monthly included credits for Inference Providers"), STOP),
        (429, {"message": "You are using a Trial key, which is limited to 1000 API calls / month."}, STOP),
        (429, {"message": "You are using a Trial key, which is limited to 40 API calls / minute."}, THROTTLE),
        (429, error("the model service has been paused", code="SetLimitExceeded"), STOP),
        (403, error("Your free trial has ended."), STOP),
        (403, error("Please add a payment method to continue"), STOP),
        (403, error("该账号未开通后付费"), STOP),
        (
            429,
            error("Allocated quota exceeded, please increase your quota limit.", code="insufficient_quota"),
            THROTTLE,
        ),
        (429, [{"error": GEMINI}], THROTTLE),
        # rates
        (400, {"message": "Too many tokens, please wait before trying again."}, THROTTLE),
        (400, error("Too many tokens: 9000 > 8192"), FATAL),
        (498, error("Flex tier capacity exceeded for this model.", code="capacity_exceeded"), THROTTLE),
        (400, {"message": "超过RPM限制"}, THROTTLE),
        (499, error("client closed"), TRANSIENT),
        # the key and the account
        (200, {"base_resp": {"status_code": 1004, "status_msg": "login fail: carry the API secret key"}}, STOP),
        (200, {"error_code": 111, "error_msg": "Access token expired"}, STOP),
        (400, error("Organization has been restricted.", code="organization_restricted"), STOP),
        (403, error("This organization has been disabled.", type="permission_error"), STOP),
        (400, error("User location is not supported for the API use.", status="FAILED_PRECONDITION"), STOP),
        (429, error("您的账户已被锁定，请联系客服解锁。", code="1112"), STOP),
        (429, error("您的账户当前处于非激活状态", code="1110"), STOP),
        (403, {"message": "账号已被停用"}, STOP),
        (401, error("key not allowed to access model", type="key_model_access_denied", code="401"), FATAL),
        # filters, and lines that are wrong
        (403, error('Your input was flagged for "violence". No credits were charged.', code=403), FATAL),
        (500, error("Output data may contain inappropriate content.", code="data_inspection_failed"), FATAL),
        (500, error("系统检测到输入或生成内容可能包含不安全或敏感内容", code="1301"), FATAL),
        (200, {"base_resp": {"status_code": 1027, "status_msg": "output new_sensitive"}}, FATAL),
        (200, {"base_resp": {"status_code": 2013, "status_msg": "invalid params, context window exceeds"}}, FATAL),
        (200, {"code": "InvalidParameter", "message": "Range of input length should be [1, 6000]"}, FATAL),
        # envelopes
        (200, {"Response": {"Error": {"Code": "RequestLimitExceeded", "Message": "m"}}}, THROTTLE),
        (200, {"result": {"error": {"code": 429, "message": "busy"}}}, THROTTLE),
        (429, {"error": {"error": {"message": "m", "code": "insufficient_quota"}}}, STOP),
        (200, {"status": "error", "code": "RATE_LIMITED", "message": "m"}, THROTTLE),
        (200, {"status": 402, "message": "m"}, STOP),
        (503, {"type": "about:blank", "title": "Rate limit exceeded", "detail": "Try later."}, THROTTLE),
        (403, {"type": "about:blank", "title": "Insufficient balance", "detail": "Later"}, STOP),
        (503, XML.format("SlowDown", "Please reduce your request rate."), THROTTLE),
        (403, XML.format("Arrearage", "m"), STOP),
        (200, XML.format("Throttling", "m"), THROTTLE),
    ],
)
def test_what_a_gateway_means_is_understood(status: int, body: Any, kind: Kind) -> None:
    assert classify(failed(status, body)).kind is kind


def test_gemini_says_how_long_to_wait_in_the_details_of_its_error() -> None:
    assert failed(429, [{"error": GEMINI}]).retry_after_s == 35.5
    assert failed(429, [{"error": GEMINI | {"details": [3, {"retryDelay": 5}]}}]).retry_after_s is None


def test_a_problem_is_told_with_its_title() -> None:
    assert failed(503, {"title": "Busy", "status": 503, "detail": "Later"}).message == "Busy: Later"


def test_a_page_is_no_xml_error() -> None:
    assert failed(503, "<html><title>t</title><code>x</code></html>").code == "html_page"


def test_words_about_an_account_do_not_count_where_the_request_has_them() -> None:
    failure = failed(400, error("cannot read: account is suspended"))
    assert classify(failure).kind is STOP
    assert quotes_request(failure, b'{"input":"my account is suspended"}')
