"""The index of a result file, `RESULTS.index`: columns of all rows, and the words of their prompts and answers.

1. It is made from the file, and made anew where it is not of that file: another inode, another beginning, another text
   before the place where it ends, fewer bytes, other prices or another schema. What a page shows is read from the file.
2. It is one SQLite file: a block of columns for some thousand rows each, and a table of words (FTS5) without the texts.
3. One thread reads on; any other may ask. Rows are there for others once all of their block is.
4. Only one program at a time writes it. Where it cannot be written, it is made in a temporary file; so it is where
   two files are compared. Those are read as they were at that time, and the rows of the second alone come last.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import tempfile
import threading
import unicodedata
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchrun.records.answer import Result, read_result
from batchrun.records.result import UnknownVersionError
from batchrun.results.scan import BUFFER_BYTES, other_version
from batchrun.version import __version__
from batchrun.viewer.columns import Columns, set_of
from batchrun.viewer.facts import Facts, FactsReader

VERSION = 2
OF_SECOND = 1 << 63
"""The bit of an offset that is one of the second file."""
_BLOCK_BYTES = 1 << 21
_HEAD_BYTES = _TAIL_BYTES = 4096
_SECOND_ROWS = 1000  # rows of the second file alone, read at a time
_TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE block (first_row INTEGER PRIMARY KEY, rows INTEGER, facets BLOB, numbers BLOB, offsets BLOB);
CREATE TABLE label (facet TEXT, code INTEGER, value TEXT, PRIMARY KEY (facet, code));
CREATE VIRTUAL TABLE words USING fts5(text, content='', detail=none, tokenize='unicode61 remove_diacritics 2');
"""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the index is. `rows`: there to be shown; `damaged`: lines that are no records."""

    rows: int
    damaged: int
    read_bytes: int
    total_bytes: int

    @property
    def is_done(self) -> bool:
        """Whether all of the file has been read."""
        return self.read_bytes >= self.total_bytes


class Index:
    """The index of one result file. `prices`: the text of the user's price file, on which costs depend.

    `place`: where it is kept; None for a temporary file. Raises `OSError` if the file cannot be read.
    """

    def __init__(self, results: Path, place: Path | None, reader: FactsReader, prices: bytes) -> None:
        self.results, self.reader = results, reader
        self.generation = 0  # grows with each time that the index is made anew
        self._key = f"{VERSION} {__version__} {_digest(prices)} {_digest(reader.schema)}"
        self._key += "" if reader.judge is None else f" {_digest(reader.judge.key.encode())}"
        self.lock = threading.RLock()
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._file = results.open("rb", buffering=BUFFER_BYTES)
        self._database = self._open(place)
        self.columns = Columns([])
        self._read_to = self._damaged = self._torn_bytes = 0
        self._left: Iterator[tuple[Result, int]] | None = None  # the rows of the second file alone
        self._reads_second = False
        self._reset_columns()
        if not self._load():
            self._start_anew()

    def close(self) -> None:
        """Close all files."""
        with self.lock:
            self._database.close()
            self._file.close()
            if self._temporary is not None:
                self._temporary.cleanup()

    # ------------------------------------------------------------------------------------------- asking

    @property
    def progress(self) -> Progress:
        """How far the index is now."""
        with self.lock:
            total = max(self._read_to, os.fstat(self._file.fileno()).st_size - self._torn_bytes)
            return Progress(len(self.columns), self._damaged, self._read_to, total + self._reads_second)

    def matching(self, words: str) -> int:
        """The set of rows in whose texts all of some words occur; `word*` is any word that begins so."""
        with self.lock:
            chosen = (1 << len(self.columns)) - 1
            for query in _queries(words):
                found = self._database.execute("SELECT rowid FROM words WHERE words MATCH ?", (query,))
                chosen &= set_of((row for (row,) in found), len(self.columns))
            return chosen

    # ------------------------------------------------------------------------------------------ reading on

    def read_on(self) -> int:
        """Read some more of the file; the number of its bytes that were read, 0 at its end.

        The index is made anew where the file is another one now.
        """
        if self._left is not None:
            return self._read_second(self._left)
        with self.lock:
            if not self._is_of_file():
                self._reopen()
            self._file.seek(self._read_to)
            lines = self._file.readlines(_BLOCK_BYTES)
        self._torn_bytes = 0
        if lines and not lines[-1].endswith(b"\n"):
            self._torn_bytes = len(lines.pop())
        if not lines:
            return self._begin_second()
        facts, offsets, damaged, size = list[Facts](), array("Q"), 0, 0
        for raw in lines:
            try:
                facts.append(self.reader.read(read_result(raw[:-1])))
                offsets.append(self._read_to + size)
            except UnknownVersionError as error:
                raise other_version(self.results, error) from None
            except ValueError:
                damaged += 1
            size += len(raw)
        with self.lock:
            self._append(facts, offsets, damaged, self._read_to + size, lines[-1])
        return size

    def _begin_second(self) -> int:
        if self.reader.second is None:
            return 0
        self._left = self.reader.second.left()
        return self._read_second(self._left)

    def _read_second(self, left: Iterator[tuple[Result, int]]) -> int:
        """Read some rows of the second file alone; as many bytes as they have, 0 where none is left."""
        rows = list(islice(left, _SECOND_ROWS))
        with self.lock:
            self._reads_second = bool(rows)
            if rows and self.reader.second is not None:
                facts = [self.reader.read_second(result, self.reader.second) for result, _ in rows]
                offsets = array("Q", [offset | OF_SECOND for _, offset in rows])
                self._append(facts, offsets, 0, self._read_to, b"")
        return sum(len(result.record) for result, _ in rows)

    def _append(self, facts: Sequence[Facts], offsets: array[int], damaged: int, read_to: int, last: bytes) -> None:
        columns, first, count = self.columns, len(self.columns), len(facts)
        known = {name: len(facet.values) for name, facet in columns.facets.items()}
        codes = bytearray()
        for number, facet in enumerate(columns.facets.values()):
            facet.codes += bytes([facet.code(one.facets[number]) for one in facts])
            codes += facet.codes[first:]
        numbers = array("d")
        for number, column in enumerate(columns.numbers.values()):
            column.values.extend([one.numbers[number] for one in facts])
            numbers += column.values[first:]
        columns.offsets.extend(offsets)
        self._damaged += damaged
        self._read_to = read_to
        database = self._database
        with database:
            database.execute("BEGIN")
            database.executemany(
                "INSERT INTO words(rowid, text) VALUES (?, ?)",
                ((row, one.text.encode(errors="replace").decode()) for row, one in enumerate(facts, first)),
            )
            for name, facet in columns.facets.items():
                news = [(name, code, facet.values[code]) for code in range(known[name], len(facet.values))]
                database.executemany("INSERT INTO label VALUES (?, ?, ?)", news)
            blobs = (bytes(codes), numbers.tobytes(), offsets.tobytes())
            database.execute("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)", (first, count, *blobs))
            self._set_meta(read_to=str(read_to), damaged=str(self._damaged), tail=_digest(last[-_TAIL_BYTES:]))

    # ------------------------------------------------------------------------------------- is it of the file

    def _open(self, place: Path | None) -> sqlite3.Connection:
        """The index file; a new one where it is damaged, a temporary one where it cannot be written."""
        for one in [] if place is None else [place, place]:
            try:
                return _connect(one)
            except sqlite3.OperationalError:
                break
            except sqlite3.DatabaseError:  # it is no database
                with contextlib.suppress(OSError):
                    one.unlink()
        self._temporary = tempfile.TemporaryDirectory(prefix="batchrun-view-")
        return _connect(Path(self._temporary.name) / "index")

    def _identity(self) -> dict[str, str]:
        status = os.fstat(self._file.fileno())
        self._file.seek(0)
        return {
            "key": self._key,
            "inode": f"{status.st_dev} {status.st_ino}",
            "head": _digest(self._file.readline(_HEAD_BYTES)),
        }

    def _is_of_file(self) -> bool:
        """Whether the open file is still the one of that name, with all that was read of it."""
        try:
            status = self.results.stat()
        except OSError:
            return True  # it was removed: what is open is shown
        opened = os.fstat(self._file.fileno())
        return os.path.samestat(status, opened) and opened.st_size >= self._read_to

    def _reopen(self) -> None:
        self._file.close()
        self._file = self.results.open("rb", buffering=BUFFER_BYTES)
        self._start_anew()

    def _load(self) -> bool:
        """Take over what the index file has; False where that is not of the result file."""
        try:
            meta = dict(self._database.execute("SELECT name, value FROM meta"))
            if not self._identity().items() <= meta.items() or not self._ends_as(meta):
                return False
            for name, code, value in self._database.execute("SELECT facet, code, value FROM label ORDER BY code"):
                if self.columns.facets[name].code(value) != code:
                    return False
            blocks = self._database.execute("SELECT * FROM block ORDER BY first_row")
            if not all(self._load_block(*block) for block in blocks):
                return False
        except (sqlite3.DatabaseError, KeyError, ValueError):
            return False
        self._read_to, self._damaged = int(meta["read_to"]), int(meta["damaged"])
        return True

    def _load_block(self, first: int, count: int, facets: bytes, numbers: bytes, offsets: bytes) -> bool:
        columns = self.columns
        if first != len(columns):
            return False
        for number, facet in enumerate(columns.facets.values()):
            facet.codes += facets[number * count : (number + 1) * count]
        values = memoryview(numbers)
        for number, column in enumerate(columns.numbers.values()):
            column.values.frombytes(values[number * count * 8 : (number + 1) * count * 8])
        columns.offsets.frombytes(offsets)
        return len(columns) == first + count and all(len(one.codes) == len(columns) for one in columns.facets.values())

    def _ends_as(self, meta: dict[str, str]) -> bool:
        """Whether the line before the place where the index ends is the one that was read there."""
        read_to = int(meta["read_to"])
        if not read_to:
            return True
        start = max(0, read_to - _TAIL_BYTES)
        piece = os.pread(self._file.fileno(), read_to - start, start)
        begin = piece.rfind(b"\n", 0, len(piece) - 1) + 1
        return piece.endswith(b"\n") and _digest(piece[begin:]) == meta["tail"]

    def _start_anew(self) -> None:
        self._reset_columns()
        self.generation += 1
        database = self._database
        with contextlib.closing(database.cursor()) as cursor:
            names = [name for (name,) in cursor.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in ("words", "label", "block", "meta"):
                if name in names:
                    cursor.execute(f"DROP TABLE {name}")
            cursor.executescript(_TABLES)
        with database:
            database.execute("BEGIN")
            self._set_meta(read_to="0", damaged="0", tail="", **self._identity())

    def _reset_columns(self) -> None:
        self.columns = Columns([field.name for field in self.reader.fields])
        self._read_to = self._damaged = self._torn_bytes = 0
        self._left = None
        if self.reader.second is not None:
            self._reads_second = True
            self.reader.second.forget()

    def _set_meta(self, **values: str) -> None:
        self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())


def _connect(place: Path) -> sqlite3.Connection:
    database = sqlite3.connect(place, isolation_level=None, check_same_thread=False, timeout=0)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = OFF")  # it is made again where it is torn
        database.execute("BEGIN IMMEDIATE")
        database.execute("COMMIT")
    except sqlite3.DatabaseError:
        database.close()
        raise
    return database


def _digest(piece: bytes) -> str:
    return hashlib.blake2b(piece, digest_size=16).hexdigest()


def _queries(words: str) -> list[str]:
    """A query of FTS5 for each word. Words are split as FTS5 splits texts: at all that is no letter and no digit."""
    queries = []
    for word in unicodedata.normalize("NFC", words).split():
        parts = "".join(letter if letter.isalnum() else " " for letter in word).split()
        queries += [f'"{part}"' for part in parts]
        if parts and word.endswith("*"):
            queries[-1] += "*"
    return queries


def follow(index: Index, is_stopped: Callable[[], bool], wait: Callable[[], object]) -> None:
    """Read a file and whatever is added to it, until it is stopped; `wait` is called where nothing is new."""
    while not is_stopped():
        if not index.read_on():
            wait()
