"""Errors in every dialect, and every way to say how long to wait."""

from __future__ import annotations

import json
import os
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.transport.error_body import (
    NAME_LIMIT,
    ErrorBody,
    asked_wait_s,
    plain,
    read_error_body,
    read_retry_after,
    says_error,
)

# ------------------------------------------------------------------------------------------------ dialects

OFFICIAL = {
    "message": "Too long.",
    "type": "invalid_request_error",
    "param": "input",
    "code": "context_length_exceeded",
}
TOO_LONG = ErrorBody("context_length_exceeded", "invalid_request_error", "Too long.")


@pytest.mark.parametrize(
    ("decoded", "error"),
    [
        ({"error": OFFICIAL}, TOO_LONG),
        ({"error": {"message": "m", "type": "t", "code": None}}, ErrorBody("", "t", "m")),
        ({"error": {"message": "m", "type": "new_api_error", "code": ""}}, ErrorBody("", "new_api_error", "m")),
        (
            {"error": {"message": "m", "type": "upstream_error", "code": 429}},
            ErrorBody("429", "upstream_error", "m", 429),
        ),
        ({"error": {"message": "m", "code": 0}}, ErrorBody("", "", "m")),
        ({"error": {"message": "m"}, "response": {"error": OFFICIAL}}, ErrorBody("", "", "m")),
        ({"error": {"message": "m", "code": True}}, ErrorBody("", "", "m")),
        ({"error": {"message": "m", "code": {"a": 1}, "type": 7}}, ErrorBody("", "", "m")),
        ({"error": "out of order"}, ErrorBody("", "", "out of order")),
        ({"error": ["a", 1]}, ErrorBody("", "", '["a",1]')),
        ({"error": True}, ErrorBody("", "", "true")),
        ({"detail": "Unsupported parameter: x"}, ErrorBody("", "", "Unsupported parameter: x")),
        ({"detail": [{"loc": ["body"], "msg": "bad"}]}, ErrorBody("", "", '[{"loc":["body"],"msg":"bad"}]')),
        ({"detail": OFFICIAL}, TOO_LONG),
        ({"message": "m"}, ErrorBody("", "", "m")),
        ({"msg": "m", "code": 500}, ErrorBody("500", "", "m", 500)),
        ({"err": "m", "type": "t"}, ErrorBody("", "t", "m")),
        ({"error_msg": "m"}, ErrorBody("", "", "m")),
        ({"error": {"message": {"text": "m"}}}, ErrorBody("", "", '{"text":"m"}')),
        ({"response": {"error": OFFICIAL}}, TOO_LONG),
        ({"response": {"detail": "not looked at"}, "message": "m"}, ErrorBody("", "", "m")),
        ({"error": None, "message": "m"}, ErrorBody("", "", "m")),
        ({"id": "resp_1", "object": "response", "status": "failed", "error": OFFICIAL}, TOO_LONG),
        ({"type": "error", "sequence_number": 1, "error": OFFICIAL}, TOO_LONG),
        # of other makers
        (
            [{"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED"}}],
            ErrorBody("429", "RESOURCE_EXHAUSTED", "m", 429),
        ),
        ({"code": 1113, "msg": "m", "data": None}, ErrorBody("1113", "", "m")),
        ({"object": "error", "message": "m", "type": "t", "code": 40001}, ErrorBody("40001", "t", "m")),
        ({"base_resp": {"status_code": 1008, "status_msg": "m"}, "choices": None}, ErrorBody("1008", "", "m")),
        ({"error_code": 17, "error_msg": "m"}, ErrorBody("17", "", "m")),
        ({"Response": {"Error": {"Code": "LimitExceeded", "Message": "m"}}}, ErrorBody("LimitExceeded", "", "m")),
        ({"success": False, "errors": [{"code": 10000, "message": "m"}]}, ErrorBody("10000", "", "m")),
        ({"fault": {"faultstring": "m", "detail": {"errorcode": "x"}}}, ErrorBody("", "", "m")),
        ({"status": "449", "msg": "m"}, ErrorBody("", "", "m", 449)),
        ({"status": "error", "message": "m"}, ErrorBody("", "", "m")),
        ({"title": "x", "status": 429, "detail": "m"}, ErrorBody("", "", "x: m", 429)),
        ({"error": {"error": {"code": 1, "message": "m"}}}, ErrorBody("1", "", "m")),
        ({"data": {"error": {"code": 1, "message": "m"}}}, ErrorBody("1", "", "m")),
        ({"error": "invalid_grant", "error_description": "m"}, ErrorBody("invalid_grant", "", "m")),
        ({"error": "Too many", "message": "m", "statusCode": 429}, ErrorBody("", "", "Too many: m", 429)),
        ({"error": "Too many", "message": "m", "code": 429}, ErrorBody("429", "", "Too many: m", 429)),
        ({"error": {"code": 402.0, "message": "m"}}, ErrorBody("402.0", "", "m")),
        ({"error": {"message": "m", "metadata": {"raw": "r"}}}, ErrorBody("", "", "m: r")),
        ({"error": {"message": "m", "metadata": {"raw": None}}}, ErrorBody("", "", "m")),
        ({}, ErrorBody()),
        ([], ErrorBody("", "", "[]")),
        ("plain words", ErrorBody("", "", "plain words")),
        (None, ErrorBody("", "", "null")),
        (3, ErrorBody("", "", "3")),
    ],
)
def test_an_error_is_read_whatever_its_dialect(decoded: Any, error: ErrorBody) -> None:
    assert read_error_body(decoded) == error


@pytest.mark.parametrize(
    ("decoded", "says"),
    [
        ({"code": 1113, "msg": "m", "data": None}, True),
        ({"code": "Throttling", "message": "m"}, True),
        ({"message": "Too many requests"}, True),
        ({"detail": "Not Found"}, True),
        ({"base_resp": {"status_code": 1002, "status_msg": "rate limit"}}, True),
        ([{"error": {"code": 429}}], True),
        ([{"message": "m"}], True),
        ({"code": 0, "msg": "ok", "data": {}}, False),
        ({"code": "200", "message": "success"}, False),
        ({"ok": True}, False),
        ({"status": "completed"}, False),
        ({"error": None, "errors": []}, False),
        ({"message": {"role": "assistant"}}, False),
        ([], False),
        (["a"], False),
        ("out of order", False),
        (None, False),
    ],
)
def test_a_body_without_an_answer_is_an_error_where_it_says_one(decoded: Any, says: bool) -> None:
    assert says_error(decoded) is says


def test_equal_errors_of_a_relay_are_equal() -> None:
    texts = [f"bad response (request id: 2026010203{number})" for number in range(3)]
    assert {read_error_body({"error": {"message": text}}).message for text in texts} == {"bad response"}
    assert read_error_body({"error": "(request id: 1) stays"}).message == "(request id: 1) stays"


def test_text_that_cannot_be_encoded_is_made_so() -> None:
    error = read_error_body({"error": {"message": "a\ud800", "code": "c\udfff", "type": "\ud800"}})
    assert error == ErrorBody("c?", "?", "a?")
    assert read_error_body({"detail": ["\ud800"]}).message == '["?"]'
    assert plain("Grüße 😀") == "Grüße 😀"


def test_a_code_is_a_word_and_no_essay() -> None:
    error = read_error_body({"error": {"code": "x" * 5000, "type": "y" * 5000}})
    assert (len(error.code), len(error.type)) == (NAME_LIMIT, NAME_LIMIT)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda values: (
        st.lists(values, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "detail", "message", "msg", "err", "error_msg", "code", "type", "response"]),
            values,
        )
    ),
    max_leaves=15,
)


@given(json_values)
def test_any_json_has_an_error_that_can_be_stored(decoded: Any) -> None:
    error = read_error_body(decoded)
    for text in (error.code, error.type, error.message):
        text.encode()


# ------------------------------------------------------------------------------------------- Retry-After

NOW = 1445412480.0  # Wed, 21 Oct 2015 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        (" 7 ", 7.0),
        ("2.5", 2.5),
        ("86400", 86400.0),
        ("99999999999", 99999999999.0),
        ("-5", None),
        ("nan", None),
        ("inf", None),
        ("-inf", None),
        ("1e400", None),
        ("9" * 5000, None),
        ("", None),
        ("soon", None),
        ("10, 20", None),
        ("20s", None),
        ("Wed, 21 Oct 2015 07:28:10 GMT", 10.0),
        ("Wed, 21 Oct 2015 09:28:10 +0200", 10.0),
        ("Wed, 21 Oct 2015 07:28:10 -0000", 10.0),
        ("Wednesday, 21-Oct-15 07:28:10 GMT", 10.0),
        ("Wed Oct 21 07:28:10 2015", 10.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        ("Wed, 99 Oct 2015 07:28:10 GMT", None),
        ("Wed, 21 Oct 99999 07:28:10 GMT", None),
        ("Wed, 21 Oct 2015", None),
    ],
)
def test_retry_after_in_all_its_forms(value: str, seconds: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    for zone in ("UTC", "Asia/Tokyo", "America/Los_Angeles"):
        monkeypatch.setitem(os.environ, "TZ", zone)
        time.tzset()
        assert read_retry_after({"retry-after": value}, NOW) == seconds
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "2"}, 1.5),
        ({"retry-after-ms": "-1", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "nan", "retry-after": "2"}, 2.0),
        ({"retry-after-ms": "x"}, None),
    ],
)
def test_milliseconds_are_finer_and_win(headers: dict[str, str], seconds: float | None) -> None:
    assert read_retry_after(headers, NOW) == seconds


@given(st.text(), st.floats(0, 1e11))
def test_any_header_is_read_as_seconds_or_nothing(value: str, now_unix: float) -> None:
    for name in ("retry-after", "retry-after-ms"):
        seconds = read_retry_after({name: value}, now_unix)
        assert seconds is None or 0 <= seconds < float("inf")


# ----------------------------------------------------------------------------------- waits in the message


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ("Limit 10000, Used 9000. Please try again in 6.57s. Visit https://…", 6.57),
        ("Please try again in 120ms.", 0.12),
        ("You exceeded your current quota. Please retry in 43.4s.", 43.4),
        ("Please try again in 20s.", 20.0),
        ("Please try again in 6m0s.", 360.0),
        ("Please try again in 1h2m3s.", 3723.0),
        ("No deployments available. Try again in 5 seconds.", 5.0),
        ("Please retry after 26 seconds.", 26.0),
        ("Please retry after 1 second.", 1.0),
        ("您已达到请求数限制：1分钟内最多请求10次", 60.0),
        ("您已达到总请求数限制：3 分钟内最多请求1000次，包括失败次数", 180.0),
        ("99999分钟内最多请求1次", 3600.0),
        ("Please try again in a while.", None),
        ("Please try again in 2 days.", None),
        ("Rate limit reached", None),
        ("", None),
        ("try again in " + "9" * 5000 + "s", None),
        ("try again in " + "9" * 5000 + "m1s", None),
        ("9" * 5000 + "分钟内最多请求1次", 3600.0),
    ],
)
def test_a_wait_is_found_in_the_words(message: str, seconds: float | None) -> None:
    assert asked_wait_s(message) == seconds


@given(st.text() | st.text("try agin 0123456789.hms").map("try again in ".__add__))
def test_any_message_asks_for_a_sound_wait_or_none(message: str) -> None:
    seconds = asked_wait_s(message)
    assert seconds is None or 0 <= seconds < float("inf")
    json.dumps(seconds, allow_nan=False)
