"""The fault script and the drawn faults: which attempt of which request meets which word."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.simulator.app import Gateway
from batchrun.simulator.fault_words import ANSWER_WORDS, ERROR_WORDS, SILENT_WORDS
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.script import parse_script
from tests.asking import PLAIN, exchange


def words_of(script: str, index: int, attempts: int) -> list[str]:
    return [str(parse_script(script).word_at(index, attempt)) for attempt in range(1, attempts + 1)]


@pytest.mark.parametrize(
    ("script", "index", "words"),
    [
        ("", 0, ["ok", "ok"]),
        ("429 429 ok; reset ok; stall", 0, ["429", "429", "ok", "ok"]),
        ("429 429 ok; reset ok; stall", 1, ["reset", "ok", "ok"]),
        ("429 429 ok; reset ok; stall", 2, ["stall", "ok"]),
        ("429; reset", 2, ["429", "ok"]),
        ("429; reset!", 1, ["reset", "ok"]),
        ("429; reset!", 2, ["ok", "ok"]),
        ("500*3 cut", 0, ["500", "500", "500", "cut", "ok"]),
        ("ok 500*", 7, ["ok", "500", "500", "500"]),
        ("429@2 503@Wed,_01_Jan", 0, ["429@2", "503@Wed,_01_Jan"]),
        ("crlf+split+done", 0, ["crlf+split+done", "ok"]),
        ("; 500", 0, ["ok", "ok"]),
        ("; 500", 1, ["500", "ok"]),
    ],
)
def test_a_script_says_which_attempt_meets_what(script: str, index: int, words: list[str]) -> None:
    assert words_of(script, index, len(words)) == words


@pytest.mark.parametrize(
    "script", ["nonsense", "399", "600", "500+503", "cut+reset", "+", "cut*x", "500;;;Ω", "429@", "²²²"]
)
def test_a_word_that_nobody_knows_is_named(script: str) -> None:
    with pytest.raises(ValueError, match="fault script"):
        GatewayOptions(script=script)


def test_a_faulty_draw_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match="fault script"):
        GatewayOptions(fault_rate=0.5, fault_words=("oops",))


@given(st.lists(st.sampled_from(["ok", "429", "500", "reset", "cut"]), min_size=1, max_size=6), st.integers(1, 9))
def test_after_its_words_a_line_is_well(words: list[str], later: int) -> None:
    assert words_of(" ".join(words), 0, len(words) + later) == words + ["ok"] * later


async def test_drawn_faults_do_not_hang_on_the_order_of_arrival() -> None:
    async def outcomes(order: list[int]) -> dict[str, list[str]]:
        options = GatewayOptions(fault_rate=0.5, fault_words=("500", "429@0", "eof"), seed=3)
        async with Gateway(options) as gateway:
            for number in order:
                await exchange(gateway, PLAIN | {"input": f"line {number}"})
            rows = gateway.ledger.rows
            return {
                row.body_sha256: [other.outcome for other in rows if other.body_sha256 == row.body_sha256]
                for row in rows
            }

    forth = await outcomes([number for number in range(20) for _ in range(2)])
    back = await outcomes([*reversed(range(20)), *range(20)])
    assert forth == back
    assert {word for words in forth.values() for word in words} == {"ok", "500", "429@0", "eof"}


async def test_equal_bodies_are_attempts_of_one_request_and_others_are_not() -> None:
    async with Gateway(GatewayOptions(script="500 503 ok; 429 ok!")) as gateway:
        for text in ("a", "b", "a", "c", "b", "a"):
            await exchange(gateway, PLAIN | {"input": text})
        assert [row.outcome for row in gateway.ledger.rows] == ["500", "429", "503", "ok", "ok", "ok"]
        assert [row.attempt for row in gateway.ledger.rows] == [1, 1, 2, 1, 2, 3]


def test_the_vocabulary_has_no_word_twice() -> None:
    words = [*ANSWER_WORDS, *SILENT_WORDS, *ERROR_WORDS]
    assert len(words) == len(set(words))
