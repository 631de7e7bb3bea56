"""Reading the body of an answer, so that no answer and no number of answers fills the memory.

1. Bytes are counted as they come, decompressed: a small answer that unpacks to gigabytes is stopped at the cap.
2. Each answer has a cap. All answers together may hold `HELD_BYTES`; beyond that, one answer at a time is read on.
3. Only unfinished answers count: an answer that is read is judged before any other task runs.
4. A stream must bring an *event* within the idle time: pings do not keep a stream alive.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol

from batchrun.transport.assemble import ResponseAssembler, StreamResult
from batchrun.transport.deadlines import Deadline, Deadlines
from batchrun.transport.sse import EventDecoder

HELD_BYTES = 48 * 1024 * 1024
BOM = b"\xef\xbb\xbf"


class TooLargeError(Exception):
    """An answer is longer than the cap."""


class IdleError(Exception):
    """A stream brought no event within the idle time."""


class Content(Protocol):
    """A body as it arrives; `aiohttp.StreamReader` is one."""

    def at_eof(self) -> bool:
        """Whether all of it has been read."""
        ...

    async def readany(self) -> bytes:
        """The bytes that are there, decompressed; waits for some; empty at the end."""
        ...


class Memory:
    """Counts the bytes of all answers that are being read, each at most `cap`."""

    def __init__(self, cap: int) -> None:
        self.cap = cap
        self.held = 0
        self.alone = asyncio.Lock()  # its holder may read on past `HELD_BYTES`


class Share:
    """The memory that one answer takes, for as long as the block lasts."""

    def __init__(self, memory: Memory) -> None:
        self._memory = memory
        self._held = 0
        self._is_alone = False

    def __enter__(self) -> Share:
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.held -= self._held
        if self._is_alone:
            self._memory.alone.release()

    def add(self, size: int) -> bool:
        """Count `size` bytes more. False: `wait` before reading on. Raises `TooLargeError` past the cap."""
        memory = self._memory
        self._held += size
        memory.held += size
        if self._held > memory.cap:
            raise TooLargeError
        return memory.held <= HELD_BYTES or self._is_alone

    async def wait(self) -> None:
        """Wait until this is the one answer that may be read on past `HELD_BYTES`."""
        await self._memory.alone.acquire()
        self._is_alone = True


async def read_body(content: Content, memory: Memory) -> bytes:
    """The whole body, decompressed. Raises `TooLargeError`."""
    piece = await content.readany()
    if content.at_eof():  # as nearly always
        if len(piece) > memory.cap:
            raise TooLargeError
        return piece
    with Share(memory) as share:
        pieces = [piece]
        while True:
            if not share.add(len(piece)):
                await share.wait()
            if content.at_eof():
                return b"".join(pieces)
            pieces.append(piece := await content.readany())


async def read_stream(
    content: Content, memory: Memory, idle: Deadlines, note: Callable[[ResponseAssembler], None]
) -> StreamResult | bytes:
    """The result of a stream of events, or the whole body if it was not a stream after all.

    `note` is called with the assembler after each piece that brought an event. Raises `TooLargeError`, `IdleError`.
    """
    deadline = Deadline()
    idle.begin(deadline)
    try:
        with Share(memory) as share:
            return await _read_events(content, share, idle, deadline, note)
    except asyncio.CancelledError:
        if not deadline.ran_out():
            raise
        raise IdleError from None
    finally:
        idle.end(deadline)


async def _read_events(
    content: Content, share: Share, idle: Deadlines, deadline: Deadline, note: Callable[[ResponseAssembler], None]
) -> StreamResult | bytes:
    """As `read_stream`; every event renews the deadline."""
    decoder, assembler = EventDecoder(), ResponseAssembler()
    is_events: bool | None = None  # JSON and web pages may have the content type of a stream: the first byte decides
    plain: list[bytes] = []
    events = 0
    while not assembler.finished and (piece := await content.readany()):
        if not share.add(len(piece)):
            idle.end(deadline)  # the deadline is for the gateway, but this waits for other answers
            await share.wait()
            idle.begin(deadline)
        if is_events is None and (start := piece.removeprefix(BOM).lstrip()):
            is_events = start[:1] not in b"{[<"
        if is_events is False:
            plain.append(piece)
            continue
        for event in decoder.feed(piece):
            assembler.add(event)
        if assembler.events > events:
            events = assembler.events
            idle.renew(deadline)
            note(assembler)
    if plain:
        return b"".join(plain)
    for event in decoder.flush():
        assembler.add(event)
    note(assembler)
    return assembler.result()


def assemble_whole(body: bytes) -> StreamResult:
    """What a body of events came to that is there as a whole."""
    decoder, assembler = EventDecoder(), ResponseAssembler()
    for event in [*decoder.feed(body), *decoder.flush()]:
        assembler.add(event)
    return assembler.result()


def looks_like_events(body: bytes) -> bool:
    """Whether a body starts as server-sent events do: with a field, a comment or a blank line before one."""
    if body.startswith(b"{"):
        return False  # as nearly all do
    start = body[:512].lstrip()
    return start.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))
