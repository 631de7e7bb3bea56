"""Which endpoint a line belongs to, where there are several. Pure.

1. A line that names its endpoint goes there, and never to another.
2. So does a line that continues a stored response, which one endpoint alone has. Nothing says which: it is taken to be
   the first that serves its model or, with `--sticky prefix`, the one that its instructions belong to.
3. With `--sticky prefix` lines that begin alike have one home, which then has their beginning in its cache. Homes are
   drawn by weight, by a hash of the beginning and of the endpoint's name: they are the same in every run, and an
   endpoint that is added or taken out moves no other lines than its own.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from batchrun.engine.gateways import Gateway
from batchrun.records.rawjson import member
from batchrun.records.request import RequestLine, is_given

FIRST_BYTES = 1024  # of a first message: prompts of one template begin alike, and caches are for no shorter ones


class Place(NamedTuple):
    """Where a line belongs: `gateway` is its home, None if it has none; `is_only`: it goes nowhere else."""

    gateway: Gateway | None
    is_only: bool


ANYWHERE = Place(None, is_only=False)


class Homes:
    """Finds the places of lines. `sticky`: lines that begin alike have one home."""

    def __init__(self, gateways: Sequence[Gateway], *, sticky: bool) -> None:
        self._gateways = gateways
        self._by_name = {gateway.name: gateway for gateway in gateways}
        self._sticky = sticky
        self._serving: dict[str, list[Gateway]] = {}  # by model

    def of(self, line: RequestLine) -> Place:
        """Where a line belongs."""
        if line.endpoint is not None:
            return Place(self._by_name[line.endpoint], is_only=True)
        is_only = continues(line)
        if not is_only and not self._sticky:
            return ANYWHERE
        serving = self._serving.get(line.model)
        if serving is None:
            serving = self._serving[line.model] = [one for one in self._gateways if one.serves(line.model)]
        shared = b"" if not self._sticky else instructions(line) if is_only else beginning(line)
        if is_only and not shared:
            return Place(serving[0], is_only=True)
        lowest = min(one.tier for one in serving)
        return Place(drawn(shared, (one for one in serving if one.tier == lowest)), is_only=is_only)


def drawn(shared: bytes, gateways: Iterable[Gateway]) -> Gateway:
    """The one of these that lines with this beginning go to: each gets a share of the beginnings by its weight.

    This is rendezvous hashing: each draws a number for the beginning, and the largest wins.
    """
    key = blake2b(shared, digest_size=16).digest()
    return max(gateways, key=lambda gateway: _number(key, gateway))


def _number(key: bytes, gateway: Gateway) -> float:
    """What it draws: the largest of such numbers is an endpoint's as often as its weight says."""
    hashed = blake2b(f"{gateway.name}".encode(), key=key, digest_size=8).digest()
    uniform = ((int.from_bytes(hashed, "little") >> 12) + 0.5) / (1 << 52)  # above 0 and below 1
    return -gateway.weight / math.log(uniform)


# ------------------------------------------------------------------------------------- what a body begins with


def continues(line: RequestLine) -> bool:
    """Whether a line names an earlier response or a conversation, which one endpoint alone has stored."""
    body = line.body
    if body.find(b'"previous_response_id"') < 0 and body.find(b'"conversation"') < 0:
        return False  # as of nearly every line; `in` would first try bytes as a number
    return any(member(body, name) not in (b"", b"null") for name in ("previous_response_id", "conversation"))


def beginning(line: RequestLine) -> bytes:
    """What lines have in common whose prompts begin alike: their instructions, or else how the first message begins."""
    told, first = _parts(line)
    return told or first


def instructions(line: RequestLine) -> bytes:
    """The `prompt_cache_key`, or else all that comes before the first message of a user; nothing if there is none.

    That is `instructions`, a stored `prompt`, and developer and system messages.
    """
    return _parts(line)[0]


class _Body(msgspec.Struct, gc=False):
    """The fields that a prompt begins with."""

    prompt_cache_key: Any = None
    instructions: Raw | UnsetType = UNSET
    prompt: Raw | UnsetType = UNSET
    input: Raw | UnsetType = UNSET
    messages: Raw | UnsetType = UNSET


class _Message(msgspec.Struct, gc=False):
    role: Any = None


_decode_body = msgspec.json.Decoder(_Body).decode
_decode_message = msgspec.json.Decoder(_Message).decode
_decode_list = msgspec.json.Decoder(list[Raw]).decode


def _parts(line: RequestLine) -> tuple[bytes, bytes]:
    """The instructions of a line, and how its first message begins."""
    body = _decode_body(line.body)
    if body.prompt_cache_key:
        return str(body.prompt_cache_key).encode(), b""
    told = [bytes(body.instructions)] if isinstance(body.instructions, Raw) and is_given(body.instructions) else []
    if isinstance(body.prompt, Raw):
        told += filter(None, [member(body.prompt, "id")])
    for message in _messages(body):
        if not message.startswith(b"{") or _decode_message(message).role not in ("developer", "system"):
            return b"\n".join(told), message[:FIRST_BYTES]
        told.append(message)
    return b"\n".join(told), b""


def _messages(body: _Body) -> list[bytes]:
    """The messages of a body; an `input` that is a text is one."""
    given = next((bytes(one) for one in (body.input, body.messages) if isinstance(one, Raw) and is_given(one)), b"")
    if not given.startswith(b"["):
        return [given] if given else []
    return [bytes(message) for message in _decode_list(given)]
