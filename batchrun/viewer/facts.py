"""What the index has of a record: its status, its labels, what it cost, and the text that is searched."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import orjson

from batchrun.billing.line_cost import LineCosts
from batchrun.billing.pricing import PriceBook
from batchrun.billing.tally import cost_of
from batchrun.datasets.fields import Column, columns_of
from batchrun.datasets.labels import Label, LabelReader, RowStatus
from batchrun.evaluation.asked import Asked
from batchrun.records.answer import Result, plain_text, refusal_of
from batchrun.viewer.gold import Judge
from batchrun.viewer.prompts import Requests
from batchrun.viewer.second import Compared, Second
from batchrun.viewer.table import DataTable

LONGEST_VALUE = 200
"""A longer value of a field is no label, and in no facet."""


class Facts(NamedTuple):
    """The row of one record. `facets` and `numbers`: in the order of the columns.

    `text`: what is searched of the row; `shared`: the part of its prompt that others may have, too.
    """

    facets: tuple[str | None, ...]
    numbers: tuple[float | None, ...]
    text: str
    shared: str


class FactsReader:
    """Reads what the index has of records. `asked`: how their requests were made, for the schema of the answers.

    `judge`: holds them against gold, where there is some. `second`: another result file that they are compared with.
    `requests`: their request file, if it is known. `table`: that of which the requests were made, to be shown.
    """

    def __init__(
        self,
        asked: Asked,
        book: PriceBook,
        judge: Judge | None = None,
        second: Second | None = None,
        requests: Requests | None = None,
        table: DataTable | None = None,
    ) -> None:
        self.judge, self.second, self.requests, self.table = judge, second, requests, table
        encoded = None if asked.schema is None else orjson.dumps(asked.schema)
        self.labels = LabelReader(encoded, lambda text: None)
        self.fields: tuple[Column, ...] = () if encoded is None else columns_of(encoded)
        self.enums = {field.name: asked.labels(field.name) for field in self.fields}
        self._book, self._costs = book, LineCosts(book)
        names = (encoded or b"", b"" if judge is None else judge.key.encode())
        self.key = b"\0".join((*names, b"" if requests is None else requests.identity.encode()))

    def read_ahead(self) -> bool:
        """Read some of the table, or find where some more requests begin; False where all is known."""
        if self.table is not None and self.table.read_on():
            return True
        known = (self.requests, None if self.second is None else self.second.requests)
        return any(requests is not None and requests.read_on() for requests in known)

    def close(self) -> None:
        """Close the request file, the second file and the table."""
        if self.table is not None:
            self.table.close()
        if self.requests is not None:
            self.requests.close()
        if self.second is not None:
            self.second.close()

    def label(self, result: Result) -> Label:
        """What a record says of its row."""
        return self.labels.read(result)

    def cost(self, result: Result) -> Decimal | None:
        """What a record costs, exactly, in US dollars; None where no price is known."""
        return cost_of(result.run, self._book)

    def read(self, result: Result) -> Facts:
        """The facts of a record."""
        text = plain_text(result.body)
        if text is not None and result.error is None and result.run.outcome == "succeeded":
            label = self.labels.read_text(text)
        else:
            label, text = self.label(result), answer_text(result)
        compared = (None, None) if self.second is None else self.second.compare(result, label, self.fields)
        return self._facts(result, label, text, self.fields, compared, self.requests)

    def read_second(self, result: Result, second: Second) -> Facts:
        """The facts of a record that only the second file has."""
        theirs = {field.name: field for field in second.fields}
        fields = [theirs.get(field.name) for field in self.fields]
        label = second.labels.read(result)
        compared = (Compared.ONLY_SECOND, label.status)
        return self._facts(result, label, answer_text(result), fields, compared, second.requests)

    def _facts(
        self,
        result: Result,
        label: Label,
        text: str,
        fields: Sequence[Column | None],
        compared: tuple[Compared | None, RowStatus | None],
        requests: Requests | None,
    ) -> Facts:
        run = result.run
        usage = run.usage
        values: list[str | None] = [None] * len(fields)
        if label.is_ok:
            values = [None if field is None else _short(field.value(label.value)) for field in fields]
        facets = (
            compared[0],
            label.status,
            compared[1],
            run.model or run.requested_model,
            run.endpoint or run.gateway,
            None if result.error is None else result.error.code,
            None if self.judge is None else self.judge.verdict(result),
            *values,
        )
        numbers = (
            run.line,
            self._costs.usd(run),
            None if usage is None else usage.input_tokens,
            None if usage is None else usage.output_tokens,
            run.latency_s,
            run.attempts,
        )
        shared, own = ("", "") if requests is None else requests.words(result)
        return Facts(facets, numbers, f"{result.custom_id} {text}\n{own}", shared)


def label_text(value: Any) -> str | None:
    """The value of a field in words; None where there is none."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(value, ensure_ascii=False)


def _short(value: Any) -> str | None:
    """The value of a field as a label; None where it is too long for one."""
    text = value if type(value) is str else label_text(value)
    return None if text is None or len(text) > LONGEST_VALUE else text


def answer_text(result: Result) -> str:
    """All that an answer says: its text, its refusal, its tool calls, its error."""
    parts = [result.text or refusal_of(result.body) or ""]
    parts += [f"{call.name} {call.arguments}" for call in result.tool_calls]
    if result.error is not None:
        parts.append(f"{result.error.code} {result.error.message}")
    return "\n".join(part for part in parts if part)
