"""Lanes: one model's limit, quota or end holds up no other. Whole jobs on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.limits.options import Limits
from batchrun.report.rebuild import rebuild
from batchrun.report.text import render
from tests.engine.test_runner import Desk, Ran, desk, error
from tests.engine.test_whose_fault import TOO_FAST, UNAVAILABLE, Bad, is_said, job
from tests.hostile import http
from tests.support import Json

__all__ = ["desk"]

DAILY = json.dumps({"error": {"message": "Daily limit reached", "code": "rate_limit_exceeded", "type": "requests"}})
SPENT = http(DAILY.encode(), 429, retry_after="10800")
NO_MODEL = error(404, "model_not_found", "The model does not exist.", "invalid_request_error")
NO_SUCH_MODEL = [
    NO_MODEL,
    error(404, "not_found", 'model "gone" not found, try pulling it first', "api_error"),
    error(400, "400", "/responses: Invalid model name passed in model=gone.", "None"),
]


class Bucket:
    """A limit of so many requests a second, with a burst."""

    def __init__(self, per_s: float, burst: float) -> None:
        self.per_s, self.burst = per_s, burst
        self._tokens, self._at = burst, 0.0

    def lets_through(self, now: float) -> bool:
        self._tokens = min(self.burst, self._tokens + self.per_s * (now - self._at))
        self._at = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


@dataclass
class Seen:
    """When requests for one model were answered, and when they were refused, in seconds."""

    answered: list[float]
    refused: list[float]

    @property
    def per_s(self) -> float:
        return len(self.answered) / max(self.answered)

    def refused_an_answer(self, since_s: float) -> float:
        late = sum(at >= since_s for at in self.answered)
        return sum(at >= since_s for at in self.refused) / max(1, late)


Limit = Bucket | bytes | None


def play(
    desk: Desk, models: Sequence[str], limit_of: Callable[[str], Limit], limits: Limits = Limits("auto")
) -> tuple[Ran, Mapping[str, Seen]]:
    """Run one line for each model of `models`, against a gateway with such limits."""
    desk.bodies(*({"model": model, "input": f"question {number}"} for number, model in enumerate(models, 1)))
    seen: defaultdict[str, Seen] = defaultdict(lambda: Seen([], []))

    def choose(body: Json, _: int) -> Bad | None:
        model, now = body["model"], asyncio.get_running_loop().time()
        limit = limit_of(model)
        if isinstance(limit, Bucket):
            limit = None if limit.lets_through(now) else TOO_FAST
        (seen[model].answered if limit is None else seen[model].refused).append(now)
        return limit

    ran, _ = job(desk, choose, limits=limits)
    return ran, seen


def mix(count: int, **shares: float) -> list[str]:
    """So many models at random, with these shares."""
    return random.Random(1).choices(list(shares), list(shares.values()), k=count)


def test_a_model_that_is_left_alone_is_not_refused_again_and_again(desk: Desk) -> None:
    """The free model's few lines are done before it is known whose limit refuses the other one."""
    slow, models = Bucket(5, 5), [*["free"] * 3, *["slow"] * 300]
    ran, seen = play(desk, models, lambda model: slow if model == "slow" else None)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 303)
    assert seen["slow"].refused_an_answer(since_s=0) <= 0.1
    assert seen["slow"].per_s >= 0.9 * 5


@pytest.mark.slow
def test_a_model_with_a_limit_holds_up_no_other(desk: Desk) -> None:
    slow, models = Bucket(5, 5), mix(3000, free=0.8, slow=0.2)
    _, alone = play(desk, ["free"] * models.count("free"), lambda model: None)
    desk.results.unlink()
    ran, seen = play(desk, models, lambda model: slow if model == "slow" else None)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 3000)
    assert not seen["free"].refused
    assert max(seen["free"].answered) <= max(alone["free"].answered) / 0.95
    assert seen["slow"].per_s >= 0.95 * 5
    assert sum(at < 15 for at in seen["slow"].refused) <= 30
    assert seen["slow"].refused_an_answer(since_s=15) <= 0.02
    by_model = ran.report.limited_s_by_model
    assert list(by_model) == ["slow"]
    assert max(by_model["slow"], key=lambda limit: by_model["slow"][limit]) == "gateway_requests"
    assert "limited by, slow: gateway requests " in render(ran.report)
    assert rebuild(desk.results, PriceBook()).report.limited_s_by_model == by_model


def test_of_a_fixed_number_at_once_a_limited_model_has_what_it_needs_and_the_other_the_rest(desk: Desk) -> None:
    """32 at once and half a second each are 64 a second; 5 a second need three of the 32."""
    slow = Bucket(5, 5)
    ran, seen = play(desk, mix(2000, free=0.8, slow=0.2), lambda model: slow if model == "slow" else None, Limits(32))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 2000)
    assert seen["free"].per_s >= 0.9 * (32 - 3) * 2
    assert seen["slow"].per_s >= 0.8 * 5  # finding out counts in so short a job; starved of places it had 2


@pytest.mark.slow
def test_a_limit_of_the_whole_key_is_shared_by_all_models(desk: Desk) -> None:
    """In a job so short that finding out counts; `python -m tests.benchmarks lanes` measures it over more lines."""
    limit = Bucket(100, 20)
    one, _ = play(desk, ["m"] * 4000, lambda model: limit)
    desk.results.unlink()
    limit = Bucket(100, 20)
    ran, seen = play(desk, mix(4000, **{f"m{number}": 1 for number in range(8)}), lambda model: limit)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 4000)
    assert ran.took_s <= one.took_s / 0.95
    assert sum(len(one.refused) for one in seen.values()) <= 0.015 * 4000


@pytest.mark.slow
def test_each_of_eight_models_gets_its_own_limit(desk: Desk) -> None:
    """In so short a job; `python -m tests.benchmarks lanes` measures it over 100,000 lines."""
    rates = {"m0": 5, "m1": 8, "m2": 12, "m3": 20, "m4": 30, "m5": 50, "m6": 100}
    limits = {model: Bucket(rate, rate) for model, rate in rates.items()}
    ran, seen = play(desk, mix(4000, **{f"m{number}": 1 for number in range(8)}), limits.get)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 4000)
    for model in ("m0", "m1", "m2", "m3"):
        assert seen[model].per_s >= 0.9 * rates[model], model
        assert seen[model].refused_an_answer(since_s=15) <= 0.02
    alone_s = (len(seen["m0"].answered) - 5) / 5
    assert ran.took_s <= 1.08 * alone_s


def test_two_models_get_each_its_own_limit(desk: Desk) -> None:
    """Once one is told apart, nothing is left to tell the other's limit from that of the key, and nothing need be."""
    rates = {"slow": 5, "fast": 50}
    limits = {model: Bucket(rate, rate) for model, rate in rates.items()}
    ran, seen = play(desk, mix(1500, slow=0.2, fast=0.8), limits.get)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 1500)
    for model, rate in rates.items():
        assert seen[model].per_s >= 0.9 * rate, model
        assert seen[model].refused_an_answer(since_s=15) <= 0.02, model


def test_lines_of_a_spent_model_wait_and_all_others_are_done(desk: Desk) -> None:
    models = mix(1000, free=0.95, spent=0.05)
    ran, seen = play(desk, models, lambda model: SPENT if model == "spent" else None)
    free = models.count("free")
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.pending) == (3, free, 1000 - free)
    assert ran.why == (
        f"{free} done; {1000 - free} lines of spent wait for its limit (HTTP 429 rate_limit_exceeded: "
        "Daily limit reached, back in 3h 00m 00s); run the same command then"
    )
    assert max(seen["free"].answered) < 10
    assert len(seen["spent"].refused) <= 10
    assert is_said(ran, "pausing spent for 120 s: HTTP 429 rate_limit_exceeded: Daily limit reached")
    again, seen = play(desk, models, lambda model: None)
    assert (again.exit_code, again.report.lines.succeeded) == (0, 1000)
    assert list(seen) == ["spent"]


def test_a_spent_model_that_says_no_time_is_given_up_after_max_outage(desk: Desk) -> None:
    models = mix(400, free=0.9, spent=0.1)
    ran, seen = play(
        desk, models, lambda model: TOO_FAST if model == "spent" else None, Limits("auto", max_outage_s=200)
    )
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, models.count("free"))
    assert f"{models.count('spent')} lines of spent wait for its limit" in ran.why
    assert 200 < ran.took_s < 400
    assert len(seen["spent"].refused) < 40


def test_any_number_of_lines_of_a_spent_model_may_come_first(desk: Desk) -> None:
    """They are kept as numbers, and the file is read on."""
    ran, seen = play(desk, ["spent"] * 20_000 + ["free"] * 200, lambda model: SPENT if model == "spent" else None)
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, 200)
    assert "200 done; 20,000 lines of spent wait for its limit" in ran.why
    assert max(seen["free"].answered) < 20


def test_a_slow_model_whose_lines_come_first_is_not_left_for_the_end(desk: Desk) -> None:
    slow = Bucket(5, 5)
    models = ["slow"] * 200 + ["free"] * 4000
    ran, seen = play(desk, models, lambda model: slow if model == "slow" else None, Limits(32))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 4200)
    assert max(seen["free"].answered) > 50
    assert max(seen["slow"].answered) <= 1.2 * 195 / 5


@pytest.mark.parametrize("refusal", NO_SUCH_MODEL, ids=["by code", "Ollama", "LiteLLM"])
def test_the_lines_of_a_model_that_does_not_exist_get_its_refusal_without_being_sent(
    desk: Desk, refusal: bytes
) -> None:
    models = mix(1000, free=0.6, gone=0.4)
    ran, seen = play(desk, models, lambda model: refusal if model == "gone" else None)
    gone = models.count("gone")
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.failed) == (1, 1000 - gone, gone)
    assert list(ran.report.errors.values()) == [gone]
    assert 20 <= len(seen["gone"].refused) <= 40


def test_a_model_that_is_down_holds_up_no_other_and_loses_no_line(desk: Desk) -> None:
    models = mix(600, free=0.7, down=0.3)

    def limit_of(model: str) -> Limit:
        return UNAVAILABLE if model == "down" and asyncio.get_running_loop().time() < 600 else None

    ran, seen = play(desk, models, limit_of)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 600)
    assert max(seen["free"].answered) < 10
    assert ran.took_s < 640
    assert is_said(ran, "down is gone")
