"""Lines that belong to one of several endpoints: whole jobs on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

import batchrun
from batchrun import Endpoint, GatewayOptions, Job
from batchrun.errors import InputError
from batchrun.job.endpoints import NamedEndpoint
from tests.engine.test_endpoints import DEAD_KEY, Choose, Place, by_endpoint, play
from tests.engine.test_runner import BROKEN, Desk, Ran, desk
from tests.engine.test_whose_fault import TOO_FAST, Bad, is_said, number_of
from tests.support import Json

__all__ = ["desk"]


def body(task: int, number: int) -> Json:
    return {"model": "m", "instructions": f"task {task}", "input": f"question {number}"}


def prefixes(desk: Desk, count: int, lines: int) -> Desk:
    """So many beginnings, in turn."""
    return desk.bodies(*(body(number % count, number) for number in range(1, lines + 1)))


def homes_of_twelve(desk: Desk) -> dict[int, Counter[str]]:
    """Where the lines of twelve beginnings go that have a and b to go to."""
    homes = where(play(prefixes(desk, 12, 12), Place(), Place(), sticky="prefix"), 12)
    for file in desk.results.parent.glob(f"{desk.results.name}*"):
        file.unlink()
    return homes


def named(desk: Desk, *names: str | None, same: bool = False) -> Desk:
    """A line for each name, that names this endpoint."""
    with desk.requests.open("w") as file:
        for number, name in enumerate(names, 1):
            body = {"model": "m", "input": f"question {1 if same else number}"}
            line: Json = {"custom_id": f"r-{number}", "body": body}
            file.write(json.dumps(line | ({} if name is None else {"endpoint": name})) + "\n")
    return desk


def where(ran: Ran, count: int) -> dict[int, Counter[str]]:
    """Where the lines of each beginning were answered."""
    found: dict[int, Counter[str]] = defaultdict(Counter)
    for record in ran.records:
        found[record["run"]["line"] % count][record["run"]["endpoint"]] += 1
    return found


def while_it_is(since_s: float, until_s: float, bad: Bad) -> Choose:
    return lambda body, _: bad if since_s <= asyncio.get_running_loop().time() < until_s else None


# ----------------------------------------------------------------------------------------- --sticky prefix


@pytest.mark.smoke
def test_lines_that_begin_alike_go_to_one_endpoint_by_weight_and_so_do_those_of_a_resume(desk: Desk) -> None:
    prefixes(desk, 60, 1200)
    places = Place(weight=2), Place()
    ran = play(desk, *places, sticky="prefix", limit=600)
    first = where(ran, 60)
    ran = play(desk, *places, sticky="prefix")
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 1200)
    homes = where(ran, 60)
    assert all(len(found) == 1 for found in homes.values())
    assert {number: set(found) for number, found in first.items()} == {
        number: set(found) for number, found in homes.items()
    }
    assert 0.5 < by_endpoint(ran)["a"] / 1200 < 0.8  # of 60 beginnings, which chance divides


def test_a_full_home_keeps_its_lines_and_holds_up_no_others(desk: Desk) -> None:
    """The slow one has most of the lines at the start of the file."""
    homes = homes_of_twelve(desk)
    at_a, at_b = (next(number for number, found in homes.items() if name in found) for name in "ab")
    desk.bodies(*(body(number, place) for place, number in enumerate([at_a] * 600 + [at_b] * 600, 1)))
    slow, free = Place(at_once=4), Place(at_once=40)
    ran = play(desk, slow, free, sticky="prefix")
    assert (ran.exit_code, by_endpoint(ran)) == (0, {"a": 600, "b": 600})
    assert max(free.answers) < 0.5 * max(slow.answers)


@pytest.mark.slow
def test_lines_whose_home_is_away_go_to_one_other_and_new_ones_go_home_again(desk: Desk) -> None:
    prefixes(desk, 12, 3600)
    dies, *others = Place(while_it_is(5, 15, BROKEN), at_once=16), Place(at_once=16), Place(at_once=16)
    ran = play(desk, dies, *others, sticky="prefix")
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 3600)
    homes = where(ran, 12)
    of_a = {number for number, found in homes.items() if found["a"]}
    assert all(len(homes[number]) == 1 for number in homes if number not in of_a)
    for number in of_a:  # all but the few lines that found no room while too many waited
        heirs = sorted((homes[number][name] for name in "bc"), reverse=True)
        assert heirs[0] > 0
        assert homes[number]["a"] > heirs[0]
    assert min(at for at in dies.answers if at > 15) < 25
    assert is_said(ran, "a is back")


def test_a_line_that_has_moved_stays(desk: Desk) -> None:
    """While a is away b refuses the line; a comes back first, and the line waits for b all the same."""
    number = next(number for number, found in homes_of_twelve(desk).items() if "a" in found)
    desk.bodies(*(body(number, place) for place in range(1, 41)))  # so few that all may wait in memory
    refused = set[int]()

    def busy(body: Json, _: int) -> Bad | None:
        if asyncio.get_running_loop().time() >= 20:
            return None
        refused.add(number_of(body))
        return TOO_FAST

    back, slow = Place(while_it_is(0, 2, BROKEN), at_once=8), Place(busy)
    ran = play(desk, back, slow, sticky="prefix")
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 40)
    assert min(back.answers) < 15
    probes = {int(text.split()[1]) for at, text in back.asked if at <= min(back.answers)}
    moved = refused - probes
    assert len(moved) > 5
    assert {ran.record(place)["run"]["endpoint"] for place in moved} == {"b"}
    assert by_endpoint(ran)["a"] > 5


# ------------------------------------------------------------------------------------ the name beside the body


@pytest.mark.smoke
def test_a_line_goes_to_the_endpoint_that_it_names_alone(desk: Desk) -> None:
    """Those of b fail once, too."""
    failed = set[int]()

    def fails_once(body: Json, _: int) -> Bad | None:
        number = number_of(body)
        if number in failed or number % 3:
            return None
        failed.add(number)
        return BROKEN

    named(desk, *["a", None, "b"] * 100)
    places = Place(weight=100), Place(fails_once)
    ran = play(desk, *places)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 300)
    wheres = [ran.record(number)["run"]["endpoint"] for number in range(1, 301)]
    assert (set(wheres[0::3]), set(wheres[2::3])) == ({"a"}, {"b"})
    assert len(failed) == 100


def test_lines_of_a_dead_endpoint_that_they_name_stay_undone_and_hold_up_no_others(desk: Desk) -> None:
    named(desk, *["a"] * 300, *["b"] * 300, *[None] * 300)
    dead = Place(lambda body, _: DEAD_KEY)
    ran = play(desk, dead, Place(at_once=20))
    assert (ran.exit_code, ran.report.lines.succeeded, by_endpoint(ran)) == (3, 600, {"b": 600})
    assert "a: the gateway refuses the key" in ran.why
    assert len(dead.asked) <= 9
    ran = play(desk, Place(), Place())
    assert (ran.exit_code, by_endpoint(ran)) == (0, {"a": 300, "b": 600})


def test_a_line_that_names_its_endpoint_is_sent_there_even_if_it_equals_another(desk: Desk) -> None:
    named(desk, "a", None, None, "b", "b", same=True)
    places = Place(), Place()
    ran = play(desk, *places, dedup=True)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 5)
    assert len(places[0].asked) + len(places[1].asked) == 4
    assert [ran.record(number)["run"]["endpoint"] for number in (1, 4, 5)] == ["a", "b", "b"]


def test_a_line_that_names_its_endpoint_is_sent_there_even_if_other_results_have_an_answer(desk: Desk) -> None:
    play(named(desk, None, None, None), Place(), Place())
    earlier = desk.results.rename(desk.folder / "earlier.jsonl")
    named(desk, "b", None, "a")
    places = Place(), Place()
    ran = play(desk, *places, reuse=earlier, reuse_any_gateway=True)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 3)
    assert [len(place.asked) for place in places] == [1, 1]
    assert "source" in ran.record(2)["run"]


def test_a_name_does_nothing_where_a_gateway_is_simulated(tmp_path: Path) -> None:
    requests = named(Desk(tmp_path), "a", "b").requests
    options = GatewayOptions(latency_median_s=0, latency_p99_s=0)
    ran = batchrun.run(Job(str(requests), tmp_path / "o.jsonl", Endpoint("http://none"), simulate=options))
    assert ran.report.lines.succeeded == 2


@pytest.mark.parametrize(
    ("endpoints", "problems"),
    [
        (
            ("a", "b"),
            [
                'requests.jsonl:2: "endpoint" is "c", which there is not; there are a, b',
                'requests.jsonl:4: "endpoint" is "b", which does not serve m; add that to its models',
            ],
        ),
        (
            (),
            [
                'requests.jsonl:1: "endpoint" is "a"; name the endpoints with --endpoints FILE, or take it out',
                'requests.jsonl:2: "endpoint" is "c"; name the endpoints with --endpoints FILE, or take it out',
                'requests.jsonl:4: "endpoint" is "b"; name the endpoints with --endpoints FILE, or take it out',
            ],
        ),
    ],
)
def test_a_name_that_cannot_be_followed_is_refused_before_anything_is_sent(
    desk: Desk, endpoints: tuple[str, ...], problems: list[str]
) -> None:
    named(desk, "a", "c", None, "b", "b")
    several = [
        NamedEndpoint(name, Endpoint("http://127.0.0.1:9"), models=["m"] if name == "a" else ["n"])
        for name in endpoints
    ]
    where: Json = {"endpoints": several} if several else {"endpoint": Endpoint("http://127.0.0.1:9")}
    with pytest.raises(InputError) as refused:
        batchrun.run(Job(str(desk.requests), desk.results, **where))
    assert [problem.removeprefix(f"{desk.folder}/") for problem in refused.value.problems] == problems
    assert not desk.results.exists() or not desk.results.read_bytes()
