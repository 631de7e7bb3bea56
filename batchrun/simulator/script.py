"""The fault script: says what happens to which attempt of which request.

    "429 429 ok; reset ok; stall"

A script has lines separated by `;`, and a line has words separated by spaces. The k-th distinct request (by its body,
in order of arrival) follows the k-th line, and its n-th attempt gets the n-th word. Attempts after the last word
succeed. If there are more requests than lines, the lines start over, unless the script ends with `!`: then the other
requests succeed. The words are in `fault_words.py`.

    429@2       an error with `Retry-After: 2`; the text after `@` is sent unchanged
    500*3       three times; `*` without a number means for ever
    crlf+split  two changes to the same answer
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from batchrun.simulator.fault_words import ANSWER_WORDS, ERROR_WORDS, is_known
from batchrun.simulator.seeds import share_of

_WORD = re.compile(r"(?P<names>[a-z0-9+]+)(?:@(?P<retry_after>[^\s;*]+))?(?P<times>\*\d*)?")
_ENDLESS = -1


@dataclass(frozen=True)
class Word:
    """What happens to one attempt. `retry_after` is the text of the header; None leaves it to the gateway."""

    names: tuple[str, ...]
    retry_after: str | None = None

    def __contains__(self, name: str) -> bool:
        return name in self.names

    def __str__(self) -> str:
        at = "" if self.retry_after is None else f"@{self.retry_after}"
        return "+".join(self.names) + at

    @property
    def is_error(self) -> bool:
        """Whether it is an HTTP error, by name or by status."""
        return self.names[0] in ERROR_WORDS or self.names[0].isdecimal()

    @property
    def is_answer(self) -> bool:
        """Whether the model answers, even if the answer arrives damaged."""
        return self.names[0] in ANSWER_WORDS


OK = Word(("ok",))


@dataclass(frozen=True)
class ScriptLine:
    """The words of one request, each with the number of attempts that get it (-1: all further ones)."""

    words: tuple[tuple[Word, int], ...]

    def word_at(self, attempt: int) -> Word:
        """The word for attempt number `attempt`, from 1."""
        passed = 0
        for word, times in self.words:
            passed += times
            if times == _ENDLESS or attempt <= passed:
                return word
        return OK


@dataclass(frozen=True)
class FaultScript:
    """A parsed script. `cycles` tells whether the lines start over for requests after the last line."""

    lines: tuple[ScriptLine, ...]
    cycles: bool = True

    def word_at(self, index: int, attempt: int) -> Word:
        """The word for distinct request number `index` (from 0) at its attempt number `attempt` (from 1)."""
        if not self.lines or (index >= len(self.lines) and not self.cycles):
            return OK
        return self.lines[index % len(self.lines)].word_at(attempt)


def parse_script(text: str) -> FaultScript:
    """Read a script. Raises `ValueError` that names the first unknown word."""
    text = text.strip()
    cycles = not text.endswith("!")
    text = text.removesuffix("!").strip()
    if not text:
        return FaultScript(())
    return FaultScript(tuple(_parse_line(line) for line in text.removesuffix(";").split(";")), cycles)


def _parse_line(line: str) -> ScriptLine:
    return ScriptLine(tuple(_parse_repeated(text) for text in line.split()))


def _parse_repeated(text: str) -> tuple[Word, int]:
    match = _WORD.fullmatch(text)
    if match is None:
        raise ValueError(f"fault script: {text!r} is not a word")
    names = tuple(match["names"].split("+"))
    _check_names(names, text)
    times = match["times"]
    repeat = 1 if times is None else _ENDLESS if times == "*" else int(times[1:])
    return Word(names, match["retry_after"]), repeat


def _check_names(names: tuple[str, ...], text: str) -> None:
    for name in names:
        if not is_known(name):
            raise ValueError(f"fault script: unknown word {text!r}")
    if len(names) > 1 and not ANSWER_WORDS.keys() >= set(names):
        raise ValueError(f"fault script: {text!r} joins words that do not go together")


def parse_words(words: Iterable[str]) -> tuple[Word, ...]:
    """Read the words to draw from; their repetitions are ignored. Raises `ValueError` for an unknown word."""
    return tuple(_parse_repeated(word)[0] for word in words)


class FaultPlan:
    """Gives each attempt its word: that of the script, or, if that is `ok`, perhaps a random one."""

    def __init__(self, script: str, rate: float, words: Iterable[str], seed: int) -> None:
        self._script = parse_script(script)
        self._rate = rate
        self._words = parse_words(words)
        self._seed = seed
        self._attempts: dict[bytes, tuple[int, int]] = {}

    @property
    def is_empty(self) -> bool:
        """Whether nothing will ever go wrong."""
        return not self._script.lines and not self._rate

    def next_word(self, sha: bytes) -> Word:
        """The word for one more attempt of the request with this digest."""
        if self.is_empty:
            return OK
        key = sha[:16]
        index, attempt = self._attempts.get(key, (len(self._attempts), 0))
        attempt += 1
        self._attempts[key] = (index, attempt)
        word = self._script.word_at(index, attempt)
        # The draw depends only on the request and the attempt, so that a concurrent run gets the same faults.
        if word == OK and self._rate and share_of(self._seed, b"fault", sha, attempt) < self._rate:
            word = self._words[int(share_of(self._seed, b"word", sha, attempt) * len(self._words))]
        return word
