"""What an answer says about its cost: its usage, calls of paid tools, the tier served, the gateway's own charge.

1. The transport reads it once for each answer, and `verify` reads it again from the stored payload, both by this file.
2. A usage of nothing beside a text makes no sense. It is no usage, not a cost of 0.
3. Only calls that have a price of their own count. A page that a web search opens has none, nor has a function.

Sources: the API references of OpenAI (output items, pricing of tools), Anthropic, xAI, OpenRouter and Perplexity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import msgspec

from batchrun.records.usage import Usage, parse_usage, tool_name

_Fields = Mapping[str, Any]


class Charges(msgspec.Struct, frozen=True, gc=False):
    """What an answer says about its cost. `gateway_cost_usd`: US dollars that the gateway says it charged."""

    usage: Usage | None
    service_tier: str | None = None
    gateway_cost_usd: Decimal | None = None


def read_charges(fields: _Fields, outcome: str) -> Charges:
    """The charges of a body whose decoded members are `fields`; `outcome` is that of its record."""
    reported, tier = fields.get("usage"), fields.get("service_tier")
    if not isinstance(reported, dict):
        return Charges(None, tier if isinstance(tier, str) else None)
    usage = parse_usage(reported)
    if usage is not None:
        if not usage.total_tokens and outcome not in ("empty", "failed"):
            usage = None
        elif calls := _count_calls(fields, reported):
            usage = msgspec.structs.replace(usage, tool_calls={**(usage.tool_calls or {}), **calls})
        if tier is None:
            tier = reported.get("service_tier")  # Anthropic has it here
    cost_usd = _gateway_cost(reported) if "cost" in reported or _TICKS in reported else None
    return Charges(usage, tier if isinstance(tier, str) else None, cost_usd)


class _Body(msgspec.Struct):
    usage: Any = None
    service_tier: Any = None


class _WithOutput(_Body):
    output: Any = None
    choices: Any = None


_decode = msgspec.json.Decoder(_Body).decode
_decode_with_output = msgspec.json.Decoder(_WithOutput).decode


def charges_of(body: bytes, outcome: str) -> Charges:
    """The charges of a whole body of any API; none if it is not a JSON object."""
    needs_output = b"_call" in body or b"url_citation" in body
    try:
        fields = _decode_with_output(body) if needs_output else _decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Charges(None)
    return read_charges(msgspec.structs.asdict(fields), outcome)


# --------------------------------------------------------------------------------------------- paid tools

TEXTS = ("message", "reasoning")
"""Types of output items that are no call of a tool."""
_FREE = {  # calls that cost nothing beside their tokens
    *("function_call", "custom_tool_call", "computer_call", "local_shell_call", "shell_call", "apply_patch_call"),
    *("mcp_call", "tool_search_call"),
}


def _count_calls(fields: _Fields, usage: _Fields) -> dict[str, int]:
    """The calls of paid tools, by the tool's name."""
    calls: dict[str, int] = {}
    output, choices = fields.get("output"), fields.get("choices")
    if isinstance(output, list):
        for item in output:
            if type(item) is dict and item.get("type") not in TEXTS and (name := _paid_tool(item)):
                calls[name] = calls.get(name, 0) + 1
    if choices and isinstance(choices, list) and True in map(_cites, choices):
        calls["web_search"] = 1  # a search model searches once for each request, and no item says so
    if "num_sources_used" in usage:
        sources = usage["num_sources_used"]  # xAI's live search
        if type(sources) is int and 0 < sources < 1_000_000:
            calls["live_search_source"] = sources
    return calls


def _paid_tool(item: dict[str, Any]) -> str:
    """The name of the tool that an output item called, if the call has a price; else ""."""
    kind = item.get("type")
    if not isinstance(kind, str) or not kind.endswith("_call") or kind in _FREE:
        return ""
    action = item.get("action")
    if kind == "web_search_call" and isinstance(action, dict) and action.get("type", "search") != "search":
        return ""  # it opened a page, or looked for something in it
    return tool_name(kind.removesuffix("_call"))


def _cites(choice: object) -> bool:
    message = choice.get("message") if isinstance(choice, dict) else None
    notes = message.get("annotations") if isinstance(message, dict) else None
    if not notes or not isinstance(notes, list):
        return False
    return "url_citation" in [note.get("type") for note in notes if isinstance(note, dict)]


# ------------------------------------------------------------------------------------------- its own charge

_LARGEST_USD, _DECIMALS = 1_000_000, 15  # within these, the sum over any file is exact
_TICKS, _TICKS_PER_USD = "cost_in_usd_ticks", 10**10  # xAI's
_AMOUNT = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,18})?")


def _gateway_cost(usage: _Fields) -> Decimal | None:
    """The cost in US dollars; None if it is no amount, or if the maker charges the user besides (`is_byok`)."""
    if usage.get("is_byok") is True:
        return None
    cost: Any = usage.get("cost")
    ticks = usage.get(_TICKS)
    if cost is None and type(ticks) is int and 0 <= ticks <= _LARGEST_USD * _TICKS_PER_USD:
        return (Decimal(ticks) / _TICKS_PER_USD).normalize()
    if isinstance(cost, dict):  # Perplexity
        cost = cost.get("total_cost")
    if isinstance(cost, str) and _AMOUNT.fullmatch(cost):
        cost = float(cost)
    if type(cost) not in (int, float) or not math.isfinite(cost) or not 0 <= cost <= _LARGEST_USD:
        return None
    return round(Decimal(repr(cost)), _DECIMALS).normalize()
