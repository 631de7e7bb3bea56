"""Blocks: some rows of a file as the index keeps them, read by this process or by another one.

1. A block has the columns of its rows as bytes, and their words. It takes four times as long to make as to be added.
2. Blocks are made one after the other: each tells the values that are new in it, and which codes they have.
3. Nothing but the file, the requests and the prices is looked into, and places in files are read without moving in
   them: another process may make blocks while this one shows rows.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator, Sequence
from itertools import accumulate, count
from operator import add
from pathlib import Path
from typing import IO, Any

import msgspec

from batchrun.records.answer import Result, read_result, read_results
from batchrun.records.result import UnknownVersionError
from batchrun.results.scan import lines_at, other_version
from batchrun.viewer.columns import OTHERS_CODE, Codes, Columns, numbers_of
from batchrun.viewer.facts import Facts, FactsReader
from batchrun.viewer.index_file import as_json, in_pairs

FIRST_BYTES, MOST_BYTES = 1 << 19, 1 << 21
"""Of the file, in the first block and in later ones."""
TAIL_BYTES = 4096
SAMPLE_EVERY = 64  # rows
_LONGEST_SAMPLE = 10_000  # characters
_PIECE_BYTES = 1 << 16  # what stays in a core's cache with all that is made of it


class Block(msgspec.Struct, frozen=True):
    """Some rows, ready to be added. `codes`, `numbers`: one column after the other; `offsets`: where records begin.

    `labels`: the values that are new, by facet and code. `texts`: the words of each row, a list as JSON. `sampled`:
    some of them. `damaged`: lines that are no records; `read_to`: the offset behind the block; `tail`: names its last
    line; `torn_bytes`: those of half a line behind it, at the end of the file.
    """

    rows: int
    codes: bytes
    numbers: bytes
    offsets: bytes
    labels: list[tuple[str, int, str]]
    texts: str
    sampled: list[str]
    damaged: int
    read_to: int
    tail: str
    torn_bytes: int


class BlockReader:
    """Makes blocks of a file, whose values have the codes that some columns know."""

    def __init__(self, results: Path, reader: FactsReader, columns: Columns) -> None:
        self._results, self._reader = results, reader
        self._codes = {facet.name: Codes(facet.values[1:]) for facet in columns.coded}
        self._numbers = [numbers.values.typecode for numbers in columns.numbers.values()]
        self._size = FIRST_BYTES

    def learn(self, block: Block) -> None:
        """Take over the codes of a block that another process made."""
        for name, _, value in block.labels:
            self._codes[name][value]

    def blocks(self, file: IO[bytes], start: int) -> Iterator[Block]:
        """All blocks from an offset to the end that the file has now."""
        while (block := self.read(file, start)).read_to > start:
            yield block
            start = block.read_to

    def read(self, file: IO[bytes], start: int) -> Block:
        """The block that begins at an offset; an empty one at the end. Raises `ResultFileError`, `OSError`."""
        end, torn, last, rows = start + self._size, b"", b"", _Rows(self._codes, self._numbers)
        self._size = min(MOST_BYTES, 2 * self._size)
        while start < end:
            lines, torn = lines_at(file, _PIECE_BYTES, start)
            if not lines:
                break
            results, last = self._results_of(lines), lines[-1]
            begins = list(map(add, accumulate(map(len, lines), initial=0), count(start)))  # each has a newline, too
            there = [(result, begin) for result, begin in zip(results, begins, strict=False) if result is not None]
            rows.add([self._reader.read(result) for result, _ in there], [begin for _, begin in there])
            rows.damaged += len(lines) - len(there)
            start = begins[-1]
        return rows.block(start, digest((last + b"\n")[-TAIL_BYTES:]), len(torn))

    def _results_of(self, lines: Sequence[bytes]) -> Sequence[Result | None]:
        try:
            return read_results(lines)
        except ValueError:
            return list(map(self._result_of, lines))

    def _result_of(self, raw: bytes) -> Result | None:
        try:
            return read_result(raw)
        except UnknownVersionError as error:
            raise other_version(self._results, error) from None
        except ValueError:
            return None

    def of_second(self, rows: Sequence[tuple[Result, int]], read_to: int) -> Block:
        """A block of records of the second file, each with its offset; the file itself was read to `read_to`."""
        second = self._reader.second
        assert second is not None, "its records are there"
        made = _Rows(self._codes, self._numbers)
        made.add([self._reader.read_second(result, second) for result, _ in rows], [offset for _, offset in rows])
        return made.block(read_to, "", 0)


class _Rows:
    """Rows on their way into a block, some at a time: what was made of those before is not kept."""

    def __init__(self, codes: dict[str, Codes], numbers: Sequence[str]) -> None:
        self._codes = codes
        self._known = [len(one.in_order) for one in codes.values()]
        self._coded = [bytearray() for _ in codes]
        self._numbers: list[array[Any]] = [array(code) for code in numbers]
        self._offsets = array("Q")
        self._texts, self._sampled = list[str](), list[str]()
        self.damaged = 0

    def add(self, facts: Sequence[Facts], offsets: Sequence[int]) -> None:
        """Add some rows, whose records begin at those offsets."""
        if not facts:
            return
        columns = [*zip(*[one.facets for one in facts], strict=True), [one.shared or None for one in facts]]
        for coded, codes, column in zip(self._coded, self._codes.values(), columns, strict=True):
            coded += codes.of(column)
        for numbers, values in zip(self._numbers, zip(*[one.numbers for one in facts], strict=True), strict=True):
            numbers += numbers_of(numbers.typecode, values)
        texts = [
            in_pairs(one.text if code != OTHERS_CODE else f"{one.text}\n{one.shared}")
            for one, code in zip(facts, self._coded[-1][-len(facts) :], strict=True)
        ]
        self._texts.append(as_json(texts)[1:-1])
        self._sampled += [text[:_LONGEST_SAMPLE] for text in texts[-len(self._offsets) % SAMPLE_EVERY :: SAMPLE_EVERY]]
        self._offsets.extend(offsets)

    def block(self, read_to: int, tail: str, torn_bytes: int) -> Block:
        """All of them as a block."""
        labels = [
            (name, code, codes.in_order[code])
            for known, (name, codes) in zip(self._known, self._codes.items(), strict=True)
            for code in range(known, len(codes.in_order))
        ]
        return Block(
            rows=len(self._offsets),
            codes=b"".join(self._coded),
            numbers=b"".join(numbers.tobytes() for numbers in self._numbers),
            offsets=self._offsets.tobytes(),
            labels=labels,
            texts=f"[{','.join(self._texts)}]",
            sampled=self._sampled,
            damaged=self.damaged,
            read_to=read_to,
            tail=tail,
            torn_bytes=torn_bytes,
        )


def digest(piece: bytes) -> str:
    """Names some bytes."""
    return hashlib.blake2b(piece, digest_size=16).hexdigest()
