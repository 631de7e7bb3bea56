"""The request file: opened once, checked whole before anything is sent, then read again to send its lines.

1. Only the checksums grow with the file in memory; the hashes of the ids go to a temporary file. A line is read up to
   its size limit and no further.
2. A source that cannot be read twice (standard input, a pipe, a compressed file) is first copied: see `opened`.
3. Only lines that were checked are sent: four bytes a line (CRC-32) show whether the line is still the same. Lines
   that are known to have their answer are not sent, and have 0 instead.
4. Lines end only at the byte `\\n`. A BOM, a CR before the newline and blank lines are not content.
5. Lines are parsed in batches, up to 64 KB ahead of sending. Parsed one by one, between requests, each would take 2 µs
   more.
6. Of a file that many machines read, each reads a part (`part.py`): numbers and ids are those of the whole file.
"""

from __future__ import annotations

import contextlib
import copy
import os
import re
import zlib
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from msgspec import UNSET

from batchrun.errors import InputError, StopError, UsageError
from batchrun.records.index import HashTable, LineSet, Repeats, hash64, hash64_all
from batchrun.records.request import (
    Overrides,
    Request,
    RequestLine,
    RequestLineError,
    parse_request,
    read_request,
)
from batchrun.requests import spool
from batchrun.requests.ahead import MOST_UNKNOWN, Ahead, is_worthwhile
from batchrun.requests.batches import BATCH_BYTES, Batch, batches
from batchrun.requests.by_offset import by_offset
from batchrun.requests.file_kind import recognize
from batchrun.requests.opened import opened
from batchrun.requests.overrides import check_overrides
from batchrun.requests.part import Part
from batchrun.requests.problems import Problems
from batchrun.requests.survey import Survey

LIKE_AN_OCCURRENCE = re.compile(r"req-[0-9a-f]{16}-\d+")


class _Mark(NamedTuple):
    """A place in the file: the number of the line before it, its offset, and how many requests come before it."""

    line: int
    offset: int
    requests: int


class RequestFile:
    """One request file; the path `-` is standard input. Requests from Python are first written to a temporary file.

    `part`: the lines that are read of it; None for all. Raises `UsageError` if it cannot be opened or read.
    """

    def __init__(
        self,
        source: str | Iterable[Mapping[str, object]],
        overrides: Overrides = Overrides(),
        part: Part | None = None,
    ) -> None:
        self.name = spool.NAME if not isinstance(source, str) else "standard input" if source == "-" else source
        check_overrides(overrides)
        self._overrides = overrides
        try:
            with contextlib.ExitStack() as files:
                self._file, self._source_stat = _opened(source, self.name, files)
                self._stat = os.fstat(self._file.fileno())
                self._files = files.pop_all()
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from error
        self.survey = Survey()
        self._is_part = part is not None
        self._part = part or Part(0, self._stat.st_size)
        self._begin = _Mark(self._part.first_line - 1, self._part.start_bytes, 0)
        self._sums = array("I")
        self._marks = [self._begin]
        self._twins = LineSet()  # bare bodies whose id occurs more than once
        self._ahead: Ahead | None = None

    def __enter__(self) -> RequestFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """The size of the decompressed content when the file was opened."""
        return self._stat.st_size

    @property
    def first_line(self) -> int:
        """The number of the first line that is read."""
        return self._part.first_line

    @property
    def total_lines(self) -> int:
        """How many requests the whole file has; known once it was checked."""
        return self._part.total_lines or self.survey.lines

    def close(self) -> None:
        """Close the file and its temporary copy."""
        self._files.close()

    def prescan_ahead(self, record_bytes: int) -> None:
        """Have another process prescan the lines, for a `check` that is told which are `known`; only where this file
        and the result file, of so many bytes, are so large that it pays."""
        is_compared = not self._overrides.replacements()  # see `check`
        if is_compared and is_worthwhile(self._part.end_bytes - self._part.start_bytes, record_bytes):
            with contextlib.suppress(OSError):
                ahead = Ahead(self._file, self._begin.line, self._begin.offset, self._part.end_bytes)
                self._ahead = self._files.enter_context(contextlib.closing(ahead))

    def again(self) -> RequestFile:
        """The same file, checked already, to be read beside this one, even in a thread. Close it first."""
        twin = copy.copy(self)
        twin._file, twin._files, twin._ahead = by_offset(self._file), contextlib.ExitStack(), None
        return twin

    def refuse_same_file(self, results: Path) -> None:
        """Raise `UsageError` if the results would be written over the requests."""
        source = self._source_stat
        if source is not None and results.exists() and os.path.samestat(results.stat(), source):
            raise UsageError(f"{results} is the request file; choose another file for the results (-o)")

    def check(
        self,
        visit: Callable[[RequestLine], None] | None = None,
        known: Callable[[Batch], Sequence[str]] | None = None,
        look: Callable[[Request], None] | None = None,
    ) -> Survey:
        """Check every line, pass each valid one to `visit`, and return the summary. `look` gets what was parsed, which
        takes a third less time: without the hash of the body.

        `known` gets some lines. It returns the ids of those that were sent in this form and have their answer, "" for
        the others. Of a known line, only the id is checked, for duplicates; the summary counts it in `lines` and
        nowhere else.

        Raises `InputError` with the first problems if any line cannot be sent.
        """
        problems = Problems(self.name)
        survey, ids, occurrences = Survey(), Repeats(), self._occurrences()
        kinds: defaultdict[tuple[str, str, bool | None], int] = defaultdict(int)
        self._sums, self._twins, self._marks = array("I"), LineSet(), [self._begin]
        if self._overrides.replacements():
            known = None  # lines are not sent as they are; a default model alone changes only lines without one
        for batch, known_ids in self._looked_up(known):
            hashes = hash64_all(known_ids if all(known_ids) else [known_id for known_id in known_ids if known_id])
            self._note_sums(batch, are_known=len(hashes) == len(known_ids))
            if len(hashes) == len(known_ids):
                ids.add(hashes)
                continue
            for number, (raw, known_id) in enumerate(zip(batch.lines, known_ids, strict=True), batch.first):
                if not raw or known_id:
                    continue
                try:
                    request = read_request(raw, self._overrides)
                except RequestLineError as problem:
                    if not (problems or hashes or survey.body_bytes):
                        self._refuse_another_kind()
                    problems.add(number, problem)
                    continue
                hashes.append(hash64(request.given_id or request.custom_id))
                survey.body_bytes += len(request.body)
                kinds[request.fields.model, request.url, request.fields.stream] += 1
                if request.fields.prompt is not UNSET and request.has_only_a_prompt:
                    survey.note_prompt(number)
                if request.endpoint is not None:
                    survey.named.setdefault((request.endpoint, request.fields.model), number)
                if look is not None:
                    look(request)
                if visit is not None:
                    line = request.line(number)
                    visit(_numbered(line, occurrences) if line.derived else line)
            ids.add(hashes)
        if (repeated := ids.found()) or self._part.before:
            survey.repeated = self._tell_apart(repeated, problems)
        if problems:
            raise InputError(*problems.first())
        survey.lines = len(self._sums)
        survey.count(kinds)
        if not survey.lines and not self._is_part:
            raise InputError([f"{self.name}: no requests in it; write one JSON object a line"], 1)
        self.survey = survey
        return survey

    def _refuse_another_kind(self) -> None:
        """Raise `InputError` with one sentence if the file holds no request lines at all. Its first one is none."""
        place = self._file.tell()
        self._file.seek(0)
        start = self._file.read(BATCH_BYTES)
        self._file.seek(place)
        if what := recognize(start, self.name):
            raise InputError([f"{self.name} is {what}"], 1)

    def _looked_up(self, known: Callable[[Batch], Sequence[str]] | None) -> Iterator[tuple[Batch, Sequence[str]]]:
        """All lines, with the ids of those that are known; where all of a batch are, their bytes need not be there."""
        begin, unknown = self._begin, 0
        ahead, self._ahead = self._ahead, None
        if ahead is not None:
            for found, ids in ((one, known(one)) for one in ahead.batches()) if known is not None else ():
                is_all = all(ids)
                yield found if is_all else self._read_again(found, begin), ids
                begin = _Mark(found.last, found.end_bytes, 0)
                unknown = 0 if is_all or any(ids) else unknown + 1
                if unknown == MOST_UNKNOWN:
                    break
            ahead.close()
        for batch in self._batches(begin):
            yield batch, known(batch) if known is not None else [""] * len(batch.lines)

    def _read_again(self, found: Batch, begin: _Mark) -> Batch:
        """The bytes of lines that another process has prescanned. Raises `StopError` if they are others now."""
        batch = next(self._batches(begin), None)
        if batch is None or (batch.last, batch.end_bytes) != (found.last, found.end_bytes):
            raise StopError(f"{self.name}:{found.first} changed while running; run the same command again")
        return batch

    def _note_sums(self, batch: Batch, *, are_known: bool) -> None:
        """Keep checksums, to see whether these lines are unchanged when they are sent; lines that are known are not."""
        if are_known:
            self._sums.frombytes(bytes(self._sums.itemsize * (batch.last - batch.first + 1)))
        else:
            self._sums.extend(map(zlib.crc32, filter(None, batch.lines)))
        if batch.ends_stride:
            self._marks.append(_Mark(batch.last, batch.end_bytes, len(self._sums)))

    def _tell_apart(self, repeated: Container[int], problems: Problems) -> int:
        """Check again the lines whose id seems to occur twice, which only the id of a bare body may do.

        Notes the lines with equal bare bodies, and returns how many of them are repetitions.
        """
        first_lines, occurrences = HashTable(), self._occurrences()
        before, count = self._part.before, 0
        for number, raw in self.raw_lines():
            try:
                request = read_request(raw, self._overrides)
            except RequestLineError:
                continue
            custom_id = request.custom_id
            is_twin = hash64(custom_id) in repeated or (not request.given_id and derived_key(custom_id) in before)
            if not is_twin and not LIKE_AN_OCCURRENCE.fullmatch(custom_id):
                continue
            if not request.given_id:
                self._twins.add(number)
                line = _numbered(request.line(number), occurrences)
                count += line.custom_id != custom_id
                custom_id = line.custom_id
            key = hash64(custom_id)
            if (first := first_lines.get(key)) is None:
                first_lines.set(key, number)
            else:
                problems.add(number, f'"custom_id" duplicates line {first}; give each line its own')
        return count

    def requests(self, without: Container[int] = (), start: int = 1) -> Iterator[RequestLine]:
        """The checked lines again, in order, except those whose line number is in `without` or below `start`.

        Most lines below `start` are not even read. Raises `StopError` if the file has changed since it was checked.
        """
        return chain.from_iterable(self._unchanged(without, start))

    def _unchanged(self, without: Container[int], start: int) -> Iterator[list[RequestLine]]:
        """See `requests`; gives the lines of one batch at a time."""
        occurrences, has_twins, leaves_out = self._occurrences(), len(self._twins) > 0, bool(without)
        begin = self._marks[0 if has_twins else max(0, bisect_left(self._marks, (start, 0, 0)) - 1)]
        seen = begin.requests
        for batch in self._batches(begin):
            wanted = list[RequestLine]()
            for number, raw in enumerate(batch.lines, batch.first):
                if not raw:
                    continue
                if seen == len(self._sums) or (self._sums[seen] and zlib.crc32(raw) != self._sums[seen]):
                    yield wanted  # the lines before the change may be sent
                    raise StopError(f"{self.name}:{number} changed while running; run the same command again")
                seen += 1
                is_wanted = number >= start and not (leaves_out and number in without)
                if has_twins and number in self._twins:  # counted even if it is not wanted
                    line = _numbered(parse_request(raw, number, self._overrides), occurrences)
                elif is_wanted:
                    line = parse_request(raw, number, self._overrides)
                if is_wanted:
                    wanted.append(line)
            yield wanted
        if seen != len(self._sums):
            raise StopError(f"{self.name} was cut off while running; run the same command again")

    def raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number, bytes without newline) of every line that is not blank; see `_batches`."""
        for batch in self._batches():
            for number, raw in enumerate(batch.lines, batch.first):
                if raw:
                    yield number, raw

    def _occurrences(self) -> HashTable:
        """How often each bare body has occurred before the first line, by the key of its id."""
        table = HashTable()
        for key, count in self._part.before.items():
            table.set(key, count)
        return table

    def _batches(self, begin: _Mark | None = None) -> Iterator[Batch]:
        """The lines from a mark on, to where the part ends, or the file did when it was opened."""
        number, offset, _ = begin or self._begin
        try:
            yield from batches(self._file, number, offset, self._part.end_bytes)
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror}") from error


def derived_key(custom_id: str) -> int:
    """The 64 bits of an id that was made from a bare body, never 0; the same in every process."""
    return int(custom_id.removeprefix("req-"), 16) or 1


def _numbered(line: RequestLine, occurrences: HashTable) -> RequestLine:
    """The line of a bare body with the id of its occurrence: `req-…`, then `req-…-2`, `req-…-3`."""
    key = derived_key(line.custom_id)
    count = (occurrences.get(key) or 0) + 1
    occurrences.set(key, count)
    return line if count == 1 else msgspec.structs.replace(line, custom_id=f"{line.custom_id}-{count}")


def _opened(
    source: str | Iterable[Mapping[str, object]], name: str, files: contextlib.ExitStack
) -> tuple[IO[bytes], os.stat_result | None]:
    """The file, seekable, and the status of its source. Requests from Python have none."""
    if not isinstance(source, str):
        return files.enter_context(spool.spooled(source)), None
    return opened(source, name, files)
