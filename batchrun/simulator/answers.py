"""The answers of the simulated model, and the official Response object that contains them."""

from __future__ import annotations

import base64
import json
import random
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from msgspec.structs import replace as changed

from batchrun.simulator.errors import refuse
from batchrun.simulator.known import KnownAnswers
from batchrun.simulator.ledger import Usage
from batchrun.simulator.requests import Endpoint, ModelRequest, encode_json
from batchrun.simulator.schema import UnsatisfiableError, generate
from batchrun.simulator.seeds import digest_of, random_of
from batchrun.simulator.words import sentences, words

_REASONING_TOKENS = {"minimal": 64, "low": 128, "medium": 256, "high": 512, "xhigh": 1024, "max": 2048}
_BYTES_PER_TOKEN = 4
_CACHE_BLOCK_TOKENS = 128
_CACHED_FROM_TOKENS = 256
"""The simulated cache may hold instructions of at least this many tokens."""
REFUSAL = "I'm sorry, but I can't help with that request."


@dataclass(frozen=True)
class FunctionCall:
    """A function call that the model asks for; `arguments` is JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """The answer of the model, before it gets the form of an endpoint.

    `incomplete_reason` is None for a whole answer, or `max_output_tokens` or `content_filter`.
    `has_reasoning` tells whether the model reasoned; `summary` is its summary of that, None without one.
    """

    usage: Usage
    text: str | None = None
    refusal: str | None = None
    call: FunctionCall | None = None
    has_reasoning: bool = False
    summary: str | None = None
    incomplete_reason: str | None = None


def tokens_of(text: str) -> int:
    """The approximate number of tokens of a text."""
    return -(-len(text.encode("utf-8", "replace")) // _BYTES_PER_TOKEN)


def compose(request: ModelRequest, known: KnownAnswers | None = None) -> Answer:
    """The answer of the model, which is the same for the same prompt: what it knows, or invents.

    Raises `ApiError` if no value fits the schema.
    """
    rng = random_of(request.seed, b"answer")
    call = text = None
    try:
        tool = _wanted_tool(request)
        if tool is not None:
            parameters = tool.get("parameters") or {"type": "object"}
            told = None if known is None else known.answer(request, parameters, rng)
            arguments = told if isinstance(told, dict) else generate(parameters, rng)
            call = FunctionCall(tool["name"], json.dumps(arguments, ensure_ascii=False))
        else:
            text = _text(request, known, rng)
    except UnsatisfiableError as error:
        message = f"Invalid schema for the answer: {error}."
        raise refuse(400, message, "invalid_json_schema", "text.format.schema") from None
    reasoning_tokens = _reasoning_tokens(request, rng.randrange(4))
    wants_summary = (request.fields.get("reasoning") or {}).get("summary")
    visible = call.arguments if call else text or ""
    usage = Usage(
        input_tokens=request.input_tokens,
        cached_tokens=_cached_tokens(request, rng.random()),
        output_tokens=reasoning_tokens + tokens_of(visible) + (8 if call else 0),
        reasoning_tokens=reasoning_tokens,
    )
    answer = Answer(
        usage,
        text=text,
        call=call,
        has_reasoning=reasoning_tokens > 0,
        summary=sentences(rng, 2) if reasoning_tokens and wants_summary else None,
    )
    return _within(answer, request.max_output_tokens)


def shortened(answer: Answer, reason: str) -> Answer:
    """The first half of an answer, incomplete for the reason that the fault script gives."""
    if answer.incomplete_reason is not None:
        return replace(answer, incomplete_reason=reason)
    spoken = answer.usage.output_tokens - answer.usage.reasoning_tokens
    return replace(_within(answer, answer.usage.reasoning_tokens + spoken // 2), incomplete_reason=reason)


def saying(request: ModelRequest, answer: Answer, text: str) -> Answer:
    """The answer with another text."""
    usage = changed(answer.usage, output_tokens=answer.usage.reasoning_tokens + tokens_of(text))
    return _within(replace(answer, text=text, usage=usage), request.max_output_tokens)


def refused(answer: Answer) -> Answer:
    """The answer in which the model declines the same request."""
    output_tokens = answer.usage.reasoning_tokens + tokens_of(REFUSAL)
    usage = Usage(answer.usage.input_tokens, answer.usage.cached_tokens, output_tokens, answer.usage.reasoning_tokens)
    return replace(answer, usage=usage, text=None, call=None, refusal=REFUSAL, incomplete_reason=None)


def _wanted_tool(request: ModelRequest) -> dict[str, Any] | None:
    """The function that the request forces the model to call; None if there is none."""
    choice = request.fields.get("tool_choice")
    tools = [_flat_tool(tool) for tool in request.fields.get("tools") or () if tool.get("type") == "function"]
    name = None
    if isinstance(choice, dict):
        if choice.get("type") == "function":
            name = _flat_tool(choice)["name"]
        elif choice.get("mode") != "required":
            return None
        else:
            allowed = [tool.get("name") for tool in choice.get("tools") or ()]
            tools = [tool for tool in tools if tool["name"] in allowed]
    elif choice != "required":
        return None
    fitting = [tool for tool in tools if name is None or tool["name"] == name]
    return fitting[request.seed % len(fitting)] if fitting else None


def _flat_tool(tool: dict[str, Any]) -> dict[str, Any]:
    """A function tool or tool choice in its flat form; chat completions nest it under `function`."""
    nested = tool.get("function")
    return nested if isinstance(nested, dict) else tool


def wanted_format(request: ModelRequest) -> dict[str, Any]:
    """The format that the request asks the text to have, in the form of the Responses API; {} for any text."""
    if request.endpoint is Endpoint.RESPONSES:
        return (request.fields.get("text") or {}).get("format") or {}
    outer = request.fields.get("response_format") or {}
    return {**(outer.get("json_schema") or {}), "type": outer.get("type")}


def _text(request: ModelRequest, known: KnownAnswers | None, rng: random.Random) -> str:
    wanted = wanted_format(request)
    schema = (wanted.get("schema") or {}) if wanted.get("type") == "json_schema" else None
    if known is not None and (answer := known.answer(request, schema, rng)) is not None:
        return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False)
    if schema is not None:
        return json.dumps(generate(schema, rng), ensure_ascii=False)
    if wanted.get("type") == "json_object":
        return json.dumps({"answer": words(rng, 3), "confidence": rng.randrange(100) / 100})
    return sentences(rng, rng.randint(2, 4))


def _reasoning_tokens(request: ModelRequest, extra: int) -> int:
    effort = (request.fields.get("reasoning") or {}).get("effort") or request.fields.get("reasoning_effort")
    if effort not in _REASONING_TOKENS:
        return 0
    return _REASONING_TOKENS[effort] + 64 * extra


def _cached_tokens(request: ModelRequest, chance: float) -> int:
    instructions = request.fields.get("instructions")
    if not instructions or chance < 0.25:
        return 0
    tokens = len(encode_json(instructions)) // _BYTES_PER_TOKEN
    if tokens < _CACHED_FROM_TOKENS:
        return 0
    return min(tokens, request.input_tokens) // _CACHE_BLOCK_TOKENS * _CACHE_BLOCK_TOKENS


def _within(answer: Answer, budget: int | None) -> Answer:
    """The answer, cut to `budget` output tokens; reasoning tokens are counted first."""
    usage = answer.usage
    if budget is None or usage.output_tokens <= budget:
        return answer
    reasoning = min(usage.reasoning_tokens, budget)
    left = (budget - reasoning) * _BYTES_PER_TOKEN
    call = answer.call
    return replace(
        answer,
        usage=Usage(usage.input_tokens, usage.cached_tokens, budget, reasoning),
        text=_cut(answer.text, left) if answer.text is not None and left else None,
        call=replace(call, arguments=_cut(call.arguments, left)) if call and left else None,
        incomplete_reason="max_output_tokens",
    )


def _cut(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


@dataclass(frozen=True)
class Identity:
    """The ids of one answer, derived from the body and the attempt, and its time in Unix seconds."""

    digits: str
    created_at: int

    def of(self, prefix: str) -> str:
        """The id of one part; `prefix` is `resp`, `msg`, `rs`, `fc`, `call` or `req`."""
        return f"{prefix}_{self.digits}"


def identify(seed: int, sha: bytes, attempt: int) -> Identity:
    """The identity of an answer. Its time is wall-clock time, as clients expect of `created_at`."""
    return Identity(digest_of(seed, b"id", sha, attempt)[:25].hex(), int(time.time()))


def output_items(answer: Answer, identity: Identity, encrypted: bool = False) -> list[dict[str, Any]]:
    """The items of a Response's `output` when the answer is finished."""
    status = "completed" if answer.incomplete_reason is None else "incomplete"
    items: list[dict[str, Any]] = []
    if answer.has_reasoning:
        items.append(_reasoning_item(answer, identity, encrypted))
    if answer.call is not None:
        call = answer.call
        items.append(
            {
                "id": identity.of("fc"),
                "type": "function_call",
                "status": status,
                "arguments": call.arguments,
                "call_id": identity.of("call"),
                "name": call.name,
            }
        )
    content = list(_content(answer))
    if content:
        items.append(
            {
                "id": identity.of("msg"),
                "type": "message",
                "status": status,
                "content": content,
                "role": "assistant",
            }
        )
    return items


def _reasoning_item(answer: Answer, identity: Identity, encrypted: bool) -> dict[str, Any]:
    summary = [] if answer.summary is None else [{"type": "summary_text", "text": answer.summary}]
    item = {"id": identity.of("rs"), "type": "reasoning", "summary": summary}
    if encrypted:
        item["encrypted_content"] = base64.b64encode(b"simulated:" + identity.digits.encode()).decode()
    return item


def _content(answer: Answer) -> Iterable[dict[str, Any]]:
    if answer.text is not None:
        yield {"type": "output_text", "annotations": [], "logprobs": [], "text": answer.text}
    if answer.refusal is not None:
        yield {"type": "refusal", "refusal": answer.refusal}


def usage_object(usage: Usage) -> dict[str, Any]:
    """Usage in the form of the Responses API."""
    return {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.total_tokens,
    }


def response_shell(request: ModelRequest, identity: Identity, status: str) -> dict[str, Any]:
    """A Response without an answer: it repeats the settings of the request; `output` and `usage` are empty."""
    fields = request.fields

    def echo(name: str, default: Any = None) -> Any:
        value = fields.get(name)
        return default if value is None else value

    reasoning, tier = echo("reasoning", {}), echo("service_tier", "auto")
    shell = {
        "id": identity.of("resp"),
        "object": "response",
        "created_at": identity.created_at,
        "status": status,
        "background": echo("background", False),
        "completed_at": None,
        "error": None,
        "incomplete_details": None,
        "instructions": echo("instructions"),
        "max_output_tokens": echo("max_output_tokens"),
        "max_tool_calls": echo("max_tool_calls"),
        "model": request.model,
        "output": [],
        "parallel_tool_calls": echo("parallel_tool_calls", True),
        "previous_response_id": echo("previous_response_id"),
        "prompt_cache_key": echo("prompt_cache_key"),
        "reasoning": {"effort": None, "summary": None, **reasoning},
        "safety_identifier": echo("safety_identifier"),
        "service_tier": "default" if tier == "auto" else tier,
        "store": echo("store", True),
        "temperature": echo("temperature", 1.0),
        "text": _echoed_text(echo("text", {})),
        "tool_choice": echo("tool_choice", "auto"),
        "tools": [_echoed_tool(tool) for tool in echo("tools", ())],
        "top_logprobs": echo("top_logprobs", 0),
        "top_p": echo("top_p", 1.0),
        "truncation": echo("truncation", "disabled"),
        "usage": None,
        "user": echo("user"),
        "metadata": echo("metadata", {}),
    }
    conversation = echo("conversation")
    if conversation is not None:
        shell["conversation"] = {"id": conversation} if isinstance(conversation, str) else conversation
    if echo("prompt") is not None:
        shell["prompt"] = fields["prompt"]
    return shell


def _echoed_text(text: dict[str, Any]) -> dict[str, Any]:
    wanted = text.get("format") or {"type": "text"}
    if wanted["type"] == "json_schema":
        wanted = {"description": None, "strict": True, **wanted}
    return {**text, "format": wanted, "verbosity": text.get("verbosity") or "medium"}


def _echoed_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool["type"] != "function":
        return tool
    return {"description": None, "parameters": None, "strict": True, **tool}


def response_object(request: ModelRequest, answer: Answer, identity: Identity) -> dict[str, Any]:
    """The complete official Response."""
    response = response_shell(request, identity, "completed" if answer.incomplete_reason is None else "incomplete")
    if answer.incomplete_reason is None:
        response["completed_at"] = int(time.time())
    else:
        response["incomplete_details"] = {"reason": answer.incomplete_reason}
    encrypted = "reasoning.encrypted_content" in (request.fields.get("include") or ())
    response["output"] = output_items(answer, identity, encrypted)
    response["usage"] = usage_object(answer.usage)
    return response
