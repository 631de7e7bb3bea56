"""Scorers: what is right, what is wrong, and what is no answer at all."""

from __future__ import annotations

from typing import Any

import pytest

from batchrun.errors import UsageError
from batchrun.evaluation.scorers import TRUTH, Kind, Scorer, scorer_of


def score(scorer: Scorer, gold: Any, answer: Any) -> bool | None:
    read = scorer.read_answer(answer)
    return None if read is None else scorer.is_right(scorer.read_gold(gold), read)


@pytest.mark.parametrize(
    ("name", "gold", "answer", "verdict"),
    [
        ("exact", "billing", " billing\n", True),
        ("exact", "billing", "Billing", False),
        ("exact", "true", True, True),
        ("exact", "3", 3.0, True),
        ("exact", "x", None, None),
        ("casefold", "Straße  nord", "STRASSE NORD", True),
        ("casefold", "yes", "no", False),
        ("match", "Paris", "Paris, of course.", True),
        ("match", "Paris", "It is paris!", True),
        ("match", "Paris", "Paris or Lyon? I say Lyon it is", True),
        ("match", "Par", "It is Paris", False),
        ("includes", "river Seine", "On the River  Seine, I think", True),
        ("includes", "Seine", "On the Rhine", False),
        (r"regex(total: (\d+))", "42", "total: 7, no, total: 42", True),
        (r"regex(\d+)", "42", "none", None),
        ("number", "391", "17 × 23 = 391.", True),
        ("number", "1,024", 1024, True),
        ("number", "-5", "it is \N{MINUS SIGN}5", True),
        ("number", "5", "no number", None),
        ("number", "5", True, None),
        ("number", "5", float("inf"), None),
        ("number(abs=0.5)", "5", 5.5, True),
        ("number(abs=0.5)", "5", 5.6, False),
        ("number(rel=0.1)", "200", "219", True),
        ("number(abs=1, rel=0.1)", 5, 6, True),
        ("set", ["a", "b"], ["b", "a", "a"], True),
        ("set", '["a", "b"]', ["a"], False),
        ("set", "a|b", ["a", "b"], True),
        ("set", "a", "a", None),
        ("json", '{"a": [1, {"b": null}]}', {"a": [1.0, {"b": None}]}, True),
        ("json", "[1]", [True], False),
        ("json", {"a": 1}, '{"a": 1}', True),
        ("date", "2026-03-01", "2026-03-01T23:59:00Z", True),
        ("date", "2026-03-01", "2026-03-02", False),
        ("date", "2026-03-01", "1 March", None),
    ],
)
def test_a_scorer(name: str, gold: Any, answer: Any, verdict: bool | None) -> None:
    assert score(scorer_of(name), gold, answer) is verdict


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        ("B", "B"),
        ("(b).", "B"),
        ("**C**", "C"),
        ("The answer is B.", "B"),
        ("At first I thought the answer is A. Final answer: D", "D"),
        ("Answer: (C) because A bird flies", "C"),
        ("A is tempting, but no.\nSo:\n\nC.", "C"),
        ("I choose E, of all", "E"),
        ("answer: b", "B"),
        ("The answer is a bird that sings", None),
        ("A or B", None),
        ("The answer is A or B.", None),
        ("It could be A. It could be C.", None),
        ("I don't know", None),
        ("F", None),
        ("", None),
        ("DE", None),
    ],
)
def test_the_last_stated_choice_counts_and_a_doubtful_one_does_not(answer: str, choice: str | None) -> None:
    assert scorer_of("choice(A-E)").read_answer(answer) == choice


@pytest.mark.parametrize(
    "answer",
    [
        *(
            "The correct answer is not A",
            "Answer: not A",
            "answer isn't A",
            "The answer cannot be A",
            "Answer: none of A",
        ),
        *(
            "Answer: A, B",
            "Answer: A & B",
            "Answer: A / B",
            "Answer: A/B",
            "Answer: A|B",
            "Answer: A+B",
            "Answer: A; B",
        ),
        *("Answer: A or maybe B", "Answer: A oder B", "Answer: A-E", "Choose the answer: A, B, C, D or E?"),
        *("Is the answer A?", "The answer is A? No, B", "I can't answer. A"),
    ],
)
def test_a_choice_that_is_denied_asked_or_one_of_several_is_no_answer(answer: str) -> None:
    assert scorer_of("choice(A-E)").read_answer(answer) is None


def test_choices_may_be_named_one_by_one() -> None:
    scorer = scorer_of("choice(YES|NO)")
    assert scorer.read_answer("Answer: NO") == "NO"
    assert scorer.read_gold("yes") == "YES"
    assert scorer.kind is Kind.LABEL


@pytest.mark.parametrize(
    ("name", "gold", "words"),
    [
        ("number", "five", "'five' is not a number"),
        ("number", "5 apples", "not a number"),
        ("number", True, "not a number"),
        ("choice(A-E)", "F", "none of the choices A, B, C, D, E"),
        ("date", "1.3.2026", "not an ISO date"),
        ("set", 5, "not a list"),
        ("json", "{", "not JSON"),
        ("includes", "?!", "no letter and no digit"),
    ],
)
def test_gold_that_cannot_be_read_is_an_error_and_never_a_wrong_answer(name: str, gold: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        scorer_of(name).read_gold(gold)


def test_gold_of_a_bool_says_true_or_false() -> None:
    assert score(TRUTH, "TRUE", True) is True
    assert score(TRUTH, "False", True) is False
    with pytest.raises(ValueError, match="'yes' is not true or false"):
        TRUTH.read_gold("yes")


@pytest.mark.parametrize(
    "name",
    [
        "fuzzy",
        "number(abs=-1)",
        "number(abs=nan)",
        "number(about=1)",
        "choice(A)",
        "choice(a-e)",
        "choice(A|A)",
        "regex(()",
        "no_such_module:f",
        "json:nothing",
        "json:JSONDecoder",
    ],
)
def test_a_scorer_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        scorer_of(name)


def test_a_function_of_ones_own_says_true_false_or_that_it_cannot_tell() -> None:
    scorer = scorer_of("operator:eq")
    assert score(scorer, [1], [1]) is True
    with pytest.raises(UsageError, match="gave 3; it must give True, False or None"):
        score(scorer_of("operator:add"), 1, 2)
    with pytest.raises(UsageError, match=r"operator:lt failed with TypeError: .*, for gold 1 and the answer 'x'"):
        score(scorer_of("operator:lt"), 1, "x")


def test_values_of_no_scorer_raise_anything_else() -> None:
    for name in ("exact", "casefold", "match", "includes", "regex(x)", "number", "set", "json", "date", "choice(A-B)"):
        answers: list[Any] = [None, True, 5, 10**400, 1.5, "", "\ud800", [], [{}], {"a": 1}]
        for answer in answers:
            scorer_of(name).read_answer(answer)
