"""A process that stands still (SIGSTOP, Ctrl-Z, a closed laptop) and goes on: what came meanwhile is read."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from batchrun.simulator.options import GatewayOptions
from tests.support import GatewayThread, RunProcess, ids, until, write_prices, write_requests

pytestmark = pytest.mark.slow

LINES = 100
TIMEOUT_S = 2.0


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
def test_what_lies_in_the_buffers_is_read_before_anything_is_timed_out(tmp_path: Path, stream: bool) -> None:
    """100 answers come while the process stands still for longer than any timeout: all are kept, each paid once."""
    requests = write_requests(tmp_path / "requests.jsonl", LINES, stream=stream)
    options = ("-c", str(LINES), "--prices", str(write_prices(tmp_path)), "--max-attempts", "1")
    timeouts = ("--attempt-timeout", f"{TIMEOUT_S}", "--idle-timeout", f"{TIMEOUT_S}", "--connect-timeout", "1")
    with (
        GatewayThread(GatewayOptions(latency_median_s=1.0)) as gateway,
        RunProcess(gateway.base_url, requests, tmp_path / "results.jsonl", *options, *timeouts) as run,
    ):
        until(lambda: gateway.ledger.requests == LINES)
        run.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        until(lambda: gateway.ledger.in_flight == 0)
        until(lambda: time.monotonic() - stopped_at > TIMEOUT_S + 0.5)
        run.signal(signal.SIGCONT)
        assert run.wait() == 0, run.screen
        assert gateway.ledger.requests == LINES, "none was sent twice"
    assert len(ids(tmp_path / "results.jsonl")) == LINES


def test_the_grace_time_of_a_drain_does_not_run_out_while_the_process_stands_still(tmp_path: Path) -> None:
    """Ctrl-C, Ctrl-Z, and later `fg`: what was in flight has come meanwhile and is recorded."""
    requests, results = write_requests(tmp_path / "requests.jsonl", 8), tmp_path / "results.jsonl"
    options = ("-c", "4", "--prices", str(write_prices(tmp_path)), "--grace", "1")
    with (
        GatewayThread(GatewayOptions(latency_median_s=0.6)) as gateway,
        RunProcess(gateway.base_url, requests, results, *options) as run,
    ):
        until(lambda: gateway.ledger.requests == 4)
        run.signal(signal.SIGINT)
        until(lambda: "finishing 4 in flight" in run.screen)
        run.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        until(lambda: gateway.ledger.in_flight == 0)
        until(lambda: time.monotonic() - stopped_at > 1.5)
        run.signal(signal.SIGCONT)
        assert run.wait() == 130, run.screen
    assert len(ids(results)) == 4
