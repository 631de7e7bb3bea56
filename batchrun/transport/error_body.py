"""What a gateway says besides its answers: the error in a body, in any dialect, how long to wait, and its rate limits.

Sources: OpenAI's API reference and Python client, the errors of new-api, one-api, LiteLLM and FastAPI;
RFC 9110 §10.2.3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any

from batchrun.records.outcome import RateHeaders

NAME_LIMIT = 100  # characters of a code or type that are worth keeping


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The error in a body; a field that the body does not have is ""."""

    code: str = ""
    type: str = ""
    message: str = ""


def read_error_body(decoded: Any) -> ErrorBody:
    """Find the error in a decoded body: {"error": {…}}, {"error": "…"}, {"detail": …}, {"response": {"error": …}}, …"""
    if not isinstance(decoded, dict):
        return ErrorBody(message=_words(decoded))
    nested = decoded.get("response")
    if "error" not in decoded and isinstance(nested, dict) and nested.get("error"):
        return read_error_body(nested)
    error = decoded.get("error") or decoded.get("detail") or decoded
    if not isinstance(error, dict):
        return ErrorBody(message=_without_request_id(_words(error)))
    message = next((error[key] for key in ("message", "msg", "err", "error_msg") if error.get(key)), "")
    code = error.get("code") or ""
    return ErrorBody(
        code=plain(str(code))[:NAME_LIMIT] if type(code) in (str, int, float) else "",
        type=plain(error["type"])[:NAME_LIMIT] if isinstance(error.get("type"), str) else "",
        message=_without_request_id(_words(message)),
    )


def plain(text: str) -> str:
    """Text that can be encoded: half a surrogate pair, as in nonstandard JSON or a broken header, becomes "?"."""
    return text.encode(errors="replace").decode()


def _words(value: Any) -> str:
    return plain(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":")))


def _without_request_id(message: str) -> str:
    """A message without the relay's request id, so that equal errors are equal."""
    return re.sub(r"\s*\(request id: [^)]*\)\s*$", "", message).strip()


_WAIT = re.compile(
    r"(?:try again in|retry after) (?:(\d{1,4})h)?(?:(\d{1,4})m)?(\d{1,9}(?:\.\d{1,9})?) ?(ms|s|seconds?)\b",
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


def read_rate_headers(headers: Mapping[str, str]) -> RateHeaders | None:
    """Read the `x-ratelimit-*` headers; None without any. Resets are durations (`6m0s`, `120ms`) or seconds."""
    if "x-ratelimit-limit-requests" not in headers and "x-ratelimit-limit-tokens" not in headers:
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
