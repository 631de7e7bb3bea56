"""Recognizes a file that holds no request lines at all, so that one sentence says what it is. Pure."""

from __future__ import annotations

import shlex

import msgspec

_MAGIC = {
    b"PK\x03\x04": "a zip archive; a workbook of Excel is for batchrun prepare, of others take out what is in it",
    b"PAR1": "a Parquet file; make requests of it with batchrun prepare",
    b"BZh": "compressed with bzip2; unpack it first: bunzip2",
    b"\xfd7zXZ": "compressed with xz; unpack it first: unxz",
    b"%PDF": "a PDF",
    b"SQLite format 3": "a SQLite database; export it as JSON lines",
}


class _Line(msgspec.Struct, gc=False):
    """What tells a line of another kind from a request line."""

    response: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    result: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    body: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    custom_id: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_decode = msgspec.json.Decoder(_Line).decode


def recognize(start: bytes, name: str) -> str | None:
    """What a file is that begins with `start`, and the way out; None for what may be request lines.

    Only for a file whose first line is no request.
    """
    file = "FILE" if name == "standard input" else shlex.quote(name)
    for magic, what in _MAGIC.items():
        if start.startswith(magic):
            return what
    if encoding := _utf_16_or_32(start):
        return f"{encoding}; convert it: iconv -f {encoding} -t UTF-8 {file} > requests.jsonl"
    first = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    line = first.split(b"\n", 1)[0].strip()
    is_whole = line.endswith(b"]") and first.strip() != line  # an array on each line, perhaps
    if line.startswith(b"[") and first[1:].lstrip().startswith(b"{") and not is_whole:
        return f"a JSON array; write one object a line: jq -c '.[]' {file} > requests.jsonl"
    if line == b"{" or (line.startswith(b"{") and first.startswith(b"{\n")):
        return f"JSON over several lines; write one object a line: jq -c . {file} > requests.jsonl"
    if line.startswith((b"<!", b"<html", b"<?xml", b"<HTML")):
        return "a web page or XML; was it downloaded as it should be?"
    if line.startswith(b"{"):
        return _other_lines(line)
    if _is_table(first):
        return f"a table (CSV or the like); make requests of it: batchrun prepare {file} -p TEMPLATE -o requests.jsonl"
    return None


def _utf_16_or_32(start: bytes) -> str | None:
    if start.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "UTF-32"
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "UTF-16"
    if start[:1] in (b"{", b"[") and start[1:2] == b"\0":
        return "UTF-16LE"
    return "UTF-16BE" if start[:1] == b"\0" and start[1:2] in (b"{", b"[") else None


def _other_lines(line: bytes) -> str | None:
    """What JSON lines are that are no requests."""
    try:
        fields = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if fields.body is not msgspec.UNSET or fields.custom_id is msgspec.UNSET:
        return None
    if fields.response is not msgspec.UNSET or fields.result is not msgspec.UNSET:
        return "a file of answers, not of requests; pass the request file, and this one with -o"
    if fields.params is not msgspec.UNSET:
        return 'a batch file for Anthropic\'s API; write "body" for "params", and its fields as the OpenAI API has them'
    return None


def _is_table(text: bytes) -> bool:
    """Whether the first two lines have the same separators, at least one, and no JSON in front."""
    lines = [line for line in text.split(b"\n")[:3] if line.strip()][:2]
    head = lines[0] if lines else b""
    return bool(head) and not head.startswith((b"{", b'"{')) and any(mark in head for mark in (b",", b"\t", b";", b"|"))
