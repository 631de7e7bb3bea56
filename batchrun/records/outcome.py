"""The outcome of one attempt: a `Reply`, which is whole and paid for, or a `Failure` with a code.

If the gateway gave a code, that code is used. All other codes are listed here: the members of `FailureCode`, and the
`FAMILIES`, whose second part is known only at run time (`http_503`). Each has a sentence that says when it is given.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, Literal, Self

import msgspec

from batchrun.records.usage import Usage
from batchrun.records.words import printable

Outcome = Literal["succeeded", "refused", "incomplete", "empty", "invalid", "failed"]
ErrorKind = Literal["failed", "refused", "incomplete", "empty", "invalid", "schema_mismatch"]
"""What `--max-errors-on` may count: outcomes of records, and answers that do not fit their schema."""
MISMATCH: ErrorKind = "schema_mismatch"


class FailureCode(StrEnum):
    """batchrun's own codes; `meaning` says when each is given."""

    meaning: str

    def __new__(cls, code: str, meaning: str) -> Self:
        """Make a member from its code and the sentence that says when it is given."""
        member = str.__new__(cls, code)
        member._value_ = code
        member.meaning = meaning
        return member

    # No HTTP answer came, or only a part of one.
    DNS_FAILED = "dns_failed", "the gateway's host name has no address"
    CONNECT_FAILED = "connect_failed", "no connection to the gateway, or to the proxy, could be made"
    CONNECT_TIMEOUT = "connect_timeout", "no connection was made within --connect-timeout"
    CERTIFICATE_REFUSED = "certificate_refused", "the gateway's certificate is not trusted"
    CONNECTION_LOST = "connection_lost", "the connection broke before the answer was complete"
    ATTEMPT_TIMEOUT = "attempt_timeout", "the answer was not whole within --attempt-timeout"
    IDLE_TIMEOUT = "idle_timeout", "a stream sent no event for --idle-timeout"
    BAD_HTTP = "bad_http", "the answer is not valid HTTP"
    RESPONSE_TOO_LARGE = "response_too_large", "the answer is longer than --max-response-bytes"
    # An HTTP answer came, but it is not a response to the request.
    REDIRECTED = "redirected", "the answer is a redirect, which is not followed"
    HTML_PAGE = "html_page", "the answer is a web page with an error status"
    HTML_INSTEAD_OF_JSON = "html_instead_of_json", "the answer is a web page with a status of success"
    EMPTY_BODY = "empty_body", "the answer has a status of success and an empty body"
    NOT_A_RESPONSE = "not_a_response", "the answer has a status of success and JSON that is not a response"
    INVALID_JSON = "invalid_json", "the answer has a status of success and is cut off, or is not JSON"
    STREAM_TRUNCATED = "stream_truncated", "a stream ended before its last event"
    ERROR_IN_200 = "error_in_200", "the answer has a status of success and holds an error without a code"
    RESPONSE_FAILED = "response_failed", "the response's status is `failed`, and it gives no reason"
    # An answer came and was paid for: it is kept, but it does not count as a success.
    EMPTY_OUTPUT = "empty_output", "the answer is whole, but there is no text, refusal, tool call or embedding in it"
    SCHEMA_MISMATCH = "schema_mismatch", "the answer does not fit its JSON schema, also when asked again (`--reask`)"
    NONSTANDARD_JSON = "nonstandard_json", "the answer is whole, but strict JSON readers refuse it; its text is kept"
    # Only in the run log.
    UNSENT = "unsent", "the run stopped before the attempt was sent; it cost nothing"


# Codes whose second part is the gateway's word: their prefix, and when they are given.
FAMILIES = {
    "http_": "the answer has an error status, and no error in its body says more",
    "response_": "the response's status is not a success",
    "incomplete_": "the answer stopped early, for the reason that the gateway gives",
}


def http_code(status: int) -> str:
    """The code of an error status whose body does not say more: `http_503`."""
    return f"http_{status}"


def response_code(status: str) -> str:
    """The code of a response that is not finished or was cancelled: `response_queued`."""
    return f"response_{status}"


def incomplete_code(reason: str) -> str:
    """The code of an answer that stopped early: `incomplete_max_output_tokens`."""
    return f"incomplete_{reason}"


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """The `x-ratelimit-*` headers of one answer; None if absent or unreadable. Resets are in seconds."""

    limit_requests: float | None = None
    remaining_requests: float | None = None
    reset_requests_s: float | None = None
    limit_tokens: float | None = None
    remaining_tokens: float | None = None
    reset_tokens_s: float | None = None


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Seconds since the request was sent; None if the answer was not a stream, or ended before that point."""

    total_s: float
    first_event_s: float | None = None
    first_text_s: float | None = None


_NOT_TIMED = Timing(0.0)


class Reply(msgspec.Struct, gc=False):
    """A whole answer. `body` is one line of valid JSON; `error_code` is set unless the answer is a clean success.

    `service_tier` is the tier that the gateway says it used, `gateway_cost_usd` what it says it charged, in US
    dollars. `schema_error` is the first place where the answer does
    not match the request's JSON Schema. `fenced`: its JSON stands in a code fence.
    """

    status: int
    body: bytes
    request_id: str | None
    outcome: Outcome
    model: str | None
    usage: Usage | None
    error_code: str | None = None
    message: str = ""
    timing: Timing = _NOT_TIMED
    rate: RateHeaders | None = None
    service_tier: str | None = None
    gateway_cost_usd: Decimal | None = None
    schema_error: str | None = None
    fenced: bool = False


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An attempt without a whole answer.

    `code` is the gateway's `error.code`, a `FailureCode`, or one of the `FAMILIES`; `status` is None if no HTTP
    answer came. `from_relay`: a relay answered (it sends a header of its own). `may_be_billed`: the request was
    sent, so it may cost something. `inner_status`: the HTTP status that the body names as its error's.
    `looks_like_api`: a JSON object or list, or an event stream, came; not a web page, plain text or nothing, as from
    what stands in the API's place. `quotes_request`: what it says of money, rates or keys is in the request, too.
    """

    code: str
    message: str
    status: int | None = None
    type: str = ""
    body: bytes | None = None
    request_id: str | None = None
    retry_after_s: float | None = None
    from_relay: bool = False
    may_be_billed: bool = True
    model: str | None = None
    usage: Usage | None = None
    timing: Timing = _NOT_TIMED
    rate: RateHeaders | None = None
    inner_status: int | None = None
    looks_like_api: bool = False
    quotes_request: bool = False

    # What a record says of a reply and cannot say of a failure.
    outcome: ClassVar[Outcome] = "failed"
    service_tier: ClassVar[str | None] = None
    gateway_cost_usd: ClassVar[Decimal | None] = None
    schema_error: ClassVar[str | None] = None
    fenced: ClassVar[bool] = False

    @property
    def error_code(self) -> str:
        """The code, by the name that it has in a reply."""
        return self.code

    @property
    def status_for_rules(self) -> int | None:
        """The status that decides: the inner one of a 2xx, and a 402 or 429 inside any other; else `status`."""
        inner, status = self.inner_status, self.status
        if inner is not None and (inner in (402, 429) or (status is not None and 200 <= status < 300)):
            return inner
        return status


def describe(failure: Failure) -> str:
    """A failure in one line."""
    status = f"HTTP {failure.status} " if failure.status else ""
    return printable(f"{status}{failure.code}: {' '.join(failure.message.split())}")
