"""The request file: opened once, checked whole before anything is sent, then read again to be sent.

1. Memory does not grow with the file but for the tables of ids; a line is read up to its size limit, no further.
2. What cannot be read twice (standard input, a pipe, a compressed file) is first laid down in a temporary
   file without a name.
3. Lines end at the byte `\\n` alone; a BOM, a CR before the newline and blank lines are no content.
"""

from __future__ import annotations

import gzip
import os
import shutil
import stat
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, cast

import msgspec

from batchrun.errors import InputError, StopError, UsageError
from batchrun.hashes import HashTable, hash64
from batchrun.records import MAX_LINE_BYTES, Overrides, RequestLine, RequestLineError, parse_request

SHOWN_PROBLEMS = 20
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
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


class RequestFile:
    """One request file. Raises `UsageError` where it cannot be opened or read."""

    def __init__(self, path: str, overrides: Overrides = Overrides()) -> None:
        self.name = "standard input" if path == "-" else path
        self._overrides = overrides
        try:
            self._file = _open(path)
            self._stat = os.fstat(self._file.fileno())
        except (OSError, EOFError) as error:
            raise UsageError(f"cannot read {self.name}: {getattr(error, 'strerror', None) or error}") from error
        self.survey = Survey()

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
        self._file.close()

    def refuse_same_file(self, results: Path) -> None:
        """Raise `UsageError` where the results would be written over the requests."""
        if results.exists() and os.path.samestat(results.stat(), self._stat):
            raise UsageError(f"{results} holds the requests; choose another file for the results (-o)")

    def check(self, visit: Callable[[RequestLine], None] = lambda line: None) -> Survey:
        """Parse every line, hand each good one to `visit`, and return the summary.

        Raises `InputError` with the first problems where any line could not be sent.
        """
        problems: list[str] = []
        count = 0
        survey = Survey()
        first_lines = HashTable()
        occurrences = HashTable()
        for number, raw in self._raw_lines():
            survey.lines += 1
            try:
                line = parse_request(raw, number, self._overrides)
                if line.derived:
                    bare, line = line, _numbered(line, occurrences)
                    survey.repeated += line is not bare
                key = hash64(line.custom_id)
                if (first := first_lines.get(key)) is not None:
                    raise RequestLineError(f'"custom_id" stands already on line {first}; give each line its own')
                first_lines.set(key, number)
            except RequestLineError as problem:
                count += 1
                if count <= SHOWN_PROBLEMS:
                    problems.append(f"{self.name}:{number}: {problem}")
                continue
            survey.body_bytes += len(line.body)
            survey.streams += line.stream
            survey.models[line.model] += 1
            survey.endpoints[line.url] += 1
            visit(line)
        if count:
            raise InputError(problems, count)
        if not survey.lines:
            raise InputError([f"{self.name}: no requests in it; write one JSON object a line"], 1)
        self.survey = survey
        return survey

    def requests(self, without: Container[int] = ()) -> Iterator[RequestLine]:
        """The checked lines again, in order, but for those whose line number is in `without`.

        Raises `StopError` where the file is no longer what was checked.
        """
        occurrences = HashTable()
        seen = 0
        for number, raw in self._raw_lines():
            seen += 1
            if number in without and not self.survey.repeated:
                continue
            if seen % 256 == 1:
                self._check_unchanged()
            try:
                line = parse_request(raw, number, self._overrides)
            except RequestLineError as problem:
                raise StopError(f"{self.name}:{number} changed while running: {problem}") from None
            if line.derived and self.survey.repeated:
                line = _numbered(line, occurrences)
            if number not in without:
                yield line
        self._check_unchanged()
        if seen != self.survey.lines:
            raise StopError(f"{self.name} changed while running; run the same command again")

    def _raw_lines(self) -> Iterator[tuple[int, bytes]]:
        """(line number, bytes without newline) of every line that is not blank, as far as the file was checked."""
        file, left, number = self._file, self._stat.st_size, 0
        file.seek(0)
        try:
            while left > 0 and (raw := file.readline(min(left, MAX_LINE_BYTES + 1))):
                left -= len(raw)
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    left -= _skip_line(file)
                if number == 1:
                    raw = raw.removeprefix(_BOM)
                raw = raw.strip(_BLANK)
                if raw:
                    yield number, raw
        except OSError as error:
            raise UsageError(f"cannot read {self.name}: {error.strerror}") from error

    def _check_unchanged(self) -> None:
        now = os.fstat(self._file.fileno())
        rewritten = now.st_size == self._stat.st_size and now.st_mtime_ns != self._stat.st_mtime_ns
        if now.st_size < self._stat.st_size or rewritten:
            raise StopError(f"{self.name} changed while running; run the same command again")


def _numbered(line: RequestLine, occurrences: HashTable) -> RequestLine:
    """A bare body's line with the id of its occurrence: `req-…`, then `req-…-2`, `req-…-3`."""
    key = hash64(line.custom_id)
    count = (occurrences.get(key) or 0) + 1
    occurrences.set(key, count)
    return line if count == 1 else msgspec.structs.replace(line, custom_id=f"{line.custom_id}-{count}")


def _skip_line(file: IO[bytes]) -> int:
    """Read past the rest of a line that is too long; returns the bytes skipped."""
    skipped = 0
    while piece := file.readline(1 << 20):
        skipped += len(piece)
        if piece.endswith(b"\n"):
            break
    return skipped


def _open(path: str) -> IO[bytes]:
    """The file, seekable and decompressed."""
    if path == "-":
        return _laid_down(sys.stdin.buffer)
    file = Path(path).open("rb")  # noqa: SIM115 (closed by RequestFile.close)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return _laid_down(file)
    magic = file.read(4)
    file.seek(0)
    if magic.startswith(_GZIP):
        return _laid_down(cast("IO[bytes]", gzip.GzipFile(fileobj=file)))
    if magic == _ZSTD:
        return _laid_down(_zstd(file, path))
    return file


def _zstd(file: IO[bytes], path: str) -> IO[bytes]:
    try:
        import zstandard
    except ImportError:
        raise UsageError(f"{path} is zstd-compressed; pip install zstandard, or unpack it first") from None
    reader: Any = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
    return cast("IO[bytes]", reader)


def _laid_down(source: IO[bytes]) -> IO[bytes]:
    """A nameless temporary copy of what can be read only once."""
    copy = tempfile.TemporaryFile()  # noqa: SIM115 (closed by RequestFile.close)
    shutil.copyfileobj(source, copy, 1 << 20)
    copy.flush()
    return copy
