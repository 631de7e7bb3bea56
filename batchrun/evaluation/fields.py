"""Which fields are scored, how, and against which columns of gold."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from batchrun.datasets.labels import LabelReader
from batchrun.errors import UsageError
from batchrun.evaluation.scorers import EXACT, JSON, SET, TRUTH, Scorer, number
from batchrun.records.answer import Result

ANSWER = "answer"
"""The field of an answer that is a text, unless the answer is an object with a field of this name."""
_LOOKED_AT = 200
_NOT_PARSED = object()


class Answer:
    """A result that is looked at field by field. `why`: why it has no answer as a whole; "" if it has one.

    `reader`: checks the answer against its schema, as `join` does; None where there is none.
    """

    __slots__ = ("_parsed", "result", "why")

    def __init__(self, result: Result, reader: LabelReader | None = None) -> None:
        self.result = result
        run = result.run
        self.why = "" if run.outcome == "succeeded" else str(run.outcome)
        if not self.why and run.schema_error is not None:
            self.why = "invalid"
        self._parsed: Any = _NOT_PARSED
        if not self.why and reader is not None:
            label = reader.read(result)
            self.why = "" if label.is_ok else str(label.status)
            self._parsed = label.value

    @property
    def parsed(self) -> Any:
        """The JSON of the answer, None where there is none; it is parsed once."""
        if self._parsed is _NOT_PARSED:
            self._parsed = self.result.parsed
        return self._parsed


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the answers: its `name` (`a.b` where it is nested), its `column` in gold, its `scorer`."""

    name: str
    column: str
    scorer: Scorer

    def read(self, answer: Answer) -> Any:
        """The field in an answer; None where the answer has none."""
        parsed = answer.parsed
        if self.name == ANSWER and not (isinstance(parsed, dict) and ANSWER in parsed):
            text = answer.result.text
            return None if text is None or not text.strip() else text
        return nested(parsed, self.name)


def nested(value: Any, name: str) -> Any:
    """A member of an object, also `a.b` of nested ones; None where there is none."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    head, dot, rest = name.partition(".")
    return nested(value.get(head), rest) if dot else None


def seen_fields(results: Iterable[Result]) -> dict[str, Scorer]:
    """The fields of the first answers, each with the scorer that suits its values; none where they are texts."""
    answered = (result for result in results if result.outcome == "succeeded")
    kinds: dict[str, Counter[type]] = {}
    for result in itertools.islice(answered, _LOOKED_AT):
        for name, value in _members(result.parsed):
            kinds.setdefault(name, Counter())[type(value)] += 1
    return {name: _scorer_for(found) for name, found in kinds.items()}


def _members(value: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, member in value.items() if isinstance(value, dict) else ():
        if isinstance(member, dict):
            yield from _members(member, f"{prefix}{name}.")
        elif member is not None:
            yield f"{prefix}{name}", member


def _scorer_for(kinds: Counter[type]) -> Scorer:
    kind = kinds.most_common(1)[0][0]
    if kind is bool:
        return TRUTH
    if kind in (int, float):
        return number()
    return SET if kind is list else EXACT


def scorer_of_schema(schema: Mapping[str, Any]) -> Scorer | None:
    """The scorer for a field by its JSON schema; None where the schema does not say what it is."""
    told = schema.get("type")
    kinds = {told} if isinstance(told, str) else set(told) if isinstance(told, list) else set()
    kinds.discard("null")
    if "enum" in schema or kinds == {"string"}:
        return EXACT
    if kinds == {"boolean"}:
        return TRUTH
    if kinds and kinds <= {"number", "integer"}:
        return number()
    return SET if kinds == {"array"} else JSON if kinds == {"object"} else None


def choose_fields(
    seen: Mapping[str, Scorer],
    columns: Iterable[str],
    told_columns: Mapping[str, str],
    told_scorers: Mapping[str, Scorer],
    table: str,
) -> list[Field]:
    """The fields that gold has a column for, by equal names or as it was told.

    Raises `UsageError` where there is none, or a column that was named is not there.
    """
    known = list(columns)
    for field, column in told_columns.items():
        if column not in known:
            raise UsageError(f"--gold-column {field}={column}: {table} has no column {column!r}")
    wanted = dict.fromkeys([*told_columns, *told_scorers, *(name for name in seen if name in known)])
    chosen = []
    for name in wanted:
        column = told_columns.get(name, name)
        if column not in known:
            raise UsageError(f"{table} has no column {column!r}; pass --gold-column {name}=COLUMN")
        chosen.append(Field(name, column, told_scorers.get(name) or seen.get(name, EXACT)))
    if not chosen:
        raise UsageError(
            f"no column of {table} ({', '.join(known)}) is named like a field of the answers "
            f"({', '.join(seen)}); pass --gold-column FIELD=COLUMN"
        )
    return chosen
