"""Fixtures for all tests."""

from __future__ import annotations

import asyncio.constants
import functools
import gc
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any
from unittest.mock import Mock

import aiohttp
import aioresponses.core
import pytest
from aiohttp.client_proto import ResponseHandler
from hypothesis import HealthCheck, settings

# how long an example takes says more about the machine than about the code
settings.register_profile("quick", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("quick")

# From Python 3.12 on a loop gives its threads 300 s to end: of virtual time, which have passed at once.
vars(asyncio.constants)["THREAD_JOIN_TIMEOUT"] = None


def pytest_collection_finish() -> None:
    """Keep what is collected out of each later search for garbage: thousands of tests made one take 0.4 s."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Name what fails at once: a run that is stopped at its bound never comes to its summary."""
    if report.failed and "PYTEST_XDIST_WORKER" not in os.environ:
        print(f"\nfailed: {report.nodeid}", file=sys.__stderr__, flush=True)


@pytest.fixture
def replies(monkeypatch: pytest.MonkeyPatch) -> Iterator[aioresponses.aioresponses]:
    """Prepared replies to aiohttp's client, by aioresponses repaired: 0.7.9 does not know aiohttp 3.14.

    That wants a `stream_writer` of every response, and asserts when more than the limit is fed to a reader
    that no connection stands behind. Neither timeouts nor redirects are as on the wire.
    """

    def reader(loop: Any = None) -> aiohttp.StreamReader:
        return aiohttp.StreamReader(ResponseHandler(loop=loop), limit=1 << 30, loop=loop)

    response = functools.partial(aiohttp.ClientResponse, stream_writer=Mock(output_size=0))
    monkeypatch.setattr(aioresponses.core, "ClientResponse", response)
    monkeypatch.setattr(aioresponses.core, "stream_reader_factory", reader)
    with aioresponses.aioresponses() as prepared:
        yield prepared


# Signals that were ignored when the tests were started (`nohup`, a shell's `&`) would be ignored by every process that
# they start, which heeds that. SIG_DFL and not Python's own handler: a handler does not outlive an exec.
if hasattr(signal, "SIGHUP"):
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
