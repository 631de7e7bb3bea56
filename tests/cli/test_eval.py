"""`batchrun eval`: from a result file to a table, to JSON and to an exit code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from batchrun.stats.confusion import SEED
from tests.cli.commands import FAST, Command
from tests.evaluation.made import Outcome, write_gold, write_results


@pytest.fixture
def gold(batchrun: Command) -> Path:
    """Ten rows: eight right, one wrong, one unanswered."""
    answers = {f"r-{at}": {"topic": "yes" if at % 2 else "no"} for at in range(9)} | {"r-9": Outcome("refused")}
    write_results(Path("r.jsonl"), answers)
    rows = [(f"r-{at}", "yes" if at % 2 or at == 8 else "no") for at in range(10)]
    return write_gold(Path("gold.csv"), ["custom_id", "topic"], rows)


def test_the_results_of_a_run_are_scored(batchrun: Command, requests: Path) -> None:
    batchrun("run", requests, "-o", "r.jsonl", *FAST)
    text = json.loads(Path("r.jsonl").read_bytes().splitlines()[0])["response"]["body"]["output"][-1]["content"][0][
        "text"
    ]
    write_gold(Path("gold.csv"), ["custom_id", "answer"], [(f"r-{at}", text) for at in range(5)])
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--score", "answer=includes")
    assert (done.code, done.err) == (0, "")
    row = next(line for line in done.out.splitlines() if line.startswith("answer  "))
    right, wrong, unanswered, unscored, not_asked = map(int, row.split()[1:])
    assert right >= 1
    assert (right + wrong, unanswered, unscored, not_asked) == (3, 0, 0, 2)


def test_the_table_shows_the_five_counts_and_both_accuracies(batchrun: Command, gold: Path) -> None:
    done = batchrun("eval", "r.jsonl", "--gold", gold)
    assert (done.code, done.err) == (0, "")
    lines = [line.split() for line in done.out.splitlines()]
    assert ["rows", "right", "wrong", "unanswered", "unscored", "not", "asked"] in lines
    assert ["topic", "8", "1", "1", "0", "0"] in lines
    assert "topic     0.800 (0.490 to 0.943)  0.889 (0.565 to 0.980)" in done.out
    assert "unanswered: 1 refused" in done.out
    assert "  1 × yes answered with no: r-8" in done.out
    assert "warning: topic: fewer than 10 rows of gold for no (4), yes (6)" in done.out
    assert "resampled, seed 14" in done.out


def test_json_is_the_same_figures(batchrun: Command, gold: Path) -> None:
    told = json.loads(batchrun("eval", "r.jsonl", "--gold", gold, "--json", "--unanswered", "exclude").out)
    assert told["policy"] == "exclude"
    assert told["fields"]["topic"]["accuracy"] == told["accuracies"]["answered"]
    assert told["counts"]["unanswered"] == 1


@pytest.mark.parametrize(
    ("threshold", "code"),
    [
        ("accuracy=0.8", 0),
        ("accuracy=0.81", 4),
        ("topic.accuracy=0.8", 0),
        ("lower(accuracy)=0.49", 0),
        ("lower(accuracy)=0.5", 4),
        ("upper(accuracy)=0.9", 0),
        ("topic.f1_macro=0.8", 0),
        ("lower(topic.f1_macro)=0.8", 4),
        ("topic.kappa=0.99", 4),
        ("topic.recall(yes)=0.8", 4),
        ("topic.recall(no)=1", 0),
        ("topic.precision(yes)=1", 0),
        ("topic.nothing=0.5", 2),
        ("topic.alpha_ordinal=0.5", 2),
        ("topic.recall(other)=0.5", 2),
        ("accuracy", 2),
        ("accuracy=high", 2),
        ("accuracy=90", 2),
        ("accuracy=nan", 2),
    ],
)
def test_a_threshold_and_the_exit_code(batchrun: Command, gold: Path, threshold: str, code: int) -> None:
    """The verdict that is printed and the code say the same, with --json as well."""
    for options in ((), ("--json",)):
        done = batchrun("eval", "r.jsonl", "--gold", gold, "--fail-under", threshold, *options)
        assert done.code == code, done
        if code == 2:
            assert done.out == ""
            assert "passed" not in done.err
        elif options:
            assert [gate["passed"] for gate in json.loads(done.out)["gates"]] == [code == 0]
        else:
            assert ("passed: " in done.out, "MISSED: " in done.out) == (code == 0, code == 4)
        assert done.err.startswith("batchrun: missed: ") is (code == 4)


@pytest.mark.parametrize(
    ("answer", "gate", "code"),
    [
        ("yes", ("--fail-under", "accuracy=1"), 0),
        ("yes", ("--fail-under", "lower(accuracy)=0.2"), 0),
        ("yes", ("--fail-under", "lower(accuracy)=0.21"), 4),
        ("yes", ("--fail-under", "upper(accuracy)=1"), 0),
        ("yes", ("--fail-under", "answer.f1(yes)=1"), 0),
        ("yes", ("--fail-under", "answer.f1_macro=1"), 0),
        ("yes", ("--fail-under", "lower(answer.f1_macro)=0"), 2),  # one label alone gives no bounds
        ("yes", ("--fail-under", "answer.kappa=0"), 2),
        ("yes", ("--fail-under", "answer.f1(no)=0"), 2),
        ("yes", ("--fail-row-under", "0"), 2),
        ("yes", ("--fail-if-worse", "base.jsonl"), 0),
        ("yes", ("--fail-unless-as-good", "base.jsonl", "--margin", "0.5"), 4),  # one row rules out next to nothing
        ("no", ("--fail-under", "accuracy=0.01"), 4),
        ("no", ("--fail-under", "upper(accuracy)=0.8"), 4),
        ("no", ("--fail-under", "answer.kappa=0"), 0),
        ("no", ("--fail-if-worse", "base.jsonl"), 0),
        ("no", ("--fail-unless-as-good", "base.jsonl", "--margin", "1"), 4),
        (Outcome("failed", "yes"), ("--fail-under", "accuracy=0"), 2),
        (Outcome("failed", "yes"), ("--fail-if-worse", "base.jsonl"), 2),
        (Outcome("failed", "yes"), ("--fail-unless-as-good", "base.jsonl", "--margin", "1"), 2),
        ("yes", ("--fail-if-worse", "failed.jsonl"), 2),
        ("yes", ("--fail-unless-as-good", "empty.jsonl"), 2),
        ("yes", ("--fail-if-worse", "damaged.jsonl"), 2),
        ("yes", ("--fail-if-worse", "elsewhere.jsonl"), 2),
    ],
)
def test_each_threshold_on_a_file_of_one_row(batchrun: Command, answer: Any, gate: tuple[str, ...], code: int) -> None:
    write_gold(Path("gold.csv"), ["custom_id", "answer"], [("a", "yes")])
    write_results(Path("r.jsonl"), {"a": answer})
    write_results(Path("base.jsonl"), {"a": "yes"})
    write_results(Path("failed.jsonl"), {"a": Outcome("failed")})
    write_results(Path("elsewhere.jsonl"), {"b": "yes"})
    Path("empty.jsonl").touch()
    Path("damaged.jsonl").write_bytes(b"damaged\n")
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", *gate)
    assert done.code == code, done
    assert ("passed: " in done.out, "MISSED: " in done.out) == (code == 0, code == 4)
    assert (done.out == "") is (code == 2)


def test_a_figure_that_there_is_not_is_refused_with_those_that_there_are(batchrun: Command, gold: Path) -> None:
    done = batchrun("eval", "r.jsonl", "--gold", gold, "--fail-under", "topic.f1(other)=0.5")
    assert done.code == 2
    assert "precision, recall and f1 of a class as in topic.f1(LABEL), LABEL being one of: no, yes" in done.err


def test_a_figure_just_below_is_printed_below(batchrun: Command) -> None:
    """0.89998 with four digits would be 0.9000, below 0.9."""
    write_results(Path("r.jsonl"), {f"r-{at}": "yes" if at < 44999 else "no" for at in range(50000)})
    write_gold(Path("gold.csv"), ["custom_id", "answer"], [(f"r-{at}", "yes") for at in range(50000)])
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--fail-under", "accuracy=0.9")
    assert done.code == 4
    assert "accuracy is 0.89998, below 0.9" in done.err


def test_one_missed_threshold_of_several_is_enough(batchrun: Command, gold: Path) -> None:
    passing, missing = ("--fail-under", "accuracy=0.1"), ("--fail-under", "accuracy=0.99")
    assert batchrun("eval", "r.jsonl", "--gold", gold, *passing, *missing).code == 4
    assert batchrun("eval", "r.jsonl", "--gold", gold, *passing).code == 0


def test_the_repeats_of_each_row_have_a_threshold(batchrun: Command) -> None:
    answers = {f"a#{at}": "yes" if at > 1 else "no" for at in range(1, 5)} | {f"b#{at}": "yes" for at in range(1, 5)}
    write_results(Path("r.jsonl"), answers)
    write_gold(Path("gold.csv"), ["custom_id", "answer"], [("a", "yes"), ("b", "yes")])
    words = ("eval", "r.jsonl", "--gold", "gold.csv", "--fail-row-under")
    assert [batchrun(*words, share).code for share in ("0.75", "0.8")] == [0, 4]
    done = batchrun(*words[:-1])
    assert "2 rows with 4 repeats each\n" in done.out
    assert "pass^4" in done.out


def test_repeats_that_were_not_sent_yet_are_not_asked(batchrun: Command) -> None:
    """Four of nine requests have a record: the other five are counted, named and warned of, each as one."""
    write_gold(Path("gold.csv"), ["id", "question", "answer"], [(at, f"{at}?", f"{at}") for at in range(3)])
    ask = ("-p", "{{ question }}", "--id", "id", "--model", "m", "--repeat", "3", "-o", "q.jsonl")
    assert batchrun("prepare", "gold.csv", *ask).code == 0
    assert batchrun("run", "q.jsonl", "-o", "r.jsonl", "-n", "4", *FAST).code == 0
    told = ("eval", "r.jsonl", "--gold", "gold.csv")
    found = json.loads(batchrun(*told, "--json", "--csv", "rows.csv", "--junit", "rows.xml").out)
    assert (sum(found["counts"].values()), found["counts"]["not_asked"]) == (9, 5)
    assert (found["repeats"]["rows"], found["repeats"]["least"], found["repeats"]["most"]) == (2, 1, 3)
    assert "5 repeats not asked: no figure speaks of them" in found["warnings"]
    assert Path("rows.csv").read_text().count(",not_asked,not_asked,") == 5
    assert Path("rows.xml").read_text().count('name="2#2"') == 1
    assert "2 rows with 1 to 3 repeats each" in batchrun(*told).out
    write_results(Path("other.jsonl"), {str(at): "yes" for at in range(3)})
    assert (
        "0 unscored, 5 not asked"
        in batchrun("compare", "r.jsonl", "other.jsonl", "--gold", "gold.csv", "--key", "id").out
    )


def test_a_row_threshold_without_repeats_is_no_verdict(batchrun: Command, gold: Path) -> None:
    done = batchrun("eval", "r.jsonl", "--gold", gold, "--fail-row-under", "0.5")
    assert done.code == 2
    assert "no row here was" in done.err


@pytest.mark.parametrize("answer", [Outcome("failed"), Outcome("refused"), "rubbish"])
def test_nothing_answered_is_never_a_pass(batchrun: Command, answer: object) -> None:
    """Not even with a threshold of 0, nor where unanswered rows are left out."""
    write_results(Path("r.jsonl"), {"a": answer})
    write_gold(Path("gold.csv"), ["custom_id", "topic"], [("a", "yes")])
    told = ("eval", "r.jsonl", "--gold", "gold.csv", "--gold-column", "topic=topic", "--fail-under", "accuracy=0")
    for options in ((), ("--unanswered", "exclude")):
        done = batchrun(*told, *options)
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith("batchrun: nothing was answered: 1 row with gold")


def test_what_a_file_says_is_shown_as_plain_text(batchrun: Command) -> None:
    write_results(Path("r.jsonl"), {"a": {"topic": "\x1b[31mred\x1b[0m\nforged: line"}, "b": {"topic": "x"}})
    write_gold(Path("gold.csv"), ["custom_id", "topic"], [("a", "x"), ("b", "x")])
    out = batchrun("eval", "r.jsonl", "--gold", "gold.csv").out
    assert "\x1b" not in out
    assert "\nforged" not in out
    raw = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--json").out
    assert "\x1b" not in raw


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--score", "topic"), "--score topic: write FIELD=SCORER"),
        (("--score", "topic=fuzzy"), "there is no scorer 'fuzzy'; the scorers are exact,"),
        (("--score", "topic=exact", "--score", "topic=json"), "topic is told twice"),
        (("--gold-column", "=x"), "--gold-column =x: write FIELD=COLUMN"),
        (("--gold", "none.csv"), "none.csv"),
        (("--gold", "gold.txt"), "its ending does not tell its format"),
    ],
)
def test_a_bad_option_is_refused_in_words(batchrun: Command, gold: Path, options: tuple[str, ...], words: str) -> None:
    told = () if "--gold" in options else ("--gold", str(gold))
    done = batchrun("eval", "r.jsonl", *told, *options)
    assert (done.code, done.out) == (2, "")
    assert words in done.err


def test_gold_is_read_as_it_is_written(batchrun: Command, gold: Path) -> None:
    """As a table that Excel writes: cp1252 with semicolons; told that, it is the same gold."""
    write_results(Path("u.jsonl"), {"r-0": {"topic": "Gebühr"}, "r-1": {"topic": "Ware"}})
    Path("excel.csv").write_bytes("custom_id;topic\r\nr-0;Gebühr\r\nr-1;Ware\r\n".encode("cp1252"))
    told = ("eval", "u.jsonl", "--gold", "excel.csv")
    assert batchrun(*told).code == 2
    done = batchrun(*told, "--encoding", "cp1252", "--delimiter", ";", "--fail-under", "accuracy=1")
    assert done.code == 0, done.err
    Path("gold.txt").write_text('{"custom_id": "r-0", "topic": "Gebühr"}\n', encoding="utf-8")
    done = batchrun("eval", "u.jsonl", "--gold", "gold.txt", "--format", "jsonl", "--fail-under", "accuracy=1")
    assert done.code == 0, done.err


def test_a_function_of_ones_own_scores(batchrun: Command, gold: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found in the directory that the command is called in."""
    Path("own_scorer.py").write_text("def same_end(gold, answer):\n    return answer[-1] == gold[-1]\n")
    done = batchrun("eval", "r.jsonl", "--gold", gold, "--score", "topic=own_scorer:same_end", "--json")
    assert json.loads(done.out)["fields"]["topic"]["scorer"] == "own_scorer:same_end"


def test_the_seed_of_the_help_is_the_one_that_is_taken(batchrun: Command) -> None:
    assert f"[default: {SEED}]" in " ".join(batchrun("eval", "--help").out.split())
