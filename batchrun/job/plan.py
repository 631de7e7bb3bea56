"""Which lines of a run need no request, because there is an answer to an equal one, or will be. Nothing is written.

1. A line is *copied* if it equals another line of the same file (`--dedup`): one whose record is in the result file, or
   an earlier line of this run, which is sent or reused.
2. A line is *reused* if another result file has an answer to its body (`--reuse`), as long as answers last.
3. A line that names its endpoint is always sent there.
4. Lines are compared by hash. `copying.py`, which writes the records, compares what the hashes lead to.
"""

from __future__ import annotations

import os
import tempfile
from array import array
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import chain, compress
from typing import IO

import msgspec

from batchrun.records.index import LineSet, hash64
from batchrun.records.numbers_by_hash import NONE, NumbersByHash
from batchrun.records.rawjson import member
from batchrun.records.request import RESPONSES, RequestLine
from batchrun.records.result import ResultHead, parse_stored
from batchrun.requests.batches import Batch
from batchrun.requests.duplicates import Duplicates, key_of
from batchrun.requests.prescan import prescan_plain
from batchrun.requests.reader import RequestFile
from batchrun.requests.selection import first
from batchrun.results.answers import Answers
from batchrun.validation.schema import MismatchCheck

_AT_ONCE = 256  # lines


class Reused(msgspec.Struct, array_like=True, gc=False):
    """Some lines that are reused: their numbers, the places of their answers, their endpoints, bodies and ids."""

    numbers: list[int]
    places: list[int]
    paths: list[str]
    body_hashes: list[str]
    ids: list[str]

    def rows(self) -> Iterator[tuple[int, int, str, str, str]]:
        """Each line: its number, the place of its answer, its endpoint, body hash and id."""
        return zip(self.numbers, self.places, self.paths, self.body_hashes, self.ids, strict=True)


class ReusedLines:
    """The lines that are reused: their numbers and, in a temporary file, what their records need."""

    def __init__(self) -> None:
        self.numbers = LineSet()
        self._pending = Reused([], [], [], [], [])
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self.numbers)

    def add(self, reused: Reused) -> None:
        """Add lines; they come in the order of the file."""
        numbers, pending = reused.numbers, self._pending
        if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
            self.numbers.add_range(range(numbers[0], numbers[-1] + 1))
        else:
            for number in numbers:
                self.numbers.add(number)
        pending.numbers += numbers
        pending.places += reused.places
        pending.paths += reused.paths
        pending.body_hashes += reused.body_hashes
        pending.ids += reused.ids
        if len(pending.numbers) >= _AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        """Write what is pending into the file."""
        if self._pending.numbers:
            if self._file is None:
                self._file = tempfile.TemporaryFile()  # noqa: SIM115
            self._file.write(_encode(self._pending) + b"\n")
            self._pending = Reused([], [], [], [], [])

    def batches(self) -> Iterator[Reused]:
        """All lines, some at a time."""
        self._flush()
        if self._file is None:
            return
        self._file.seek(0)
        for raw in self._file:
            yield _decode(raw)

    def close(self) -> None:
        """Forget what was written."""
        if self._file is not None:
            self._file.close()


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Reused).decode


class Plan:
    """What becomes of the lines of a run. With neither `dedup` nor `answers` all are sent, and nothing is looked at.

    `copies`: the lines that are copied. `originals` has a place for the record of each line that is copied from.
    `has_early_originals`: some of these records are there before anything is sent. `reused`: the lines whose answer is
    one of `answers`; `schema_check` says which of these fit.
    """

    def __init__(self, *, dedup: bool, answers: Answers | None, schema_check: MismatchCheck) -> None:
        self.is_active = dedup or answers is not None
        self.answers = answers
        self.copies, self.reused = LineSet(), ReusedLines()
        self.originals = NumbersByHash()
        self.has_early_originals = False
        self._schema_check = schema_check
        self._recorded = NumbersByHash()
        self._by_id, self._looked = array("Q"), 0  # by how many lines were looked at before: the answer with their id
        self._duplicates = Duplicates() if dedup else None

    def __len__(self) -> int:
        """How many lines need no request."""
        return len(self.copies) + len(self.reused)

    def in_words(self, to_send: int) -> str:
        """How many lines are sent, and how many are not, for what reason."""
        words = [f"{to_send:,} to send"]
        if self.reused:
            words.append(f"{len(self.reused):,} reused from other results")
        if self.copies:
            words.append(f"{len(self.copies):,} copied from equal lines")
        return ", ".join(words)

    def close(self) -> None:
        """Close the temporary file. The answers are closed by who opened them."""
        self.reused.close()

    def check_new(self, requests: RequestFile) -> None:
        """Check a file of which no line has a record, and look at its lines meanwhile; see `make`."""
        self._begin(())
        requests.check(self._look, self._known if self.answers is not None else None)
        self._settle()

    def make(
        self, requests: RequestFile, without: Container[int], limit: int | None, staying: Iterable[ResultHead]
    ) -> None:
        """Look at the lines that are not in `without`, the first `limit` of them.

        `staying` are the records that the result file has and keeps.
        """
        self._begin(staying)
        if self.answers is not None and self.answers.has_ids:
            for line in first(requests.requests(without), limit):
                place = self.answers.take_by_id(line.custom_id, line.body_hash, line.url)
                self._by_id.append(NONE if place is None else place)
        for line in first(requests.requests(without), limit):
            self._look(line)
        self._settle()

    # ---------------------------------------------------------------------------------------------- inside

    def _begin(self, staying: Iterable[ResultHead]) -> None:
        """Note the records of the result file, and read the other ones."""
        taken = NumbersByHash()
        for head in staying:
            run = head.run
            if self._duplicates is not None:
                self._recorded.add(*key_of(head.custom_id, run.path, run.body_hash), run.line)
            if run.source is not None and run.source.kind == "reused":
                taken.add(_answer_key(run.source.file, run.source.line), 0, run.line)
        self._recorded.index()
        taken.index()
        if self.answers is not None:
            is_taken = (lambda file, line: taken.first(_answer_key(file, line), 0) is not None) if len(taken) else None
            self.answers.read(is_taken)

    def _look(self, line: RequestLine) -> None:
        """Find out what becomes of a line."""
        place = None
        if line.endpoint is not None:
            self._looked += 1
            return
        if self._duplicates is not None:
            key = key_of_line(line)
            if self._recorded.first(*key) is not None:
                self.has_early_originals = True
                self._looked += 1
                self._copy(key, (line.line_number,))
                return
            self._duplicates.add(key, line.line_number)
        if self.answers is not None:
            place = self._fitting(self.answers, line)
        if place is not None:
            self.reused.add(Reused([line.line_number], [place], [line.url], [line.body_hash], [line.custom_id]))

    def _fitting(self, answers: Answers, line: RequestLine) -> int | None:
        """The place of an answer to a line that fits its schema, if it has one; None if there is none."""
        by_id = self._by_id[self._looked] if self._looked < len(self._by_id) else NONE
        self._looked += 1
        for place in chain(
            () if by_id == NONE else (by_id,), iter(lambda: answers.take(line.body_hash, line.url), None)
        ):
            if b"json_" not in line.body:
                return place
            try:
                head, response = parse_stored(answers.stored(place))
            except ValueError:
                continue
            is_same = (head.run.body_hash, head.run.path) == (line.body_hash, line.url)
            if is_same and self._schema_check.why(line, member(response, "body")) is None:
                return place
        return None

    def _known(self, batch: Batch) -> list[str]:
        """The ids of lines that are reused, "" for all others: an answer shows that its body was valid.

        Only for lines that name no endpoint, ask for no schema, and go where nearly all lines go.
        """
        assert self.answers is not None
        ids, hashes = prescan_plain(batch.lines)
        places = self.answers.take_all(hashes, RESPONSES)
        known = [place for place in places if place is not None]
        numbers: Sequence[int] = range(batch.first, batch.last + 1)
        if len(known) < len(ids):
            is_found = [place is not None for place in places]
            ids = [custom_id if place is not None else "" for custom_id, place in zip(ids, places, strict=True)]
            numbers, hashes = list(compress(numbers, is_found)), list(compress(hashes, is_found))
        found = Reused(list(numbers), known, [RESPONSES] * len(known), hashes, list(filter(None, ids)))
        self.reused.add(found)
        if self._duplicates is not None:
            for number, _, path, body_hash, custom_id in found.rows():
                self._duplicates.add(key_of(custom_id, path, body_hash), number)
        return ids

    def _settle(self) -> None:
        """Find the lines that are equal to an earlier one, and are not reused."""
        for key, numbers in self._duplicates.groups() if self._duplicates is not None else ():
            others = [number for number in numbers if number not in self.reused.numbers]
            if len(others) < len(numbers):
                self.has_early_originals = True
            else:
                others = others[1:]
            if others:
                self._copy(key, others)
        self.originals.index()
        self._recorded, self._duplicates = NumbersByHash(), None

    def _copy(self, key: tuple[int, int], numbers: Iterable[int]) -> None:
        self.originals.add(*key, NONE)
        for number in numbers:
            self.copies.add(number)


def _answer_key(file: str, line: int) -> int:
    """A hash of which answer it is: of the line in a result file, by its real path."""
    return hash64(f"{line} {os.path.realpath(file)}")


def key_of_line(line: RequestLine) -> tuple[int, int]:
    """A key and a tag that are the same for equal lines."""
    return key_of(line.custom_id, line.url, line.body_hash)


class Skipped:
    """The numbers of the lines that a run does not send: those that need no request, and those in `unwanted`."""

    def __init__(self, unwanted: Container[int], plan: Plan) -> None:
        self._unwanted = unwanted
        self._plan = plan

    def __bool__(self) -> bool:
        return bool(self._unwanted) or len(self._plan) > 0

    def __contains__(self, number: object) -> bool:
        plan = self._plan
        return number in self._unwanted or number in plan.copies or number in plan.reused.numbers
