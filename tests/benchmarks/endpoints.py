"""What a job gets of several gateways: whole jobs on real sockets, in virtual time.

The gateways of `tests/engine/test_endpoints.py`, over more lines.
"""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path

from batchrun.limits.options import Limits
from tests import hostile
from tests.benchmarks.workloads import Row, Scale
from tests.engine.test_endpoints import DEAD_KEY, EMPTY, Place, by_endpoint, play
from tests.engine.test_lanes import Bucket
from tests.engine.test_runner import Desk
from tests.engine.test_whose_fault import TOO_FAST, Bad
from tests.support import Json

LINES = 20_000
AT_ONCE, PER_S = 40, 100.0  # half a second each: 80 a second, and 100
KILLED_AT_S, BACK_AT_S = 30.0, 60.0


def endpoints(folder: Path, scale: Scale) -> list[Row]:
    """Two limits, an outage, weights, bad keys, caps."""
    return [
        *_two_limits(folder, scale),
        *_killed(folder),
        *_weights(folder, scale),
        *_bad_ones(folder, scale),
        *_caps(folder, scale),
    ]


def _desk(folder: Path, name: str) -> Desk:
    (folder / name).mkdir()
    return Desk(folder / name)


def _two_limits(folder: Path, scale: Scale) -> list[Row]:
    lines, bucket = scale.lines(LINES), Bucket(PER_S, 20)

    def limited(body: Json, number: int) -> Bad | None:
        return None if bucket.lets_through(asyncio.get_running_loop().time()) else TOO_FAST

    places = Place(at_once=AT_ONCE), Place(limited)
    ran = play(_desk(folder, "limits"), *places, lines=lines)
    capacity = AT_ONCE / 0.5 + PER_S
    what = f"two gateways, {AT_ONCE} at once and {PER_S:g}/s, unknown"
    return [
        Row("endpoints_sum", f"{what}: used of both", lines / ran.took_s / capacity, "of capacity", 0.95, True),
        Row("endpoints_429s", f"{what}: 429s", sum(place.refused for place in places) / lines, "per answer", 0.01),
    ]


def _killed(folder: Path) -> list[Row]:
    async def reset(writer: asyncio.StreamWriter, asked: hostile.Asked) -> None:
        await hostile.reset(writer, asked)

    def choose(body: Json, number: int) -> Bad | None:
        return reset if KILLED_AT_S <= asyncio.get_running_loop().time() < BACK_AT_S else None

    dies, stays = Place(choose, at_once=AT_ONCE), Place(at_once=AT_ONCE)
    lines = int(80 * (2 * KILLED_AT_S + (BACK_AT_S - KILLED_AT_S) + 2 * 30))
    ran = play(_desk(folder, "killed"), dies, stays, lines=lines)
    before = stays.per_s(KILLED_AT_S - 10, KILLED_AT_S)
    return [
        Row(
            "endpoints_lost", "one of two killed, back after 30 s: lost", lines - ran.report.lines.succeeded, "lines", 0
        ),
        Row("endpoints_tries", "attempts a line", ran.report.attempts / lines, "per line", 1.05),
        Row(
            "endpoints_alone",
            "from 10 s after the kill: the other one",
            stays.per_s(KILLED_AT_S + 10, BACK_AT_S) / before,
            "of before",
            0.95,
            True,
        ),
        Row(
            "endpoints_back",
            "from 10 s after its return: the killed one",
            dies.per_s(BACK_AT_S + 10, BACK_AT_S + 20) / dies.per_s(KILLED_AT_S - 10, KILLED_AT_S),
            "of before",
            0.95,
            True,
        ),
    ]


def _weights(folder: Path, scale: Scale) -> list[Row]:
    ran = play(
        _desk(folder, "weights"), Place(weight=2), Place(), lines=max(2000, scale.lines(LINES // 4)), limits=Limits(30)
    )
    shares = by_endpoint(ran)
    return [
        Row(
            "endpoints_weights",
            "weights 2 : 1, both with room: off by",
            abs(shares["a"] / shares["b"] / 2 - 1),
            "",
            0.05,
        )
    ]


def _bad_ones(folder: Path, scale: Scale) -> list[Row]:
    dead, empty = Place(lambda body, _: DEAD_KEY), Place(lambda body, _: EMPTY)
    lines = scale.lines(LINES // 4)
    ran = play(_desk(folder, "bad"), dead, empty, Place(), lines=lines)
    return [
        Row(
            "endpoints_done",
            "a dead key, an empty account, a good one: done",
            ran.report.lines.succeeded / lines,
            "",
            1,
            True,
        ),
        Row(
            "endpoints_bad",
            "requests to the worse of the bad ones",
            max(len(dead.asked), len(empty.asked)),
            "requests",
            10,
        ),
    ]


def _caps(folder: Path, scale: Scale) -> list[Row]:
    caps, whole = [Decimal("0.02"), Decimal("0.03"), Decimal("0.04")], Decimal("0.06")
    desk = _desk(folder, "caps").lines(max(2000, scale.lines(LINES // 4)), max_output_tokens=10)
    used = list[Decimal]()
    for cap in (whole, Decimal(1)):  # the second run goes on with the first one's file
        ran = play(desk, *(Place(max_cost_usd=own) for own in caps), max_cost_usd=cap)
        used += [one.cost.total_usd / own for own, one in zip(caps, ran.report.endpoints.values(), strict=True)]
        used.append(ran.report.cost.total_usd / cap)
    return [
        Row("endpoints_caps", "caps of three endpoints and of all: the most used", float(max(used)), "of a cap", 1.0)
    ]
