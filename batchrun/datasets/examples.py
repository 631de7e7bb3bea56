"""Few-shot examples: the rows of another table, asked as the rows of DATA are, each with its right answer."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from batchrun.datasets.bodies import Bodies, Example
from batchrun.datasets.json_values import Number
from batchrun.datasets.row_ids import RowKeys
from batchrun.datasets.schema import Schema
from batchrun.datasets.tables import Table
from batchrun.datasets.template import FAILURES
from batchrun.errors import UsageError
from batchrun.validation.schema import CompiledSchema


def read_examples(
    table: Table, answer: str, schema: Schema | None, bodies: Bodies, used: Sequence[str]
) -> list[Example]:
    """The examples of a table, whose column `answer` is right.

    Raises `UsageError` for a column that it lacks, `InputError` for rows that are none.
    """
    for name in (*used, answer):
        if name not in table.columns:
            option = "--example-answer" if name == answer else "--examples"
            raise UsageError(f'{option}: {table.name} has no column "{name}"; it has: {", ".join(table.columns)}')
    keys, answers, found = RowKeys(used), _Answers(schema), list[Example]()
    for row in table.rows():
        try:
            question = bodies.content(row.number, row.cells, table.folder)
            found.append(Example(keys.key(row.cells), _messages(question, answers.text(row.cells[answer]))))
        except FAILURES as error:
            table.problems.add(row.line_number, row.number, str(error))
    table.problems.raise_any()
    return found


def _messages(question: Any, answer: str) -> bytes:
    """An example as two members of a list of messages."""
    both = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return orjson.dumps(both)[1:-1]


class _Answers:
    """The right answers as the model should write them: JSON that fits the schema, where there is one."""

    def __init__(self, schema: Schema | None) -> None:
        fields: list[str] = list(schema.schema.get("properties", ())) if schema is not None else []
        self._only_field = fields[0] if len(fields) == 1 else None
        self._compiled = CompiledSchema(orjson.dumps(schema.schema)) if schema is not None else None

    def text(self, cell: Any) -> str:
        """The answer for a cell: its text, or its JSON; the value of the only field where the schema has but one.

        Raises `ValueError` where it does not fit the schema.
        """
        if self._compiled is None:
            return cell if isinstance(cell, str) else _as_json(cell)
        why = "it is no JSON object"
        for text in self._readings(cell):
            if (unfit := self._compiled.why_unfit(orjson.loads(text))) is None:
                return text
            why = unfit
        raise ValueError(f"the answer does not fit the schema ({why}); write the JSON of an answer")

    def _readings(self, cell: Any) -> Iterator[str]:
        """What the cell may mean, as JSON: an answer as it stands, or the value of the only field."""
        value, is_text = cell, isinstance(cell, str)
        if is_text:
            with contextlib.suppress(orjson.JSONDecodeError):
                value = orjson.loads(cell)
        if isinstance(value, dict):
            yield cell if is_text else _as_json(value)
        if self._only_field is not None:
            yield _as_json({self._only_field: cell})
            yield _as_json({self._only_field: value})


def _as_json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_PASSTHROUGH_SUBCLASS, default=_number).decode()


def _number(value: Any) -> Any:
    if isinstance(value, Number):
        return orjson.Fragment(value.text)
    raise ValueError(f"a {type(value).__name__} is no answer; write text or JSON")
