"""How values are written into the cells of a table of text, and as JSON. Pure."""

from __future__ import annotations

import json
from base64 import b64encode
from datetime import date, time
from decimal import Decimal
from math import isfinite
from typing import Any

import msgspec
from msgspec import Raw


def cell_text(value: Any) -> str:
    """A value as the text of a cell: null is empty, lists and objects are JSON, and text is as it is.

    Times are as ISO 8601 has them, bytes in base64, both as in JSON.
    """
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, Raw):
        return bytes(value).decode(errors="replace")
    if type(value) in (bool, int, list, dict) or (type(value) is float and isfinite(value)):
        return json_text(value).decode()
    if isinstance(value, (date, time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return str(value)  # a number that is kept as it was written


def _as_written(value: Any) -> Any:
    """A number that is kept as it was written; anything else that JSON has no word for as text."""
    return Raw(str(value).encode()) if isinstance(value, float) else str(value)


_encode = msgspec.json.Encoder(decimal_format="number", enc_hook=_as_written).encode


def json_text(value: Any) -> bytes:
    """A value as JSON on one line. Half a surrogate pair in a text becomes an escape."""
    try:
        return _encode(value)
    except UnicodeEncodeError:
        return json.dumps(value).encode()
