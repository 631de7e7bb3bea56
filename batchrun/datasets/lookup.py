"""The records of a result file, found by their ids, or in the order of their lines: an index of offsets in memory.

1. The file is read once from its beginning, and each damaged line is left out. Then single records are read again.
2. Where an id has two records, the first one counts, as it does for `verify` and for a resume.
3. By id, an index takes 24 to 48 bytes a record; in the order of the lines 16.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from types import TracebackType

import orjson

from batchrun.errors import StopError, UsageError
from batchrun.records.answer import Result, read_result, read_results
from batchrun.records.index import HashTable, hash64
from batchrun.records.result import ResultHead, UnknownVersionError
from batchrun.results.parts import open_results, read_at, size_of
from batchrun.results.scan import no_results, other_version, read_places

_FIRST_READ = 4096
_BATCH_BYTES = 1 << 14  # what stays in a core's cache with all that is made of it
_LEAST_RECORD = 256  # bytes: no more records than that are expected in a file
_LINES_A_PART = 4096
_BEGINNING = re.compile(rb'\{"id":"[^"\\]*+","custom_id":("[^"\\]*+(?:\\.[^"\\]*+)*+")')  # of a record that may be torn
_PLACE_BITS = 42  # of a slot: a file of up to 4 TB; the others count
_PLACE, _ONCE, _MOST_EQUAL = (1 << _PLACE_BITS) - 1, 1 << _PLACE_BITS, (1 << (64 - _PLACE_BITS)) - 1


class RecordFile:
    """A result file, or a directory of them, opened to be read. `damaged`: how many of its lines are no records, and
    `damaged_ids`: by the offset of such a line, the id of its request, where its beginning still tells; known once it
    was read.

    Raises `OSError` if it cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged = 0
        self.damaged_ids: dict[int, str] = {}
        self._file = open_results(path)

    def __enter__(self) -> RecordFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    @property
    def size_bytes(self) -> int:
        """The size of the file now."""
        return size_of(self._file)

    def places(self) -> Iterator[tuple[ResultHead, int]]:
        """Every record without its payload, and its offset, in the order of the file.

        Raises `UsageError` if the file has lines and none is a record, `ResultFileError` for another version.
        """
        self._file.seek(0)
        return self._without_damage(read_places(self._file, self.path))

    def results(self) -> Iterator[Result]:
        """Every record, in the order of the file. Raises as `places` does."""
        return (result for result, _ in self.placed_results())

    def placed_results(self) -> Iterator[tuple[Result, int]]:
        """Every record and its offset, in the order of the file. Raises as `places` does."""
        return (pair for results, offsets in self.batches() for pair in zip(results, offsets, strict=True))

    def batches(self) -> Iterator[tuple[Sequence[Result], Sequence[int]]]:
        """The same, many at a time."""
        self._file.seek(0)
        self.damaged, is_any, start = 0, False, 0
        self.damaged_ids.clear()
        while lines := self._file.readlines(_BATCH_BYTES):
            offsets = list(accumulate(map(len, lines), initial=start))
            start = offsets.pop()
            try:
                results = read_results(lines)
            except ValueError:
                results, offsets = self._one_by_one(lines, offsets)
            is_any = is_any or bool(results)
            yield results, offsets
        if self.damaged and not is_any:
            raise no_results(self.path)

    def _one_by_one(self, lines: Sequence[bytes], offsets: Sequence[int]) -> tuple[list[Result], list[int]]:
        """The lines that are records; the others are counted."""
        read = list(map(self._read, lines))
        for line, result, offset in zip(lines, read, offsets, strict=True):
            if result is None:
                self._note_damage(line, offset)
        found = [(result, offset) for result, offset in zip(read, offsets, strict=True) if result is not None]
        return [result for result, _ in found], [offset for _, offset in found]

    def _without_damage(self, lines: Iterable[tuple[ResultHead | None, int]]) -> Iterator[tuple[ResultHead, int]]:
        """The lines that are records; the others are counted."""
        self.damaged, is_any = 0, False
        self.damaged_ids.clear()
        for head, place in lines:
            if head is None:
                self._note_damage(self.line_at(place), place)
            else:
                is_any = True
                yield head, place
        if self.damaged and not is_any:
            raise no_results(self.path)

    def _note_damage(self, line: bytes, offset: int) -> None:
        self.damaged += 1
        if begun := _BEGINNING.match(line):
            with suppress(ValueError):
                self.damaged_ids[offset] = str(orjson.loads(begun[1]))

    def _read(self, raw: bytes) -> Result | None:
        try:
            return read_result(raw.removesuffix(b"\n"))
        except UnknownVersionError as error:
            raise other_version(self.path, error) from None
        except ValueError:
            return None

    def at(self, offset: int) -> Result:
        """The record at an offset. Raises `StopError` if the file was changed since, or cannot be read."""
        try:
            return read_result(self.line_at(offset))
        except ValueError:
            raise StopError(f"{self.path} was changed while it was read; read it again") from None
        except OSError as error:
            raise StopError(f"cannot read {self.path}: {error.strerror}") from error

    def line_at(self, offset: int) -> bytes:
        """The line at an offset as it is, without its newline. Raises `OSError`."""
        size = _FIRST_READ
        line = read_at(self._file, size, offset)
        while (end := line.find(b"\n")) < 0 and len(line) == size:
            size *= 8
            line = read_at(self._file, size, offset)
        return line[:end] if end >= 0 else line


class RecordsById:
    """Finds the record of an id, and counts how often an id was met: both in one table, 16 bytes a slot.

    Raises as `RecordFile.places` does.
    """

    def __init__(self, file: RecordFile) -> None:
        self._file = file
        self._table = HashTable()
        self._records = 0
        for head, offset in file.places():
            if not self._records:
                self._table = HashTable.of_size(min(head.run.total_lines, file.size_bytes // _LEAST_RECORD))
            key = hash64(head.custom_id)
            if self._table.get(key) is None:
                self._table.set(key, offset + 1)
                self._records += 1

    def __len__(self) -> int:
        return self._records

    @property
    def damaged_ids(self) -> Iterable[str]:
        """The ids of damaged lines, as far as they can be read."""
        return self._file.damaged_ids.values()

    def offset(self, custom_id: str) -> int | None:
        """Where the record of that id begins; None if there is none."""
        place = (self._table.get(hash64(custom_id)) or 0) & _PLACE
        return place - 1 if place else None

    def find(self, custom_id: str) -> Result | None:
        """The record of that id; None if there is none."""
        offset = self.offset(custom_id)
        if offset is None:
            return None
        result = self._file.at(offset)
        return result if result.custom_id == custom_id else None

    def occurrence(self, custom_id: str) -> int:
        """How often this id was met so far, with this time. Raises `UsageError` after some four million times."""
        key = hash64(custom_id)
        value = (self._table.get(key) or 0) + _ONCE
        if value >> 64:
            raise UsageError(f"more than {_MOST_EQUAL:,} rows have the id {custom_id[:60]!r}; take some out")
        self._table.set(key, value)
        return value >> _PLACE_BITS


def in_line_order(file: RecordFile) -> Iterator[int]:
    """The offsets of all records, by the number of their lines, and by their place in the file for equal numbers."""
    parts: dict[int, array[int]] = {}
    for head, offset in file.places():
        part = parts.setdefault(head.run.line // _LINES_A_PART, array("Q"))
        part.append(head.run.line)
        part.append(offset)
    for number in sorted(parts):
        part = parts.pop(number)
        for _, offset in sorted(zip(part[::2], part[1::2], strict=True)):
            yield offset
