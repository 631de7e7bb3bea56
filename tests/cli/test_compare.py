"""`batchrun compare`, and the thresholds of `batchrun eval` that compare with a base."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.commands import Command
from tests.evaluation.made import write_gold, write_results

ROWS = 400


@pytest.fixture
def gold(batchrun: Command) -> Path:
    """Of 400 rows `base` has 300 right, `same` the same but 2, `bit_worse` 297, `worse` 260, `better` 340."""
    for name, rights in (("base", 300), ("bit_worse", 297), ("worse", 260), ("better", 340)):
        write_results(Path(f"{name}.jsonl"), {f"r-{at}": "yes" if at < rights else "no" for at in range(ROWS)})
    same = {f"r-{at}": "yes" if at < 299 or at == 301 else "no" for at in range(ROWS)}
    write_results(Path("same.jsonl"), same)
    return write_gold(Path("gold.csv"), ["custom_id", "answer"], [(f"r-{at}", "yes") for at in range(ROWS)])


def test_two_files_are_compared(batchrun: Command, gold: Path) -> None:
    done = batchrun("compare", "base.jsonl", "better.jsonl", "--gold", gold)
    assert (done.code, done.err) == (0, "")
    assert "better.jsonl is better than base.jsonl." in done.out
    told = json.loads(batchrun("compare", "base.jsonl", "better.jsonl", "--gold", gold, "--json").out)
    assert told["fields"]["answer"][0]["difference"]["value"] == pytest.approx(0.1)


def test_without_gold_it_is_shown_how_far_they_agree(batchrun: Command, gold: Path) -> None:
    done = batchrun("compare", "base.jsonl", "same.jsonl", "worse.jsonl")
    assert done.code == 0
    assert "better" not in done.out
    told = json.loads(batchrun("compare", "base.jsonl", "same.jsonl", "--json").out)
    assert told["fields"]["answer"][0]["agreement"]["value"] == 0.995


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("base.jsonl",), "compare needs two result files or more"),
        (("base.jsonl", "same.jsonl", "--by", "lang"), "--by needs --gold FILE"),
        (("base.jsonl", "same.jsonl", "--score", "answer=exact"), "--score needs --gold FILE"),
    ],
)
def test_what_cannot_be_compared_is_refused(batchrun: Command, gold: Path, words: tuple[str, ...], told: str) -> None:
    done = batchrun("compare", *words)
    assert (done.code, done.out) == (2, "")
    assert told in done.err


@pytest.mark.parametrize(
    ("results", "gate", "code"),
    [
        ("same", ("--fail-if-worse", "base.jsonl"), 0),
        ("better", ("--fail-if-worse", "base.jsonl"), 0),
        ("worse", ("--fail-if-worse", "base.jsonl"), 4),
        ("bit_worse", ("--fail-if-worse", "base.jsonl"), 0),  # no loss is shown
        ("bit_worse", ("--fail-unless-as-good", "base.jsonl", "--margin", "0.01"), 4),  # nor ruled out
        ("same", ("--fail-unless-as-good", "base.jsonl"), 4),
        ("same", ("--fail-unless-as-good", "base.jsonl", "--margin", "0.02"), 0),
        ("worse", ("--fail-unless-as-good", "base.jsonl", "--margin", "0.1"), 4),
        ("worse", ("--fail-unless-as-good", "base.jsonl", "--margin", "0.2"), 0),
        ("better", ("--fail-unless-as-good", "base.jsonl"), 0),
        ("same", ("--margin", "0.1"), 2),
        ("same", ("--fail-if-worse", "other.jsonl"), 2),
    ],
)
def test_a_base_is_a_threshold(batchrun: Command, gold: Path, results: str, gate: tuple[str, ...], code: int) -> None:
    """A base that has no row in common is no verdict."""
    write_results(Path("other.jsonl"), {"elsewhere": "yes"})
    for options in ((), ("--json",)):
        done = batchrun("eval", f"{results}.jsonl", "--gold", gold, *gate, *options)
        assert done.code == code, done
        if code != 2 and options:
            assert [one["passed"] for one in json.loads(done.out)["gates"]] == [code == 0]
        elif code != 2:
            assert ("passed: " in done.out, "MISSED: " in done.out) == (code == 0, code == 4)
