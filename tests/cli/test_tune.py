"""What each option of `batchrun tune` asks of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchrun.job import tune
from batchrun.job.tune import Tuning
from batchrun.results.events import Tuned
from tests.cli.commands import Command


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ("", Tuning()),
        ("-c 64", Tuning(concurrency="64")),
        ("--concurrency 4-200", Tuning(concurrency="4-200")),
        ("-c auto", Tuning(concurrency="auto")),
        ("--rpm 3000", Tuning(rpm=3000.0)),
        ("--rpm off --tpm OFF", Tuning(rpm=0.0, tpm=0.0)),
        ("--max-cost $7.5", Tuning(max_cost_usd="7.5")),
        ("--pause", Tuning(paused=True)),
        ("--resume", Tuning(paused=False)),
    ],
)
def test_an_option_asks_for_its_change_alone(
    batchrun: Command, monkeypatch: pytest.MonkeyPatch, words: str, asked: Tuning
) -> None:
    requests: list[tuple[Path, Tuning]] = []

    def ask(results: Path, tuning: Tuning) -> Tuned:
        requests.append((results, tuning))
        return Tuned(pid=7)

    monkeypatch.setattr(tune, "ask", ask)
    done = batchrun("tune", "r.jsonl", *words.split())
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("process 7: ")
    assert requests == [(Path("r.jsonl"), asked)]


def test_without_a_run_there_is_nothing_to_tune(batchrun: Command) -> None:
    done = batchrun("tune", "r.jsonl", "-c", "64")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("batchrun: no run is writing ")
