"""A Responses API event stream put together into the final response object.

Contract: `ResponseAssembler` takes decoded events and does no I/O. What the gateway sent is passed on byte for
byte: parsers only look at it, so numbers, key order and JSON that no parser accepts (lone surrogates, NaN, deep
nesting) survive. A terminal event was paid for: it is dropped for its JSON only where that is cut off.
Neither `[DONE]` nor the end of the stream ends an answer. The first terminal event or error does. Text that was
streamed is kept where a later event says less of it: an item or part closed as empty, a final response without it.
Deltas alone are not taken as the text where an event was torn: it may have held one of them.
Rules: OpenAI's streaming events (https://platform.openai.com/docs/api-reference/responses-streaming), and the
deviations of relays: empty final `output`, no `output_index`, bare `{"error": …}`, no JSON `type`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

import msgspec

from batchrun.records.rawjson import (
    REFUSED,
    encode_string,
    is_empty_list,
    is_object,
    member,
    member_spans,
    parse,
    string_member,
    with_member,
)
from batchrun.transport.lost_text import Streamed, answer_texts, list_member, says_less, with_lost_text
from batchrun.transport.sse import Event

_TERMINALS = {"response.completed", "response.incomplete", "response.failed", "response.done"}


class _Channel(NamedTuple):
    """Where the deltas of one kind of event belong in the output."""

    item_type: str
    list_name: str  # the item's list of parts; "" for a string of the item itself
    part_type: str
    text_field: str


_CHANNELS = {
    "output_text": _Channel("message", "content", "output_text", "text"),
    "refusal": _Channel("message", "content", "refusal", "refusal"),
    "reasoning_text": _Channel("reasoning", "content", "reasoning_text", "text"),
    "reasoning_summary_text": _Channel("reasoning", "summary", "summary_text", "text"),
    "function_call_arguments": _Channel("function_call", "", "", "arguments"),
    "custom_tool_call_input": _Channel("custom_tool_call", "", "", "input"),
}
_DELTA_EVENTS = {f"response.{name}.delta": channel for name, channel in _CHANNELS.items()}
_DONE_EVENTS = {f"response.{name}.done": channel for name, channel in _CHANNELS.items()}
_CHANNEL_OF_PART = {channel.part_type: channel for channel in _CHANNELS.values() if channel.part_type}
_ITEM_ADDED, _ITEM_DONE = "response.output_item.added", "response.output_item.done"
_PART_ADDED = {"response.content_part.added", "response.reasoning_summary_part.added"}
_PART_DONE = {"response.content_part.done", "response.reasoning_summary_part.done"}


class _Wire(msgspec.Struct, gc=False):
    """The fields of an event that we use; any JSON type is let in, so that an odd one costs no event."""

    type: object = None
    output_index: object = None
    item_id: object = None
    content_index: object = None
    summary_index: object = None
    delta: object = None
    text: object = None
    refusal: object = None
    arguments: object = None
    input: object = None
    response: msgspec.Raw = msgspec.Raw()
    item: msgspec.Raw = msgspec.Raw()
    part: msgspec.Raw = msgspec.Raw()
    error: msgspec.Raw = msgspec.Raw()


_RAW_FIELDS = {"response", "item", "part", "error"}
_decode_wire = msgspec.json.Decoder(_Wire).decode


@dataclass(frozen=True, slots=True)
class StreamResult:
    """The result of a stream. Without `terminal` and `error` it was cut off, and is not a success.

    `response` is JSON as it came, and may be more than a parser takes: check it before it is trusted.
    """

    terminal: str | None = None  # the type of the terminal event
    response: bytes | None = None  # the response object of the terminal event
    rebuilt: bool = False  # `output` was empty in the terminal event, and is put together from the others
    error: bytes | None = None  # {"error": {…}}, whatever shape it came in
    partial: bytes | None = None  # no terminal: the text so far (UTF-8) or the torn terminal; to show only


@dataclass(slots=True)
class _Part:
    """A text that grows: one content or summary part, or one string of an item."""

    channel: _Channel
    raw: bytes = b""  # the part as it was added, or as it was closed
    pieces: list[str] = field(default_factory=list)  # the text that goes into `raw`
    closed: bool = False  # an event has given the text whole

    def text(self) -> str:
        """Return the text so far."""
        return "".join(self.pieces) if self.pieces else string_member(self.raw, self.channel.text_field)

    def render(self) -> bytes:
        """Return the part (or the string of the item) as JSON."""
        if self.raw and not self.pieces:
            return self.raw
        text = encode_string("".join(self.pieces))
        if not self.channel.list_name:
            return text
        raw = self.raw or b'{"type":"%s"}' % self.channel.part_type.encode()
        return with_member(raw, self.channel.text_field, text)


@dataclass(slots=True)
class _Item:
    """One output item, as far as the events describe it."""

    type: str
    id: str = ""
    raw: bytes = b""  # the item as it was added, or as it was closed
    closed: bool = False
    parts: dict[tuple[str, int], _Part] = field(default_factory=dict)  # by list name and index

    @property
    def is_of_deltas(self) -> bool:
        """Whether some of its text is known by its deltas alone."""
        return not self.closed and any(part.pieces and not part.closed for part in self.parts.values())

    def text(self) -> str:
        """Return what of the item is the answer's, reasoning left out."""
        if self.type != "reasoning" and self.parts:
            return "".join([part.text() for _, part in self._sorted_parts()])
        return "".join(answer_texts(parse(self.raw)))

    def render(self, status: str) -> bytes:
        """Return the item as JSON; `status` is for an item that no event has closed."""
        if self.closed:
            return self._with_lost_parts() if self.parts else self.raw
        known = {"type": self.type, "id": self.id, "role": "assistant" if self.type == "message" else ""}
        item = self.raw or json.dumps({name: value for name, value in known.items() if value}).encode()
        lists: dict[str, list[bytes]] = {}
        for (list_name, _), part in self._sorted_parts():
            if list_name:
                lists.setdefault(list_name, []).append(part.render())
            else:
                item = with_member(item, part.channel.text_field, part.render())
        for list_name, rendered in lists.items():
            item = with_member(item, list_name, b"[" + b",".join(rendered) + b"]")
        return with_member(item, "status", encode_string(status))

    def _sorted_parts(self) -> list[tuple[tuple[str, int], _Part]]:
        return sorted(self.parts.items(), key=lambda entry: entry[0])

    def _with_lost_parts(self) -> bytes:
        """Return the item as it was closed, with the parts of which that says less than the events before it."""
        item = self.raw
        for (list_name, index), part in self._sorted_parts():
            name = part.channel.text_field
            parts = list_member(item, list_name) if list_name else []
            closed = (parts[index] if index < len(parts) else b"") if list_name else self.raw
            if not says_less(string_member(closed, name), part.text()):
                continue
            if list_name:
                item = with_member(
                    item, list_name, b"[" + b",".join([*parts[:index], part.render(), *parts[index + 1 :]]) + b"]"
                )
            else:
                item = with_member(item, name, part.render())
        return item


class ResponseAssembler:
    """Follows one stream: `add` each event until `finished`, then take the `result`.

    The other attributes are for timing and diagnostics, and may be read after every `add`.
    """

    def __init__(self) -> None:
        self.events = 0  # data events so far, `[DONE]` not counted
        self.bad_events = 0  # those of them that were no JSON object
        self.torn_events = 0  # those of them that begin like one
        self.text_seen = False  # True from the first text of the answer on; reasoning is none
        self.finished = False  # a terminal event or an error has come; nothing after it counts
        self._items: dict[int, _Item] = {}  # by output_index
        self._opening = b""  # the response object of the latest event that is not terminal
        self._terminal: str | None = None
        self._response = b""
        self._error: bytes | None = None
        self._torn = b""

    def add(self, event: Event) -> None:
        """Take the next event. No event makes it raise: what cannot be read is counted and left out."""
        if event.data.strip() == b"[DONE]":
            return
        self.events += 1
        if self.finished:
            return
        wire = _decode_event(event.data)
        if wire is None:
            self.bad_events += 1
            self.torn_events += event.data.lstrip().startswith(b"{")
            self._torn = event.data if event.name in _TERMINALS else self._torn
            return
        kind = wire.type if isinstance(wire.type, str) and wire.type else event.name
        if kind in _DELTA_EVENTS or kind in _DONE_EVENTS:
            self._add_text(kind, wire)
        elif kind in (_ITEM_ADDED, _ITEM_DONE):
            self._add_item(kind, wire)
        elif kind in _PART_ADDED or kind in _PART_DONE:
            self._add_part(kind, wire)
        elif _is_error(kind, wire):
            self._error = _normalise_error(wire.error, event.data)
            self.finished = True
        elif kind in _TERMINALS:
            self._finish(kind, wire)
        elif is_object(wire.response):
            self._opening = bytes(wire.response)
        elif not kind and (ends_as := _whole_response(event.data)):
            self._finish(ends_as, _Wire(response=msgspec.Raw(event.data)))

    def result(self) -> StreamResult:
        """Return the result of the stream; call it when no more events will come."""
        items = [item for _, item in sorted(self._items.items(), key=lambda entry: entry[0])]
        if self._terminal is None:
            return self._cut(items)
        status = self._terminal.removeprefix("response.").replace("done", "completed")
        response = self._response
        if not response and items and self._opening:  # a terminal event without a response
            response = with_member(self._opening, "status", encode_string(status))
        # A completed answer has no open item, whatever event the relay lost; in any other it was cut.
        item_status = "completed" if status == "completed" else "incomplete"
        rebuilt = bool(items) and is_empty_list(member(response, "output"))
        told = response
        if items and not rebuilt:
            streamed = [Streamed(item.type, item.id, item.text(), partial(item.render, item_status)) for item in items]
            response = with_lost_text(response, streamed)
        elif rebuilt:
            output = b"[" + b",".join(item.render(item_status) for item in items) + b"]"
            response = with_member(response or b"{}", "output", output)
        if self.torn_events and response != told and any(item.is_of_deltas for item in items):
            return self._cut(items)
        return StreamResult(self._terminal, response or None, rebuilt)

    def _cut(self, items: list[_Item]) -> StreamResult:
        """The result of a stream that lacks a part of the answer: its error, and the text so far, to be shown."""
        text = "".join(text for item in items for text in answer_texts(parse(item.render(""))))
        so_far = text.encode("utf-8", "replace") or self._torn
        return StreamResult(error=self._error, partial=so_far or None)

    def _add_text(self, kind: str, wire: _Wire) -> None:
        """Take a delta, or the whole text that replaces the deltas."""
        delta_channel = _DELTA_EVENTS.get(kind)
        channel = delta_channel or _DONE_EVENTS[kind]
        text = wire.delta if delta_channel else getattr(wire, channel.text_field)
        if not isinstance(text, str):
            return
        part = self._find_part(wire, channel)
        if delta_channel:
            part.pieces.append(text)
        else:
            part.closed = True
            if not says_less(text, part.text()):
                part.pieces = [text]
        if text and channel.item_type != "reasoning":
            self.text_seen = True

    def _add_part(self, kind: str, wire: _Wire) -> None:
        """Take a part of a message or of reasoning, opened or closed."""
        channel = _CHANNEL_OF_PART.get(string_member(wire.part, "type"))
        if channel is None:
            return
        part = self._find_part(wire, channel)
        before, part.raw = part.text(), bytes(wire.part)
        if kind in _PART_DONE:
            part.closed = True
            is_less = says_less(string_member(wire.part, channel.text_field), before)
            part.pieces = [before] if is_less else []
            if channel.item_type != "reasoning" and string_member(wire.part, channel.text_field):
                self.text_seen = True

    def _add_item(self, kind: str, wire: _Wire) -> None:
        """Take an output item, opened or closed."""
        if not is_object(wire.item):
            return
        item_id, item_type = string_member(wire.item, "id"), string_member(wire.item, "type")
        item = self._find_item(wire.output_index, item_id, item_type, opens=kind == _ITEM_ADDED)
        item.id = item_id or item.id
        item.raw = bytes(wire.item)
        item.closed = kind == _ITEM_DONE
        self.text_seen = self.text_seen or (item.closed and bool(answer_texts(parse(item.raw))))

    def _finish(self, kind: str, wire: _Wire) -> None:
        """Take the terminal event."""
        self.finished = True
        self._terminal = kind
        self._response = bytes(wire.response) if is_object(wire.response) else b""
        if not self.text_seen:
            output = parse(member(self._response, "output"))
            self.text_seen = isinstance(output, list) and any(answer_texts(item) for item in output)

    def _find_part(self, wire: _Wire, channel: _Channel) -> _Part:
        """Return the part that the event means, made if it is new."""
        item_id = wire.item_id if isinstance(wire.item_id, str) else ""
        item = self._find_item(wire.output_index, item_id, channel.item_type)
        index = wire.summary_index if channel.list_name == "summary" else wire.content_index
        key = (channel.list_name, index if isinstance(index, int) else 0)
        part = item.parts.get(key)
        if part is None:
            part = item.parts[key] = _Part(channel)
        return part

    def _find_item(self, index: object, item_id: str, item_type: str, *, opens: bool = False) -> _Item:
        """Return the item that an event means, made if it is new.

        `output_index` decides. Without it (llama.cpp) the id does, and without a known id the last item,
        if it is open, of the same type, and not known by another id.
        """
        if not isinstance(index, int):
            last = max(self._items, default=-1)
            known = [place for place, item in self._items.items() if item_id and item.id == item_id]
            index = known[0] if known else last + 1
            if not known and not opens and last >= 0:
                item = self._items[last]
                if not item.closed and item.type == item_type and not (item_id and item.id):
                    index = last
        if index not in self._items:
            self._items[index] = _Item(item_type, item_id)
        return self._items[index]


def _whole_response(data: bytes) -> str:
    """The terminal event that an event without a type stands for: it is a whole response by itself; else ""."""
    ends_as = f"response.{string_member(data, 'status')}"
    return ends_as if ends_as in _TERMINALS and string_member(data, "object") == "response" else ""


def _is_error(kind: str, wire: _Wire) -> bool:
    """Tell whether an event is an error: by type, or by an `error` that no Responses event would hold."""
    is_foreign = not kind.startswith("response.") or (kind in _TERMINALS and not is_object(wire.response))
    return kind == "error" or (is_foreign and bytes(wire.error) not in (b"", b"null"))


def _normalise_error(error: msgspec.Raw, data: bytes) -> bytes:
    """Return `{"error": {…}}` for an error event: nested, a string, or flat (then it is the event itself)."""
    if is_object(error):
        return b'{"error":%s}' % bytes(error)
    if bytes(error).startswith(b'"'):
        return b'{"error":{"message":%s}}' % bytes(error)
    return b'{"error":%s}' % data.strip()


def _decode_event(data: bytes) -> _Wire | None:
    """Return the fields of an event; None if it is not a JSON object, or a torn one."""
    try:
        return _decode_wire(data)
    except REFUSED:
        pass
    spans = member_spans(data)
    if not spans:
        return None
    wire = _Wire()
    for name in _Wire.__struct_fields__:
        start, end = spans.get(name.encode(), (0, 0))
        raw = data[start:end].strip()
        setattr(wire, name, msgspec.Raw(raw) if name in _RAW_FIELDS else parse(raw))
    return wire
