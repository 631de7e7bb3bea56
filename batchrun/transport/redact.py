"""What a gateway says, made safe to store and to show. Pure.

1. The key is redacted from it: as it is, in base64, with any of its characters escaped as in JSON, in URLs and in HTML.
   So it is from what a debugger shows of its header.
2. Its texts are one printable line each (`records/words.py`). This is the one place through which all of them come.
"""

from __future__ import annotations

import base64
import re
from typing import Any

from msgspec.structs import replace

from batchrun.records.outcome import Failure, Reply
from batchrun.records.words import printable

# A shorter key is a stand-in ("EMPTY", "test") that may be a word of any answer: taking it out would spoil those.
SHORTEST_SECRET = 12
IN_ITS_PLACE = "[the api key]"
START_BYTES = 12  # a short start is looked for ten times as fast as a whole key
# Letters and digits by how often answers have them. One byte is looked for ten times as fast again as a start.
_OFTEN_FIRST = b"etaoinsrhldcumfpgwyb_-0123v4567k89xSTAICEMPDRNBLFHGOWjUVqzYKJXZQ"
_BACKSLASH, _PERCENT, _AMPERSAND = b"\\%&"


class Secret(str):
    """A text that goes over the wire as it is, and that no `repr` shows: tracebacks with local variables have many."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(IN_ITS_PLACE)


class Redactor:
    """Takes the key, and what else is secret, out of texts, bodies and outcomes, and what must not reach a screen.

    Of a value such as `Bearer KEY` each long word is a secret by itself: that is what a gateway repeats.
    """

    def __init__(self, *secrets: str) -> None:
        words = {word for secret in secrets for word in (secret, *secret.split()) if len(word) >= SHORTEST_SECRET}
        secrets = tuple(sorted(words, key=len, reverse=True))
        spellings = [spelling for secret in secrets for spelling in _spellings(secret)]
        self._spellings = [(_rarest(spelling), spelling[:START_BYTES], spelling) for spelling in spellings]
        self._odd = re.compile("|".join(["[%\\\\&]", *(re.escape(spelling.decode()) for spelling in spellings)]))
        self._escapes = [_escaped(secret) for secret in secrets]

    def text(self, text: str) -> str:
        """A text of any length without the key, as one line that is safe to show."""
        return printable(self.body(text.encode(errors="replace")).decode())

    def body(self, body: bytes) -> bytes:
        """A body without the key, as it is, in base64, and with any of its characters escaped."""
        for rarest, start, spelling in self._spellings:
            if rarest in body and body.find(start) >= 0:  # `in` would first try bytes as a number
                body = body.replace(spelling, IN_ITS_PLACE.encode())
        if _BACKSLASH in body or _PERCENT in body or _AMPERSAND in body:
            for marks, escape, escaped in self._escapes:
                if any(body.find(mark) >= 0 for mark in marks) and escape.search(body):
                    body = escaped.sub(IN_ITS_PLACE.encode(), body)
        return body

    def outcome(self, outcome: Reply | Failure) -> Reply | Failure:
        """An outcome whose texts are safe: a gateway may put anything into any text. Its body is redacted before."""
        texts = _texts(outcome)
        if texts.isprintable() and not self._odd.search(texts):  # as it nearly always is
            return outcome
        values = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
        safe: dict[str, Any] = {name: self.text(text) for name, text in values.items() if isinstance(text, str)}
        return replace(outcome, **safe)


def _texts(outcome: Reply | Failure) -> str:
    """All texts of an outcome that a gateway chooses, in one."""
    code, request_id, model = outcome.error_code or "", outcome.request_id or "", outcome.model or ""
    if isinstance(outcome, Reply):
        return f"{code} {outcome.message} {request_id} {model} {outcome.service_tier or ''}"
    return f"{code} {outcome.type} {outcome.message} {request_id} {model}"


def _rarest(spelling: bytes) -> int:
    """The byte of a spelling that answers have least often; what is no letter or digit is rarer still."""
    return max(spelling, key=lambda byte: _OFTEN_FIRST.find(byte) % 256)


def _spellings(key: str) -> tuple[bytes, ...]:
    """A key as it is, and in base64, plain and for URLs, from each of the three places where it may begin in it."""
    plain = key.encode()
    spellings = [plain]
    for before in range(3):
        first, end = -(-before * 4 // 3), (before + len(plain)) * 8 // 6  # the characters that hold nothing else
        encoded = base64.b64encode(bytes(before) + plain)[first:end]
        spellings += [encoded, encoded.translate(bytes.maketrans(b"+/", b"-_")), encoded.replace(b"/", b"\\/")]
    return tuple(dict.fromkeys(spellings))


_ESCAPE = rb"(?:\\u00|%(?:25)?)"  # what stands before the code of a character: in JSON, in URLs, in URLs in URLs
_NAMED = {"&": b"amp", "<": b"lt", ">": b"gt", '"': b"quot"}  # as HTML has them
_QUOTED = '/"\\'  # characters that JSON escapes by a backslash alone


def _escaped(key: str) -> tuple[list[bytes], re.Pattern[bytes], re.Pattern[bytes]]:
    """How an escape of a character of the key begins, such an escape, and the key with any of its characters escaped,
    as in JSON, in URLs and in HTML."""
    quoted = [b"\\" + char.encode() for char in _QUOTED if char in key]
    codes = b"|".join(map(_code, dict.fromkeys(key)))
    entities = map(_entity, dict.fromkeys(key))
    escape = b"|".join([b"%b(?:%b)" % (_ESCAPE, codes), *entities, *map(re.escape, quoted)])
    named = [b"&%b;" % name for char, name in _NAMED.items() if char in key]
    return (
        [b"%", b"\\u00", b"&#", *named, *quoted],
        re.compile(escape),
        re.compile(b"".join(map(_plain_or_escaped, key))),
    )


def _plain_or_escaped(char: str) -> bytes:
    backslash = rb"\\?" if char in _QUOTED else b""
    return b"(?:%b%b|%b%b|%b)" % (backslash, re.escape(char.encode()), _ESCAPE, _code(char), _entity(char))


def _entity(char: str) -> bytes:
    """A pattern of a character as HTML may write it, by its number or its name."""
    name = b"|%b" % _NAMED[char] if char in _NAMED else b""
    return b"&(?:#[xX]0{0,5}%b|#0{0,5}%d%b);" % (_code(char), ord(char), name)


def _code(char: str) -> bytes:
    """A pattern of the two hex digits of a character, in either case."""
    return b"".join(b"[%b%b]" % (digit, digit.upper()) for digit in re.findall(rb".", b"%02x" % ord(char)))
