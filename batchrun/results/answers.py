"""The answers of other result files, by the hash of the body that they answer: any result file is a cache.

The files are read once, in their order; of each answer 20 bytes are kept. An answer is read again where it is used.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Callable, Sequence
from itertools import accumulate, compress
from pathlib import Path
from typing import IO

from batchrun.errors import UsageError
from batchrun.records.index import hash64
from batchrun.records.numbers_by_hash import NumbersByHash
from batchrun.records.request import RESPONSES
from batchrun.records.result import ResultHead, Source
from batchrun.results.parts import files_of
from batchrun.results.scan import BATCH_BYTES, BUFFER_BYTES, heads_of, no_results, record_at

_OFFSET_BITS = 48
_OFFSET = (1 << _OFFSET_BITS) - 1
_WINDOW_BYTES = 1 << 18


class Answers:
    """Answers to be taken, each once: the k-th request with a body gets the k-th answer to it.

    `gateway`: the host whose answers are taken; None: those of any. `is_left`: whether the answers to a body, by its
    hash and path, are left to others; those of a batch are taken by id alone then. Close it last.
    """

    def __init__(self, gateway: str | None, is_left: Callable[[str, str], bool] | None = None) -> None:
        self._gateway = gateway
        self._is_left = is_left
        self._files: list[tuple[IO[bytes], str]] = []
        self._of_batches = set[str]()
        self._by_id = NumbersByHash()
        self._index = NumbersByHash()
        self._paths = set[str]()
        self._window, self._window_at, self._read_at = b"", 0, 0

    def open(self, path: Path, name: str | None = None) -> None:
        """Open a result file, which records call `name`, or all of a directory. Raises `UsageError` if it cannot."""
        for part in files_of(path):
            try:
                self._files.append((part.open("rb", buffering=BUFFER_BYTES), name or str(part)))
            except OSError as error:
                raise UsageError(f"cannot read {part}: {error.strerror}; --reuse takes result files") from error
            self._paths.add(os.path.realpath(part))

    def add_batch(self, records: IO[bytes], name: str) -> None:
        """Add the records of a batch, which are called `name`: they are taken whoever gave them, first of all by id."""
        records.seek(0)
        self._files.append((records, name))
        self._of_batches.add(name)

    @property
    def has_ids(self) -> bool:
        """Whether answers are taken by id first."""
        return len(self._of_batches) > 0

    def close(self) -> None:
        """Close all files."""
        for file, _ in self._files:
            file.close()

    def read(self, is_taken: Callable[[str, int], bool] | None = None) -> None:
        """Read all files, except for the answers that are taken, by the name of their file and their line.

        Raises `UsageError` for a file without a record, `ResultFileError` for one with records of another version.
        """
        for number, (file, name) in enumerate(self._files):
            path, offset, is_any, is_damaged = Path(name), number << _OFFSET_BITS, False, False
            while lines := file.readlines(BATCH_BYTES):
                heads, places = heads_of(lines, path), list(accumulate(map(len, lines), initial=offset))
                offset = places.pop()
                found = [head for head in heads if head is not None]
                is_any, is_damaged = is_any or len(found) > 0, is_damaged or len(found) < len(heads)
                if is_taken is not None or len(found) < len(heads) or not self._are_all_answers(found):
                    is_answer = [head is not None and self._is_answer(head, name, is_taken) for head in heads]
                    found = [head for head in compress(heads, is_answer) if head is not None]
                    places = list(compress(places, is_answer))
                self._add(found, places, by_id=name in self._of_batches)
            if is_damaged and not is_any:
                raise no_results(path)
        self._index.index()
        self._by_id.index()

    def _add(self, heads: Sequence[ResultHead], places: list[int], *, by_id: bool) -> None:
        """Note where answers are."""
        for head, place in zip(heads, places, strict=True) if by_id else ():
            self._by_id.add(*_id_key(head.custom_id, head.run.body_hash, head.run.path), place)
        runs = [head.run for head in heads]
        if (is_left := self._is_left) is not None:
            ours = [not is_left(run.body_hash, run.path) for run in runs]
            runs, places = list(compress(runs, ours)), list(compress(places, ours))
        paths = [run.path for run in runs]
        self._index.add_all(*_keys([run.body_hash for run in runs], paths), places)

    def _are_all_answers(self, heads: Sequence[ResultHead]) -> bool:
        """Whether all may be used, as nearly always; False where some must be looked at one by one."""
        runs, count = [head.run for head in heads], len(heads)
        return (
            [run.outcome for run in runs].count("succeeded") == count
            and [run.source for run in runs].count(None) == count
            and (self._gateway is None or [run.gateway for run in runs].count(self._gateway) == count)
        )

    def _is_answer(self, head: ResultHead, name: str, is_taken: Callable[[str, int], bool] | None) -> bool:
        """Whether a record is an answer of its own that may be used: no copy, nor one of a file that is read anyway."""
        run = head.run
        is_own = self._gateway in (None, run.gateway) or name in self._of_batches
        if run.outcome != "succeeded" or not is_own:
            return False
        source = run.source
        if source is not None and (source.kind == "copied" or os.path.realpath(source.file) in self._paths):
            return False
        return is_taken is None or not is_taken(name, run.line)

    def take_by_id(self, custom_id: str, body_hash: str, path: str) -> int | None:
        """The place of the answer of a batch to the request with this id and body; None if there is none."""
        place = self._by_id.take(*_id_key(custom_id, body_hash, path))
        if place is not None:
            (key,), (tag,) = _keys((body_hash,), (path,))
            self._index.remove(key, tag, place)
        return place

    def take(self, body_hash: str, path: str) -> int | None:
        """The place of the next answer to a body; None if there is none."""
        (place,) = self.take_all([body_hash], path)
        return place

    def take_all(self, body_hashes: Sequence[str], path: str) -> list[int | None]:
        """The same for many bodies; "" is none."""
        if all(body_hashes):
            return self._index.take_all(*_keys(body_hashes, [path] * len(body_hashes)))
        found = iter(self.take_all(list(filter(None, body_hashes)), path))
        return [next(found) if body_hash else None for body_hash in body_hashes]

    def stored(self, place: int) -> bytes:
        """The record at a place, without its newline."""
        (record,) = self.stored_all((place,))
        return record

    def stored_all(self, places: Sequence[int]) -> list[bytes]:
        """The records at some places. Those that follow one another are read together."""
        records, window, start = list[bytes](), self._window, self._window_at
        for place in places:
            end = window.find(b"\n", at) if 0 <= (at := place - start) < len(window) else -1
            if end >= 0:
                records.append(window[at:end])
            else:
                records.append(self._read_on(place))
                window, start = self._window, self._window_at
        return records

    def _read_on(self, place: int) -> bytes:
        """Read the record at a place, and what follows it if it follows what was read before."""
        file, _ = self._files[place >> _OFFSET_BITS]
        offset, is_next = place & _OFFSET, 0 <= place - self._read_at < _WINDOW_BYTES
        self._read_at = place
        if not is_next:
            return record_at(file, offset)
        self._window, self._window_at = os.pread(file.fileno(), _WINDOW_BYTES, offset), place
        end = self._window.find(b"\n")
        return self._window[:end] if end >= 0 else record_at(file, offset)

    def source(self, place: int, line: int) -> Source:
        """What records say of the answer at a place, which is that of a line."""
        return Source("reused", self._files[place >> _OFFSET_BITS][1], line)


def _id_key(custom_id: str, body_hash: str, path: str) -> tuple[int, int]:
    _, (tag,) = _keys((body_hash,), (path,))
    return hash64(f"{body_hash}{path} {custom_id}"), tag


def _keys(body_hashes: Sequence[str], paths: Sequence[str]) -> tuple[array[int], array[int]]:
    """A key of 64 bits and a tag of 32 more for each body at its endpoint: of the 128 bits that the hash has."""
    digests = bytes.fromhex("".join(body_hashes))
    keys, tags = array("Q", digests)[::2], array("I", digests)[2::4]
    if paths.count(RESPONSES) < len(paths):
        keys = array(
            "Q", [key if path == RESPONSES else key ^ hash64(path) for key, path in zip(keys, paths, strict=True)]
        )
    return keys, tags
