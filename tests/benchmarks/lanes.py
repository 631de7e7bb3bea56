"""What each model gets of a gateway that limits them apart or together: whole jobs on real sockets, in virtual time.

The table of `tests/engine/test_lanes.py`, over more lines.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.benchmarks.workloads import Row, Scale
from tests.engine.test_lanes import Bucket, Limit, Seen, play
from tests.engine.test_runner import Desk, Ran

LINES = 100_000
FREE, SLOW_PER_S = 0.95, 5.0
LEARNED_S = 15.0
OWN = {f"m{number}": per_s for number, per_s in enumerate([1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0])}
KEY_PER_S = 100.0


def lanes(folder: Path, scale: Scale) -> list[Row]:
    """The limits of models, and of the key."""
    return [*_beside_a_limited_model(folder, scale), *_one_limit(folder, scale), *_eight_limits(folder, scale)]


def _run(folder: Path, name: str, models: list[str], limits: dict[str, Bucket]) -> tuple[Ran, dict[str, Seen]]:
    """A job of its own folder; `*` is the limit of the whole key."""

    def limit_of(model: str) -> Limit:
        return limits.get(model, limits.get("*"))

    (folder / name).mkdir()
    ran, seen = play(Desk(folder / name), models, limit_of)
    return ran, dict(seen)


def _mix(count: int, *models: str, weights: list[float] | None = None) -> list[str]:
    return random.Random(1).choices(models, weights, k=count)


def _beside_a_limited_model(folder: Path, scale: Scale) -> list[Row]:
    models = _mix(scale.lines(LINES // 5), "free", "slow", weights=[FREE, 1 - FREE])
    _, alone = _run(folder, "alone", ["free"] * models.count("free"), {})
    _, seen = _run(folder, "beside", models, {"slow": Bucket(SLOW_PER_S, SLOW_PER_S)})
    free, slow = seen["free"], seen["slow"]
    early = sum(at_s < LEARNED_S for at_s in slow.refused)
    what = f"a model without a limit beside one of {SLOW_PER_S:g}/s: throughput"
    used = slow.per_s / SLOW_PER_S
    return [
        Row("lanes_free", what, free.per_s / alone["free"].per_s, "of alone", 0.95, True, alone["free"].per_s),
        Row("lanes_slow", f"the one of {SLOW_PER_S:g}/s: limit used", used, "of its limit", 0.95, True),
        Row("lanes_slow_429s", "its 429s in the first 15 s", early, "429s", 30),
        Row("lanes_slow_then", "and afterwards", slow.refused_an_answer(LEARNED_S), "per answer", 0.02),
    ]


def _one_limit(folder: Path, scale: Scale) -> list[Row]:
    ran, seen = _run(
        folder, "key", _mix(scale.lines(LINES // 5), *(f"m{number}" for number in range(8))), {"*": Bucket(100, 20)}
    )
    answers = sum(len(one.answered) for one in seen.values())
    refusals = sum(len(one.refused) for one in seen.values()) / answers
    what = f"eight models, one limit of {KEY_PER_S:g}/s for the key"
    return [
        Row("lanes_key", f"{what}: used", answers / ran.took_s / KEY_PER_S, "of capacity", 0.95, True),
        Row("lanes_key_429s", f"{what}: 429s", refusals, "per answer", 0.01),
    ]


def _eight_limits(folder: Path, scale: Scale) -> list[Row]:
    models = _mix(scale.lines(LINES), *OWN, "m7")
    ran, seen = _run(folder, "own", models, {model: Bucket(per_s, max(1.0, per_s)) for model, per_s in OWN.items()})
    least = min(seen[model].per_s / per_s for model, per_s in OWN.items() if model in seen)
    alone_s = max(len(seen[model].answered) / per_s for model, per_s in OWN.items() if model in seen)
    what = "eight models with limits from 1/s to none"
    return [
        Row("lanes_own", f"{what}: the least of one's own", least, "of its limit", 0.95, True),
        Row("lanes_own_time", f"{what}: time of the job", ran.took_s / alone_s, "× the slowest", 1.05),
    ]
