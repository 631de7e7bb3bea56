"""The simulated gateway as an HTTP server: checks keys and requests, plays the faults, bills the answers."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable
from types import TracebackType
from typing import Self

import orjson
from aiohttp import web

from batchrun.simulator.answers import identify
from batchrun.simulator.errors import WEB_APP, ApiError, invalid_url, missing_key, nginx_page, official, wrong_key
from batchrun.simulator.known import KnownAnswers
from batchrun.simulator.ledger import Ledger, LedgerRow
from batchrun.simulator.limits import Capacity, Latency, RateLimits
from batchrun.simulator.mismatches import drawn
from batchrun.simulator.options import DEFAULT_MODELS, GatewayOptions
from batchrun.simulator.replies import Reply, plan_reply, reply_of, with_headers
from batchrun.simulator.requests import Endpoint, parse_request, sha256_of
from batchrun.simulator.script import OK, FaultPlan
from batchrun.simulator.wire import deliver

_BACKLOG = 4096
"""Connections that may wait to be accepted; with the usual 128, a burst of clients waits for seconds."""
_PATHS = {endpoint.value: endpoint for endpoint in Endpoint}


class Gateway:
    """A simulated gateway on a loopback port, which runs during an `async with` block.

    It may share its event loop with its clients; it measures time by that loop. Entering the block raises `OSError` if
    it cannot listen on its port. `options` are its options, `ledger` has all its requests and what it billed, and
    `capacity.limit` may be changed at any time. Raises `UsageError` if the file of answers cannot be used.
    """

    def __init__(self, options: GatewayOptions | None = None) -> None:
        self.options = options or GatewayOptions()
        self.ledger = Ledger(self.options.keep_rows, self.options.keep_bodies)
        self._faults = FaultPlan(
            self.options.script, self.options.fault_rate, self.options.fault_words, self.options.seed
        )
        self._known = KnownAnswers.of(self.options)
        self._limits = RateLimits(self.options)
        self._latency = Latency(self.options.latency_median_s, self.options.latency_p99_s, self.options.seed)
        self.capacity = Capacity(self.options)
        self._arrivals: dict[bytes, int] = {}
        self._working: set[asyncio.Task[object]] = set()
        self._port = 0

    @property
    def base_url(self) -> str:
        """The base URL of the API, with `/v1` and without a slash at the end."""
        return f"{self.root_url}/v1"

    @property
    def root_url(self) -> str:
        """The base URL without `/v1`: wrong for clients of the API, right for `/_sim/ledger`."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"http://{host}:{self._port}"

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle, handler_cancellation=True, access_log=None)
        self._listener = await loop.create_server(self._server, self.options.host, self.options.port, backlog=_BACKLOG)
        self._port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close at once; requests in progress are aborted."""
        self._listener.close()
        for task in self._working:
            task.cancel()
        await asyncio.gather(*self._working, return_exceptions=True)
        self._server.pre_shutdown()
        await self._server.shutdown(timeout=0.1)
        await self._listener.wait_closed()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/_sim/ledger":
            return self._show_ledger(request)
        task = asyncio.current_task()
        assert task is not None, "a handler runs in a task"
        self._working.add(task)
        now = asyncio.get_running_loop().time()
        row = self.ledger.open(now, request.method, request.path, "Authorization" in request.headers)
        try:
            return await self._serve(request, row)
        except asyncio.CancelledError:
            row.client_gone = True
            raise
        except ConnectionError:
            # The client is gone. If this were raised, aiohttp would log it as an error of the gateway.
            row.client_gone = True
            return web.Response()
        finally:
            self.ledger.close(row)
            self._working.discard(task)

    async def _serve(self, request: web.BaseRequest, row: LedgerRow) -> web.StreamResponse:
        try:
            endpoint = self._route(request)
            if isinstance(endpoint, Reply):
                return await self._send(request, row, endpoint, 0)
            body = await self._read(request)
            sha = sha256_of(body)
            self.ledger.note_body(row, body, sha.hex())
            row.attempt = self._count_arrival(sha)
            async with self.capacity.slot():
                return await self._work(request, row, endpoint, body, sha)
        except ApiError as error:
            row.outcome = error.outcome
            return await self._send(request, row, reply_of(error.reply), 0)

    def _route(self, request: web.BaseRequest) -> Endpoint | Reply:
        """The endpoint of a request, or a reply that does not need the body. Raises `ApiError` if it is refused."""
        path = request.path
        if not path.startswith("/v1/"):
            return Reply(200, (WEB_APP,), "text/html; charset=utf-8")
        self._check_key(request)
        if path == "/v1/models" and request.method == "GET":
            return Reply(200, (self._model_list(),))
        endpoint = _PATHS.get(path)
        if endpoint is None:
            raise ApiError(invalid_url(request.method, path), "invalid_url")
        if request.method != "POST":
            message = f"Not allowed to {request.method} on {path}. "
            hint = "(HINT: Perhaps you meant to use a different HTTP method?)"
            raise ApiError(official(405, message + hint), "method_not_allowed")
        return endpoint

    def _check_key(self, request: web.BaseRequest) -> None:
        if self.options.api_keys is None:
            return
        key = _key_of(request)
        if not key:
            raise ApiError(missing_key(), "missing_key")
        if key not in self.options.api_keys:
            raise ApiError(wrong_key(key), "invalid_api_key")

    def _model_list(self) -> bytes:
        models = DEFAULT_MODELS if self.options.models is None else self.options.models
        rows = [{"id": model, "object": "model", "created": 1735689600, "owned_by": "system"} for model in models]
        return orjson.dumps({"object": "list", "data": rows})

    async def _read(self, request: web.BaseRequest) -> bytes:
        if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
            request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        chunks = []
        size = 0
        try:
            async for chunk in request.content.iter_any():
                size += len(chunk)
                if size > self.options.max_body_bytes:
                    raise ApiError(nginx_page(413, "Request Entity Too Large"), "too_large")
                chunks.append(chunk)
        except web.RequestPayloadError:
            raise ApiError(nginx_page(400, "Bad Request"), "torn_request") from None
        return b"".join(chunks)

    async def _work(
        self, request: web.BaseRequest, row: LedgerRow, endpoint: Endpoint, body: bytes, sha: bytes
    ) -> web.StreamResponse:
        """Check and admit a request, and answer as the script says for this attempt."""
        asked = parse_request(endpoint, body, self.options.seed, self.options.models)
        row.model, row.streamed = asked.model, asked.stream
        tokens = asked.input_tokens + (asked.max_output_tokens or 0)
        headers = self._limits.admit(asked.model, tokens, row.arrived_s)
        word = self._faults.next_word(sha)
        if word == OK:
            word = drawn(asked, self.options)
        row.outcome = str(word)
        # If arrivals are not counted, the number of the row keeps ids apart.
        number = row.attempt or row.sequence
        identity = identify(self.options.seed, sha, number)
        reply = plan_reply(asked, word, identity, self.options, _key_of(request), self._known)
        headers["x-request-id"] = identity.of("req")
        if reply.usage is not None:
            self.ledger.bill(row, reply.usage)
        latency_s = self._latency.of(sha, number) if word.is_answer else 0
        return await self._send(request, row, with_headers(reply, headers), latency_s)

    def _count_arrival(self, sha: bytes) -> int:
        """The number of this arrival of the body, from 1; 0 if no rows are kept, so that memory does not grow."""
        if not self.options.keep_rows:
            return 0
        attempt = self._arrivals.get(sha, 0) + 1
        self._arrivals[sha] = attempt
        return attempt

    async def _send(
        self, request: web.BaseRequest, row: LedgerRow, reply: Reply, latency_s: float
    ) -> web.StreamResponse:
        row.status = reply.status or None
        row.outcome = row.outcome or "ok"
        standard = {
            "x-request-id": f"req_{row.sequence:032x}",
            "openai-version": "2020-10-01",
            "openai-processing-ms": f"{latency_s * 1000:.0f}",
        }
        response = await deliver(request, with_headers(reply, standard), latency_s)
        row.delivered = True
        return response

    def _show_ledger(self, request: web.BaseRequest) -> web.StreamResponse:
        """The ledger over HTTP, for clients in another process: the sums, or every row with `?full=1`."""
        if request.query.get("full"):
            return web.Response(body=b"".join(self.ledger.json_lines()), content_type="application/jsonl")
        return web.Response(body=orjson.dumps(self.ledger.summary()), content_type="application/json")


def _key_of(request: web.BaseRequest) -> str:
    scheme, _, key = request.headers.get("Authorization", "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""


async def serve_until_stopped(options: GatewayOptions, on_ready: Callable[[str], None]) -> None:
    """Run a gateway until SIGINT or SIGTERM. `on_ready` is called with the base URL once the gateway listens.

    Raises `OSError` if it cannot listen on its port.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    signals = (signal.SIGINT, signal.SIGTERM)
    for number in signals:
        # If the loop cannot watch signals, Ctrl-C still ends it by KeyboardInterrupt.
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopped.set)
    try:
        async with Gateway(options) as gateway:
            on_ready(gateway.base_url)
            await stopped.wait()
    finally:
        for number in signals:
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
