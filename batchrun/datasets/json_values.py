"""Tables of JSON: an object on each line, or an array of objects. Values are as they stand; numbers keep their text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any, TextIO

import orjson

from batchrun.datasets.row import Row
from batchrun.datasets.row_problems import RowProblems
from batchrun.datasets.text import Text
from batchrun.records.rawjson import REFUSED

LONGEST_OBJECT = 64 << 20  # characters
_BLOCK = 1 << 16
_SPACE = " \t\r\n"
_NEAR_THE_END = 16  # no token but a string is longer

Objects = Iterator[tuple[int, str]]


class Number(float):
    """A number of JSON that is no plain whole one. `str` gives it as it is written: `1.10` and `1e5` stay."""

    __slots__ = ("text",)

    def __new__(cls, text: str) -> Number:
        """The number that a text is."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    text: str

    def __str__(self) -> str:
        return self.text


def _whole(text: str) -> int | Number:
    return Number(text) if text == "-0" else int(text)


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value; write null or a number")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f'the key "{twice}" occurs twice in an object; rename one')
    return made


_decoder = json.JSONDecoder(
    object_pairs_hook=_object, parse_float=Number, parse_int=_whole, parse_constant=_no_constant
)
_loosely = json.JSONDecoder()


class JsonTable:
    """The rows of JSON objects, which `objects` reads from the text. The columns are the keys of all of them."""

    def __init__(self, text: Text, objects: Callable[[TextIO, RowProblems], Objects], problems: RowProblems) -> None:
        self._text = text
        self._objects = objects
        self._problems = problems
        columns = dict[str, None]()
        for _, source in self._sources():
            keys = _keys_of(source)
            if isinstance(keys, dict):
                columns.update(dict.fromkeys(keys))
        self.columns = list(columns)
        if not columns:
            self._refuse_all()

    def _refuse_all(self) -> None:
        """Say what is wrong with the rows where none has a column: else a template would be told of no such name."""
        for _ in self.rows():
            pass
        self._problems.raise_any()

    def rows(self) -> Iterator[Row]:
        """Each row; those that cannot be used are noted as problems."""
        for number, (line, source) in enumerate(self._sources(), 1):
            try:
                cells = parse(source)
            except REFUSED as error:
                self._problems.add(line, number, _why_refused(error))
                continue
            if isinstance(cells, dict):
                yield Row(number, line, cells, source)
            else:
                self._problems.add(line, number, "not an object; write a JSON object for each row, {…}")

    def _sources(self) -> Objects:
        with self._text.lines("\n") as lines:
            yield from self._objects(lines, self._problems)


def _keys_of(source: str) -> Any:
    """A value of which only the keys are asked for; None where `rows` says what is wrong."""
    for read in (orjson.loads, parse):  # the first is faster, and refuses endless numbers
        with suppress(*REFUSED):
            return read(source)
    return None


def parse(source: str) -> Any:
    """A JSON value whose numbers keep their text. Raises one of `REFUSED`."""
    value = _decoder.decode(source)
    if "\\u" in source:
        _refuse_halves(source)
    return value


def _refuse_halves(source: str) -> None:
    try:
        orjson.loads(source)
    except orjson.JSONDecodeError as error:
        if "surrogate" in str(error):
            why = "half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"
            raise ValueError(why) from None


def _why_refused(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply; flatten it"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON ({error.msg} at character {error.pos + 1:,}); write a JSON object for each row"
    return str(error)


def lines_of(text: TextIO, problems: RowProblems) -> Objects:
    """JSON lines: each line that is not blank."""
    for number, line in enumerate(text, 1):
        if source := line.strip(_SPACE):
            if number == 1 and source.startswith("["):
                problems.stop(1, None, "an array, where each line should be an object; pass --format json")
            yield number, source


def elements_of(text: TextIO, problems: RowProblems) -> Objects:
    """The elements of one array, read as far as the next of them needs."""
    reader = _ArrayReader(text, problems)
    if reader.next_character() != "[":
        problems.stop(reader.line, None, "no array; write [{…}, {…}], or pass --format jsonl for JSON lines")
    reader.skip()
    ends = reader.next_character() == "]"
    while not ends:
        if not reader.next_character():
            problems.stop(reader.line, None, "the array has no end; is the file complete?")
        yield reader.element()
        after = reader.next_character()
        if after not in (",", "]"):
            problems.stop(reader.line, None, "no comma after an element of the array; is the file complete?")
        ends = after == "]"
        if not ends:
            reader.skip()
    reader.skip()
    if reader.next_character():
        problems.stop(reader.line, None, "text after the end of the array; take it out")


class _ArrayReader:
    """A window on the text, from what is not read yet."""

    def __init__(self, text: TextIO, problems: RowProblems) -> None:
        self._text = text
        self._problems = problems
        self._window = ""
        self._at = 0
        self.line = 1

    def next_character(self) -> str:
        """The next character that is no space; "" at the end."""
        while True:
            begun = self._at
            while self._at < len(self._window) and self._window[self._at] in _SPACE:
                self._at += 1
            self.line += self._window.count("\n", begun, self._at)
            if self._at < len(self._window):
                return self._window[self._at]
            if not self._more():
                return ""

    def skip(self) -> None:
        """Go past one character."""
        self._at += 1

    def element(self) -> tuple[int, str]:
        """The line of the next value, and its text."""
        line = self.line
        while True:
            try:
                _, end = _loosely.raw_decode(self._window, self._at)
            except json.JSONDecodeError as error:
                is_cut = error.msg.startswith("Unterminated") or error.pos >= len(self._window) - _NEAR_THE_END
                if not is_cut or len(self._window) - self._at > LONGEST_OBJECT or not self._more():
                    line += self._window.count("\n", self._at, error.pos)
                    self._problems.stop(line, None, f"not JSON ({error.msg}); is the file complete?")
            except RecursionError:
                self._problems.stop(line, None, "nested too deeply; flatten it")
            else:
                source = self._window[self._at : end]
                self.line += source.count("\n")
                self._at = end
                return line, source

    def _more(self) -> bool:
        """Read on: at least as much as is left of the window, so that a long element is not read again and again."""
        rest = self._window[self._at :]
        piece = self._text.read(max(_BLOCK, len(rest)))
        self._window, self._at = rest + piece, 0
        return bool(piece)
