"""A prescan of request lines: enough to tell that they are ones which were sent before, and checked then.

What makes a line fit to be sent lies in its body, but for a few things. So where the body is, by its hash, one that was
sent, a look at those few is enough; what that cannot be said of has `records.read_request` check all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Annotated, Literal

import msgspec
from msgspec import Raw

from batchrun.records.index import hash_body
from batchrun.records.rawjson import REFUSED
from batchrun.records.request import MAX_DEPTH, MAX_LINE_BYTES


class _Line(msgspec.Struct, gc=False):
    """A line as nearly all are: with an id, a body, and a place to go to that suits every body."""

    custom_id: Annotated[str, msgspec.Meta(min_length=1)]
    body: Raw
    method: Literal["POST"] = "POST"
    url: Literal["/v1/responses"] = "/v1/responses"


_decode = msgspec.json.Decoder(_Line).decode


def prescan(lines: Sequence[bytes]) -> tuple[list[str], list[str]]:
    """The ids of lines, and the hashes of their bodies; both "" where a line takes a closer look, whatever its body.

    All of a line is valid JSON otherwise.
    """
    try:
        if not all(map(bytes.isascii, lines)):
            for raw in lines:
                raw.decode()  # msgspec slices raw values without looking at their UTF-8
        decoded = list(map(_decode, lines))
    except REFUSED:
        return _one_by_one(lines)
    if max(map(len, lines), default=0) > 2 * MAX_DEPTH and any(map(_may_nest_too_deep, lines, decoded)):
        return _one_by_one(lines)
    return [line.custom_id for line in decoded], [hash_body(line.body) for line in decoded]


def _one_by_one(lines: Sequence[bytes]) -> tuple[list[str], list[str]]:
    if len(lines) == 1:
        return [""], [""]
    ids, hashes = zip(*(prescan([raw]) for raw in lines), strict=True)
    return list(chain(*ids)), list(chain(*hashes))


def _may_nest_too_deep(raw: bytes, line: _Line) -> bool:
    """Whether what stands beside the body is long enough for that (two bytes make a level), or all is too long."""
    return len(raw) > MAX_LINE_BYTES or len(raw) - memoryview(line.body).nbytes > 2 * MAX_DEPTH
