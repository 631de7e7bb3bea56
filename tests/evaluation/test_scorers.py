"""Scorers: what is right, what is wrong, and what is no answer at all."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from batchrun.datasets.json_values import Number
from batchrun.errors import UsageError
from batchrun.evaluation.number import last_number, number_of
from batchrun.evaluation.scorers import TRUTH, Kind, Scorer, ScorerError, scorer_of


def score(scorer: Scorer, gold: Any, answer: Any) -> bool | None:
    read = scorer.read_answer(answer)
    return None if read is None else scorer.is_right(scorer.read_gold(gold), read)


@pytest.mark.parametrize(
    ("name", "gold", "answer", "verdict"),
    [
        ("exact", "billing", " billing\n", True),
        ("exact", "billing", "Billing", False),
        ("exact", "true", True, True),
        ("exact", "TRUE", True, True),
        ("exact", "True", "TRUE", True),
        ("exact", "true", False, False),
        ("exact", "yes", True, False),
        ("exact", "Truth", "truth", False),
        ("exact", "3", 3.0, True),
        ("exact", Number("1.10"), 1.1, True),
        ("exact", "x", None, None),
        ("exact", "caf\u00e9", "cafe\u0301", True),
        ("exact", "a", "\u0430", False),
        ("includes", "caf\u00e9", "In the cafe\u0301.", True),
        ("set", "caf\u00e9", ["cafe\u0301"], True),
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
        (r"regex(\d*)", "42", "42 of them", None),
        ("includes", "Seine", "…!", None),
        ("includes", "5", "it is 1.5", False),
        ("includes", "5", "it is -5", False),
        ("includes", "5", "it is \N{MINUS SIGN}5", False),
        ("includes", "5", ".5", False),
        ("includes", "5", "a loss of -$5", False),
        ("includes", "-5", "a loss of -$5", True),
        ("includes", "5", "\N{PLUS-MINUS SIGN}5", False),
        ("includes", "-5", "5 apples", False),
        ("includes", "-5", "It is \N{MINUS SIGN}5.", True),
        ("includes", "1.5", "it is 1.5.", True),
        ("includes", "5", "5, as 3-5 ends", True),
        ("includes", "1,000", "about 1000 m", True),
        ("includes", "1", "1,000", False),
        ("includes", "2", "1,2,3", True),
        ("includes", "5", "It is - 5.", None),
        ("includes", "5", "x = \N{MINUS SIGN} 5", None),
        ("includes", "5", "minus 5", None),
        ("includes", "5", "<5", None),
        ("includes", "5", "x >= 5", None),
        ("includes", "5", "at least 5", None),
        ("includes", "3", "1/3", None),
        ("includes", "1", "1/3", None),
        ("includes", "1/3", "It is 1/3.", True),
        ("includes", "1/3", "1 3", None),
        ("includes", "<5", "It is <5.", True),
        ("includes", "5", "It is 1/5, or 5.", True),
        ("includes", "5", "Result:\n- 5", True),
        ("includes", "5", "a -> 5, <b>5</b>", True),
        ("includes", "5", "<b>5</b>", True),
        ("includes", "2024", "On 05/01/2024", True),
        ("includes", "five", "minus five", True),
        ("match", "5", "It is < 5", None),
        ("includes", "covid-19", "Covid-19, of course", True),
        ("includes", "2024-05-01", "On 2024-05-01.", True),
        ("match", "-5", "5", False),
        ("match", "5", "1.5", False),
        ("match", "5", "It is 5.", True),
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
        ("set", "p|q", '["p","q"]', True),
        ("set", "p|q", '```json\n["q", "p"]\n```', True),
        ("set", "p|q", '["p", "q"', None),
        ("set", "[]", [], True),
        ("set", [], "[]", True),
        ("set", "[]", ["a"], False),
        ("set", '["a", null, ""]', ["a", None], True),
        ("json", '{"a": [1, {"b": null}]}', {"a": [1.0, {"b": None}]}, True),
        ("json", "[1]", [True], False),
        ("json", {"a": 1}, '{"a": 1}', True),
        ("json", {"a": 1}, '```json\n{"a": 1}\n```', True),
        ("json", {"a": 1}, 'Here it is: ```json\n{"a": 1}\n```', None),
        ("json", {"a": 1}, '{"a": 1', None),
        ("json", {"a": 1}, '{"a": 1, "a": 1}', None),
        ("json", {"a": 1}, "no JSON at all", None),
        ("json", {"a": 1}, '"a"', False),
        ("json", '"red"', "red", True),
        ("json", '"red"', "blue", False),
        ("json", '"red"', '{"colour": "re', None),
        ("json", "9007199254740993", "9007199254740992", False),
        ("date", "2026-03-01", "2026-03-01T23:59:00Z", True),
        ("date", "2026-03-01", "2026-03-02", False),
        ("date", "2026-03-01", "1 March", None),
    ],
)
def test_a_scorer(name: str, gold: Any, answer: Any, verdict: bool | None) -> None:
    assert score(scorer_of(name), gold, answer) is verdict


@pytest.mark.parametrize(
    "text",
    [
        *("0,5", "1,5", "0,005", "100,00", "1,00,000", "1.2.5", "1.234.567", "5,7", "1,2,3", "1_000", "...5"),
        *("10 005", "1 000 000", "2025-05-05", "2025年5月5日", "12:30", "192.168.0.1", "5'10\"", "[1,5]"),
        *("5-7", "5 – 7", "3/4", "8 out of 10", "5 or 7", "from 5 to 7", "5 ± 2", "2 + 3", "17 × 23", "x - 7"),
        *("5k", "5 million", "3 Mio.", "5万", "10²", "2 ½", "5 × 10^3", "0x1F", "1st", "1e999", "9" * 400),
        *(r"\frac{1}{2}", r"\sqrt{2}", "2^{10}", "42, or rather 0,5"),
        *("- 5", "\N{EN DASH} 5", "1 00", "1 2", "±5", "± 5", "+/-5", "<5", "x > 5", "≥ 5", ">= 5", "½ 5", "minus 5"),
        *("-$5", "-(5)", "5 or more", "5 at most", "5+", "negative 5", "not 5", "at least 5", "less than 5"),
        *("5 k", "just over 5", "under 5", "above 5", "below 5", "exceeds 5", "$5 M", "US$ 5 B", "5 or over"),
        *("mindestens 5", "höchstens 5", "mehr als 5", "weniger als 5", "über 5", "unter 5"),
    ],
)
def test_a_number_that_cannot_be_told_for_certain_is_no_answer_and_no_other_number(text: str) -> None:
    assert last_number(text) is None
    assert number_of(text) is None


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *(("10,005", 10005), ("1,234,567.5", 1234567.5), ("1.234,5", 1234.5), ("10'005", 10005)),
        *(("10\N{NARROW NO-BREAK SPACE}005", 10005), ("1{,}000", 1000), (".5", 0.5), ("5e-3", 0.005)),
        *(("it is \N{MINUS SIGN}5.", -5), ("n=-3.5", -3.5), ("17 × 23 = 391.", 391), (r"\boxed{42}", 42)),
        *(("42 kg of CO2", 42), ("42, says GPT-4", 42), ("US$5", 5), ("EUR100", 100), ("答案是42。", 42)),
        *(("<b>5</b>", 5), ("a -> 5", 5), ("=> 5", 5), ("3\n5", 5), ("at least one, so 5", 5)),
        *(("Result:\n- 7", 7), (r"\frac{1}{2} = 0.5", 0.5), ("3 of 4 said 9", 9), ("5 km", 5)),
        *(("5 K", 5), ("5 m", 5), ("as said above: 5", 5), ("all over, 5", 5), ("it is over; 5", 5)),
    ],
)
def test_the_last_number_of_a_text_is_read(text: str, value: float) -> None:
    assert last_number(text) == value


@pytest.mark.parametrize(
    ("gold", "answer", "verdict"),
    [
        *(("10005", "10,005", True), ("10.005", "10,005", None), ("7", "10,005", False), ("10.005", 10005, False)),
        *(("1.234", "1.234", True), ("1234", "1.234", None), ("50", "50%", True), ("0.5", "50 %", None)),
        *(("5", "50%", False), ("0.5", r"50\%", None), ("0.05", "50‰", None)),
        *(
            ("0.5", "50 percent", None),
            ("50", "50 per cent", True),
            ("0.5", "50 Prozent", None),
            ("6", "50 pct", False),
        ),
        *(("0.0005", "5 bps", None), ("5", "5 bp", True), ("0.0005", "5 basis points", None), ("6", "5 bps", False)),
    ],
)
def test_nobody_is_wrong_for_a_number_that_means_what_gold_says_elsewhere(
    gold: str, answer: Any, verdict: bool | None
) -> None:
    assert score(scorer_of("number"), gold, answer) is verdict


@pytest.mark.parametrize("text", ["a1 " * 50_000, "1 " * 50_000, "1 - " * 50_000, "5" + " " * 100_000 + "x"])
def test_a_long_text_is_read_in_a_moment(text: str) -> None:
    start = time.process_time()
    last_number(text)
    scorer_of("choice(A-E)").read_answer(f"Answer: C. {text}" + " wait," * 20_000)
    assert time.process_time() - start < 2


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
        ("Answer: C. Wait, the answer is A.", "A"),
        ("Answer: A\nAnswer: B", "B"),
        ("Answer: B. Not A.", "B"),
        ("Answer: B\nA. London\nB. Paris", "B"),
        ("Answer: B\n\n**B**", "B"),
        ("Answer: C. Wait, A.", None),
        ("Answer: C. No, I mean: A", None),
        ("Answer: A\nB", None),
        ("Answer: A\n\n(B).", None),
        ("Answer: A. B.", None),
        ("A. B.", None),
        ("A\nB", None),
        ("The answer is a bird that sings", None),
        *(("A is wrong.", None), ("Anything but A.", None), ("Plan B failed. No answer.", None), ("Not A", None)),
        *(
            ("A dog is one of these.", None),
            ("Vitamin C", None),
            ("A: no.", None),
            ("A - wrong", None),
            ("Option C is wrong.", None),
            ("It might be A.", None),
        ),
        *(
            ("E. coli", None),
            ("E. coli is a bacterium", None),
            ("*E. coli*", None),
            ("Answer: E. coli", None),
            ("The answer is C. elegans.", None),
            ("A. J. Foyt", None),
            ("D.H. Lawrence", None),
            ("B. mitochondria", "B"),
            ("B. E. coli", None),
            ("E. E. coli", "E"),
            ("Answer: E. E. coli", "E"),
            ("Answer: B. J. K. Rowling", "B"),
        ),
        *(("C) Paris", "C"), ("(B) Paris", "B"), ("B - Paris", "B"), (r"So it is \boxed{D}", "D"), ("Antwort: A", "A")),
        *(
            ("I would go with **B**.", "B"),
            ("A is correct.", "A"),
            ("A, because it flies", "A"),
            ("I think C is right", "C"),
        ),
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
        *(
            "Answer: A is wrong.",
            "Option A failed",
            "The wrong answer is A",
            "Avoid option A",
            "Answer: A, which is wrong",
        ),
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
        ("number", "five", "'five' is no number"),
        ("number", "5 apples", "is no number"),
        ("number", "0,5", "cannot be told for certain; write digits and a decimal point"),
        ("number", "0,005", "is no number"),
        ("number", "10 005", "is no number"),
        ("json", '{"a": 1, "a": 2}', 'the key "a" stands twice'),
        ("number", True, "is no number"),
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
    assert score(TRUTH, "true", "True") is True
    odd: list[Any] = ["maybe", 1, {}, ["true"], None]
    assert [TRUTH.read_answer(value) for value in odd] == [None] * 5
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
    with pytest.raises(ScorerError, match="operator:add gave 3; it must give True, False or None"):
        score(scorer_of("operator:add"), 1, 2)
    with pytest.raises(ScorerError, match=r"operator:lt raised TypeError: .* for gold 1 and the answer 'x'"):
        score(scorer_of("operator:lt"), 1, "x")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("def score(", "SyntaxError"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("raise OSError('no disk')", "OSError: no disk"),
    ],
)
def test_a_module_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    name = f"scorer_{words[:6].lower()}"
    (tmp_path / f"{name}.py").write_text(source)
    with pytest.raises(UsageError, match=f"the scorer {name}:score: .*{words}"):
        scorer_of(f"{name}:score")


def test_values_of_no_scorer_raise_anything_else() -> None:
    for name in ("exact", "casefold", "match", "includes", "regex(x)", "number", "set", "json", "date", "choice(A-B)"):
        answers: list[Any] = [None, True, 5, 10**400, 1.5, "", "\ud800", [], [{}], {"a": 1}]
        for answer in answers:
            scorer_of(name).read_answer(answer)
