"""What a gateway says besides its answers: the error in a body, in any dialect, how long to wait, and its rate limits.

Sources: OpenAI's API reference and Python client, the errors of new-api, one-api, LiteLLM, OpenRouter, FastAPI, Gemini,
MiniMax, Zhipu, Tencent Cloud and Apigee; RFC 9110 §10.2.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from multidict import istr

from batchrun.records.outcome import RateHeaders

NAME_LIMIT = 100  # characters of a code or type that are worth keeping


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in a body; a field that the body does not have is "", and `status` None.

    `status`: the HTTP status that the body itself names, as its code or beside it. `wait_s`: the seconds it asks for.
    """

    code: str = ""
    type: str = ""
    message: str = ""
    status: int | None = None
    wait_s: float | None = None


# The names that gateways have for one thing, the most usual first.
_ENVELOPES = ("error", "detail", "base_resp", "errors", "fault", "Error")
_MESSAGES = (
    *("message", "msg", "err", "error_msg", "status_msg", "errmsg", "error_message", "errorMessage", "Message"),
    *("error_description", "faultstring", "title"),
)
_AROUND = ("response", "Response", "result", "data")  # members that an error may stand in
_CODES = ("code", "status_code", "error_code", "errorCode", "errcode", "Code", "__type")
_STATUSES = (*_CODES, "status", "statusCode", "http_status")
_ALL_IS_WELL = {"", "0", "200", "20000", "ok", "success", "succeeded", "none"}  # as a code


def read_error_body(decoded: Any) -> ErrorBody:
    """Find the error in a decoded body: {"error": {…}}, {"error": "…"}, {"detail": …}, {"response": {"error": …}}, …"""
    if isinstance(decoded, list) and decoded and isinstance(decoded[0], dict) and "loc" not in decoded[0]:
        return read_error_body(decoded[0])
    if not isinstance(decoded, dict):
        return ErrorBody(message=_words(decoded))
    if (nested := _nested(decoded)) is not None:
        return read_error_body(nested)
    error = next((decoded[name] for name in _ENVELOPES if decoded.get(name)), decoded)
    if isinstance(error, list) and error and isinstance(error[0], dict) and "loc" not in error[0]:  # FastAPI's has one
        error = error[0]
    if not isinstance(error, dict):
        return _read_words(_words(error), decoded)
    if error.get("error") and not _first(error, _MESSAGES):  # a relay that wraps what another one has wrapped
        return read_error_body(error)
    code = _first(error, _CODES)
    kind, grpc = error.get("type"), error.get("status")  # such as RESOURCE_EXHAUSTED
    return ErrorBody(
        code=_name(code) if type(code) in (str, int, float) else "",
        type=_name(kind) if isinstance(kind, str) else grpc if isinstance(grpc, str) and grpc.isupper() else "",
        message=_without_request_id(_message(error)),
        status=_status(error) or _status(decoded),
        wait_s=_asked_in_details(error),
    )


def _nested(decoded: dict[Any, Any]) -> dict[Any, Any] | None:
    """The member of a body without an error that holds one."""
    if decoded.get("error"):
        return None
    members = (decoded.get(name) for name in _AROUND)
    return next((each for each in members if isinstance(each, dict) and (each.get("error") or each.get("Error"))), None)


def _asked_in_details(error: dict[Any, Any]) -> float | None:
    """The `retryDelay` of Gemini's `RetryInfo`, in seconds."""
    details = error.get("details")
    for detail in details if isinstance(details, list) else ():
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and (seconds := _duration_s(delay)) is not None:
            return seconds
    return None


_XML_CODE = re.compile(r"<Code>\s*([^<]{1,200}?)\s*</Code>", re.IGNORECASE)
_XML_MESSAGE = re.compile(r"<Message>\s*([^<]{1,2000}?)\s*</Message>", re.IGNORECASE)


def read_xml_error(text: str) -> ErrorBody | None:
    """The error in XML, as clouds and their gateways write it; None where there is none. HTML has no such elements."""
    message = _XML_MESSAGE.search(text)
    if message is None:
        return None
    code = _XML_CODE.search(text)
    return ErrorBody(_name(code[1]) if code else "", message=_without_request_id(_words(message[1])))


def is_none(error: Any) -> bool:
    """Whether an error beside an answer is none: relays write one with nothing in it, or one that says "success"."""
    if not isinstance(error, dict):
        return False
    code = error.get("code")
    return not any(error.values()) or (code not in (None, "") and str(code).lower() in _ALL_IS_WELL)


def says_error(decoded: Any) -> bool:
    """Whether a body that holds no answer is an error, in an envelope of any kind."""
    if isinstance(decoded, list):
        return bool(decoded) and isinstance(decoded[0], dict) and says_error(decoded[0])
    if not isinstance(decoded, dict):
        return False
    if any(decoded.get(name) for name in _ENVELOPES) or _nested(decoded) is not None:
        return True
    code = next((decoded[name] for name in _CODES if decoded.get(name) is not None), None)
    if code is not None:
        return str(code).lower() not in _ALL_IS_WELL
    return any(isinstance(decoded.get(name), str) for name in _MESSAGES)


def _read_words(words: str, beside: dict[Any, Any]) -> ErrorBody:
    """An error that is a text: a message, or a name of which the message stands beside it."""
    words, message = _without_request_id(words), _without_request_id(_message(beside))
    code = _first(beside, _CODES)
    name = _name(code) if type(code) in (str, int) else ""
    if isinstance(beside.get("title"), str) and beside["title"] == message:  # RFC 9457
        words, message = message, words
    elif message and not name and " " not in words:
        name, words = words[:NAME_LIMIT], ""
    return ErrorBody(name, message=": ".join(text for text in (words, message) if text), status=_status(beside))


def _message(error: dict[Any, Any]) -> str:
    """The words of an error, and those of whom it passes on (OpenRouter: `metadata.raw`)."""
    value = _first(error, _MESSAGES)
    message = "" if value is None else _words(value)
    metadata = error.get("metadata")
    raw = metadata.get("raw") if isinstance(metadata, dict) else None
    return f"{message}: {_words(raw)}" if raw else message


def _first(fields: dict[Any, Any], names: tuple[str, ...]) -> Any:
    """The first member of these names that says something."""
    return next((fields[name] for name in names if fields.get(name)), None)


def _status(error: dict[Any, Any]) -> int | None:
    """The HTTP status of an error that a body names."""
    for name in _STATUSES:
        value = error.get(name)
        text = str(value) if type(value) in (int, str) else ""
        if len(text) == 3 and text.isascii() and text.isdecimal() and 400 <= int(text) < 600:
            return int(text)
    return None


def _name(value: Any) -> str:
    return plain(str(value))[:NAME_LIMIT]


def plain(text: str) -> str:
    """Text that can be encoded: half a surrogate pair, as in nonstandard JSON or a broken header, becomes "?"."""
    return text.encode(errors="replace").decode()


def _words(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _without_request_id(message: str) -> str:
    """A message without the relay's request id, so that equal errors are equal."""
    return re.sub(r"\s*\(request id: [^)]*\)\s*$", "", message).strip()


_WAIT = re.compile(
    r"(?:try again in|retry (?:after|in)) (?:(\d{1,4})h)?(?:(\d{1,4})m)?(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|seconds?)\b",
    re.IGNORECASE,
)
_RELAY_WINDOW = re.compile(r"(\d{1,9})\s*分钟内最多请求")


def asked_wait_s(message: str) -> float | None:
    """Seconds to wait that only the message names: OpenAI's "try again in 6.57s", new-api's window of minutes."""
    if match := _WAIT.search(message):
        hours, minutes, number, unit = match.groups()
        return 3600.0 * int(hours or 0) + 60.0 * int(minutes or 0) + float(number) / (1000 if unit == "ms" else 1)
    if match := _RELAY_WINDOW.search(message):
        return 60.0 * min(int(match[1]), 60)
    return None


def read_retry_after(headers: Mapping[str, str], now_unix: float) -> float | None:
    """Seconds that the gateway asks to wait: `retry-after-ms`, or `Retry-After` in seconds or as an HTTP date.

    `now_unix` is used for dates alone. Negative, NaN and unreadable values count as not given (RFC 9110 §10.2.3).
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value)
        if date.tzinfo is None:  # HTTP's old form names no zone and means this one
            date = date.replace(tzinfo=UTC)
        return max(0.0, date.timestamp() - now_unix)
    except (ValueError, OverflowError):
        return None


# As `istr`, which aiohttp need not fold for each answer.
_LIMIT_REQUESTS, _LIMIT_TOKENS = istr("x-ratelimit-limit-requests"), istr("x-ratelimit-limit-tokens")


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """Read the `x-ratelimit-*` headers; None without any. Resets are durations (`6m0s`, `120ms`) or seconds."""
    if _LIMIT_REQUESTS not in headers and _LIMIT_TOKENS not in headers:
        return None
    prefix = "x-ratelimit-"
    values = []
    for kind in ("requests", "tokens"):
        values += [_number(headers.get(f"{prefix}{name}-{kind}")) for name in ("limit", "remaining")]
        values.append(_duration_s(headers.get(f"{prefix}reset-{kind}")))
    return RateHeaders(*values)


_DURATION = re.compile(r"(?:\d{1,9}(?:\.\d{1,9})?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def _duration_s(value: str | None) -> float | None:
    if value is None or not _DURATION.fullmatch(value):
        return _number(value)
    return sum(float(number) * _UNIT_S[unit] for number, unit in _DURATION_PART.findall(value))


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
