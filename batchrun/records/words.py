"""How counts and durations are written for people, and how what others say is shown to them.

A gateway, a request file or a result file may hold anything: sequences that move the cursor, set a window's title or
forge a line of batchrun's, and marks that turn the order of the letters round. None of it reaches a screen or a report.
"""

from __future__ import annotations

import re

# Compiled where they are first used: the help must be there at once. ECMA-48: strings (OSC, DCS, SOS, PM, APC) up to
# their end, control sequences, other escapes, in 7 and in 8 bits.
_STRING = "(?:\x1b[\\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\\\|\x9c)"
_SEQUENCE = "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]?|\x1b[ -/]*[0-~]?"
_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
_BREAKS = "[\t\n\x0b\x0c\r\x85\u2028\u2029]+"
_UNSHOWN = f"{_STRING}|{_SEQUENCE}|[\x00-\x1f\x7f-\x9f{_BIDI}]"
_HALVES = "[\ud800-\udfff]"
_RAW_IN_JSON = f"[\x7f-\x9f\u2028\u2029{_BIDI}]"


def printable(text: str) -> str:
    """A text as one line that is safe to show: no control characters, escape sequences, bidi marks or line breaks."""
    if text.isprintable():  # as nearly all are
        return text
    return re.sub(_HALVES, "?", re.sub(_UNSHOWN, "", re.sub(_BREAKS, " ", text)))


def printable_lines(text: str) -> str:
    """A text of batchrun's own lines, each of them safe to show."""
    return "\n".join(map(printable, text.split("\n")))


def printable_json(encoded: bytes) -> bytes:
    """The same JSON, safe to show: what JSON writers leave as it is becomes an escape."""
    if encoded.isascii() and b"\x7f" not in encoded:
        return encoded
    return re.sub(_RAW_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", encoded.decode()).encode()


def counted(count: int, noun: str) -> str:
    """A count with its noun: `1 attempt`, `2,000 attempts`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters; one that was longer ends in `…`."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def duration(seconds: float) -> str:
    """A length of time: `4.2 s`, `1m 06s`, `2h 03m 04s`."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes:02}m {left:02}s" if hours else f"{minutes}m {left:02}s"


def clock_time(seconds: float) -> str:
    """A time that is left, for a glance: `05:12`, or `27:46:40` where it takes hours."""
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes:02}:{left:02}"
