"""Answers that miss their schema at first, and fit once the model is asked again."""

import json
from pathlib import Path

import orjson
import pytest

from batchrun.simulator.app import Gateway
from batchrun.simulator.options import GatewayOptions, GatewayOptionsError
from batchrun.validation.schema import CompiledSchema
from tests.asking import Answered, Json, send

SCHEMA: Json = {
    "type": "object",
    "properties": {"team": {"enum": ["a", "b"]}, "urgent": {"type": "boolean"}},
    "required": ["team", "urgent"],
    "additionalProperties": False,
}
FORMAT: Json = {"type": "json_schema", "name": "label", "schema": SCHEMA}
AGAIN: list[Json] = [
    {"role": "assistant", "content": "{}"},
    {"role": "user", "content": "That does not fit the JSON schema."},
]


def asking(number: int, *more: Json) -> Json:
    question: list[Json] = [{"role": "user", "content": f"question {number}"}, *more]
    return {"model": "gpt-4.1", "input": question, "text": {"format": FORMAT}}


def fits(text: str) -> bool:
    try:
        return CompiledSchema(json.dumps(SCHEMA).encode()).why_unfit(orjson.loads(text)) is None
    except orjson.JSONDecodeError:
        return False


def text_of(answer: Answered) -> str:
    text: str = json.loads(answer.body)["output"][-1]["content"][0]["text"]
    return text


async def answered(gateway: Gateway, number: int, *more: Json) -> bool:
    return fits(text_of(await send(gateway, asking(number, *more))))


async def test_a_share_of_the_answers_misses_at_first_and_fits_when_asked_again() -> None:
    async with Gateway(GatewayOptions(mismatch_rate=0.3)) as gateway:
        first = [await answered(gateway, number) for number in range(60)]
        assert 6 <= first.count(False) <= 30
        assert first == [await answered(gateway, number) for number in range(60)], "the prompt alone decides"
        assert all([await answered(gateway, number, *AGAIN) for number in range(60)])
        assert gateway.ledger.billed_requests == 180


async def test_a_gateway_may_never_come_to_fit() -> None:
    async with Gateway(GatewayOptions(mismatch_rate=1, mismatch_again_rate=1)) as gateway:
        assert not await answered(gateway, 1)
        assert not await answered(gateway, 1, *AGAIN)


async def test_examples_in_the_request_are_no_answer_of_its_own() -> None:
    async with Gateway(GatewayOptions(mismatch_rate=1)) as gateway:
        examples = [{"role": "assistant", "content": "{}"}, {"role": "user", "content": "question 2"}]
        assert not await answered(gateway, 1, *examples)


async def test_a_model_that_knows_the_answer_gives_it_when_asked_again(tmp_path: Path) -> None:
    known = {"team": "b", "urgent": True}
    key = tmp_path / "key.jsonl"
    key.write_text(json.dumps({"input": "question 1", "answer": known}) + "\n")
    async with Gateway(GatewayOptions(mismatch_rate=1, answers=key)) as gateway:
        assert not await answered(gateway, 1)
        assert json.loads(text_of(await send(gateway, asking(1, *AGAIN)))) == known


async def test_requests_for_text_are_left_alone() -> None:
    async with Gateway(GatewayOptions(mismatch_rate=1)) as gateway:
        await send(gateway)
        assert gateway.ledger.rows[0].outcome == "ok"


async def test_the_words_of_a_script_do_the_same() -> None:
    async with Gateway(GatewayOptions(script="mismatch fenced ok")) as gateway:
        texts = [text_of(await send(gateway, asking(1))) for _ in range(3)]
    assert [fits(text) for text in texts] == [False, False, True]
    assert texts[1] == f"```json\n{texts[2]}\n```"


async def test_an_answer_that_misses_keeps_to_its_limit() -> None:
    async with Gateway(GatewayOptions(script="fenced")) as gateway:
        answer = json.loads((await send(gateway, asking(1) | {"max_output_tokens": 16})).body)
    assert answer["usage"]["output_tokens"] <= 16


def test_a_share_is_from_0_to_1() -> None:
    with pytest.raises(GatewayOptionsError, match=r"mismatch_rate is a share from 0 to 1, not 1\.5"):
        GatewayOptions(mismatch_rate=1.5)
