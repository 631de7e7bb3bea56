"""The requests of a result file, read by the numbers of their lines: for the page of a row, and for the search.

1. Where each line begins is found out as far as it is needed, once; 8 bytes a line are kept.
2. What cannot be read, or is no request any more, is none; so is a request that was changed since it was sent.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from array import array
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, count
from operator import add
from pathlib import Path

import msgspec

from batchrun.datasets.requests_of import sent_as
from batchrun.errors import UsageError
from batchrun.records.answer import Result
from batchrun.records.index import hash_body
from batchrun.records.prompt import Turn, plain_prompt, turns_of
from batchrun.records.request import Overrides, RequestLine, RequestLineError, parse_request
from batchrun.requests.opened import opened
from batchrun.results.scan import lines_at, record_at

_BOM = b"\xef\xbb\xbf"
_PIECE_BYTES, _KEPT_PIECES = 1 << 18, 4
SHARED_ROLES = ("instructions", "system", "developer")
"""Turns that most prompts have in common."""


class _Line(msgspec.Struct, gc=False):
    body: msgspec.Raw = msgspec.Raw(b"")


_decode_body = msgspec.json.Decoder(_Line).decode


class Requests:
    """One request file. A compressed one is unpacked to a temporary file at the first look into it."""

    def __init__(self, requests: Path, results: Path) -> None:
        self._path = requests
        sent = sent_as(results)
        self._overrides = replace(sent or Overrides(), model=(sent and sent.model) or "any")  # nothing is sent
        self._files = contextlib.ExitStack()
        self._begins = array("Q", [0])  # where each line begins, and where the next one does
        self._lock = threading.Lock()
        self._is_all = False
        self._pieces: list[tuple[int, list[bytes]]] = []  # what was read last: most records are near one another
        try:
            self._file, _ = opened(str(requests), str(requests), self._files)
        except (OSError, EOFError, zlib.error, UsageError):
            self._is_all = True

    @property
    def identity(self) -> str:
        """Names the file and its state."""
        try:
            status = self._path.stat()
        except OSError:
            return ""
        return f"{status.st_dev} {status.st_ino} {status.st_size} {status.st_mtime_ns}"

    def close(self) -> None:
        """Close the file."""
        self._files.close()

    def read_on(self) -> bool:
        """Find where some more lines begin; False at the end of the file."""
        with self._lock:
            return self._read_on()

    def request(self, line: int) -> RequestLine | None:
        """The request of a line, counted from 1, with the changes that the last run made; None if there is none."""
        raw = self._raw(line)
        return None if raw is None else self._parsed(raw, line)

    def turns(self, result: Result) -> list[Turn] | None:
        """The prompt of a result; None where its request is not there any more as it was sent."""
        body = self._body(result)
        return None if body is None else turns_of(body)

    def words(self, result: Result) -> tuple[str, str]:
        """What the prompt of a result says that others may say as well, and what is of its own; "" where unknown."""
        body = self._body(result)
        if body is None:
            return "", ""
        return plain_prompt(body) or _shared_and_own(turns_of(body))

    def _body(self, result: Result) -> bytes | None:
        """The body as it was sent; None where it is not there any more."""
        raw = self._raw(result.run.line)
        if raw is None:
            return None
        try:  # as nearly always: sent as it is written
            body = _decode_body(raw).body
            if hash_body(body) == result.run.body_hash:
                return bytes(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        request = self._parsed(raw, result.run.line)
        return None if request is None or request.body_hash != result.run.body_hash else request.body

    def _raw(self, line: int) -> bytes | None:
        with self._lock:
            while len(self._begins) <= line and self._read_on():
                pass
            if not 0 < line < len(self._begins):
                return None
            for first, lines in self._pieces:
                if 0 <= line - first < len(lines):
                    return lines[line - first]
        try:
            return record_at(self._file, self._begins[line - 1])
        except OSError:
            return None

    def _parsed(self, raw: bytes, line: int) -> RequestLine | None:
        try:
            return parse_request(raw.removeprefix(_BOM).strip(), line, self._overrides)
        except RequestLineError:
            return None

    def _read_on(self) -> bool:
        lines, last = ([], b"") if self._is_all else lines_at(self._file, _PIECE_BYTES, self._begins[-1])
        lines += [last] if last else []
        self._is_all = not lines
        self._pieces = [(len(self._begins), lines), *self._pieces[: _KEPT_PIECES - 1]] if lines else []
        self._begins.extend(map(add, accumulate(map(len, lines)), count(self._begins[-1] + 1)))  # with their newlines
        return bool(lines)


def _shared_and_own(turns: Sequence[Turn]) -> tuple[str, str]:
    shared, own = list[str](), list[str]()
    for turn in turns:
        (shared if turn.role in SHARED_ROLES else own).append(turn.text)
    return "\n".join(shared), "\n".join(own)
