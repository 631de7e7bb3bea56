"""One attempt: a request body out, a `Reply` or a `Failure` back. The only module that opens the network client.

1. An attempt ends: by its answer, by the idle timeout (a stream without an *event*), or by its own timeout.
2. Bytes are counted as they come, decompressed, and the count is capped for each answer and for all together:
   nothing can blow up the memory.
3. Redirects are not followed, the environment's proxies are not used, no cookie is kept.
4. The key goes into one header and nowhere else; an answer that echoes it is cleaned of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import time
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any

import aiohttp

from batchrun.answer import Failure, HttpAnswer, Reply, Timing, read_answer
from batchrun.endpoint import Endpoint
from batchrun.envelope import read_retry_after
from batchrun.records import RESPONSES, RequestLine, as_text
from batchrun.sse import EventDecoder
from batchrun.stream import ResponseAssembler, StreamResult
from batchrun.version import __version__

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

LARGE_BODY_BYTES = 1 << 20  # aiohttp wants more than this as a file, which it sends piece by piece

# A shorter key is a stand-in ("EMPTY", "test") that may be a word of any answer: taking it out would spoil those.
SHORTEST_SECRET = 12
IN_ITS_PLACE = "[the api key]"

OTHER_FILES = 64  # open besides the connections: results, log, input, the loop's own

# What the answers that are being read may hold together; past it one at a time is read on.
HELD_BYTES = 48 * 1024 * 1024

_BOM = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `idle_s` is between two events of a stream; pings are none."""

    attempt_s: float = 600.0
    connect_s: float = 10.0
    idle_s: float = 120.0


def open_files_for(connections: int) -> int:
    """Let this process open so many connections, as far as it may; returns how many that are (0: all of them)."""
    if resource is None:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        allowed = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))
            soft = allowed
    return 0 if soft == resource.RLIM_INFINITY or soft >= wanted else max(1, soft - OTHER_FILES)


class _DeadlineError(Exception):
    """An attempt ran out of time; `args[0]` is the failure's code, `args[1]` its message."""


class _TooLargeError(Exception):
    """An answer passed the cap."""


class _Held:
    """The bytes of one answer while it is read, counted against its own cap and against those of all others."""

    def __init__(self, memory: _Memory, cap: int) -> None:
        self._memory = memory
        self._cap = cap
        self._size = 0
        self._is_alone = False

    async def add(self, size: int) -> None:
        """Count `size` bytes more; waits where all answers together hold too much. Raises `_TooLargeError`."""
        self._size += size
        self._memory.held += size
        if self._size > self._cap:
            raise _TooLargeError
        if self._memory.held > HELD_BYTES and not self._is_alone:
            await self._memory.alone.acquire()
            self._is_alone = True

    def release(self) -> None:
        """The answer is whole, or given up."""
        self._memory.held -= self._size
        if self._is_alone:
            self._memory.alone.release()


class _Memory:
    """What all answers hold that are being read. Whoever has `alone` may read on past `HELD_BYTES`."""

    def __init__(self) -> None:
        self.held = 0
        self.alone = asyncio.Lock()


class Transport:
    """An open HTTP client. Use as an async context manager; `send` may run many times at once."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts, max_response_bytes: int) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._max_bytes = max_response_bytes
        self._secrets = _spellings(endpoint.api_key) if len(endpoint.api_key) >= SHORTEST_SECRET else ()
        self._memory = _Memory()
        self._urls: dict[str, str] = {}

    async def __aenter__(self) -> Transport:
        headers = {
            "Content-Type": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "User-Agent": f"batchrun/{__version__}",
        }
        if self._endpoint.api_key:
            headers["Authorization"] = "Bearer " + self._endpoint.api_key
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),  # the limiter has the limit
            headers=headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=self._timeouts.connect_s),
            trust_env=False,
            read_bufsize=1 << 18,
            max_field_size=1 << 16,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.close()

    async def send(self, line: RequestLine) -> Reply | Failure:
        """Make one attempt. Never raises for what the network or the gateway does."""
        clock, deadline = _Clock(), asyncio.timeout(self._timeouts.attempt_s)
        try:
            async with deadline:
                outcome = await self._exchange(line, clock)
        except _DeadlineError as late:
            outcome = Failure(late.args[0], late.args[1])
        except _TooLargeError:
            outcome = Failure(
                "response_too_large",
                f"the answer passes {self._max_bytes:,} bytes; raise --max-response-bytes to keep such answers",
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout of any kind is an OSError
            outcome = _network_failure(error)
            if deadline.expired():
                message = f"no whole answer within {self._timeouts.attempt_s:g} s (--attempt-timeout)"
                outcome = Failure("attempt_timeout", message)
        timing = Timing(clock.now_s(), clock.first_event_s, clock.first_text_s)
        return self._without_key(replace(outcome, timing=timing))

    async def _exchange(self, line: RequestLine, clock: _Clock) -> Reply | Failure:
        async with self._session.post(
            self._url(line.url),
            data=line.body if len(line.body) < LARGE_BODY_BYTES else io.BytesIO(line.body),
            headers={"Accept": "text/event-stream" if line.stream else "application/json"},
            allow_redirects=False,
            proxy=self._endpoint.proxy,
        ) as response:
            answer = HttpAnswer(
                status=response.status,
                headers=response.headers,
                body=b"",
                url=line.url,
                retry_after_s=_retry_after_s(response),
            )
            if 300 <= response.status < 400:
                place = self._clean(response.headers.get("Location", "nowhere"))[:200]
                return Failure("redirected", f"HTTP {response.status} to {place}; not followed", response.status)
            if (response.content_length or 0) > self._max_bytes:
                raise _TooLargeError
            held = _Held(self._memory, self._max_bytes)
            is_stream = response.status == 200 and "event-stream" in response.headers.get("Content-Type", "")
            try:
                if is_stream and line.url == RESPONSES:
                    return await self._read_stream(response, held, answer, clock)
                return self._judge(replace(answer, body=await self._read_all(response, held)))
            finally:
                held.release()

    def _judge(self, answer: HttpAnswer) -> Reply | Failure:
        if answer.body.startswith(_BOM) or any(secret in answer.body for secret in self._secrets):
            answer = replace(answer, body=self._clean_bytes(answer.body.removeprefix(_BOM)))
        if answer.status == 200 and answer.url == RESPONSES and _looks_like_events(answer.body):
            decoder, assembler = EventDecoder(), ResponseAssembler()
            for event in [*decoder.feed(answer.body), *decoder.flush()]:
                assembler.add(event)
            return self._judge_stream(answer, assembler.result())
        return read_answer(answer)

    async def _read_all(self, response: aiohttp.ClientResponse, held: _Held) -> bytes:
        """The whole body, decompressed, up to the cap."""
        pieces = []
        async for piece in response.content.iter_any():
            await held.add(len(piece))
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _read_stream(
        self, response: aiohttp.ClientResponse, held: _Held, answer: HttpAnswer, clock: _Clock
    ) -> Reply | Failure:
        decoder, assembler = EventDecoder(), ResponseAssembler()
        is_events: bool | None = None  # JSON and pages come under a stream's name, too: the first byte tells
        plain: list[bytes] = []
        async with contextlib.aclosing(self._pieces(response, held, lambda: assembler.events)) as pieces:
            async for piece in pieces:
                if is_events is None and (start := piece.removeprefix(_BOM).lstrip()):
                    is_events = start[:1] not in b"{[<"
                if is_events is False:
                    plain.append(piece)
                    continue
                for event in decoder.feed(piece):
                    assembler.add(event)
                clock.note(assembler)
                if assembler.finished:
                    break
        if plain:
            return self._judge(replace(answer, body=b"".join(plain)))
        for event in decoder.flush():
            assembler.add(event)
        clock.note(assembler)
        return self._judge_stream(answer, assembler.result())

    async def _pieces(
        self, response: aiohttp.ClientResponse, held: _Held, events: Callable[[], int]
    ) -> AsyncGenerator[bytes]:
        """The stream's bytes up to the cap, with the idle deadline moved on by events and nothing else."""
        idle_s = self._timeouts.idle_s
        loop = asyncio.get_running_loop()
        seen, deadline = 0, loop.time() + idle_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    piece = await response.content.readany()
            except TimeoutError:
                raise _DeadlineError(
                    "idle_timeout", f"no event of the stream for {idle_s:g} s (--idle-timeout)"
                ) from None
            if not piece:
                return
            await held.add(len(piece))
            yield piece
            if events() > seen:
                seen, deadline = events(), loop.time() + idle_s

    def _judge_stream(self, answer: HttpAnswer, result: StreamResult) -> Reply | Failure:
        if result.error is not None:
            return self._judge(replace(answer, body=result.error))
        if result.response is not None:
            return self._judge(replace(answer, body=result.response, ended_as=result.terminal))
        message = "the stream ended without its terminal event"
        partial = as_text(self._clean_bytes(result.partial)) if result.partial else None
        return Failure("stream_truncated", message, answer.status, body=partial, request_id=answer.request_id)

    def _without_key(self, outcome: Reply | Failure) -> Reply | Failure:
        """An outcome that does not repeat the key: a gateway may put it into any text (its body is clean)."""
        changes: dict[str, Any] = {}
        for name in ("code", "error_code", "type", "message", "request_id", "model"):
            text = getattr(outcome, name, None)
            if text and (clean := self._clean(text)) != text:
                changes[name] = clean
        return replace(outcome, **changes) if changes else outcome

    def _clean(self, text: str) -> str:
        return text.replace(self._endpoint.api_key, IN_ITS_PLACE) if self._secrets else text

    def _clean_bytes(self, text: bytes) -> bytes:
        for secret in self._secrets:
            text = text.replace(secret, IN_ITS_PLACE.encode())
        return text

    def _url(self, path: str) -> str:
        if path not in self._urls:
            self._urls[path] = self._endpoint.url(path)
        return self._urls[path]


class _Clock:
    """Times the first event and the first text of one attempt."""

    def __init__(self) -> None:
        self._loop_time = asyncio.get_running_loop().time
        self._started = self._loop_time()
        self.first_event_s: float | None = None
        self.first_text_s: float | None = None

    def now_s(self) -> float:
        return self._loop_time() - self._started

    def note(self, assembler: ResponseAssembler) -> None:
        if self.first_event_s is None and assembler.events:
            self.first_event_s = self.now_s()
        if self.first_text_s is None and assembler.text_seen:
            self.first_text_s = self.now_s()


def _looks_like_events(body: bytes) -> bool:
    """Whether a body starts as server-sent events do: with a field, a comment or a blank line before one."""
    start = body[:512].lstrip()
    return start.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))


def _spellings(key: str) -> tuple[bytes, ...]:
    """A key as it is, and as JSON writers escape the two characters of base64 that some of them escape."""
    escaped = [key.replace("/", "\\/")]
    escaped += [spelling.replace("+", plus) for plus in ("\\u002b", "\\u002B") for spelling in (key, escaped[0])]
    return tuple(spelling.encode() for spelling in dict.fromkeys([key, *escaped]))


def _retry_after_s(response: aiohttp.ClientResponse) -> float | None:
    """What the headers ask for. A date is measured from the gateway's own clock, if it shows it."""
    names = ("retry-after", "retry-after-ms")
    asked = {name: response.headers[name] for name in names if name in response.headers}
    now = time.time()
    if asked and "Date" in response.headers:
        with contextlib.suppress(ValueError, OverflowError):
            now = parsedate_to_datetime(response.headers["Date"]).timestamp()
    return read_retry_after(asked, now)


def _network_failure(error: Exception) -> Failure:
    """A failure by the exception's type. Its text is our own: aiohttp's can hold headers."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return Failure(
            "certificate_refused",
            f"{error.host}'s certificate is not valid: {_reason(error)}",
            may_be_billed=False,
        )
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return Failure("dns_failed", f"no address for the host {error.host}", may_be_billed=False)
    if isinstance(error, aiohttp.ConnectionTimeoutError):
        return Failure("connect_timeout", "no connection in time (--connect-timeout)", may_be_billed=False)
    if isinstance(error, aiohttp.ClientProxyConnectionError):
        return Failure("connect_failed", f"cannot connect to the proxy: {_reason(error)}", may_be_billed=False)
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return Failure("connect_failed", f"the proxy answered HTTP {error.status}", may_be_billed=False)
    if isinstance(error, aiohttp.ClientConnectorError):
        return Failure(
            "connect_failed",
            f"cannot connect to {error.host}:{error.port}: {_reason(error)}",
            may_be_billed=False,
        )
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        return Failure("connection_lost", f"the connection broke off ({type(error).__name__})")
    if isinstance(error, OSError):
        return Failure("connection_lost", f"the connection broke off ({error.strerror or type(error).__name__})")
    return Failure("bad_http", f"what came back is not HTTP as it should be ({type(error).__name__})")


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    return cause.strerror or type(cause).__name__
