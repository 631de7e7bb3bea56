"""The errors of a gateway, in the words of the official API and of the relays in front of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import orjson

INVALID = "invalid_request_error"


class ApiError(Exception):
    """A refused request: `reply` has status, body and headers; `outcome` is its name in the ledger."""

    def __init__(self, reply: ErrorReply, outcome: str | None = None) -> None:
        super().__init__(reply.status)
        self.reply = reply
        self.outcome = outcome or f"refused {reply.status}"


@dataclass(frozen=True)
class ErrorReply:
    """The bytes of one error answer."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


def envelope(message: str, kind: str, code: str | None = None, param: str | None = None) -> dict[str, Any]:
    """The official error object."""
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def official(
    status: int, message: str, kind: str = INVALID, code: str | None = None, param: str | None = None
) -> ErrorReply:
    """An error in the form of the official API."""
    return ErrorReply(status, orjson.dumps(envelope(message, kind, code, param), option=orjson.OPT_INDENT_2))


def refuse(
    status: int, message: str, code: str | None = None, param: str | None = None, kind: str = INVALID
) -> ApiError:
    """An error in the form of the official API, ready to raise."""
    return ApiError(official(status, message, kind, code, param), code)


def relay(status: int, message: str, kind: str = "new_api_error", code: str | None = "") -> ErrorReply:
    """An error in the form of a relay of the new-api family, with the header that such relays send."""
    request_id = "20260101000000simulated"
    text = f"{message} (request id: {request_id})"
    body = orjson.dumps({"error": {"message": text, "type": kind, "param": "", "code": code}})
    return ErrorReply(status, body, headers={"X-Oneapi-Request-Id": request_id})


def nginx_page(status: int, reason: str) -> ErrorReply:
    """The error page of a reverse proxy."""
    page = (
        f"<html>\r\n<head><title>{status} {reason}</title></head>\r\n<body>\r\n"
        f"<center><h1>{status} {reason}</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )
    return ErrorReply(status, page.encode(), "text/html")


def cloudflare_page(status: int) -> ErrorReply:
    """The error page of a content delivery network that got no answer from its origin."""
    page = f"<!DOCTYPE html>\n<html><head><title>{status}: A timeout or error occurred</title></head></html>\n"
    return ErrorReply(status, page.encode(), "text/html; charset=UTF-8", {"Server": "cloudflare"})


def masked_key(key: str) -> str:
    """A key as an error message may show it: at most its ends, and nothing of a short key."""
    return f"{key[:5]}***{key[-2:]}" if len(key) >= 16 else "***"


def wrong_key(key: str) -> ErrorReply:
    """401 for an unknown key."""
    message = (
        f"Incorrect API key provided: {masked_key(key)}. "
        "You can find your API key at https://platform.openai.com/account/api-keys."
    )
    return official(401, message, code="invalid_api_key")


def missing_key() -> ErrorReply:
    """401 for a request without a key."""
    return official(
        401,
        "You didn't provide an API key. You need to provide your API key in an Authorization header using "
        "Bearer auth (i.e. Authorization: Bearer YOUR_KEY). You can obtain an API key from "
        "https://platform.openai.com/account/api-keys.",
    )


def invalid_url(method: str, path: str) -> ErrorReply:
    """404 for a path that the API does not have."""
    return official(404, f"Invalid URL ({method} {path})")


def unknown_model(model: str) -> ErrorReply:
    """404 for a model that does not exist."""
    message = f"The model `{model}` does not exist or you do not have access to it."
    return official(404, message, code="model_not_found")


def rate_limited(model: str, wait: str) -> ErrorReply:
    """429 in the words of the official rate limits; `wait` is the text of a duration."""
    message = (
        f"Rate limit reached for {model} in organization org-sim on requests per min (RPM): "
        f"Limit 3, Used 3, Requested 1. Please try again in {wait}. "
        "Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    return official(429, message, "requests", "rate_limit_exceeded")


def over_capacity(status: int) -> ErrorReply:
    """429 or 503 for a request above the capacity."""
    if status == 503:
        return official(503, "The server is overloaded. Please try again later.", "server_error", "slow_down")
    return official(429, "Too many requests at once. Please slow down.", "requests", "slow_down")


def request_too_large(model: str, limit: int, requested: int) -> ErrorReply:
    """429 for a request that needs more tokens than a whole minute allows; waiting does not help."""
    message = (
        f"Request too large for {model} in organization org-sim on tokens per min (TPM): "
        f"Limit {limit}, Requested {requested}. The input or output tokens must be reduced in order to run "
        "successfully. Visit https://platform.openai.com/account/rate-limits to learn more."
    )
    return official(429, message, "tokens", "rate_limit_exceeded")


def server_error(status: int = 500) -> ErrorReply:
    """The official server error."""
    message = (
        "The server had an error while processing your request. Sorry about that! Please contact us through "
        "our help center at help.openai.com if the error persists."
    )
    return official(status, message, "server_error", "server_error" if status == 500 else None)


_STATUSES: dict[int, Callable[[], ErrorReply]] = {
    400: lambda: official(400, "Invalid request, as the fault script says.", code="invalid_value"),
    401: lambda: official(401, "Your authentication token is not valid.", code="invalid_api_key"),
    402: lambda: official(402, "Insufficient Balance", "unknown_error", "invalid_request_error"),
    403: lambda: official(
        403,
        "Country, region, or territory not supported",
        "request_forbidden",
        "unsupported_country_region_territory",
    ),
    404: lambda: unknown_model("gpt-simulated"),
    408: lambda: official(408, "Request timed out.", "timeout"),
    409: lambda: official(409, "The request conflicts with another one.", "conflict_error"),
    413: lambda: nginx_page(413, "Request Entity Too Large"),
    422: lambda: official(422, "The request was well-formed but cannot be processed."),
    500: server_error,
    501: lambda: relay(501, "API not implemented", "api_not_implemented", "api_not_implemented"),
    502: lambda: nginx_page(502, "Bad Gateway"),
    503: lambda: official(
        503,
        "The server is currently overloaded. Please try again later.",
        "server_error",
        "server_is_overloaded",
    ),
    504: lambda: nginx_page(504, "Gateway Time-out"),
}

_NAMED: dict[str, Callable[[], ErrorReply]] = {
    "quota": lambda: official(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        "insufficient_quota",
        "insufficient_quota",
    ),
    "badkey": lambda: wrong_key(""),
    "context": lambda: official(
        400,
        "Your input exceeds the context window of this model. Please adjust your input and try again.",
        code="context_length_exceeded",
        param="input",
    ),
    "locked": lambda: official(
        400,
        "Another process is currently operating on this conversation. Please retry in a few seconds.",
        code="conversation_locked",
    ),
    "nomodel": lambda: unknown_model("gpt-simulated"),
    "relaykey": lambda: relay(401, "该令牌额度已用尽"),
    "channelkey": lambda: relay(401, "Incorrect API key provided: ***", INVALID, "invalid_api_key"),
    "balance": lambda: relay(403, "用户额度不足, 剩余额度: $-0.01", code="insufficient_user_quota"),
    "hold": lambda: relay(
        403,
        "预扣费额度失败, 用户剩余额度: $0.40, 需要预扣费额度: $0.52",
        code="insufficient_user_quota",
    ),
    "window": lambda: relay(429, "您已达到请求数限制:1分钟内最多请求3次"),
    "saturated": lambda: relay(429, "当前分组上游负载已饱和,请稍后再试", "one_api_error", None),
    "toolarge": lambda: request_too_large("gpt-simulated", 30_000, 35_000),
    "slow": lambda: over_capacity(429),
    "overloaded": lambda: _STATUSES[503](),
    "nochannel": lambda: relay(
        503, "分组 default 下模型 gpt-simulated 无可用渠道(distributor)", code="model_not_found"
    ),
    "convert": lambda: relay(500, "not implemented", code="convert_request_failed"),
}


def scripted_error(name: str) -> ErrorReply:
    """The error of one word of the fault script: a name in `fault_words.ERROR_WORDS`, or a status."""
    if name in _NAMED:
        return _NAMED[name]()
    status = int(name)
    if status in _STATUSES:
        return _STATUSES[status]()
    if 520 <= status <= 530:
        return cloudflare_page(status)
    if status >= 500:
        return server_error(status)
    return official(status, f"The request failed with status {status}, as the fault script says.")


WEB_APP = (
    b'<!doctype html>\n<html lang="zh">\n<head><meta charset="utf-8"><title>Console</title></head>\n'
    b'<body><noscript>You need to enable JavaScript to run this app.</noscript><div id="root"></div></body>\n'
    b"</html>\n"
)
"""The page that a relay serves with status 200 for every path outside its API."""
