"""The index of a result file, `RESULTS.index`: columns of all rows, and the words of their prompts and answers.

1. It is made from the file, and made anew where it is not of that file: another inode, another beginning, another text
   before the place where it ends, fewer bytes, other prices, another schema, other requests. What a page shows is read
   from the file.
2. One thread reads on; any other may ask. Rows are there for others once all of their block is. While a block is read,
   the words of the one before are written by another thread; a large file is read by another process (`reading`).
3. Where two files are compared, the index is a temporary one, and the rows of the second alone come last. Once one of
   them has grown they are compared again from the beginning, if that takes little time; else the page says so.
4. What takes long for many rows is made ready while nothing else is to be done (`tidy`).
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from batchrun.records.answer import Result
from batchrun.results.parts import identity_of, is_still, open_results, read_at, size_of
from batchrun.version import __version__
from batchrun.viewer.blocks import TAIL_BYTES, Block, BlockReader, digest
from batchrun.viewer.columns import Columns, everything
from batchrun.viewer.facts import FactsReader
from batchrun.viewer.index_file import IndexFile, queries
from batchrun.viewer.quiet_hours import QuietHours
from batchrun.viewer.reading import ReadingProcess, is_worthwhile

VERSION = 3
OF_SECOND = 1 << 63
"""The bit of an offset that is one of the second file."""
_HEAD_BYTES = 4096
MOST_AGAIN_S, AGAIN_SHARE = 1.0, 0.1
"""Two files are compared again where that takes so many seconds at most, and for such a share of the time."""
_SECOND_ROWS = 1000  # rows of the second file alone, read at a time
_KEPT = 24  # sets of rows that were asked for last


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the index is. `rows`: there to be shown; `damaged`: lines that are no records.

    `was_done`: whether it has been at the end of the file, which may have grown since.
    """

    rows: int
    damaged: int
    read_bytes: int
    total_bytes: int
    was_done: bool = False

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
        self._key = f"{VERSION} {__version__} {digest(prices)} {digest(reader.key)}"
        self.lock = threading.RLock()
        self._file = open_results(results)
        self.file = IndexFile(place)
        self._writer = ThreadPoolExecutor(1, "words")
        self._writing: tuple[Block, Future[None]] | None = None
        self._left: Iterator[tuple[Result, int]] | None = None  # the rows of the second file alone
        self._reads_second = False
        self._was_done = False
        self._took_s: float | None = None  # the time that comparing two files took
        self._read_to = self._parsed_to = self._damaged = self._torn_bytes = 0
        self.other: ReadingProcess | None = None
        self._sets: OrderedDict[tuple[object, ...], int] = OrderedDict()
        self._reset()
        self.quiet_hours = QuietHours(self.file)
        if self._load():
            self._blocks = BlockReader(results, reader, self.columns)
        else:
            self._start_anew()
        self._read_in_other()

    def close(self) -> None:
        """Close all files, those of its reader as well."""
        self._end_other()
        self._writer.shutdown()
        with self.lock:
            self.file.close()
            self._file.close()
        self.reader.close()

    # ------------------------------------------------------------------------------------------- asking

    @property
    def progress(self) -> Progress:
        """How far the index is now."""
        with self.lock:
            total = max(self._read_to, size_of(self._file) - self._torn_bytes)
            total += self._reads_second
            was_done = self._was_done or self._read_to >= total
            return Progress(len(self.columns), self._damaged, self._read_to, total, was_done)

    def matching(self, words: str) -> int:
        """The set of rows in whose prompt or answer all of some words occur; `word*` is any word that begins so."""
        count = len(self.columns)
        chosen = (1 << count) - 1
        for query in queries(words):
            chosen &= self._kept(("word", query), count, lambda query=query: self._having(query, count))  # type: ignore[misc]
        return chosen

    def _having(self, query: str, count: int) -> int:
        if query.endswith("*") and self.file.begin_in_common(query, count) == everything(count):
            return everything(count)  # the table of words would take seconds for a short beginning
        found = self.file.having(query, count)
        for code in self.file.sharing(query):
            found |= self.columns.shared.rows(code)
        return found & ((1 << count) - 1)

    def between(self, name: str, least: float | None, most: float | None) -> int:
        """The set of rows whose number is in a range."""
        numbers = self.columns.numbers[name]
        return self._kept((name, least, most), len(self.columns), lambda: numbers.between(least, most))

    def order(self, name: str) -> array[int]:
        """All rows by a number."""
        return self.quiet_hours.order(self.columns.numbers[name])

    def _kept(self, key: tuple[object, ...], count: int, find: Callable[[], int]) -> int:
        """A set of rows, from those that were asked for last where it is there for as many rows."""
        key = (*key, count, self.generation)
        with self.lock:
            if (found := self._sets.get(key)) is None:
                found = self._sets[key] = find()
            self._sets.move_to_end(key)
            while len(self._sets) > _KEPT:
                self._sets.popitem(last=False)
            return found

    # ------------------------------------------------------------------------------------------ reading on

    def read_on(self) -> int:
        """Read some more of the file; the number of its bytes that were read or shown, 0 at its end.

        The index is made anew where the file is another one now.
        """
        if self._left is not None:
            return self._read_second(self._left) or self._compare_again()
        with self.lock:
            if not is_still(self._file, self.results, self._parsed_to):
                self._reopen()
        block = self._next_block()
        self._torn_bytes = block.torn_bytes
        if block.read_to == self._parsed_to:
            left = self._show() or self._begin_second()
            self._was_done = self._was_done or not left
            return left
        self._show()
        self._write(block)
        read, self._parsed_to = block.read_to - self._parsed_to, block.read_to
        return read

    def _next_block(self) -> Block:
        """The next one of the other process as long as there is one; an empty one at the end of the file."""
        if self.other is not None:
            if (block := self.other.next()) is not None:
                self._blocks.learn(block)
                return block
            self._end_other()
        return self._blocks.read(self._file, self._parsed_to)

    def _read_in_other(self) -> None:
        """Have another process read the file, where there is much of it."""
        left_bytes = size_of(self._file) - self._parsed_to
        if self.reader.second is None and is_worthwhile(left_bytes):
            with contextlib.suppress(OSError):
                self.other = ReadingProcess(lambda: self._blocks.blocks(self._file, self._parsed_to))

    def _end_other(self) -> None:
        if self.other is not None:
            self.other.close()
            self.other = None

    def _begin_second(self) -> int:
        if self.reader.second is None:
            return 0
        self._left = self.reader.second.left()
        return self._read_second(self._left)

    def _read_second(self, left: Iterator[tuple[Result, int]]) -> int:
        """Read some rows of the second file alone; as many bytes as they have, 0 where none is left."""
        rows = [(result, offset | OF_SECOND) for result, offset in islice(left, _SECOND_ROWS)]
        if rows:
            self._write(self._blocks.of_second(rows, self._parsed_to))
            self._show()
        self._reads_second = bool(rows)
        return sum(len(result.record) for result, _ in rows)

    def _compare_again(self) -> int:
        """Compare files that have grown from the beginning; how many bytes they have, 0 where that is not to be done.

        Nobody sees that rows are missing meanwhile.
        """
        now = time.monotonic()
        if self._took_s is None:
            self._took_s = now - self._begun
        is_due = now - self._begun >= self._took_s / AGAIN_SHARE
        if not self._has_grown or self._took_s > MOST_AGAIN_S or not is_due:
            return 0
        with self.lock:
            self._start_anew()
            while self.read_on():
                pass
        return sum(self._sizes)

    @property
    def _has_grown(self) -> bool:
        return self.reader.second is not None and self._sizes != self._sizes_now()

    @property
    def is_outdated(self) -> bool:
        """Whether two files have grown since they were compared, and comparing them again takes too long."""
        return self._took_s is not None and self._took_s > MOST_AGAIN_S and self._has_grown

    def _sizes_now(self) -> list[int]:
        second = self.reader.second
        return [] if second is None else [size_of(self._file), second.file.size_bytes]

    def _write(self, block: Block) -> None:
        """Have the words of a block written by the other thread."""
        self._writing = block, self._writer.submit(self.file.add_words, len(self.columns), block.texts)
        self.quiet_hours.sample(block.sampled)  # meanwhile

    def _show(self) -> int:
        """Add the block whose words are written, so that others see it; the number of its bytes, 0 without one."""
        if self._writing is None:
            return 0
        block, written = self._writing
        written.result()
        self._writing = None
        with self.lock:
            before = self._read_to
            self._append(block)
            return max(1, self._read_to - before)

    def _append(self, block: Block) -> None:
        first = len(self.columns)
        self.columns.learn(block.labels)
        self.columns.append(block.rows, block.codes, block.numbers, block.offsets)
        self._damaged += block.damaged
        self._read_to = block.read_to
        meta = {"read_to": str(self._read_to), "damaged": str(self._damaged), "samples": self.quiet_hours.samples()}
        meta["tail"] = block.tail
        self.file.add_block((first, block.rows, block.codes, block.numbers, block.offsets), block.labels, meta)

    def tidy(self) -> bool:
        """Do a little of what makes later questions quick; False where nothing is left to do."""
        return self.reader.read_ahead() or self.quiet_hours.tidy(self.columns)

    # ------------------------------------------------------------------------------------- is it of the file

    def _identity(self) -> dict[str, str]:
        self._file.seek(0)
        return {
            "key": self._key,
            "inode": identity_of(self._file),
            "head": digest(self._file.readline(_HEAD_BYTES)),
        }

    def _reopen(self) -> None:
        self._file.close()
        self._file = open_results(self.results)
        self._start_anew()

    def _load(self) -> bool:
        """Take over what the index file has; False where that is not of the result file."""
        try:
            meta = self.file.meta()
            if not self._identity().items() <= meta.items() or not self._ends_as(meta):
                return False
            self.columns.learn(self.file.labels())
            if not all(self._load_block(*block) for block in self.file.blocks()):
                return False
            self.quiet_hours.load(meta["samples"])
        except (sqlite3.DatabaseError, KeyError, ValueError):
            return False
        self._read_to = self._parsed_to = int(meta["read_to"])
        self._damaged = int(meta["damaged"])
        return True

    def _load_block(self, first: int, count: int, codes: bytes, numbers: bytes, offsets: bytes) -> bool:
        if first != len(self.columns):
            return False
        self.columns.append(count, codes, numbers, offsets)
        return self.columns.are_even

    def _ends_as(self, meta: dict[str, str]) -> bool:
        """Whether the line before the place where the index ends is the one that was read there."""
        read_to = int(meta["read_to"])
        if not read_to:
            return True
        start = max(0, read_to - TAIL_BYTES)
        piece = read_at(self._file, read_to - start, start)
        begin = piece.rfind(b"\n", 0, len(piece) - 1) + 1
        return piece.endswith(b"\n") and digest(piece[begin:]) == meta["tail"]

    def _start_anew(self) -> None:
        self._end_other()
        if self._writing is not None:
            self._writing[1].exception()  # wait: what it wrote is taken out
            self._writing = None
        self._reset()
        self.generation += 1
        self.file.begin_anew({"read_to": "0", "damaged": "0", "tail": "", "samples": "{}", **self._identity()})
        self.quiet_hours = QuietHours(self.file)

    def _reset(self) -> None:
        self._was_done = False
        self._begun, self._took_s = time.monotonic(), None
        self._sizes = self._sizes_now()  # before they are read
        self.columns = Columns([field.name for field in self.reader.fields])
        self._read_to = self._parsed_to = self._damaged = self._torn_bytes = 0
        self._blocks, self._left = BlockReader(self.results, self.reader, self.columns), None
        if self.reader.second is not None:
            self._reads_second = True
            self.reader.second.forget()


def follow(index: Index, is_stopped: Callable[[], bool], wait: Callable[[], object]) -> None:
    """Read a file and whatever is added to it, until it is stopped; `wait` is called where nothing is to be done."""
    while not is_stopped():
        if not index.read_on() and not index.tidy():
            wait()
