"""The short form of a schema: `topic enum(billing|other): what it is about, urgent bool, score int(1..5), note? str`.

    fields       FIELD {("," | newline) FIELD}
    FIELD        NAME ["?"] [TYPE] [":" DESCRIPTION]        "?": may be null; without TYPE it is str
    TYPE         str | bool | int | float | int(1..5) | float(0..1) | enum(a|b) | list(TYPE) | {FIELDS} | list{FIELDS}

A description, or a value of an enum, that holds a comma, a bar, a bracket or a quote stands in double quotes, with
`\\"` for a quote and `\\\\` for a backslash. Pure.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, NoReturn

from batchrun.errors import UsageError

TYPES = {"str": "string", "bool": "boolean", "int": "integer", "float": "number"}
_WORDS = [*TYPES, "enum", "list"]
_OTHER_WORDS = {"string": "str", "text": "str", "boolean": "bool", "integer": "int", "number": "float", "array": "list"}
_NAME = re.compile(r"[^\W\d][\w-]*")
_BLANK = re.compile(r"[ \t\r]*")
_SEPARATORS = re.compile(r"[ \t\r\n,]*")
_PLAIN = re.compile(r'[^,|"()\[\]{}\n]*')
_TYPE = re.compile(
    rf"(?:{'|'.join(sorted({*_WORDS, *_OTHER_WORDS} - {'text'}))})(?:\([^)\n]*\))?(?=[ \t\r]*(?:[:,\n]|$))"
)
_CHOICE = re.compile(r'[^,|"()\[\]{}\n]+(?:\|[^,|"()\[\]{}\n]+)+')
_QUOTED = re.compile(r'"((?:[^"\\\n]|\\["\\])*)"')
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
_DEEPEST = 50


def parse_short_form(text: str) -> dict[str, Any]:
    """The JSON schema of a short form, as strict mode wants it. Raises `UsageError` with the place."""
    parser = _Parser(text)
    schema = parser.fields("")
    parser.expect_end()
    return schema


class _Parser:
    """Reads the text from `_at` on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def fields(self, closing: str) -> dict[str, Any]:
        """The object of the fields up to a closing bracket, which is left to read, or to the end."""
        self._depth += 1
        if self._depth > _DEEPEST:
            self._refuse("nested too deeply; write a JSON schema")
        properties = dict[str, Any]()
        self._take(_SEPARATORS)
        while self._next() not in ("", closing):
            name = self._name(properties)
            properties[name] = self._field(name, closing)
            begun = self._at
            separators = self._take(_SEPARATORS)
            if self._next() not in ("", closing) and not separators.strip(" \t\r"):
                self._at = begun
                self._refuse("write a comma or a new line before the next field; words that describe follow a colon")
        if not properties:
            self._refuse("no field; write e.g. topic enum(billing|other), urgent bool")
        self._depth -= 1
        required = list(properties)
        return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}

    def expect_end(self) -> None:
        """Raise `UsageError` if something is left."""
        if self._next():
            self._refuse(f"{self._next()} closes nothing; take it out")

    def _name(self, taken: dict[str, Any]) -> str:
        name = self._take(_NAME)
        if not name:
            self._refuse("no name of a field; a name begins with a letter and holds letters, digits, _ and -")
        if name in taken:
            self._refuse(f"the field {name} occurs twice; rename one")
        return name

    def _field(self, name: str, closing: str) -> dict[str, Any]:
        """What stands after the name of a field."""
        may_be_null = self._skip("?")
        self._take(_BLANK)
        has_type = self._next() not in ("", ":", ",", "\n", closing)
        made = self._type() if has_type else {"type": "string"}
        self._take(_BLANK)
        if self._skip(":"):
            if not has_type:
                self._refuse_type_after_colon(name)
            made = {"type": made["type"], "description": self._description()} | made
        return _nullable(made) if may_be_null else made

    def _type(self) -> dict[str, Any]:
        if self._next() == "{":
            return self._object()
        begun, word = self._at, self._take(_NAME)
        if word == "enum":
            return {"type": "string", "enum": self._values()}
        if word == "list":
            return {"type": "array", "items": self._items()}
        if word not in TYPES:
            self._at = begun
            self._refuse(_unknown_type(word))
        made: dict[str, Any] = {"type": TYPES[word]}
        if self._next() == "(":
            if word not in ("int", "float"):
                self._refuse(f"{word} takes no bounds; only int and float do, such as int(1..5)")
            made |= self._bounds(int if word == "int" else float)
        return made

    def _object(self) -> dict[str, Any]:
        self._open("{")
        made = self.fields("}")
        self._close("}")
        return made

    def _items(self) -> dict[str, Any]:
        if self._next() == "{":
            return self._object()
        self._open("(", "list(str)")
        made = self._type()
        self._close(")")
        return made

    def _values(self) -> list[str]:
        """The values of an enum."""
        self._open("(", "enum(yes|no)")
        values = list[str]()
        while True:
            begun = self._at
            value = self._words()
            if not value and self._text[begun : self._at].strip() != '""':
                self._refuse("an empty value; write enum(yes|no)")
            if len(value) > 1 and value[0] == value[-1] == "'":
                self._refuse(f"the quotes would be part of the value {value}; write {value[1:-1]}, or double quotes")
            if value in values:
                self._refuse(f'the value "{value}" occurs twice; take one out')
            values.append(value)
            if not self._skip("|"):
                self._close(")", 'a value with a comma, a bar or a bracket stands in quotes, "…"')
                return values

    def _bounds(self, number: type[int] | type[float]) -> dict[str, Any]:
        self._open("(")
        least, dots, most = self._number(number), self._text.startswith("..", self._at), None
        if dots:
            self._at += 2
            most = self._number(number)
        if not dots or (least is None and most is None) or (least is not None and most is not None and least > most):
            self._refuse("these are no bounds; write int(1..5), int(1..) or int(..5)")
        self._close(")")
        return {name: bound for name, bound in (("minimum", least), ("maximum", most)) if bound is not None}

    def _number(self, number: type[int] | type[float]) -> int | float | None:
        self._take(_BLANK)
        text = self._take(_NUMBER)
        self._take(_BLANK)
        if number is int and "." in text:
            self._refuse("the bounds of an int are whole numbers; write float for others")
        return number(text) if text else None

    def _description(self) -> str:
        words = self._words()
        if not words:
            self._refuse("no description after the colon; write one, or take the colon out")
        if self._next() in tuple('|"()[]{'):
            self._refuse('a description with a comma, a bar, a bracket or a quote stands in quotes, "…"')
        return words

    def _refuse_type_after_colon(self, name: str) -> None:
        """Refuse what is no description but a type, which other languages have there."""
        self._take(_BLANK)
        if found := _TYPE.match(self._text, self._at):
            kind = _OTHER_WORDS.get(found[0], found[0])
            kind = {"enum": "enum(a|b)", "list": "list(str)"}.get(kind, kind)
            self._refuse(f"a type stands before the colon: {name} {kind}")
        found = _CHOICE.match(self._text, self._at)
        if found is not None:
            values = "|".join(value.strip() for value in found[0].split("|"))
            self._refuse(f"values to choose from stand before a colon: {name} enum({values})")

    def _words(self) -> str:
        """Text in quotes, or without."""
        self._take(_BLANK)
        if self._next() != '"':
            return self._take(_PLAIN).strip()
        found = _QUOTED.match(self._text, self._at)
        if found is None:
            self._refuse('the quote is not closed on its line; inside, write \\" and \\\\')
        self._at = found.end()
        self._take(_BLANK)
        return re.sub(r'\\(["\\])', r"\1", found[1])

    def _open(self, bracket: str, example: str = "") -> None:
        if not self._skip(bracket):
            self._refuse(f"no {bracket}; write {example}")

    def _close(self, bracket: str, otherwise: str = "") -> None:
        self._take(_BLANK)
        if not self._skip(bracket):
            self._refuse(f"no {bracket} here" + (f"; {otherwise}" if otherwise else ""))

    def _next(self) -> str:
        return self._text[self._at : self._at + 1]

    def _skip(self, mark: str) -> bool:
        is_there = self._next() == mark
        self._at += is_there
        return is_there

    def _take(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        text = found[0] if found else ""
        self._at += len(text)
        return text

    def _refuse(self, problem: str) -> NoReturn:
        rest = self._text[self._at : self._at + 20].split("\n")[0]
        where = f"at {rest!r}" if rest.strip() else "at the end"
        line = self._text.count("\n", 0, self._at) + 1
        in_line = f"line {line}, " if "\n" in self._text.strip() else ""
        raise UsageError(f"schema, {in_line}{where}: {problem}")


def _unknown_type(word: str) -> str:
    if word in _OTHER_WORDS:
        return f"write {_OTHER_WORDS[word]} for {word}"
    near = difflib.get_close_matches(word, _WORDS, 1)
    instead = f"did you mean {near[0]}? Types" if near else "types"
    return f"no such type; {instead} are {', '.join(_WORDS)} and {{…}}; words that describe follow a colon"


def _nullable(made: dict[str, Any]) -> dict[str, Any]:
    """The same type, or null."""
    nullable = made | {"type": [made["type"], "null"]}
    if "enum" in made:
        nullable["enum"] = [*made["enum"], None]
    return nullable
