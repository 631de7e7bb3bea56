"""The text of a file. Its encoding is never guessed: UTF-8, UTF-16 where its BOM is there, or what the user names."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TextIO

from batchrun.datasets.row_problems import RowProblems
from batchrun.errors import UsageError
from batchrun.requests.by_offset import by_offset

_BLOCK = 1 << 16
_FEWEST = 20
_UTF_8 = "utf-8-sig"  # takes a BOM away


class Text:
    """The text of one open file; `encoding` None is UTF-8, or UTF-16 where the file begins with its BOM.

    Raises `UsageError` for an encoding that there is not.
    """

    def __init__(self, file: IO[bytes], problems: RowProblems, encoding: str | None) -> None:
        self._file = file
        self._problems = problems
        self.start = by_offset(file).read(_BLOCK)
        self._is_named = encoding is not None
        self._codec = _known(encoding) if encoding is not None else self._by_mark()

    def _by_mark(self) -> str:
        if self.start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
            self._problems.stop(1, None, "byte 1: the mark of UTF-32; pass --encoding utf-32, or save it as UTF-8")
        if self.start.startswith((b"\xff\xfe", b"\xfe\xff")):
            return "utf-16"
        if (found := _unmarked(self.start)) is not None:
            place = self.start.index(0) + 1
            what = f"byte {place} is NUL, and so are others like it, as in UTF-16 without its mark"
            self._problems.stop(1, None, f"{what}; pass --encoding {found}, or save the file as UTF-8")
        return _UTF_8

    @contextmanager
    def lines(self, newline: str) -> Iterator[TextIO]:
        """The text from its beginning; lines end at `newline` ("" at CR, LF and CRLF), and are not changed.

        Bad bytes raise `InputError` with their place.
        """
        with io.TextIOWrapper(by_offset(self._file), self._codec, "strict", newline) as text:
            try:
                yield text
            except UnicodeError:
                self._refuse()

    def _refuse(self) -> None:
        """Find the first bad byte again, to say where it is: a block of text was decoded at once."""
        decoder = codecs.getincrementaldecoder(self._codec)()
        offset, line, source = 0, 1, by_offset(self._file)
        while True:
            block = source.read(_BLOCK)
            try:
                line += decoder.decode(block, not block).count("\n")
            except UnicodeDecodeError as error:
                at = offset + len(block) - len(error.object) + error.start
                line += error.object[: error.start].count(b"\n")
                self._problems.stop(line, None, self._why(error.object[error.start :], at + 1))
            except UnicodeError as error:  # UTF-16 without its mark, where the user names it
                self._problems.stop(line, None, f"byte {offset + 1}: {error}; pass another --encoding")
            assert block, "a byte was bad before"
            offset += len(block)

    def _why(self, rest: bytes, place: int) -> str:
        named = "UTF-8" if self._codec == _UTF_8 else self._codec.upper()
        what = f"byte {place:,} (0x{rest[0]:02X}) is not {named}"
        if self._is_named or self._codec != _UTF_8:
            return f"{what}; pass another --encoding, or save the file as UTF-8"
        meant = rest[:1].decode("cp1252", errors="ignore")
        way_out = "pass --encoding NAME"
        if meant and meant.isprintable():
            way_out = f"in Windows-1252 it is {meant}: if that is right, pass --encoding cp1252"
        return f"{what}; {way_out}, or save the file as UTF-8"


def _unmarked(start: bytes) -> str | None:
    """The kind of UTF-16 that a text without a mark looks like; None for any other text.

    Every character of ASCII has a NUL there, always on the same side, and no text has so few of them as 1 in 20: it has
    line ends, digits, and what stands between its cells.
    """
    first, second = start[::2].count(0), start[1::2].count(0)
    if (first and second) or first + second < 2 or (first + second) * 2 * _FEWEST < len(start):
        return None
    return "utf-16-be" if first else "utf-16-le"


def _known(encoding: str) -> str:
    try:
        found = codecs.lookup(encoding)
        "".encode(found.name)  # raises for what is no encoding of text, such as base64
    except (LookupError, ValueError):
        raise UsageError(f"--encoding {encoding}: there is no such encoding; write e.g. cp1252 or utf-16-le") from None
    return _UTF_8 if found.name == "utf-8" else found.name
