"""What the members of a decoded answer say: what it counts as, or which error it holds. Pure.

1. An error in any envelope counts, before all else. Without an answer beside it, a code and a message are one, too.
2. `incomplete_details.reason` and an unknown `finish_reason` decide, whatever `status` says: incomplete, and kept.
3. A whole answer in which there is nothing is `empty`: it was paid for, and is not sent again by itself.

Sources: OpenAI's API reference (responses, chat completions, embeddings); finish reasons of vLLM, Zhipu, DeepSeek,
Gemini, Anthropic, Mistral, Cohere and OpenRouter.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from batchrun.records.outcome import FailureCode, Outcome, incomplete_code, response_code
from batchrun.records.request import ENDPOINTS, RESPONSES
from batchrun.transport.emptiness import holds_choice, holds_output, holds_text, holds_vector
from batchrun.transport.error_body import ErrorBody, is_none, read_error_body, says_error

_Json = dict[str, Any]
CHAT = ENDPOINTS[1]


class Verdict(NamedTuple):
    """What an answer counts as. `outcome` is None where it is no answer: a failure with that code."""

    outcome: Outcome | None
    code: str | None = None
    message: str = ""


SUCCEEDED, REFUSED = Verdict("succeeded"), Verdict("refused")
_FAILED = Verdict(None, FailureCode.RESPONSE_FAILED, "the response's status is failed, without a reason")

# By the reason in lower case. All other reasons are unknown, and `_BROKEN` ones are errors.
_FINISHED = {
    *("", "stop", "tool_calls", "function_call", "tool_call", "tool_use", "eos", "eos_token", "end_turn"),
    *("stop_sequence", "stop_token", "complete", "completed", "end", "done", "finish_reason_unspecified"),
}
_CUT = {
    *("length", "max_tokens", "max_output_tokens", "max_length", "model_length", "token_limit"),
    "model_context_window_exceeded",
}
_FILTERED = {
    *("content_filter", "content_filtered", "safety", "sensitive", "recitation", "blocklist", "spii"),
    *("prohibited_content", "image_safety", "guardrail_intervened", "error_toxic"),
}
_BROKEN = {
    *("error", "network_error", "insufficient_system_resource", "abort", "aborted", "cancelled", "canceled"),
    *("timeout", "failed", "malformed_function_call", "server_error", "internal_error"),
}


class _Part(msgspec.Struct, tag_field="type", gc=False):
    """An output item or a part of a message, by its type."""


class _Text(_Part, tag="output_text"):
    text: str


class _Message(_Part, tag="message"):
    content: Annotated[list[_Text], msgspec.Meta(min_length=1)]


class _Reasoning(_Part, tag="reasoning"):
    pass


class _Call(_Part, tag="function_call"):
    pass


class _Plain(msgspec.Struct, gc=False):
    """A completed response as the official API reports it, without a refusal; nearly every answer has this form."""

    status: Literal["completed"]
    output: Annotated[list[_Message | _Reasoning | _Call], msgspec.Meta(min_length=1)]
    object: Literal["response"] = "response"
    type: None = None
    error: None = None
    base_resp: None = None
    incomplete_details: None = None


def judge(url: str, fields: _Json, ended_as: str | None = None) -> Verdict | ErrorBody:
    """The verdict on the decoded answer of an endpoint; `ended_as` is the type of a stream's terminal event."""
    if url == RESPONSES and ended_as in (None, "response.completed") and _is_plain_success(fields):
        return SUCCEEDED
    if (error := find_error(url, fields)) is not None:
        return error
    verdict: Verdict | ErrorBody
    if url == RESPONSES:
        verdict = _judge_response(fields, ended_as)
    else:
        verdict = _judge_chat(fields) if url == CHAT else _judge_embeddings(fields)
    if isinstance(verdict, Verdict) and _may_be_error(verdict) and says_error(fields):
        return read_error_body(fields)
    return verdict


_NOT_YET = {response_code(status) for status in ("queued", "in_progress", "cancelled")}


def _may_be_error(verdict: Verdict) -> bool:
    """Whether there is no answer, and no word of why that the API knows."""
    if verdict.code == FailureCode.EMPTY_OUTPUT:
        return True
    return verdict.outcome is None and verdict is not _FAILED and verdict.code not in _NOT_YET


def find_error(url: str, fields: _Json) -> ErrorBody | None:
    """The error that stands in an answer, beside or instead of what was asked for."""
    error = fields.get("error")
    if error and not is_none(error):
        return read_error_body(fields)
    if "base_resp" in fields:
        base = fields["base_resp"]
        if isinstance(base, dict) and base.get("status_code") not in (None, 0, "0"):
            return read_error_body({"base_resp": base})
    if fields.get("object") == "error" or fields.get("type") == "error":
        return read_error_body(fields)
    choices = fields.get("choices") if url == CHAT else None
    if isinstance(choices, list):
        inside = next((choice for choice in choices if isinstance(choice, dict) and choice.get("error")), None)
        return read_error_body({"error": inside["error"]}) if inside is not None else None
    return None


def word(value: Any) -> str:
    """A gateway's word, such as a status, as far as it can be shown."""
    return value[:40] if isinstance(value, str) else "of no known kind"


def _is_plain_success(fields: _Json) -> bool:
    """Whether a response has the official form and ends with a text or a call; all others need a closer look."""
    try:
        last = msgspec.convert(fields, _Plain).output[-1]
    except msgspec.ValidationError:
        return False
    return holds_text(last.content[0].text) if isinstance(last, _Message) else isinstance(last, _Call)


def _judge_response(fields: _Json, ended_as: str | None) -> Verdict:
    status = fields.get("status")
    if ended_as in ("response.incomplete", "response.failed") and status in (None, "completed"):
        status = ended_as.removeprefix("response.")
    details = fields.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    if reason or status == "incomplete":
        return _incomplete(str(reason or "unknown"))
    if status == "failed":
        return _FAILED
    if status not in (None, "completed"):
        return Verdict(None, response_code(word(status)), f"the response's status is {word(status)}, not completed")
    output = fields.get("output")
    if output is None and fields.get("object") == "response" and status == "completed":
        output = []
    if not isinstance(output, list):
        return _no_answer("an output")
    if not holds_output(output) and not fields.get("output_text"):
        return _empty("the response is completed but holds no text, refusal or tool call")
    return REFUSED if _has_refusal(output) else SUCCEEDED


def _has_refusal(output: list[Any]) -> bool:
    """Whether a message of the output is a refusal, which in OpenAI's API is a part of a *completed* response."""
    for item in output:
        content = item.get("content") if isinstance(item, dict) else None
        if isinstance(content, list) and any(map(_is_refusal, content)):
            return True
    return False


def _is_refusal(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "refusal"


def _judge_chat(fields: _Json) -> Verdict | ErrorBody:
    choices = fields.get("choices")
    if not isinstance(choices, list) or not choices or not all(isinstance(choice, dict) for choice in choices):
        return _no_answer("choices")
    reasons = [choice.get("finish_reason") for choice in choices]
    if reasons != ["stop"] and (verdict := _judge_reasons(reasons)) is not None:
        return verdict
    if any(isinstance(choice.get("message"), dict) and choice["message"].get("refusal") for choice in choices):
        return REFUSED
    return SUCCEEDED if holds_choice(choices) else _empty("the choice holds no text, refusal or tool call")


def _judge_reasons(reasons: list[Any]) -> Verdict | ErrorBody | None:
    """What the finish reasons of the choices say together, the worst first; None if all are good ends."""
    words = [word(reason).lower() for reason in reasons if reason is not None]
    if broken := [reason for reason in words if reason in _BROKEN]:
        return ErrorBody(message=f"the choice ends with finish_reason {broken[0]}")
    for known, name in ((_CUT, "max_output_tokens"), (_FILTERED, "content_filter")):
        if any(reason in known for reason in words):
            return _incomplete(name)
    if "refusal" in words:
        return REFUSED
    unknown = [reason for reason in words if reason not in _FINISHED]
    return _incomplete(unknown[0].replace(" ", "_")) if unknown else None


def _judge_embeddings(fields: _Json) -> Verdict:
    data = fields.get("data")
    if not isinstance(data, list):
        return _no_answer("data")
    return SUCCEEDED if holds_vector(data) else _empty("the answer holds no embedding")


def _incomplete(reason: str) -> Verdict:
    return Verdict("incomplete", incomplete_code(reason), f"the answer stops early: {reason}")


def _empty(message: str) -> Verdict:
    return Verdict("empty", FailureCode.EMPTY_OUTPUT, message)


def _no_answer(missing: str) -> Verdict:
    return Verdict(None, FailureCode.NOT_A_RESPONSE, f"got JSON without {missing}: ")
