"""The server of the viewer, for one person: pages and JSON of rows, on 127.0.0.1 alone."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any, Self, TypeVar

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from batchrun.errors import BatchrunError, UsageError
from batchrun.records.words import printable_lines
from batchrun.viewer.guard import HEADERS, Guard, Refused
from batchrun.viewer.index import Index, follow
from batchrun.viewer.pages import PLACE, SCRIPT, Pages, state_of
from batchrun.viewer.review import Review
from batchrun.viewer.review_pages import ReviewPages
from batchrun.viewer.running import Run, RunWatch
from batchrun.viewer.shown import Rows
from batchrun.viewer.view import View, chosen_offsets, select

FOLLOW_S = 0.5
"""How often it is looked whether the file has grown, in seconds."""
THREADS = 2
"""Pages that are made at once: each thread takes some memory, and they take turns anyway."""
_EXPORT_BYTES = 1 << 18
_LONGEST_NUMBER = len(str(sys.maxsize))
T = TypeVar("T")
_log = logging.getLogger(__name__)
_log.addFilter(lambda record: not _is_of_bad_request(record))
LARGEST_CHANGE = 1 << 20
"""The longest decision that is taken, in bytes."""


class Viewer:
    """Serves the rows of one result file during an `async with` block. `guard.address` is the address to open.

    Entering raises `OSError` if it cannot listen on its port.
    """

    def __init__(
        self,
        index: Index,
        rows: Rows,
        port: int = 0,
        review: Review | None = None,
        run: Run | None = None,
        command: str = "batchrun view",
    ) -> None:
        self._index, self._rows, self._port, self._command = index, rows, port, command
        self._review = None if review is None else ReviewPages(index, rows, review)
        self._watch = RunWatch(run)
        self._is_stopped = threading.Event()
        self._deciding = asyncio.Lock()
        self._threads = ThreadPoolExecutor(THREADS, "page")
        self._failure: BatchrunError | OSError | None = None

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._server = web.Server(self._handle, access_log=None, logger=_log)
        self._listener = await loop.create_server(self._server, "127.0.0.1", self._port)
        self.guard = Guard(self._listener.sockets[0].getsockname()[1])
        self._pages = Pages(self._rows, self.guard.script_token, self._command, has_review=self._review is not None)
        self._headers = HEADERS | {"Content-Security-Policy": self._pages.policy, "Server": "batchrun"}
        self._reading = threading.Thread(target=self._follow, name="index", daemon=True)
        self._reading.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self._server.pre_shutdown()
        await self._server.shutdown(timeout=0.5)
        await self._watch.close()
        await self._listener.wait_closed()
        self._is_stopped.set()
        self._threads.shutdown()
        await asyncio.to_thread(self._reading.join)

    async def _in_thread(self, make: Callable[..., T], *arguments: Any) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, make, *arguments)

    def _follow(self) -> None:
        try:
            follow(self._index, self._is_stopped.is_set, lambda: bool(self._is_stopped.wait(FOLLOW_S)))
        except (BatchrunError, OSError) as error:
            self._failure = error

    # ------------------------------------------------------------------------------------------- requests

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = self._said(request, refused.status, str(refused))
        except UsageError as error:
            response = self._said(request, 400, str(error))
        except BatchrunError as error:
            response = self._said(request, 500, str(error))
        except OSError as error:
            response = self._said(request, 500, f"cannot read {error.filename}: {error.strerror}")
        if not response.prepared:
            response.headers.update(self._headers)
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.guard.check_place(request.headers, request.raw_path)
        if request.path == "/" and "token" in request.query:
            return self._welcome(request.query["token"])
        self.guard.check_reader(request.headers, request.cookies)
        if request.method not in ("GET", "HEAD"):
            self.guard.check_change(request.headers)
            return await self._change(request)
        if self._failure is not None:
            raise self._failure
        answers: dict[str, Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]] = {
            "/": self._first,
            "/view.js": self._script,
            "/rows": self._table,
            "/rows.json": self._table_json,
            "/rows.jsonl": self._export,
            "/state.json": self._state,
        }
        if (answer := answers.get(request.path)) is not None:
            return await answer(request)
        if self._review is not None and (request.path + "/").startswith("/review/"):
            return await self._review_page(self._review, request.path.removeprefix("/review").removeprefix("/"))
        if request.path.startswith("/rows/") and request.path.endswith("/text.json"):
            return await self._text(request, request.path.removeprefix("/rows/").removesuffix("/text.json"))
        if request.path.startswith("/rows/"):
            return await self._row(request, request.path.removeprefix("/rows/"))
        raise Refused(404, "There is no such page.")

    def _welcome(self, token: str) -> web.Response:
        """The token becomes a cookie, and leaves the address."""
        self.guard.admit(token)
        response = web.Response(status=303, headers={"Location": "/rows"})
        response.set_cookie(self.guard.cookie, self.guard.token, httponly=True, samesite="Strict", path="/")
        return response

    def _said(self, request: web.BaseRequest, status: int, message: str) -> web.Response:
        if request.method not in ("GET", "HEAD") or request.path.endswith(".json"):
            response = _json({"message": message})
            response.set_status(status)
            return response
        return web.Response(status=status, body=self._pages.message(message), content_type="text/html", charset="utf-8")

    async def _first(self, request: web.BaseRequest) -> web.Response:
        return web.Response(status=303, headers={"Location": "/rows"})

    async def _script(self, request: web.BaseRequest) -> web.Response:
        return web.Response(body=SCRIPT, content_type="text/javascript", charset="utf-8")

    async def _table(self, request: web.BaseRequest) -> web.Response:
        view, refused = View.as_far_as(_pairs(request), self._index.columns)
        page = await self._in_thread(self._pages.table, self._index, view, self._watch.look(), refused)
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _row(self, request: web.BaseRequest, number: str) -> web.Response:
        row = _whole(number, len(self._index.columns))
        place = request.query.get(PLACE)
        at = None if place is None else _whole(place, len(self._index.columns))
        page = await self._in_thread(self._pages.row, self._index, self._view(request), row, at)
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _text(self, request: web.BaseRequest, number: str) -> web.Response:
        """A piece of a text that is too long to be shown at once."""
        row, start = _whole(number, len(self._index.columns)), _whole(request.query.get("from", ""), sys.maxsize)
        piece = await self._in_thread(self._rows.piece, row, request.query.get("part", ""), start)
        if piece is None:
            raise Refused(404, "There is no such text.")
        return _json({"text": printable_lines(piece.text), "next": piece.next, "left": piece.left})

    async def _review_page(self, review: ReviewPages, place: str) -> web.Response:
        if not place:
            return web.Response(status=303, headers={"Location": await self._in_thread(review.first)})
        page = await self._in_thread(review.page, self._pages, _whole(place, review.size))
        return web.Response(body=page, content_type="text/html", charset="utf-8")

    async def _change(self, request: web.BaseRequest) -> web.Response:
        """A decision on a row of the review, which is kept before this answers; or other limits of the run.

        What cannot be done is answered by a `message`.
        """
        is_review = self._review is not None and request.path.startswith("/review/")
        if request.method != "POST" or not (is_review or request.path == "/run"):
            raise Refused(405, "Nothing is changed here.")
        body = bytearray()
        async for piece in request.content.iter_any():
            body += piece
            if len(body) > LARGEST_CHANGE:
                raise Refused(413, f"A change has {LARGEST_CHANGE:,} bytes at most.")
        try:
            if not is_review or self._review is None:
                return _json(await self._watch.change(bytes(body)))
            place = _whole(request.path.removeprefix("/review/"), self._review.size)
            async with self._deciding:
                return _json({"next": await self._in_thread(self._review.decide, place, bytes(body))})
        except UsageError as error:  # what a person may well try is no fault of the page, and no error of HTTP
            return _json({"message": str(error)})

    async def _table_json(self, request: web.BaseRequest) -> web.Response:
        view = self._view(request)
        return _json(await self._in_thread(self._found, view))

    def _found(self, view: View) -> dict[str, object]:
        selection = select(self._index, view)
        rows, table = self._rows.page(selection.rows), self._rows.table
        return {
            "total": selection.total,
            "page": view.page,
            "size": view.size,
            "rows": [row.to_json(self._rows.fields, [] if table is None else table.columns) for row in rows],
            "facets": {facet.name: dict(facet.counts) for facet in selection.facets},
        }

    async def _state(self, request: web.BaseRequest) -> web.Response:
        return _json(state_of(self._index) | {"run": self._watch.look()})

    async def _export(self, request: web.BaseRequest) -> web.StreamResponse:
        """The records of a view as they stand in the file."""
        offsets = await self._in_thread(chosen_offsets, self._index, self._view(request))
        disposition = {"Content-Disposition": 'attachment; filename="rows.jsonl"'}
        response = web.StreamResponse(headers=self._headers | disposition)
        response.content_type = "application/jsonl"
        await response.prepare(request)
        records = self._rows.records(offsets, _EXPORT_BYTES)
        with contextlib.suppress(ConnectionError):
            while piece := await self._in_thread(next, records, b""):
                await response.write(piece)
            await response.write_eof()
        return response

    def _view(self, request: web.BaseRequest) -> View:
        return View.of(_pairs(request), self._index.columns)


def _pairs(request: web.BaseRequest) -> list[tuple[str, str]]:
    """What the address of a view says of it."""
    return [pair for pair in request.query.items() if pair[0] != PLACE]


def _whole(text: str, count: int) -> int:
    """A number below `count` in an address. Raises `Refused`."""
    if not text.isdecimal() or len(text) > _LONGEST_NUMBER or int(text) >= count:
        raise Refused(404, "There is no such row.")
    return int(text)


def _is_of_bad_request(record: logging.LogRecord) -> bool:
    """Whether a message is about what was no HTTP: it was refused, and the terminal need not know."""
    return record.exc_info is not None and isinstance(record.exc_info[1], HttpProcessingError)


def _json(told: object) -> web.Response:
    return web.Response(body=orjson.dumps(told), content_type="application/json")


async def serve(
    index: Index,
    port: int,
    on_ready: Callable[[Guard], None],
    review: Review | None = None,
    run: Run | None = None,
    command: str = "batchrun view",
) -> None:
    """Serve a result file until this is cancelled. `on_ready` is called once it listens, with the addresses to open.
    `run`: what asks the run that writes the file. `command`: what to type to serve it again.

    Raises `OSError` if it cannot listen on its port.
    """
    async with Viewer(index, Rows(index), port, review, run, command) as viewer:
        on_ready(viewer.guard)
        await asyncio.get_running_loop().create_future()
