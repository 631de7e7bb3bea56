"""Two texts as one: the words that both have, those that only the first has, those that only the second has. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import StrEnum

_TOKEN = re.compile(r"\w+|\s+|[^\w\s]")
MOST_PAIRS = 4_000_000
"""Texts with more pairs of words between their common ends are shown as wholly different: comparing takes too long."""


class Kind(StrEnum):
    """Which of the texts has a piece."""

    SAME = "same"
    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words in a row, and who has them."""

    kind: Kind
    text: str


def word_diff(first: str, second: str) -> list[Piece]:
    """The pieces of two texts, in order. Those of the first and of both make the first, and so with the second."""
    ours, theirs = _TOKEN.findall(first), _TOKEN.findall(second)
    start = _common(ours, theirs)
    end = _common(ours[start:][::-1], theirs[start:][::-1])
    inner = (ours[start : len(ours) - end], theirs[start : len(theirs) - end])
    pieces = [
        Piece(Kind.SAME, "".join(ours[:start])),
        *_inner(*inner),
        Piece(Kind.SAME, "".join(ours[len(ours) - end :])),
    ]
    return [piece for piece in pieces if piece.text]


def _common(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many words both begin with."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(ours), len(theirs)))


def _inner(ours: Sequence[str], theirs: Sequence[str]) -> Iterator[Piece]:
    changes = [("replace", 0, len(ours), 0, len(theirs))]
    if len(ours) * len(theirs) <= MOST_PAIRS:
        changes = list(SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes())
    for change, a, b, c, d in changes:
        if change == "equal":
            yield Piece(Kind.SAME, "".join(ours[a:b]))
        else:
            yield Piece(Kind.FIRST, "".join(ours[a:b]))
            yield Piece(Kind.SECOND, "".join(theirs[c:d]))
