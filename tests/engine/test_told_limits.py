"""Limits that gateways tell of in headers, by model or by key. Whole jobs on real sockets, in virtual time."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence

from batchrun.limits.options import Limits
from tests.engine.test_lanes import Seen, mix
from tests.engine.test_runner import GOOD, Desk, Ran, desk
from tests.engine.test_whose_fault import TOO_FAST, job
from tests.hostile import Asked, Say, http
from tests.support import Json

__all__ = ["desk"]


class Window:
    """So many requests in each minute; answers tell how many are left of them, as those of LiteLLM's proxy do."""

    def __init__(self, count: int) -> None:
        self._count, self._minute, self._used = count, 0, 0

    def take(self, now: float) -> bytes | None:
        """The answer; None if it is refused."""
        if int(now / 60) != self._minute:
            self._minute, self._used = int(now / 60), 0
        self._used += 1
        left = self._count - self._used
        if left < 0:
            return None
        return http(x_ratelimit_limit_requests=str(self._count), x_ratelimit_remaining_requests=str(left))


def answers(answer: bytes) -> Say:
    async def say(writer: asyncio.StreamWriter, asked: Asked) -> None:
        await asyncio.sleep(0.3)
        writer.write(answer)

    return say


def play(desk: Desk, models: Sequence[str], limit_of: Callable[[str], Window | None]) -> tuple[Ran, Mapping[str, Seen]]:
    """Run one line for each model of `models`, against a gateway with such limits."""
    desk.bodies(*({"model": model, "input": f"question {number}"} for number, model in enumerate(models, 1)))
    seen: defaultdict[str, Seen] = defaultdict(lambda: Seen([], []))

    def choose(body: Json, _: int) -> bytes | Say:
        model, now = body["model"], asyncio.get_running_loop().time()
        limit = limit_of(model)
        answer = GOOD if limit is None else limit.take(now)
        (seen[model].refused if answer is None else seen[model].answered).append(now)
        return TOO_FAST if answer is None else answers(answer)

    ran, _ = job(desk, choose, limits=Limits("auto"))
    return ran, seen


def test_headers_of_one_model_pace_no_other(desk: Desk) -> None:
    """The free one had to wait for the other one's limit: 478 of 600 lines in 200 s, with a real proxy of LiteLLM's."""
    window = Window(60)
    ran, seen = play(desk, mix(600, slow=0.5, free=0.5), lambda model: window if model == "slow" else None)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 600)
    assert max(seen["free"].answered) < 10
    slow = seen["slow"]
    assert len(slow.answered) / max(slow.answered) >= 0.95
    assert len(slow.refused) <= 0.02 * len(slow.answered)


def test_two_models_with_the_same_limit_get_it_each(desk: Desk) -> None:
    windows = {"one": Window(300), "two": Window(300)}
    ran, seen = play(desk, mix(1500, one=0.5, two=0.5), windows.get)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 1500)
    for model in windows:
        assert len(seen[model].answered) / max(seen[model].answered) >= 0.95 * 300 / 60, model
        assert seen[model].refused_an_answer(since_s=60) <= 0.01, model


def test_a_limit_of_the_key_that_all_answers_tell_is_kept_as_one(desk: Desk) -> None:
    window = Window(300)
    ran, seen = play(desk, mix(1200, **{f"m{number}": 1 for number in range(4)}), lambda model: window)
    assert (ran.exit_code, ran.report.lines.succeeded) == (0, 1200)
    assert 1200 / max(at for one in seen.values() for at in one.answered) >= 0.95 * 300 / 60
    assert sum(len(one.refused) for one in seen.values()) <= 0.01 * 1200
