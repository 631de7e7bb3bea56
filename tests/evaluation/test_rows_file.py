"""Every row with its verdict: as a table, and as JUnit XML."""

from __future__ import annotations

import csv
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.cli.commands import Command
from tests.evaluation.made import Outcome, write_gold, write_results


@pytest.fixture
def batchrun(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Four records, one of each kind, and a row of gold that was not asked."""
    monkeypatch.chdir(tmp_path)
    answers = {
        "right": {"topic": "a"},
        "wrong": {"topic": 'b "<&>\x00\x1b[31m\uffff'},
        "none": Outcome("refused"),
        "no gold": {"topic": "a"},
    }
    write_results(Path("r.jsonl"), answers)
    write_gold(Path("gold.csv"), ["custom_id", "topic"], [(key, "a") for key in ("wrong", "right", "none", "late")])
    return Command(monkeypatch, capsys)


def test_the_table_has_every_row_with_its_verdict(batchrun: Command) -> None:
    assert batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--csv", "rows.csv").code == 0
    with Path("rows.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    told = [(row["custom_id"], row["row"], row["verdict"], row["topic_gold"], row["topic_why"]) for row in rows]
    assert told == [
        ("right", "2", "right", "a", ""),
        ("wrong", "1", "wrong", "a", ""),
        ("none", "3", "unanswered", "a", "refused"),
        ("no gold", "", "unscored", "", ""),
        ("late", "4", "not_asked", "a", ""),
    ]
    assert [row["topic_answer"][:1] for row in rows] == ["a", "b", "", "", ""]


def test_junit_counts_each_kind_and_is_xml_whatever_the_answers_hold(batchrun: Command) -> None:
    gates = ("--fail-under", "accuracy=0.9", "--fail-under", "accuracy=0.1")
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--junit", "j.xml", *gates)
    assert done.code == 4
    thresholds, rows = ElementTree.parse("j.xml").getroot()
    assert thresholds.attrib == {"name": "thresholds", "tests": "2", "failures": "1", "errors": "0", "skipped": "0"}
    assert rows.attrib == {"name": "rows", "tests": "5", "failures": "1", "errors": "1", "skipped": "2"}
    kinds = [(case.get("name"), [child.tag for child in case]) for case in rows]
    assert kinds == [
        ("right", []),
        ("wrong", ["failure"]),
        ("none", ["error"]),
        ("no gold", ["skipped"]),
        ("late", ["skipped"]),
    ]
    assert rows[1][0].get("message") == 'topic: wrong, gold is a, answered b "<&>?'


@pytest.mark.parametrize("option", ["--csv", "--junit"])
@pytest.mark.parametrize("path", ["r.jsonl", "gold.csv", "r.jsonl.log"])
def test_no_file_that_is_read_is_overwritten(batchrun: Command, option: str, path: str) -> None:
    before = Path("r.jsonl").read_bytes(), Path("gold.csv").read_bytes()
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", option, path)
    assert done.code == 2
    assert "choose another file" in done.err
    assert (Path("r.jsonl").read_bytes(), Path("gold.csv").read_bytes()) == before


def test_junit_says_nothing_of_an_answer_that_there_is_not(batchrun: Command) -> None:
    write_results(Path("r.jsonl"), {"wrong": {"n": 4, "s": []}, "none": {"n": "4 or 5", "s": ["x"]}})
    rows = [("wrong", 0, "[]"), ("none", 0, "x"), ("late", 7, "a")]
    write_gold(Path("gold.csv"), ["custom_id", "n", "s"], rows)
    scorers = ("--score", "n=number", "--score", "s=set")
    assert batchrun("eval", "r.jsonl", "--gold", "gold.csv", *scorers, "--junit", "j.xml").code == 0
    messages = [case[0].get("message") for case in ElementTree.parse("j.xml").getroot()[1]]
    assert messages == [
        "n: wrong, gold is 0, answered 4; s: right, gold is [], answered []",
        "n: unanswered, gold is 0, unreadable; s: right, gold is x, answered x",
        "n: not asked, gold is 7; s: not asked, gold is a",
    ]


@pytest.mark.parametrize("second", ["rows.csv", "./rows.csv", "link.csv", "more/../rows.csv"])
def test_two_outputs_are_never_one_file(batchrun: Command, second: str) -> None:
    Path("more").mkdir()
    Path("link.csv").symlink_to("rows.csv")
    before = sorted(Path().iterdir())
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--csv", "rows.csv", "--junit", second)
    assert (done.code, done.out) == (2, "")
    assert f"{Path(second)} is named for two outputs; choose another file" in done.err
    assert sorted(Path().iterdir()) == before


@pytest.mark.parametrize("option", ["--fail-if-worse", "--fail-unless-as-good"])
def test_a_base_is_not_overwritten(batchrun: Command, option: str) -> None:
    write_results(Path("base.jsonl"), {"right": {"topic": "a"}})
    before = Path("base.jsonl").read_bytes()
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", option, "base.jsonl", "--csv", "base.jsonl")
    assert done.code == 2
    assert "base.jsonl is the result file; choose another file" in done.err
    assert Path("base.jsonl").read_bytes() == before


@pytest.mark.parametrize("option", ["--csv", "--junit"])
def test_where_there_is_no_verdict_there_is_no_file(batchrun: Command, option: str) -> None:
    write_results(Path("bad.jsonl"), {"right": Outcome("failed")})
    told = ("eval", "bad.jsonl", "--gold", "gold.csv", "--gold-column", "topic=topic", option, "rows.csv")
    assert batchrun(*told).code == 2
    assert not Path("rows.csv").exists()
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", option, "none/rows.csv")
    assert done.code == 2
    assert "cannot write none/rows.csv" in done.err


def test_a_table_of_no_known_format_is_refused(batchrun: Command) -> None:
    done = batchrun("eval", "r.jsonl", "--gold", "gold.csv", "--csv", "rows.txt")
    assert (done.code, done.out) == (2, "")


def test_values_that_are_no_texts_are_written_as_gold_writes_them(batchrun: Command) -> None:
    write_results(Path("r.jsonl"), {"one": {"tags": ["b", "a"], "day": "2026-03-02T10:00:00"}})
    write_gold(Path("gold.csv"), ["custom_id", "tags", "day"], [("one", "b|a|c", "2026-03-02")])
    scorers = ("--score", "tags=set", "--score", "day=date")
    assert batchrun("eval", "r.jsonl", "--gold", "gold.csv", *scorers, "--csv", "rows.csv").code == 0
    with Path("rows.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["tags_gold"], row["tags_answer"]) == ("a|b|c", "a|b")
    assert (row["day_gold"], row["day_answer"]) == ("2026-03-02", "2026-03-02")
