"""Two result files and more against gold, row by row; and against one another where there is no gold."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from batchrun.billing.pricing import PriceBook
from batchrun.datasets.tables import Source
from batchrun.errors import UsageError
from batchrun.evaluation.agreement import agree
from batchrun.evaluation.compare import Comparison, Winner, compare
from batchrun.evaluation.compare_text import render, render_agreement
from batchrun.evaluation.evaluate import Question, evaluate
from batchrun.evaluation.scorers import scorer_of
from batchrun.evaluation.verdict import Unanswered
from batchrun.report.rebuild import rebuild
from batchrun.stats.proportions import Pairs, mcnemar, paired_difference, smallest_difference, wilson
from tests.evaluation.made import Outcome, write_gold, write_results


def files(folder: Path, *answers: Any) -> list[Path]:
    return [write_results(folder / f"{name}.jsonl", told) for name, told in zip("abcdef", answers, strict=False)]


def compared(folder: Path, rows: list[Any], *answers: Any, columns: tuple[str, ...] = (), **told: Any) -> Comparison:
    gold = write_gold(folder / "gold.csv", ["custom_id", *(columns or ["answer"])], rows)
    return compare(files(folder, *answers), Question(Source(str(gold)), **told), PriceBook())


def said(rights: int, total: int, seed: int = 0) -> dict[str, str]:
    """Answers of which so many are right, in random places."""
    marks = ["yes"] * rights + ["no"] * (total - rights)
    random.Random(seed).shuffle(marks)
    return {f"r-{at}": mark for at, mark in enumerate(marks)}


def gold_rows(total: int) -> list[Any]:
    return [(f"r-{at}", "yes") for at in range(total)]


# --------------------------------------------------------------------------------------------- with gold


def test_rows_that_both_have_are_paired_and_the_others_counted(tmp_path: Path) -> None:
    first = {"r-0": "yes", "r-1": "yes", "r-2": "no", "r-3": Outcome("failed"), "r-4": "yes"}
    second = {"r-0": "yes", "r-1": "no", "r-2": "yes", "r-3": "yes", "r-5": "no", "r-6": "yes"}
    found = compared(tmp_path, [*gold_rows(6), ("r-7", "yes")], first, second).fields["answer"][0]
    assert found.pairs == Pairs(both=1, first_only=1, second_only=2, neither=0)
    assert (found.rows, found.only_first, found.only_second, found.left_out) == (4, 1, 1, 0)
    assert (found.first_accuracy, found.second_accuracy) == (wilson(2, 4), wilson(3, 4))
    assert found.difference == paired_difference(found.pairs)
    assert found.p_value == found.p_holm == mcnemar(found.pairs)
    assert found.winner is Winner.NEITHER


def test_unanswered_rows_may_be_left_out(tmp_path: Path) -> None:
    first, second = {"r-0": "yes", "r-1": Outcome("refused")}, {"r-0": "no", "r-1": "yes"}
    found = compared(tmp_path, gold_rows(2), first, second, policy=Unanswered.EXCLUDE).fields["answer"][0]
    assert (found.rows, found.left_out) == (1, 1)
    assert [one.custom_id for one in found.flips] == ["r-0"]  # a row that is left out is none


@pytest.mark.parametrize(
    ("first", "second", "winner", "words"),
    [
        (120, 180, Winner.SECOND, "b.jsonl is better than "),
        (180, 120, Winner.FIRST, "a.jsonl is better than "),
        (150, 155, Winner.NEITHER, "do not show a difference"),
    ],
)
def test_a_file_is_better_only_where_the_interval_does_not_hold_0(
    tmp_path: Path, first: int, second: int, winner: Winner, words: str
) -> None:
    found = compared(tmp_path, gold_rows(200), said(first, 200, 1), said(second, 200, 2))
    one = found.fields["answer"][0]
    assert one.winner is winner
    assert one.difference.lower is not None
    assert one.difference.upper is not None
    assert (one.difference.lower <= 0 <= one.difference.upper) is (winner is Winner.NEITHER)
    text = render(found)
    assert words in text
    assert ("is better than" in text) is (winner is not Winner.NEITHER)
    assert "Newcombe 1998, method 10" in text


def test_the_smallest_difference_that_the_rows_show_stands_in_a_sentence(tmp_path: Path) -> None:
    found = compared(tmp_path, gold_rows(300), said(150, 300, 1), said(150, 300, 2))
    difference = found.fields["answer"][0].smallest_difference
    assert difference is not None
    assert 0.08 < difference < 0.15
    assert f"In 80 % of cases these rows would show a difference of {100 * difference:.2g} percentage" in render(found)
    few = compared(tmp_path, gold_rows(3), said(1, 3, 1), said(2, 3, 2))
    assert "So few rows would show no difference" in render(few)


def test_several_pairs_are_corrected_by_holm(tmp_path: Path) -> None:
    """Three files with one true difference in three: a p of 0.03 alone is no winner among three."""
    answers = [said(100, 200, 1), said(121, 200, 2), said(101, 200, 3)]
    found = compared(tmp_path, gold_rows(200), *answers).fields["answer"]
    assert [(Path(one.first).stem, Path(one.second).stem) for one in found] == [("a", "b"), ("a", "c"), ("b", "c")]
    alone = compared(tmp_path, gold_rows(200), *answers[:2]).fields["answer"][0]
    assert alone.p_value == found[0].p_value < 0.05 < found[0].p_holm == pytest.approx(3 * alone.p_value)
    assert (alone.winner, found[0].winner) == (Winner.SECOND, Winner.NEITHER)


def test_who_wins_where_is_shown_by_group(tmp_path: Path) -> None:
    rows = [(f"r-{at}", "yes", "de" if at < 40 else "fr") for at in range(80)]
    first = {f"r-{at}": "yes" if at < 40 else "no" for at in range(80)}
    second = {f"r-{at}": "no" if at < 40 else "yes" for at in range(80)}
    found = compared(tmp_path, rows, first, second, columns=("answer", "lang"), by="lang").fields["answer"][0]
    assert found.winner is Winner.NEITHER
    assert {name: one.winner for name, one in found.groups.items()} == {"de": Winner.FIRST, "fr": Winner.SECOND}


def test_groups_are_corrected_by_holm_like_files(tmp_path: Path) -> None:
    """Where none of many groups has a difference, one will look as if it had: a p of 0.03 alone is no winner."""
    rows = [(f"r-{at}", "yes", at // 20) for at in range(200)]
    first = {f"r-{at}": "no" if at < 5 else "yes" for at in range(200)}
    found = compared(tmp_path, rows, first, said(200, 200), columns=("answer", "page"), by="page").fields["answer"][0]
    of_first = found.groups["0"]
    assert of_first.p_value == mcnemar(Pairs(15, 0, 5, 0)) < 0.05 < of_first.p_holm
    assert of_first.difference.lower is not None
    assert of_first.difference.lower > 0
    assert {one.winner for one in found.groups.values()} == {Winner.NEITHER}
    assert of_first.smallest_difference != smallest_difference(of_first.pairs)


def test_with_several_files_the_smallest_difference_is_that_of_corrected_tests(tmp_path: Path) -> None:
    answers = [said(100, 200, 1), said(121, 200, 2), said(101, 200, 3)]
    one = compared(tmp_path, gold_rows(200), *answers).fields["answer"][0]
    assert one.smallest_difference == smallest_difference(one.pairs, tests=3)


def test_booleans_and_texts_of_true_are_not_compared_by_two_rules(tmp_path: Path) -> None:
    """Else what is neither would be unanswered in the one file and wrong in the other."""
    one, other = {"a": {"u": True}, "b": {"u": "maybe"}, "c": {"u": False}}, {at: {"u": "true"} for at in "abc"}
    rows = [("a", "TRUE"), ("b", "True"), ("c", "true")]
    with pytest.raises(UsageError, match=r"u would be scored in two ways \(exact of booleans in .*, exact in "):
        compared(tmp_path, rows, one, other, columns=("u",))
    found = compared(tmp_path, rows, one, other, columns=("u",), scorers={"u": scorer_of("exact")})
    assert found.fields["u"][0].pairs == Pairs(both=1, first_only=0, second_only=2, neither=0)


def test_a_field_is_scored_by_one_rule_in_all_files(tmp_path: Path) -> None:
    """Else a text that is a number would be wrong in the one file and right in the other."""
    texts, numbers = ({f"r-{at}": {"n": value} for at in range(4)} for value in ("5.0", 5))
    rows = [(f"r-{at}", "5") for at in range(4)]
    with pytest.raises(UsageError, match=r"n would be scored in two ways \(exact in .*, number in .*--score n=SCORER"):
        compared(tmp_path, rows, texts, numbers, columns=("n",))
    found = compared(tmp_path, rows, texts, numbers, columns=("n",), scorers={"n": scorer_of("number")})
    assert found.fields["n"][0].pairs == Pairs(4, 0, 0, 0)


def test_what_must_be_known_of_a_comparison_stands_in_its_warnings(tmp_path: Path) -> None:
    """A column that no file names, copies, and damaged lines, as eval has them, each with its file."""
    rows = [(at, "x", "en", "1") for at in "abc"]
    answers = {at: {"topic": "x", "n": 1} for at in "abc"}
    (first, second), gold = files(tmp_path, answers, answers), tmp_path / "gold.csv"
    write_gold(gold, ["custom_id", "topic", "lang", "n"], rows)
    lines = second.read_bytes().splitlines(keepends=True)
    copy = lines[1].replace(b'"attempts":1', b'"attempts":0,"source":{"kind":"copied","line":1}')
    second.write_bytes(b"".join([lines[0], copy, b"rubbish\n"]))
    found = compare([first, second], Question(Source(str(gold))), PriceBook())
    told = [
        f"{second}: 1 damaged line without an id that can be read: what was asked there counts as not asked, unless it "
        "has another record",
        f"{second}: 1 answer copied from equal requests: right or wrong together with their originals, so the "
        "intervals are too narrow",
    ]
    assert found.warnings[:2] == told
    assert found.warnings[2].startswith(f"{gold}: no answer has lang, so not scored")
    assert len(found.warnings) == 3
    assert f"warning: {gold}: no answer has lang" in render(found)
    assert json.loads(found.to_json())["warnings"] == found.warnings
    without = agree([first, second], PriceBook())
    assert without.warnings == told
    assert f"warning: {told[0]}" in render_agreement(without)


def test_flips_show_what_each_said(tmp_path: Path) -> None:
    first = {"r-0": {"topic": "x", "urgent": True}, "r-1": {"topic": "x", "urgent": True}}
    second = {"r-0": {"topic": "y", "urgent": True}, "r-1": Outcome("failed")}
    rows = [("r-0", "x", "true"), ("r-1", "x", "true")]
    found = compared(tmp_path, rows, first, second, columns=("topic", "urgent"))
    assert list(found.fields) == ["", "topic", "urgent"]
    flips = [
        (one.custom_id, one.winner, one.field, one.gold, one.first, one.second) for one in found.fields[""][0].flips
    ]
    assert flips == [
        ("r-0", Winner.FIRST, "topic", "x", "x", "y"),
        ("r-1", Winner.FIRST, "topic", "x", "x", None),
    ]
    text = render(found)
    assert "  r-0, topic: gold is x, first said x, second said y" in text
    assert "second said nothing" in text


def test_flips_show_gold_and_answers_as_they_are_written(tmp_path: Path) -> None:
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "answer"], [("r-0", "0.875")])
    paths = files(tmp_path, {"r-0": "It is 0.875, NOT 1."}, {"r-0": "2.5 m"})
    question = Question(Source(str(gold)), scorers={"answer": scorer_of("includes")})
    (flip,) = compare(paths, question, PriceBook()).fields["answer"][0].flips
    assert (flip.gold, flip.first, flip.second) == ("0.875", "It is 0.875, NOT 1.", "2.5 m")


def test_damaged_lines_do_not_shift_the_flips(tmp_path: Path) -> None:
    paths = files(tmp_path, said(10, 10), said(0, 10))
    for path in paths:
        path.write_bytes(b"damaged\n" + path.read_bytes())
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "answer"], gold_rows(10))
    flips = compare(paths, Question(Source(str(gold))), PriceBook()).fields["answer"][0].flips
    assert [(one.custom_id, one.first, one.second) for one in flips] == [(f"r-{at}", "yes", "no") for at in range(10)]


def test_of_repeats_most_decide(tmp_path: Path) -> None:
    first = {"r-0#1": "yes", "r-0#2": "yes", "r-0#3": "no", "r-1#1": "no", "r-1#2": "yes"}
    found = compared(tmp_path, gold_rows(2), first, said(2, 2)).fields["answer"][0]
    assert found.pairs == Pairs(1, 0, 1, 0)


def test_the_vote_of_repeats_is_that_of_eval_and_follows_the_policy(tmp_path: Path) -> None:
    """Two of five say what is right, and no two others the same; one of one that was answered is right."""
    first: dict[str, Any] = {f"r-0#{at}": text for at, text in enumerate(("yes", "a", "yes", "b", "c"), 1)}
    first |= {"r-1#1": "yes", "r-1#2": Outcome("failed"), "r-1#3": Outcome("failed")}
    for policy, pairs in ((Unanswered.WRONG, Pairs(1, 0, 1, 0)), (Unanswered.EXCLUDE, Pairs(2, 0, 0, 0))):
        found = compared(tmp_path, gold_rows(2), first, said(2, 2), policy=policy).fields["answer"][0]
        assert found.pairs == pairs
        alone = evaluate(tmp_path / "a.jsonl", Question(Source(str(tmp_path / "gold.csv")), policy=policy)).repeats
        assert alone is not None
        assert alone.majority == found.first_accuracy


def test_a_flip_of_repeats_shows_an_answer_that_has_the_verdict_of_most(tmp_path: Path) -> None:
    first = {"r-0#1": "yes", "r-0#2": "yes", "r-0#3": Outcome("refused"), "r-1#1": "yes", "r-1#2": Outcome("failed")}
    second = {"r-0": "no", "r-1": "yes"}
    found = compared(tmp_path, gold_rows(2), first, second).fields["answer"][0]
    assert found.pairs == Pairs(0, 1, 1, 0)
    assert [(one.custom_id, one.first, one.second) for one in found.flips] == [
        ("r-0#2", "yes", "no"),
        ("r-1#2", None, "yes"),
    ]


def test_repeats_that_are_right_in_each_field_but_not_as_a_whole_have_a_flip(tmp_path: Path) -> None:
    both, one, other = ({"a": "x", "b": "y"}, {"a": "x", "b": "-"}, {"a": "-", "b": "y"})
    first, second = {"r-0#1": both, "r-0#2": one, "r-0#3": other}, {"r-0": both}
    found = compared(tmp_path, [("r-0", "x", "y")], first, second, columns=("a", "b"))
    assert found.fields["a"][0].pairs == found.fields["b"][0].pairs == Pairs(1, 0, 0, 0)
    assert [(one.field, one.first, one.second) for one in found.fields[""][0].flips] == [("a", "-", "x")]


def test_all_fields_are_those_that_every_file_has(tmp_path: Path) -> None:
    first = {"r-0": {"a": "x", "b": "y", "c": "-"}, "r-1": {"a": "x", "b": "y", "c": "-"}}
    second = {"r-0": {"a": "x", "b": "y"}, "r-1": {"a": "x", "b": "-"}}
    rows = [(f"r-{at}", "x", "y", "z") for at in range(2)]
    found = compared(tmp_path, rows, first, second, columns=("a", "b", "c"))
    assert list(found.fields) == ["", "a", "b"]
    assert found.fields[""][0].pairs == Pairs(1, 1, 0, 0)
    assert [(one.custom_id, one.field) for one in found.fields[""][0].flips] == [("r-1", "b")]
    assert found.files[0].counts[""].right == 2


def test_rows_of_gold_without_a_record_are_counted_for_each_file(tmp_path: Path) -> None:
    found = compared(tmp_path, gold_rows(5), said(5, 5), {"r-0": "yes", "r-1": "no"})
    assert [(one.counts[""].not_asked, one.counts["answer"].not_asked) for one in found.files] == [(0, 0), (3, 3)]
    assert "b.jsonl: 1 right, 1 wrong, 0 unanswered, 0 unscored, 3 not asked" in render(found)


def test_cost_tokens_and_latency_stand_beside_each(tmp_path: Path) -> None:
    found = compared(tmp_path, gold_rows(4), said(4, 4), said(2, 4))
    assert [Path(one.results).name for one in found.files] == ["a.jsonl", "b.jsonl"]
    assert found.files[0].spent.latency_p50_s == pytest.approx(0.5, rel=0.02)
    told = json.loads(found.to_json())
    assert told["v"] == 1
    assert told["files"][1]["counts"]["answer"]["right"] == 2
    assert told["fields"]["answer"][0]["pairs"] == {"both": 2, "first_only": 2, "second_only": 0, "neither": 0}


def test_a_damaged_record_is_one_without_an_answer_with_gold_and_without(tmp_path: Path) -> None:
    paths = files(tmp_path, said(2, 2), said(2, 2))
    lines = paths[1].read_bytes().splitlines(keepends=True)
    paths[1].write_bytes(lines[0] + lines[1][:-30] + b"\n")
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "answer"], gold_rows(2))
    (difference,) = compare(paths, Question(Source(str(gold))), PriceBook()).fields["answer"]
    assert (difference.rows, difference.only_first, difference.pairs) == (2, 0, Pairs(1, 1, 0, 0))
    assert [(flip.custom_id, flip.second) for flip in difference.flips] == [("r-1", None)]
    (agreement,) = agree(paths, PriceBook()).fields["answer"]
    assert (agreement.rows, agreement.unanswered, agreement.only_first) == (1, 1, 0)


def test_damaged_lines_and_second_records_are_told_and_paid_for_with_gold_and_without(tmp_path: Path) -> None:
    """What a second record cost was paid: the cost is that of the report, and the first record is compared."""
    twice = [("r-0", "yes"), ("r-1", "no"), ("r-0", "no"), ("x", "yes"), ("x", "no")]
    paths = files(tmp_path, said(2, 2), twice)
    paths[1].write_bytes(paths[1].read_bytes() + b"damaged\n")
    gold = write_gold(tmp_path / "gold.csv", ["custom_id", "answer"], gold_rows(2))
    held = compare(paths, Question(Source(str(gold))), PriceBook())
    agreed = agree(paths, PriceBook())
    assert held.fields["answer"][0].pairs == Pairs(1, 1, 0, 0)
    assert agreed.fields["answer"][0].agreement == wilson(1, 2)
    usage = rebuild(paths[1], PriceBook()).report.usage
    for one in (held.files[1], agreed.files[1]):
        assert (one.duplicates, one.damaged_lines, one.spent.records) == (2, 1, 5)
        assert one.spent.lines_without_usage == usage.lines_without_usage == 5
    for text in (render(held), render_agreement(agreed)):
        assert "b.jsonl: 2 further records of an id that had one; the first one counts" in text
        assert "b.jsonl: 1 damaged line: unanswered where the id can be read and no other record has it" in text
        assert "5 without usage" in text
        assert "a.jsonl: 1 damaged" not in text
    assert json.loads(held.to_json())["files"][1]["damaged_lines"] == 1
    assert json.loads(agreed.to_json())["files"][1]["duplicates"] == 2


@pytest.mark.parametrize("second", [{"r-5": "yes"}, {"other": "yes"}])
def test_no_row_in_common_is_no_verdict(tmp_path: Path, second: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=r"have no row of .* in common that can be compared"):
        compared(tmp_path, gold_rows(6), {"r-0": "yes"}, second)


def test_gold_of_standard_input_is_refused_as_it_is_read_for_each_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="standard input can be read once, and gold is read for each file"):
        compare(files(tmp_path, said(1, 2), said(2, 2)), Question(Source("-")), PriceBook())


def test_clusters_are_refused_where_files_are_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="knows of no clusters"):
        compared(tmp_path, gold_rows(2), said(1, 2), said(2, 2), cluster="answer")


@pytest.mark.parametrize("is_first", [True, False])
def test_a_file_in_which_nothing_was_answered_is_no_worse_one(tmp_path: Path, is_first: bool) -> None:
    answers: list[Any] = [{"r-0": "yes", "r-1": "no"}, {"r-0": Outcome("failed"), "r-1": Outcome("failed")}]
    with pytest.raises(UsageError, match=r"nothing was answered: 2 rows with gold, none .* \(2 failed\); there is no"):
        compared(tmp_path, gold_rows(6), *(answers[::-1] if is_first else answers))


# ------------------------------------------------------------------------------------------ without gold


def test_without_gold_agreement_and_kappa_are_shown(tmp_path: Path) -> None:
    first = said(50, 100) | {"r-100": Outcome("failed"), "r-101": "yes"}
    second = said(50, 100) | {"r-0": "maybe", "r-100": "yes", "r-102": "yes"}
    random_order = list(second.items())
    random.Random(5).shuffle(random_order)
    found = agree(files(tmp_path, first, random_order), PriceBook())
    one = found.fields["answer"][0]
    assert (one.rows, one.only_first, one.only_second, one.unanswered) == (100, 1, 1, 1)
    assert one.agreement == wilson(99, 100)
    assert one.kappa.value == pytest.approx(0.98, abs=0.003)
    text = render_agreement(found)
    assert "who agrees may be wrong together" in text
    assert json.loads(found.to_json())["fields"]["answer"][0]["rows"] == 100


def test_a_field_that_is_named_answer_is_compared_beside_the_others(tmp_path: Path) -> None:
    told = {f"r-{at}": {"answer": "x", "why": f"because {at}"} for at in range(4)}
    other = {name: {**one, "answer": "y"} for name, one in told.items()}
    found = agree(files(tmp_path, told, other), PriceBook()).fields
    assert {name: one[0].agreement.value for name, one in found.items()} == {"answer": 0.0, "why": 1.0}


def test_answers_agree_as_they_are_scored(tmp_path: Path) -> None:
    """Equal numbers and equal sets agree however they are written, and what cannot be read is no answer."""
    first = {"a": {"n": 1, "tags": ["x", "y"]}, "b": {"n": 2, "tags": ["x"]}, "c": {"n": 3, "tags": []}}
    second = {"a": {"n": 1.0, "tags": ["y", "x"]}, "b": {"n": 2.5, "tags": ["z"]}, "c": {"n": "three", "tags": []}}
    found = agree(files(tmp_path, first, second), PriceBook()).fields
    assert found["n"][0].agreement == wilson(1, 2)
    assert found["n"][0].unanswered == 1
    assert found["tags"][0].agreement == wilson(2, 3)


def test_files_agree_as_far_in_either_order_and_what_is_not_compared_is_named(tmp_path: Path) -> None:
    """How a field is scored is said by the values of both."""
    numbers = {at: {"n": 5, "only": 1, "null": 1} for at in "abc"}
    texts = {"a": {"n": "5 apples", "null": None}, "b": {"n": "5"}, "c": {"n": "five"}, "d": {"n": "six"}}
    paths = files(tmp_path, numbers, texts)
    one, other = agree(paths, PriceBook()), agree(paths[::-1], PriceBook())
    assert one.fields["n"][0].agreement == other.fields["n"][0].agreement == wilson(1, 3)
    assert list(one.fields) == ["n"]
    assert one.fields_left_out == other.fields_left_out == {"null": [str(paths[0])], "only": [str(paths[0])]}
    assert "not compared: only, which is only in " in render_agreement(one)


def test_free_text_agrees_without_a_kappa(tmp_path: Path) -> None:
    text = {f"r-{at}": f"text {at}" for at in range(250)}
    one = agree(files(tmp_path, text, text), PriceBook()).fields["answer"][0]
    assert one.agreement.value == 1
    assert one.kappa.value is None


def test_files_without_a_row_in_common_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no answered row in common"):
        agree(files(tmp_path, {"a": "yes"}, {"b": "yes"}), PriceBook())
