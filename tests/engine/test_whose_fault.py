"""Whose fault a failure is: whole jobs against gateways that fail in one way or another, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from batchrun.engine.error_limit import MaxErrors
from batchrun.engine.retry import RetryPolicy
from batchrun.limits.options import Limits
from batchrun.transport.deadlines import Timeouts
from tests import hostile
from tests.asking import in_virtual_time
from tests.engine.test_runner import BROKEN, GOOD, NGINX, PAGE, Desk, Ran, desk, error
from tests.hostile import Asked, Hostile, http
from tests.support import Json

__all__ = ["desk"]

TIMEOUTS = Timeouts(30, 5, 30)
BAD_GATEWAY = http(b"<html><title>502 Bad Gateway</title></html>", 502, "text/html")
UNAVAILABLE = http(b"<html><title>503 Service Temporarily Unavailable</title></html>", 503, "text/html")
TOO_FAST = error(429, "rate_limit_exceeded", "Rate limit reached")
NO_PARAMETER = error(400, "missing_required_parameter", "Missing required parameter: 'input'.", "invalid_request_error")
GONE_MODEL = error(400, "unknown", "deployment not found")


async def hang(writer: asyncio.StreamWriter, asked: Asked) -> None:
    await asyncio.sleep(10_000)


Bad = bytes | hostile.Say
BADS: dict[str, Bad] = {
    "500": BROKEN,
    "reset": hostile.reset,
    "hang": hang,
    "429": error(429, "rate_limit_exceeded", "Limit of tokens per minute: 1000, requested: 2000"),
    "nothing": http(b'{"object":"response","status":"completed"}'),
    "no response": http(b'{"hello":1}'),
}


class Behaving:
    """A gateway that answers in half a second, unless `choose(body, number)` gives something bad."""

    def __init__(self, choose: Callable[[Json, int], Bad | None]) -> None:
        self.asked = list[tuple[float, str]]()
        self.answers = list[float]()
        self._choose = choose
        self.server = Hostile(self._say)

    def now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _say(self, writer: asyncio.StreamWriter, asked: Asked) -> None:
        body = json.loads(asked.body)
        self.asked.append((self.now(), body["input"]))
        bad = self._choose(body, len(self.asked))
        if bad is None:
            await asyncio.sleep(0.5)
            writer.write(GOOD)
            self.answers.append(self.now())
        elif isinstance(bad, bytes):
            await asyncio.sleep(0.01)
            writer.write(bad)
        else:
            await bad(writer, asked)

    def attempts(self, number: int) -> int:
        return sum(text == f"question {number}" for _, text in self.asked)


def number_of(body: Json) -> int:
    return int(body["input"].split()[1])


def job(
    desk: Desk, choose: Callable[[Json, int], Bad | None], lines: int = 200, **options: Any
) -> tuple[Ran, Behaving]:
    """Run a job of so many lines against such a gateway."""
    found = list[tuple[Ran, Behaving]]()

    async def run() -> None:
        gateway = Behaving(choose)
        async with gateway.server:
            given = {"retry": RetryPolicy(), "timeouts": TIMEOUTS, "concurrency": 8, **options}
            if not desk.requests.exists():
                desk.lines(lines)
            found.append((await desk.run(gateway.server.base_url, **given), gateway))

    in_virtual_time(run)
    return found[0]


def is_said(ran: Ran, words: str) -> bool:
    return any(words in notice for notice in ran.told.notices)


# ------------------------------------------------------------------------------- lines that always fail

PLACES = {"start": 1, "half": 100, "50 left": 150, "end": 197}


@pytest.mark.parametrize("where", PLACES)
@pytest.mark.parametrize("how", BADS)
def test_four_lines_that_always_fail_end_as_records(desk: Desk, how: str, where: str) -> None:
    bad = range(PLACES[where], PLACES[where] + 4)
    ran, gateway = job(desk, lambda body, _: BADS[how] if number_of(body) in bad else None)
    assert (ran.exit_code, ran.outcomes["succeeded"], len(ran.records)) == (1, 196, 200)
    for number in bad:
        assert ran.record(number)["run"]["outcome"] in ("failed", "empty")
        assert gateway.attempts(number) <= (12 if how == "429" else 8)
    assert not is_said(ran, "is gone")
    assert sum(gateway.attempts(number) for number in range(1, 201) if number not in bad) <= 196 + 12, (
        "and a few controls"
    )


@pytest.mark.parametrize("count", [1, 3, 4, 30])
def test_the_last_lines_may_all_be_bad(desk: Desk, count: int) -> None:
    ran, gateway = job(desk, lambda body, _: BROKEN if number_of(body) > 100 - count else None, lines=100)
    assert (ran.exit_code, ran.outcomes) == (1, Counter(succeeded=100 - count, failed=count))
    assert all(ran.record(number)["run"]["retryable"] for number in range(101 - count, 101))
    controls = len(gateway.asked) - (100 - count) - sum(gateway.attempts(number) for number in range(101 - count, 101))
    assert 1 <= controls <= 1 + ran.took_s / 30


def test_two_bad_lines_are_a_job_of_their_own(desk: Desk) -> None:
    ran, gateway = job(desk, lambda body, _: BROKEN, lines=2)
    assert (ran.exit_code, ran.outcomes, len(gateway.asked)) == (1, Counter(failed=2), 12)


@pytest.mark.parametrize(("lines", "asked"), [(1, 8), (2, 10)])
def test_one_or_two_lines_that_are_throttled_for_ever_are_recorded(desk: Desk, lines: int, asked: int) -> None:
    ran, gateway = job(desk, lambda body, _: TOO_FAST, lines=lines)
    assert (ran.exit_code, ran.outcomes, len(gateway.asked)) == (1, Counter(failed=lines), asked)
    assert all(record["run"]["retryable"] for record in ran.records)
    assert ran.took_s < 60


def test_a_line_alone_that_is_throttled_seven_times_is_answered(desk: Desk) -> None:
    ran, gateway = job(desk, lambda _, number: TOO_FAST if number <= 7 else None, lines=1)
    assert (ran.exit_code, ran.outcomes, len(gateway.asked)) == (0, Counter(succeeded=1), 8)


def test_more_attempts_are_made_where_other_lines_fail_by_chance(desk: Desk) -> None:
    rng = random.Random(1)

    def choose(body: Json, _: int) -> Bad | None:
        return BROKEN if number_of(body) == 50 or rng.random() < 0.3 else None

    ran, gateway = job(desk, choose, lines=400)
    assert (ran.exit_code, ran.outcomes) == (1, Counter(succeeded=399, failed=1))
    assert 10 <= gateway.attempts(50) <= 16


def test_the_users_own_number_of_attempts_is_kept(desk: Desk) -> None:
    ran, gateway = job(desk, lambda body, _: BROKEN if number_of(body) == 50 else None, retry=RetryPolicy(3))
    assert (ran.exit_code, gateway.attempts(50)) == (1, 3)


# ------------------------------------------------------------------------------------------ by chance


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("how", ["500", "429"])
@pytest.mark.parametrize("seed", range(3))
def test_random_failures_lose_no_line_and_are_no_outage(desk: Desk, how: str, share: float, seed: int) -> None:
    rng = random.Random(seed)
    bad = BROKEN if how == "500" else TOO_FAST
    ran, _ = job(desk, lambda *_: bad if rng.random() < share else None, lines=600, concurrency=32)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=600))
    assert not is_said(ran, "is gone")


@pytest.mark.parametrize("seed", range(3))
def test_one_of_two_backends_dead_loses_no_line(desk: Desk, seed: int) -> None:
    rng = random.Random(seed)
    ran, _ = job(desk, lambda *_: BAD_GATEWAY if rng.random() < 0.5 else None, lines=600, concurrency=16)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=600))
    assert not is_said(ran, "is gone")


# --------------------------------------------------------------------------------------------- outages


class Away:
    """The gateway is away for 600 s once so many lines have been answered."""

    def __init__(self, how: Bad, after: int) -> None:
        self._how, self._after = how, after
        self._answered = 0
        self.until: float | None = None

    def __call__(self, body: Json, _: int) -> Bad | None:
        now = asyncio.get_running_loop().time()
        if self.until is None and self._answered >= self._after:
            self.until = now + 600
        if self.until is not None and now < self.until:
            return self._how
        self._answered += 1
        return None


@pytest.mark.parametrize("left", [400, 200, 50, 4, 1])
@pytest.mark.parametrize("how", ["503", "reset", "hang", "400", "page"])
def test_600_s_without_the_gateway_cost_no_line_its_chance(desk: Desk, how: str, left: int) -> None:
    ways: dict[str, Bad] = {"503": UNAVAILABLE, "reset": hostile.reset, "hang": hang, "400": GONE_MODEL, "page": NGINX}
    bad = ways[how]
    if left == 400 and how in ("400", "page"):
        pytest.skip("a fresh job stops there: see the next tests")
    away = Away(bad, 400 - left)
    ran, gateway = job(desk, away, lines=400, limits=Limits(8, max_outage_s=1800))
    if how == "400" and left <= 4:
        # Fewer than twenty refusals are the lines' own, as far as anybody can tell.
        assert (ran.exit_code, ran.outcomes["succeeded"]) == (1, 400 - left)
        return
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=400))
    assert away.until is not None
    back = [time for time in gateway.answers if time >= away.until]
    assert len(back) >= left
    if left >= 50:  # full pace is 16 a second
        assert sum(time <= away.until + 30 for time in back) >= 16
        assert sum("is gone" in notice for notice in ran.told.notices) + is_said(ran, "no answer yet") == 1


def test_an_outage_that_outlasts_the_limit_leaves_its_lines_undone(desk: Desk) -> None:
    ran, _ = job(desk, lambda body, number: UNAVAILABLE if number > 100 else None, limits=Limits(8, max_outage_s=300))
    assert (ran.exit_code, set(ran.outcomes)) == (3, {"succeeded"})
    assert "no answer from the gateway for 300 s" in ran.why


@pytest.mark.parametrize("max_outage_s", [None, 600.0])
def test_a_host_that_never_answered_is_said_soon_and_given_up_after_two_minutes(
    desk: Desk, max_outage_s: float | None
) -> None:
    async def run() -> None:
        port = hostile.free_port()
        limits = Limits(8, max_outage_s=max_outage_s)
        ran = await desk.lines(100).run(f"http://127.0.0.1:{port}/v1", limits=limits, retry=RetryPolicy())
        longest_s = max_outage_s or 120.0
        assert (ran.exit_code, ran.records) == (3, [])
        assert ran.took_s == pytest.approx(longest_s, abs=3)
        assert is_said(ran, f"127.0.0.1:{port}")
        assert not is_said(ran, "is gone")

    in_virtual_time(run)


def test_a_server_that_starts_with_the_job_is_waited_for(desk: Desk) -> None:
    async def run() -> None:
        gateway = Behaving(lambda *_: None)
        async with gateway.server:
            await gateway.server.vanish()

            async def start(_: Any) -> None:
                await asyncio.sleep(40)
                await gateway.server.listen()

            ran = await desk.lines(50).run(gateway.server.base_url, retry=RetryPolicy(), meanwhile=start)
        assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=50))
        assert ran.took_s < 80

    in_virtual_time(run)


def test_of_three_models_one_that_is_dead_holds_up_no_other_and_loses_no_line(desk: Desk) -> None:
    models = ["a", "b", "dead"] * 100
    desk.bodies(*({"model": model, "input": f"question {number}"} for number, model in enumerate(models, 1)))
    ran, gateway = job(
        desk, lambda body, _: BROKEN if body["model"] == "dead" else None, limits=Limits(8, max_outage_s=300)
    )
    assert (ran.exit_code, ran.outcomes) == (3, Counter(succeeded=200))
    assert gateway.answers[-1] < 200 * 0.5 / 8 * 2
    assert is_said(ran, "dead is gone")
    ran, _ = job(desk, lambda *_: None)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=300))


# ------------------------------------------------------------------------------------------- refusals


def test_a_fresh_job_stops_where_every_line_is_refused_alike(desk: Desk) -> None:
    ran, gateway = job(desk, lambda *_: NO_PARAMETER, lines=300)
    assert (ran.exit_code, ran.records) == (3, [])
    assert len(gateway.asked) <= 20 + 8
    assert "Missing required parameter" in ran.why
    assert "--max-errors off" in ran.why
    ran, _ = job(desk, lambda *_: None)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=300))


@pytest.mark.parametrize(("lines", "max_errors"), [(19, None), (60, MaxErrors.parse("off"))])
def test_a_few_refused_lines_or_a_user_who_wants_them_get_records(
    desk: Desk, lines: int, max_errors: MaxErrors | None
) -> None:
    ran, gateway = job(desk, lambda *_: NO_PARAMETER, lines=lines, max_errors=max_errors)
    assert (ran.exit_code, ran.outcomes, len(gateway.asked)) == (1, Counter(failed=lines), lines)


def test_lines_refused_among_good_ones_get_their_records(desk: Desk) -> None:
    ran, gateway = job(desk, lambda body, _: NO_PARAMETER if number_of(body) % 3 else None)
    assert (ran.exit_code, len(ran.records), len(gateway.asked)) == (1, 200, 200)


@pytest.mark.parametrize("is_deploy", [True, False])
def test_many_lines_refused_alike_in_a_job_that_has_succeeded_are_for_the_control_to_judge(
    desk: Desk, is_deploy: bool
) -> None:
    """A backend that is being replaced answers 400 to all; lines 100 to 159 alone would be refused by any backend."""
    began = list[float]()

    def choose(body: Json, number: int) -> Bad | None:
        now = asyncio.get_running_loop().time()
        if is_deploy and number > 100:
            began.append(now)
            return GONE_MODEL if now < began[0] + 100 else None
        return GONE_MODEL if not is_deploy and 100 <= number_of(body) < 160 else None

    ran, _ = job(desk, choose)
    refused = 0 if is_deploy else 60
    assert ran.exit_code == (1 if refused else 0)
    assert (ran.outcomes["succeeded"], ran.outcomes["failed"]) == (200 - refused, refused)
    assert is_said(ran, "is gone") is is_deploy


def test_a_page_among_answers_of_the_api_stops_nothing(desk: Desk) -> None:
    ran, _ = job(desk, lambda body, number: PAGE if number == 1 else NO_PARAMETER if number <= 8 else None)
    assert (ran.exit_code, len(ran.records)) == (1, 200)


def test_words_of_money_must_be_said_twice_once_the_job_has_succeeded(desk: Desk) -> None:
    poor = error(403, "insufficient_quota", "You exceeded your current quota")
    once = [True]

    def choose(body: Json, number: int) -> Bad | None:
        if number > 50 and once.pop() if once and number > 50 else False:
            return poor
        return None

    ran, _ = job(desk, choose)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=200))
    desk.results.unlink()
    ran, gateway = job(desk, lambda body, number: poor if number > 50 else None)
    assert (ran.exit_code, len(gateway.asked)) <= (3, 50 + 9)
    assert ran.outcomes == Counter(succeeded=50)


# ------------------------------------------------------------------------------------------- throttles


def test_a_line_that_is_always_too_large_for_the_limit_is_refused_at_last_and_costs_no_slot(desk: Desk) -> None:
    ran, gateway = job(desk, lambda body, _: BADS["429"] if number_of(body) == 5 else None, lines=300)
    assert (ran.exit_code, ran.outcomes) == (1, Counter(succeeded=299, failed=1))
    record = ran.record(5)
    assert record["error"]["code"] == "rate_limit_exceeded"
    assert record["run"]["retryable"]
    others = list(gateway.answers)
    assert others[-1] < 4 * 300 * 0.5 / 8, "the others passed it"
    last = max(time for time, text in gateway.asked if text == "question 5")
    assert last >= max(others) + 60, "its last try was alone"


def test_a_line_that_starves_under_a_limit_of_tokens_has_its_chance_alone(desk: Desk) -> None:
    quiet_since = [0.0]

    def choose(body: Json, _: int) -> Bad | None:
        now = asyncio.get_running_loop().time()
        if number_of(body) == 5:
            return None if now - quiet_since[0] >= 60 else BADS["429"]
        quiet_since[0] = now
        return None

    ran, _ = job(desk, choose)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=200))


@pytest.mark.slow
@pytest.mark.parametrize("status", [503, 429])
def test_a_rate_that_plain_refusals_tell_of_is_learned(desk: Desk, status: int) -> None:
    """A bucket of 30 a second with a burst of 5, told by nginx's 503: most of it is used, and few are refused."""
    bucket = {"tokens": 5.0, "at": 0.0}
    refused = [0]

    def choose(body: Json, _: int) -> Bad | None:
        now = asyncio.get_running_loop().time()
        bucket["tokens"] = min(5.0, bucket["tokens"] + 30 * (now - bucket["at"]))
        bucket["at"] = now
        if bucket["tokens"] >= 1:
            bucket["tokens"] -= 1
            return None
        refused[0] += 1
        return UNAVAILABLE if status == 503 else TOO_FAST

    ran, gateway = job(desk, choose, lines=3000, concurrency=64)
    assert (ran.exit_code, ran.outcomes) == (0, Counter(succeeded=3000))
    assert not is_said(ran, "is gone")
    assert refused[0] <= 0.1 * 3000
    assert 3000 / 30 / (gateway.answers[-1] - gateway.answers[0]) >= 0.85


@pytest.mark.parametrize("answered", [0, 30])
def test_a_pause_beyond_the_longest_outage_ends_the_job_in_time_and_says_when_the_gateway_is_back(
    desk: Desk, answered: int
) -> None:
    refusal = error(429, "rate_limit_exceeded", "Rate limit reached", Retry_After="60")
    ran, _ = job(
        desk,
        lambda body, _: None if number_of(body) <= answered else refusal,
        lines=100,
        limits=Limits(max_outage_s=6.0),
    )
    assert (ran.exit_code, ran.outcomes["succeeded"], len(ran.records)) == (3, answered, answered)
    assert 6 <= ran.took_s < 10
    assert ran.why is not None
    assert "no answer from the gateway for 6 s (throttled without a break; it asks to wait for 5" in ran.why
