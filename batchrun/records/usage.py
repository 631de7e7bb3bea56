"""Token usage from a response body, whichever field names its gateway uses.

Rules, all tested in tests/records/test_usage.py:

1. A count is an integer from 0 to 2**53, or a float with such a value. Anything else is invalid; it is not 0.
2. Without a valid input and output count there is no usage at all (None), never a guess or a silent 0.
3. In a `Usage`, cached and cache-write tokens are part of the input, reasoning tokens part of the output. Some
   gateways report them besides; the reported counts themselves show it, and then they are added:
   a. total = input + output + reasoning: the reasoning is besides (xAI, Gemini). So is a reasoning larger than the
      output if there is no total. Without any details, tokens that only the total has are reasoning (Gemini).
   b. Cached tokens that are more than the input are besides. So are those under Anthropic's names, unless the total
      shows that they are part of the input.
4. A part that is missing, invalid or larger than its whole by any of these readings counts as not reported (0).

Sources: the API references of OpenAI, Anthropic (Messages), xAI, DeepSeek and Moonshot; answers of Gemini's
OpenAI-compatible endpoint and of LiteLLM and new-api relays.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import msgspec

_Json = dict[Any, Any]
_LARGEST_COUNT = 2**53  # beyond it a float no longer holds every integer, so 18.0-style counts would drift
Count = Annotated[int, msgspec.Meta(ge=0, le=_LARGEST_COUNT)]
"""A whole number in a stored record; its range is checked when it is decoded, not when it is summed."""


class Usage(msgspec.Struct, frozen=True, gc=False, omit_defaults=True):
    """Tokens of one response, or the sum over many.

    `cached_tokens` (read from a prompt cache) and `cache_write_tokens` are disjoint parts of `input_tokens`;
    `reasoning_tokens` is a part of `output_tokens`. `total_tokens` is input plus output. `cache_write_tokens` is left
    out of the JSON while it is 0; it is counted because some models charge more for a cache write than for input.
    `tool_calls` counts the calls of the gateway's own tools that have a price of their own (`web_search`); None if
    there were none.
    """

    input_tokens: Count
    cached_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count
    total_tokens: Annotated[int, msgspec.Meta(ge=0, le=2 * _LARGEST_COUNT)]
    cache_write_tokens: Count = 0
    tool_calls: dict[str, Count] | None = None

    def __add__(self, other: Usage) -> Usage:
        return Usage(  # positional arguments: keyword arguments take twice as long
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.total_tokens + other.total_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            _sum_calls(self.tool_calls, other.tool_calls),
        )

    @property
    def is_zero(self) -> bool:
        """Whether it says that nothing went in and nothing came out, which no answer with a text can have used."""
        return not self.input_tokens and not self.output_tokens


def _sum_calls(some: dict[str, int] | None, others: dict[str, int] | None) -> dict[str, int] | None:
    if not some or not others:
        return some or others
    return some | {name: some.get(name, 0) + count for name, count in others.items()}


ZERO = Usage(0, 0, 0, 0, 0)
"""No usage: where a sum starts."""


class _Names(NamedTuple):
    """The keys under which one API reports the two counts and their parts."""

    input: str
    output: str
    input_details: str
    output_details: str


_RESPONSES = _Names("input_tokens", "output_tokens", "input_tokens_details", "output_tokens_details")
_CHAT = _Names("prompt_tokens", "completion_tokens", "prompt_tokens_details", "completion_tokens_details")


class _Body(msgspec.Struct):
    """The one field of a response body that is read here; the decoder skips the rest without building it."""

    usage: object = None


_decode_body = msgspec.json.Decoder(_Body).decode


def read_usage(body: bytes) -> Usage | None:
    """Usage of a whole response body, of any API; None if it has none, or is not a JSON object."""
    try:
        usage = _decode_body(body).usage
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return parse_usage(usage)


def parse_usage(usage: object) -> Usage | None:
    """Usage of a decoded `usage` value; None unless it has a valid input and a valid output count.

    The total is always input + output, because the bill is made from these two. A reported total only tells whether
    the parts are in them; if it still disagrees, it would make the report contradict itself.
    """
    if not isinstance(usage, dict):
        return None
    try:
        if "input_tokens" in usage:
            known = _read_plain(msgspec.convert(usage, _Plain), usage)
        else:
            known = _read_plain_chat(msgspec.convert(usage, _PlainChat), usage)
    except msgspec.ValidationError:
        known = None
    return known or _parse_any(usage)


class _InputDetails(msgspec.Struct, frozen=True, gc=False):
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0


class _OutputDetails(msgspec.Struct, frozen=True, gc=False):
    reasoning_tokens: Count = 0


_NO_INPUT_DETAILS, _NO_OUTPUT_DETAILS = _InputDetails(), _OutputDetails()


class _Plain(msgspec.Struct, gc=False):
    """Usage as the official API reports it; nearly every answer has this form. Some servers leave out the details."""

    input_tokens: Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_COUNT)]  # two zeros may come with chat counts
    output_tokens: Count
    input_tokens_details: _InputDetails = _NO_INPUT_DETAILS
    output_tokens_details: _OutputDetails = _NO_OUTPUT_DETAILS


class _PlainChat(msgspec.Struct, gc=False):
    """Usage of a chat completion as the official API reports it; servers often leave out the details."""

    prompt_tokens: Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_COUNT)]
    completion_tokens: Count
    total_tokens: Annotated[int, msgspec.Meta(le=2 * _LARGEST_COUNT)]
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None


_CACHE_READ, _CACHE_CREATION = "cache_read_input_tokens", "cache_creation_input_tokens"  # Anthropic's names
_CACHE_HIT = "prompt_cache_hit_tokens"  # DeepSeek's name
_TOOL_USE = "server_tool_use"  # Anthropic's name
# A usage with one of these needs a closer look: other names for its parts, or both sets of names.
_ODD_KEYS = frozenset({"prompt_tokens", _CACHE_READ, _CACHE_CREATION, _CACHE_HIT, "cached_tokens", _TOOL_USE})
_ODD_CHAT_KEYS = _ODD_KEYS - {"prompt_tokens"}


def _read_plain(usage: _Plain, fields: _Json) -> Usage | None:
    """The usage of an official answer; None if anything in it needs a closer look."""
    tokens, output_tokens = usage.input_tokens, usage.output_tokens
    inputs, reasoning = usage.input_tokens_details, usage.output_tokens_details.reasoning_tokens
    cached, written, total = inputs.cached_tokens, inputs.cache_write_tokens, tokens + output_tokens
    if cached + written > tokens or (reasoning and fields.get("total_tokens") != total) or reasoning > output_tokens:
        return None
    return Usage(tokens, cached, output_tokens, reasoning, total, written) if _ODD_KEYS.isdisjoint(fields) else None


def _read_plain_chat(usage: _PlainChat, fields: _Json) -> Usage | None:
    """The usage of a chat completion; None if anything in it needs a closer look."""
    inputs, outputs = usage.prompt_tokens_details or _NO_INPUT_DETAILS, usage.completion_tokens_details
    reasoning = outputs.reasoning_tokens if outputs is not None else 0
    tokens, output_tokens, total = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
    cached, written = inputs.cached_tokens, inputs.cache_write_tokens
    if total != tokens + output_tokens or cached + written > tokens or reasoning > output_tokens:
        return None
    return (
        Usage(tokens, cached, output_tokens, reasoning, total, written) if _ODD_CHAT_KEYS.isdisjoint(fields) else None
    )


def _parse_any(usage: _Json) -> Usage | None:
    """Usage of any dialect, however odd."""
    names, other = _choose_names(usage)
    input_tokens = _count(usage.get(names.input))
    output_tokens = _output(usage, names, input_tokens)
    if input_tokens is None or output_tokens is None:
        return None
    total = _count(usage.get("total_tokens"))
    whole_input, cached, written = _input_parts(usage, names, other, input_tokens, output_tokens, total)
    outputs = _details(usage, names.output_details, other.output_details, other.output, output_tokens)
    if names is _CHAT and not outputs and total is not None and usage.get(names.output) is not None:
        hidden = total - max(whole_input, input_tokens) - output_tokens
        outputs = {"reasoning_tokens": hidden} if hidden > 0 else {}
    output_tokens, reasoning = _output_parts(outputs, output_tokens, {input_tokens, whole_input}, total)
    calls = _tool_calls(usage.get(_TOOL_USE))
    return Usage(whole_input, cached, output_tokens, reasoning, whole_input + output_tokens, written, calls)


def _input_parts(
    usage: _Json, names: _Names, other: _Names, input_tokens: int, output_tokens: int, total: int | None
) -> tuple[int, int, int]:
    """All input tokens, and those of them that were read from the cache and written to it."""
    details = _details(usage, names.input_details, other.input_details, other.input, input_tokens)
    cached = _first_count(details.get("cached_tokens"), usage.get(_CACHE_HIT), usage.get("cached_tokens"))
    written = _first_count(details.get("cache_write_tokens"), details.get("cache_creation_tokens"))
    if not cached + written:
        cached, written = _first_count(usage.get(_CACHE_READ)), _first_count(usage.get(_CACHE_CREATION))
        if cached + written and total != input_tokens + output_tokens:
            is_besides = not details or total == input_tokens + cached + written + output_tokens
        else:
            is_besides = cached + written > input_tokens
    else:
        is_besides = cached > input_tokens
        if not is_besides and cached + written > input_tokens:
            written = 0
    if not is_besides:
        return input_tokens, cached, written
    whole = input_tokens + cached + written
    return (whole, cached, written) if whole <= _LARGEST_COUNT else (input_tokens, 0, 0)


def _output_parts(details: _Json, output_tokens: int, inputs: set[int], total: int | None) -> tuple[int, int]:
    """All output tokens, and those of them that are reasoning. `inputs` are the readings of the input."""
    reasoning = _first_count(details.get("reasoning_tokens"))
    whole = output_tokens + reasoning
    is_besides = reasoning > output_tokens if total is None else total in {tokens + whole for tokens in inputs}
    if is_besides and whole <= _LARGEST_COUNT:
        return whole, reasoning
    return output_tokens, reasoning if reasoning <= output_tokens else 0


def _first_count(*values: object) -> int:
    """The first of the values that is a count and not 0; else 0."""
    return next((count for value in values if (count := _count(value))), 0)


def _tool_calls(reported: object) -> dict[str, int] | None:
    """The calls that Anthropic's `server_tool_use` counts: `{"web_search_requests": 2}`."""
    if not isinstance(reported, dict):
        return None
    counts = {name: count for name, value in reported.items() if (count := _count(value)) and isinstance(name, str)}
    return {tool_name(name.removesuffix("_requests")): count for name, count in counts.items()} or None


def tool_name(name: str) -> str:
    """The name of a tool as the bill shows it; `other` for a name that is no plain word."""
    return name if name.replace("_", "").isalnum() and name.isascii() and len(name) <= _LONGEST_NAME else "other"


_LONGEST_NAME = 40


def _choose_names(usage: _Json) -> tuple[_Names, _Names]:
    """The names to read by, and the other ones. If both sets are present, the Responses names win.

    new-api writes one structure with both sets, and leaves the set that it did not fill at 0; so a pair of zeros
    loses against chat counts that are not 0.
    """
    responses = _count(usage.get("input_tokens")), _count(usage.get("output_tokens"))
    if None in responses:
        return _CHAT, _RESPONSES
    if responses == (0, 0):
        chat = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
        if any(chat):
            return _CHAT, _RESPONSES
    return _RESPONSES, _CHAT


def _output(usage: _Json, names: _Names, input_tokens: int | None) -> int | None:
    """The output count. Embeddings report none; it is 0 only if the total equals the prompt."""
    reported = usage.get(names.output)
    if reported is None and names is _CHAT and not usage.get("output_tokens"):
        return 0 if _count(usage.get("total_tokens")) == input_tokens else None
    return _count(reported)


def _details(usage: _Json, key: str, other_key: str, other_whole: str, whole: int) -> _Json:
    """The details of a count; if they are missing, those of the other dialect, if its whole is the same.

    new-api has no `output_tokens_details`: beside `output_tokens` it reports `completion_tokens_details`.
    """
    details = usage.get(key)
    if not isinstance(details, dict):
        details = usage.get(other_key)
        if not isinstance(details, dict) or _count(usage.get(other_whole)) != whole:
            return {}
    return details


def _count(value: object) -> int | None:
    """A token count, or None for anything that is not one; `True` is not 1, and "18" is not 18."""
    if type(value) is int:
        return value if 0 <= value <= _LARGEST_COUNT else None
    if type(value) is float and value.is_integer():
        return int(value) if 0 <= value <= _LARGEST_COUNT else None
    return None
