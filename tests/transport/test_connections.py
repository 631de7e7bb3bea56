"""Answers of one request are never taken for those of the next: what comes unasked makes a connection unusable."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest

from batchrun.records.outcome import Reply
from batchrun.records.request import RequestLine, parse_request
from batchrun.transport.connections import Connector
from batchrun.transport.deadlines import Timeouts
from batchrun.transport.endpoint import Endpoint
from batchrun.transport.http import HttpTransport
from tests.hostile import KEY, RESPONSE, http

CAP = 1 << 20


def line(number: int) -> RequestLine:
    return parse_request(b'{"model":"m","input":"question %d"}' % number, number)


def answered(outcome: object) -> str:
    assert isinstance(outcome, Reply), outcome
    return str(json.loads(outcome.body)["id"])


class Echo:
    """Says which question it answers, keeps connections, and answers once more when the test says so."""

    def __init__(self) -> None:
        self.connections = 0
        self.last: tuple[asyncio.StreamWriter, bytes] | None = None

    async def __aenter__(self) -> Echo:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.base_url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/v1"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = next(row for row in head.split("\r\n") if row.lower().startswith("content-length"))
                body = await reader.readexactly(int(length.partition(":")[2]))
                answer = http(json.dumps(RESPONSE | {"id": json.loads(body)["input"]}).encode())
                answer = answer.replace(b"Connection: close\r\n", b"")
                self.last = writer, answer
                writer.write(answer)
                await writer.drain()

    async def again(self) -> None:
        """The last answer once more, on the connection that it came on."""
        assert self.last is not None
        writer, answer = self.last
        writer.write(answer)
        await writer.drain()


@pytest.mark.parametrize("turns", [0, 50], ids=["waits in the socket", "has been read"])
async def test_a_second_response_is_never_the_answer_to_the_next_request(turns: int) -> None:
    """27 of 55 lines once got the answer to the line before them, as a success."""
    said = list[str]()
    async with Echo() as server:
        async with HttpTransport(Endpoint(server.base_url, KEY), Timeouts(), CAP, said.append) as transport:
            for number in range(1, 6):
                assert answered(await transport.send(line(number))) == f"question {number}"
                await server.again()
                for _ in range(turns):
                    await asyncio.sleep(0)
        assert server.connections == 5
    assert said == [
        "the gateway sent data that no request asked for; from now on every request has a connection of its own"
    ]


async def test_a_connection_on_which_nothing_came_is_used_again() -> None:
    said = list[str]()
    async with Echo() as server:
        async with HttpTransport(Endpoint(server.base_url, KEY), Timeouts(), CAP, said.append) as transport:
            for number in range(1, 6):
                assert answered(await transport.send(line(number))) == f"question {number}"
        assert server.connections == 1
    assert said == []


async def test_without_keepalive_no_connection_is_used_twice() -> None:
    async with Echo() as server:
        async with HttpTransport(Endpoint(server.base_url, KEY, keepalive=False), Timeouts(), CAP) as transport:
            for number in range(1, 4):
                assert answered(await transport.send(line(number))) == f"question {number}"
        assert server.connections == 3


async def test_connections_that_have_ended_are_forgotten() -> None:
    """Without keep-alive there is one for every request of a run of days."""
    async with Echo() as server:
        async with HttpTransport(Endpoint(server.base_url, KEY, keepalive=False), Timeouts(), CAP) as transport:
            for number in range(1, 301):
                assert answered(await transport.send(line(number))) == f"question {number}"
            connector = transport._session.connector
            assert isinstance(connector, Connector)
            assert len(connector._sockets) <= 70
        assert server.connections == 300
