"""The rows of a page, read from the result file and the request file: cells for the table, all of one for its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from batchrun.datasets.fields import Column
from batchrun.datasets.labels import Label, LabelReader
from batchrun.datasets.lookup import RecordFile
from batchrun.errors import StopError
from batchrun.records.answer import Result
from batchrun.records.prompt import Turn
from batchrun.viewer.comparison import Comparison, RowOfBoth
from batchrun.viewer.facts import FactsReader, label_text
from batchrun.viewer.gold import GoldField
from batchrun.viewer.index import OF_SECOND, Index
from batchrun.viewer.second import Second
from batchrun.viewer.table import DataTable
from batchrun.viewer.texts import RowTexts, Text

LONGEST_CELL, LONGEST_ADDRESS = 120, 300
"""Characters that are shown of a value in the table, and of the address of a picture."""
_DATA_URLS = tuple(f"data:image/{kind};base64," for kind in ("png", "jpeg", "jpg", "gif", "webp"))


@dataclass(frozen=True, slots=True)
class ShownRow:
    """One row of the table. `number`: its place in the file, from 0. `fields`: the values of its answer, in words.

    `second`: those of the second file where that has the row, with its status; `compared`: how they go together.
    `data`: the cells of its row of the table, None where there is none.
    """

    number: int
    line: int
    custom_id: str
    status: str
    fields: list[str]
    model: str
    cost_usd: Decimal | None
    input_tokens: int | None
    output_tokens: int | None
    latency_s: float | None
    attempts: int
    error: str
    verdict: str
    compared: str = ""
    second_status: str = ""
    second: list[str | None] = field(default_factory=list)
    data: list[str] | None = None

    def to_json(self, fields: Sequence[str], columns: Sequence[str] = ()) -> dict[str, Any]:
        """The row for programs."""
        ours = [
            name for name in self.__slots__ if name not in ("fields", "compared", "second", "second_status", "data")
        ]
        told = {name: getattr(self, name) for name in ours}
        told["cost_usd"] = None if self.cost_usd is None else float(self.cost_usd)
        told |= {"fields": dict(zip(fields, self.fields, strict=True))}
        if self.data is not None:
            told["data"] = dict(zip(columns, self.data, strict=True))
        if not self.compared:
            return told
        second = {"status": self.second_status, "fields": dict(zip(fields, self.second, strict=False))}
        return told | {"compared": self.compared, "second": second if self.second_status else None}


@dataclass(frozen=True, slots=True)
class ShownTurn:
    """One turn of a prompt. `pictures`: data URLs that are shown; `addresses`: what is named, and never fetched."""

    role: str
    text: Text
    pictures: list[str]
    addresses: list[str]


@dataclass(frozen=True, slots=True)
class WholeRow:
    """All of one row. `prompt`: None where the request is not there any more as it was sent."""

    row: ShownRow
    prompt: list[ShownTurn] | None
    answer: Text
    why: str
    reasoning: Text
    calls: list[tuple[str, Text]]
    facts: list[tuple[str, str]]
    error: Text
    raw: Text
    values: list[tuple[str, Text]] = field(default_factory=list)
    gold: list[GoldField] = field(default_factory=list)
    comparison: Comparison | None = None


class Rows:
    """Reads rows. Raises `OSError` if the result file cannot be read."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self._reader: FactsReader = index.reader
        self.fields = [one.name for one in self._reader.fields]

    @property
    def has_gold(self) -> bool:
        """Whether rows are held against gold."""
        return self._reader.judge is not None

    def enum_of(self, field: str) -> list[str]:
        """The values of a field in the order of its enum; none where it has no enum."""
        return self._reader.enums.get(field, [])

    @property
    def columns(self) -> Sequence[Column]:
        """The fields of answers."""
        return self._reader.fields

    @property
    def labels(self) -> LabelReader:
        """What reads the label of an answer."""
        return self._reader.labels

    def id_at(self, number: int) -> str:
        """The id of a row. Raises `StopError` if the file was changed meanwhile."""
        return self._result(number).custom_id

    def total_lines(self, number: int) -> int:
        """How many lines the request file had when a row was sent. Raises as `id_at` does."""
        return self._result(number).run.total_lines

    def label_at(self, number: int) -> Label:
        """The label of a row. Raises `StopError` if the file was changed meanwhile."""
        return self._label(number, self._result(number))

    @property
    def table(self) -> DataTable | None:
        """The table of which the requests were made, where it is shown."""
        return self._reader.table

    @property
    def second(self) -> Second | None:
        """The other file of two."""
        return self._reader.second

    def is_of_second(self, number: int) -> bool:
        """Whether only the second file has a row."""
        return self._offset(number) >= OF_SECOND

    def _result(self, number: int) -> Result:
        with RecordFile(self._index.results) as file:
            return self._at(file, self._offset(number))

    def _offset(self, number: int) -> int:
        offsets = self._index.columns.offsets
        if number >= len(offsets):  # the file is another one since the page was asked for
            raise StopError(f"{self._index.results} has no row {number + 1:,} any more; load the page again")
        return offsets[number]

    def _at(self, file: RecordFile, offset: int) -> Result:
        second = self._reader.second
        return second.file.at(offset - OF_SECOND) if second is not None and offset >= OF_SECOND else file.at(offset)

    def _label(self, number: int, result: Result) -> Label:
        second = self._reader.second
        return (
            second.labels.read(result)
            if second is not None and self.is_of_second(number)
            else self._reader.label(result)
        )

    def page(self, numbers: Sequence[int]) -> list[ShownRow]:
        """The cells of some rows. Raises `StopError` if the file was changed meanwhile."""
        with RecordFile(self._index.results) as file:
            results = [self._at(file, self._offset(number)) for number in numbers]
        return [
            self._shown(number, result, self._label(number, result))
            for number, result in zip(numbers, results, strict=True)
        ]

    def records(self, offsets: Sequence[int], size: int) -> Iterator[bytes]:
        """The records at some offsets, as they stand in the file: pieces of about `size` bytes."""
        piece = bytearray()
        with RecordFile(self._index.results) as file:
            for offset in offsets:
                piece += self._at(file, offset).record + b"\n"
                if len(piece) >= size:
                    yield bytes(piece)
                    piece.clear()
        if piece:
            yield bytes(piece)

    def whole(self, number: int) -> WholeRow:
        """All of one row. Raises `StopError` if the file was changed meanwhile."""
        result = self._result(number)
        label = self._label(number, result)
        compared = self._compared(number, result, label)
        second = self._reader.second
        turns = self._turns(number, result)
        texts = RowTexts(result, label, self._reader.fields, turns)
        return WholeRow(
            row=self._shown(number, result, label),
            prompt=None if turns is None else [_shown_turn(turn, place, texts) for place, turn in enumerate(turns)],
            answer=texts.first("answer"),
            why="" if label.is_ok or result.error is not None else label.error,
            reasoning=texts.first("reasoning"),
            calls=[(call.name, texts.first(f"call-{place}")) for place, call in enumerate(result.tool_calls)],
            facts=list(_facts(result)),
            error=texts.first("error"),
            raw=texts.first("raw"),
            values=[
                (one.name, texts.first(f"value-{place}"))
                for place, one in enumerate(self._reader.fields if label.is_ok else ())
            ],
            gold=[] if self._reader.judge is None else self._reader.judge.fields(result),
            comparison=None if second is None or compared is None else compared.comparison(self._reader.fields, second),
        )

    def piece(self, number: int, part: str, start: int) -> Text | None:
        """A piece of a text of a row; None where it has no such text. Raises as `whole` does."""
        result = self._result(number)
        label = self._label(number, result)
        return RowTexts(result, label, self._reader.fields, self._turns(number, result)).piece(part, start)

    def _compared(self, number: int, result: Result, label: Label) -> RowOfBoth | None:
        """The row beside that of the second file; None where there is none, or it is one of the second alone."""
        second = self._reader.second
        if second is None or self.is_of_second(number):
            return None
        other = second.find(result.custom_id)
        return RowOfBoth(label, result, second.labels.read(other), other)

    def _shown(self, number: int, result: Result, label: Label) -> ShownRow:
        run, usage = result.run, result.usage
        compared, second = self._compared(number, result, label), self._reader.second
        is_there = compared is not None and compared.second_result is not None
        values = [label_text(one.value(label.value)) if label.is_ok else "" for one in self._reader.fields]
        return ShownRow(
            number=number,
            line=run.line,
            custom_id=result.custom_id,
            status=str(label.status),
            fields=["" if value is None else value for value in values],
            model=run.model or run.requested_model,
            cost_usd=self._reader.cost(result),
            input_tokens=None if usage is None else usage.input_tokens,
            output_tokens=None if usage is None else usage.output_tokens,
            latency_s=run.latency_s,
            attempts=run.attempts,
            error="" if result.error is None else result.error.code,
            verdict="" if self._reader.judge is None else str(self._reader.judge.verdict(result)),
            compared=self._index.columns.facets["compared"].value(number) or "",
            second_status=str(compared.second_label.status) if compared is not None and is_there else "",
            data=None if self._reader.table is None else self._reader.table.cells(result.custom_id),
            second=compared.values(self._reader.fields, second) if compared is not None and second is not None else [],
        )

    def _turns(self, number: int, result: Result) -> list[Turn] | None:
        requests, second = self._reader.requests, self._reader.second
        if second is not None and self.is_of_second(number):
            requests = second.requests
        return None if requests is None else requests.turns(result)


def _shown_turn(turn: Turn, place: int, texts: RowTexts) -> ShownTurn:
    pictures = [address for address in turn.pictures if address.startswith(_DATA_URLS)]
    others = [address[:LONGEST_ADDRESS] for address in turn.pictures if not address.startswith(_DATA_URLS)]
    return ShownTurn(turn.role, texts.first(f"prompt-{place}"), pictures, others)


def _facts(result: Result) -> Iterator[tuple[str, str]]:
    run, usage = result.run, result.usage
    yield "outcome", run.outcome
    yield "model", run.model or "–"
    yield "requested model", run.requested_model
    yield "gateway", run.endpoint or run.gateway
    yield "attempts", f"{run.attempts:,}"
    if run.throttles:
        yield "throttled", f"{run.throttles:,}"
    if run.tries:
        yield "answers asked for", f"{len(run.tries):,}"
    if run.source is not None:
        yield "source", f"{run.source.kind} from line {run.source.line:,} {run.source.file}".strip()
    if usage is not None:
        yield "input tokens", f"{usage.input_tokens:,}"
        yield "output tokens", f"{usage.output_tokens:,}"
    if run.latency_s is not None:
        yield "latency", f"{run.latency_s:,.2f} s"
    yield "run begun", run.started
