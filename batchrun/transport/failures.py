"""What to do about a failed attempt: one table of rules, read from the top; the first rule that fits decides.

Rules look at the error code, then the error type, then the message, then the status, never at the status alone. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Set
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache

from batchrun.records.outcome import Failure, FailureCode, response_code
from batchrun.transport.words import (
    is_for_a_while,
    tells_of_content,
    tells_of_key,
    tells_of_money,
    tells_of_no_model,
    tells_of_rate,
)


class Kind(Enum):
    """What a failure says about the rest of the job."""

    TRANSIENT = "transient"  # this attempt failed; another may not
    THROTTLE = "throttle"  # too fast: the job slows down, the line loses nothing
    FATAL = "fatal"  # this line can never work
    STOP = "stop"  # no line can work


@dataclass(frozen=True, slots=True)
class Decision:
    """A verdict. `is_outage_signal`: several of these together mean that the gateway is down.

    `max_attempts` lowers the policy's own. `stops_fresh_job`: as long as nothing has succeeded it is a STOP,
    because then the address or the key is more likely to be wrong than the line.
    """

    kind: Kind
    is_outage_signal: bool = False
    max_attempts: int | None = None
    stops_fresh_job: bool = False

    @property
    def is_of_the_line(self) -> bool:
        """Whether a transient failure says that the gateway is there: it speaks against the line without a peer."""
        return self.kind is Kind.TRANSIENT and not self.is_outage_signal


_TRANSIENT = Decision(Kind.TRANSIENT)
_OUTAGE = Decision(Kind.TRANSIENT, is_outage_signal=True)
_THROTTLE = Decision(Kind.THROTTLE)
_FATAL = Decision(Kind.FATAL)
_STOP = Decision(Kind.STOP)
# a relay's own key for one of its channels, not the user's
_CHANNEL_KEY = Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3, stops_fresh_job=True)


@dataclass(frozen=True, slots=True)
class Rule:
    """Fits if every given condition is met. `codes` may end in `*`; `says` is searched for in the message.

    `tells` is a question to the whole failure. `statuses` are those of `Failure.status_for_rules`.
    """

    decision: Decision
    codes: frozenset[str] = frozenset()
    statuses: frozenset[int] = frozenset()
    types: frozenset[str] = frozenset()
    says: re.Pattern[str] | None = None
    relay: bool | None = None
    tells: Callable[[Failure], bool] | None = None

    def fits(self, failure: Failure) -> bool:
        """Whether this rule is the one for `failure`."""
        return (
            (not self.codes or failure.code in self.codes or _family(failure.code) in self.codes)
            and (not self.statuses or failure.status_for_rules in self.statuses)
            and (not self.types or failure.type in self.types)
            and (self.says is None or (not failure.quotes_request and self.says.search(failure.message) is not None))
            and (self.relay is None or failure.from_relay is self.relay)
            and (self.tells is None or self.tells(failure))
        )


@lru_cache(maxsize=256)
def _family(code: str) -> str:
    """`channel:*` of `channel:invalid_key`, `violation_fee.*` of `violation_fee.x`: new-api's codes in two parts."""
    return re.sub(r"(?<=[:.]).*", "*", code, count=1, flags=re.DOTALL)


def _rule(
    decision: Decision,
    codes: str | Set[str] = "",
    *statuses: int,
    types: str = "",
    says: str = "",
    relay: bool | None = None,
    tells: Callable[[Failure], bool] | None = None,
) -> Rule:
    """A rule; `codes` and `types` are words between spaces (a gateway's) or a set (batchrun's own codes)."""
    return Rule(
        decision,
        frozenset(codes.split() if isinstance(codes, str) else codes),
        frozenset(statuses),
        frozenset(types.split()),
        re.compile(says, re.IGNORECASE) if says else None,
        relay,
        tells,
    )


def _was_paid(failure: Failure) -> bool:
    """Whether an answer of a success status came, and counts tokens that it made."""
    usage, status = failure.usage, failure.status or 0
    return usage is not None and usage.output_tokens > 0 and 200 <= status < 300


RULES: tuple[Rule, ...] = (
    # batchrun's own codes: what the network did
    _rule(_OUTAGE, {FailureCode.CONNECT_FAILED, FailureCode.CONNECT_TIMEOUT, FailureCode.CONNECTION_LOST}),
    _rule(Decision(Kind.TRANSIENT, is_outage_signal=True, stops_fresh_job=True), FailureCode.DNS_FAILED),
    _rule(_STOP, FailureCode.CERTIFICATE_REFUSED),
    _rule(_OUTAGE, {FailureCode.ATTEMPT_TIMEOUT, FailureCode.IDLE_TIMEOUT, FailureCode.BAD_HTTP}),
    _rule(_FATAL, {FailureCode.RESPONSE_TOO_LARGE, FailureCode.REDIRECTED}),
    # money: before anything that goes by status
    _rule(_STOP, "", 402, 407),  # 407: the proxy refuses, and will refuse every line
    _rule(_THROTTLE, tells=lambda failure: tells_of_money(failure) and is_for_a_while(failure)),
    _rule(_STOP, tells=tells_of_money),
    # the line's own fault, whatever the status (relays send some of these as 500)
    _rule(
        _FATAL,
        "context_length_exceeded missing_required_parameter unsupported_parameter unsupported_value "
        "invalid_value invalid_type unknown_parameter invalid_prompt previous_response_not_found "
        "string_above_max_length invalid_image invalid_image_format invalid_base64_image invalid_image_url "
        "image_too_large image_too_small image_parse_error image_content_policy_violation invalid_image_mode "
        "image_file_too_large unsupported_image_media_type empty_image_file failed_to_download_image "
        "image_file_not_found content_policy_violation content_filter data_residency_mismatch bio_policy "
        "misalignment_policy_violation invalid_request convert_request_failed model_price_error "
        "sensitive_words_detected prompt_blocked read_request_body_failed violation_fee.*",
    ),
    _rule(_FATAL, tells=tells_of_content),
    _rule(_FATAL, "InvalidParameter BadRequest BadRequestError ValidationException", 200),
    _rule(_FATAL, "", 200, says=r"^invalid param"),
    _rule(Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3), "model_not_found", 503),
    _rule(_FATAL, "model_not_found"),
    _rule(_FATAL, "", 200, 400, 404, 422, tells=tells_of_no_model),
    # LiteLLM says it by a 401: the key is good, but not for this model
    _rule(
        Decision(Kind.FATAL, stops_fresh_job=True),
        types="key_model_access_denied team_model_access_denied user_model_access_denied org_model_access_denied "
        "project_model_access_denied",
    ),
    _rule(_FATAL, "rate_limit_exceeded", says=r"request too large"),
    _rule(_STOP, "", 429, relay=False, tells=tells_of_key),
    # too fast, whatever the status
    _rule(_THROTTLE, tells=tells_of_rate),
    _rule(_THROTTLE, "", 403, 429, 503, 529, tells=lambda failure: failure.retry_after_s is not None),
    _rule(_OUTAGE, "", 429, says=r"no deployments available|上游负载已饱和"),
    _rule(_THROTTLE, "", 429),
    # a 200 that is no answer (the first try of a job most likely has the wrong address)
    _rule(
        Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3, stops_fresh_job=True),
        FailureCode.HTML_INSTEAD_OF_JSON,
    ),
    _rule(
        Decision(Kind.TRANSIENT, is_outage_signal=True, max_attempts=3),  # each of them may have been billed
        {FailureCode.EMPTY_BODY, FailureCode.NOT_A_RESPONSE, FailureCode.INVALID_JSON},
    ),
    _rule(_OUTAGE, FailureCode.STREAM_TRUNCATED),
    _rule(_FATAL, {response_code(status) for status in ("queued", "in_progress", "cancelled")}),
    # an error in an answer that was paid for: the gateway is there, and each attempt costs again
    _rule(Decision(Kind.TRANSIENT, max_attempts=3), FailureCode.ERROR_IN_200, tells=_was_paid),
    _rule(Decision(Kind.TRANSIENT, max_attempts=3), "", *range(500, 600), tells=_was_paid),
    # the gateway's own trouble with its channels, and keys; a 401 is one even where its type says server_error
    _rule(_OUTAGE, "get_channel_failed channel:* query_data_error update_data_error"),
    _rule(_OUTAGE, types="new_api_panic one_api_panic"),
    _rule(_STOP, "", 401, relay=False),
    _rule(_STOP, "", 401, types="new_api_error one_api_error"),
    _rule(_CHANNEL_KEY, "", 200, 400, 403, relay=True, tells=tells_of_key),
    _rule(_CHANNEL_KEY, "invalid_api_key", 401, relay=True),
    _rule(_STOP, "", 200, 400, 403, tells=tells_of_key),
    _rule(_STOP, "", 401, says=r"令牌|token|api key"),
    _rule(_STOP, "", 400, types="FAILED_PRECONDITION", says=r"location is not supported"),  # Gemini
    _rule(_CHANNEL_KEY, "", 401),
    _rule(_OUTAGE, "server_is_overloaded server_error overloaded_error engine_overloaded"),
    _rule(_TRANSIENT, "conversation_locked vector_store_timeout"),
    _rule(
        _OUTAGE,
        "do_request_failed read_response_body_failed bad_response_body bad_response empty_response",
        500,
    ),
    # permissions
    _rule(Decision(Kind.TRANSIENT, is_outage_signal=True, stops_fresh_job=True), FailureCode.HTML_PAGE, 403),
    _rule(_FATAL, "", 403, says=r"model|模型"),
    _rule(_STOP, "unsupported_country_region_territory access_denied account_deactivated", 403),
    _rule(_STOP, "", 403, says=r"quota|额度|余额|balance|banned|封禁|country|region|\bip\b|key|token|group|分组"),
    _rule(Decision(Kind.FATAL, stops_fresh_job=True), "", 403),
    # addresses and methods
    _rule(_STOP, "", 404, says=r"invalid url"),
    _rule(Decision(Kind.FATAL, stops_fresh_job=True), "", 404, 405),
    _rule(_STOP, {"api_not_implemented", FailureCode.HTML_PAGE}, 501),
    # the rest by status
    _rule(_TRANSIENT, "", 409, tells=lambda failure: failure.looks_like_api),
    _rule(_OUTAGE, "", 408, 409, 425, 499),  # 499: a proxy lost who asked, which was another proxy
    # no page is about a line, but about a wrong port, or http:// sent to TLS; save 413 and 414, about its length
    _rule(Decision(Kind.FATAL, stops_fresh_job=True), FailureCode.HTML_PAGE, *(set(range(400, 500)) - {413, 414})),
    _rule(_FATAL, "", *range(300, 500)),
    _rule(_OUTAGE, "", *range(500, 600)),
    # the rest of what a 200 may carry: an error of no known code, or a failed response without a reason
    _rule(_FATAL, types=f"invalid_request_error invalid_request not_found {FailureCode.RESPONSE_FAILED}"),
    _rule(_OUTAGE),
)


def classify(failure: Failure) -> Decision:
    """The decision of the first rule that fits."""
    return next(rule.decision for rule in RULES if rule.fits(failure))
