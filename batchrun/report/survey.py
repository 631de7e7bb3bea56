"""What a page shows of the records, found in one pass: histograms, the shares of labels, a few rows at random.

1. Memory does not grow with the file: numbers go into histograms, labels into counters, and a few offsets are kept.
2. Rows are drawn by the hash of their ids: the same ones each time, in whatever order they were answered.
3. Only an answer that fits its schema has labels, as for `join`. A text is no label, unless it is one of a few.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import orjson

from batchrun.billing.line_cost import LineCosts
from batchrun.billing.pricing import PriceBook
from batchrun.datasets.fields import Column, columns_of
from batchrun.datasets.labels import Label, LabelReader, RowStatus
from batchrun.datasets.lookup import RecordFile
from batchrun.evaluation.asked import Asked
from batchrun.records.answer import Result, read_result
from batchrun.records.rawjson import REFUSED
from batchrun.records.result import ErrorInfo, ResultHead, check_results, parse_results
from batchrun.requests.selection import rank
from batchrun.results.parts import open_results
from batchrun.stats.histogram import Histogram
from batchrun.stats.proportions import Interval, wilson

DRAWN_ROWS = 20
MOST_LABELS = 50
"""A field with more different values has no labels but texts or numbers."""
_LONGEST_LABEL, _LEAST_REPEATS = 60, 5  # of a text without an enum: characters, and rows a value
_BATCH = 1 << 18
_BUCKET = 1.001  # up to a thousand, one for each number of tokens: those of one template are near one another
LEAST_USD = 1e-9


@dataclass(frozen=True, slots=True)
class Share:
    """How many rows have a label, and which share of the rows that have labels that is."""

    label: str
    rows: int
    share: Interval


@dataclass(frozen=True, slots=True)
class FieldShares:
    """The labels of one field, of `rows` rows. `is_list`: a row may have several."""

    column: Column
    rows: int
    shares: list[Share]
    is_list: bool

    def in_row(self, label: Label | None) -> str:
        """The labels of one row in words; "" where it has none."""
        if label is None or not label.is_ok:
            return ""
        value = self.column.value(label.value)
        return ", ".join(_words(type(one), one) for one in (value if isinstance(value, list) else [value]))


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over a result file found.

    `cost_usd`: of the records that have a price. `statuses`: what became of the answers that should have labels; None
    where there are no labels. `rows`: a few results, drawn at random; `labels`: theirs, in the same order.
    """

    input_tokens: Histogram
    output_tokens: Histogram
    cost_usd: Histogram
    fields: list[FieldShares]
    statuses: Counter[RowStatus] | None
    rows: list[Result]
    labels: list[Label | None]


def survey(results: Path, book: PriceBook, asked: Asked, drawn: int = DRAWN_ROWS) -> Survey:
    """Read a result file. `asked`: how its requests were made, for the schema of the answers.

    Raises `UsageError` or `ResultFileError` as reading a result file does, `OSError` if it cannot be read.
    """
    pass_ = _Pass(book, asked, drawn)
    with open_results(results) as file:
        start = 0
        while lines := file.readlines(_BATCH):
            pass_.take(lines, start)
            start += sum(map(len, lines))
    with RecordFile(results) as records:
        rows = sorted((records.at(offset) for offset in pass_.drawn()), key=lambda result: result.run.line)
    reader = pass_.reader
    return Survey(
        pass_.input_tokens,
        pass_.output_tokens,
        pass_.cost_usd,
        pass_.labels.shares() if pass_.labels is not None else [],
        pass_.labels.statuses if pass_.labels is not None else None,
        rows,
        [reader.read(row) if reader is not None else None for row in rows],
    )


# ------------------------------------------------------------------------------------ records with their texts


class _Part(msgspec.Struct, gc=False):
    type: str = ""
    text: str | None = None


class _Item(msgspec.Struct, gc=False):
    type: str = ""
    content: list[_Part] | None = None


class _Body(msgspec.Struct, gc=False):
    output: list[_Item] | None = None


class _Response(msgspec.Struct, gc=False):
    body: _Body | None = None


class _Record(ResultHead, frozen=True, gc=False, kw_only=True):
    """A record of which only the text is decoded, of the shape that nearly all answers have."""

    id: str
    response: _Response | None
    error: ErrorInfo | None


_decode_record = msgspec.json.Decoder(_Record).decode


def _with_text(raw: bytes) -> tuple[ResultHead, str | None]:
    """A record and the text of its answer; None where it is not as plain as that, and must be read as a whole.

    Raises one of `REFUSED`.
    """
    if not raw.isascii():
        raw.decode()
    record = _decode_record(raw)
    body = record.response.body if record.response is not None else None
    said = [item for item in (body.output or () if body is not None else ()) if item.type != "reasoning"]
    parts = said[0].content if len(said) == 1 and said[0].type == "message" else None
    if parts is None or len(parts) != 1 or parts[0].type != "output_text":
        return record, None
    return record, parts[0].text


class _Pass:
    """Adds up lines of a result file."""

    def __init__(self, book: PriceBook, asked: Asked, drawn: int) -> None:
        self.input_tokens, self.output_tokens = Histogram(0.5, _BUCKET), Histogram(0.5, _BUCKET)
        self.cost_usd = Histogram(LEAST_USD, _BUCKET)
        self.labels = _Labels(asked) if asked.schema is not None else None
        self.reader = self.labels.reader if self.labels is not None else None
        self._costs = LineCosts(book)
        self._size = drawn
        self._drawn: list[tuple[int, int]] = []  # ranks below 0, so that the highest one is first; offsets

    def take(self, lines: Sequence[bytes], start: int) -> None:
        """Add some lines, which begin at the offset `start`. Lines that are no records are left out."""
        heads = list[ResultHead]()
        if self.labels is not None:
            heads = self._labelled(lines, start)
        else:
            try:
                heads = list(parse_results(lines))
                self._draw(heads, lines, start)
            except ValueError:
                heads = self._one_by_one(lines, start)
        usages = [head.run.usage for head in heads if head.run.usage is not None]
        self.input_tokens.add([usage.input_tokens for usage in usages])
        self.output_tokens.add([usage.output_tokens for usage in usages])
        costs = (self._costs.usd(head.run) for head in heads)
        self.cost_usd.add([usd for usd in costs if usd is not None])

    def drawn(self) -> list[int]:
        """The offsets of the rows that were drawn."""
        return [offset for _, offset in self._drawn]

    def _labelled(self, lines: Sequence[bytes], start: int) -> list[ResultHead]:
        assert self.labels is not None
        try:
            read = list(map(_with_text, lines))
            check_results([head for head, _ in read])
        except (*REFUSED, ValueError):
            return self._one_by_one(lines, start)
        for (head, text), raw in zip(read, lines, strict=True):
            if text is not None and head.run.outcome == "succeeded":
                self.labels.add(self.labels.reader.read_json(text if text.strip() else None))
            else:
                self.labels.add(self.labels.reader.read(read_result(raw.removesuffix(b"\n"))))
        heads = [head for head, _ in read]
        self._draw(heads, lines, start)
        return heads

    def _one_by_one(self, lines: Sequence[bytes], start: int) -> list[ResultHead]:
        heads = list[ResultHead]()
        for raw in lines:
            try:
                result = read_result(raw.removesuffix(b"\n"))
            except ValueError:
                pass
            else:
                heads.append(head := ResultHead(result.custom_id, result.run, result.error))
                self._draw([head], [raw], start)
                if self.labels is not None:
                    self.labels.add(self.labels.reader.read(result))
            start += len(raw)
        return heads

    def _draw(self, heads: Sequence[ResultHead], lines: Sequence[bytes], start: int) -> None:
        """Keep the places of the rows with the lowest ranks."""
        for head, raw in zip(heads, lines, strict=True):
            place = (-rank(head.custom_id), start)
            if len(self._drawn) < self._size:
                heapq.heappush(self._drawn, place)
            elif place > self._drawn[0]:
                heapq.heapreplace(self._drawn, place)
            start += len(raw)


class _Labels:
    """Counts the labels of each field."""

    def __init__(self, asked: Asked) -> None:
        encoded = orjson.dumps(asked.schema)
        self.reader = LabelReader(encoded, lambda text: None)
        self.statuses: Counter[RowStatus] = Counter()
        self._asked = asked
        self._fields = [_Field(column, asked.labels(column.name)) for column in columns_of(encoded)]

    def add(self, label: Label) -> None:
        """Count a row."""
        self.statuses[label.status] += 1
        if label.is_ok:
            for field in self._fields:
                field.add(label.value)

    def shares(self) -> list[FieldShares]:
        """The shares in each field that has labels."""
        return [shares for field in self._fields if (shares := field.shares()) is not None]


class _Field:
    """Counts the values of one field. `told`: its labels in the order of its enum, if it has one."""

    def __init__(self, column: Column, told: list[str]) -> None:
        self._column, self._told = column, told
        self._counts: Counter[tuple[type, Any]] = Counter()
        self._rows, self._is_list, self._has_labels = 0, False, True

    def add(self, answer: Any) -> None:
        """Count the values in an answer."""
        if not self._has_labels:
            return
        self._rows += 1
        value = self._column.value(answer)
        if type(value) is list:
            self._is_list = True
            plain = [one for one in value if isinstance(one, str | int | float)]
            self._has_labels = len(plain) == len(value)
            self._counts.update({(type(one), one) for one in plain})
        elif isinstance(value, dict):
            self._has_labels = False
        else:
            self._counts[type(value), value] += 1
        if len(self._counts) > MOST_LABELS:
            self._has_labels = False
            self._counts.clear()

    def shares(self) -> FieldShares | None:
        """The shares of its labels; None where its values are no labels."""
        if not self._has_labels or not self._rows or not (self._told or self._are_categories()):
            return None
        rows = {_words(kind, value): count for (kind, value), count in self._counts.items()}
        rows |= {label: 0 for label in self._told if label not in rows}
        is_number = all(kind in (int, float) for kind, _ in self._counts)
        ordered = sorted(rows.items(), key=lambda item: float(item[0]) if is_number else -item[1])
        shares = [Share(label, count, wilson(count, self._rows)) for label, count in ordered]
        return FieldShares(self._column, self._rows, shares, self._is_list)

    def _are_categories(self) -> bool:
        """Whether texts without an enum are few and short enough to be labels; all other values are."""
        texts = [value for kind, value in self._counts if kind is str]
        if not texts:
            return True
        is_repeated = len(self._counts) * _LEAST_REPEATS <= self._rows
        return is_repeated and max(map(len, texts)) <= _LONGEST_LABEL


def _words(kind: type, value: Any) -> str:
    if kind is bool:
        return "true" if value else "false"
    return "null" if value is None else str(value)
