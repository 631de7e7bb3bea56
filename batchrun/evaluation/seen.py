"""Which fields the answers of a file have, by all of its answers: the same in any order of the records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any

from batchrun.evaluation.fields import ANSWER, MIXED, TEXT, is_plain
from batchrun.evaluation.scorers import EXACT, JSON, SET, TRUTH, Scorer, number
from batchrun.records.answer import Result, json_text_of

_DEEPEST = 20  # levels of objects whose members are fields
_MOST_NAMES = 1_000  # fields that are looked for where no table says which
_SHOWN = 20
_NEARLY_ALL = 0.9
_KINDS = {bool: "bool", int: "number", float: "number", list: "list", dict: "object"}
_SCORERS = {"bool": TRUTH, "number": number(), "list": SET}


class SeenFields:
    """What the answers look like. `objects`: how many are one, `texts`: how many are plain texts.

    `wanted`: the names that may be fields; None: all that are no objects themselves.
    """

    def __init__(self, results: Iterable[Result], wanted: Collection[str] | None = None) -> None:
        self.objects = self.texts = 0
        self._kinds: dict[str, Counter[str]] = {}
        self._others: set[str] = set()
        self._wanted = None if wanted is None else frozenset(wanted)
        for result in results:
            if result.outcome == "succeeded":
                self._add(result)

    def _add(self, result: Result) -> None:
        value = result.parsed
        if type(value) is dict:
            self.objects += 1
            self._add_object(value)
        elif value is not None or is_plain(json_text_of(result.body)):
            self.texts += 1

    def _add_object(self, value: dict[str, Any]) -> None:
        for name, member in _members(value):
            kinds = self._kinds.get(name)
            if kinds is None:
                if not self._is_wanted(name):
                    continue
                kinds = self._kinds[name] = Counter()
            if member is not None:
                kinds[_KINDS.get(type(member), "text")] += 1

    def _is_wanted(self, name: str) -> bool:
        if self._wanted is None:
            return len(self._kinds) < _MOST_NAMES
        if name in self._wanted:
            return True
        if len(self._others) < _SHOWN:
            self._others.add(name)
        return False

    @property
    def has_texts(self) -> bool:
        """Whether the field `answer` is the text of an answer, and not a member of it.

        It is where no answer has such a member, or no more have one that is not null than are plain texts.
        """
        return ANSWER not in self._kinds or 0 < self.texts >= self._kinds[ANSWER].total()

    @property
    def answer_scorer(self) -> Scorer:
        """How the field `answer` is scored where nobody has told it, and its values do not tell."""
        if not self.has_texts:
            return EXACT
        return MIXED if ANSWER in self._kinds else TEXT

    @property
    def are_objects(self) -> bool:
        """Whether most answers are objects without a member `answer`: then no text is meant as one."""
        return self.objects > self.texts and ANSWER not in self._kinds

    @property
    def names(self) -> list[str]:
        """The fields, and some members that are not wanted; not `answer` where that is a text."""
        return sorted({*self._kinds, *self._others} - ({ANSWER} if self.has_texts else set()))

    def kinds(self, name: str) -> Counter[str]:
        """How many values of a field are of which kind; none where the field is a text."""
        return Counter() if name == ANSWER and self.has_texts else self._kinds.get(name, Counter())

    def scorers(self) -> dict[str, Scorer]:
        """The scorer that suits most values of each field that has any; of as many, the one for texts."""
        return {name: _scorer_for(kinds) for name in sorted(self._kinds) if (kinds := self.kinds(name))}

    def without_value(self) -> list[str]:
        """The fields that are null wherever an answer has them."""
        return sorted(name for name, kinds in self._kinds.items() if not kinds)


def scorers_of_all(seen: Sequence[SeenFields]) -> dict[str, Scorer]:
    """The scorer that suits most values of all files, of each field that has some in every file."""
    found = {}
    for name in sorted(set[str]().union(*(one._kinds for one in seen))):
        kinds = [one.kinds(name) for one in seen]
        if all(kinds):
            found[name] = _scorer_for(sum(kinds, Counter()))
    return found


def _members(value: dict[str, Any], prefix: str = "", levels: int = _DEEPEST) -> Iterator[tuple[str, Any]]:
    for name, member in value.items():
        yield f"{prefix}{name}", member
        if type(member) is dict and levels:
            yield from _members(member, f"{prefix}{name}.", levels - 1)


def _scorer_for(kinds: Counter[str]) -> Scorer:
    """An object among labels is one model's rubbish, so objects are compared where nearly all values are some."""
    if kinds["object"] >= _NEARLY_ALL * kinds.total():
        return JSON
    kind = max(kinds.keys() - {"object"}, key=lambda kind: (kinds[kind], kind == "text", kind))
    return _SCORERS.get(kind, EXACT)
