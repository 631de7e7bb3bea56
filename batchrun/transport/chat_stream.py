"""A chat stream that nobody asked for, put together into the chat completion that was asked for. Pure.

The stream is whole when every choice has its `finish_reason` and no event of it is torn. `[DONE]` proves nothing:
relays write it also where what is behind them broke off.
Rules: OpenAI's chat completion chunks (https://platform.openai.com/docs/api-reference/chat-streaming).
"""

from __future__ import annotations

import json
from typing import Any

import orjson

from batchrun.records.rawjson import parse
from batchrun.transport.sse import Event, EventDecoder

_Json = dict[str, Any]
_WHOLE = ("role", "id", "type", "name", "index", "format")  # members that no delta continues


def assemble_chat(body: bytes) -> bytes | None:
    """The JSON of a body of events: a completion, an error, or the whole answer of one event; None if it is cut."""
    decoder = EventDecoder()
    answer: _Json = {}
    choices: dict[int, _Json] = {}
    for event in [*decoder.feed(body), *decoder.flush()]:
        if event.data.strip() == b"[DONE]":
            continue
        chunk = parse(event.data)
        if not isinstance(chunk, dict):
            if event.data.lstrip().startswith(b"{"):
                return None  # nobody knows what it held
            continue
        if _is_whole(event, chunk):
            return event.data.strip()
        answer.update({name: value for name, value in chunk.items() if value is not None})
        for choice in chunk.get("choices") or []:
            if isinstance(choice, dict):
                _add_choice(choices, choice)
    if not choices or not all(choice["finish_reason"] for choice in choices.values()):
        return None
    return _encoded(
        answer | {"object": "chat.completion", "choices": [choice for _, choice in sorted(choices.items())]}
    )


def _is_whole(event: Event, chunk: _Json) -> bool:
    """Whether an event is an error, or an answer by itself."""
    choices = chunk.get("choices")
    has_message = isinstance(choices, list) and any(isinstance(one, dict) and "message" in one for one in choices)
    return bool(chunk.get("error")) or event.name == "error" or has_message or isinstance(chunk.get("data"), list)


def _add_choice(choices: dict[int, _Json], choice: _Json) -> None:
    index = choice.get("index")
    index = index if isinstance(index, int) else 0
    whole = choices.setdefault(index, {"index": index, "message": {"role": "assistant"}, "finish_reason": None})
    delta = choice.get("delta")
    if isinstance(delta, dict):
        _merge(whole["message"], delta)
    _merge(whole, {name: value for name, value in choice.items() if name not in ("index", "delta", "finish_reason")})
    whole["finish_reason"] = choice.get("finish_reason") or whole["finish_reason"]


def _merge(whole: _Json, delta: _Json) -> None:
    """Continue the texts and lists of `whole` by those of `delta`."""
    for name, value in delta.items():
        had = whole.get(name)
        if not had or value is None:
            whole[name] = had if value is None else _by_index([], value) if isinstance(value, list) else value
        elif isinstance(value, str) and isinstance(had, str):
            whole[name] = had if name in _WHOLE else had + value
        elif isinstance(value, dict) and isinstance(had, dict):
            _merge(had, value)
        elif isinstance(value, list) and isinstance(had, list):
            _by_index(had, value)
        else:
            whole[name] = value


def _by_index(whole: list[Any], more: list[Any]) -> list[Any]:
    """`whole` with more elements; one with the `index` of another, such as a call of a tool, continues that."""
    for element in more:
        index = element.get("index") if isinstance(element, dict) else None
        known = (each for each in whole if isinstance(each, dict) and each.get("index") == index)
        same = next(known, None) if index is not None else None
        if same is None:
            whole.append(element)
        else:
            _merge(same, element)
    return whole


def _encoded(answer: _Json) -> bytes:
    try:
        return orjson.dumps(answer)
    except (TypeError, orjson.JSONEncodeError):  # half a surrogate pair, or a number that is too large
        return json.dumps(answer).encode()
