"""Values as the texts that scorers compare: as they stand, and word by word. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from unicodedata import normalize

import orjson


def as_text(value: Any) -> str | None:
    """A value as the text that is compared: trimmed, accents in one form; true and false as in JSON; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return (value if value.isascii() else normalize("NFC", value)).strip()
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() else float.__repr__(value)  # 1.10 of a table is 1.1, too
    return str(value) if isinstance(value, int) else _as_json(value)


def _as_json(value: Any) -> str:
    try:
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    except TypeError:  # a whole number beyond 64 bits, half a surrogate pair
        return repr(value)


class Truth(str):
    """`true` or `false`, which tables and models also write `TRUE` and `True`: equal however it is written."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.casefold() == other.casefold()

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self.casefold())


def exact_text(value: Any) -> str | None:
    """A value as `exact` compares it; None for null."""
    text = as_text(value)
    is_truth = text is not None and len(text) in (4, 5) and text.casefold() in ("true", "false")
    return Truth(text) if is_truth else text


# A number is one word, with its sign and its decimal point, and without the marks that group its digits.
_WORD = re.compile(r"(?:(?<![\w)\].-])[-±](?=\.?\d))?(?:(?<![\w.])\.(?=\d))?[^\W_]+(?:(?<=\d)[.,](?=\d)[^\W_]+)*")
_GROUPS = re.compile(r"(?<![\d.,])[1-9]\d{0,2}(?:,\d{3})+(?![\d,])")
_SIGNED_MONEY = re.compile(r"-[$€£¥₹](?=\.?\d)")
_LIST = re.compile(r"\d+(?:,\d+){2,}")
# What makes another number of one: a bound, a minus apart from it, and no dash of a list; the other half of a fraction.
_TAG = re.compile(r"</?[a-z][^<>]*>")
_CHANGED = re.compile(
    r"(?:(?:[<≤≥≪≫]|(?<![-=>])>)=?\s*"
    r"|\b(?:not|minus|negative|at (?:least|most)|(?:less|more|fewer|greater) than|up to)\s+"
    r"|[^\s\d-][ \t]*-[ \t]+|^\s*-[ \t]+(?![\s\S]*\n[ \t]*-[ \t]))(?=\.?\d)"
)
_FRACTION = re.compile(r"(?<![\d/.])(\d+)/(\d+)(?![\d/])")
_CHANGED_MARK = "changed"
_MINUS = str.maketrans(dict.fromkeys("\N{MINUS SIGN}\N{NON-BREAKING HYPHEN}\N{FULLWIDTH HYPHEN-MINUS}\N{EN DASH}", "-"))


@dataclass(frozen=True, slots=True)
class Phrase:
    """A text that is compared by its words: without case, punctuation and double spaces, with a space at either end.

    A number is a whole word, with its sign: neither `1.5` nor `-5` has the word `5`.
    """

    words: str
    text: str = field(compare=False)

    @classmethod
    def of(cls, value: Any) -> Phrase | None:
        """Of a value of JSON, None of null and of a text without a letter or a digit."""
        text = as_text(value) or ""
        words = _WORD.findall(_plain(text))
        return cls(f" {' '.join(words)} ", text) if words else None

    @classmethod
    def of_gold(cls, value: Any) -> Phrase:
        """Of a cell of gold. Raises `ValueError` in words where there is no word in it."""
        phrase = cls.of(value)
        if phrase is None:
            raise ValueError(f"{value!r} has no letter and no digit")
        return phrase

    def is_at_an_end_of(self, other: Phrase) -> bool | None:
        """The other one begins or ends with it; None where its number may be another one there, as in `<5`."""
        return self._is(_is_at_an_end, other)

    def is_in(self, other: Phrase) -> bool | None:
        """The other one has it somewhere; None where its number may be another one there, as in `1/3`."""
        return self._is(operator.contains, other)

    def _is(self, has: Callable[[str, str], bool], other: Phrase) -> bool | None:
        if not has(other.words, self.words):
            return False
        has_number = any(map(str.isdigit, self.words))
        return True if not has_number or has(_marked(other.text), _marked(self.text)) else None


def _is_at_an_end(words: str, of: str) -> bool:
    return words.startswith(of) or words.endswith(of)


def _plain(text: str) -> str:
    """The text without case, with one sign for each mark, and without the marks that group digits."""
    plain = _GROUPS.sub(lambda found: found[0].replace(",", ""), text.casefold().translate(_MINUS))
    plain = _LIST.sub(lambda found: found[0].replace(",", " "), plain)
    return _SIGNED_MONEY.sub("-", plain)


def _marked(text: str) -> str:
    """The words of a text, in which a number that may be another one has a mark before it."""
    plain = _CHANGED.sub(lambda found: f"{found[0]}{_CHANGED_MARK}", _TAG.sub(" ", _plain(text)))
    plain = _FRACTION.sub(rf"{_CHANGED_MARK}\1 {_CHANGED_MARK}\2", plain)
    return f" {' '.join(_WORD.findall(plain))} "
