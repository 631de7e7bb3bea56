"""The review: a queue of rows that a person decides on, drawn so that what is found says something of all rows.

1. Two strata: doubtful rows, which have no good label (or a wrong one, where gold says so, or another one in a second
   file), and all others. Of each some rows are drawn at random, so each row has a known probability, which is written
   with each decision.
2. The queue is drawn once and kept in `RESULTS.review.json`: the same command goes on where the person stopped.
3. A decision is on the disk before the page says so.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from batchrun.datasets.corrections import Correction, CorrectionsFile, Drawn, with_value
from batchrun.datasets.fields import Column, Kind
from batchrun.datasets.labels import Label, LabelReader
from batchrun.errors import StopError, UsageError
from batchrun.records.answer import NotJsonError, parse_json
from batchrun.records.words import counted
from batchrun.results.files import replace_whole
from batchrun.results.paths import ResultPaths
from batchrun.viewer.columns import everything, rows_in, window
from batchrun.viewer.index import Index
from batchrun.viewer.second import Compared

SEED = 0


class Drawing(msgspec.Struct, frozen=True):
    """One row of the queue, by its id and its line, with how and with what probability it was drawn."""

    id: str
    line: int
    drawn: Drawn
    probability: float


class Queue(msgspec.Struct, frozen=True):
    """All rows of a review, in their order. `size`, `random_share`: as it was asked for; `of`: rows at that time."""

    size: int
    random_share: float
    of: int
    rows: list[Drawing]
    v: int = 1


@dataclass(frozen=True, slots=True)
class ReviewOptions:
    """What is reviewed. `random_share`: of the queue, drawn from the rows that are not doubtful.

    `table`, `prefix`: the table that gets the decisions, and what its new columns are named with, as far as known.
    `requests`: the request file, where it was named.
    """

    size: int
    random_share: float = 0.5
    is_blind: bool = False
    table: str = "DATA"
    prefix: str = ""
    requests: str = ""


def rows_to_draw(index: Index) -> int:
    """How many rows a review may have now: those that the first file has."""
    with index.lock:
        only_second = index.columns.facets["compared"].having(Compared.ONLY_SECOND)
        return len(index.columns) - only_second.bit_count()


def draw(index: Index, options: ReviewOptions, id_at: Callable[[int], str]) -> Queue:
    """Draw a queue from the rows of an index."""
    with index.lock:
        count = len(index.columns)
        good = index.columns.facets["status"].having("ok")
        compared = index.columns.facets["compared"]
        good &= ~index.columns.facets["verdict"].having("wrong") & ~compared.having(Compared.DIFFERS)
        all_rows = everything(count) & ~compared.having(Compared.ONLY_SECOND)
    sound = window(rows_in(good & all_rows, count), 0, count)
    doubtful = window(rows_in(all_rows & ~good, count), 0, count)
    rng = random.Random(SEED)
    of_doubtful = min(len(doubtful), options.size - round(options.size * options.random_share))
    of_sound = min(len(sound), options.size - of_doubtful)
    of_doubtful = min(len(doubtful), options.size - of_sound)
    drawn: list[tuple[int, Drawn, float]] = []
    for rows, number, how in ((doubtful, of_doubtful, "doubtful"), (sound, of_sound, "random")):
        probability = number / len(rows) if rows else 0.0
        drawn += [(row, how, probability) for row in rng.sample(rows, number)]  # type: ignore[misc]
    rng.shuffle(drawn)
    lines = index.columns.numbers["line"].values
    rows_drawn = [Drawing(id_at(row), int(lines[row]), how, probability) for row, how, probability in drawn]
    return Queue(options.size, options.random_share, len(sound) + len(doubtful), rows_drawn)


def queue_of(path: Path, options: ReviewOptions, make: Callable[[], Queue]) -> Queue:
    """The queue that is kept at a path, if it was asked for in the same way; else a new one, which is kept.

    Raises `UsageError` where the file is of something else, `StopError` where it cannot be written.
    """
    try:
        kept = msgspec.json.decode(path.read_bytes(), type=Queue)
    except FileNotFoundError:
        kept = None
    except (OSError, msgspec.DecodeError) as error:
        raise UsageError(f"cannot use {path}: {error}; remove it to draw a new queue") from None
    if kept is not None:
        if (kept.size, kept.random_share) != (options.size, options.random_share):
            raise UsageError(
                f"{path} has another review: --review {kept.size} --mix random={kept.random_share:g}; go on with that, "
                "or remove the file to draw a new queue"
            )
        return kept
    queue = make()
    try:
        replace_whole(path, orjson.dumps(msgspec.to_builtins(queue)) + b"\n")
    except OSError as error:
        raise StopError(f"cannot write {path}: {error.strerror}") from error
    return queue


class Review:
    """A queue, and the decisions on its rows."""

    def __init__(self, queue: Queue, file: CorrectionsFile, options: ReviewOptions) -> None:
        self.queue, self.file, self.options = queue, file, options
        self.places = {drawing.id: place for place, drawing in enumerate(queue.rows)}

    def __len__(self) -> int:
        return len(self.queue.rows)

    def drawn_from(self, index: Index) -> str:
        """Of how many rows these were drawn, and how many came later, which are none of them, in words."""
        said, later = f"Drawn from {counted(self.queue.of, 'row')}.", rows_to_draw(index) - self.queue.of
        if later <= 0:
            return said
        paths = ResultPaths.of(index.results)
        return (
            f"{said} {later:,} came later: they are not reviewed, and the decisions do not stand for them. To draw "
            f"from all rows, move {paths.review} and {paths.corrections} elsewhere, and start the review again."
        )

    def is_decided(self, place: int, fields: Sequence[Column]) -> bool:
        """Whether all fields of a row are decided."""
        return not self.undecided(self.queue.rows[place].id, fields)

    def undecided(self, custom_id: str, fields: Sequence[Column]) -> list[Column]:
        """The fields of a row on which nothing is decided."""
        known = self.file.decisions.of(custom_id)
        return [field for field in fields if field.name not in known]

    def decided(self, fields: Sequence[Column]) -> int:
        """How many rows are decided."""
        return sum(self.is_decided(place, fields) for place in range(len(self)))

    def next_open(self, after: int, fields: Sequence[Column]) -> int:
        """The place of the next row that is not decided, from the beginning again; the same one where none is left."""
        for step in range(1, len(self) + 1):
            place = (after + step) % len(self)
            if not self.is_decided(place, fields):
                return place
        return after

    def accept(self, place: int, label: Label, fields: Sequence[Column]) -> None:
        """All fields that are not decided yet are right. Raises `UsageError` where there is no label to accept."""
        if not label.is_ok:
            raise UsageError("There is no label to accept; choose a value, edit it, or mark it wrong.")
        drawing = self.queue.rows[place]
        open_fields = self.undecided(drawing.id, fields)
        if open_fields and self.options.is_blind:
            raise UsageError("Decide first: the label is hidden until then.")
        values = {field.name: field.value(label.value) for field in open_fields}
        when = _now()  # one for all: they are one decision
        self._keep([self._made(drawing, name, value, when, to=value) for name, value in values.items()])

    def set(self, place: int, label: Label, field: Column, value: Any) -> None:
        """A field has this value."""
        drawing = self.queue.rows[place]
        self._keep([self._made(drawing, field.name, _was(label, field), _now(), to=value)])

    def mark_wrong(self, place: int, label: Label, field: Column) -> None:
        """The value of a field is wrong; nobody knows the right one yet."""
        self._keep([self._made(self.queue.rows[place], field.name, _was(label, field), _now(), is_wrong=True)])

    def note(self, place: int, label: Label, field: Column, note: str) -> None:
        """Add a note to the decision on a field. Raises `UsageError` where there is none yet."""
        drawing = self.queue.rows[place]
        known = self.file.decisions.of(drawing.id).get(field.name)
        if known is None:
            raise UsageError(f"Decide on {field.name} first; then write the note.")
        self._keep([msgspec.structs.replace(known, note=note, when=_now())])

    def undo(self) -> int:
        """Take back the last decision; the place of its row in the queue. Raises `UsageError` where there is none."""
        if not (last := self.last()):
            raise UsageError("Nothing is decided yet, so there is nothing to take back.")
        place = self.places[last[0].id]
        when = _now()
        self._keep([self._made(self.queue.rows[place], one.field, None, when, undo=True) for one in last])
        return place

    def last(self) -> list[Correction]:
        """The last decision on a row of the queue: one field, or all that were accepted at once."""
        return self.file.decisions.last(self.places)

    def _made(self, drawing: Drawing, field: str, was: Any, when: str, **told: Any) -> Correction:
        return Correction(
            v=1,
            id=drawing.id,
            field=field,
            from_=was,
            when=when,
            drawn=drawing.drawn,
            probability=drawing.probability,
            **told,
        )

    def _keep(self, made: list[Correction]) -> None:
        if made:
            self.file.append(made)


def _was(label: Label, field: Column) -> Any:
    return field.value(label.value) if label.is_ok else None


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def choices(field: Column, enum: Sequence[str]) -> list[Any]:
    """The values from which a person chooses, in their order; none for free texts and numbers."""
    if field.kind is Kind.BOOLEAN:
        return [True, False]
    return [typed(value, field) for value in enum]


def refuse_unfit(labels: LabelReader, label: Label, field: Column, value: Any) -> None:
    """Raise `UsageError` where the answer would not fit its schema with that value; nothing is known without one."""
    if not label.is_ok:
        return
    changed = with_value(label.value, field.path, value)
    found = labels.read_json(orjson.dumps(changed).decode())
    if not found.is_ok:
        raise UsageError(f"{field.name}: the answer would not fit its schema ({found.error})")


def typed(text: str, field: Column) -> Any:
    """A value as a person types it: a text for a field of texts, else JSON. Raises `UsageError`."""
    if field.kind is Kind.TEXT:
        return text
    try:
        return parse_json(text)
    except NotJsonError:
        raise UsageError(
            f"{field.name}: {text[:60]!r} is no {field.kind}; write it as JSON, such as 3 or true"
        ) from None
