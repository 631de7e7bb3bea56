"""The price list: the same whether asked in a process of its own or in this one, and out of the way."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from pathlib import Path
from types import SimpleNamespace

import pytest
from genai_prices.data import providers
from genai_prices.types import TimeOfDateConstraint

from batchrun.billing import pricelist
from batchrun.billing.pricelist import DatedPrice, Model, PriceList, Prices, look_up, tiered

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC)
MAKERS = {"openai", "anthropic", "google", "deepseek", "x-ai", "mistral"}
TIERED = ["gpt-5.4", "gpt-5-mini", "gemini-3.6-flash", "gemini-3.8-flash-tts", "claude-sonnet-4-5", "gpt-3.5-turbo"]
LISTED = sorted({model.id for maker in providers if maker.id in MAKERS for model in maker.models})


@pytest.fixture
def prices() -> Iterator[PriceList]:
    prices = PriceList()
    yield prices
    prices.close()


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that this process asked its own list for."""
    asked: list[str] = []

    def noting(model: str) -> Model | None:
        asked.append(model)
        return look_up(model)

    monkeypatch.setattr(pricelist, "look_up", noting)
    return asked


@pytest.mark.smoke
def test_a_price_from_the_other_process_is_that_of_this_one(prices: PriceList, library: list[str]) -> None:
    """At any hour, on the days around every change, to the digit, tiers and unpriced models included."""
    days = [date(2025, 6, 9), date(2025, 6, 10), *(NOON.date() + timedelta(days=30 * month) for month in range(-18, 9))]
    moments = [datetime.combine(day, time(hour, 30)) for day in days for hour in (0, 7, 16, 20)]
    for name in [*LISTED, *(tiered(name, tier) for name in TIERED for tier in ("flex", "priority", "batch", "x"))]:
        theirs, ours = look_up(name), prices.find(name)
        if theirs is None or ours is None:
            assert theirs is ours
            continue
        assert ours.is_dated == theirs.is_dated
        for when in moments if ours.is_dated else moments[:1]:
            assert ours.price(when) == theirs.price(when), (name, when)
    assert library == []


@pytest.mark.parametrize("hours", [(time(16, 30), time(0, 30)), (time(0, 30), time(16, 30)), (time(5), time(5))])
def test_hours_begin_and_end_to_the_microsecond(hours: tuple[time, time]) -> None:
    theirs = TimeOfDateConstraint(*hours)
    ours = Prices((DatedPrice(None), DatedPrice(None, hours=hours)))
    tick = timedelta(microseconds=1)
    for hour in hours:
        at = datetime.combine(NOON.date(), hour, UTC)
        for when in (at - tick, at, at + tick, at + timedelta(hours=12)):
            assert ours.prices[1].holds(when) == theirs.active(when), when


@pytest.mark.parametrize("zone", [None, UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-8))])
def test_a_time_of_any_zone_is_taken_for_what_it_is(prices: PriceList, zone: timezone | None) -> None:
    for name in ("deepseek-chat", "o3"):
        theirs, ours = look_up(name), prices.find(name)
        assert theirs is not None
        assert ours is not None
        for hour in range(24):
            when = datetime(2025, 6, 10, hour, tzinfo=zone)
            assert ours.price(when) == theirs.price(when)


@pytest.mark.parametrize("name", ["", "nobody's", "模型", "two\nlines", '"', "x" * 100_000])
def test_a_name_that_is_not_listed_is_asked_for_once(prices: PriceList, library: list[str], name: str) -> None:
    assert prices.find(name) is None
    prices.close()
    assert prices.find(name) is None
    assert prices._process is None
    assert library == []


# ----------------------------------------------------------------------------------------- the process


def test_the_list_leaves_nothing_behind(tmp_path: Path) -> None:
    """Neither its modules in the process that asks, nor a process when that has ended."""
    code = "import sys\nfrom batchrun.billing.pricelist import SHARED\nSHARED.find('gpt-4.1')\n"
    code += "print(SHARED._process.pid, {'genai_prices', 'pydantic', 'httpx'} & {*sys.modules})"
    command = [sys.executable, "-X", "dev", "-W", "error", "-c", code]
    root = Path(__file__).parents[2]
    environment = os.environ | {"HOME": str(tmp_path)}  # where no price is kept yet
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=root, env=environment)
    pid, _, loaded = done.stdout.strip().partition(" ")
    assert loaded == "set()"
    assert done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks at /proc")
@pytest.mark.smoke
def test_the_process_is_told_no_secret(prices: PriceList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-0123456789")
    prices.find("gpt-4.1")
    assert prices._process is not None
    told = Path(f"/proc/{prices._process.pid}")
    environment = [entry.partition(b"=")[0] for entry in told.joinpath("environ").read_bytes().split(b"\0")]
    assert {*environment} <= {b"PYTHONPATH", b""}
    assert b"gpt-4.1" not in told.joinpath("cmdline").read_bytes()


def test_a_process_that_has_ended_is_followed_by_another(prices: PriceList, library: list[str]) -> None:
    prices.find("gpt-4.1")
    first = prices._process
    assert first is not None
    first.kill()
    first.wait()
    found = prices.find("gpt-4o")
    assert found is not None
    assert prices._process not in (None, first)
    assert library == []


def test_a_process_ends_by_itself(prices: PriceList, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pricelist, "_SERVE", "from batchrun import pricelist as p; p.LINGER_S = 0.01; p.serve()")
    process = pricelist._started()
    with process:
        process.wait(timeout=30)


@pytest.mark.parametrize("command", ["", "/does/not/exist", "/bin/true", "/bin/echo"])
def test_where_no_process_can_be_started_this_one_is_asked(
    prices: PriceList, library: list[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setattr(sys, "executable", command)
    found = prices.find("gpt-4.1")
    assert found is not None
    assert found.price(NOON) == look_up("gpt-4.1").price(NOON)  # type: ignore[union-attr]
    monkeypatch.setattr(subprocess, "Popen", None)  # it is not tried again
    assert prices.find("nobody's") is None
    assert library == ["gpt-4.1", "nobody's"]


def test_what_cannot_be_carried_over_is_asked_for_here(
    prices: PriceList, library: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kind of time that this version does not know."""
    model = look_up("o3")
    assert model is not None
    known = model._info.prices
    assert isinstance(known, list)
    info = SimpleNamespace(prices=[known[0], SimpleNamespace(constraint="on Sundays", prices=known[1].prices)])
    assert Model("o3", info).carried_over() is None  # type: ignore[arg-type]
    serve = "from batchrun import pricelist as p; p.Model.carried_over = lambda self: None; p.serve()"
    monkeypatch.setattr(pricelist, "_SERVE", serve)
    found = prices.find("o3")
    assert found is not None
    assert found.price(NOON) == model.price(NOON)
    assert library == ["o3"]


def test_the_list_opens_no_connection() -> None:
    code = """
import socket
def refuse(*args, **kwargs):
    raise AssertionError("network")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from batchrun.billing.pricelist import look_up
print(look_up("gpt-4.1").is_dated)
"""
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=root)
    assert done.stdout == "False\n"
