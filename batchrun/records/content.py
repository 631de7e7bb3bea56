"""What a request body says about the input and the output of the model. Pure.

1. Input that the body spells out is bounded by the size of the body: a token has at least one byte.
2. Input that the body only names (files, images by address, earlier responses, a stored prompt) has no such bound.
   The same holds for input that grows when it is decoded: a small PNG may be a large picture.
3. Some things cost more than the usage shows: the gateway's own tools, priority service.
4. An item of an unknown type counts as named, not as spelt out. An item without a type is a message or a text, if
   it has no other members than those have.

Source: OpenAI's API reference for /responses, /chat/completions and /embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator, Set
from typing import Any

import msgspec

from batchrun.records.request import EMBEDDINGS, RESPONSES

_LARGEST_COUNT = 2**53  # a larger limit bounds nothing, and its cost would not be exact
LEAST_OUTPUT_TOKENS = 16  # the minimum of the Responses API; a gateway may raise a smaller value to it


class Contents(msgspec.Struct, frozen=True, gc=False):
    """What one request contains.

    `texts`: the input that the body spells out. `parts`: how many messages and items frame it.
    `token_ids`: how many tokens the input gives as numbers. `max_output_tokens`: the limit for all choices of an
    answer together; None if there is no limit. `named`: kinds of input that the body only names; their tokens are
    unknown until the usage is reported. `untold`: what has a cost that the usage does not show.
    """

    texts: list[str]
    parts: int
    token_ids: int
    max_output_tokens: int | None
    named: tuple[str, ...]
    untold: tuple[str, ...]


class _Body(msgspec.Struct, gc=False):
    input: Any = None
    instructions: Any = None
    messages: Any = None
    tools: Any = None
    functions: Any = None
    text: Any = None
    response_format: Any = None
    max_output_tokens: Any = None
    max_completion_tokens: Any = None
    max_tokens: Any = None
    n: Any = None
    previous_response_id: Any = None
    conversation: Any = None
    prompt: Any = None
    prediction: Any = None
    reasoning: Any = None
    service_tier: Any = None
    modalities: Any = None
    web_search_options: Any = None


_decode = msgspec.json.Decoder(_Body).decode
_encode = msgspec.json.Encoder().encode
_NONE: Set[str] = frozenset()


def read_contents(url: str, body: bytes) -> Contents:
    """The contents of a request body. The line must have been checked; `url` is one of `ENDPOINTS`."""
    fields = _decode(body)
    named: Set[str]
    if type(fields.input) is str and fields.instructions is fields.messages is None:  # as nearly always
        texts, parts, token_ids, named = [fields.input], 0, 0, _NONE
    else:
        walk = _Walk()
        for value in (fields.input, fields.instructions, fields.messages):
            if value is not None:
                walk.through(value)
        texts, parts, token_ids, named = walk.texts, walk.parts, walk.token_ids, walk.named
    if fields.tools or fields.functions or fields.text or fields.response_format:
        described = (fields.tools, fields.functions, fields.text, fields.response_format)
        texts += [_encode(value).decode() for value in described if value]
    if fields.previous_response_id or fields.conversation or fields.prompt or fields.prediction:
        named = named | set(_named_fields(fields))
    has_more = fields.tools or fields.web_search_options or fields.service_tier or fields.modalities or fields.reasoning
    return Contents(  # positional arguments: keyword arguments take twice as long
        texts,
        parts,
        token_ids,
        _max_output_tokens(url, fields),
        tuple(sorted(named)) if named else (),
        tuple(sorted(set(_untold(fields)))) if has_more else (),
    )


# ---------------------------------------------------------------------------------------------- the input

_SPELT_OUT = {  # types of items and parts whose text is in the body
    "",
    *("message", "input_text", "output_text", "text", "refusal"),
    *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "function", "custom"),
    *("reasoning", "summary_text", "reasoning_text"),
}
_UNTYPED = {  # members of messages, of texts and of function calls, whose text is in the body
    *("role", "content", "text", "refusal", "name", "tool_calls", "tool_call_id", "function_call", "function"),
    *("arguments", "parameters", "description", "strict", "type", "id", "status", "phase", "call_id", "output"),
    *("summary", "encrypted_content", "audio", "reasoning", "reasoning_content", "annotations", "logprobs"),
    *("cache_control", "prefix", "index", "input", "namespace"),
}
_CONTENT = _UNTYPED - {"type", "id", "status", "phase", "call_id", "tool_call_id", "index"}
_LABELS = {"type", "id", "call_id", "tool_call_id", "status", "role", "phase"}
_FRAMED = {"", "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}


class _Walk:
    """Walks through the input, to any depth, and collects its text."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.parts = 0
        self.token_ids = 0
        self.named: set[str] = set()

    def through(self, value: Any) -> None:
        left = [value]
        while left:
            value = left.pop()
            if isinstance(value, str):
                self.texts.append(value)
            elif isinstance(value, list):
                left.extend(reversed(value))
            elif isinstance(value, dict):
                left.extend(reversed(self._members(value)))
            elif isinstance(value, int) and not isinstance(value, bool):
                self.token_ids += 1

    def _members(self, item: dict[str, Any]) -> list[Any]:
        kind = item.get("type", "")
        if not isinstance(kind, str) or kind not in _SPELT_OUT:
            self.named.add(str(kind)[:40])
            return []
        if not kind and (odd := _odd_member(item)):
            self.named.add(odd)
            return []
        for name in ("encrypted_content", "audio"):
            if item.get(name):
                self.named.add(name)
        self.parts += kind in _FRAMED
        return [value for name, value in item.items() if name not in _LABELS]


def _odd_member(item: dict[str, Any]) -> str:
    """Why an item without a type is not spelt out, in a few words; "" if it is."""
    odd = next((f"{name[:40]} in an item without a type" for name in item if name not in _UNTYPED), "")
    if not odd and item and not item.keys() & _CONTENT:
        return "an item that is only named by its id"
    return odd


def _named_fields(fields: _Body) -> Iterator[str]:
    for name in ("previous_response_id", "conversation", "prompt"):
        if getattr(fields, name):
            yield name
    if fields.prediction:
        yield "prediction"  # its rejected tokens are billed as output


# --------------------------------------------------------------------------------------------- the answer


def _max_output_tokens(url: str, fields: _Body) -> int | None:
    if url == RESPONSES:
        count = None if fields.max_output_tokens is None else _count(fields.max_output_tokens)
        return count and max(count, LEAST_OUTPUT_TOKENS)
    if url == EMBEDDINGS:
        return 0
    counts = [count for value in (fields.max_completion_tokens, fields.max_tokens) if (count := _count(value))]
    choices = 1 if fields.n is None else _count(fields.n)
    return max(counts) * choices if counts and choices else None


def _count(value: Any) -> int | None:
    """A whole number from 1 on, which JSON may write as 3.0; None for anything else."""
    if type(value) is float and value.is_integer() and value <= _LARGEST_COUNT:
        value = int(value)
    return value if type(value) is int and 0 < value <= _LARGEST_COUNT else None


def _untold(fields: _Body) -> Iterator[str]:
    """What has a price or an input of its own, beside the tokens of the body."""
    for tool in fields.tools if isinstance(fields.tools, list) else ():
        kind = tool.get("type") if isinstance(tool, dict) else None
        if kind not in ("function", "custom"):
            yield f"tool {str(kind)[:40]}"
    if fields.web_search_options:
        yield "web_search_options"
    if fields.service_tier not in (None, "auto", "default", "flex"):
        yield f"service_tier {str(fields.service_tier)[:40]}"
    if isinstance(fields.modalities, list) and "audio" in fields.modalities:
        yield "audio output"
    mode = fields.reasoning.get("mode") if isinstance(fields.reasoning, dict) else None
    if mode not in (None, "standard"):
        yield f"reasoning mode {str(mode)[:40]}"
