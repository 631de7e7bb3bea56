"""Why a line is not JSON, in words that say what to do."""

from __future__ import annotations

import json
import re


def why_not_json(raw: bytes, why: str) -> str:
    """What is wrong with bytes that are not JSON, and what to do; `why` is what the parser said."""
    if (place := _bom_outside_strings(raw)) is not None:
        return f"byte order mark (U+FEFF) at byte {place + 1}, which is not JSON; take out these three bytes"
    if b"\0" in raw:
        return "NUL bytes, not JSON; was the file cut off by a crash, or saved as UTF-16?"
    constants: list[str] = []
    try:
        json.loads(raw.decode(), parse_constant=constants.append)
    except (ValueError, RecursionError):
        pass
    else:
        if not constants:  # Python's own reader accepts more than JSON: NaN and Infinity, and lone surrogates
            return "half of a surrogate pair (\\ud800 to \\udfff) in a string; write the whole character"
    if constants:
        return f"not JSON: {constants[0]} is not a JSON value; write null or a number"
    return f"not JSON ({why.removeprefix('JSON is malformed: ')}); write one JSON object a line"


def _bom_outside_strings(raw: bytes) -> int | None:
    """Where a byte order mark stands between the values, as where files were put together; None if nowhere."""
    place = re.sub(rb'"(?:[^"\\]|\\.)*"', lambda string: b"_" * len(string[0]), raw).find(b"\xef\xbb\xbf")
    return place if place >= 0 else None
