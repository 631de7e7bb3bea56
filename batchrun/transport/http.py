"""One attempt: a request body out, a `Reply` or a `Failure` back.

1. An attempt ends: by its answer, by the idle timeout (a stream without an *event*), or by its own timeout.
2. Memory is bounded: `reading.py` counts the bytes of all answers.
3. Redirects are not followed; `client.py` says what else the client does not do.
4. The key is in the headers of each request, and only there: aiohttp sends a session's headers to a proxy as well.
5. The key is redacted from every answer that repeats it.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import ssl
import time
from collections.abc import Callable, Mapping, Sequence
from email.utils import parsedate_to_datetime
from types import TracebackType

import aiohttp
import orjson
from aiohttp import hdrs
from msgspec.structs import replace as changed
from multidict import istr
from yarl import URL

from batchrun.records.outcome import Failure, FailureCode, Reply, Timing
from batchrun.records.rawjson import as_text, with_member
from batchrun.records.request import ENDPOINTS, RESPONSES, RequestLine
from batchrun.transport.answer import HttpAnswer, read_answer
from batchrun.transport.assemble import ResponseAssembler, StreamResult
from batchrun.transport.chat_stream import assemble_chat
from batchrun.transport.client import open_session, request_headers
from batchrun.transport.connections import Connector
from batchrun.transport.deadlines import Deadline, Deadlines, Timeouts, exact_clock
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.error_body import read_retry_after
from batchrun.transport.hints import hints
from batchrun.transport.models import read_models
from batchrun.transport.reading import (
    BOM,
    QUIET_S,
    BrokenOffError,
    Ending,
    IdleError,
    Memory,
    TooLargeError,
    assemble_whole,
    looks_like_events,
    read_body,
    read_stream,
)
from batchrun.transport.redact import Redactor
from batchrun.transport.unpacking import Content, Unpacked
from batchrun.transport.words import quotes_request

LARGE_BODY_BYTES = 1 << 20  # aiohttp wants more than this as a file, which it sends piece by piece


class _Attempt(Deadline):
    """The times of one attempt: when it began, and when its stream brought the first event and the first text."""

    __slots__ = ("_now", "first_event_s", "first_text_s", "sent_s")

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self.sent_s = now()
        self.first_event_s: float | None = None
        self.first_text_s: float | None = None

    def note(self, assembler: ResponseAssembler) -> None:
        """Time the first event and the first text of a stream."""
        if self.first_event_s is None and assembler.events:
            self.first_event_s = self._now() - self.sent_s
        if self.first_text_s is None and assembler.text_seen:
            self.first_text_s = self._now() - self.sent_s

    def timing(self) -> Timing:
        """The attempt has ended."""
        return Timing(self._now() - self.sent_s, self.first_event_s, self.first_text_s)


class _LargeBody(io.BytesIO):
    """A body as a file that shares its bytes. aiohttp asks for a buffer to see its size, which would copy them."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body)
        self._body = body

    def getbuffer(self) -> memoryview:
        """The bytes, to be looked at."""
        return memoryview(self._body)


class HttpTransport:
    """An open HTTP client. Use as an async context manager; `send` may run many times at once.

    `rename`: what the gateway calls models, by their names in the requests. `secrets`: those of other endpoints, which
    are redacted as well.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        timeouts: Timeouts,
        max_response_bytes: int,
        notice: Callable[[str], None] = lambda text: None,
        *,
        rename: Mapping[str, str] | None = None,
        secrets: Sequence[str] = (),
    ) -> None:
        self._endpoint = endpoint
        self._rename = {old: orjson.dumps(new) for old, new in (rename or {}).items()}
        self._notice = notice
        self._timeouts = timeouts
        self._redactor = Redactor(*endpoint.secrets, *secrets)
        self._hints = hints(endpoint)
        self._memory = Memory(max_response_bytes)
        self._urls = {path: URL(endpoint.url(path)) for path in ENDPOINTS}
        self._headers, self._stream_headers = request_headers(endpoint), request_headers(endpoint)
        self._stream_headers["Accept"] = "text/event-stream"

    async def __aenter__(self) -> HttpTransport:
        self._deadlines, self._idle = Deadlines(self._timeouts.attempt_s), Deadlines(self._timeouts.idle_s)
        self._connecting, self._quiet = Deadlines(self._timeouts.connect_s), Deadlines(QUIET_S)
        self._session = open_session(
            Connector(self._note_stray, keeps_alive=self._endpoint.keepalive, connecting=self._connecting)
        )
        self._now = exact_clock(asyncio.get_running_loop())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._deadlines.close()
        self._idle.close()
        self._connecting.close()
        self._quiet.close()
        await self._session.close()

    def _note_stray(self) -> None:
        self._notice(
            "the gateway sent data that no request asked for; from now on every request has a connection of its own"
        )

    async def send(self, line: RequestLine) -> Reply | Failure:
        """Make one attempt. Never raises for what the network or the gateway does."""
        if line.model in self._rename:
            line = changed(line, body=with_member(line.body, "model", self._rename[line.model]))
        attempt = _Attempt(self._now)
        self._deadlines.begin(attempt)
        outcome: Reply | Failure
        try:
            outcome = await self._exchange(line, attempt)
        except asyncio.CancelledError:
            if not attempt.ran_out():
                raise
            message = f"no whole answer within {self._timeouts.attempt_s:g} s (--attempt-timeout)"
            outcome = Failure(FailureCode.ATTEMPT_TIMEOUT, message)
        except IdleError:
            message = f"no event of the stream for {self._timeouts.idle_s:g} s (--idle-timeout)"
            outcome = Failure(FailureCode.IDLE_TIMEOUT, message)
        except TooLargeError:
            size = f"the answer is longer than {self._memory.cap:,} bytes"
            message = f"{size}; raise --max-response-bytes to keep such answers"
            outcome = Failure(FailureCode.RESPONSE_TOO_LARGE, message)
        except (aiohttp.ClientError, OSError, ValueError) as error:  # a timeout of any kind is an OSError
            outcome = _network_failure(error, self._hints)
        finally:
            self._deadlines.end(attempt)
        outcome = self._redactor.outcome(outcome)
        if isinstance(outcome, Reply):
            outcome.timing = attempt.timing()
            return outcome
        return changed(outcome, timing=attempt.timing(), quotes_request=quotes_request(outcome, line.body))

    async def models(self) -> list[str] | Failure:
        """The models that the gateway lists (`GET /models`). Never raises for what the network or the gateway does."""
        attempt = _Attempt(self._now)
        self._deadlines.begin(attempt)
        try:
            response = await self._session.get(
                self._endpoint.url("/v1/models"),
                headers=self._headers,
                allow_redirects=False,
                proxy=self._endpoint.proxy,
            )
            async with response:
                read = await response.content.read(self._memory.cap)
                answer = HttpAnswer(response.status, response.headers, self._redactor.body(read), RESPONSES, None)
                found = read_models(answer)
                return found if isinstance(found, list) else self._failure(found)
        except asyncio.CancelledError:
            if not attempt.ran_out():
                raise
            return Failure(FailureCode.ATTEMPT_TIMEOUT, f"no whole answer within {self._timeouts.attempt_s:g} s")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return _network_failure(error, self._hints)
        finally:
            self._deadlines.end(attempt)

    def _failure(self, failure: Failure) -> Failure:
        safe = self._redactor.outcome(failure)
        assert isinstance(safe, Failure)
        return safe

    async def _exchange(self, line: RequestLine, attempt: _Attempt) -> Reply | Failure:
        """Send the request and read the answer."""
        response = await self._session.post(
            self._urls[line.url],
            data=line.body if len(line.body) < LARGE_BODY_BYTES else _LargeBody(line.body),
            headers=self._stream_headers if line.stream else self._headers,
            allow_redirects=False,
            proxy=self._endpoint.proxy,
        )
        try:
            status, headers = response.status, response.headers
            if 300 <= status < 400:
                place = self._redactor.text(headers.get("Location", "nowhere"))[:200]
                return Failure(FailureCode.REDIRECTED, f"HTTP {status} to {place}; not followed", status)
            if int(headers.get(hdrs.CONTENT_LENGTH, 0)) > self._memory.cap:  # aiohttp has refused what is no number
                raise TooLargeError
            answer = HttpAnswer(status, headers, b"", line.url, _retry_after_s(headers))
            return await self._read(answer, response.content, attempt)
        finally:
            if not response.closed:
                response.release()  # an answer that was not read to its end takes its connection with it

    async def _read(self, answer: HttpAnswer, body: aiohttp.StreamReader, attempt: _Attempt) -> Reply | Failure:
        """Read the body of an answer, and judge it. A whole answer is one, however its framing ends."""
        headers = answer.headers
        encoding = headers.get(hdrs.CONTENT_ENCODING)
        is_stream = answer.url == RESPONSES and "event-stream" in headers.get(hdrs.CONTENT_TYPE, "")
        if encoding is None and not is_stream and body.is_eof() and body.exception() is None:  # as nearly always
            whole = body.read_nowait()
            if len(whole) > self._memory.cap:
                raise TooLargeError
            return self._judge(answer, whole)
        content: Content = body if encoding is None else Unpacked(body, encoding)
        ending = Ending(self._quiet, lambda whole: _is_whole(self._judge(answer, whole)))
        try:
            if is_stream and 200 <= answer.status < 300:
                read = await read_stream(content, self._memory, self._idle, ending, attempt.note)
                return self._judge(answer, read)
            return self._judge(answer, await read_body(content, self._memory, ending))
        except BrokenOffError as broken:
            outcome = self._judge(answer, broken.read)
            if _is_whole(outcome):
                return outcome
            raise broken.error from None

    def _judge(self, answer: HttpAnswer, read: StreamResult | bytes) -> Reply | Failure:
        """What an answer means, the key redacted from it. Events are looked for in any body."""
        if isinstance(read, StreamResult):
            return self._judge_stream(answer, read)
        answer.body = body = self._redactor.body(read.removeprefix(BOM))
        if 200 <= answer.status < 300 and looks_like_events(body):
            if answer.url == RESPONSES:
                return self._judge_stream(answer, assemble_whole(body))
            whole = assemble_chat(body)
            return self._judge_stream(answer, StreamResult(None, whole, partial=None if whole else body))
        return read_answer(answer)

    def _judge_stream(self, answer: HttpAnswer, result: StreamResult) -> Reply | Failure:
        if result.error is not None:
            return self._judge(answer, result.error)
        if result.response is not None:
            return self._judge(changed(answer, ended_as=result.terminal), result.response)
        message = "the stream ended without its terminal event"
        partial = as_text(self._redactor.body(result.partial)) if result.partial else None
        return Failure(
            FailureCode.STREAM_TRUNCATED,
            message,
            answer.status,
            body=partial,
            request_id=answer.request_id,
            looks_like_api=True,
        )


def _is_whole(outcome: Reply | Failure) -> bool:
    """Whether an outcome is that of whole JSON, so that nothing lacks of the answer."""
    if isinstance(outcome, Reply):
        return True
    return outcome.body is not None and outcome.body.startswith(b"{") and outcome.code != FailureCode.INVALID_JSON


_RETRY_AFTER, _RETRY_AFTER_MS = istr("retry-after"), istr("retry-after-ms")


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """What the headers ask for. A date is measured from the gateway's own clock, if it shows it."""
    if _RETRY_AFTER not in headers and _RETRY_AFTER_MS not in headers:
        return None
    asked: dict[str, str] = {name: headers[name] for name in (_RETRY_AFTER, _RETRY_AFTER_MS) if name in headers}
    now = time.time()
    if "Date" in headers:
        with contextlib.suppress(ValueError, OverflowError):
            now = parsedate_to_datetime(headers["Date"]).timestamp()
    return read_retry_after(asked, now)


def _network_failure(error: Exception, hints: Mapping[FailureCode, str]) -> Failure:
    """A failure by the exception's type. The text is batchrun's: aiohttp's can hold headers, and so the key."""
    if (no_connection := _no_connection(error)) is not None:
        code, message = no_connection
        return Failure(code, message + hints.get(code, ""), may_be_billed=False)
    if isinstance(error, (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError, aiohttp.ClientOSError)):
        return Failure(FailureCode.CONNECTION_LOST, f"the connection broke off ({type(error).__name__})")
    if isinstance(error, OSError):
        why = error.strerror or type(error).__name__
        return Failure(FailureCode.CONNECTION_LOST, f"the connection broke off ({why})")
    return Failure(FailureCode.BAD_HTTP, f"what came back is not HTTP as it should be ({type(error).__name__})")


def _no_connection(error: Exception) -> tuple[FailureCode, str] | None:
    """Why no connection could be made, so that nothing was sent; None if one was made."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            message = f"{error.host}'s certificate is not valid: {_reason(error)}"
            return FailureCode.CERTIFICATE_REFUSED, message
        case aiohttp.ClientConnectorDNSError():
            return FailureCode.DNS_FAILED, f"no address for the host {error.host}"
        case aiohttp.ConnectionTimeoutError():
            return FailureCode.CONNECT_TIMEOUT, "no connection in time (--connect-timeout)"
        case aiohttp.ClientProxyConnectionError():
            return FailureCode.CONNECT_FAILED, f"cannot connect to the proxy: {_reason(error)}"
        case aiohttp.ClientHttpProxyError():
            return FailureCode.CONNECT_FAILED, f"the proxy answered HTTP {error.status}"
        case aiohttp.ClientConnectorError():
            return FailureCode.CONNECT_FAILED, f"cannot connect to {error.host}:{error.port}: {_reason(error)}"
        case _:
            return None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    cause = error.os_error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return cause.verify_message
    if isinstance(cause, ssl.SSLError) and cause.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"):
        return f"no TLS is spoken there ({cause.reason}); is the address http://?"
    return cause.strerror or type(cause).__name__
