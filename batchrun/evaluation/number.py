"""Reads the number that a text states: that of a cell of gold, and the last one of an answer. Pure.

1. The point is the decimal mark. Commas, apostrophes and narrow blanks group digits in threes: `10,005`, `10'005`.
2. A number that cannot be told for certain is none: `0,5`, `10 005`, `2025-05-05`, `1.2.5`, `5/7`, `5 or 7`, `5k`. No
   earlier number of the text takes its place. Nor do `- 5`, `±5`, `<5`, `minus 5`, `½ 5` and `1 00` say one.
3. `10,005`, `1.234`, `50%` and `5 bps` have a second meaning elsewhere. `Doubtful` keeps it, so that nobody is told to
   be wrong for it.
"""

from __future__ import annotations

import math
import re
from typing import Any

_MARKS = str.maketrans(
    {
        "\N{MINUS SIGN}": "-",
        "\N{NON-BREAKING HYPHEN}": "-",
        "\N{FIGURE DASH}": "-",
        "\N{FULLWIDTH HYPHEN-MINUS}": "-",
        "\N{FULLWIDTH COMMA}": ",",
        "\N{FULLWIDTH FULL STOP}": ".",
        "\N{RIGHT SINGLE QUOTATION MARK}": "'",
        "\N{NO-BREAK SPACE}": "\N{NARROW NO-BREAK SPACE}",
        "\N{THIN SPACE}": "\N{NARROW NO-BREAK SPACE}",
    }
)
_LATEX = (("{,}", ","), (r"\,", "\N{NARROW NO-BREAK SPACE}"), (r"\%", "%"), (r"\$", "$"))
_NEAR = 200
"""Characters around the digits that may change what they mean."""
_BLANK = "[ \t\N{NARROW NO-BREAK SPACE}]"

_GROUPED = r"[1-9]\d{0,2}(?:(?:,\d{3})+|(?:'\d{3})+|(?:\N{NARROW NO-BREAK SPACE}\d{3})+)(?:\.\d+)?"
_CERTAIN = re.compile(rf"(?:(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)|{_GROUPED}")
_POINT_GROUPS = re.compile(r"[1-9]\d{0,2}(?:\.\d{3})+,\d+")  # 1.234,5: no other meaning is left
_ONE_POINT_GROUP = re.compile(r"[1-9]\d{0,2}\.\d{3}")
_ONE_COMMA_GROUP = re.compile(r"[1-9]\d{0,2},\d{3}")

# What stands between two groups of digits and makes one thing of them: a date, a range, a fraction, a sum.
_JOINT = (
    r"[eE][-+]?"
    r"|[.,'’:/_^·–—-]"
    r"|[ \N{NARROW NO-BREAK SPACE}](?=\d)"
    rf"|{_BLANK}*(?:\+/-|[-–—/×xX*^÷+±~]){_BLANK}*"
    rf"|{_BLANK}+(?:or|oder|to|bis|of|out of|von){_BLANK}+"
)
_RUN = re.compile(rf"\d+(?:(?:{_JOINT})\d+)*")
# Before the digits: a formula whose part they are, a dash that may be a minus.
_IN_FORMULA = re.compile(
    r"[\^_√]\{?$|\\[a-z]*(?:frac|sqrt|binom)(?:\s*[{\[][^{}\[\]]*[}\]])*\s*[{\[]?[^{}\[\]=]*$|\d\\?[,.]+$"
)
_LONE_DASH = re.compile(rf"[^\s-]{_BLANK}*-{_BLANK}+$")
# A sign or a word that changes the value: a bound, both signs, a minus apart from it. No arrow, and no end of a tag.
_CHANGED = re.compile(
    rf"(?:[±∓<≤≥≪≫¼-¾⅐-⅟]|(?<![-=>])>|\+/?-|-/?\+|[-–—]{_BLANK}*[$€£¥₹(]|^{_BLANK}*[-–—]{_BLANK}+"
    r"|\b(?:not|minus|negative|(?:less|more|fewer|greater|larger|smaller|higher|lower) than|at (?:least|most)|up to"
    r"|over|under|above|below|exceed(?:s|ed|ing)?|mindestens|höchstens|(?:mehr|weniger) als|über|unter))"
    rf"=?{_BLANK}*$",
    re.IGNORECASE,
)
_TAG = re.compile(rf"<[^<>]+>{_BLANK}*$")
_CURRENCY = re.compile(r"(?:USD|US|EUR|GBP|CHF|JPY|CNY|INR|AUD|CAD|Rs)$")
# After them: what changes the value.
_SCALED = re.compile(
    rf"\w*?[_²³¹⁰-₉¼-¾⅐-⅟①-⓿]|{_BLANK}*(?:[¼-¾⅐-⅟]|[百千万萬億亿兆年月日])"
    rf"|{_BLANK}*(?:hundred|thousand|million|billion|trillion|dozen|lakh|crore|tausend|milliarde"
    rf"|(?:mio|mrd|bn|mn|(?-i:k))\b)"
    rf"|\+|{_BLANK}+(?:or{_BLANK}+(?:more|less|fewer|above|below|over|under)|at{_BLANK}+(?:least|most)|below)\b",
    re.IGNORECASE,
)
_MONEY, _OF_MONEY = re.compile(rf"(?:[$€£¥₹]|\b(?:USD|EUR|GBP|CHF)){_BLANK}*$"), re.compile(rf"{_BLANK}*[KMBT]\b")
# What makes parts of it, where the parts themselves may be meant.
_PARTS = (
    (re.compile(rf"{_BLANK}*(?:%|per ?cent\b|pct\b|prozent\b)", re.IGNORECASE), 100),
    (re.compile(rf"{_BLANK}*‰"), 1_000),
    (re.compile(rf"{_BLANK}*(?:bps?|basis points?)\b", re.IGNORECASE), 10_000),
)


class Doubtful(float):
    """A number that is written in a way that means another one elsewhere; `other`: that one."""

    __slots__ = ("other",)
    other: float

    def __new__(cls, value: float, other: float) -> Doubtful:
        """The number that is meant by the rule, and the other one."""
        made = super().__new__(cls, value)
        made.other = other
        return made


def of_answer(value: Any) -> float | None:
    """The number that a value of an answer is, or the last number in a text; None where none can be told."""
    if isinstance(value, str):
        return last_number(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def of_gold(value: Any) -> float:
    """The number that a cell of gold is. Raises `ValueError` in words for another cell."""
    number = number_of(value) if isinstance(value, str) else of_answer(value)
    if number is None:
        raise ValueError(f"{value!r:.80} is no number, or cannot be told for certain; write digits and a decimal point")
    return float(number)


def number_of(text: str) -> float | None:
    """The number that a whole text is, such as a cell of gold; None where it is none, or cannot be told for certain."""
    told = _normal(text).strip()
    sign, digits = (told[0], told[1:]) if told[:1] in ("-", "+") else ("", told)
    return _value(sign, digits)


def last_number(text: str) -> float | None:
    """The last number that a text states; None where there is none, or where it cannot be told for certain."""
    told = _normal(text)
    for run in reversed(list(_RUN.finditer(told))):
        before, after = told[max(0, run.start() - _NEAR) : run.start()], told[run.end() : run.end() + _NEAR]
        digits, sign = run[0], ""
        if before.endswith("."):
            before, digits = before[:-1], f".{digits}"
        unsigned = before
        if before[-1:] in ("-", "+"):
            before, sign = before[:-1], before[-1]
        if _is_letter(before[-1:]) and not _CURRENCY.search(before):
            if digits.startswith("."):
                return None
            continue  # H2O, GPT-4: part of a name
        if _CHANGED.search(unsigned) and not _TAG.search(unsigned):
            return None
        if before[-1:] in (*"_.-+", "–", "—") or _is_digit(before[-1:]) or _IN_FORMULA.search(before):
            return None
        if (not sign and _LONE_DASH.search(before)) or _is_letter(after[:1]) or _SCALED.match(after):
            return None
        if _MONEY.search(before) and _OF_MONEY.match(after):
            return None
        return _in_parts(_value(sign, digits), after)
    return None


def _in_parts(value: float | None, after: str) -> float | None:
    """The number, with what it means as parts of a hundred where it is followed by such a word."""
    parts = next((parts for word, parts in _PARTS if word.match(after)), 0)
    return value if value is None or not parts else Doubtful(value, value / parts)


def _normal(text: str) -> str:
    """The text with one sign for each mark."""
    text = text.translate(_MARKS)
    for written, meant in _LATEX:
        text = text.replace(written, meant)
    return text


def _is_letter(character: str) -> bool:
    """A letter of a script with capitals. Others write no blanks around a number."""
    return character.lower() != character.upper()


def _is_digit(character: str) -> bool:
    return character.isdigit()


def _value(sign: str, digits: str) -> float | None:
    """The number that digits and their marks are; None where they are none for certain."""
    if _POINT_GROUPS.fullmatch(digits):
        return _finite(sign + digits.replace(".", "").replace(",", "."))
    if not _CERTAIN.fullmatch(digits):
        return None
    value = _finite(sign + re.sub("[,'\N{NARROW NO-BREAK SPACE}]", "", digits))
    if value is not None and _ONE_COMMA_GROUP.fullmatch(digits):
        return Doubtful(value, value / 1000)
    if value is not None and _ONE_POINT_GROUP.fullmatch(digits):
        return Doubtful(value, value * 1000)
    return value


def _finite(written: str) -> float | None:
    value = float(written)
    return value if math.isfinite(value) else None
