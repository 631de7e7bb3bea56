"""The file of an index: one SQLite database with blocks of columns, a table of words (FTS5), orders and sets of rows.

1. The table of words has no texts: it tells the rows of a word, and that is all.
2. What is in most rows of a word is not asked of it: such words have their set of rows (`common`). So have the orders
   by a number (`ordering`). Both are made while nothing else is to be done, and say for how many rows they are.
3. Only one program at a time writes it. Where it cannot be written, it is made in a temporary folder.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
import tempfile
import unicodedata
from array import array
from collections.abc import Iterator, Mapping, Sequence
from operator import add
from pathlib import Path

import orjson

from batchrun.viewer.columns import SHARED, set_of

_WORDS = "fts5(text, content='', detail=none, columnsize=0, tokenize='unicode61 remove_diacritics 2')"
_TABLES = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT);
CREATE TABLE block (first_row INTEGER PRIMARY KEY, rows INTEGER, codes BLOB, numbers BLOB, offsets BLOB);
CREATE TABLE label (facet TEXT, code INTEGER, value TEXT, PRIMARY KEY (facet, code));
CREATE TABLE ordering (name TEXT PRIMARY KEY, rows INTEGER, places BLOB);
CREATE TABLE common (query TEXT PRIMARY KEY, rows INTEGER, members BLOB);
CREATE VIRTUAL TABLE words USING {_WORDS};
CREATE VIRTUAL TABLE shared USING {_WORDS};
"""
_SETTINGS = (("hashsize", 1 << 24), ("automerge", 0), ("crisismerge", 1000))
"""The words of a block are kept in memory until all are there, and its list of them is merged with others later."""
_MOST_AT_ONCE = 100_000  # rows whose numbers are given as one list
_MERGED_PAGES = 200  # in one step

_CJK = "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
_CJK += "\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
"""The signs of Chinese and Japanese, which are written without spaces between words."""
_RUN, _PIECE = re.compile(f"[{_CJK}]+"), re.compile(f"[{_CJK}]+|[^{_CJK}]+")

Block = tuple[int, int, bytes, bytes, bytes]


class IndexFile:
    """The file at `place`; None for a temporary one."""

    def __init__(self, place: Path | None) -> None:
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._database = self._open(place)

    def close(self) -> None:
        """Close the file; a temporary one goes."""
        self._database.close()
        if self._temporary is not None:
            self._temporary.cleanup()

    def _open(self, place: Path | None) -> sqlite3.Connection:
        """The file; a new one where it is damaged, a temporary one where it cannot be written."""
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

    # --------------------------------------------------------------------------------------- what it has

    def meta(self) -> dict[str, str]:
        """What it says of itself. Raises `sqlite3.DatabaseError` where it is no index."""
        return dict(self._database.execute("SELECT name, value FROM meta"))

    def labels(self) -> Iterator[tuple[str, int, str]]:
        """Facets, codes and their values, by code. Raises as `meta` does."""
        return iter(self._database.execute("SELECT facet, code, value FROM label ORDER BY code"))

    def blocks(self) -> Iterator[Block]:
        """The blocks of columns, in their order. Raises as `meta` does."""
        return iter(self._database.execute("SELECT * FROM block ORDER BY first_row"))

    def begin_anew(self, meta: Mapping[str, str]) -> None:
        """Take out all, and write what it says of itself."""
        database = self._database
        with contextlib.closing(database.cursor()) as cursor:
            if database.in_transaction:
                cursor.execute("ROLLBACK")
            kinds = "'meta', 'block', 'label', 'ordering', 'common', 'words', 'shared'"
            query = f"SELECT name FROM sqlite_master WHERE type = 'table' AND name IN ({kinds})"
            for (name,) in cursor.execute(query).fetchall():
                cursor.execute(f"DROP TABLE {name}")
            cursor.executescript(_TABLES)
        for setting in _SETTINGS:
            database.execute("INSERT INTO words(words, rank) VALUES (?, ?)", setting)
        with database:
            database.execute("BEGIN")
            self._set_meta(meta)

    # ------------------------------------------------------------------------------------------- adding

    def add_words(self, first: int, texts: str) -> None:
        """Begin a block: the words of rows (`as_json`), the first of which has that number. No other thread waits."""
        self._database.execute("BEGIN")
        insert = "INSERT INTO words(rowid, text) SELECT ?1 + key, value FROM json_each(?2)"
        self._database.execute(insert, (first, texts))

    def add_block(
        self,
        block: Block,
        labels: Sequence[tuple[str, int, str]],
        meta: dict[str, str],
    ) -> None:
        """End the block: its columns, and the new values of facets; those of `SHARED` are searched as well."""
        database = self._database
        database.executemany("INSERT INTO label VALUES (?, ?, ?)", labels)
        shared = [(code, _plain(in_pairs(text))) for name, code, text in labels if name == SHARED]
        database.executemany("INSERT INTO shared(rowid, text) VALUES (?, ?)", shared)
        database.execute("INSERT OR REPLACE INTO block VALUES (?, ?, ?, ?, ?)", block)
        self._set_meta(meta)
        database.execute("COMMIT")

    def _set_meta(self, meta: Mapping[str, str]) -> None:
        self._database.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", meta.items())

    # ------------------------------------------------------------------------------------------ searching

    def having(self, query: str, count: int) -> int:
        """The set of those of the first `count` rows that have a word of their own."""
        found = self._database.execute("SELECT rows, members FROM common WHERE query = ?", (query,)).fetchone()
        start, rows = (found[0], int.from_bytes(found[1], "little")) if found is not None else (0, 0)
        return int(rows & ((1 << count) - 1)) | self.words_between(query, start, count)

    def begin_in_common(self, query: str, count: int) -> int:
        """The set of those of the first `count` rows that have a frequent word with the beginning that is asked for."""
        found, pattern = 0, query.removesuffix('"*') + "*"  # words are letters and digits alone
        for (members,) in self._database.execute("SELECT members FROM common WHERE query GLOB ?", (pattern,)):
            found |= int.from_bytes(members, "little")
        return found & ((1 << count) - 1)

    def words_between(self, query: str, start: int, end: int) -> int:
        """The set of those of some rows that have a word of their own, asked of the table of words."""
        if start >= end:
            return 0
        where = "FROM words WHERE words MATCH ?1 AND rowid >= ?2 AND rowid < ?3"
        if end - start > _MOST_AT_ONCE:  # takes twice the time, and no memory
            found = self._database.execute(f"SELECT rowid - ?2 {where}", (query, start, end))
            return set_of((row for (row,) in found), end - start) << start
        (listed,) = self._database.execute(
            f"SELECT json_group_array(rowid - ?2) {where}", (query, start, end)
        ).fetchone()
        rows = orjson.loads(listed)
        return set_of(rows, end - start) << start if rows else 0

    def sharing(self, query: str) -> list[int]:
        """The codes of the shared texts that have a word."""
        return [code for (code,) in self._database.execute("SELECT rowid FROM shared WHERE shared MATCH ?", (query,))]

    # ----------------------------------------------------------------------------- what is made in quiet hours

    def known(self, table: str) -> dict[str, int]:
        """For how many rows each order (`ordering`) or each word (`common`) is there."""
        name = {"ordering": "name", "common": "query"}[table]
        return dict(self._database.execute(f"SELECT {name}, rows FROM {table}"))

    def merge(self) -> bool:
        """Merge some of the lists of words, so that fewer are looked into; False where none is left to merge."""
        before = self._database.total_changes
        self._database.execute("INSERT INTO words(words, rank) VALUES ('merge', ?)", (_MERGED_PAGES,))
        return self._database.total_changes - before >= 2  # as FTS5 tells that it did something

    def keep_common(self, query: str, rows: int, having: int) -> None:
        """Keep the set of those of the first rows that have a word."""
        packed = having.to_bytes(rows // 8 + 1, "little")
        self._database.execute("INSERT OR REPLACE INTO common VALUES (?, ?, ?)", (query, rows, packed))

    def order(self, name: str) -> array[int]:
        """The order by a number that is there; empty where there is none."""
        found = self._database.execute("SELECT places FROM ordering WHERE name = ?", (name,)).fetchone()
        order = array("I")
        if found is not None:
            order.frombytes(found[0])
        return order

    def keep_order(self, name: str, order: array[int]) -> None:
        """Keep the order by a number."""
        row = (name, len(order), order.tobytes())
        self._database.execute("INSERT OR REPLACE INTO ordering VALUES (?, ?, ?)", row)


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


def as_json(texts: Sequence[str]) -> str:
    """Texts as `add_words` takes them."""
    try:
        dumped = orjson.dumps(texts)
    except TypeError:  # half of a surrogate pair
        dumped = orjson.dumps([_plain(text) for text in texts])
    if b"\\u0000" in dumped:
        dumped = orjson.dumps([_plain(text) for text in texts])
    return dumped.decode()


def _plain(text: str) -> str:
    """A text that SQLite takes whole."""
    return text.encode(errors="replace").decode().replace("\0", " ")


def queries(words: str) -> list[str]:
    """A query of FTS5 for each word. Words are split as FTS5 splits texts: at all that is no letter and no digit.

    Of Chinese and Japanese there is one for each two signs (`in_pairs`).
    """
    found = []
    for word in unicodedata.normalize("NFC", words).lower().split():
        parts = "".join(letter if letter.isalnum() else " " for letter in word).split()
        pieces = [piece for part in parts for piece in _PIECE.findall(part)]
        for piece in pieces:
            if not _RUN.match(piece):
                found.append(f'"{piece}"')
            elif len(piece) == 1:
                found.append(f'"{piece}"*')  # a pair begins with it, or it is the last one
            else:
                found += [f'"{pair}"' for pair in map(add, piece, piece[1:])]
        if pieces and word.endswith("*") and not _RUN.match(pieces[-1]):
            found[-1] += "*"
    return found


def in_pairs(text: str) -> str:
    """A text with a word for each two Chinese or Japanese signs that stand together, and for the last one.

    No space tells where a word of theirs begins; by its pairs it is found wherever it stands.
    """
    if text.isascii():
        return text
    return _RUN.sub(lambda run: f" {' '.join(map(add, run[0], run[0][1:]))} {run[0][-1]} ", text)
