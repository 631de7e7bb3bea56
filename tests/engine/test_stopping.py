"""Why a job stops, in words: each sentence says what is wrong and what to do about that."""

from __future__ import annotations

import pytest

from batchrun.engine.stopping import why_stopped
from batchrun.records.outcome import Failure, FailureCode
from batchrun.transport.failures import Kind, classify

ADDRESS = "https://gateway.example/v1/responses"
KEY = "the gateway refuses the key ({}); check your API key"
MONEY = "the account cannot pay for more ({}); top it up, or use the key of another one"
MONEY_LATER = "the account cannot pay for more ({}, back in 3h 00m 00s); run the same command then, or use another key"
BASE_URL = ADDRESS + " answered {}; is --base-url right?"
ACCESS = "the gateway refuses every request ({}); ask whether this key may use this API and model from here"
PROXY = "the proxy refuses every request ({}); check the login in --proxy"


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (Failure("invalid_api_key", "Incorrect API key", 401), KEY),
        (Failure("error_in_200", "Unauthorized", 200, inner_status=401), KEY),
        (Failure("invalid_api_key", "no such key", 403, from_relay=True), KEY),
        (Failure("http_402", "pay", 402), MONEY),
        (Failure("error_in_200", "pay", 200, inner_status=402), MONEY),
        (Failure("insufficient_quota", "You exceeded your current quota", 429), MONEY),
        (Failure("1113", "余额不足", 400), MONEY),
        (Failure("insufficient_quota", "Daily quota", 429, retry_after_s=10800.0), MONEY_LATER),
        (Failure("http_407", "Proxy Authentication Required", 407), PROXY),
        (Failure("http_404", "Not Found", 404), BASE_URL),
        (Failure("error_in_200", "Not Found", 200, inner_status=404), BASE_URL),
        (Failure("http_405", "Method Not Allowed", 405), BASE_URL),
        (Failure("api_not_implemented", "no", 501), BASE_URL),
        (Failure(FailureCode.HTML_PAGE, "<title>Login</title>", 403), BASE_URL),
        (Failure(FailureCode.HTML_PAGE, "The plain HTTP request was sent to HTTPS port", 400), BASE_URL),
        (Failure(FailureCode.HTML_INSTEAD_OF_JSON, "<title>Login</title>", 200), BASE_URL),
        (Failure("access_denied", "not for you", 403), ACCESS),
        (Failure("unsupported_country_region_territory", "Country not supported", 403), ACCESS),
        (Failure("http_403", "forbidden", 403), ACCESS),
        (Failure(FailureCode.CERTIFICATE_REFUSED, "self-signed"), "{}; is --base-url right?"),
        (Failure(FailureCode.DNS_FAILED, "no address"), "{}; is --base-url right?"),
    ],
    ids=lambda value: f"{value.code}-{value.status_for_rules}" if isinstance(value, Failure) else "",
)
def test_the_sentence_goes_by_what_decides(failure: Failure, sentence: str) -> None:
    decision = classify(failure)
    assert decision.kind is Kind.STOP or decision.stops_fresh_job, "a job stops for it"
    status = f"HTTP {failure.status} " if failure.status else ""
    assert why_stopped(failure, ADDRESS) == sentence.format(f"{status}{failure.code}: {failure.message}")
