"""Strings that match a regular expression of a JSON Schema.

Supports literals, escapes, classes, groups, alternatives, quantifiers and anchors. For look-arounds and
back-references, `example` raises `ValueError`, and the caller ignores the pattern. So it does for a pattern whose
strings take too many steps: a gateway that is busy with one cannot even be stopped.
"""

from __future__ import annotations

import random
import string
from dataclasses import dataclass

_DIGITS = string.digits
_WORD = string.ascii_lowercase + string.ascii_uppercase + string.digits + "_"
_PRINTABLE = string.ascii_letters + string.digits + " _-.,:"
_CLASSES = {"d": _DIGITS, "w": _WORD, "s": " "}
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "0": "\0"}


MOST_STEPS = 100_000  # a quarter of a second
_MOST_GROUPS = 50  # in one another


@dataclass
class Steps:
    """How many steps are left, for one string or several."""

    left: int = MOST_STEPS

    def take(self, count: int = 1) -> None:
        """Count steps. Raises `ValueError` when none are left."""
        self.left -= count
        if self.left < 0:
            raise ValueError("a pattern whose strings take too many steps")


def example(pattern: str, rng: random.Random, more: int = 3, steps: Steps | None = None) -> str:
    """A string that matches `pattern`. Raises `ValueError` if the pattern is not supported, or takes too many steps.

    `more` is how many repetitions an open-ended quantifier may add to its minimum.
    """
    reader = _Reader(pattern, rng, more, steps or Steps())
    text = reader.alternatives()
    if reader.position < len(pattern):
        raise ValueError(f"unexpected {pattern[reader.position]!r} in {pattern!r}")
    return text


@dataclass
class _Reader:
    """Reads the pattern once from left to right and makes an example on the way."""

    pattern: str
    rng: random.Random
    more: int
    steps: Steps
    position: int = 0
    groups: int = 0

    def peek(self) -> str:
        return self.pattern[self.position : self.position + 1]

    def take(self) -> str:
        if self.position >= len(self.pattern):
            raise ValueError(f"{self.pattern!r} ends too soon")
        self.position += 1
        return self.pattern[self.position - 1]

    def alternatives(self) -> str:
        branches = [self.sequence()]
        while self.peek() == "|":
            self.take()
            branches.append(self.sequence())
        return self.rng.choice(branches)

    def sequence(self) -> str:
        pieces = []
        while self.peek() not in ("", "|", ")"):
            pieces.append(self.repeated())
        return "".join(pieces)

    def repeated(self) -> str:
        start = self.position
        piece = self.atom()
        end = self.position
        least, most = self.quantifier()
        if (least, most) == (1, 1):
            return piece
        pieces = []
        after = self.position
        # The atom is read again for each repetition, so that [ab]{4} may give different letters.
        for _ in range(self.rng.randint(least, most)):
            self.position = start
            pieces.append(self.atom())
            assert self.position == end, "an atom is read the same way each time"
        self.position = after
        return "".join(pieces)

    def quantifier(self) -> tuple[int, int]:
        mark = self.peek()
        bounds = {"*": (0, self.more), "+": (1, 1 + self.more), "?": (0, 1)}.get(mark)
        if bounds is not None:
            self.take()
        elif mark == "{":
            bounds = self.braces()
        else:
            return 1, 1
        if self.peek() in ("?", "+"):
            self.take()
        return bounds

    def braces(self) -> tuple[int, int]:
        end = self.pattern.find("}", self.position)
        least, comma, most = self.pattern[self.position + 1 : end].partition(",")
        if end < 0 or not least.isdecimal() or not (most.isdecimal() or not most):
            raise ValueError(f"braces without numbers in {self.pattern!r}")
        self.position = end + 1
        if len(least + most) > 8:
            raise ValueError(f"too many repetitions in {self.pattern!r}")
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else int(least) + self.more

    def atom(self) -> str:
        self.steps.take()
        char = self.take()
        if char in "^$":
            return ""
        if char == "(":
            return self.group()
        if char == "[":
            return self.rng.choice(self.members())
        if char == ".":
            return self.rng.choice(_PRINTABLE)
        if char == "\\":
            return self.escape()
        if char in "*+?{":
            raise ValueError(f"nothing to repeat in {self.pattern!r}")
        return char

    def group(self) -> str:
        if self.peek() == "?":
            self.take()
            kind = self.take()
            if kind == "P":
                kind = self.take()
            if kind == "<" and self.peek() not in ("=", "!"):
                while self.take() != ">":
                    pass
            elif kind != ":":
                raise ValueError(f"a look-around or flag in {self.pattern!r}")
        self.groups += 1
        if self.groups > _MOST_GROUPS:
            raise ValueError("groups within groups without end")
        text = self.alternatives()
        self.groups -= 1
        self.steps.take(len(text) // 100)
        if self.take() != ")":
            raise ValueError(f"an open group in {self.pattern!r}")
        return text

    def escape(self) -> str:
        char = self.take()
        if char in _CLASSES:
            return self.rng.choice(_CLASSES[char])
        if char in "DWS":
            return self.rng.choice({"D": "abcxyz", "W": "-+ ", "S": _WORD}[char])
        if char in "bBAzZ":
            return ""
        return self.literal(char)

    def literal(self, char: str) -> str:
        """The character that an escape stands for."""
        if char in "xu":
            digits = 2 if char == "x" else 4
            return chr(int("".join(self.take() for _ in range(digits)), 16))
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char.isalnum():
            raise ValueError(f"an unknown escape in {self.pattern!r}")
        return char

    def members(self) -> str:
        """The characters of a class; its opening bracket has been read."""
        excluding = self.peek() == "^"
        if excluding:
            self.take()
        members = ""
        first = True
        while first or self.peek() != "]":
            first = False
            low = self.member()
            if self.peek() == "-" and self.pattern[self.position + 1 : self.position + 2] not in ("]", ""):
                self.take()
                members += _range(low, self.member())
            else:
                members += low
        self.take()
        if excluding:
            members = "".join(char for char in _PRINTABLE if char not in members)
        self.steps.take(len(members) // 20)
        if not members:
            raise ValueError(f"an empty class in {self.pattern!r}")
        return members

    def member(self) -> str:
        char = self.take()
        if char != "\\":
            return char
        escaped = self.take()
        if escaped in _CLASSES:
            return _CLASSES[escaped]
        return self.literal(escaped)


def _range(low: str, high: str) -> str:
    """All characters from `low` to `high`; of a wide range, only the first few hundred."""
    first, last = ord(low[-1]), ord(high[-1])
    if first > last:
        raise ValueError(f"a range from {low!r} to {high!r}")
    return "".join(map(chr, range(first, min(last, first + 400) + 1)))
