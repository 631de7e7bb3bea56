"""Which peers may get lines: what is written out for speed says the same as the rule."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any, cast

from batchrun.engine.attribution import Peers, may_get_lines
from batchrun.records.outcome import Failure


def peers_with(away: bool, missing: bool, closed: bool, shut: bool, paused: bool) -> Peers:
    """Peers of whom this is known."""
    limiter = SimpleNamespace(promises=SimpleNamespace(is_paused=paused))
    gateway = SimpleNamespace(name="a", limiter=limiter, shut_since=1.0 if shut else None)
    peers = Peers(
        cast(Any, None), "/v1/responses", "m", cast(Any, SimpleNamespace(is_closed=closed)), cast(Any, gateway)
    )
    peers.missing = Failure("model_not_found", "no such model", 404) if missing else None
    if away:
        peers.breaker.open(0.0, "away")
    return peers


def test_those_may_get_lines_that_are_open_and_not_paused() -> None:
    for states in product((False, True), repeat=5):
        peers, is_paused = peers_with(*states), states[-1]
        assert may_get_lines([peers]) == ([peers] if peers.is_open and not is_paused else []), states
        assert peers.is_open == (not any(states[:-1]))
