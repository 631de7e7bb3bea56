"""`--rpm` and `--tpm` hold across the runs of a result file, whatever ends a run and whatever happens to its log."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support import GatewayThread, RunProcess, has_event, until, write_prices, write_requests

pytestmark = pytest.mark.slow


def start(folder: Path, gateway: GatewayThread, *options: str) -> RunProcess:
    return RunProcess(gateway.base_url, folder / "requests.jsonl", folder / "results.jsonl", *options)


def test_many_restarts_send_no_more_than_one_run(tmp_path: Path) -> None:
    """Ten runs in a few seconds, half of them killed: at most two requests and one more, all of them together."""
    write_requests(tmp_path / "requests.jsonl", 40)
    options = ("--rpm", "2", "--prices", str(write_prices(tmp_path)), "-c", "4")
    with GatewayThread() as gateway:
        for number in range(10):
            with start(tmp_path, gateway, *options) as run:
                starts = number + 1
                until(lambda: has_event(tmp_path / "results.jsonl", "start", starts))  # noqa: B023
                until(lambda: gateway.ledger.requests >= 1)
                run.signal(signal.SIGKILL if number % 2 else signal.SIGTERM)
                run.wait()
        assert 1 <= gateway.ledger.requests <= 3


@pytest.mark.parametrize("what", ["kept", "rotated", "cut off"])
@pytest.mark.parametrize("limit", ["--rpm", "--tpm"])
def test_a_second_run_waits_for_what_the_first_has_sent(tmp_path: Path, limit: str, what: str) -> None:
    """The first run had no limit; for the second, the minute is used up, even if the log says nothing about it."""
    write_requests(tmp_path / "requests.jsonl", 8)
    prices = ("--prices", str(write_prices(tmp_path)))
    log = tmp_path / "results.jsonl.log"
    with GatewayThread() as gateway:
        with start(tmp_path, gateway, *prices, "-n", "6") as run:
            assert run.wait() == 0
        if what == "rotated":
            log.rename(tmp_path / "results.jsonl.log.1")
        elif what == "cut off":
            half = log.read_bytes().splitlines(keepends=True)
            log.write_bytes(b"".join(half[len(half) // 2 :]))
        with start(tmp_path, gateway, *prices, limit, "6") as run:
            until(lambda: log.exists() and b'"limits"' in log.read_bytes().partition(f'"{limit[2:]}":6'.encode())[2])
            assert gateway.ledger.requests == 6
            run.signal(signal.SIGTERM)
            assert run.wait() == 143
        with start(tmp_path, gateway, *prices) as run:
            assert run.wait() == 0, "without a limit nothing waits"
        assert gateway.ledger.requests == 8
