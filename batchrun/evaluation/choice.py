"""Reads which of some choices an answer states: `choice(A-E)`. Pure.

The last stated choice counts. An answer that could be read in two ways is no answer: a guess would be a false figure.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from batchrun.errors import UsageError

_SAYS = r"(?i:(?:final\s+)?(?:answer|choice|option)\b(?:\s+is\b)?\s*:?\s*)"
_AND = r"(?:or|and|oder|und|maybe|perhaps)"
# What begins a second thought, and what may stand around a choice that is a clause or a line of its own.
_TURN = r"(?:(?i:wait|no|actually|sorry|rather|correction|instead|i mean|hmm+|make that)\b[\s,:.!–—-]{0,4}){0,3}"
_MARKS = r"[ \t*_\"'()\[\]]{0,9}"
# A choice beside such a word may be the one that it is not.
_WRONG = r"wrong|incorrect|false|worst|avoid\w*|reject\w*|eliminat\w*|exclud\w*|rul\w+\s+out"
_IN_DOUBT = re.compile(
    rf"\b(?:not|none|neither|never|cannot|nor|no|nicht|kein\w*|could|might|refuse|{_WRONG})\b|n['’]t\b|\bexcept\b",
    re.IGNORECASE,
)
_DENIED = re.compile(
    r"[\s)*_\"'\]}:,;–-]*(?:(?:which|that)\s+)?(?:(?:(?:is|are|was|seems|looks|would\s+be)\s+(?:\w+\s+)?)?"
    r"(?:wrong|incorrect|false)\b|(?:is|was)\s+(?:not|out)\b|isn['’]t\b|fail(?:s|ed)\b)",
    re.IGNORECASE,
)
_DENIED_AHEAD = re.compile(rf"\b(?:{_WRONG})\s+(?:the\s+)?$", re.IGNORECASE)
_NEAR = 60
"""Characters before a statement that may deny it."""
# What a choice in a sentence stands between where the sentence states it: `Plan B failed` and `A dog` do not.
_CHOOSES = (
    r"(?:^|[\n:=→]|[.,;!]\s|\s[-–—>]\s|\\boxed\{"
    r"|(?i:\b(?:is|be|it['’]s|choose|chose|pick|select|say|guess|think|go(?:ing)?\s+with|option|choice|letter|ist)\s))"
)
_CHOSEN = (
    r"[ \t*_\"'\]}]{0,9}(?:[.,;:!)\n]|$|\s[-–—]\s|\s(?i:because|since)\b"
    r"|\s(?i:is|seems|looks|must\s+be|would\s+be)\s+(?i:the\s+)?(?i:right|correct|best|answer|true)\b)"
)
# A letter that is an initial: `E. coli`, `A. J. Foyt`. Of `B. mitochondria` nothing tells it from a choice.
_SPECIES = (
    r"\.[ \t]?(?:coli|elegans|thaliana|cerevisiae|melanogaster|aureus|pylori|difficile|botulinum|albicans|anthracis"
    r"|subtilis|cholerae|falciparum|sapiens|erectus)\b"
)
_INITIALS = rf"\.[ \t]?[A-Z](?!{_SPECIES})\."


def choice_reader(told: str) -> tuple[tuple[str, ...], Callable[[str], str | None]]:
    """The choices that a text names (`A-E`, or `A|B|C`), and a function that finds one of them in an answer.

    Raises `UsageError` for another text.
    """
    choices = _choices(told)
    one = f"(?:{'|'.join(map(re.escape, choices))})"
    small = rf"(?i:{one})(?=[\s*_\"')\]}}]*(?:[.,;:!]|$))"  # "a" is a word, but at the end of a sentence
    mark = rf"[\s(*_\"'\[{{]*({one}|{small})(?![\w']|{_SPECIES})"
    stated = re.compile(
        rf"\b{_SAYS}{mark}(?!\s*\?)(?:[\s)*_\"'\]}}.]*(?:\b{_AND}\b|[-,;&/|+–])(?:\s*{_AND}\b)?{mark})?"
    )
    alone = re.compile(rf"\W*({one})\W*", re.IGNORECASE)
    in_sentence = re.compile(rf"{_CHOOSES}{_MARKS}(?:{one})(?![\w']|{_SPECIES}|{_INITIALS}){_CHOSEN}")
    named = re.compile(rf"(?<![\w'])({one})(?![\w'])")
    clause = re.compile(rf"[.,;:!?)]{_MARKS}{_TURN}({one}){_MARKS}(?:[.;!?\n]|$)")
    on_its_line = re.compile(
        rf"^{_MARKS}{_TURN}({one}){_MARKS}[.;!?]*{_MARKS}$", re.MULTILINE
    )  # and no label of a list

    def read(text: str) -> str | None:
        if whole := alone.fullmatch(text):
            return whole[1].upper()
        if statements := list(stated.finditer(text)):
            start, end = statements[-1].span()
            if _DENIED.match(text, end) or _DENIED_AHEAD.search(text, max(0, start - _NEAR), start):
                return None
            first, second = statements[-1].groups(default="")
            rest = text[statements[-1].end() :]
            said = {first.upper(), second.upper(), *clause.findall(rest), *on_its_line.findall(rest)} - {""}
            return first.upper() if len(said) == 1 else None
        lines = [line for line in text.split("\n") if line.strip()]
        if lines and (last := alone.fullmatch(lines[-1])):
            others = {other[1].upper() for line in lines if (other := alone.fullmatch(line))}
            return last[1].upper() if len(others) == 1 else None
        if _IN_DOUBT.search(text) or re.search(rf"\b{one}\s*\?", text):
            return None
        found = set(named.findall(text))
        return found.pop() if len(found) == 1 and in_sentence.search(text) else None

    return choices, read


def _choices(told: str) -> tuple[str, ...]:
    span = re.fullmatch(r"([A-Z])-([A-Z])", told)
    choices = [chr(code) for code in range(ord(span[1]), ord(span[2]) + 1)] if span else told.split("|")
    if len(choices) < 2 or len(set(choices)) < len(choices) or not all(re.fullmatch(r"[A-Z0-9]+", c) for c in choices):
        raise UsageError(f"choice({told}): write choice(A-E), or choice(A|B|C) with capital letters and digits")
    return tuple(choices)
