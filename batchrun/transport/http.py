"""One attempt: a request body out, a `Reply` or a `Failure` back.

1. An attempt ends: by its answer, by the idle timeout (a stream without an *event*), or by its own timeout.
2. Bytes are counted as they come, decompressed, and the count is capped for each answer and for all together:
   nothing can blow up the memory.
3. Redirects are not followed; what else the client does not do stands in `client.py`.
4. An answer that echoes the key is cleaned of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import time
from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
from msgspec.structs import replace as changed
from yarl import URL

from batchrun.records.outcome import Failure, Reply, Timing
from batchrun.records.rawjson import as_text
from batchrun.records.request import RESPONSES, RequestLine
from batchrun.transport.answer import HttpAnswer, read_answer
from batchrun.transport.assemble import ResponseAssembler, StreamResult
from batchrun.transport.client import open_session
from batchrun.transport.deadlines import Deadline, Deadlines, exact_clock
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.error_body import read_retry_after
from batchrun.transport.redact import Redactor
from batchrun.transport.sse import EventDecoder
from batchrun.transport.yielding import yield_to_loop

LARGE_BODY_BYTES = 1 << 20  # aiohttp wants more than this as a file, which it sends piece by piece
# What the answers that are being read may hold together; past it one at a time is read on.
HELD_BYTES = 48 * 1024 * 1024
_BOM = b"\xef\xbb\xbf"
_STREAM_HEADERS = {"Accept": "text/event-stream"}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long an attempt may take, in seconds.

    `attempt_s`: from sending the request to the last byte of its answer.
    `connect_s`: until a connection is made.
    `idle_s`: between two events of a stream. Comments that only keep the connection open are no events.
    """

    attempt_s: float = 600.0
    connect_s: float = 10.0
    idle_s: float = 120.0


class _DeadlineError(Exception):
    """An attempt ran out of time; `args[0]` is the failure's code, `args[1]` its message."""


class _TooLargeError(Exception):
    """An answer passed the cap."""


class _Attempt(Deadline):
    """What is known of one attempt while it lasts: its time, and the bytes of its answer that are held."""

    __slots__ = ("first_event_s", "first_text_s", "held", "is_alone", "sent_s")

    def __init__(self, now: float) -> None:
        self.sent_s = now
        self.first_event_s: float | None = None
        self.first_text_s: float | None = None
        self.held = 0
        self.is_alone = False

    def note(self, assembler: ResponseAssembler, now: float) -> None:
        """Time the first event and the first text of a stream."""
        if self.first_event_s is None and assembler.events:
            self.first_event_s = now - self.sent_s
        if self.first_text_s is None and assembler.text_seen:
            self.first_text_s = now - self.sent_s


class _Memory:
    """What all answers hold that are being read, each up to `cap`. Whoever has `alone` may read past `HELD_BYTES`."""

    def __init__(self, cap: int) -> None:
        self.held = 0
        self.alone = asyncio.Lock()
        self._cap = cap

    def add(self, attempt: _Attempt, size: int) -> bool:
        """Count `size` bytes more; False where the attempt is to `wait`. Raises `_TooLargeError`."""
        attempt.held += size
        self.held += size
        if attempt.held > self._cap:
            raise _TooLargeError
        return self.held <= HELD_BYTES or attempt.is_alone

    async def wait(self, attempt: _Attempt) -> None:
        """Until this attempt is the one that may read on, whatever is held."""
        await self.alone.acquire()
        attempt.is_alone = True

    def release(self, attempt: _Attempt) -> None:
        """The answer is whole, or given up."""
        self.held -= attempt.held
        if attempt.is_alone:
            self.alone.release()


class Transport:
    """An open HTTP client. Use as an async context manager; `send` may run many times at once."""

    def __init__(self, endpoint: Endpoint, timeouts: Timeouts, max_response_bytes: int) -> None:
        self._endpoint = endpoint
        self._timeouts = timeouts
        self._max_bytes = max_response_bytes
        self._redactor = Redactor(endpoint.api_key)
        self._memory = _Memory(max_response_bytes)
        self._urls: dict[str, URL] = {}

    async def __aenter__(self) -> Transport:
        self._session = open_session(self._endpoint, self._timeouts.connect_s)
        self._deadlines, self._idle = Deadlines(self._timeouts.attempt_s), Deadlines(self._timeouts.idle_s)
        self._now = exact_clock(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.close()
        self._idle.close()
        await self._session.close()

    async def send(self, line: RequestLine) -> Reply | Failure:
        """Make one attempt. Never raises for what the network or the gateway does."""
        attempt = _Attempt(self._now())
        self._deadlines.begin(attempt)
        outcome: Reply | Failure
        try:
            outcome = await self._exchange(line, attempt)
        except asyncio.CancelledError:
            if not attempt.ran_out():
                raise
            message = f"no whole answer within {self._timeouts.attempt_s:g} s (--attempt-timeout)"
            outcome = Failure("attempt_timeout", message)
        except _DeadlineError as late:
            outcome = Failure(late.args[0], late.args[1])
        except _TooLargeError:
            outcome = Failure(
                "response_too_large",
                f"the answer passes {self._max_bytes:,} bytes; raise --max-response-bytes to keep such answers",
            )
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout of any kind is an OSError
            outcome = _network_failure(error)
        finally:
            self._deadlines.end(attempt)
        outcome = self._redactor.outcome(outcome)
        timing = Timing(self._now() - attempt.sent_s, attempt.first_event_s, attempt.first_text_s)
        if isinstance(outcome, Failure):
            return changed(outcome, timing=timing)
        outcome.timing = timing
        return outcome

    async def _exchange(self, line: RequestLine, attempt: _Attempt) -> Reply | Failure:
        """Over the wire and back."""
        response = await self._session.post(
            self._url(line.url),
            data=line.body if len(line.body) < LARGE_BODY_BYTES else io.BytesIO(line.body),
            headers=_STREAM_HEADERS if line.stream else None,
            allow_redirects=False,
            proxy=self._endpoint.proxy,
        )
        try:
            await yield_to_loop()
            status, headers = response.status, response.headers
            if 300 <= status < 400:
                place = self._redactor.text(headers.get("Location", "nowhere"))[:200]
                return Failure("redirected", f"HTTP {status} to {place}; not followed", status)
            if int(headers.get("Content-Length", 0)) > self._max_bytes:  # aiohttp has refused what is no number
                raise _TooLargeError
            answer = HttpAnswer(status, headers, b"", line.url, _retry_after_s(headers))
            if status == 200 and line.url == RESPONSES and "event-stream" in headers.get("Content-Type", ""):
                return await self._read_stream(response, answer, attempt)
            answer.body = await self._read_all(response.content, attempt)
            return self._judge(answer)
        finally:
            self._memory.release(attempt)
            if not response.closed:
                response.release()  # an answer that was not read to its end takes its connection with it

    async def _read_all(self, content: aiohttp.StreamReader, attempt: _Attempt) -> bytes:
        """The whole body, decompressed, up to the cap."""
        pieces = []
        while not content.at_eof():
            piece = await content.readany()
            pieces.append(piece)
            if not self._memory.add(attempt, len(piece)):
                await self._memory.wait(attempt)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def _judge(self, answer: HttpAnswer) -> Reply | Failure:
        answer.body = body = self._redactor.body(answer.body.removeprefix(_BOM))
        if answer.status == 200 and answer.url == RESPONSES and _looks_like_events(body):
            decoder, assembler = EventDecoder(), ResponseAssembler()
            for event in [*decoder.feed(body), *decoder.flush()]:
                assembler.add(event)
            return self._judge_stream(answer, assembler.result())
        return read_answer(answer)

    async def _read_stream(
        self, response: aiohttp.ClientResponse, answer: HttpAnswer, attempt: _Attempt
    ) -> Reply | Failure:
        """The stream's events, up to the cap; the idle deadline is moved on by events and nothing else."""
        decoder, assembler = EventDecoder(), ResponseAssembler()
        is_events: bool | None = None  # JSON and pages come under a stream's name, too: the first byte tells
        plain: list[bytes] = []
        idle, events = Deadline(), 0
        self._idle.begin(idle)
        try:
            while not assembler.finished and (piece := await response.content.readany()):
                if not self._memory.add(attempt, len(piece)):
                    self._idle.end(idle)  # it is not the gateway that is waited for
                    await self._memory.wait(attempt)
                    self._idle.begin(idle)
                if is_events is None and (start := piece.removeprefix(_BOM).lstrip()):
                    is_events = start[:1] not in b"{[<"
                if is_events is False:
                    plain.append(piece)
                    continue
                for event in decoder.feed(piece):
                    assembler.add(event)
                if assembler.events > events:
                    events = assembler.events
                    self._idle.renew(idle)
                    attempt.note(assembler, self._now())
        except asyncio.CancelledError:
            if not idle.ran_out():
                raise
            message = f"no event of the stream for {self._timeouts.idle_s:g} s (--idle-timeout)"
            raise _DeadlineError("idle_timeout", message) from None
        finally:
            self._idle.end(idle)
        if plain:
            return self._judge(changed(answer, body=b"".join(plain)))
        for event in decoder.flush():
            assembler.add(event)
        attempt.note(assembler, self._now())
        return self._judge_stream(answer, assembler.result())

    def _judge_stream(self, answer: HttpAnswer, result: StreamResult) -> Reply | Failure:
        if result.error is not None:
            return self._judge(changed(answer, body=result.error))
        if result.response is not None:
            return self._judge(changed(answer, body=result.response, ended_as=result.terminal))
        message = "the stream ended without its terminal event"
        partial = as_text(self._redactor.body(result.partial)) if result.partial else None
        return Failure("stream_truncated", message, answer.status, body=partial, request_id=answer.request_id)

    def _url(self, path: str) -> URL:
        if path not in self._urls:
            self._urls[path] = URL(self._endpoint.url(path))
        return self._urls[path]


def _looks_like_events(body: bytes) -> bool:
    """Whether a body starts as server-sent events do: with a field, a comment or a blank line before one."""
    if body.startswith(b"{"):
        return False  # as nearly all do
    start = body[:512].lstrip()
    return start.startswith((b"data:", b"event:", b":", b"id:", b"retry:"))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What the headers ask for. A date is measured from the gateway's own clock, if it shows it."""
    if "retry-after" not in headers and "retry-after-ms" not in headers:
        return None
    asked = {name: headers[name] for name in ("retry-after", "retry-after-ms") if name in headers}
    now = time.time()
    if "Date" in headers:
        with contextlib.suppress(ValueError, OverflowError):
            now = parsedate_to_datetime(headers["Date"]).timestamp()
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
