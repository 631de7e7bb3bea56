"""The body of the request for a row: the texts rendered, the examples before it, the pictures beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from orjson import Fragment

from batchrun.datasets.images import image_url
from batchrun.datasets.recipe import Recipe
from batchrun.datasets.template import Template, Templates
from batchrun.errors import UsageError

Cells = Mapping[str, Any]
_OURS = {"input": "-p", "instructions": "--instructions", "model": "--model"}


@dataclass(frozen=True, slots=True)
class Example:
    """One example: what tells it apart from the others and from rows, and its two messages as JSON."""

    key: bytes
    messages: bytes


class Bodies:
    """Makes the bodies. Raises `UsageError` for a template that cannot be used, and for a field that is set twice."""

    def __init__(self, recipe: Recipe, templates: Templates) -> None:
        self._recipe = recipe
        self._prompt = templates.compile("-p", recipe.prompt)
        for column in recipe.images:
            templates.use("--image", column)
        self._instructions = _compiled(templates, "--instructions", recipe.instructions)
        self._developer = _compiled(templates, "--developer", recipe.developer)
        self._examples: Sequence[Example] = ()
        self._is_plain = recipe.developer is None and not recipe.images
        self._before = b"" if recipe.model is None else b'"model":%s,' % orjson.dumps(recipe.model)
        last = _last_fields(recipe)
        self._after = b"".join(b",%s:%s" % (orjson.dumps(name), orjson.dumps(value)) for name, value in last.items())
        self.left_out = 0

    def show_first(self, examples: Sequence[Example]) -> None:
        """Put examples before every row."""
        self._examples = examples
        self._is_plain = self._is_plain and not examples

    def content(self, number: int, cells: Cells, folder: Path) -> str | list[dict[str, str]]:
        """What is asked of a row: its text, and its pictures, whose paths begin at `folder`.

        Raises one of `template.FAILURES`.
        """
        text = self._prompt.render(number, cells)
        if not self._recipe.images:
            return text
        found = [cells[name] for name in self._recipe.images]
        if self._recipe.missing_is_empty:
            found = [cell for cell in found if cell]
        urls = [image_url(cell, folder, self._recipe.max_image_bytes) for cell in found]
        return [
            {"type": "input_text", "text": text},
            *({"type": "input_image", "image_url": url} for url in urls),
        ]

    def body(self, number: int, cells: Cells, key: bytes, folder: Path) -> bytes:
        """The body for a row, whose `key` tells it apart. Raises one of `template.FAILURES`."""
        asked: Any = self.content(number, cells, folder)
        if not self._is_plain:
            asked = self._messages(number, cells, key, asked)
        said = b""
        if self._instructions is not None:
            said = b'"instructions":%s,' % orjson.dumps(self._instructions.render(number, cells))
        return b'{%s%s"input":%s%s}' % (self._before, said, orjson.dumps(asked), self._after)

    def _messages(self, number: int, cells: Cells, key: bytes, asked: Any) -> Any:
        shown = [example for example in self._examples if example.key != key]
        self.left_out += len(self._examples) - len(shown)
        first = []
        if self._developer is not None:
            first.append({"role": "developer", "content": self._developer.render(number, cells)})
        return [*first, *(Fragment(part.messages) for part in shown), {"role": "user", "content": asked}]


def _compiled(templates: Templates, option: str, source: str | None) -> Template | None:
    return None if source is None else templates.compile(option, source)


def _last_fields(recipe: Recipe) -> dict[str, Any]:
    """The fields after the input: the schema, and what `--set` sets."""
    fields: dict[str, Any] = {}
    for name, value in recipe.fields.items():
        if name in _OURS:
            raise UsageError(f"--set {name}: pass {_OURS[name]} instead")
        fields[name] = Fragment(value)
    if recipe.schema is not None:
        text = orjson.loads(recipe.fields.get("text", b"{}"))
        if not isinstance(text, dict) or "format" in text:
            raise UsageError(
                '--set text: its format is what -s makes; set the rest of it, such as text=\'{"verbosity": "low"}\''
            )
        fields = {"text": text | {"format": recipe.schema.format}} | {k: v for k, v in fields.items() if k != "text"}
    return fields
