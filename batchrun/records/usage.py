"""Token usage from a response body, whichever field names its gateway uses.

Rules, all tested in tests/records/test_usage.py:

1. A count is an integer from 0 to 2**53, or a float with such a value. Anything else is invalid; it is not 0.
2. Without a valid input and output count there is no usage at all (None), never a guess or a silent 0.
3. Cached and cache-write tokens are part of the input, reasoning tokens part of the output; none is added to them.
4. A part that is missing, invalid or larger than its whole counts as not reported, which is 0.
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
    """

    input_tokens: Count
    cached_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count
    total_tokens: Annotated[int, msgspec.Meta(ge=0, le=2 * _LARGEST_COUNT)]
    cache_write_tokens: Count = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(  # positional arguments: keyword arguments take twice as long
            self.input_tokens + other.input_tokens,
            self.cached_tokens + other.cached_tokens,
            self.output_tokens + other.output_tokens,
            self.reasoning_tokens + other.reasoning_tokens,
            self.total_tokens + other.total_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
        )


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

    The total is always input + output, because the bill is made from these two. A reported total that disagrees
    (from a gateway that adds reasoning twice, say) would make the report contradict itself.
    """
    try:
        return _read_plain(msgspec.convert(usage, _Plain))
    except msgspec.ValidationError:
        return _parse_any(usage) if isinstance(usage, dict) else None


class _InputDetails(msgspec.Struct, gc=False):
    cached_tokens: Count = 0
    cache_write_tokens: Count = 0


class _OutputDetails(msgspec.Struct, gc=False):
    reasoning_tokens: Count = 0


class _Plain(msgspec.Struct, gc=False):
    """Usage as the official API reports it; nearly every answer has this form."""

    input_tokens: Annotated[int, msgspec.Meta(ge=1, le=_LARGEST_COUNT)]  # two zeros may come with chat counts
    output_tokens: Count
    input_tokens_details: _InputDetails
    output_tokens_details: _OutputDetails


def _read_plain(usage: _Plain) -> Usage:
    tokens, output_tokens = usage.input_tokens, usage.output_tokens
    cached, written = usage.input_tokens_details.cached_tokens, usage.input_tokens_details.cache_write_tokens
    reasoning = usage.output_tokens_details.reasoning_tokens
    cached = cached if cached <= tokens else 0
    return Usage(
        tokens,
        cached,
        output_tokens,
        reasoning if reasoning <= output_tokens else 0,
        tokens + output_tokens,
        written if written <= tokens - cached else 0,
    )


def _parse_any(usage: _Json) -> Usage | None:
    """Usage of any dialect, however odd."""
    names, other = _choose_names(usage)
    input_tokens = _count(usage.get(names.input))
    output_tokens = _output(usage, names, input_tokens)
    if input_tokens is None or output_tokens is None:
        return None
    inputs = _details(usage, names.input_details, other.input_details, other.input, input_tokens)
    outputs = _details(usage, names.output_details, other.output_details, other.output, output_tokens)
    cached = _part(inputs, "cached_tokens", input_tokens)
    written = _part(inputs, "cache_write_tokens", input_tokens - cached)
    reasoning = _part(outputs, "reasoning_tokens", output_tokens)
    return Usage(input_tokens, cached, output_tokens, reasoning, input_tokens + output_tokens, written)


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


def _part(details: _Json, name: str, whole: int) -> int:
    """A part of a count; 0 if it is missing, invalid or larger than its whole."""
    part = _count(details.get(name))
    return part if part is not None and part <= whole else 0


def _count(value: object) -> int | None:
    """A token count, or None for anything that is not one; `True` is not 1, and "18" is not 18."""
    if type(value) is int:
        return value if 0 <= value <= _LARGEST_COUNT else None
    if type(value) is float and value.is_integer():
        return int(value) if 0 <= value <= _LARGEST_COUNT else None
    return None
