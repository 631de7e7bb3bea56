"""Several endpoints for one job: whole jobs against gateways on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

import msgspec
import pytest

from batchrun.engine import routing
from batchrun.engine.case import Case
from batchrun.engine.retry import RetryPolicy
from batchrun.engine.waiting import WaitingRoom
from batchrun.job.endpoints import NamedEndpoint
from batchrun.job.run import Run
from batchrun.job.tune import Tuning
from batchrun.limits.limited_by import LimitedBy
from batchrun.limits.options import Limits
from batchrun.transport.endpoint import Endpoint
from tests import hostile
from tests.asking import in_virtual_time
from tests.engine.test_lanes import NO_MODEL, SPENT, Bucket
from tests.engine.test_runner import BROKEN, Desk, Ran, desk, error
from tests.engine.test_whose_fault import (
    NO_PARAMETER,
    TIMEOUTS,
    TOO_FAST,
    UNAVAILABLE,
    Bad,
    Behaving,
    is_said,
    number_of,
)
from tests.hostile import KEY, Asked
from tests.support import MODEL, Json, events

__all__ = ["desk"]

DEAD_KEY = error(401, "invalid_api_key", "Incorrect API key provided")
EMPTY = error(429, "insufficient_quota", "You exceeded your current quota, please check your plan and billing details")
NO_PAGE = error(404, None, "Not Found")

Choose = Callable[[Json, int], Bad | None]


def good(body: Json, number: int) -> None:
    """Every request is answered."""


def always(bad: Bad) -> Choose:
    return lambda body, number: bad


class Place(Behaving):
    """A gateway, and what the user says of it. `at_once`: it refuses more requests in flight than that."""

    def __init__(self, choose: Choose = good, at_once: int | None = None, **facts: Any) -> None:
        super().__init__(self._chosen)
        self.facts = facts
        self.in_flight = 0
        self._at_once = at_once
        self._choose_one = choose
        self.refused = 0

    async def _say(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        self.in_flight += 1
        try:
            await super()._say(writer, asked)
        finally:
            self.in_flight -= 1

    def _chosen(self, body: Json, number: int) -> Bad | None:
        if self._at_once is not None and self.in_flight > self._at_once:
            self.refused += 1
            return TOO_FAST
        bad = self._choose_one(body, number)
        self.refused += bad == TOO_FAST
        return bad

    def endpoint(self, name: str) -> NamedEndpoint:
        return NamedEndpoint(name, Endpoint(self.server.base_url, KEY), **self.facts)

    def per_s(self, since_s: float, until_s: float) -> float:
        return sum(since_s <= at < until_s for at in self.answers) / (until_s - since_s)


class Nowhere(Place):
    """Nothing listens at its address."""

    def endpoint(self, name: str) -> NamedEndpoint:
        return NamedEndpoint(name, Endpoint(f"http://127.0.0.1:{hostile.free_port()}/v1", KEY), **self.facts)


def play(desk: Desk, *places: Place, lines: int = 400, meanwhile: Any = None, **options: Any) -> Ran:
    """Run a job over these gateways, which are called a, b, …"""
    found = list[Ran]()

    async def run() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for place in places:
                await stack.enter_async_context(place.server)
            endpoints = [place.endpoint(name) for name, place in zip("abcdefgh", places, strict=False)]
            given = {"retry": RetryPolicy(), "timeouts": TIMEOUTS, "limits": Limits("auto"), **options}
            if not desk.requests.exists():
                desk.lines(lines)
            found.append(
                await desk.run("http://none", endpoint=None, endpoints=endpoints, meanwhile=meanwhile, **given)
            )

    in_virtual_time(run)
    return found[0]


def by_endpoint(ran: Ran) -> Counter[str]:
    return Counter(record["run"]["endpoint"] for record in ran.records)


@pytest.mark.smoke
def test_lines_go_to_all_endpoints_by_weight_and_each_record_and_the_bill_say_where(desk: Desk) -> None:
    places = Place(weight=2), Place()
    ran = play(desk, *places, lines=2000, limits=Limits(30))  # at first neither has room for its share
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 2000)
    shares = by_endpoint(ran)
    assert shares["a"] / shares["b"] == pytest.approx(2, rel=0.05)
    hosts = {name: place.endpoint(name).endpoint.host for name, place in zip("ab", places, strict=True)}
    assert {(record["run"]["endpoint"], record["run"]["gateway"]) for record in ran.records} == set(hosts.items())
    assert {name: one.lines.succeeded for name, one in ran.report.endpoints.items()} == shares
    assert sum(one.cost.total_usd for one in ran.report.endpoints.values()) == ran.report.cost.total_usd > 0
    assert "at a " in str(ran.report)


def test_one_endpoint_has_no_name(desk: Desk) -> None:
    async def run() -> None:
        gateway = Behaving(good)
        async with gateway.server:
            ran = await desk.lines(5).run(gateway.server.base_url)
            assert not any("endpoint" in record["run"] for record in ran.records)
            assert ran.report.endpoints == {}

    in_virtual_time(run)


@pytest.mark.slow
def test_two_unknown_limits_are_both_used(desk: Desk) -> None:
    """40 at once, half a second each, and 100 a second: 180 a second together."""
    limit = Bucket(100, 20)
    at_once = Place(at_once=40)
    a_second = Place(lambda body, _: None if limit.lets_through(asyncio.get_running_loop().time()) else TOO_FAST)
    ran = play(desk, at_once, a_second, lines=3000)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 3000)
    assert 3000 / ran.took_s >= 0.85 * 180  # in a job so short that finding out counts
    assert ran.report.throttles <= 0.015 * 3000


@pytest.mark.slow
@pytest.mark.parametrize("bad", [DEAD_KEY, EMPTY], ids=["dead key", "empty account"])
def test_an_endpoint_whose_key_is_dead_or_account_empty_is_shut_alone_and_said_once(desk: Desk, bad: bytes) -> None:
    dead, alive = Place(lambda body, _: bad), Place(at_once=4)
    ran = play(desk, dead, alive, lines=4000)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 4000)
    assert by_endpoint(ran) == {"b": 4000}
    assert len(dead.asked) <= 8 + ran.took_s / 300
    assert ran.took_s > 300
    assert sum("a is shut: " in notice for notice in ran.told.notices) == 1


@pytest.mark.parametrize("lines", [24, 56, 59])
def test_a_line_that_was_at_an_endpoint_that_is_away_goes_to_one_that_is_not(desk: Desk, lines: int) -> None:
    """Each time that its next attempt was due, a probe was due there, too: it took half an hour, 75 attempts."""
    away = [Place(always(bad)) for bad in (DEAD_KEY, EMPTY, NO_PAGE, hostile.reset)]
    ran = play(desk, Place(), *away, lines=lines)
    assert (ran.exit_code, ran.report.lines.succeeded, by_endpoint(ran)) == (0, lines, {"a": lines})
    assert ran.took_s < 20
    assert max(record["run"]["attempts"] for record in ran.records) <= 6


@pytest.mark.slow
def test_an_endpoint_with_a_wrong_address_is_not_back_because_it_answers(desk: Desk) -> None:
    wrong, alive = Place(lambda body, _: NO_PAGE), Place(at_once=4)
    ran = play(desk, wrong, alive, lines=4000)
    assert (ran.exit_code, ran.report.lines.succeeded, by_endpoint(ran)) == (0, 4000, {"b": 4000})
    assert ran.took_s > 300
    assert sum("a is shut: " in notice for notice in ran.told.notices) == 1
    assert not is_said(ran, "a is back")
    assert len(wrong.asked) <= 30


@pytest.mark.slow
def test_a_shut_endpoint_comes_back(desk: Desk) -> None:
    def choose(body: Json, _: int) -> Bad | None:
        return DEAD_KEY if asyncio.get_running_loop().time() < 400 else None

    topped_up, alive = Place(choose), Place(at_once=4)
    ran = play(desk, topped_up, alive, lines=6000)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 6000)
    assert is_said(ran, "a is back")
    assert 595 <= min(topped_up.answers) <= 620
    assert by_endpoint(ran)["a"] > 500


def test_the_job_stops_where_no_endpoint_is_left(desk: Desk) -> None:
    dead, empty = Place(lambda body, _: DEAD_KEY), Place(lambda body, _: EMPTY)
    ran = play(desk, dead, empty, lines=100)
    assert (ran.exit_code, len(ran.records)) == (3, 0)
    assert "no endpoint is left for the lines that remain: a: the gateway refuses the key" in ran.why
    assert " check its key. b: the account cannot pay for more" in ran.why
    assert len(dead.asked) <= 8
    assert len(empty.asked) <= 8


def test_where_each_endpoint_has_another_fault_the_last_line_names_each_and_what_to_do(desk: Desk) -> None:
    dead, empty, away = Place(always(DEAD_KEY)), Place(always(EMPTY)), Place(always(hostile.reset))
    ran = play(desk, dead, empty, away, lines=100, limits=Limits("auto", max_outage_s=8))
    assert ran.exit_code == 3
    start, *faults = re.split(r" ?\b([abc]): ", ran.why)
    assert start == "no endpoint is left for the lines that remain:"
    assert faults[0::2] == ["a", "b", "c"]
    assert faults[1].startswith("the gateway refuses the key (HTTP 401 invalid_api_key")
    assert faults[3].startswith("the account cannot pay for more (HTTP 429 insufficient_quota")
    assert faults[5].startswith("it does not answer (connection_lost")
    assert ran.why.endswith("looks at each), then run the same command again")


def test_an_endpoint_that_gets_no_lines_is_said_to_be_limited_by_the_reason(desk: Desk) -> None:
    """Four of these get none: by its tier, its models, its key, and as it does not answer."""
    places = [
        Place(at_once=4),
        Place(tier=2),
        Place(models=["another"]),
        Place(always(DEAD_KEY)),
        Place(always(hostile.reset)),
    ]
    said = dict[str, set[LimitedBy]]()

    async def watch(run: Run) -> None:
        while True:
            await asyncio.sleep(0.25)
            if run._runner is not None and asyncio.get_running_loop().time() > 5 and not run._runner.stopped:
                for name, limit in run._runner.limiter.limited_by_lane().items():
                    said.setdefault(name, set()).add(limit)

    ran = play(desk, *places, lines=200, meanwhile=watch)
    assert (ran.exit_code, by_endpoint(ran)) == (0, {"a": 200})
    assert said.pop("a") & {LimitedBy.CAPACITY, LimitedBy.SLOW_START}
    assert said == {
        "b": {LimitedBy.LOWER_TIER},
        "c": {LimitedBy.NO_LINES},
        "d": {LimitedBy.SHUT},
        "e": {LimitedBy.OUTAGE},
    }
    shown = str(ran.report)
    assert "limited by, d: shut" in shown
    assert not re.search(r"limited by, .: (tail|\n|$)", shown.replace("limited by, a: ", ""))


def test_lines_that_only_an_endpoint_that_is_away_may_have_name_that_alone(desk: Desk) -> None:
    lines = [{"custom_id": f"r-{number}", "endpoint": "ab"[number % 2]} for number in range(20)]
    body = {"model": MODEL, "input": "hello", "max_output_tokens": 9}
    desk.requests.write_text("".join(json.dumps(line | {"body": body}) + "\n" for line in lines))
    ran = play(desk, Place(), Place(always(hostile.reset)), limits=Limits("auto", max_outage_s=8))
    assert (ran.exit_code, by_endpoint(ran)) == (3, {"a": 10})
    assert ran.why.startswith("no endpoint is left for the lines that remain: b: it does not answer (connection_lost")
    assert " a: " not in ran.why


@pytest.mark.slow
def test_an_endpoint_that_is_gone_costs_no_line_and_is_used_again(desk: Desk) -> None:
    def choose(body: Json, _: int) -> Bad | None:
        return UNAVAILABLE if 20 <= asyncio.get_running_loop().time() < 50 else None

    dies, stays = Place(choose, at_once=16), Place(at_once=16)
    ran = play(desk, dies, stays, lines=3600)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 3600)
    assert ran.report.attempts <= 1.05 * 3600
    assert stays.per_s(30, 50) >= 0.95 * stays.per_s(10, 20)
    assert dies.per_s(60, 65) >= 0.95 * dies.per_s(10, 20)
    assert sum("a is gone" in notice for notice in ran.told.notices) == 1
    assert is_said(ran, "a is back")


def test_a_line_that_fails_at_one_endpoint_goes_to_another_and_is_not_lost(desk: Desk) -> None:
    """Every tenth line fails at a, for ever."""
    picky = Place(lambda body, _: BROKEN if number_of(body) % 10 == 0 else None)
    ran = play(desk, picky, Place(), lines=400)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 400)
    for number in range(10, 401, 10):
        assert picky.attempts(number) <= 1
    assert all(ran.record(number)["run"]["endpoint"] == "b" for number in range(10, 401, 10))


def test_a_line_that_fails_everywhere_costs_as_many_attempts_as_with_one_endpoint(desk: Desk) -> None:
    places = [Place(lambda body, _: BROKEN if number_of(body) in (50, 51) else None) for _ in range(3)]
    ran = play(desk, *places, lines=400)
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.failed) == (1, 398, 2)
    assert sum(place.attempts(50) for place in places) <= 8


def test_a_400_goes_nowhere_else(desk: Desk) -> None:
    places = [Place(lambda body, _: NO_PARAMETER if number_of(body) == 50 else None) for _ in range(2)]
    ran = play(desk, *places, lines=200)
    assert (ran.exit_code, ran.report.lines.failed) == (1, 1)
    assert sum(place.attempts(50) for place in places) == 1


def test_a_model_that_one_endpoint_does_not_have_is_closed_there_alone(desk: Desk) -> None:
    desk.bodies(*({"model": "mn"[number % 2], "input": f"question {number}"} for number in range(1, 401)))
    without_n = Place(lambda body, _: NO_MODEL if body["model"] == "n" else None)
    ran = play(desk, without_n, Place())
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 400)
    assert by_endpoint(ran)["a"] > 50
    assert sum("a has no n " in notice for notice in ran.told.notices) == 1


def test_a_spent_quota_closes_that_endpoint_alone(desk: Desk) -> None:
    spent = Place(lambda body, _: SPENT)
    ran = play(desk, spent, Place(), lines=400)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 400)
    assert len(spent.asked) <= 12


def test_a_higher_tier_is_used_only_while_no_lower_one_is_open(desk: Desk) -> None:
    first = Place(lambda body, _: UNAVAILABLE if 5 <= asyncio.get_running_loop().time() < 20 else None, at_once=8)
    second = Place(at_once=8, tier=2)
    ran = play(desk, first, second, lines=1000)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 1000)
    assert all(5 <= at <= 27 for at in second.answers)
    assert len(second.answers) > 100


def test_models_and_new_names_are_each_endpoints_own(desk: Desk) -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set()}

    def note(name: str) -> Choose:
        return lambda body, _: seen[name].add(body["model"])

    desk.bodies(*({"model": ["gpt-4.1", "gpt-4.1-mini"][number % 2], "input": "x 1"} for number in range(100)))
    first = Place(note("a"), models=["gpt-4.1"], rename={"gpt-4.1": "openai/gpt-4.1"})
    ran = play(desk, first, Place(note("b"), models=["*mini", "gpt-5*"]))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 100)
    assert seen == {"a": {"openai/gpt-4.1"}, "b": {"gpt-4.1-mini"}}
    assert {record["run"]["requested_model"] for record in ran.records} == {"gpt-4.1", "gpt-4.1-mini"}


def test_resume_does_not_care_which_endpoint_answered(desk: Desk) -> None:
    stops = Place(lambda body, number: DEAD_KEY if number > 20 else None)
    ran = play(desk, stops, lines=60, limits=Limits(4))
    assert ran.exit_code == 3
    done = len(ran.records)
    assert 0 < done < 60
    other = Place()
    ran = play(desk, other)
    assert (ran.exit_code, ran.report.lines.succeeded, len(other.asked)) == (0, 60, 60 - done)


@pytest.mark.parametrize("whole", [None, Decimal("0.05")])
def test_no_cap_is_passed(desk: Desk, whole: Decimal | None) -> None:
    caps = [Decimal("0.02"), Decimal("0.03"), Decimal("0.04")]
    desk.lines(3000, max_output_tokens=10)
    ran = play(desk, *(Place(max_cost_usd=cap) for cap in caps), max_cost_usd=whole)
    assert ran.exit_code == 3
    for cap, one in zip(caps, ran.report.endpoints.values(), strict=True):
        assert one.cost.total_usd <= cap
    assert ran.report.cost.total_usd <= (whole or sum(caps))
    assert ran.report.cost.total_usd >= Decimal("0.8") * (whole or sum(caps))
    assert whole is not None or "; raise it in the endpoints file" in ran.why


def test_lines_that_continue_a_response_go_to_the_first_endpoint_alone(desk: Desk) -> None:
    desk.bodies(
        *(
            {"model": "m", "input": f"question {number}", "previous_response_id": f"resp_{number}"}
            for number in range(20)
        ),
        *({"model": "m", "input": f"question {number}", "conversation": "conv_1"} for number in range(20, 30)),
        *(
            {
                "model": "m",
                "input": f"question {number} {json.dumps({'conversation': 1})}",
                "previous_response_id": None,
            }
            for number in range(30, 130)
        ),
    )
    fails_once: set[int] = set()

    def choose(body: Json, _: int) -> Bad | None:
        number = number_of(body)
        if number >= 30 or number % 3 or number in fails_once:  # all of them in a row would be an outage of `a`
            return None
        fails_once.add(number)
        return BROKEN

    ran = play(desk, Place(choose), Place())
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 130)
    wheres = [ran.record(number)["run"]["endpoint"] for number in range(1, 131)]
    assert set(wheres[:30]) == {"a"}
    assert set(wheres[30:]) == {"a", "b"}


@pytest.mark.smoke
def ask_for(desk: Desk, **words: Any) -> None:
    file = desk.results.with_name(desk.results.name + ".tune")
    file.write_bytes(msgspec.json.encode(Tuning(id=str(words) or "plain", **words)))
    file.chmod(0o600)


def test_tune_pauses_one_endpoint_and_its_lines_go_elsewhere(desk: Desk) -> None:
    places = Place(at_once=8), Place(at_once=8)
    ask = partial(ask_for, desk)

    async def meanwhile(_: object) -> None:
        await asyncio.sleep(5)
        ask(endpoint="a", paused=True)
        await asyncio.sleep(5)
        ask(endpoint="nobody", paused=True)
        await asyncio.sleep(10)
        ask(endpoint="a", paused=False)

    ran = play(desk, *places, lines=800, meanwhile=meanwhile)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 800)
    assert places[0].per_s(7, 20) == 0
    assert places[1].per_s(7, 20) > 10
    assert places[0].per_s(21, 25) > 10
    assert is_said(ran, "tuned: paused at a")
    assert is_said(ran, "tuned: resumed at a")
    refused = [event["refused"] for event in events(desk.results) if event["event"] == "tuned" and "refused" in event]
    assert [why.partition("; nothing")[0] for why in refused] == ["this run has no endpoint 'nobody'; it has a, b"]


def test_tune_tells_the_limits_of_the_endpoint_that_it_was_asked_about(desk: Desk) -> None:
    async def meanwhile(_: object) -> None:
        await asyncio.sleep(3)
        ask_for(desk, endpoint="a", rpm=300.0)
        await asyncio.sleep(3)
        ask_for(desk)

    ran = play(desk, Place(limits=Limits(4)), Place(), lines=400, limits=Limits(30), meanwhile=meanwhile)
    assert ran.exit_code == 0
    at_a, whole = [event for event in events(desk.results) if event["event"] == "tuned"]
    assert (at_a["endpoint"], at_a["concurrency"], at_a["rpm"], at_a["slots"]) == ("a", "4", 300, 4)
    assert ("endpoint" in whole, whole["concurrency"], "rpm" in whole) == (False, "30", False)


def test_an_endpoint_whose_cap_is_raised_gets_lines_again(desk: Desk) -> None:
    """It said "tuned", and stayed shut."""

    async def meanwhile(_: object) -> None:
        await asyncio.sleep(20)
        ask_for(desk, endpoint="a", max_cost_usd=Decimal(1))

    desk.lines(600, max_output_tokens=10)
    ran = play(desk, Place(max_cost_usd=Decimal("0.005")), Place(), limits=Limits(8), meanwhile=meanwhile)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 600)
    shut, back = [at for at, told in enumerate(ran.told.notices) if told.startswith(("a is shut: ", "a is back: "))]
    assert shut < back
    assert ran.report.endpoints["a"].cost.total_usd > Decimal("0.005")


def test_finding_an_endpoint_for_a_line_takes_no_longer_where_there_are_many_models(tmp_path: Path) -> None:
    """24 queues are not all looked at for each line."""

    def calls(models: int) -> int:
        (tmp_path / str(models)).mkdir()
        desk, counted = Desk(tmp_path / str(models)), Counter[str]()

        def note(frame: FrameType, event: str, _: object) -> None:
            counted[event] += event == "call" and frame.f_code.co_filename == routing.__file__

        desk.bodies(*({"model": f"m{number % models}", "input": "x"} for number in range(480)))
        sys.setprofile(note)
        try:
            ran = play(desk, Place(), Place(), Place(), limits=Limits(16))
        finally:
            sys.setprofile(None)
        assert (ran.exit_code, ran.report.lines.succeeded) == (0, 480)
        return counted["call"]

    assert calls(24) < 1.5 * calls(2)


def test_while_an_endpoint_is_away_lines_that_failed_there_are_not_read_again_and_again(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no probe of it, and wait for room at the other one: the file was read without a pause, for no room."""
    put_off, count = WaitingRoom.put_off, Counter[int]()

    def counted(room: WaitingRoom, case: Case) -> None:
        count[case.number] += 1
        assert count[case.number] <= 100
        put_off(room, case)

    monkeypatch.setattr(WaitingRoom, "put_off", counted)
    desk.bodies(*({"model": f"m{number > 116}", "input": f"question {number}"} for number in range(1, 241)))
    ran = play(desk, Place(tier=2), Place(always(hostile.reset)))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 240)


@pytest.mark.parametrize("sticky", [None, "prefix"])
def test_a_shut_endpoint_gets_one_probe_though_lines_of_many_models_wait_for_it(
    desk: Desk, sticky: Literal["prefix"] | None
) -> None:
    """Nothing is open: each model's lines sent a probe of their own."""
    desk.bodies(*({"model": f"m{number // 20}", "input": f"question {number}"} for number in range(60)))
    empty = Place(always(EMPTY))
    ran = play(desk, empty, Place(always(hostile.reset)), limits=Limits("auto", max_outage_s=320), sticky=sticky)
    assert ran.exit_code == 3
    assert sum(at > 200 for at, _ in empty.asked) == 1


def test_an_endpoint_that_has_never_answered_is_given_up_soon_where_the_others_are_shut(desk: Desk) -> None:
    """An answer of one that is shut says nothing of it: the job waited for half an hour."""
    paid = error(200, "1008", "insufficient balance")
    ran = play(desk, Place(always(paid)), Nowhere(), lines=20)
    assert ran.exit_code == 3
    assert ran.took_s <= 150


def test_one_line_of_a_model_that_is_down_at_all_endpoints_is_a_probe_until_one_is_back(desk: Desk) -> None:
    """It had failed three times at each: too seldom for an outage there, too often to be sent again without a word."""

    def down(body: Json, number: int) -> Bad | None:
        return hostile.reset if body["model"] == "rare" and asyncio.get_running_loop().time() < 30 else None

    desk.bodies(*({"model": "rare" if number == 5 else "usual", "input": f"question {number}"} for number in range(20)))
    ran = play(desk, Place(down), Place(down), limits=Limits(4))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 20)
    assert ran.took_s <= 30 + RetryPolicy().max_wait_s + 10  # its own backoff, and a probe
