"""Text that a stream brought, put back where a later event says less of it. Pure.

A later text that is only the start of an earlier one, or nothing, says less. One that is another is a correction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import msgspec

from batchrun.records.rawjson import REFUSED, member, parse, with_member

_decode_list = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Streamed(NamedTuple):
    """An output item as it was streamed: the answer's text in it, and how to make its JSON."""

    type: str
    id: str
    text: str
    render: Callable[[], bytes]


def says_less(later: str, earlier: str) -> bool:
    """Whether a text is but the start of an earlier one, or nothing."""
    return len(later) < len(earlier) and earlier.startswith(later)


def answer_texts(item: object) -> list[str]:
    """Return what of an output item is the answer's: texts and refusals, or the input of a tool call."""
    if not isinstance(item, dict) or item.get("type") == "reasoning":
        return []
    content = item.get("content")
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    texts = [item.get("arguments"), item.get("input")]
    texts += [part.get(name) for part in parts for name in ("text", "refusal")]
    return [text for text in texts if isinstance(text, str) and text]


def list_member(raw: bytes, name: str) -> list[bytes]:
    """The elements of a list in the object `raw`, each as it is; none if there is no such list."""
    try:
        return [bytes(element) for element in _decode_list(member(raw, name))]
    except REFUSED:
        return []


def with_lost_text(response: bytes, streamed: list[Streamed]) -> bytes:
    """A final response, in whose output every item that was streamed with text has that text."""
    output = parse(member(response, "output"))
    told = [item for item in streamed if item.text]
    if not told or not isinstance(output, list) or not all(map(_is_item, output)):
        return response
    texts = ["".join(answer_texts(item)) for item in output]
    if [text for text in texts if text] == [item.text for item in told]:
        return response  # as nearly always
    raws = list_member(response, "output")
    if len(raws) != len(output):
        return response  # JSON that strict readers refuse: kept as it is
    places = _pair(told, output, texts)
    after = 0 if any(place is not None for place in places) else len(raws)
    before, missing = list(raws), list[tuple[int, bytes]]()
    for item, place in zip(told, places, strict=True):
        if place is None:
            missing.append((after, item.render()))
            continue
        after = place + 1
        if says_less(texts[place], item.text):
            raws[place] = item.render()
    if not missing and raws == before:
        return response
    for at, raw in reversed(missing):
        raws.insert(at, raw)
    return with_member(response, "output", b"[" + b",".join(raws) + b"]")


def _is_item(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("type"), str)


def _pair(told: list[Streamed], items: list[dict[str, object]], texts: list[str]) -> list[int | None]:
    """The place of each streamed item in the final output: by its id, by its text, then by its type and order."""
    places: list[int | None] = [None] * len(told)
    free = set(range(len(items)))
    for matches in (
        lambda at, item: bool(item.id) and items[at].get("id") == item.id,
        lambda at, item: item.text in texts[at],
        lambda at, item: items[at].get("type") == item.type,
    ):
        for number, item in enumerate(told):
            if places[number] is None:
                places[number] = next((at for at in sorted(free) if matches(at, item)), None)
                free.discard(-1 if places[number] is None else places[number])
    return places
