"""What a request asks the model to read and to write, as far as its body tells. Pure.

Some of it stands in the body, and is bounded by it: a token has at least one byte. Some is only named there
(files, images by address, earlier responses, a stored prompt) or grows once it is unpacked (a small PNG may be a
large picture). And some is paid for in other ways than the usage tells (tools of the gateway's, priority service).
Whatever is not known to stand in the body counts as not standing there. Sources: responses-protocol §1, OpenAI's
API reference for /responses, /chat/completions and /embeddings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from batchrun.records.request import ENDPOINTS, RESPONSES

LEAST_OUTPUT_TOKENS = 16  # of the Responses API; a gateway may lift what is below it


class Contents(NamedTuple):
    """What one request holds.

    `texts` is what the model reads and the body spells out, `parts` the messages and items that frame it,
    `token_ids` the input that comes as token numbers. `max_output_tokens` covers all choices of an answer; None is
    no bound. `named` says what the body only names: its tokens are unknown until the usage tells.
    `untold` says what costs more than the usage ever tells.
    """

    texts: list[str]
    parts: int
    token_ids: int
    max_output_tokens: int | None
    named: tuple[str, ...]
    untold: tuple[str, ...]


class _Body(msgspec.Struct):
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


def read_contents(url: str, body: bytes) -> Contents:
    """The contents of the body of a checked request line, sent to the endpoint `url`."""
    fields = _decode(body)
    walk = _Walk()
    for value in (fields.input, fields.instructions, fields.messages):
        walk.through(value)
    for value in (fields.tools, fields.functions, fields.text, fields.response_format):
        if value:
            walk.texts.append(_encode(value).decode())
    named = {*walk.named, *_named_fields(fields)}
    return Contents(
        texts=walk.texts,
        parts=walk.parts,
        token_ids=walk.token_ids,
        max_output_tokens=_max_output_tokens(url, fields),
        named=tuple(sorted(named)),
        untold=tuple(sorted(set(_untold(fields)))),
    )


# ---------------------------------------------------------------------------------------------- the input

_SPELT_OUT = {  # types of items and parts whose text stands in the body
    "",
    *("message", "input_text", "output_text", "text", "refusal"),
    *("function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output", "function", "custom"),
    *("reasoning", "summary_text", "reasoning_text"),
}
_LABELS = {"type", "id", "call_id", "tool_call_id", "status", "role", "phase"}
_FRAMED = {"", "message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}


class _Walk:
    """A way through the input, at any depth, that gathers its text."""

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
        if kind not in _SPELT_OUT:
            self.named.add(str(kind)[:40])
            return []
        for name in ("encrypted_content", "audio"):
            if item.get(name):
                self.named.add(name)
        self.parts += kind in _FRAMED
        return [value for name, value in item.items() if name not in _LABELS]


def _named_fields(fields: _Body) -> Iterator[str]:
    for name in ("previous_response_id", "conversation", "prompt"):
        if getattr(fields, name):
            yield name
    if fields.prediction:
        yield "prediction"  # what of it is rejected is billed as output


# --------------------------------------------------------------------------------------------- the answer


def _max_output_tokens(url: str, fields: _Body) -> int | None:
    if url == ENDPOINTS[2]:
        return 0  # embeddings
    if url == RESPONSES:
        count = _count(fields.max_output_tokens)
        return count and max(count, LEAST_OUTPUT_TOKENS)
    counts = [count for value in (fields.max_completion_tokens, fields.max_tokens) if (count := _count(value))]
    return max(counts) * (_count(fields.n) or 1) if counts else None


def _count(value: Any) -> int | None:
    return value if type(value) is int and value > 0 else None


def _untold(fields: _Body) -> Iterator[str]:
    """What has its own price, or its own input, beside the tokens of the body."""
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
