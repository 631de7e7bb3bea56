"""What an answer says: its text, its tool calls, the JSON in it; and one line of a result file as a typed `Result`.

1. Pure, and tolerant: an answer of another shape has no text and no calls.
2. One code fence around the JSON is taken off. Nothing else is repaired: a mended label is a false statement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
from msgspec import Raw

from batchrun.records.outcome import Outcome
from batchrun.records.rawjson import REFUSED, member
from batchrun.records.result import ErrorInfo, RunInfo, parse_payloads, parse_stored
from batchrun.records.usage import Usage

_Json = dict[str, Any]


class NotJsonError(ValueError):
    """A text is not strict JSON; the message says where and why."""


class DoubledKeyError(NotJsonError):
    """An object has a key twice, so that it says two things."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of a tool in an answer.

    `name`: of the tool. `arguments`: as the model wrote them, a text that should be JSON. `call_id`: the gateway's id
    of the call, "" if it gave none.
    """

    name: str
    arguments: str
    call_id: str = ""

    @property
    def parsed(self) -> Any:
        """The arguments, parsed; None if they are not JSON."""
        return _parsed_or_none(self.arguments)


class Result(msgspec.Struct, frozen=True, gc=False):
    """One line with its answer, or with its error.

    `custom_id`: the id of the request.
    `run`: how the line was run: its number (`run.line`, from 1), `run.outcome`, `run.usage`, `run.attempts`, …
    `error`: None for a clean answer; else its `code` and `message`.
    `body`: the response object of the gateway, parsed; None where no answer came.
    `record`: the bytes of its line in the result file, without the newline.
    """

    custom_id: str
    run: RunInfo
    error: ErrorInfo | None
    body: Any
    record: bytes

    @property
    def outcome(self) -> Outcome:
        """`succeeded`, `refused`, `incomplete`, `empty`, `invalid` or `failed`."""
        return self.run.outcome

    @property
    def usage(self) -> Usage | None:
        """The tokens of the answer; None where it reported none."""
        return self.run.usage

    @property
    def text(self) -> str | None:
        """The text of the answer (of a chat completion: of its first choice); None where there is none."""
        return text_of(self.body)

    @property
    def parsed(self) -> Any:
        """The JSON of the answer: its last message, or where it has none the arguments of its only tool call.

        One code fence around it is taken off. None where there is no JSON.
        """
        text = json_text_of(self.body)
        return None if text is None else _parsed_or_none(unfenced(text))

    @property
    def tool_calls(self) -> tuple[ToolCall, ...]:
        """The calls of functions and custom tools, in their order."""
        return tuple(tool_calls_of(self.body))


class _Response(msgspec.Struct, gc=False):
    body: Raw = Raw(b"")


_decode_response = msgspec.json.Decoder(_Response).decode
_decode_any = msgspec.json.Decoder().decode


def read_result(record: bytes) -> Result:
    """A `Result` from its line in a result file, without the newline.

    Raises `ValueError` if it is not a record, `UnknownVersionError` if it is a record of another version.
    """
    head, response = parse_stored(record)
    body = b""
    if response.startswith(b"{"):
        try:
            body = bytes(_decode_response(response).body)
        except REFUSED:
            body = member(response, "body")
    return Result(head.custom_id, head.run, head.error, _parsed_body(body) if body else None, record)


def read_results(lines: Sequence[bytes]) -> Sequence[Result]:
    """The same of many lines with their newlines, in half the time.

    Raises `ValueError` if any is not a record, or one that `read_result` must look at more closely.
    """
    return [
        Result(record.custom_id, record.run, record.error, _body_in(record.response), raw.removesuffix(b"\n"))
        for record, raw in zip(parse_payloads(lines), lines, strict=True)
    ]


def _body_in(response: Any) -> Any:
    return response.get("body") if type(response) is dict else None


def _parsed_body(body: bytes) -> Any:
    try:
        return _decode_any(body)
    except REFUSED:  # Python's own reader takes endless numbers, too
        return json.loads(body)


# ------------------------------------------------------------------------------------------------ the text


def plain_text(body: Any) -> str | None:
    """The text of an answer that is one message of one text, as most are; None of any other. Reasoning may precede it.

    Where there is one, it is what `text_of` and `json_text_of` find, and there are no calls.
    """
    if not isinstance(body, dict) or "choices" in body:
        return None
    output = body.get("output")
    if not isinstance(output, list) or not 1 <= len(output) <= 2:
        return None
    if len(output) == 2 and (not isinstance(output[0], dict) or output[0].get("type") != "reasoning"):
        return None
    message = output[-1]
    content = message.get("content") if isinstance(message, dict) and message.get("type") == "message" else None
    part = content[0] if isinstance(content, list) and len(content) == 1 else None
    text = part.get("text") if isinstance(part, dict) and part.get("type") == "output_text" else None
    return text if isinstance(text, str) and text and not text.isspace() else None


def text_of(body: Any) -> str | None:
    """The text in a response object or a chat completion; None where there is none."""
    if not isinstance(body, dict):
        return None
    if (message := _first_message(body)) is not None:
        text = message.get("content")
        return text if isinstance(text, str) else None
    texts = [
        part["text"]
        for item in _objects(body.get("output"))
        if item.get("type") == "message"
        for part in _objects(item.get("content"))
        if part.get("type") == "output_text" and isinstance(part.get("text"), str)
    ]
    return "".join(texts) if texts else _output_text(body)


def _output_text(body: _Json) -> str | None:
    """The text that some gateways write beside an empty output, or in its place."""
    text = body.get("output_text")
    return text if isinstance(text, str) else None


def refusal_of(body: Any) -> str | None:
    """What the model says where it refuses; None where it says nothing."""
    if not isinstance(body, dict):
        return None
    if (message := _first_message(body)) is not None:
        refusal = message.get("refusal")
        return refusal if isinstance(refusal, str) and refusal else None
    for item in _objects(body.get("output")):
        for part in _objects(item.get("content")):
            if isinstance(part.get("refusal"), str):
                return str(part["refusal"])
    return None


def final_texts(body: _Json) -> Iterator[str]:
    """The texts that must fit a schema: the last message of a response, each choice of a chat completion.

    Never tool calls: an answer that ends with one has no such text.
    """
    if "choices" in body:
        for choice in _objects(body["choices"]):
            message = choice.get("message")
            message = message if isinstance(message, dict) else {}
            if not message.get("tool_calls") and not message.get("function_call"):
                yield _joined(message.get("content"))
        return
    text = _last_message(body)
    if text is not None:
        yield text


def _last_message(body: _Json) -> str | None:
    """The text of the last item of a response that is no reasoning; None where that is no message."""
    output = body.get("output")
    for item in reversed(output) if type(output) is list else ():
        if type(item) is dict and (kind := item.get("type", "message")) != "reasoning":
            return _joined(item.get("content")) if kind == "message" else None
    return _joined(_output_text(body))


def json_text_of(body: Any) -> str | None:
    """The text that should be JSON: the last message, or the arguments of the only tool call; None without either."""
    if not isinstance(body, dict):
        return None
    text = next(final_texts(body), "") if "choices" in body else _last_message(body)
    if text and not text.isspace():
        return text
    calls = list(tool_calls_of(body))
    return calls[0].arguments if len(calls) == 1 else None


def _first_message(body: _Json) -> _Json | None:
    """The message of the first choice of a chat completion; None for any other answer."""
    choices = body.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return None
    message = choices[0].get("message")
    return message if isinstance(message, dict) else {}


def _joined(content: Any) -> str:
    """The text of a message, which is a string or a list of parts."""
    if isinstance(content, str):
        return content
    texts = [part.get("text") for part in content if type(part) is dict] if type(content) is list else []
    return "".join([text for text in texts if type(text) is str])


def _objects(values: Any) -> list[_Json]:
    return [value for value in values if isinstance(value, dict)] if isinstance(values, list) else []


# ------------------------------------------------------------------------------------------- calls and JSON


def tool_calls_of(body: Any) -> Iterator[ToolCall]:
    """The calls of functions and custom tools in an answer, of a chat completion those of its first choice."""
    if not isinstance(body, dict):
        return
    message = _first_message(body)
    if message is None:
        for item in _objects(body.get("output")):
            if item.get("type") in ("function_call", "custom_tool_call"):
                yield _call(item, item.get("call_id"))
        return
    for call in _objects(message.get("tool_calls")):
        made = call.get("function") or call.get("custom")
        if isinstance(made, dict):
            yield _call(made, call.get("id"))
    if not message.get("tool_calls") and isinstance(message.get("function_call"), dict):
        yield _call(message["function_call"], "")


def _call(made: _Json, call_id: Any) -> ToolCall:
    arguments = made.get("arguments", made.get("input", ""))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)
    return ToolCall(str(made.get("name", "")), text, call_id if isinstance(call_id, str) else "")


_FENCE = re.compile(r"\s*```[\w+-]*[ \t]*\r?\n(.*?)\r?\n[ \t]*```\s*", re.DOTALL)


def unfenced(text: str) -> str:
    """The text without the one code fence that is all around it; any other text as it is."""
    if "```" not in text:
        return text
    found = _FENCE.fullmatch(text)
    return found[1] if found and "```" not in found[1] else text


def parse_json(text: str) -> Any:
    """The value of a JSON text; whole numbers of any size are exact. Raises `NotJsonError`."""
    try:
        value = _decode_any(text)
    except RecursionError:
        raise NotJsonError("nested too deeply") from None
    except ValueError as error:
        raise NotJsonError(str(error)) from None
    refuse_doubled_keys(text, value)
    return value


def refuse_doubled_keys(text: str, value: Any) -> None:
    """Raise `DoubledKeyError` where an object has a key twice: nobody knows which value is meant (RFC 7493, 2.3).

    `value`: the JSON text, parsed, of which only the last one is left.
    """
    colons = text.count(":")
    if not colons or not isinstance(value, (dict, list)) or (type(value) is dict and len(value) == colons):
        return  # as many keys as colons: none is doubled
    try:
        _decode_pairs(text)
    except RecursionError:
        raise NotJsonError("nested too deeply") from None


def _refuse_doubled(pairs: Sequence[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        doubled = next(name for name in names if names.count(name) > 1)
        raise DoubledKeyError(f'the key "{doubled}" stands twice in an object')


# Numbers are left as texts: one of thousands of digits is no number for Python.
_decode_pairs = json.JSONDecoder(
    object_pairs_hook=_refuse_doubled, parse_int=str, parse_float=str, parse_constant=str
).decode


def _parsed_or_none(text: str) -> Any:
    try:
        return parse_json(text)
    except NotJsonError:
        return None
