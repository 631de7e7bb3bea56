"""What a person sees while a job runs: a bar that fits its window, a line every 30 s elsewhere."""

import io
import os
import pty
import re
import select
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import TextIO

import pytest

from batchrun.cli.progress import LIMITED_BY, Progress
from batchrun.engine.observer import Status
from batchrun.limits.limited_by import LimitedBy

STATUS = Status(
    total=2000,
    done=500,
    failed=0,
    in_flight=32,
    slots=40,
    limited_by="gateway_concurrency",
    cost_usd=Decimal("1.2345678"),
    projected_usd=Decimal("4.9382712"),
    recorded_now=400,
    tokens_now=50_000,
    elapsed_s=10.0,
    eta_s=37.5,
)


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class Window:
    """A pseudo-terminal of a given width."""

    def __init__(self, columns: int) -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, columns))
        self.stream: TextIO = os.fdopen(slave, "w")

    def resize(self, columns: int) -> None:
        termios.tcsetwinsize(self.stream.fileno(), (24, columns))

    def read(self) -> str:
        """What has been written since the last look."""
        self.stream.flush()
        pieces = []
        while select.select([self._master], [], [], 0)[0]:
            pieces.append(os.read(self._master, 1 << 16))
        return b"".join(pieces).decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self._master)


OpenWindow = Callable[[int], Window]


@pytest.fixture
def open_window() -> Iterator[OpenWindow]:
    windows: list[Window] = []

    def opened(columns: int) -> Window:
        windows.append(Window(columns))
        return windows[-1]

    yield opened
    for window in windows:
        window.close()


def drawn(window: Window, status: Status = STATUS) -> str:
    """The bar that this status leaves on the screen."""
    progress = Progress(stream=window.stream)
    progress.tick(status)
    text = window.read().split("\r")[-1].rstrip()
    progress.close()
    return text


# --------------------------------------------------------------------------------------------- the bar


def test_the_bar_says_all_that_matters(open_window: OpenWindow) -> None:
    bar = drawn(open_window(120), replace(STATUS, failed=3))
    head, _, facts = bar.split("|")
    assert head == "500/2,000  25%"
    assert facts == " 40/s, ETA 00:37, 3 failed, $1.23 of ~$4.94, 32 in flight (gateway cap), 5,000 tokens/s"


def test_lines_of_earlier_runs_are_done_but_not_part_of_the_rate(open_window: OpenWindow) -> None:
    bar = drawn(open_window(120), replace(STATUS, recorded_now=1, eta_s=15_000.0))
    assert bar.startswith("500/2,000  25%|")
    assert " 0.1/s, ETA 4:10:00," in bar


@pytest.mark.parametrize("columns", [200, 120, 80, 60, 40, 20, 10, 3])
def test_the_bar_fits_its_window_and_leaves_room_for_a_control_c(open_window: OpenWindow, columns: int) -> None:
    assert len(drawn(open_window(columns), replace(STATUS, failed=3))) <= max(1, columns - 2)


def test_a_narrow_window_leaves_out_what_matters_least(open_window: OpenWindow) -> None:
    failed = replace(STATUS, failed=3)
    assert drawn(open_window(80), failed).endswith("| 40/s, ETA 00:37, 3 failed, $1.23 of ~$4.94, gateway cap")
    assert drawn(open_window(70), failed).endswith("| 40/s, ETA 00:37, 3 failed, $1.23 of ~$4.94")
    assert drawn(open_window(40), failed).endswith("| 40/s, ETA 00:37")


@pytest.mark.parametrize("bound", LimitedBy)
def test_whatever_holds_the_run_back_has_a_short_name(open_window: OpenWindow, bound: LimitedBy) -> None:
    name = re.search(r"32 in flight \((.+)\)", drawn(open_window(120), replace(STATUS, limited_by=bound.value)))
    assert name is not None
    assert len(name[1]) <= 12
    assert "_" not in name[1]


OWN_LIMITS = replace(STATUS, limited_by_model={"gpt-x": "gateway_requests", "gpt-y": "tail_of_the_run"})


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (140, "32 in flight (gateway cap; gpt-x: gateway rpm), 5,000 tokens/s"),
        (90, "32 in flight (gateway cap)"),
    ],
)
def test_a_model_with_a_limit_of_its_own_is_named_where_there_is_room(
    open_window: OpenWindow, columns: int, shown: str
) -> None:
    """A model whose lines are done is not."""
    bar = drawn(open_window(columns), OWN_LIMITS)
    assert bar.endswith(shown)
    assert len(bar) <= columns


def test_models_with_the_same_limit_are_counted(open_window: OpenWindow) -> None:
    limits = {"a": "gateway_requests", "b": "throttled", "c": "gateway_requests"}
    assert "(gateway cap; a, c: gateway rpm; b: throttled)" in drawn(
        open_window(160), replace(STATUS, limited_by_model=limits)
    )
    limits = {f"a-model-{number}": "gateway_requests" for number in range(3)} | {"b": "throttled"}
    assert "(gateway cap; 3 more: gateway rpm; b: throttled)" in drawn(
        open_window(160), replace(STATUS, limited_by_model=limits)
    )


def test_where_all_is_stopping_that_is_said_once(open_window: OpenWindow) -> None:
    limits = {"a": "stopping", "b": "stopping"}
    assert "(gateway cap)" in drawn(open_window(160), replace(STATUS, limited_by_model=limits))


def test_no_short_name_is_left_over() -> None:
    assert set(LIMITED_BY) <= {bound.value for bound in LimitedBy}


def test_the_bar_follows_the_window(open_window: OpenWindow) -> None:
    window = open_window(120)
    progress = Progress(stream=window.stream)
    progress.tick(STATUS)
    assert "tokens/s" in window.read()
    window.resize(40)
    progress.tick(STATUS)
    assert "tokens/s" not in window.read()
    progress.close()


def test_a_terminal_that_does_not_tell_its_width_counts_as_80(open_window: OpenWindow) -> None:
    assert len(drawn(open_window(0))) in range(60, 79)


def test_before_the_first_line_nothing_is_guessed(open_window: OpenWindow) -> None:
    empty = Status(100, 0, 0, 4, 8, "slow_start", Decimal(0), Decimal(0), 0, 0, 0.0)
    assert drawn(open_window(80), empty).endswith("| 0/s, 4 in flight (slow start), 0 tokens/s")


@pytest.mark.parametrize(
    ("recorded", "elapsed_s", "shown"),
    [(1, 80.0, "0.0125/s"), (421, 100.0, "4.21/s"), (4210, 1.0, "4,210/s"), (1_000_000, 10.0, "100,000/s")],
)
def test_rates_are_shown_in_three_digits(open_window: OpenWindow, recorded: int, elapsed_s: float, shown: str) -> None:
    status = replace(STATUS, recorded_now=recorded, elapsed_s=elapsed_s)
    assert f"| {shown}, " in drawn(open_window(80), status)


@pytest.mark.parametrize(
    ("cost", "projected", "shown"),
    [
        ("1234.567", "98765.4321", "$1234.57 of ~$98765.43"),
        ("0.5", "2", "$0.50 of ~$2.00"),
        ("0.0045678", "0.037", "$0.0046 of ~$0.037"),
        ("0.00000123", "0.0000987", "$0.0000012 of ~$0.000099"),
    ],
)
def test_money_is_shown_for_a_glance(open_window: OpenWindow, cost: str, projected: str, shown: str) -> None:
    status = replace(STATUS, cost_usd=Decimal(cost), projected_usd=Decimal(projected))
    assert f", {shown}, " in drawn(open_window(120), status)


def test_a_notice_stands_above_the_bar_and_does_not_tear_it(open_window: OpenWindow) -> None:
    window = open_window(80)
    progress = Progress(stream=window.stream)
    progress.tick(STATUS)
    before = window.read()
    progress.notice("the gateway is gone")
    after = window.read()
    lines = re.split(r"\r\n|\r", after)
    assert "batchrun: the gateway is gone" in lines
    assert lines[-1].rstrip() == before.split("\r")[-1].rstrip()
    assert lines[1].strip() == ""  # the bar that was there is wiped out first
    progress.close()


def test_closing_leaves_the_last_state_and_a_new_line(open_window: OpenWindow) -> None:
    window = open_window(80)
    progress = Progress(stream=window.stream)
    progress.tick(STATUS)
    progress.tick(replace(STATUS, done=2000))
    progress.close()
    progress.close()
    assert re.search(r"2,000/2,000 100%\|█+\| [^\r]*\r\n$", window.read())


# ------------------------------------------------------------------------------------- without a terminal


def test_elsewhere_a_line_is_printed_every_30_s() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream=stream, clock=clock)
    printed_at = []
    for quarter in range(1, 401):
        clock.now_s = 1000 + quarter / 4
        before = len(stream.getvalue())
        progress.tick(STATUS)
        if len(stream.getvalue()) > before:
            printed_at.append(clock.now_s - 1000)
    progress.close()
    line = "batchrun: 500/2,000 done, 40/s, ETA 00:37, $1.23 of ~$4.94, 32 in flight (gateway cap), 5,000 tokens/s\n"
    assert stream.getvalue() == 3 * line
    assert printed_at == [30, 60, 90]


def test_a_short_job_prints_no_line() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream=stream, clock=clock)
    clock.now_s += 29.9
    progress.tick(STATUS)
    progress.close()
    assert stream.getvalue() == ""


def test_without_a_terminal_nothing_that_draws_is_loaded() -> None:
    """It takes 1.6 MB of a run that nobody watches."""
    script = "import sys\nfrom batchrun.cli.progress import Progress\nfrom tests.cli.test_progress import STATUS\n"
    script += "clock = iter((0.0, 30.0, 30.0)).__next__\nprogress = Progress(clock=clock)\n"
    script += "progress.notice('a notice')\nprogress.tick(STATUS)\nprint('tqdm' in sys.modules)"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout == "False\n"
    assert done.stderr.startswith("batchrun: a notice\nbatchrun: 500/2,000 done, 40/s, ETA 00:37,")


def test_the_rate_is_that_of_the_last_half_minute() -> None:
    """After a pause the time left is not guessed from the whole run."""
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream=stream, clock=clock)
    for second in range(0, 301):
        recorded = 10 * min(second, 100) + max(0, second - 200)  # 10/s, a pause, then 1/s
        progress.tick(replace(STATUS, recorded_now=recorded, elapsed_s=float(second)))
        clock.now_s += 1
    rates = re.findall(r"done, ([\d.]+)/s", stream.getvalue())
    assert rates[1:3] == ["10", "10"]
    assert rates[5] == "0"
    assert rates[-1] == "1"


# --------------------------------------------------------------------------------------- quiet and verbose


def test_quiet_prints_nothing_at_all(open_window: OpenWindow) -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(quiet=True, verbose=True, stream=stream, clock=clock)
    clock.now_s += 100
    progress.notice("a notice")
    progress.detail("a detail")
    progress.tick(STATUS)
    progress.close()
    assert stream.getvalue() == ""
    window = open_window(80)
    Progress(quiet=True, stream=window.stream).tick(STATUS)
    window.stream.write("end")
    assert window.read() == "end"


@pytest.mark.parametrize(("verbose", "printed"), [(False, ""), (True, "batchrun: line 1, attempt 1: it failed\n")])
def test_details_are_for_verbose_only(verbose: bool, printed: str) -> None:
    stream = io.StringIO()
    Progress(verbose=verbose, stream=stream).detail("line 1, attempt 1: it failed")
    assert stream.getvalue() == printed
