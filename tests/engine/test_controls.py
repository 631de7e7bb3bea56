"""Control requests are on the bill: whatever the gateway served is in the report, to the token."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.billing.pricing import PriceBook
from batchrun.engine.retry import RetryPolicy
from batchrun.job.run import Run
from batchrun.records.money import usd
from batchrun.records.request import Overrides
from batchrun.report.rebuild import rebuild
from batchrun.report.report import Report
from batchrun.report.text import render
from batchrun.report.verify import Verifier
from batchrun.report.verify import render as render_verification
from batchrun.requests.reader import RequestFile
from tests import hostile
from tests.asking import in_virtual_time
from tests.engine.test_runner import BROKEN, Desk, Ran, desk
from tests.hostile import RESPONSE, Asked, Hostile, http
from tests.support import MODEL, events, read_records

__all__ = ["desk"]

LINES, BAD = 12, 2


class Serving:
    """A gateway that refuses the last lines and counts the tokens of every answer; no two answers cost the same."""

    def __init__(self) -> None:
        self.served: list[tuple[int, int]] = []
        self.asked: list[int] = []
        self.refuses_from = LINES - BAD + 1
        self.at_control: Callable[[], None] | None = None
        self.control_hangs = False
        self.more_tokens = 7
        self.server = Hostile(self._say)

    @property
    def tokens(self) -> tuple[int, int]:
        return sum(i for i, _ in self.served), sum(o for _, o in self.served)

    @property
    def controls(self) -> int:
        good = [number for number in self.asked if number < self.refuses_from]
        return len(good) - len(set(good))

    async def _say(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        number = int(json.loads(asked.body)["input"].split()[1])
        is_control = number < self.refuses_from and number in self.asked
        self.asked.append(number)
        if number >= self.refuses_from:
            writer.write(BROKEN)
            return
        if is_control and self.at_control is not None:
            self.at_control()
        if is_control and self.control_hangs:
            await hostile.silence(writer, asked)
        usage = 100 + len(self.served), self.more_tokens * (1 + len(self.served))
        self.served.append(usage)
        tokens = {"input_tokens": usage[0], "output_tokens": usage[1], "total_tokens": sum(usage)}
        writer.write(http(json.dumps(RESPONSE | {"usage": tokens}).encode()))


def cost_usd(tokens: tuple[int, int]) -> Decimal:
    return (2 * Decimal(tokens[0]) + 8 * Decimal(tokens[1])) / 1_000_000  # as `write_prices` says


def run(desk: Desk, gateway: Serving, times: int = 1, **options: Any) -> list[Ran]:
    ran: list[Ran] = []

    async def play() -> None:
        async with gateway.server:
            for _ in range(times):
                ran.append(await desk.run(gateway.server.base_url, retry=RetryPolicy(), **options))

    if not desk.requests.exists():
        desk.lines(LINES)
    in_virtual_time(play)
    return ran


def book(desk: Desk) -> PriceBook:
    return PriceBook.load(desk.prices)


def assert_is_all_that_was_served(report: Report, gateway: Serving) -> None:
    assert (report.usage.input_tokens, report.usage.output_tokens) == gateway.tokens
    assert report.cost.total_usd == cost_usd(gateway.tokens)
    assert report.controls is not None
    assert report.controls.requests == gateway.controls > 0


def test_the_bill_with_controls_is_what_the_gateway_served_however_it_is_made(desk: Desk) -> None:
    """Two runs with controls, and a third with nothing bad left."""
    gateway = Serving()
    first, second = run(desk, gateway, times=2)
    assert first.exit_code == second.exit_code == 1
    assert_is_all_that_was_served(second.report, gateway)
    assert first.report.controls is not None
    assert second.report.controls is not None
    assert 0 < first.report.controls.requests < second.report.controls.requests

    again = rebuild(desk.results, book(desk)).report
    assert (again.cost, again.usage, again.controls) == (
        second.report.cost,
        second.report.usage,
        second.report.controls,
    )
    with RequestFile(str(desk.requests), Overrides()) as requests:
        verified = Verifier(requests, desk.results, book(desk)).run()
    assert (verified.usage.total_tokens, verified.total_usd) == (sum(gateway.tokens), cost_usd(gateway.tokens))
    assert verified.control_requests == gateway.controls
    assert f"{gateway.controls} control requests by the run log" in render_verification(verified)


def test_the_report_tells_controls_apart_from_lines(desk: Desk) -> None:
    gateway = Serving()
    report = run(desk, gateway)[0].report
    assert report.controls is not None
    records = [record["run"]["usage"] for record in read_records(desk.results) if record["run"].get("usage")]
    of_lines = sum(usage["input_tokens"] for usage in records), sum(usage["output_tokens"] for usage in records)
    assert (report.controls.usage.input_tokens, report.controls.usage.output_tokens) == (
        gateway.tokens[0] - of_lines[0],
        gateway.tokens[1] - of_lines[1],
    )
    assert [model.cost.total_usd for model in report.models.values()] == [cost_usd(of_lines)]
    assert report.lines.total == report.attempts - report.retries == LINES
    text = render(report)
    assert "1 control request to see whether the gateway answers (in the bill)" in text
    row = next(line.split() for line in text.splitlines() if line.startswith("control requests"))
    usage = report.controls.usage
    sums = [f"{usage.input_tokens}", "0", f"{usage.output_tokens}", "0", usd(report.controls.cost.total_usd)]
    assert row[2:] == ["-", "-", "-", *sums]


def test_controls_of_earlier_runs_count_against_the_cap(desk: Desk) -> None:
    gateway = Serving()
    (first,) = run(desk, gateway)
    assert first.report.unbilled_usd is not None
    spent_usd = cost_usd(gateway.tokens) + first.report.unbilled_usd
    (second,) = run(desk, gateway, max_cost_usd=Decimal("0.001"))
    assert f"(up to ${usd(spent_usd)} spent)" in second.why


@pytest.mark.parametrize("is_resumed", [False, True])
def test_a_control_in_flight_when_the_process_is_killed_may_have_been_billed(
    desk: Desk, tmp_path: Path, is_resumed: bool
) -> None:
    """The files as they are while the control is in flight: its line has its record, and yet it is not settled."""
    killed = tmp_path / "killed"
    killed.mkdir()
    gateway = Serving()

    def kill() -> None:
        gateway.at_control = None
        for path in (desk.results, Path(f"{desk.results}.log")):
            shutil.copy(path, killed / path.name)

    if is_resumed:
        run(desk, gateway)
    gateway.at_control = kill
    run(desk, gateway)
    copied = killed / desk.results.name
    controls = [event for event in events(copied) if event["event"] == "sent" and event.get("control")]
    report = rebuild(copied, book(desk)).report
    assert report.possibly_billed_twice is not None
    in_flight = report.possibly_billed_twice
    assert (in_flight.lines, len(controls)) == (1, 2 if is_resumed else 1)
    assert in_flight.upper_usd >= cost_usd(gateway.served[-1])

    desk.results = copied
    (resumed,) = run(desk, Serving())
    assert resumed.report.possibly_billed_twice == in_flight, "the next run says so, too"


def test_a_control_that_is_left_in_flight_may_have_been_billed(desk: Desk) -> None:
    """Ctrl-C twice while it is in flight: the report says so, and so does the one that is made later."""
    gateway = Serving()
    gateway.control_hangs = True
    in_flight = asyncio.Event()
    gateway.at_control = in_flight.set

    async def interrupt(run: Run) -> None:
        await in_flight.wait()
        for _ in range(2):
            run.interrupt(signal.SIGINT)

    (ran,) = run(desk, gateway, meanwhile=interrupt)
    assert ran.exit_code == 128 + signal.SIGINT
    left = ran.report.possibly_billed_twice
    assert left is not None
    assert left.lines == 1
    assert left.upper_usd > 0
    assert rebuild(desk.results, book(desk)).report.possibly_billed_twice == left


def test_a_control_that_is_cut_off_may_have_been_billed(desk: Desk) -> None:
    """Not answered, but sent: what it may have cost is told as for any other attempt."""
    gateway = Serving()
    gateway.control_hangs = True
    before = run(desk, gateway, limits=batchrun.Limits(8, max_outage_s=60))[0].report
    assert before.controls is None
    assert before.unbilled_usd is not None
    failed = [event for event in events(desk.results) if event["event"] == "ended" and event.get("control")]
    assert failed
    assert sum((Decimal(str(event["unbilled_usd"])) for event in failed), Decimal(0)) > 0
    assert rebuild(desk.results, book(desk)).report.unbilled_usd == before.unbilled_usd


@pytest.mark.parametrize("cap_usd", ["0.0065", "1"])
def test_a_control_is_reserved_like_a_line_and_not_sent_where_the_cap_has_no_room(desk: Desk, cap_usd: str) -> None:
    """The good lines cost 0.0052 USD. A control may cost 0.0017 USD, and the bad lines, which go on, 0.0002 USD."""
    good, bad = {"max_output_tokens": 200}, {"max_output_tokens": 1}
    numbers = range(1, LINES + 1)
    desk.bodies(
        *(
            {"model": MODEL, "input": f"question {number}"} | (good if number <= LINES - BAD else bad)
            for number in numbers
        )
    )
    gateway = Serving()
    (ran,) = run(desk, gateway, max_cost_usd=Decimal(cap_usd))
    assert ran.outcomes["succeeded"] == LINES - BAD
    sent = [event for event in events(desk.results) if event["event"] == "sent" and event.get("control")]
    assert len(sent) == gateway.controls == (1 if cap_usd == "1" else 0)
    assert all(Decimal("0.0016") < Decimal(event["upper_usd"]) < Decimal("0.0018") for event in sent)
    if cap_usd != "1":  # nobody can tell whose fault it is: that is said, no outage, and no line is tried in vain
        assert (ran.exit_code, ran.outcomes.total()) == (3, LINES - BAD)
        assert f"--max-cost {cap_usd} (up to $" in ran.why
        assert "no room for the request, of up to $0.00174, that would tell whether the gateway is at fault" in ran.why
        assert len(gateway.asked) == LINES - BAD + 6 * BAD
        assert not any("gone" in notice for notice in ran.told.notices)
    assert ran.report.unbilled_usd is not None
    assert ran.report.cost.total_usd + ran.report.unbilled_usd <= Decimal(cap_usd)


def test_in_an_outage_lines_are_tried_where_the_cap_has_no_room_for_a_control(desk: Desk) -> None:
    """The gateway is back after a minute: the job is done without a control, though that could not be paid."""
    good, bad = {"max_output_tokens": 200}, {"max_output_tokens": 1}
    bodies = [{"model": MODEL, "input": f"question {number}"} for number in range(1, 16)]
    desk.bodies(*(body | (good if number <= 10 else bad) for number, body in enumerate(bodies, 1)))
    gateway = Serving()

    async def come_back(run: Run) -> None:
        await asyncio.sleep(60)
        gateway.refuses_from, gateway.more_tokens = 100, 0

    (ran,) = run(desk, gateway, max_cost_usd=Decimal("0.0068"), meanwhile=come_back)
    assert (ran.exit_code, ran.outcomes) == (0, {"succeeded": 15})
    assert any("lines are tried themselves" in notice for notice in ran.told.notices)
    assert not [event for event in events(desk.results) if event["event"] == "sent" and event.get("control")]
