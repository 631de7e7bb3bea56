"""What became of one attempt: a `Reply`, whole and paid for, or a `Failure` with a code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import msgspec

from batchrun.records.usage import Usage

Outcome = Literal["succeeded", "refused", "incomplete", "empty", "invalid", "failed"]


@dataclass(frozen=True, slots=True)
class RateHeaders:
    """`x-ratelimit-*` of one answer, as they came; None where absent or unreadable. Reset is seconds."""

    limit_requests: float | None = None
    remaining_requests: float | None = None
    reset_requests_s: float | None = None
    limit_tokens: float | None = None
    remaining_tokens: float | None = None
    reset_tokens_s: float | None = None


class Timing(msgspec.Struct, frozen=True, gc=False):
    """Seconds since the request was sent; None where the answer was not a stream, or never got there."""

    total_s: float
    first_event_s: float | None = None
    first_text_s: float | None = None


_NOT_TIMED = Timing(0.0)


class Reply(msgspec.Struct, gc=False):
    """A whole answer. `body` is one line of valid JSON; `error_code` is set where it is no clean success."""

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
    schema_error: str | None = None


class Failure(msgspec.Struct, frozen=True, gc=False):
    """An attempt without a whole answer.

    `code` is the gateway's `error.code` or one of batchrun's own; `status` is None where no HTTP answer came.
    `from_relay` tells a relay's own errors (its header is there). `may_be_billed`: the request had been sent.
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


def describe(failure: Failure) -> str:
    """A failure in one line."""
    status = f"HTTP {failure.status} " if failure.status else ""
    return f"{status}{failure.code}: {' '.join(failure.message.split())}"
