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


@pytest.mark.parametrize("option", ["--fail-if-worse", "--fail-unless-as-good"])
def test_the_results_themselves_are_no_base(batchrun: Command, gold: Path, option: str) -> None:
    """A threshold that cannot be missed, or cannot be reached, is none."""
    Path("link.jsonl").symlink_to("base.jsonl")
    for base in ("base.jsonl", "link.jsonl"):
        done = batchrun("eval", "base.jsonl", "--gold", gold, option, base)
        assert (done.code, done.out) == (2, "")
        assert "are one file" in done.err
    assert batchrun("compare", "base.jsonl", "link.jsonl").code == 2
    assert batchrun("compare", "base.jsonl", "link.jsonl", "--gold", gold).code == 2


def test_a_gate_says_what_it_leaves_out(batchrun: Command, gold: Path) -> None:
    lines = Path("base.jsonl").read_bytes().splitlines(keepends=True)
    Path("base.jsonl").write_bytes(b"".join([*lines[:200], b"damaged\n", lines[0]]))
    done = batchrun("eval", "same.jsonl", "--gold", gold, "--fail-if-worse", "base.jsonl")
    assert done.code == 0
    assert "on 200 rows (0 only in the base, 200 not in the base, 0 left out), no loss is shown" in done.out
    assert "base.jsonl: 1 further record of an id that had one; the first one counts" in done.out
    assert "base.jsonl: 1 damaged line: unanswered where the id can be read and no other record has it" in done.out


@pytest.mark.parametrize("option", ["--fail-if-worse", "--fail-unless-as-good"])
def test_a_field_that_the_base_alone_has_is_no_verdict(batchrun: Command, option: str) -> None:
    """A model that stopped answering a field would pass by the others."""
    write_results(Path("base.jsonl"), {f"r-{at}": {"a": "x", "b": "y"} for at in range(50)})
    write_results(Path("lost.jsonl"), {f"r-{at}": {"a": "x"} for at in range(50)})
    write_gold(Path("gold.csv"), ["custom_id", "a", "b"], [(f"r-{at}", "x", "y") for at in range(50)])
    told = ("eval", "lost.jsonl", "--gold", "gold.csv", option, "base.jsonl")
    done = batchrun(*told)
    assert (done.code, done.out) == (2, "")
    assert "b: base.jsonl has that field and lost.jsonl has not" in done.err
    assert batchrun(*told, "--score", "b=exact").code == 4
    done = batchrun("eval", "base.jsonl", "--gold", "gold.csv", "--fail-if-worse", "lost.jsonl")
    assert done.code == 0
    assert "no loss is shown; lost.jsonl: it has no b, which is not compared" in done.out
    both = ("compare", "base.jsonl", "lost.jsonl", "--gold", "gold.csv")
    assert "not compared: b, which is only in base.jsonl" in batchrun(*both).out
    assert json.loads(batchrun(*both, "--json").out)["fields_left_out"] == {"b": ["base.jsonl"]}


def test_as_many_flips_are_shown_as_are_asked_for(batchrun: Command, gold: Path) -> None:
    told = ("compare", "base.jsonl", "worse.jsonl", "--gold", gold)
    assert "flips, 20 of 40; --flips N shows more" in batchrun(*told).out
    shown = batchrun(*told, "--flips", "100").out
    assert "flips, 40 of 40\n" in shown
    assert shown.count("gold is yes, first said yes, second said no") == 40
    assert json.loads(batchrun(*told, "--flips", "0", "--json").out)["fields"]["answer"][0].get("flips") is None


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
