"""What may give a failed line another end: sending it again, or something that must be changed first. Pure.

Only failures that are not retryable ask for a remedy; the others are sent again by the next run anyway.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from enum import Enum

from batchrun.records.outcome import FailureCode, incomplete_code, response_code


class Remedy(Enum):
    """What a failed line needs; the same body gets the same end without it."""

    SEND_AGAIN = "send it again"  # nothing: another try may end otherwise
    CORRECT = "correct the request"
    MORE_OUTPUT = "raise its limit of output tokens"
    LARGER_ANSWERS = "allow larger answers"
    OTHER_ADDRESS = "correct the address"


WAYS_OUT = {
    Remedy.SEND_AGAIN: "Another try may end otherwise: run the same command again with --retry-errors.",
    Remedy.CORRECT: (
        "Correct these requests, then run the same command again with --changed resend: "
        "the same request gets the same end."
    ),
    Remedy.MORE_OUTPUT: (
        "Raise the limit of output tokens (max_output_tokens), then run the same command again with --retry-errors."
    ),
    Remedy.LARGER_ANSWERS: "Raise --max-response-bytes, then run the same command again with --retry-errors.",
    Remedy.OTHER_ADDRESS: "Correct --base-url, then run the same command again with --retry-errors.",
}
"""What to do about each, in a sentence, where the command that was run is not known."""
SENT_AGAIN = "The next run of the same command sends these lines again."
"""The same for failures that are retryable."""


_MORE_OUTPUT = {incomplete_code(reason) for reason in ("max_output_tokens", "max_tokens", "length")}
_SEND_AGAIN = {
    *(FailureCode.EMPTY_OUTPUT, FailureCode.NONSTANDARD_JSON, FailureCode.SCHEMA_MISMATCH),
    *(response_code(status) for status in ("queued", "in_progress", "cancelled")),
}
_FILTERED = incomplete_code("content_filter")


def remedy_for(code: str) -> Remedy:
    """The remedy for a failure that is not retryable, by its error code."""
    if code in _MORE_OUTPUT:
        return Remedy.MORE_OUTPUT
    if code in _SEND_AGAIN or (code.startswith(incomplete_code("")) and code != _FILTERED):
        return Remedy.SEND_AGAIN
    if code == FailureCode.RESPONSE_TOO_LARGE:
        return Remedy.LARGER_ANSWERS
    return Remedy.OTHER_ADDRESS if code == FailureCode.REDIRECTED else Remedy.CORRECT


def by_remedy(final_errors: Mapping[str, int]) -> dict[Remedy, Counter[str]]:
    """Failures that are not retryable, counted by code, under the remedy that they need."""
    found: dict[Remedy, Counter[str]] = {}
    for code, count in final_errors.items():
        found.setdefault(remedy_for(code), Counter())[code] += count
    return found
