"""Reading the body of an answer, so that no answer and no number of answers fills the memory.

1. Bytes are counted as they come, decompressed: a small answer that unpacks to gigabytes is stopped at the cap.
2. Each answer has a cap. All answers together may hold `HELD_BYTES`; beyond that, one answer at a time is read on.
3. Only unfinished answers count: an answer that is read is judged before any other task runs.
4. A stream must bring an *event* within the idle time: pings do not keep a stream alive.
5. What came before a connection broke off is not thrown away: if it is a whole answer, it is one. So is a whole answer
   behind which nothing comes, not even the end that its framing promised.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from batchrun.transport.assemble import ResponseAssembler, StreamResult
from batchrun.transport.connections import BROKEN, salvaged
from batchrun.transport.deadlines import Deadline, Deadlines
from batchrun.transport.sse import EventDecoder
from batchrun.transport.unpacking import Content, Unpacked

HELD_BYTES = 48 * 1024 * 1024
QUIET_S = 1.0  # after so long a silence, an answer that looks whole is looked at
BOM = b"\xef\xbb\xbf"


class TooLargeError(Exception):
    """An answer is longer than the cap."""


class IdleError(Exception):
    """A stream brought no event within the idle time."""


class BrokenOffError(Exception):
    """The connection broke off, or the framing is wrong; `read` is what came before, and `error` the reason."""

    def __init__(self, read: bytes, error: Exception) -> None:
        super().__init__(str(error))
        self.read = read
        self.error = error


class Ending(msgspec.Struct, frozen=True, gc=False):
    """How to tell that an answer has ended: a silence of `QUIET_S`, and `is_whole` of what has come."""

    quiet: Deadlines
    is_whole: Callable[[bytes], bool]


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


async def read_body(content: Content, memory: Memory, ending: Ending) -> bytes:
    """The whole body, decompressed. Raises `TooLargeError`, `BrokenOffError`."""
    try:
        piece = await content.readany()
    except BROKEN as error:
        raise BrokenOffError(_unread(content), error) from error
    if content.at_eof():
        if len(piece) > memory.cap:
            raise TooLargeError
        return piece
    with Share(memory) as share:
        if not share.add(len(piece)):
            await share.wait()
        return await _read_on(content, share, [piece], ending)


async def _read_on(content: Content, share: Share, pieces: list[bytes], ending: Ending) -> bytes:
    """The whole body, of which `pieces` have been read and counted."""
    while not content.at_eof():
        try:
            piece = await _next_piece(content, pieces, ending)
        except BROKEN as error:
            rest = _unread(content)
            share.add(len(rest))
            raise BrokenOffError(b"".join([*pieces, rest]), error) from error
        if piece is None:
            break
        pieces.append(piece)
        if not share.add(len(piece)):
            await share.wait()
    return b"".join(pieces)


async def _next_piece(content: Content, pieces: list[bytes], ending: Ending) -> bytes | None:
    """The next piece of a body; None if none comes and the answer is whole."""
    tail = b"".join([piece[-64:] for piece in pieces[-2:]]).rstrip()
    if tail.endswith((b"}", b"]")):  # as JSON and `[DONE]` do
        deadline = Deadline()
        ending.quiet.begin(deadline)
        try:
            return await content.readany()
        except asyncio.CancelledError:
            if not deadline.ran_out():
                raise
            if ending.is_whole(b"".join(pieces)):
                return None
        finally:
            ending.quiet.end(deadline)
    return await content.readany()


def _unread(content: Content) -> bytes:
    """What came before the error that ended a body."""
    if isinstance(content, Unpacked):
        try:
            pieces = [content.unpack(_unread(content.packed))]
            while content.has_more and len(pieces) < 64:
                pieces.append(content.unpack(b""))
        except ValueError:
            return b""
        return b"".join(pieces)
    return salvaged(content)


async def read_stream(
    content: Content, memory: Memory, idle: Deadlines, ending: Ending, note: Callable[[ResponseAssembler], None]
) -> StreamResult | bytes:
    """The result of a stream of events, or the whole body if it was not a stream after all.

    `note` is called with the assembler after each piece that brought an event. Raises `TooLargeError`, `IdleError`,
    and `BrokenOffError` for a body.
    """
    deadline = Deadline()
    idle.begin(deadline)
    try:
        with Share(memory) as share:
            read = await _read_events(content, share, idle, deadline, note)
            if not isinstance(read, bytes):
                return read
            idle.end(deadline)  # no stream: its events need not come
            return await _read_on(content, share, [read], ending)
    except asyncio.CancelledError:
        if not deadline.ran_out():
            raise
        raise IdleError from None
    finally:
        idle.end(deadline)


async def _read_events(
    content: Content, share: Share, idle: Deadlines, deadline: Deadline, note: Callable[[ResponseAssembler], None]
) -> StreamResult | bytes:
    """The result of a stream; every event renews the deadline. The first bytes alone if they are of no stream."""
    decoder, assembler = EventDecoder(), ResponseAssembler()
    is_begun, events = False, 0
    broken: Exception | None = None
    while not assembler.finished and broken is None:
        try:
            piece = await content.readany()
        except BROKEN as error:
            piece, broken = _unread(content), error
        if not piece:
            break
        if not share.add(len(piece)):
            idle.end(deadline)  # the deadline is for the gateway, but this waits for other answers
            await share.wait()
            idle.begin(deadline)
        if not is_begun and (start := piece.removeprefix(BOM).lstrip()):
            is_begun = True
            if start[:1] in b"{[<":  # JSON and web pages may have the content type of a stream: the first byte decides
                if broken is not None:
                    raise BrokenOffError(piece, broken)
                return piece
        for event in decoder.feed(piece):
            assembler.add(event)
        if assembler.events > events:
            events = assembler.events
            idle.renew(deadline)
            note(assembler)
    for event in decoder.flush():
        assembler.add(event)
    note(assembler)
    if broken is not None and not assembler.finished:
        raise broken
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
