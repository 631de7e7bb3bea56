"""The right answers that the simulated model knows, and how often it gives them.

1. The model sees what a request asks, and no custom_id. An answer by `custom_id` is one to the input of that request.
2. Whether it gives the right one depends on the seed and on the prompt, the model included: another model is wrong
   elsewhere, the same request always gets the same answer.
"""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson

from batchrun.errors import UsageError
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.requests import Endpoint, ModelRequest, encode_json
from batchrun.simulator.schema import generate
from batchrun.simulator.seeds import digest_of, share_of
from batchrun.simulator.words import words

_REPEAT = re.compile(r"(.+)#[1-9]\d*", re.DOTALL)
_TRIES = 50
"""So often another value is drawn for what is to be wrong."""
_FORM = '{"custom_id": "…", "answer": …} or {"input": "…", "answer": …}'
_ANSWER = "answer"
_KEYS = ("custom_id", "input")


class KnownAnswers:
    """The answers in a file, by input; the share `accuracy` of all requests, 0 to 1, gets the right one.

    `requests`: the request file, for answers by `custom_id`. Raises `UsageError` if a file cannot be used.
    """

    def __init__(self, path: Path, accuracy: float, requests: Path | None) -> None:
        self._accuracy = accuracy
        self._by_text: dict[str, Any] = {}
        self._by_prompt: dict[bytes, Any] = {}
        by_id: dict[str, Any] = {}
        for number, line in _rows(path):
            name = "input" if "input" in line else "custom_id"
            told, answer = line.get(name), _answer(line)
            if not isinstance(told, str) or not told.strip() or answer is None:
                raise UsageError(f"{path}:{number}: an answer has the form {_FORM}")
            (self._by_text if name == "input" else by_id)[told.strip()] = answer
        self._all = [*self._by_text.values(), *by_id.values()]
        if not self._all:
            raise UsageError(f"{path} has no answers; write lines such as {_FORM}")
        if by_id:
            self._find_inputs(path, by_id, requests)

    @classmethod
    def of(cls, options: GatewayOptions) -> KnownAnswers | None:
        """Those that the options name; None where they name none. Raises `UsageError`."""
        return cls(options.answers, options.accuracy, options.requests) if options.answers is not None else None

    def _find_inputs(self, path: Path, by_id: dict[str, Any], requests: Path | None) -> None:
        """Note the answers by custom_id under the inputs of their requests."""
        if requests is None:
            raise UsageError(f"{path} has answers by custom_id, for which the request file must be named")
        for _, line in _lines(requests):
            custom_id, body = line.get("custom_id"), line.get("body", line)
            if not isinstance(custom_id, str) or not isinstance(body, dict):
                continue
            repeat = _REPEAT.fullmatch(custom_id)
            answer = by_id.get(custom_id.strip(), by_id.get(repeat[1].strip()) if repeat else None)
            if answer is not None:
                self._by_prompt.setdefault(_digest(body.get("input", body.get("messages"))), answer)
        if not self._by_prompt:
            raise UsageError(f"no request of {requests} has a custom_id that {path} has an answer for")

    def answer(self, request: ModelRequest, schema: Any, rng: random.Random) -> Any:
        """What the model answers: the right answer, or a wrong one; None where none is known.

        A wrong object has one wrong field. Raises `UnsatisfiableError` if no value fits the schema.
        """
        right = self._right(request)
        if right is None:
            return None
        if not isinstance(right, dict) and _ANSWER in _properties(schema):
            right = {_ANSWER: right}  # the schema has a field of that name
        if isinstance(right, dict) and schema is not None:
            right = _fitted(right, schema)
        said = right if share_of(request.seed, b"right") < self._accuracy else self._wrong(right, schema, rng)
        if isinstance(said, dict) and schema is not None and isinstance(rest := generate(schema, rng), dict):
            return {**rest, **said}
        return said

    def _right(self, request: ModelRequest) -> Any:
        if request.endpoint is Endpoint.EMBEDDINGS:
            return None
        asked = request.question
        if (found := self._by_prompt.get(_digest(asked))) is not None or not self._by_text:
            return found
        text = _last_text(asked).strip()
        if (found := self._by_text.get(text)) is not None:
            return found
        return self._by_text.get(max((known for known in self._by_text if known in text), key=len, default=""))

    def _wrong(self, right: Any, schema: Any, rng: random.Random) -> Any:
        """An answer that differs from the right one: of an object, in one field that the file tells."""
        others = [generate(schema, rng) if schema is not None else rng.choice(self._all) for _ in range(_TRIES)]
        if not isinstance(right, dict):
            return next((other for other in others if other != right), words(rng, 3))
        for name in rng.sample(sorted(right), len(right)):
            for other in others:
                if isinstance(other, dict) and name in other and other[name] != right[name]:
                    return {**right, name: other[name]}
        return right


def _answer(line: dict[str, Any]) -> Any:
    """The answer that a line tells: its `answer`, of several right ones the first; else all its other fields."""
    if _ANSWER not in line:
        return {name: value for name, value in line.items() if name not in _KEYS} or None
    answer = line[_ANSWER]
    return (answer[0] if answer else None) if isinstance(answer, list) else answer


def _fitted(right: dict[str, Any], schema: Any) -> dict[str, Any]:
    """The fields that the schema has; a text is read as JSON where it takes none, as a CSV file has only texts."""
    if not (known := _properties(schema)):
        return right
    return {name: _read(value, known[name]) for name, value in right.items() if name in known}


def _properties(schema: Any) -> dict[str, Any]:
    """The fields of a schema; none where it is not one of an object."""
    known = schema.get("properties") if isinstance(schema, dict) else None
    return known if isinstance(known, dict) else {}


def _read(value: Any, schema: Any) -> Any:
    told = schema.get("type", "string") if isinstance(schema, dict) else "string"
    if not isinstance(value, str) or "string" in told:
        return value
    try:
        return orjson.loads(value if value[:1] in "[{" else value.lower())
    except orjson.JSONDecodeError:
        return value


def _digest(asked: Any) -> bytes:
    return digest_of(0, b"known", encode_json(asked))[:16]


def _last_text(asked: Any) -> str:
    """The text of the last message of the user."""
    if isinstance(asked, str):
        return asked
    for message in reversed(asked if isinstance(asked, list) else []):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            parts = content if isinstance(content, list) else [{"text": content}]
            return " ".join(str(part["text"]) for part in parts if isinstance(part, dict) and "text" in part)
    return ""


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows of a CSV file, or the objects of a JSONL file, with their line numbers. Raises `UsageError`."""
    if path.suffix.lower() != ".csv":
        yield from _lines(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            yield from ((rows.line_num, row) for row in rows)
    except (csv.Error, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: {error}; write a CSV file in UTF-8") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error


def _lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """The objects of a JSONL file with their line numbers. Raises `UsageError` where it is none."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, 1):
                if raw.strip():
                    line = orjson.loads(raw)
                    if not isinstance(line, dict):
                        raise UsageError(f"{path}:{number}: a line is a JSON object")
                    yield number, line
    except orjson.JSONDecodeError as error:
        raise UsageError(f"{path}:{number}: not JSON: {error}; the file must be JSONL, not compressed") from None
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
