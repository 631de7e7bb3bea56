"""Random values that fit a JSON Schema: the structured answers of the simulated model.

All that structured outputs use is supported, and more: types, enum, const, objects, arrays, bounds, lengths, formats,
anyOf, oneOf, allOf and local references, including recursive ones. `not`, `if` and `patternProperties` are ignored;
`pattern` is met if `patterns.py` supports it.
"""

from __future__ import annotations

import contextlib
import json
import random
import re
import urllib.parse
from typing import Any

from batchrun.simulator import patterns
from batchrun.simulator.schema_merge import merge
from batchrun.simulator.schema_numbers import any_number, bounds_of, multiple
from batchrun.simulator.words import words

Schema = dict[str, Any]

_SOFT_DEPTH = 4
"""From this depth on, optional parts are left out and the shortest branch is taken, so that recursion ends."""
_HARD_DEPTH = 60
_MOST_STEPS = 50_000
_MOST_CHARACTERS = 1_000_000
_ENDLESS = 1_000_000
_TYPES = ("object", "array", "string", "number", "integer", "boolean", "null")
_KEYWORD_TYPES = {
    "object": {"properties", "required", "additionalProperties", "minProperties", "maxProperties"},
    "array": {"items", "prefixItems", "minItems", "maxItems", "contains", "uniqueItems"},
    "string": {"minLength", "maxLength", "pattern", "format"},
    "number": {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"},
}


class UnsatisfiableError(ValueError):
    """No value was found for a schema; the message says why."""


def generate(schema: Any, rng: random.Random) -> Any:
    """A value of JSON types that fits `schema`. Raises `UnsatisfiableError` if none is found."""
    try:
        return _Generator(schema, rng).value(schema, 0)
    except (AttributeError, TypeError, KeyError):
        # A keyword has a value that is never valid, say a number for `properties`: the client's mistake.
        raise UnsatisfiableError("it is not a valid JSON Schema") from None


class _Generator:
    """Walks one schema; `root` is the document that its references point into."""

    def __init__(self, root: Any, rng: random.Random) -> None:
        self.root = root
        self.rng = rng
        self.steps_left = _MOST_STEPS
        self.characters_left = _MOST_CHARACTERS
        self.pattern_steps = patterns.Steps()

    def value(self, schema: Any, depth: int) -> Any:
        flat = self.flatten(schema, depth)
        if "const" in flat:
            return flat["const"]
        if "enum" in flat:
            return self.rng.choice(_fitting(flat))
        kind = self.type_of(flat, depth)
        if kind == "object":
            return self.object(flat, depth)
        if kind == "array":
            return self.array(flat, depth)
        if kind == "string":
            return self.string(flat)
        if kind in ("integer", "number"):
            return self.number(flat, kind == "integer")
        return self.rng.random() < 0.5 if kind == "boolean" else None

    def step(self, nesting: int) -> None:
        """Count one step, so that no schema can keep the gateway busy or exhaust its stack."""
        self.steps_left -= 1
        if nesting > _HARD_DEPTH or self.steps_left < 0:
            raise UnsatisfiableError("its references never end")

    def flatten(self, schema: Any, depth: int, hops: int = 0) -> Schema:
        """The schema with its references resolved and its combinations merged; of alternatives, one is chosen."""
        self.step(depth + hops)
        flat = merge({}, schema)
        parts = [self.resolve(flat.pop("$ref"))] if "$ref" in flat else []
        parts += flat.pop("allOf", ())
        for part in parts:
            flat = merge(self.flatten(part, depth, hops + 1), flat)
        for name in ("anyOf", "oneOf"):
            if name in flat:
                branch = self.branch(flat, flat.pop(name), depth)
                flat = merge(flat, self.flatten(branch, depth, hops + 1))
        if flat.get("not") == {}:
            raise UnsatisfiableError("no value fits")
        return flat

    def resolve(self, reference: str) -> Any:
        """The target of a local reference."""
        if not reference.startswith("#"):
            raise UnsatisfiableError(f"the reference {reference!r} is not local")
        found = self.root
        for step in urllib.parse.unquote(reference[1:]).split("/")[1:]:
            step = step.replace("~1", "/").replace("~0", "~")
            try:
                found = found[int(step)] if isinstance(found, list) else found[step]
            except (LookupError, TypeError, ValueError):
                raise UnsatisfiableError(f"the reference {reference!r} points nowhere") from None
        return found

    def branch(self, base: Schema, branches: list[Any], depth: int) -> Any:
        """One of the alternatives: any possible one, or, from `_SOFT_DEPTH` on, the one that nests least."""
        possible = [branch for branch in branches if not _contradicts(base, branch)]
        if not possible:
            raise UnsatisfiableError("none of its alternatives fits")
        if depth < _SOFT_DEPTH:
            return self.rng.choice(possible)
        return min(possible, key=lambda branch: self.height(branch, frozenset()))

    def height(self, schema: Any, visiting: frozenset[str]) -> int:
        """How deep the smallest value nests; `_ENDLESS` for a schema that always refers back to itself."""
        self.step(len(visiting))
        if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
            return 0
        heights = [0]
        if "$ref" in schema:
            if schema["$ref"] in visiting:
                return _ENDLESS
            heights.append(self.height(self.resolve(schema["$ref"]), visiting | {schema["$ref"]}))
        heights += [self.height(part, visiting) for part in schema.get("allOf", ())]
        for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
            if alternatives:
                heights.append(min(self.height(branch, visiting) for branch in alternatives))
        if "null" not in _as_list(schema.get("type", ())):
            properties = schema.get("properties", {})
            needed = [properties[name] for name in schema.get("required", ()) if name in properties]
            needed += [schema.get("items")] if schema.get("minItems", 0) > 0 else []
            heights += [1 + self.height(part, visiting) for part in needed]
        return min(max(heights), _ENDLESS)

    def type_of(self, schema: Schema, depth: int) -> str:
        """One of the types that the schema allows; without `type`, the one that its keywords belong to."""
        if "type" not in schema:
            return next((kind for kind, names in _KEYWORD_TYPES.items() if names & schema.keys()), "string")
        known: list[str] = [kind for kind in _as_list(schema["type"]) if kind in _TYPES]
        if not known:
            raise UnsatisfiableError("no type is left for it")
        if depth >= _SOFT_DEPTH:
            flat = [kind for kind in known if kind not in ("object", "array")]
            known = flat or known
        return self.rng.choice(known)

    def object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: Schema = schema.get("properties", {})
        required = list(dict.fromkeys(schema.get("required", ())))
        rest = schema.get("additionalProperties", True)
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", _ENDLESS)
        optional = [name for name in properties if name not in required and properties[name] is not False]
        wanted = [name for name in optional if depth < _SOFT_DEPTH and self.rng.random() < 0.75]
        wanted = wanted[: max(0, most - len(required))]
        for name in optional:
            if len(required) + len(wanted) < least and name not in wanted:
                wanted.append(name)
        # A map (an object without named properties, but with a schema for the rest) gets one or two entries.
        if isinstance(rest, dict) and not properties and depth < _SOFT_DEPTH:
            least = max(least, min(most, self.rng.randint(1, 2)))
        names = [name for name in properties if name in required or name in wanted]
        names += [name for name in required if name not in properties]
        names += [f"entry_{number}" for number in range(1, 1 + least - len(names))]
        if rest is False and any(name not in properties for name in names):
            raise UnsatisfiableError("a required property is not allowed")
        return {name: self.value(properties.get(name, rest), depth + 1) for name in names}

    def array(self, schema: Schema, depth: int) -> list[Any]:
        items = schema.get("items", True)
        # Before 2020-12 a list under `items` meant what `prefixItems` means now.
        fixed = schema.get("prefixItems", items if isinstance(items, list) else [])
        if isinstance(items, list):
            items = schema.get("additionalItems", True)
        least = max(schema.get("minItems", 0), 1 if "contains" in schema else 0)
        most = schema.get("maxItems", _ENDLESS if items is not False else len(fixed))
        spare = 2 if depth < _SOFT_DEPTH and items is not False else 0
        count = min(most, max(self.rng.randint(least, least + spare), len(fixed)))
        if count < least:
            raise UnsatisfiableError("an array cannot be that long")
        found: list[Any] = []
        seen: set[str] = set()
        for index in range(count):
            item = fixed[index] if index < len(fixed) else items
            if index == 0 and "contains" in schema:
                item = merge({} if item is True else item, schema["contains"])
            value = self.distinct(item, depth, seen) if schema.get("uniqueItems") else self.value(item, depth + 1)
            if value is _NOTHING_NEW:
                break
            found.append(value)
        if len(found) < least:
            raise UnsatisfiableError("there are too few distinct items")
        return found

    def distinct(self, schema: Any, depth: int, seen: set[str]) -> Any:
        """An item that is not among those `seen` as JSON, or `_NOTHING_NEW` after 100 draws."""
        for _ in range(100):
            value = self.value(schema, depth + 1)
            if (text := json.dumps(value, sort_keys=True)) not in seen:
                seen.add(text)
                return value
        return _NOTHING_NEW

    def string(self, schema: Schema) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength", _ENDLESS)
        if least > min(most, _MOST_CHARACTERS):
            raise UnsatisfiableError("its minLength is above its maxLength, or above all reason")
        self.characters_left -= least
        if self.characters_left < 0:
            raise UnsatisfiableError("all its texts together are above all reason")
        if "pattern" in schema:
            return self.matching(schema["pattern"], least, most)
        text = _formatted(schema.get("format"), self.rng)
        if text is None:
            text = words(self.rng, self.rng.randint(1, 4))
            while len(text) < least:
                text += " " + words(self.rng, 8)
            # A cut may leave a space at the end, which some validators trim: replace it.
            text = re.sub(r"\s$", "x", text[: min(most, max(least, 40))])
        return text

    def matching(self, pattern: str, least: int, most: int) -> str:
        """A string for the pattern; of the right length, if 200 tries find one."""
        found = ""
        with contextlib.suppress(ValueError, re.error):
            for tries in range(200):
                # Later tries make longer strings.
                more = 3 if tries < 20 else max(3, least)
                # It is not searched for the pattern: that may take for ever, and `example` has made it to match.
                found = patterns.example(pattern, self.rng, more, self.pattern_steps)
                if least <= len(found) <= most:
                    break
        return found

    def number(self, schema: Schema, integer: bool) -> int | float:
        bounds, step = bounds_of(schema), schema.get("multipleOf", 1 if integer else None)
        found = None
        if not bounds.is_empty:
            found = any_number(bounds, self.rng) if step is None else multiple(step, bounds, integer, self.rng)
        if found is None:
            raise UnsatisfiableError("its bounds leave no number")
        return found


_NOTHING_NEW = object()
_PYTHON_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "number": (int, float),
    "null": type(None),
}


def _as_list(value: Any) -> list[Any]:
    return [value] if isinstance(value, str) else list(value)


def _contradicts(base: Schema, branch: Any) -> bool:
    """Whether an alternative obviously contradicts the rest of the schema."""
    if not isinstance(branch, dict):
        return branch is False
    types, others = _as_list(base.get("type", ())), _as_list(branch.get("type", ()))
    if types and others and not merge({"type": types}, {"type": others}).get("type"):
        return True
    return "enum" in branch and not _fitting_or_none(merge(base, branch))


def _fitting_or_none(schema: Schema) -> list[Any]:
    kinds = _as_list(schema.get("type", ()))
    return [value for value in schema["enum"] if not kinds or any(_is_of(value, kind) for kind in kinds)]


def _fitting(schema: Schema) -> list[Any]:
    values = _fitting_or_none(schema)
    if not values:
        raise UnsatisfiableError("no value of its enum fits")
    return values


def _is_of(value: Any, kind: str) -> bool:
    if isinstance(value, bool):
        return kind == "boolean"
    if kind == "integer":
        return isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return isinstance(value, _PYTHON_TYPES.get(kind, ()))


def _formatted(name: str | None, rng: random.Random) -> str | None:
    """A string of a named format; None if the name is unknown."""
    day = f"{rng.randint(1990, 2035)}-{rng.randint(1, 12):02}-{rng.randint(1, 28):02}"
    clock = f"{rng.randint(0, 23):02}:{rng.randint(0, 59):02}:{rng.randint(0, 59):02}Z"
    word, number = words(rng, 1).lower(), rng.randint(1, 254)
    formats = {
        "date": day,
        "time": clock,
        "date-time": f"{day}T{clock}",
        "duration": f"P{number % 30}DT{number % 24}H",
        "email": f"{word}.{number}@example.com",
        "hostname": f"{word}-{number}.example.com",
        "uri": f"https://example.com/{word}/{number}",
        "ipv4": f"192.0.2.{number}",
        "ipv6": f"2001:db8::{number:x}",
        "uuid": _uuid(rng),
    }
    return formats.get(name or "")


def _uuid(rng: random.Random) -> str:
    digits = f"{rng.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"
