"""Scorers: how an answer is held against gold. Pure, but for a function of the user's own.

A scorer reads gold and the answer, each into the value that is compared. An answer that cannot be read is unanswered;
gold that cannot be read is a mistake in the user's table, and an error.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from functools import cache
from typing import Any

from batchrun.errors import UsageError
from batchrun.evaluation.as_text import Phrase, Truth, as_text, exact_text
from batchrun.evaluation.choice import choice_reader
from batchrun.evaluation.number import Doubtful, of_answer, of_gold
from batchrun.records.answer import NotJsonError, parse_json, unfenced

WORDS = (
    "exact, casefold, choice(A-E), match, includes, regex(…), number(abs=…, rel=…), set, json, date, module:function"
)


class Kind(StrEnum):
    """What the values are: labels have classes and a confusion table, numbers have errors and ranks."""

    LABEL = "label"
    NUMBER = "number"
    OTHER = "other"


@dataclass(frozen=True, slots=True)
class Scorer:
    """How a field is scored.

    `read_gold` gives the value of a cell of gold, or raises `ValueError` in words. `read_answer` gives the value of an
    answer, None where it cannot be read. `is_right` compares the two; None is unanswered. `takes_many`: a list in gold
    holds several answers of which each is right.
    """

    name: str
    kind: Kind
    read_gold: Callable[[Any], Any]
    read_answer: Callable[[Any], Any]
    is_right: Callable[[Any, Any], bool | None] = lambda gold, answer: bool(gold == answer)
    takes_many: bool = True


class NoneRight:
    """A cell of gold for which no answer is right: a label was marked as wrong, and nobody knows the right one."""

    def __str__(self) -> str:
        return "none is right"


NONE_RIGHT = NoneRight()


def shown(value: Any) -> str:
    """A value that was read, as a person is shown it: a text as it was written, a set as gold has it."""
    if isinstance(value, (Phrase, _Unparsed)):
        return value.text
    if isinstance(value, frozenset):
        return "|".join(sorted(value)) or "[]"
    return value.isoformat() if isinstance(value, date) else as_text(value) or ""


def vote(value: Any) -> str:
    """The text by which repeats are counted: two that say the same have the same."""
    if isinstance(value, Truth):
        return value.casefold()
    return value.words if isinstance(value, Phrase) else shown(value)


def _text_of_gold(value: Any) -> str:
    return as_text(value) or ""


def _folded(value: Any) -> str | None:
    text = as_text(value)
    return None if text is None else " ".join(text.casefold().split())


def _truth(value: Any) -> str | None:
    text = (as_text(value) or "").casefold()
    return text if text in ("true", "false") else None


def _truth_of_gold(value: Any) -> str:
    if (text := _truth(value)) is None:
        raise ValueError(f"{value!r:.80} is not true or false")
    return text


# --------------------------------------------------------------------------------------------- numbers, dates


@cache
def number(most_apart: float = 0.0, most_apart_share: float = 0.0) -> Scorer:
    """Numbers that are apart by at most one of the two: an amount, or a share of gold.

    One whose other meaning is right, and that is wrong otherwise, cannot be told for certain.
    """

    def is_near(gold: float, answer: float) -> bool | None:
        bound = max(most_apart, most_apart_share * abs(gold))
        if abs(gold - answer) <= bound:
            return True
        return None if isinstance(answer, Doubtful) and abs(gold - answer.other) <= bound else False

    return Scorer("number", Kind.NUMBER, of_gold, of_answer, is_near)


def _date(value: Any) -> date | None:
    """An ISO date, or the date of an ISO time."""
    if not isinstance(value, str):
        return None
    try:
        return datetime.fromisoformat(value.strip()).date()
    except ValueError:
        return None


def _date_of_gold(value: Any) -> date:
    if (found := _date(value)) is None:
        raise ValueError(f"{value!r:.80} is not an ISO date, such as 2026-03-01")
    return found


# ------------------------------------------------------------------------------------------------ sets, JSON


def _set(value: Any) -> frozenset[str] | None:
    """The members of a list, also of one that a text is as JSON; null and an empty text are no members."""
    if isinstance(value, str):
        value = _parsed(value)
    return frozenset(filter(None, map(as_text, value))) if isinstance(value, list) else None


def _set_of_gold(value: Any) -> frozenset[str]:
    """A list of JSON, or the texts between bars."""
    if isinstance(value, str):
        value = _json_of_gold(value) if value.lstrip().startswith("[") else value.split("|")
    if (found := _set(value)) is None:
        raise ValueError(f"{value!r:.80} is not a list")
    return found


@dataclass(frozen=True, slots=True)
class _Unparsed:
    """A text that is not JSON, as an answer: a field may be a string, and an answer may be cut."""

    text: str


def _parsed(text: str) -> Any:
    """The JSON of a text, without the code fence around it; the text itself where it is none."""
    try:
        return parse_json(unfenced(text))
    except NotJsonError:
        return _Unparsed(text.strip())


def _json(value: Any) -> Any:
    return _parsed(value) if isinstance(value, str) else value


def _json_of_gold(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return parse_json(value)
    except NotJsonError as error:
        raise ValueError(f"{value!r:.80} is not JSON: {error}") from None


def _is_same_json(gold: Any, answer: Any) -> bool | None:
    """Whether two are equal as JSON; None for a text that is not JSON, unless it is a string that gold may be, too."""
    if isinstance(answer, _Unparsed):
        is_string = isinstance(gold, str) and not answer.text.startswith(("{", "[", '"', "```"))
        return gold == answer.text if is_string else None
    try:
        return _are_equal(gold, answer)
    except RecursionError:
        return None


def _are_equal(gold: Any, answer: Any) -> bool:
    """Equal as JSON: 1 and 1.0 are, 1 and true are not; the order of members does not matter."""
    if isinstance(gold, dict) and isinstance(answer, dict):
        return gold.keys() == answer.keys() and all(_are_equal(gold[name], answer[name]) for name in gold)
    if isinstance(gold, list) and isinstance(answer, list):
        return len(gold) == len(answer) and all(map(_are_equal, gold, answer))
    return isinstance(gold, bool) == isinstance(answer, bool) and bool(gold == answer)


# ---------------------------------------------------------------------------------------------------- texts


def regex(pattern: str) -> Scorer:
    """The last match in the answer, or what its first group holds, equals gold."""
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise UsageError(f"regex({pattern}): {error}") from None

    def find(value: Any) -> str | None:
        found = None
        for found in compiled.finditer(as_text(value) or ""):  # noqa: B007
            pass
        return None if found is None else as_text(found[1] if compiled.groups else found[0]) or None

    return Scorer("regex", Kind.LABEL, _text_of_gold, find)


_RAISED_BY_USERS = (Exception, SystemExit)
"""What code of the user's may raise: anything. It is raised again, with its place."""


class ScorerError(Exception):
    """A function of the user's raised something, or gave no verdict; the message says what."""


def of_function(name: str, told: Callable[[Any, Any], Any]) -> Scorer:
    """A scorer that is a function of the user's: `told(gold, answer)` gives True, False, or None where it cannot tell.

    `is_right` raises `ScorerError` where it fails.
    """

    def is_right(gold: Any, answer: Any) -> bool | None:
        try:
            verdict = told(gold, answer)
        except _RAISED_BY_USERS as error:
            what = " ".join(f"{type(error).__name__}: {error}".removesuffix(": ").split())
            raise ScorerError(f"{name} raised {what} for gold {gold!r:.100} and the answer {answer!r:.100}") from error
        if verdict is not None and not isinstance(verdict, bool):
            raise ScorerError(f"{name} gave {verdict!r:.100}; it must give True, False or None")
        return verdict

    return Scorer(name, Kind.OTHER, _as_it_is, _as_it_is, is_right, takes_many=False)


def function(spec: str) -> Scorer:
    """The scorer that is a function in a module, `module:function`. Raises `UsageError` if there is none."""
    module, _, name = spec.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except _RAISED_BY_USERS as error:
        what = str(error) if isinstance(error, (ImportError, AttributeError)) else f"{type(error).__name__}: {error}"
        raise UsageError(f"the scorer {spec}: {what}") from error
    if not callable(found) or inspect.isclass(found):
        raise UsageError(f"the scorer {spec} is no function")
    return of_function(spec, found)


def _as_it_is(value: Any) -> Any:
    return value


# ---------------------------------------------------------------------------------------------------- by name

EXACT = Scorer("exact", Kind.LABEL, lambda value: exact_text(value) or "", exact_text)
TRUTH = Scorer("exact", Kind.LABEL, _truth_of_gold, _truth)
SET = Scorer("set", Kind.OTHER, _set_of_gold, _set, takes_many=False)
JSON = Scorer("json", Kind.OTHER, _json_of_gold, _json, _is_same_json, takes_many=False)
_PLAIN = {
    scorer.name: scorer
    for scorer in (
        EXACT,
        SET,
        JSON,
        number(),
        Scorer("casefold", Kind.LABEL, lambda value: _folded(value) or "", _folded),
        Scorer("date", Kind.OTHER, _date_of_gold, _date),
        Scorer("match", Kind.OTHER, Phrase.of_gold, Phrase.of, Phrase.is_at_an_end_of),
        Scorer("includes", Kind.OTHER, Phrase.of_gold, Phrase.of, Phrase.is_in),
    )
}
_CALL = re.compile(r"(\w+)\((.*)\)", re.DOTALL)


def scorer_of(text: str) -> Scorer:
    """The scorer that a text names. Raises `UsageError` for another text."""
    if text in _PLAIN:
        return _PLAIN[text]
    called = _CALL.fullmatch(text)
    if called and called[1] == "regex":
        return regex(called[2])
    if called and called[1] == "choice":
        choices, read = choice_reader(called[2])
        return Scorer("choice", Kind.LABEL, _one_of(choices), lambda value: read(as_text(value) or ""))
    if called and called[1] == "number":
        return _number_with(text, called[2])
    if re.fullmatch(r"[\w.]+:\w+", text):
        return function(text)
    raise UsageError(f"there is no scorer {text!r}; the scorers are {WORDS}")


def _one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        text = (as_text(value) or "").upper()
        if text not in choices:
            raise ValueError(f"{value!r:.80} is none of the choices {', '.join(choices)}")
        return text

    return read


def _number_with(text: str, told: str) -> Scorer:
    tolerances = {"abs": 0.0, "rel": 0.0}
    for part in filter(None, map(str.strip, told.split(","))):
        name, _, value = map(str.strip, part.partition("="))
        try:
            tolerance = float(value)
        except ValueError:
            tolerance = math.nan
        if name not in tolerances or not 0 <= tolerance < math.inf:
            raise UsageError(f"{text}: write number(abs=0.5), number(rel=0.01), or both")
        tolerances[name] = tolerance
    return number(tolerances["abs"], tolerances["rel"])
