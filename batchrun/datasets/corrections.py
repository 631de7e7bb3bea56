"""What people say of labels: `RESULTS.corrections.jsonl`, one decision a line, appended and never changed.

1. A decision is on one field of one row: what the label was, what is right. Equal: it was accepted.
2. The last decision on a field counts. `undo` takes the last one back, so that the one before it counts again.
3. A line is on the disk before anybody is told that it is kept. What a kill tore is left out, and counted.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from dataclasses import field as dataclass_field
from pathlib import Path
from typing import Any, Literal

import msgspec

from batchrun.datasets.fields import Column
from batchrun.datasets.labels import Label, RowStatus
from batchrun.errors import StopError, UsageError
from batchrun.results.files import NoLocksError, open_locked, sync_directory, write_whole

Drawn = Literal["random", "doubtful", "picked"]


class Correction(msgspec.Struct, frozen=True, rename={"from_": "from"}, omit_defaults=True, kw_only=True):
    """One decision. `from_`: the label, None where there was none; `to`: what is right, None where nobody knows it yet.

    `is_wrong`: the label is wrong, and `to` is not known. `undo`: it takes the last decision on the field back.
    `note`: in words. `when`: UTC. `drawn`: how the row came to be looked at, and with what `probability`.
    """

    v: Literal[1]
    id: str
    field: str
    from_: Any = None
    to: Any = None
    is_wrong: bool = False
    undo: bool = False
    note: str = ""
    when: str
    drawn: Drawn = "picked"
    probability: float | None = None


_LONGEST_LINE = 1 << 20
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Correction).decode


@dataclass(frozen=True, slots=True)
class Decisions:
    """The decisions that count, by id and field. `damaged`: lines left out. `places`: where in the file each stands."""

    by_row: dict[str, dict[str, Correction]]
    damaged: int = 0
    places: dict[tuple[str, str], int] = dataclass_field(default_factory=dict)

    def of(self, custom_id: str) -> dict[str, Correction]:
        """The decisions on a row, by field."""
        return self.by_row.get(custom_id, {})

    def values(self, custom_id: str) -> dict[str, Any]:
        """What is right in a row, by field, where it is known."""
        return {field: one.to for field, one in self.of(custom_id).items() if not one.is_wrong}

    def last(self, ids: Container[str]) -> list[Correction]:
        """What was decided last on one of some rows: one field, or all that were accepted at once; none without any."""
        known = [key for key in self.places if key[0] in ids]
        if not known:
            return []
        custom_id, field = max(known, key=self.places.__getitem__)
        when = self.by_row[custom_id][field].when
        return [one for one in self.by_row[custom_id].values() if one.when == when]


def read_corrections(path: Path) -> Decisions:
    """The decisions in a file. Raises `UsageError` if it cannot be read."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
    damaged = 0
    stacks: dict[tuple[str, str], list[tuple[int, Correction]]] = {}
    for place, raw in enumerate(filter(None, data.split(b"\n"))):
        try:
            one = _decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            damaged += 1
            continue
        stack = stacks.setdefault((one.id, one.field), [])
        if not one.undo:
            stack.append((place, one))
        elif stack:
            stack.pop()
    by_row: dict[str, dict[str, Correction]] = {}
    places = dict[tuple[str, str], int]()
    for (custom_id, field), stack in stacks.items():
        if stack:
            places[custom_id, field], by_row.setdefault(custom_id, {})[field] = stack[-1]
    return Decisions(by_row, damaged, places)


def is_corrections(path: Path) -> bool:
    """Whether a file has decisions: its first line is one. False for what cannot be read."""
    try:
        with path.open("rb") as file:
            _decode(file.readline(_LONGEST_LINE))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return False
    return True


def corrected(label: Label, known: Mapping[str, Correction], fields: Sequence[Column]) -> Label:
    """The label of a row with the decisions on its fields.

    A row without a label has one where all of its fields are decided. A row of which a field is wrong, and nothing else
    is known of it, has none.
    """
    decided = [(field, known[field.name]) for field in fields if field.name in known]
    if wrong := [field.name for field, one in decided if one.is_wrong]:
        return Label(RowStatus.INVALID, error=f"{', '.join(wrong)}: marked as wrong, and no right value is known")
    if not decided or not (label.is_ok or len(decided) == len(fields)):
        return label
    value = label.value
    for field, one in decided:
        value = with_value(value, field.path, one.to)
    return Label(RowStatus.OK, value)


def with_value(answer: Any, path: Sequence[str], value: Any) -> Any:
    """A copy of an answer in which one field has a value; the value itself where the answer is its only field."""
    if not path:
        return value
    inner = answer if isinstance(answer, dict) else {}
    return {**inner, path[0]: with_value(inner.get(path[0]), path[1:], value)}


class CorrectionsFile:
    """The file, opened to append to it, and locked: one person at a time decides.

    Raises `UsageError` where it cannot be opened, or another program has it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            file = open_locked(path)
        except NoLocksError:
            raise UsageError(f"cannot lock {path}: this disk has no file locks") from None
        except OSError as error:
            raise UsageError(f"cannot write {path}: {error.strerror}") from error
        if file is None:
            raise UsageError(f"{path} is open in another viewer; close that first")
        self._file = file
        self.decisions = read_corrections(path)
        if not os.fstat(file.fileno()).st_size:
            sync_directory(path.parent)  # the file may be new
        self._end_line()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def append(self, made: list[Correction]) -> None:
        """Keep decisions: they are on the disk when this returns. Raises `StopError` where they cannot be written."""
        if not self._is_there():
            raise StopError(
                f"{self.path} was removed or replaced by another program; the decision is not kept. End the viewer, "
                "and start it again"
            )
        size = os.fstat(self._file.fileno()).st_size
        try:
            self._end_line()
            write_whole(self._file, b"".join(_encode(one) + b"\n" for one in made))
            os.fsync(self._file.fileno())
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(size)  # what is said not to be kept must not be found later
            raise StopError(f"cannot write {self.path}: {error.strerror}; the decision is not kept") from error
        self.decisions = read_corrections(self.path)

    def _is_there(self) -> bool:
        """Whether the path still leads to the file that is open."""
        with contextlib.suppress(OSError):
            return os.path.samestat(os.fstat(self._file.fileno()), self.path.stat())
        return False

    def _end_line(self) -> None:
        """A last line that a kill tore, or an editor left without its end, stays apart from the next one."""
        size = os.fstat(self._file.fileno()).st_size
        if size and os.pread(self._file.fileno(), 1, size - 1) != b"\n":
            write_whole(self._file, b"\n")
