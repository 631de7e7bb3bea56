"""Merges two JSON Schemas into one that requires both."""

from __future__ import annotations

from typing import Any

Schema = dict[str, Any]

_TIGHTEST_HIGH = frozenset({"minimum", "minLength", "minItems", "minProperties"})
_TIGHTEST_LOW = frozenset({"maximum", "maxLength", "maxItems", "maxProperties"})
_NOTHING: Schema = {"not": {}}


def merge(first: Any, second: Any) -> Schema:
    """A schema that requires both. If two keywords cannot be joined, the second one wins."""
    if first is False or second is False:
        return dict(_NOTHING)
    merged: Schema = {} if first is True else dict(first)
    for name, value in ({} if second is True else second).items():
        merged[name] = _join(name, merged[name], value) if name in merged else value
    return merged


def _join(name: str, first: Any, second: Any) -> Any:
    if name == "properties":
        return {
            **first,
            **{key: _both(first[key], part) if key in first else part for key, part in second.items()},
        }
    if name == "required":
        return [*first, *(key for key in second if key not in first)]
    if name == "enum":
        return [value for value in first if value in second]
    if name == "type":
        return _common_types(first, second)
    if name == "allOf":
        return [*first, *second]
    if name in _TIGHTEST_HIGH:
        return max(first, second)
    if name in _TIGHTEST_LOW:
        return min(first, second)
    if name in ("items", "additionalProperties") and not isinstance(first, list) and not isinstance(second, list):
        return _both(first, second)
    return second


def _both(first: Any, second: Any) -> Any:
    """Both schemas in `allOf`, which `flatten` merges later, so that no recursive reference is followed here."""
    if first is False or second is False:
        return False
    if first is True or first == second:
        return second
    return first if second is True else {"allOf": [first, second]}


def _common_types(first: Any, second: Any) -> list[str]:
    left = [first] if isinstance(first, str) else list(first)
    right = [second] if isinstance(second, str) else list(second)
    common = [kind for kind in left if kind in right]
    # An integer is a number too.
    if "integer" in left + right and "integer" not in common and "number" in left + right:
        common.append("integer")
    return common
