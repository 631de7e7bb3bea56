"""Models whose quota is spent, beside models that are answered: whole jobs on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

import pytest

from batchrun.limits.options import Limits
from batchrun.records.words import counted
from tests.engine.test_endpoints import Choose, Place
from tests.engine.test_endpoints import play as play_endpoints
from tests.engine.test_lanes import NO_MODEL, SPENT, mix, play
from tests.engine.test_runner import Desk, desk
from tests.engine.test_whose_fault import Bad
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


@pytest.mark.parametrize("spent", [SPENT], ids=["Retry-After"])
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
