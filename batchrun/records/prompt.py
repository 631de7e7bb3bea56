"""What a request says to the model, turn by turn, for people to read. Pure, and tolerant: it shows what it can.

Source: OpenAI's API reference for /responses, /chat/completions and /embeddings.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

_TEXTS = ("input_text", "output_text", "text", "refusal", "summary_text", "reasoning_text")
_PICTURES = ("input_image", "image_url")


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn: who speaks, the text, and the addresses of its pictures, which may be data URLs.

    `role`: `instructions`, `system`, `developer`, `user`, `assistant`, `tool`, or the type of an item that is none.
    """

    role: str
    text: str
    pictures: list[str] = field(default_factory=list)


class _Told(msgspec.Struct, gc=False):
    """The fields that say something to the model; what else a body has, such as its schema, is passed over."""

    instructions: Any = None
    input: Any = None
    messages: Any = None
    prompt: Any = None
    previous_response_id: Any = None
    conversation: Any = None


_decode_told = msgspec.json.Decoder(_Told).decode


def turns_of(body: bytes) -> list[Turn]:
    """The turns of a request body; none where it is not JSON."""
    try:
        told = _decode_told(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return []
    return list(_turns(told))


def plain_prompt(body: bytes) -> tuple[str, str] | None:
    """The instructions and the input of a request body that says no more than those, both texts; None of any other.

    Where there is one, the turns are `instructions`, unless that is empty, and `user`.
    """
    try:
        told = _decode_told(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    given, instructions = told.input, "" if told.instructions is None else told.instructions
    is_all = told.prompt is None and told.previous_response_id is None and told.conversation is None
    return (instructions, given) if is_all and isinstance(given, str) and isinstance(instructions, str) else None


def _turns(told: _Told) -> Iterator[Turn]:
    if isinstance(told.instructions, str):
        yield Turn("instructions", told.instructions)
    given = told.messages if told.input is None else told.input
    if isinstance(given, str):
        yield Turn("user", given)
    elif isinstance(given, list):
        for item in given:
            yield _turn(item)
    if told.prompt is not None:
        yield Turn("prompt", _written(told.prompt))
    if told.previous_response_id is not None:
        yield Turn("previous_response_id", _written(told.previous_response_id))
    if told.conversation is not None:
        yield Turn("conversation", _written(told.conversation))


def _turn(item: Any) -> Turn:
    if not isinstance(item, dict):
        return Turn("user", _written(item))
    kind = item.get("type", "message")
    if kind != "message":
        return Turn(str(kind), _written(item))
    texts, pictures = list[str](), list[str]()
    content = item.get("content")
    for part in content if isinstance(content, list) else [content]:
        _add_part(part, texts, pictures)
    for name in ("tool_calls", "function_call"):
        if item.get(name):
            texts.append(_written(item[name]))
    return Turn(str(item.get("role", "user")), "\n".join(texts), pictures)


def _add_part(part: Any, texts: list[str], pictures: list[str]) -> None:
    if part is None:
        return
    if not isinstance(part, dict):
        texts.append(_written(part))
        return
    kind = part.get("type")
    address = part.get("image_url")
    address = address.get("url") if isinstance(address, dict) else address
    if kind in _PICTURES and isinstance(address, str):
        pictures.append(address)
        texts.append("[picture]")
    elif kind in _TEXTS or kind is None:
        text = part.get("text", part.get("refusal"))
        texts.append(text if isinstance(text, str) else _written(part))
    else:
        texts.append(f"[{kind}]")


def _written(value: Any) -> str:
    """A value as it is where it is a text, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
