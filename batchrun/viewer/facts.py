"""What the index has of a record: its status, its labels, what it cost, and the text that is searched."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import orjson

from batchrun.billing.line_cost import LineCosts
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import cost_of
from batchrun.datasets.fields import Column, columns_of
from batchrun.datasets.labels import Label, LabelReader
from batchrun.evaluation.asked import Asked
from batchrun.records.answer import Result, refusal_of
from batchrun.viewer.gold import Judge
from batchrun.viewer.second import Compared, Second

LONGEST_VALUE = 200
"""A longer value of a field is no label, and in no facet."""


@dataclass(frozen=True, slots=True)
class Facts:
    """The row of one record. `facets` and `numbers`: in the order of the columns. `text`: what is searched."""

    facets: tuple[str | None, ...]
    numbers: tuple[float, ...]
    text: str


class FactsReader:
    """Reads what the index has of records. `asked`: how their requests were made, for the schema of the answers.

    `judge`: holds them against gold, where there is some. `second`: another result file that they are compared with.
    """

    def __init__(self, asked: Asked, book: PriceBook, judge: Judge | None = None, second: Second | None = None) -> None:
        self.judge, self.second = judge, second
        encoded = None if asked.schema is None else orjson.dumps(asked.schema)
        self.schema = encoded or b""
        self.labels = LabelReader(encoded, lambda text: None)
        self.fields: tuple[Column, ...] = () if encoded is None else columns_of(encoded)
        self.enums = {field.name: asked.labels(field.name) for field in self.fields}
        self._book, self._costs = book, LineCosts(book)

    def label(self, result: Result) -> Label:
        """What a record says of its row."""
        return self.labels.read(result)

    def cost(self, result: Result) -> Decimal | None:
        """What a record costs, exactly, in US dollars; None where no price is known."""
        return cost_of(result.run, self._book)

    def read(self, result: Result) -> Facts:
        """The facts of a record."""
        label = self.label(result)
        compared = None if self.second is None else self.second.compare(result, label, self.fields)
        return self._facts(result, label, self.fields, compared)

    def read_second(self, result: Result, second: Second) -> Facts:
        """The facts of a record that only the second file has."""
        theirs = {field.name: field for field in second.fields}
        fields = [theirs.get(field.name) for field in self.fields]
        return self._facts(result, second.labels.read(result), fields, Compared.ONLY_SECOND)

    def _facts(self, result: Result, label: Label, fields: Sequence[Column | None], compared: Compared | None) -> Facts:
        run = result.run
        usage = run.usage
        values = [
            label_text(field.value(label.value)) if field is not None and label.is_ok else None for field in fields
        ]
        facets = (
            None if compared is None else compared.value,
            str(label.status),
            run.model or run.requested_model,
            run.endpoint or run.gateway,
            None if result.error is None else result.error.code,
            None if self.judge is None else str(self.judge.verdict(result)),
            *(None if value is None or len(value) > LONGEST_VALUE else value for value in values),
        )
        numbers = (
            float(run.line),
            _number(self._costs.usd(run)),
            _number(None if usage is None else usage.input_tokens),
            _number(None if usage is None else usage.output_tokens),
            _number(run.latency_s),
            float(run.attempts),
        )
        return Facts(facets, numbers, f"{result.custom_id} {answer_text(result)}")


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def label_text(value: Any) -> str | None:
    """The value of a field in words; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)


def answer_text(result: Result) -> str:
    """All that an answer says: its text, its refusal, its tool calls, its error."""
    parts = [result.text or refusal_of(result.body) or ""]
    parts += [f"{call.name} {call.arguments}" for call in result.tool_calls]
    if result.error is not None:
        parts.append(f"{result.error.code} {result.error.message}")
    return "\n".join(part for part in parts if part)
