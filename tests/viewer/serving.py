"""A viewer on a real port for tests, in a thread of its own, and a client that says exactly what it is told to."""

from __future__ import annotations

import asyncio
import http.client
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from batchrun.billing.pricing import PriceBook
from batchrun.cli.running import TunedRun
from batchrun.datasets.requests_of import find_requests
from batchrun.evaluation.asked import Asked
from batchrun.results.paths import ResultPaths
from batchrun.viewer.facts import FactsReader
from batchrun.viewer.gold import Judge
from batchrun.viewer.guard import Guard
from batchrun.viewer.index import Index
from batchrun.viewer.prompts import Requests
from batchrun.viewer.review import Review
from batchrun.viewer.running import Run
from batchrun.viewer.second import Second
from batchrun.viewer.server import serve
from batchrun.viewer.table import DataTable
from tests.support import until


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Served:
    """A viewer that runs. `index`: its index."""

    guard: Guard
    index: Index

    def ask(self, path: str, method: str = "GET", body: bytes | None = None, **headers: str) -> Answer:
        """Ask with the cookie; a header that is told `-` is left out, `_` stands for `-` in a name."""
        told = {"Host": f"127.0.0.1:{self.guard.port}", "Cookie": f"{self.guard.cookie}={self.guard.token}"}
        told |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.guard.port, timeout=20)
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in told.items():
                if value != "-":
                    connection.putheader(name, value)
            if body is not None:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())
        finally:
            connection.close()

    def change(self, path: str, **change: Any) -> Answer:
        """Send a change as the page does."""
        headers = {"Origin": self.guard.origin, "X_Batchrun_Token": self.guard.script_token}
        return self.ask(path, "POST", json.dumps(change).encode(), Content_Type="application/json", **headers)

    def rows(self, query: str = "") -> Any:
        """The rows of a view, as JSON."""
        answer = self.ask(f"/rows.json?{query}")
        assert answer.status == 200, answer.text
        return answer.json

    def ids(self, query: str = "") -> list[str]:
        """The ids of the rows of a view."""
        return [row["custom_id"] for row in self.rows(query)["rows"]]


def second_of(results: Path) -> Second:
    """A result file as the second of two."""
    return Second(results, Asked.of(results), requests_of(results))


def requests_of(results: Path) -> Requests | None:
    """The request file of a result file."""
    path = find_requests(results, None)
    return None if path is None else Requests(path, results)


def index_of(
    results: Path, judge: Judge | None = None, second: Second | None = None, table: DataTable | None = None
) -> Index:
    """The index of a result file."""
    reader = FactsReader(Asked.of(results), PriceBook.load(None), judge, second, requests_of(results), table)
    return Index(results, ResultPaths.of(results).index if second is None else None, reader, b"")


@contextmanager
def serving(
    results: Path,
    review: Review | None = None,
    judge: Judge | None = None,
    second: Path | None = None,
    table: DataTable | None = None,
    writer: Run | None = None,
) -> Iterator[Served]:
    """A viewer of a result file that has read all of it. `writer`: its run, where that is no real one."""
    other = None if second is None else second_of(second)
    index = index_of(results, judge, other, table)
    ready = threading.Event()
    found: list[Guard] = []
    loop = asyncio.new_event_loop()

    def tell(guard: Guard) -> None:
        found.append(guard)
        ready.set()

    async def run() -> None:
        task = asyncio.ensure_future(serve(index, 0, tell, review, writer or TunedRun(results)))
        stopping.append(task)
        with suppress(asyncio.CancelledError):
            await task

    stopping: list[asyncio.Task[None]] = []
    thread = threading.Thread(target=lambda: loop.run_until_complete(run()))
    thread.start()
    try:
        assert ready.wait(20)
        until(lambda: index.progress.is_done)
        yield Served(found[0], index)
    finally:
        loop.call_soon_threadsafe(stopping[0].cancel)
        thread.join(20)
        loop.close()
        index.close()
