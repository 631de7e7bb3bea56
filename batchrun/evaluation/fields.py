"""Which fields are scored, how, and against which columns of gold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from batchrun.datasets.labels import LabelReader
from batchrun.errors import UsageError
from batchrun.evaluation.scorers import EXACT, JSON, SET, TRUTH, Scorer, number
from batchrun.records.answer import DoubledKeyError, NotJsonError, Result, json_text_of, parse_json, unfenced

ANSWER = "answer"
"""The field of an answer that is a text, unless the answer is an object with a field of this name."""
DAMAGED = "damaged record"
TEXT = replace(EXACT)
"""The scorer of that field where nobody has told another one; no field of an object has it."""
MIXED = replace(EXACT)
"""The same where some answers are objects with this member: what begins as an object without it is no text."""
_BEGUN = re.compile(r"\s*(?:```[\w+-]*\s*)?\{")


class Answer:
    """A result that is looked at field by field. `why`: why it has no answer as a whole; "" if it has one.

    `parsed`: the JSON of the answer, None where there is none. An object that has a key twice is invalid.
    `result` None: that of a record that is damaged. `reader`: checks the answer against its schema, as `join` does;
    None where there is none.
    """

    __slots__ = ("parsed", "result", "why")

    def __init__(self, result: Result | None, reader: LabelReader | None = None) -> None:
        self.result = result
        self.parsed: Any = None
        if result is None:
            self.why = DAMAGED
            return
        run = result.run
        self.why = "" if run.outcome == "succeeded" else str(run.outcome)
        if not self.why and run.schema_error is not None:
            self.why = "invalid"
        if not self.why and reader is not None:
            label = reader.read(result)
            self.why = "" if label.is_ok else str(label.status)
            self.parsed = label.value
        elif not self.why:
            self._parse(json_text_of(result.body))

    @property
    def text(self) -> str | None:
        """The text of the answer, None where there is none."""
        return None if self.result is None else self.result.text

    def _parse(self, text: str | None) -> None:
        if text is None:
            return
        try:
            self.parsed = parse_json(unfenced(text))
        except DoubledKeyError:
            self.why = "invalid"
        except NotJsonError:
            pass


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the answers: its `name` (`a.b` where it is nested), its `column` in gold, its `scorer`.

    `is_text`: it is the text of an answer that has no member of this name. `is_mixed`: only of one that is plain.
    """

    name: str
    column: str
    scorer: Scorer
    is_text: bool = False
    is_mixed: bool = False

    def read(self, answer: Answer) -> Any:
        """The field in an answer; None where the answer has none, or nothing but blanks."""
        value = nested(answer.parsed, self.name)
        if value is None and self.is_text and not (isinstance(answer.parsed, dict) and self.name in answer.parsed):
            value = answer.text if not self.is_mixed or is_plain(answer.text) else None
        return None if isinstance(value, str) and not value.strip() else value


def is_plain(text: str | None) -> bool:
    """Whether an answer is a text; one that begins as an object is not meant as one, also where it was cut."""
    return text is not None and bool(text) and not text.isspace() and _BEGUN.match(text) is None


def nested(value: Any, name: str) -> Any:
    """A member of an object, also `a.b` of nested ones; None where there is none."""
    if not isinstance(value, dict):
        return None
    if name in value:
        return value[name]
    head, dot, rest = name.partition(".")
    return nested(value.get(head), rest) if dot else None


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
    by_name: Iterable[str] = (),
) -> list[Field]:
    """The fields that gold has a column for, by equal names or as it was told, in the order of the columns.

    `seen`: the scorers of fields. `by_name`: those that a column of the same name makes a field.
    Raises `UsageError` where there is none, or a column that was named is not there.
    """
    known, names = list(columns), list(by_name)
    for field, column in told_columns.items():
        if column not in known:
            raise UsageError(f"--gold-column {field}={column}: {table} has no column {column!r}")
    wanted = dict.fromkeys([*told_columns, *told_scorers, *(column for column in known if column in names)])
    chosen = []
    for name in wanted:
        column = told_columns.get(name, name)
        if column not in known:
            raise UsageError(f"{table} has no column {column!r}; pass --gold-column {name}=COLUMN")
        scorer = seen.get(name, EXACT)
        is_text = scorer is TEXT or scorer is MIXED
        chosen.append(Field(name, column, told_scorers.get(name) or scorer, is_text, is_mixed=scorer is MIXED))
    if not chosen:
        raise UsageError(
            f"no column of {table} ({', '.join(known)}) is named like a field of the answers "
            f"({', '.join(names)}); pass --gold-column FIELD=COLUMN"
        )
    return chosen
