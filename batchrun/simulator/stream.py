"""A Response as the official stream of events."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

from batchrun.simulator.answers import Identity, response_shell
from batchrun.simulator.requests import ModelRequest, encode_json

Event = dict[str, Any]

_DELTA_CHARACTERS = 12
_MOST_DELTAS = 64


def frame(event: Event) -> bytes:
    """The bytes of one event."""
    return b"event: %b\ndata: %b\n\n" % (event["type"].encode(), encode_json(event))


def response_events(request: ModelRequest, identity: Identity, final: dict[str, Any]) -> Iterator[Event]:
    """The events of a stream that ends with `final`, a Response that is whole, incomplete, failed or queued."""
    numbers = count()
    for event in _events(request, identity, final):
        yield {**event, "sequence_number": next(numbers)}


def opening_events(request: ModelRequest, identity: Identity, status: str = "in_progress") -> Iterator[Event]:
    """The events that every stream begins with."""
    shell = response_shell(request, identity, status)
    yield {"type": "response.created", "response": shell}
    yield {"type": f"response.{status}", "response": shell}


def _events(request: ModelRequest, identity: Identity, final: dict[str, Any]) -> Iterator[Event]:
    if final["status"] == "queued":
        yield from opening_events(request, identity, "queued")
        return
    yield from opening_events(request, identity)
    padded = (request.fields.get("stream_options") or {}).get("include_obfuscation") is not False
    for index, item in enumerate(final["output"]):
        for event in _item_events(item):
            if padded and event["type"].endswith(".delta"):
                event["obfuscation"] = identity.digits[: 16 - len(event["delta"]) % 16]
            yield {**event, "output_index": index}
    yield {"type": f"response.{final['status']}", "response": final}


def _item_events(item: dict[str, Any]) -> Iterator[Event]:
    if item["type"] == "message":
        started, parts = {**item, "status": "in_progress", "content": []}, _message_events(item)
    elif item["type"] == "function_call":
        started, parts = {**item, "status": "in_progress", "arguments": ""}, _call_events(item)
    else:
        started, parts = {**item, "summary": []}, _reasoning_events(item)
    yield {"type": "response.output_item.added", "item": started}
    for event in parts:
        yield {**event, "item_id": item["id"]}
    yield {"type": "response.output_item.done", "item": item}


def _message_events(item: dict[str, Any]) -> Iterator[Event]:
    for index, part in enumerate(item["content"]):
        field = "text" if part["type"] == "output_text" else "refusal"
        name = "response.output_text" if field == "text" else "response.refusal"
        extra: Event = {"logprobs": []} if field == "text" else {}
        at = {"content_index": index}
        yield {"type": "response.content_part.added", "part": {**part, field: ""}, **at}
        for piece in pieces(part[field]):
            yield {"type": f"{name}.delta", "delta": piece, **extra, **at}
        yield {"type": f"{name}.done", field: part[field], **extra, **at}
        yield {"type": "response.content_part.done", "part": part, **at}


def _call_events(item: dict[str, Any]) -> Iterator[Event]:
    name = "response.function_call_arguments"
    for piece in pieces(item["arguments"]):
        yield {"type": f"{name}.delta", "delta": piece}
    yield {"type": f"{name}.done", "arguments": item["arguments"], "name": item["name"]}


def _reasoning_events(item: dict[str, Any]) -> Iterator[Event]:
    name = "response.reasoning_summary"
    for index, part in enumerate(item["summary"]):
        at = {"summary_index": index}
        yield {"type": f"{name}_part.added", "part": {**part, "text": ""}, **at}
        for piece in pieces(part["text"]):
            yield {"type": f"{name}_text.delta", "delta": piece, **at}
        yield {"type": f"{name}_text.done", "text": part["text"], **at}
        yield {"type": f"{name}_part.done", "part": part, **at}


def pieces(text: str) -> list[str]:
    """A text in pieces of the size in which a model streams it; a long text has larger pieces, at most 64."""
    size = max(_DELTA_CHARACTERS, -(-len(text) // _MOST_DELTAS))
    return [text[start : start + size] for start in range(0, len(text), size)]
