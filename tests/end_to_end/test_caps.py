"""Caps of three endpoints and of the whole job, with SIGKILLs between: what the gateways bill never passes any."""

from __future__ import annotations

import contextlib
import random
from decimal import Decimal
from pathlib import Path

import pytest

from batchrun.simulator.options import GatewayOptions
from tests.support import GatewayThread, RunProcess, until, write_prices, write_requests

LINES, IN_FLIGHT, KILLS = 6000, 6, 4
CAPS = {"a": Decimal("0.30"), "b": Decimal("0.25"), "c": Decimal("0.35")}
WHOLE = Decimal("0.60")
USED = Decimal("0.85")  # each death leaves requests in flight that may have cost their bound


def billed_usd(gateway: GatewayThread) -> Decimal:
    """What the gateway has billed, by `write_prices`."""
    usage = gateway.ledger.billed_usage()
    plain = usage.input_tokens - usage.cached_tokens
    return (2 * plain + Decimal("0.5") * usage.cached_tokens + 8 * usage.output_tokens) / 1_000_000


@pytest.mark.slow
def test_no_cap_is_passed_by_the_bills_of_the_gateways_however_often_the_job_is_killed(tmp_path: Path) -> None:
    requests = write_requests(tmp_path / "requests.jsonl", LINES, max_output_tokens=40)
    draw, file = random.Random(7), tmp_path / "endpoints.toml"
    options = GatewayOptions(latency_median_s=0.005, latency_p99_s=0.02, fault_rate=0.02, fault_words=("500", "cut"))
    with contextlib.ExitStack() as stack:
        gateways = {name: stack.enter_context(GatewayThread(options)) for name in CAPS}
        file.write_text(
            "".join(
                f'[[endpoint]]\nname = "{name}"\nbase_url = "{gateway.base_url}"\nmax_cost_usd = {CAPS[name]}\n'
                for name, gateway in gateways.items()
            )
        )

        def start(whole: Decimal) -> RunProcess:
            where = ["--endpoints", str(file), "--prices", str(write_prices(tmp_path))]
            rest = ["-c", str(IN_FLIGHT), "--max-cost", str(whole), "--max-errors", "off"]
            return RunProcess(None, requests, tmp_path / "results.jsonl", *where, *rest)

        def sent() -> int:
            return sum(gateway.ledger.requests for gateway in gateways.values())

        def check(whole: Decimal) -> None:
            for name, gateway in gateways.items():
                assert billed_usd(gateway) <= CAPS[name]
            assert sum(map(billed_usd, gateways.values())) <= whole

        for whole in (WHOLE, Decimal(1)):  # then only the caps of the endpoints hold
            for _ in range(KILLS):
                before, count = sent(), draw.randint(50, 150)
                with start(whole) as run:
                    until(lambda: sent() >= before + count or run.process.poll() is not None, 60)  # noqa: B023
                    assert run.process.poll() is None, run.screen
                until(lambda: not any(gateway.ledger.in_flight for gateway in gateways.values()))
                check(whole)
            with start(whole) as run:
                assert run.wait(120) == 3, run.screen
            check(whole)
            if whole == WHOLE:
                assert sum(map(billed_usd, gateways.values())) >= USED * whole
        for name, gateway in gateways.items():
            assert billed_usd(gateway) >= USED * CAPS[name]
