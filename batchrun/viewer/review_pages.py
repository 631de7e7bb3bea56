"""The review as pages: one row of the queue with its fields, and what a decision does."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from batchrun.datasets.corrections import Correction
from batchrun.datasets.fields import ANSWER, Column
from batchrun.datasets.labels import Label
from batchrun.datasets.output import prefix_apart
from batchrun.errors import StopError, UsageError
from batchrun.viewer.blocks import digest
from batchrun.viewer.facts import label_text
from batchrun.viewer.guard import Refused
from batchrun.viewer.index import Index
from batchrun.viewer.pages import Pages, title_of
from batchrun.viewer.review import Review, choices, refuse_unfit, typed
from batchrun.viewer.shown import Rows


class Change(msgspec.Struct, frozen=True):
    """What a page sends. `action`: accept, set, edit, wrong, note, undo or skip. `seen`: names the label it showed."""

    action: str
    field: str = ""
    value: Any = None
    text: str = ""
    seen: str = ""


_decode_change = msgspec.json.Decoder(Change).decode


@dataclass(frozen=True, slots=True)
class ShownChoice:
    """A value to choose. `json`: as it is sent."""

    text: str
    json: str
    is_chosen: bool


@dataclass(frozen=True, slots=True)
class ShownField:
    """A field to decide on. `was`: the label, None where there is none; `decision`: "" where there is none yet."""

    name: str
    was: str | None
    hidden: bool
    decision: str
    note: str
    is_active: bool
    choices: Sequence[ShownChoice]


class ReviewPages:
    """The pages of a review."""

    def __init__(self, index: Index, rows: Rows, review: Review) -> None:
        self._index, self._rows, self._review = index, rows, review
        self._fields: Sequence[Column] = rows.columns or (Column(ANSWER),)

    @property
    def size(self) -> int:
        """How many rows there are to review."""
        return len(self._review)

    def first(self) -> str:
        """The address of the first row that is not decided; of the last one where all are."""
        return f"/review/{self._review.next_open(self.size - 1, self._fields)}"

    def page(self, pages: Pages, place: int) -> bytes:
        """The page of a row of the queue. Raises `StopError` where its record is not there any more."""
        number = self._number(place)
        whole, label = self._rows.whole(number), self._rows.label_at(number)
        shown = list(self._shown(place, label))
        return pages.render(
            "review.html.j2",
            name=title_of(self._index.results),
            join=self._join(),
            join_note=self._join_note(),
            drawn=self._review.drawn_from(self._index),
            place=place,
            size=self.size,
            decided=self._review.decided(self._fields),
            row=whole.row,
            whole=whole,
            why=whole.why or whole.error.text,
            is_ok=label.is_ok,
            seen=_name_of(label),
            is_decided=all(field.decision for field in shown),
            hides_answer=any(field.hidden for field in shown),
            hidden_columns=self._hidden_columns(shown),
            last=self._last(place),
            fields=shown,
        )

    def _hidden_columns(self, shown: Sequence[ShownField]) -> frozenset[str]:
        """The columns of the table that may tell the right answer: all that the request does not have."""
        table, is_open = self._rows.table, any(not field.decision for field in shown)
        is_hidden = self._review.options.is_blind and is_open and table is not None
        return table.not_asked if is_hidden and table is not None else frozenset()

    def _last(self, place: int) -> tuple[int, str] | None:
        """The place and the field that were decided last: of this row where it has decisions, else of all."""
        decisions = self._review.file.decisions
        last = decisions.last({self._review.queue.rows[place].id}) or self._review.last()
        return (self._review.places[last[0].id], last[0].field) if last else None

    def _join(self) -> str:
        """The command that makes a table with the decisions."""
        results, decisions = (shlex.quote(str(path)) for path in (self._index.results, self._review.file.path))
        options = self._review.options
        table = options.table if options.table == "DATA" else shlex.quote(options.table)
        more = f" --requests {shlex.quote(options.requests)}" if options.requests else ""
        given = () if self._rows.table is None else self._rows.table.columns
        if prefix := options.prefix or prefix_apart(given, [field.name for field in self._fields]):
            more += f" --prefix {shlex.quote(prefix)}"
        return f"batchrun join {table} {results} -o corrected.csv{more} --corrections {decisions}"

    def _join_note(self) -> str:
        """What is to be known of that command where the table is not."""
        if self._review.options.table != "DATA":
            return ""
        return (
            "DATA is the table that the requests were made of. Where it has a column that is named as a field, add "
            "--prefix new_"
        )

    def decide(self, place: int, body: bytes) -> str:
        """Keep what a page sent; the address to go to. Raises `UsageError` or `StopError` where it is not kept.

        Raises `Refused` for what no page sends.
        """
        try:
            change = _decode_change(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Refused(400, f"this is no decision ({error})") from None
        review, fields = self._review, self._fields
        if change.action == "undo":
            return f"/review/{review.undo()}"
        if change.action == "skip":
            return f"/review/{(place + 1) % self.size}"
        label = self._rows.label_at(self._number(place))
        if change.action != "note" and change.seen not in ("", _name_of(label)):
            raise UsageError("This row has another answer now than was shown. Nothing was decided; decide on this one.")
        if change.action == "accept":
            review.accept(place, label, fields)
            return f"/review/{review.next_open(place, fields)}"
        self._decide_field(place, label, change)
        is_over = review.is_decided(place, fields) and not review.options.is_blind
        return f"/review/{review.next_open(place, fields) if is_over else place}"

    def _decide_field(self, place: int, label: Label, change: Change) -> None:
        field = next((field for field in self._fields if field.name == change.field), None)
        if field is None:
            raise Refused(400, f"there is no field {change.field[:60]!r}")
        if change.action == "wrong":
            self._review.mark_wrong(place, label, field)
        elif change.action == "note":
            self._review.note(place, label, field, change.text)
        elif change.action in ("set", "edit"):
            value = change.value if change.action == "set" else typed(change.text, field)
            if self._rows.columns:
                refuse_unfit(self._rows.labels, label, field, value)
            self._review.set(place, label, field, value)
        else:
            raise Refused(400, f"{change.action[:60]!r} is nothing that can be done")

    def _number(self, place: int) -> int:
        drawing = self._review.queue.rows[place]
        lines = self._index.columns.numbers["line"].values
        try:
            number = lines.index(drawing.line)
        except ValueError:
            raise StopError(f"line {drawing.line} is not in {self._index.results} any more") from None
        if self._rows.id_at(number) != drawing.id:
            raise StopError(f"line {drawing.line} of {self._index.results} has another id than when it was drawn")
        return number

    def _shown(self, place: int, label: Label) -> Iterator[ShownField]:
        known = self._review.file.decisions.of(self._review.queue.rows[place].id)
        undecided = [field.name for field in self._fields if field.name not in known]
        for field in self._fields:
            one = known.get(field.name)
            was = field.value(label.value) if label.is_ok else None
            values = choices(field, self._rows.enum_of(field.name))
            yield ShownField(
                name=field.name,
                was=label_text(was) if label.is_ok else None,
                hidden=self._review.options.is_blind and bool(undecided) and label.is_ok,
                decision=_said(one),
                note="" if one is None else one.note,
                is_active=field.name == (undecided or [self._fields[0].name])[0],
                choices=[_choice(value, one) for value in values],
            )


def _name_of(label: Label) -> str:
    """Names a label: nobody decides on one that was not shown."""
    return digest(json.dumps([label.status, label.value]).encode())


def _choice(value: Any, one: Correction | None) -> ShownChoice:
    is_chosen = one is not None and not one.is_wrong and one.to == value
    return ShownChoice(label_text(value) or "(empty)", json.dumps(value), is_chosen)


def _said(one: Correction | None) -> str:
    if one is None:
        return ""
    return "wrong" if one.is_wrong else label_text(one.to) or "(empty)"
