"""A prescan of request lines: a quick look that recognizes lines that were checked and sent before.

Nearly everything that a check looks at is in the body. If the hash of the body is that of a line that was sent, it is
enough to check the few things beside the body. Every other line gets the full check, `records.request.read_request`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import msgspec
from msgspec import Raw

from batchrun.records.index import hash_bodies
from batchrun.records.rawjson import REFUSED
from batchrun.records.request import MAX_DEPTH, MAX_LINE_BYTES


class _Line(msgspec.Struct, gc=False):
    """The shape of nearly all lines: an id, a body, and the method and URL that are valid with every body."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1)]
    body: Raw
    method: Literal["POST"] = "POST"
    url: Literal["/v1/responses"] = "/v1/responses"


_decode = msgspec.json.Decoder(_Line).decode


def prescan(lines: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """The ids of lines and the hashes of their bodies. Both are "" for a line that needs the full check in any case.

    A line with an id is valid JSON as a whole.
    """
    ids, bodies = ids_and_bodies(lines)
    hashes = hash_bodies(bodies)
    return ids, hashes if all(ids) else [
        found if custom_id else "" for custom_id, found in zip(ids, hashes, strict=True)
    ]


def ids_and_bodies(lines: Sequence[bytes]) -> tuple[list[str], list[bytes | Raw]]:
    """The same, and the bodies themselves in place of their hashes."""
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()  # msgspec slices raw values without looking at their UTF-8
        decoded = list(map(_decode, lines))
    except REFUSED:
        return _one_by_one(lines)
    if max(map(len, lines), default=0) > 2 * MAX_DEPTH and any(map(_may_nest_too_deep, lines, decoded)):
        return _one_by_one(lines)
    return [line.custom_id for line in decoded], [line.body for line in decoded]


def _one_by_one(lines: Sequence[bytes]) -> tuple[list[str], list[bytes | Raw]]:
    if len(lines) == 1:
        return [""], [b""]
    ids, bodies = zip(*(ids_and_bodies([raw]) for raw in lines), strict=True)
    return list(chain(*ids)), list(chain(*bodies))


def _may_nest_too_deep(raw: bytes, line: _Line) -> bool:
    """Whether the part beside the body is long enough for that (a level takes two bytes), or the line is too long."""
    return len(raw) > MAX_LINE_BYTES or len(raw) - memoryview(line.body).nbytes > 2 * MAX_DEPTH
