"""Request bodies, checked as the official API checks them."""

from __future__ import annotations

import enum
import hashlib
import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import orjson

from batchrun.simulator.errors import ApiError, refuse, unknown_model
from batchrun.simulator.seeds import digest_of


class Endpoint(enum.Enum):
    """The endpoints of the gateway, by path."""

    RESPONSES = "/v1/responses"
    CHAT = "/v1/chat/completions"
    EMBEDDINGS = "/v1/embeddings"


@dataclass(frozen=True)
class ModelRequest:
    """A checked request. `seed` depends on what the model sees of it, so that equal prompts get equal answers."""

    endpoint: Endpoint
    fields: dict[str, Any]
    input_tokens: int
    seed: int

    @property
    def model(self) -> str:
        """The requested model."""
        return str(self.fields["model"])

    @property
    def stream(self) -> bool:
        """Whether the request asks for a stream."""
        return bool(self.fields.get("stream"))

    @property
    def max_output_tokens(self) -> int | None:
        """The most tokens that the answer may have, under the name that the endpoint uses; None is no limit."""
        if self.endpoint is Endpoint.RESPONSES:
            return self.fields.get("max_output_tokens")
        names = ("max_completion_tokens", "max_tokens")
        return next((self.fields[name] for name in names if self.fields.get(name) is not None), None)

    @property
    def is_asked_again(self) -> bool:
        """Whether it ends with the model's own answer and a message about its schema."""
        turns = self._turns
        if not isinstance(turns, list) or len(turns) < 2 or not all(isinstance(turn, dict) for turn in turns[-2:]):
            return False
        own, about = turns[-2:]
        said = about.get("content")
        return own.get("role") == "assistant" and isinstance(said, str) and "schema" in said.lower()

    @property
    def question(self) -> Any:
        """The input or the messages, without the turns that ask again."""
        if not self.is_asked_again:
            return self._turns
        first = self._turns[:-2]
        is_text = len(first) == 1 and first[0].keys() == {"role", "content"} and self.endpoint is Endpoint.RESPONSES
        return first[0]["content"] if is_text and isinstance(first[0]["content"], str) else first

    @property
    def _turns(self) -> Any:
        return self.fields.get("messages" if self.endpoint is Endpoint.CHAT else "input")


def encode_json(value: Any) -> bytes:
    """JSON bytes, also of values that nest deeper, or of numbers that are larger, than orjson accepts."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def parse_request(endpoint: Endpoint, body: bytes, seed: int, models: Collection[str] | None) -> ModelRequest:
    """Read a body. Raises `ApiError` with the answer of the official API if the body is not valid."""
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        message = "We could not parse the JSON body of your request. (HINT: This likely means you aren't using "
        raise refuse(400, message + "your HTTP library correctly.)") from None
    if not isinstance(fields, dict):
        raise refuse(400, "Invalid type for request body: expected an object.", "invalid_type")
    _check_model(fields, models)
    _check_types(fields, _FIELDS[endpoint])
    _CHECKS[endpoint](fields)
    prompt = encode_json([fields.get(name) for name in _PROMPT_FIELDS])
    # Four bytes a token is about right for prose; the few tokens more are for the frame around a message.
    tokens = max(1, (len(prompt) - 2 * len(_PROMPT_FIELDS)) // 4 + 3)
    return ModelRequest(endpoint, fields, tokens, int.from_bytes(digest_of(seed, b"prompt", prompt)[:8]))


_PROMPT_FIELDS = ("model", "instructions", "input", "messages", "prompt", "tools", "text", "response_format")


def _check_model(fields: dict[str, Any], models: Collection[str] | None) -> None:
    model = fields.get("model")
    if model is None or model == "":
        raise refuse(400, "Missing required parameter: 'model'.", "missing_required_parameter", "model")
    if not isinstance(model, str):
        raise _wrong_type("model", "a string", model)
    if models is not None and model not in models:
        raise ApiError(unknown_model(model), "model_not_found")


@dataclass(frozen=True)
class _Field:
    """The values that a field may have; null is always allowed."""

    types: tuple[type, ...]
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()


_STRING = _Field((str,))
_BOOLEAN = _Field((bool,))
_LIST = _Field((list,))
_OBJECT = _Field((dict,))
_TEMPERATURE = _Field((int, float), 0, 2)
_TOP_P = _Field((int, float), 0, 1)
_TIERS = ("auto", "default", "flex", "scale", "priority", "fast", "ultrafast")
_EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")

_COMMON_FIELDS = {
    "stream": _BOOLEAN,
    "stream_options": _OBJECT,
    "temperature": _TEMPERATURE,
    "top_p": _TOP_P,
    "tools": _LIST,
    "tool_choice": _Field((str, dict)),
    "parallel_tool_calls": _BOOLEAN,
    "metadata": _OBJECT,
    "store": _BOOLEAN,
    "service_tier": _Field((str,), choices=_TIERS),
    "safety_identifier": _STRING,
    "prompt_cache_key": _STRING,
    "user": _STRING,
}

_FIELDS: dict[Endpoint, dict[str, _Field]] = {
    Endpoint.RESPONSES: {
        **_COMMON_FIELDS,
        "input": _Field((str, list)),
        "instructions": _Field((str, list)),
        "previous_response_id": _STRING,
        "conversation": _Field((str, dict)),
        "reasoning": _OBJECT,
        "text": _OBJECT,
        "max_output_tokens": _Field((int,), 16),
        "max_tool_calls": _Field((int,), 1),
        "truncation": _Field((str,), choices=("auto", "disabled")),
        "prompt": _OBJECT,
        "background": _BOOLEAN,
        "include": _LIST,
        "top_logprobs": _Field((int,), 0, 20),
    },
    Endpoint.CHAT: {
        **_COMMON_FIELDS,
        "messages": _LIST,
        "response_format": _OBJECT,
        "max_tokens": _Field((int,), 1),
        "max_completion_tokens": _Field((int,), 1),
        "n": _Field((int,), 1, 128),
        "reasoning_effort": _Field((str,), choices=_EFFORTS),
    },
    Endpoint.EMBEDDINGS: {
        "input": _Field((str, list)),
        "dimensions": _Field((int,), 1, 16_384),
        "encoding_format": _Field((str,), choices=("float", "base64")),
        "user": _STRING,
    },
}


def _check_types(fields: dict[str, Any], known: dict[str, _Field]) -> None:
    """Check the known fields; unknown ones are accepted, as relays do."""
    for name, value in fields.items():
        allowed = known.get(name)
        if allowed is not None and value is not None:
            _check_value(name, value, allowed)


def _check_value(name: str, value: Any, allowed: _Field) -> None:
    is_wrong_bool = isinstance(value, bool) and bool not in allowed.types
    if is_wrong_bool or not isinstance(value, allowed.types):
        raise _wrong_type(name, " or ".join(_TYPE_NAMES[kind] for kind in allowed.types), value)
    if allowed.choices and value not in allowed.choices:
        raise _unsupported(name, value, allowed.choices)
    _check_range(name, value, allowed)


def _check_range(name: str, value: Any, allowed: _Field) -> None:
    kind = "integer" if isinstance(value, int) else "decimal"
    if allowed.least is not None and value < allowed.least:
        what, wanted, code = "below minimum", f">= {allowed.least}", "below_min"
    elif allowed.most is not None and value > allowed.most:
        what, wanted, code = "above maximum", f"<= {allowed.most}", "above_max"
    else:
        return
    message = f"Invalid '{name}': {kind} {what} value. Expected a value {wanted}, but got {value} instead."
    raise refuse(400, message, f"{kind}_{code}_value", name)


_TYPE_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _wrong_type(name: str, expected: str, value: Any) -> ApiError:
    message = f"Invalid type for '{name}': expected {expected}, but got {_TYPE_NAMES[type(value)]} instead."
    return refuse(400, message, "invalid_type", name)


def _unsupported(name: str, value: Any, choices: tuple[str, ...]) -> ApiError:
    supported = ", ".join(f"'{choice}'" for choice in choices)
    message = f"Invalid value: '{value}'. Supported values are: {supported}."
    return refuse(400, message, "invalid_value", name)


def _missing(name: str) -> ApiError:
    return refuse(400, f"Missing required parameter: '{name}'.", "missing_required_parameter", name)


def _check_responses(fields: dict[str, Any]) -> None:
    if fields.get("previous_response_id") and fields.get("conversation"):
        message = "Mutually exclusive parameters: 'previous_response_id' and 'conversation'. Ensure you are only "
        raise refuse(400, message + "providing one of them.", "mutually_exclusive_parameters")
    if fields.get("stream_options") is not None and not fields.get("stream"):
        message = "The 'stream_options' parameter is only allowed when 'stream' is enabled."
        raise refuse(400, message, param="stream_options")
    reasoning = fields.get("reasoning") or {}
    if reasoning.get("effort") is not None:
        _check_value("reasoning.effort", reasoning["effort"], _Field((str,), choices=_EFFORTS))
    for name in ("summary", "generate_summary"):
        if reasoning.get(name) is not None:
            allowed = _Field((str,), choices=("auto", "concise", "detailed"))
            _check_value(f"reasoning.{name}", reasoning[name], allowed)
    _check_metadata(fields.get("metadata") or {})
    _check_text(fields.get("text") or {})
    _check_tools(fields.get("tools") or [], fields.get("tool_choice"))


def _check_metadata(metadata: dict[str, Any]) -> None:
    if len(metadata) > 16:
        message = f"Invalid 'metadata': too many properties. Expected at most 16 but got {len(metadata)} instead."
        raise refuse(400, message, "object_above_max_properties", "metadata")
    for name, value in metadata.items():
        if not isinstance(value, str):
            raise _wrong_type(f"metadata.{name}", "a string", value)


def _check_text(text: dict[str, Any]) -> None:
    if text.get("verbosity") is not None:
        _check_value("text.verbosity", text["verbosity"], _Field((str,), choices=("low", "medium", "high")))
    wanted = text.get("format")
    if wanted is None:
        return
    if not isinstance(wanted, dict):
        raise _wrong_type("text.format", "an object", wanted)
    kinds = ("text", "json_object", "json_schema")
    if wanted.get("type") not in kinds:
        raise _unsupported("text.format.type", wanted.get("type"), kinds)
    if wanted["type"] == "json_schema":
        _check_schema("text.format", wanted)


def _check_schema(where: str, wanted: dict[str, Any]) -> None:
    for name, kind in (("name", str), ("schema", dict)):
        if wanted.get(name) is None:
            raise _missing(f"{where}.{name}")
        if not isinstance(wanted[name], kind):
            raise _wrong_type(f"{where}.{name}", _TYPE_NAMES[kind], wanted[name])
    if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", wanted["name"]):
        message = f"Invalid '{where}.name': string does not match pattern. Expected a string that matches the "
        raise refuse(400, message + "pattern '^[a-zA-Z0-9_-]+$'.", "invalid_value", f"{where}.name")


def _check_tools(tools: list[Any], choice: Any) -> None:
    names = set()
    for index, tool in enumerate(tools):
        if not isinstance(tool, dict):
            raise _wrong_type(f"tools[{index}]", "an object", tool)
        if not isinstance(tool.get("type"), str):
            raise _missing(f"tools[{index}].type")
        if tool["type"] == "function":
            if not isinstance(tool.get("name"), str):
                raise _missing(f"tools[{index}].name")
            if tool.get("parameters") is not None and not isinstance(tool["parameters"], dict):
                raise _wrong_type(f"tools[{index}].parameters", "an object", tool["parameters"])
            names.add(tool["name"])
    if isinstance(choice, str) and choice not in ("none", "auto", "required"):
        raise _unsupported("tool_choice", choice, ("none", "auto", "required"))
    if isinstance(choice, dict) and choice.get("type") == "function" and choice.get("name") not in names:
        message = f"Tool choice 'function' with name '{choice.get('name')}' not found in 'tools' parameter."
        raise refuse(400, message, param="tool_choice")


def _check_chat(fields: dict[str, Any]) -> None:
    messages = fields.get("messages")
    if messages is None:
        raise _missing("messages")
    if not messages:
        message = "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an empty "
        raise refuse(400, message + "array instead.", "empty_array", "messages")
    if fields.get("stream"):
        raise refuse(400, "Unsupported value: 'stream' does not support true here.", "unsupported_value", "stream")
    wanted = fields.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        if not isinstance(wanted.get("json_schema"), dict):
            raise _missing("response_format.json_schema")
        _check_schema("response_format.json_schema", wanted["json_schema"])


def _check_embeddings(fields: dict[str, Any]) -> None:
    if not fields.get("input"):
        raise _missing("input")


_CHECKS = {
    Endpoint.RESPONSES: _check_responses,
    Endpoint.CHAT: _check_chat,
    Endpoint.EMBEDDINGS: _check_embeddings,
}


def sha256_of(body: bytes) -> bytes:
    """The digest by which distinct requests are recognized."""
    return hashlib.sha256(body).digest()
