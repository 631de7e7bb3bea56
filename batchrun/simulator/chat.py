"""The answers of the two other endpoints that batchrun passes through: chat completions and embeddings."""

from __future__ import annotations

import array
import base64
import hashlib
import math
from typing import Any

from batchrun.simulator.answers import Answer, Identity
from batchrun.simulator.ledger import Usage
from batchrun.simulator.requests import ModelRequest, encode_json

_DEFAULT_DIMENSIONS = 1536


def completion_object(request: ModelRequest, answer: Answer, identity: Identity) -> dict[str, Any]:
    """The official chat completion; all `n` choices have the same message."""
    choices = [
        {
            "index": index,
            "message": _message(answer, identity),
            "logprobs": None,
            "finish_reason": _finish_reason(answer),
        }
        for index in range(request.fields.get("n") or 1)
    ]
    tier = request.fields.get("service_tier") or "auto"
    return {
        "id": f"chatcmpl-{identity.digits}",
        "object": "chat.completion",
        "created": identity.created_at,
        "model": request.model,
        "choices": choices,
        "usage": chat_usage(answer.usage),
        "service_tier": "default" if tier == "auto" else tier,
        "system_fingerprint": "fp_simulated",
    }


def _message(answer: Answer, identity: Identity) -> dict[str, Any]:
    message: dict[str, Any] = {
        "role": "assistant",
        "content": answer.text,
        "refusal": answer.refusal,
        "annotations": [],
    }
    if answer.call is not None:
        function = {"name": answer.call.name, "arguments": answer.call.arguments}
        message["tool_calls"] = [{"id": identity.of("call"), "type": "function", "function": function}]
    return message


def _finish_reason(answer: Answer) -> str:
    if answer.incomplete_reason is not None:
        return "content_filter" if answer.incomplete_reason == "content_filter" else "length"
    return "tool_calls" if answer.call is not None else "stop"


def chat_usage(usage: Usage) -> dict[str, Any]:
    """Usage in the form of chat completions."""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }


def embeddings_object(request: ModelRequest) -> dict[str, Any]:
    """The official list of embeddings: vectors of length 1, which depend on the text alone."""
    dimensions = request.fields.get("dimensions") or _DEFAULT_DIMENSIONS
    as_base64 = request.fields.get("encoding_format") == "base64"
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": index, "embedding": _embedding(text, dimensions, as_base64)}
            for index, text in enumerate(embedded_texts(request))
        ],
        "model": request.model,
        "usage": {"prompt_tokens": request.input_tokens, "total_tokens": request.input_tokens},
    }


def embedded_texts(request: ModelRequest) -> list[Any]:
    """The inputs that get a vector each: one string, one list of token numbers, or each item of a list of these."""
    wanted = request.fields["input"]
    if isinstance(wanted, str) or all(isinstance(item, int) for item in wanted):
        return [wanted]
    return list(wanted)


def _embedding(text: Any, dimensions: int, as_base64: bool) -> list[float] | str:
    raw = array.array("h", hashlib.shake_128(encode_json(text)).digest(2 * dimensions))
    length = math.sqrt(sum(value * value for value in raw)) or 1.0
    vector = array.array("f", (value / length for value in raw))
    return base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist()
