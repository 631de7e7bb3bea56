"""The first labels of a job, each beside what was asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

import orjson

from batchrun.datasets.fields import columns_of
from batchrun.datasets.labels import Label, LabelReader
from batchrun.datasets.prepared import read_prepared
from batchrun.datasets.results import Results
from batchrun.labelling.paths import LabelPaths
from batchrun.records.words import printable, shortened

_ASKED, _TOLD = 200, 200  # characters
_PROMPT = 1_600  # characters of the first prompt: a screenful


def first_prompt(paths: LabelPaths) -> list[str]:
    """What the first row is asked, as it was rendered, line by line; the middle of a long one is left out."""
    prompt = next(asked for _, asked in _requests(paths))
    if len(prompt) > _PROMPT:
        left_out = f"\n… {len(prompt) - _PROMPT:,} characters left out …\n"
        prompt = prompt[: _PROMPT // 2] + left_out + prompt[-_PROMPT // 2 :]
    return [printable(line) for line in prompt.splitlines()] or [""]


def preview(paths: LabelPaths, count: int) -> list[tuple[str, str]]:
    """What was asked, and its label, of the first `count` results, in the order of the rows.

    What all of these prompts begin with is left out: it tells nothing of a row.
    """
    shown = list(_labelled(paths, count))
    common = _common([asked for asked, _ in shown]) if len(shown) > 1 else 0
    return [(_cut(_from_word(asked, common), _ASKED), label) for asked, label in shown]


def _labelled(paths: LabelPaths, count: int) -> Iterator[tuple[str, str]]:
    prepared = read_prepared(paths.requests)
    schema = (prepared.format or {}).get("schema") if prepared is not None else None
    encoded = orjson.dumps(schema) if schema is not None else None
    reader, fields = LabelReader(encoded, lambda text: None), columns_of(encoded)
    left = {result.custom_id: reader.read(result) for result in islice(Results(paths.results), count)}
    for custom_id, asked in _requests(paths):
        if (label := left.pop(custom_id, None)) is not None:
            told = ", ".join(f"{field.name}: {_written(field.value(label.value))}" for field in fields)
            yield asked, _cut(told, _TOLD) if label.is_ok else _why(label)
        if not left:
            break


def _requests(paths: LabelPaths) -> Iterator[tuple[str, str]]:
    """The id of each request, and its input."""
    with paths.requests.open("rb") as file:
        for line in map(orjson.loads, file):
            yield line["custom_id"], _input(line["body"]["input"])


def _input(given: Any) -> str:
    """The text of the last message of an input."""
    content = given[-1]["content"] if isinstance(given, list) else given
    if isinstance(content, list):
        content = " ".join(part["text"] for part in content if "text" in part)
    return str(content)


def _written(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _why(label: Label) -> str:
    return _cut(f"{label.status}: {label.error}" if label.error else str(label.status), _TOLD)


def _common(texts: list[str]) -> int:
    """How many characters all texts begin with."""
    places = enumerate(zip(*texts, strict=False))
    return next((place for place, found in places if len(set(found)) > 1), min(map(len, texts)))


def _from_word(text: str, start: int) -> str:
    """The text from the beginning of the word that has this place; what is short is left whole."""
    if start < _ASKED // 2:
        return text
    return f"… {text[max(text.rfind(mark, 0, start) for mark in (' ', chr(10))) + 1 :]}"


def _cut(text: str, length: int) -> str:
    return shortened(printable(" ".join(text.split())), length)
