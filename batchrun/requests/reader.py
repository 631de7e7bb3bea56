"""The request file: opened once, checked whole before anything is sent, then read again to be sent.

1. Memory does not grow with the file but for the checksums, the hashes of the ids go into a temporary file; a line
   is read up to its size limit, no further.
2. What cannot be read twice (standard input, a pipe, a compressed file) is first copied into a temporary
   file without a name. Whether it is compressed its first bytes tell, not its name.
3. What is sent is what was checked: four bytes a line (CRC-32) tell whether it still stands there.
4. Lines end at the byte `\\n` alone; a BOM, a CR before the newline and blank lines are no content.
5. Lines to be sent are parsed some at a time, up to 64 KB ahead: one by one, between requests, each takes 2 µs more.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import re
import select
import stat
import sys
import tempfile
import zlib
from array import array
from bisect import bisect_left, insort
from collections import Counter, defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

import msgspec

from batchrun.errors import InputError, StopError, UsageError
from batchrun.records.index import HashTable, LineSet, Repeats, hash64
from batchrun.records.request import (
    MAX_LINE_BYTES,
    Overrides,
    RequestLine,
    RequestLineError,
    parse_request,
    read_request,
)

SHOWN_PROBLEMS = 20
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
_BUFFER = 1 << 17
_HEED_MS = 200
_BATCH = 1 << 16
_STRIDE = 4096
_LIKE_AN_OCCURRENCE = re.compile(r"req-[0-9a-f]{16}-\d+")
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(slots=True)
class Survey:
    """What the check found in the file: lines are requests (blank lines are none), `body_bytes` their bodies."""

    lines: int = 0
    body_bytes: int = 0
    streams: int = 0
    repeated: int = 0
    models: Counter[str] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)

    def count(self, kinds: Mapping[tuple[str, str, bool | None], int]) -> None:
        """Count the lines of each (model, url, `stream`)."""
        for (model, url, stream), lines in kinds.items():
            self.models[model] += lines
            self.endpoints[url] += lines
            self.streams += lines * (stream is True)


class _Mark(NamedTuple):
    """A place in the file: the number of the line before it, its offset, and how many requests stand before it."""

    line: int
    offset: int
    requests: int


class _Problems:
    """The first problems of a file, by line, and how many there are."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._first: list[tuple[int, str]] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, number: int, problem: object) -> None:
        """Note one. They come in order of their lines, twice: from the first look, and from the second one."""
        self._count += 1
        insort(self._first, (number, str(problem)))
        del self._first[SHOWN_PROBLEMS:]

    def first(self) -> tuple[list[str], int]:
        """Those to be shown, as text, and the number of all."""
        return [f"{self._name}:{number}: {problem}" for number, problem in self._first], self._count


class RequestFile:
    """One request file. Raises `UsageError` where it cannot be opened or read."""

    def __init__(self, path: str, overrides: Overrides = Overrides()) -> None:
        self.name = "standard input" if path == "-" else path
        self._overrides = overrides
        try:
            with contextlib.ExitStack() as files:
                self._file, self._source_stat = _opened(path, self.name, files)
                self._stat = os.fstat(self._file.fileno())
                self._files = files.pop_all()
        except (OSError, EOFError, zlib.error) as error:
            raise UsageError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from error
        self.survey = Survey()
        self._sums = array("I")
        self._marks = [_Mark(0, 0, 0)]
        self._twins = LineSet()  # the lines whose bare body stands in others, too

    def __enter__(self) -> RequestFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def size_bytes(self) -> int:
        """The size of what is read, decompressed, as it was when the file was opened."""
        return self._stat.st_size

    def close(self) -> None:
        """Let go of the file, and of its temporary copy."""
        self._files.close()

    def refuse_same_file(self, results: Path) -> None:
        """Raise `UsageError` where the results would be written over the requests."""
        source = self._source_stat
        if source is not None and results.exists() and os.path.samestat(results.stat(), source):
            raise UsageError(f"{results} holds the requests; choose another file for the results (-o)")

    def check(
        self,
        visit: Callable[[RequestLine], None] | None = None,
        known: Callable[[int, Sequence[bytes]], Sequence[str]] | None = None,
    ) -> Survey:
        """Look at every line, hand each good one to `visit`, and return the summary.

        `known` is given lines as they stand, and the number of the first. It returns the ids of those that were sent
        just so and have their answer, "" for the others. Of a line that is known only the id is looked at, whether it
        is another's, too; the summary counts it among the lines and nowhere else.

        Raises `InputError` with the first problems where any line could not be sent.
        """
        problems = _Problems(self.name)
        survey, ids, occurrences = Survey(), Repeats(), HashTable()
        kinds: defaultdict[tuple[str, str, bool | None], int] = defaultdict(int)
        self._sums, self._twins, self._marks = array("I"), LineSet(), [_Mark(0, 0, 0)]
        if self._overrides.replacements():
            known = None  # what is sent is not what stands there; a model fills in only where it did not stand
        for first, lines in self._batches():
            self._note_sums(first, lines)
            known_ids = known(first, lines) if known is not None else [""] * len(lines)
            hashes = [hash64(known_id) for known_id in known_ids if known_id]
            for number, raw, known_id in zip(range(first, first + len(lines)), lines, known_ids, strict=True):
                if not raw or known_id:
                    continue
                try:
                    request = read_request(raw, self._overrides)
                except RequestLineError as problem:
                    problems.add(number, problem)
                    continue
                hashes.append(hash64(request.given_id or request.custom_id))
                survey.body_bytes += len(request.body)
                kinds[request.fields.model, request.url, request.fields.stream] += 1
                if visit is not None:
                    line = request.line(number)
                    visit(_numbered(line, occurrences) if line.derived else line)
            ids.add(hashes)
        if repeated := ids.found():
            survey.repeated = self._tell_apart(repeated, problems)
        if problems:
            raise InputError(*problems.first())
        survey.lines = len(self._sums)
        survey.count(kinds)
        if not survey.lines:
            raise InputError([f"{self.name}: no requests in it; write one JSON object a line"], 1)
        self.survey = survey
        return survey

    def _note_sums(self, first: int, lines: Sequence[bytes]) -> None:
        """Keep what tells whether these lines still stand there when they are sent."""
        self._sums.extend(map(zlib.crc32, filter(None, lines)))
        last = first + len(lines) - 1
        if not last % _STRIDE:
            self._marks.append(_Mark(last, self._file.tell(), len(self._sums)))

    def _tell_apart(self, repeated: Container[int], problems: _Problems) -> int:
        """Look again at the lines whose id seems to stand twice: it may not, but for that of a bare body.

        Notes the lines with the same bare body, and returns how many are not the first of theirs.
        """
        first_lines, occurrences = HashTable(), HashTable()
        count = 0
        for number, raw in self._raw_lines():
            try:
                request = read_request(raw, self._overrides)
            except RequestLineError:
                continue
            custom_id = request.custom_id
            if hash64(custom_id) not in repeated and not _LIKE_AN_OCCURRENCE.fullmatch(custom_id):
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
        """The checked lines again, in order, but for those whose line number is in `without`, or below `start`.

        Raises `StopError` where the file is no longer what was checked; of the lines below `start` most are not read.
        """
        return chain.from_iterable(self._unchanged(without, start))

    def _unchanged(self, without: Container[int], start: int) -> Iterator[list[RequestLine]]:
        """See `requests`; those of one batch at a time."""
        occurrences, has_twins, leaves_out = HashTable(), len(self._twins) > 0, bool(without)
        begin = self._marks[0 if has_twins else bisect_left(self._marks, (start, 0, 0)) - 1]
        seen = begin.requests
        for first, lines in self._batches(begin.line, begin.offset):
            wanted = list[RequestLine]()
            for number, raw in enumerate(lines, first):
                if not raw:
                    continue
                if seen == len(self._sums) or zlib.crc32(raw) != self._sums[seen]:
                    yield wanted  # what comes before may be sent
                    raise StopError(f"{self.name}:{number} changed while running; run the same command again")
                seen += 1
                is_wanted = number >= start and not (leaves_out and number in without)
                if has_twins and number in self._twins:  # counted even where it is not wanted
                    line = _numbered(parse_request(raw, number, self._overrides), occurrences)
                elif is_wanted:
                    line = parse_request(raw, number, self._overrides)
                if is_wanted:
                    wanted.append(line)
            yield wanted
        if seen != len(self._sums):
            raise StopError(f"{self.name} was cut off while running; run the same command again")

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number, bytes without newline) of every line that is not blank; see `_batches`."""
        for first, lines in self._batches():
            for number, raw in enumerate(lines, first):
                if raw:
                    yield number, raw

    def _batches(self, number: int = 0, offset: int = 0) -> Iterator[tuple[int, list[bytes]]]:
        """(number of the first, bytes without newlines) of some lines, blank ones empty, as far as it was checked.

        Begins behind line `number`, which ends at `offset`. Each multiple of `_STRIDE` is the last line of its batch.
        """
        file, left, longest = self._file, self._stat.st_size - offset, MAX_LINE_BYTES + 1
        lines, until = list[bytes](), left - _BATCH
        file.seek(offset)
        try:
            while left > 0 and (raw := file.readline(longest if left > longest else left)):
                left -= len(raw)
                number += 1
                if len(raw) == longest:
                    left -= _skip_line(file)
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                lines.append(raw.strip(_BLANK))
                if left <= until or not number % _STRIDE:
                    yield number - len(lines) + 1, lines
                    lines, until = [], left - _BATCH
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror}") from error
        if lines:
            yield number - len(lines) + 1, lines


def _numbered(line: RequestLine, occurrences: HashTable) -> RequestLine:
    """A bare body's line with the id of its occurrence: `req-…`, then `req-…-2`, `req-…-3`."""
    key = int(line.custom_id.removeprefix("req-"), 16) or 1
    count = (occurrences.get(key) or 0) + 1
    occurrences.set(key, count)
    return line if count == 1 else msgspec.structs.replace(line, custom_id=f"{line.custom_id}-{count}")


def _skip_line(file: IO[bytes]) -> int:
    """Read past the rest of a line that is too long; returns the bytes skipped."""
    skipped = 0
    while piece := file.readline(_BUFFER):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _opened(path: str, name: str, files: contextlib.ExitStack) -> tuple[IO[bytes], os.stat_result | None]:
    """The file, or a nameless temporary copy: seekable and decompressed; and what the source is, if it is a file."""
    if path == "-" and sys.stdin is None:
        raise UsageError("standard input is closed; name a request file")
    source = sys.stdin.buffer if path == "-" else files.enter_context(Path(path).open("rb", _BUFFER))  # noqa: SIM115
    try:
        status = os.fstat(source.fileno())
    except io.UnsupportedOperation:  # a standard input that is no file
        status = None
    if path == "-" or status is None or not stat.S_ISREG(status.st_mode):
        source = _copy(source, files)
    magic = source.read(4)
    source.seek(0)
    if magic.startswith(_GZIP):
        source = _copy(cast("IO[bytes]", gzip.GzipFile(fileobj=source)), files)
    elif magic == _ZSTD:
        source = _unpacked_zstd(source, name, files)
    return source, status


def _copy(source: IO[bytes], files: contextlib.ExitStack) -> IO[bytes]:
    copy = files.enter_context(tempfile.TemporaryFile(buffering=_BUFFER))  # noqa: SIM115
    copy.writelines(_arriving(source))
    copy.seek(0)
    return copy


def _arriving(source: Any) -> Iterator[bytes]:
    """The pieces of a pipe or a file as they come, without a read that blocks: a signal that arrives just before one
    would be heeded only after it, which may be never."""
    wait = None
    with contextlib.suppress(io.UnsupportedOperation, AttributeError):  # no file at all; Windows
        poll = select.poll()
        poll.register(source.fileno(), select.POLLIN)
        wait = poll.poll
    while True:
        if wait is not None and not wait(_HEED_MS):
            continue
        if not (piece := source.read1(_BUFFER)):
            return
        yield piece


def _unpacked_zstd(source: IO[bytes], name: str, files: contextlib.ExitStack) -> IO[bytes]:
    """A copy of a zstd file, unpacked frame by frame: zstandard's own reader takes a torn file for a whole one."""
    try:
        import zstandard
    except ImportError:
        raise UsageError(f"{name} is zstd-compressed; pip install zstandard, or unpack it first") from None
    copy = files.enter_context(tempfile.TemporaryFile(buffering=_BUFFER))  # noqa: SIM115
    frame = zstandard.ZstdDecompressor().decompressobj()
    try:
        while piece := source.read(1024):  # as little as this can hold 32 MiB
            while piece:
                if frame.eof:
                    frame = zstandard.ZstdDecompressor().decompressobj()
                copy.write(frame.decompress(piece))
                piece = frame.unused_data
    except zstandard.ZstdError as error:
        raise UsageError(f"cannot read {name}: {error}") from error
    if not frame.eof:
        raise EOFError("the zstd data ends too early; is the file complete?")
    copy.seek(0)
    return copy
