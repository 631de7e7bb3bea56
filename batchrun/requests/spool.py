"""Requests from Python, written to a temporary file as the lines that a request file would have.

A check reads all requests before the first is sent, and sending reads them again. Requests may come from a generator,
which gives them once, and need not fit into memory: so they go to disk as they come.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Mapping
from typing import IO

import orjson

from batchrun.errors import InputError

NAME = "requests"  # what messages call them: `requests:3` is the third


def spooled(requests: Iterable[Mapping[str, object]]) -> IO[bytes]:
    """A nameless file with one line for each request, in their order.

    Raises `InputError` for a request that is no dict or no JSON, and where there is none.
    """
    file = tempfile.TemporaryFile(buffering=1 << 17)  # noqa: SIM115
    try:
        for number, request in enumerate(requests, 1):
            file.write(_line(number, request) + b"\n")
        if not file.tell():
            raise InputError([f"{NAME}: there are none; a generator gives its requests once, so make a new one"], 1)
        file.seek(0)
    except BaseException:
        file.close()
        raise
    return file


def _line(number: int, request: object) -> bytes:
    where = f"{NAME}:{number}"
    if not isinstance(request, Mapping):
        kind = type(request).__name__
        raise InputError([f'{where}: a {kind}, not a dict; write {{"model": "gpt-4.1", "input": "…"}}'], 1)
    try:
        fields = request if isinstance(request, dict) else dict(request)
        line = _encoded(fields)
        if b"null" in line:  # orjson writes NaN as null
            json.dumps(request, default=str, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError([f"{where}: not JSON ({error})"], 1) from None
    return line


def _encoded(fields: dict[str, object]) -> bytes:
    try:
        return orjson.dumps(fields)
    except TypeError as error:
        if "64-bit" not in str(error):
            raise
        return json.dumps(fields, ensure_ascii=False, allow_nan=False).encode()
