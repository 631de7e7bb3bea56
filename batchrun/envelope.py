"""What a gateway says beside its answers: the error in a body, whatever its dialect, and how long to wait.

Sources: responses-protocol §4 (error envelopes), §5 (Retry-After); RFC 9110 §10.2.3.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

import msgspec


@dataclass(frozen=True, slots=True)
class Envelope:
    """The error that a body names, whatever its dialect; fields it lacks are ""."""

    code: str = ""
    type: str = ""
    message: str = ""


def read_envelope(decoded: Any) -> Envelope:
    """The error in a decoded body: {"error": {…}}, {"error": "…"}, {"detail": …}, {"response": {"error": …}}, …"""
    if not isinstance(decoded, dict):
        return Envelope(message=_words(decoded))
    nested = decoded.get("response")
    if "error" not in decoded and isinstance(nested, dict) and nested.get("error"):
        return read_envelope(nested)
    error = decoded.get("error") or decoded.get("detail") or decoded
    if not isinstance(error, dict):
        return Envelope(message=_clean(_words(error)))
    message = next((error[key] for key in ("message", "msg", "err", "error_msg") if error.get(key)), "")
    code = error.get("code")
    return Envelope(
        code="" if code in (None, "") or isinstance(code, (dict, list)) else str(code),
        type=error["type"] if isinstance(error.get("type"), str) else "",
        message=_clean(_words(message)),
    )


def _words(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode(errors="replace")


def _clean(message: str) -> str:
    """A message without the relay's request id, so that equal errors are equal."""
    return re.sub(r"\s*\(request id: [^)]*\)\s*$", "", message).strip()


_WAIT = re.compile(r"try again in (?:(\d+)m)?(\d+(?:\.\d+)?)(ms|s)\b")
_RELAY_WINDOW = re.compile(r"(\d+)\s*分钟内最多请求")


def asked_wait_s(message: str) -> float | None:
    """A wait that stands only in the message: OpenAI's "try again in 6.57s", new-api's window of minutes."""
    if match := _WAIT.search(message):
        minutes, number, unit = match.groups()
        return 60.0 * int(minutes or 0) + float(number) / (1000 if unit == "ms" else 1)
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
        return max(0.0, parsedate_to_datetime(value).timestamp() - now_unix)
    except (ValueError, OverflowError):
        return None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value is not None else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
