"""Models whose quota is spent, beside models that are answered: whole jobs on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from batchrun.limits.options import Limits
from batchrun.records.words import counted
from tests.engine.test_endpoints import DEAD_KEY, EMPTY, Choose, Place, always
from tests.engine.test_endpoints import play as play_endpoints
from tests.engine.test_lanes import NO_MODEL, SPENT, mix, play
from tests.engine.test_runner import Desk, desk, error
from tests.engine.test_whose_fault import Bad, is_said, job, number_of
from tests.support import Json

__all__ = ["desk"]

DAILY = "HTTP 429 rate_limit_exceeded: Daily limit reached"


def bodies(desk: Desk, models: Sequence[str]) -> None:
    desk.bodies(*({"model": model, "input": f"question {number}"} for number, model in enumerate(models, 1)))


def by_model(bads: Mapping[str, Bad], asked: Counter[str]) -> Choose:
    """What a gateway says of each model; `asked` counts the requests for it."""

    def choose(body: Json, _: int) -> Bad | None:
        asked[body["model"]] += 1
        return bads.get(body["model"])

    return choose


# ------------------------------------------------------------------------------ beside a model that is missing


@pytest.mark.parametrize("spent", [SPENT, EMPTY], ids=["Retry-After", "insufficient_quota"])
@pytest.mark.parametrize("order", ["mixed", "sorted", "missing last"])
def test_a_missing_models_lines_get_their_record_beside_a_spent_model(desk: Desk, spent: bytes, order: str) -> None:
    models = mix(1000, free=0.5, spent=0.25, gone=0.25)
    if order != "mixed":
        models.sort(key=["free", "spent", "gone"].index if order == "missing last" else None)
    bodies(desk, models)
    asked = Counter[str]()
    places = [Place(by_model({"spent": spent, "gone": NO_MODEL}, asked)) for _ in "ab"]
    ran = play_endpoints(desk, *places)
    count = Counter(models)
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.failed) == (3, count["free"], count["gone"])
    assert f"{count['free'] + count['gone']} done; {count['spent']} lines of spent wait for its" in ran.why
    assert "of gone" not in ran.why
    assert 20 <= asked["gone"] <= 20 + 40


# ------------------------------------------------------------------- from the very first request on (Retry-After)


def refuse(*spent: str) -> Callable[[str], bytes | None]:
    return lambda model: SPENT if model in spent else None


@pytest.mark.parametrize("share", [0.5, 0.05, 0.005])
@pytest.mark.parametrize("order", ["mixed", "spent first", "spent last"])
def test_a_job_ends_soon_after_the_lines_of_other_models_are_done(desk: Desk, share: float, order: str) -> None:
    models = ["spent"] * int(share * 600) + ["free"] * int((1 - share) * 600)
    random.Random(1).shuffle(models)
    if order != "mixed":
        models.sort(reverse=order == "spent first")
    ran, seen = play(desk, models, refuse("spent"))
    free, spent = models.count("free"), models.count("spent")
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, free)
    said = f"{free} done; {counted(spent, 'line')} of spent wait for its limit ({DAILY}, back in "
    assert ran.why.startswith(said)
    assert re.fullmatch(r"(3h 00m 00s|2h 59m ..s)\); run the same command then", ran.why.removeprefix(said))
    assert ran.took_s <= max(seen["free"].answered) + 5
    first = min(seen["spent"].refused)
    assert sum(at > first + 0.5 for at in seen["spent"].refused) <= 2  # after those that were in flight: to be sure


@pytest.mark.parametrize("left", [1, 2, 300])
def test_a_rerun_in_which_only_a_spent_model_is_left_ends_at_once(desk: Desk, left: int) -> None:
    models = ["free"] * 100 + ["spent"] * left
    play(desk, models, refuse("spent"))
    ran, seen = play(desk, models, refuse("spent"))
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.pending) == (3, 100, left)
    assert f"0 done; {counted(left, 'line')} of spent wait for its limit ({DAILY}, back in 3h" in ran.why
    assert ran.took_s <= 5
    assert len(seen["spent"].refused) <= 10
    again, seen = play(desk, models, refuse())
    assert (again.exit_code, again.report.lines.succeeded) == (0, 100 + left)


def test_several_spent_models_end_as_soon(desk: Desk) -> None:
    models = mix(600, free=0.9, spent=0.05, dear=0.05)
    ran, seen = play(desk, models, refuse("spent", "dear"))
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, models.count("free"))
    for model in ("spent", "dear"):
        assert f"; {models.count(model)} lines of {model} wait for its limit ({DAILY}, back in 3h" in ran.why
    assert ran.took_s <= max(seen["free"].answered) + 10


def test_where_all_models_are_spent_all_lines_are_counted(desk: Desk) -> None:
    ran, _ = play(desk, mix(600, spent=0.5, dear=0.5), refuse("spent", "dear"))
    assert ran.exit_code == 3
    assert sum(int(words.split()[0]) for words in ran.why.split("; ") if " wait for its limit" in words) == 600
    assert ran.took_s <= 10


def test_a_model_that_asks_for_a_long_wait_once_is_not_closed(desk: Desk) -> None:
    """A burst of refusals is one; the next request is answered."""
    models = mix(400, free=0.5, hasty=0.5)
    until: list[float] = []

    def limit_of(model: str) -> bytes | None:
        now = asyncio.get_running_loop().time()
        if model == "hasty":
            until.append(now + 1)
        return SPENT if model == "hasty" and now < until[0] else None

    ran, _ = play(desk, models, limit_of)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 400)


def test_an_endpoint_closes_the_spent_model_alone(desk: Desk) -> None:
    """The others go on there, although they share its limits until then."""
    models = mix(600, free=0.5, spent=0.5)
    bodies(desk, models)
    places = [Place(by_model({"spent": SPENT}, Counter())) for _ in "ab"]
    ran = play_endpoints(desk, *places, limits=Limits(8))
    free, spent = models.count("free"), models.count("spent")
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, free)
    assert f"{free} done; {spent} lines of spent wait for its limit ({DAILY}, back in 3h" in ran.why
    assert all(len(place.answers) > 0.3 * free for place in places)


# ------------------------------------------------------------------------------- words about money (no time is said)

BY_TYPE = error(
    429, "rate_limit_exceeded", "You exceeded your current quota", "insufficient_quota", Retry_After="10800"
)
WORDS = {"insufficient_quota": EMPTY, "by type": BY_TYPE, "402": error(402, None, "Payment required")}


@pytest.mark.parametrize("order", ["mixed", "spent first", "spent last"])
@pytest.mark.parametrize("words", WORDS)
def test_a_model_without_money_is_closed_while_others_are_answered(desk: Desk, words: str, order: str) -> None:
    models = ["spent"] * 100 + ["free"] * 300
    random.Random(1).shuffle(models)
    if order != "mixed":
        models.sort(reverse=order == "spent first")
    ran, seen = play(desk, models, {"spent": WORDS[words]}.get)
    assert (ran.exit_code, ran.report.lines.succeeded, ran.report.lines.failed) == (3, 300, 0)
    if words == "by type":
        assert "300 done; 100 lines of spent wait for its quota (HTTP 429 rate_limit_exceeded: You exceeded" in ran.why
        assert re.search(r", back in (3h|2h 59m) .*\); run the same command then$", ran.why)
    else:
        assert "300 done; 100 lines of spent wait for its quota (HTTP 4" in ran.why
        assert ran.why.endswith("); raise it or top up the account, then run the same command")
    assert sum(notice.startswith("the quota of spent is spent (HTTP 4") for notice in ran.told.notices) == 1
    assert ran.took_s <= max(seen["free"].answered) + 5


@pytest.mark.parametrize("count", [2, 3, 8])
@pytest.mark.parametrize("order", ["mixed", "sorted"])
def test_an_empty_account_stops_the_job_after_one_request_for_each_model_more(
    desk: Desk, count: int, order: str
) -> None:
    models = [f"m{number % count}" for number in range(400)]
    models.sort(key=None if order == "sorted" else lambda _: 0)
    ran, seen = play(desk, models, lambda model: EMPTY)
    assert (ran.exit_code, len(ran.records)) == (3, 0)
    assert ran.why.startswith("the account cannot pay for more (HTTP 429 insufficient_quota: You exceeded")
    assert sum(len(one.refused) for one in seen.values()) <= 8 + count - 1


@pytest.mark.parametrize("order", ["mixed", "sorted"])
@pytest.mark.parametrize("earlier", [False, True], ids=["fresh", "resumed"])
def test_an_empty_account_of_several_models_shuts_its_endpoint_after_ten_requests(
    desk: Desk, order: str, earlier: bool
) -> None:
    models = [f"m{number % 8}" for number in range(400)]
    models.sort(key=None if order == "sorted" else lambda _: 0)
    bodies(desk, models)
    if earlier:
        stops = Place(lambda body, number: DEAD_KEY if number > 20 else None)
        play_endpoints(desk, stops, limits=Limits(4))
    empty, good = Place(always(EMPTY)), Place()
    ran = play_endpoints(desk, empty, good)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 400)
    assert len(empty.asked) <= 10
    assert is_said(ran, "a is shut: the account cannot pay for more")
    assert not is_said(ran, "the quota of")


def test_an_account_that_runs_empty_stops_the_job(desk: Desk) -> None:
    """Several models were answered; no line becomes an error record."""
    models = mix(600, one=0.5, other=0.5)
    ran, _ = play(desk, models, lambda model: EMPTY if asyncio.get_running_loop().time() > 3 else None)
    done = ran.report.lines.succeeded
    assert (ran.exit_code, ran.report.lines.pending) == (3, 600 - done)
    assert 0 < done < 600
    assert "the account cannot pay for more" in ran.why
    again, _ = play(desk, models, lambda model: None)
    assert (again.exit_code, again.report.lines.succeeded) == (0, 600)


def test_an_endpoint_closes_the_model_without_money_alone(desk: Desk) -> None:
    models = mix(600, free=0.5, spent=0.5)
    bodies(desk, models)
    asked = Counter[str]()
    poor, rich = Place(by_model({"spent": EMPTY}, asked)), Place()
    ran = play_endpoints(desk, poor, rich, limits=Limits(16))
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 600)
    assert len(poor.answers) >= 0.3 * models.count("free")
    assert asked["spent"] <= 10
    assert not is_said(ran, "a is shut")


def test_one_line_that_is_refused_for_money_once_closes_nothing(desk: Desk) -> None:
    """Once something has succeeded, two lines must say so."""
    refused = list[str]()

    def choose(body: Json, _: int) -> Bad | None:
        if number_of(body) in (200, 300) and body["input"] not in refused:
            refused.append(body["input"])
            return EMPTY
        return None

    desk.bodies(*({"model": "mn"[number % 2], "input": f"question {number}"} for number in range(1, 401)))
    ran, _ = job(desk, choose)
    assert (ran.exit_code, ran.report.lines.succeeded, len(refused)) == (0, 400, 2)


def test_the_lines_of_a_model_are_counted_together_where_they_belong_to_several_endpoints(desk: Desk) -> None:
    models = ["spent"] * 60 + ["free"] * 60
    lines = [{"custom_id": f"r-{n}", "body": {"model": m, "input": f"question {n}"}} for n, m in enumerate(models, 1)]
    for number, line in enumerate(lines):
        line["endpoint"] = "ab"[number % 2]
    desk.requests.write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = play_endpoints(desk, *[Place(by_model({"spent": EMPTY}, Counter())) for _ in "ab"])
    assert (ran.exit_code, ran.report.lines.succeeded) == (3, 60)
    assert ran.why.startswith("60 done; 60 lines of spent wait for its quota (HTTP 429 insufficient_quota: ")
