"""A prescan of request lines: a quick look that recognizes lines that were checked and sent before.

Nearly everything that a check looks at is in the body. If the hash of the body is that of a line that was sent, it is
enough to check the few things beside the body. Every other line gets the full check, `records.request.read_request`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Annotated, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from batchrun.records.index import hash_bodies
from batchrun.records.rawjson import REFUSED
from batchrun.records.request import MAX_DEPTH, MAX_LINE_BYTES

_Url = Literal["/v1/responses"]
_URL: _Url = "/v1/responses"


class _Line(msgspec.Struct, gc=False):
    """The shape of nearly all lines: an id, a body, and the method and URL that are valid with every body."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1)]
    body: Raw
    method: Literal["POST"] = "POST"
    url: _Url | UnsetType = UNSET
    endpoint: Raw | UnsetType = UNSET


_decode = msgspec.json.Decoder(_Line).decode
_NEEDS_THE_CHECK = _Line("", Raw(b""))
_SCHEMA, _MESSAGES = b"json_", b'"messages"'


class Prescan(NamedTuple):
    """What a prescan tells: the ids of lines, the hashes of their bodies, and the sizes of these in bytes.

    Id and hash are "" for a line that needs the full check in any case. A line with an id is valid JSON as a whole.
    `body_bytes` may be read once.
    """

    ids: list[str]
    body_hashes: list[str]
    body_bytes: Iterable[int]


def prescan(lines: Sequence[bytes]) -> Prescan:
    """Look at some lines."""
    found = _decoded(lines)
    bodies = [line.body for line in found]
    ids, hashes = _of_checked([line.custom_id for line in found], hash_bodies(bodies))
    return Prescan(ids, hashes, map(_size_of, bodies))


def prescan_plain(lines: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """The same, and "" as well for a line of which the body alone does not tell that an old answer to it will do: one
    that asks for a schema, names its endpoint, or goes by its body to another URL."""
    found = _decoded(lines)
    hashes = hash_bodies([line.body for line in found])
    if [line.endpoint for line in found].count(UNSET) < len(found) or any(_marks_in(b"".join(lines), found)):
        found = [
            _NEEDS_THE_CHECK if line.endpoint is not UNSET or any(_marks_in(raw, [line])) else line
            for raw, line in zip(lines, found, strict=True)
        ]
    return _of_checked([line.custom_id for line in found], hashes)


def _marks_in(raw: bytes, found: Sequence[_Line]) -> Iterator[bool]:
    """Whether some lines, which have these bytes, may ask for a schema; or, without a URL, for a chat."""
    yield _SCHEMA in raw
    yield [line.url for line in found].count(_URL) < len(found) and _MESSAGES in raw


def _of_checked(ids: list[str], hashes: list[str]) -> tuple[list[str], list[str]]:
    """The ids with the hashes, which are "" where there is no id."""
    return ids, hashes if all(ids) else [
        found if custom_id else "" for custom_id, found in zip(ids, hashes, strict=True)
    ]


def _size_of(body: Raw) -> int:
    return memoryview(body).nbytes


def _decoded(lines: Sequence[bytes]) -> list[_Line]:
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()  # msgspec slices raw values without looking at their UTF-8
        decoded = list(map(_decode, lines))
    except REFUSED:
        return _one_by_one(lines)
    if max(map(len, lines), default=0) > 2 * MAX_DEPTH and any(map(_may_nest_too_deep, lines, decoded)):
        return _one_by_one(lines)
    return decoded


def _one_by_one(lines: Sequence[bytes]) -> list[_Line]:
    if len(lines) == 1:
        return [_NEEDS_THE_CHECK]
    return [line for raw in lines for line in _decoded([raw])]


def _may_nest_too_deep(raw: bytes, line: _Line) -> bool:
    """Whether the part beside the body is long enough for that (a level takes two bytes), or the line is too long."""
    return len(raw) > MAX_LINE_BYTES or len(raw) - _size_of(line.body) > 2 * MAX_DEPTH
