"""Where a line belongs: which prompts begin alike, and which endpoint is drawn for them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from typing import Any, cast

import pytest

from batchrun.engine.gateways import Gateway
from batchrun.engine.homes import ANYWHERE, Homes, beginning, drawn
from batchrun.records.request import RequestLine, parse_request
from tests.support import Json


class Named:
    """What a home is drawn by."""

    def __init__(self, name: str, weight: float = 1.0, tier: int = 1, models: str = "mn") -> None:
        self.name, self.weight, self.tier, self._models = name, weight, tier, models

    def serves(self, model: str) -> bool:
        return model in self._models


def gateways(*named: Named) -> list[Gateway]:
    return [cast(Gateway, one) for one in named]


def line(endpoint: str | None = None, /, **body: Any) -> RequestLine:
    whole: Json = {"custom_id": "r", "body": {"model": "m"} | body} | ({"endpoint": endpoint} if endpoint else {})
    if "messages" in body:
        whole["url"] = "/v1/chat/completions"
    return parse_request(json.dumps(whole).encode(), 1)


def said(role: str, text: str) -> Json:
    return {"role": role, "content": text}


LONG = "Tell what this text is about: " + "x" * 1100


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"instructions": "i", "input": "1"}, {"instructions": "i", "input": "2"}),
        (
            {"input": [said("developer", "d"), said("user", "1")]},
            {"input": [said("developer", "d"), said("user", "2")]},
        ),
        (
            {"messages": [said("system", "s"), said("user", "1")]},
            {"messages": [said("system", "s"), said("user", "2")]},
        ),
        ({"input": LONG + "1"}, {"input": LONG + "2"}),
        ({"input": [said("user", "1"), said("user", "2")]}, {"input": [said("user", "1"), said("user", "3")]}),
        ({"prompt": {"id": "p", "variables": {"x": 1}}}, {"prompt": {"id": "p", "variables": {"x": 2}}}),
        ({"prompt_cache_key": "k", "instructions": "i"}, {"prompt_cache_key": "k", "instructions": "j"}),
        ({"instructions": "i", "input": ["odd"]}, {"instructions": "i", "input": [7]}),
    ],
)
def test_prompts_that_begin_alike(one: Json, other: Json) -> None:
    assert beginning(line(**one)) == beginning(line(**other)) != b""


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"instructions": "i", "input": "1"}, {"instructions": "j", "input": "1"}),
        ({"instructions": None, "input": "1"}, {"instructions": None, "input": "2"}),
        ({"input": [said("system", "s"), said("user", "1")]}, {"input": [said("system", "t"), said("user", "1")]}),
        ({"messages": [said("user", "1")]}, {"messages": [said("user", "2")]}),
        (
            {"messages": [said("system", "s"), said("developer", "d"), said("user", "1")]},
            {"messages": [said("system", "s"), said("developer", "e"), said("user", "1")]},
        ),
        ({"prompt": {"id": "p"}}, {"prompt": {"id": "q"}}),
        ({"prompt_cache_key": "k", "instructions": "i"}, {"prompt_cache_key": "l", "instructions": "i"}),
    ],
)
def test_prompts_that_do_not(one: Json, other: Json) -> None:
    assert beginning(line(**one)) != beginning(line(**other))


def homes_of(named: list[Named]) -> list[str | None]:
    return [drawn(f"instructions {number}".encode(), gateways(*named)).name for number in range(6000)]


def test_each_endpoint_is_the_home_of_a_share_of_the_beginnings_by_its_weight() -> None:
    found = Counter(homes_of([Named("a", 3), Named("b", 2), Named("c", 1)]))
    for name, share in (("a", 3 / 6), ("b", 2 / 6), ("c", 1 / 6)):
        assert found[name] / 6000 == pytest.approx(share, rel=0.05)


def test_an_endpoint_that_goes_moves_no_lines_but_its_own() -> None:
    named = [Named("a", 3), Named("b", 2), Named("c", 1)]
    moved = [(before, after) for before, after in zip(homes_of(named), homes_of(named[:2]), strict=True)]
    assert all(before == after for before, after in moved if before != "c")
    assert Counter(after for before, after in moved if before == "c")["a"] > 500


def test_homes_are_the_same_in_every_process() -> None:
    program = "from tests.engine.test_homes import *; print(homes_of([Named('a'), Named('b')])[:200])"
    runs = [
        subprocess.run(
            [sys.executable, "-c", program], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        )
        for seed in ("1", "2")
    ]
    assert runs[0].stdout == runs[1].stdout
    assert "'a'" in runs[0].stdout


def test_a_line_goes_where_it_says_or_where_what_it_continues_is_or_home_or_anywhere() -> None:
    a, b, c, dear = every = gateways(Named("a", models="n"), Named("b"), Named("c"), Named("dear", 1000, tier=2))
    plain, sticky = Homes(every, sticky=False), Homes(every, sticky=True)
    assert plain.of(line(input="1")) == ANYWHERE
    for homes in (plain, sticky):
        assert homes.of(line("dear", input="1", previous_response_id="r")) == (dear, True)
        assert homes.of(line(input="1", previous_response_id="r")) == (b, True)
        assert homes.of(line(input="1", conversation="c", model="n")) == (a, True)
    told = [line(instructions=f"i{number}", input="1") for number in range(100)]
    later = [line(instructions=f"i{number}", input="2", previous_response_id="r") for number in range(100)]
    assert {sticky.of(one) for one in told} == {(b, False), (c, False)}
    assert [sticky.of(one).gateway for one in later] == [sticky.of(one).gateway for one in told]
    assert all(sticky.of(one).is_only for one in later)
