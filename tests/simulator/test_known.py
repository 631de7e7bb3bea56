"""The answers that the simulated model knows: by input or by custom_id, right as often as it is told to be."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest

import batchrun
from batchrun.errors import UsageError
from batchrun.simulator.app import Gateway
from batchrun.simulator.known import KnownAnswers
from batchrun.simulator.options import GatewayOptions
from batchrun.simulator.requests import Endpoint, parse_request
from batchrun.simulator.seeds import random_of
from tests.asking import Json, send

SCHEMA: Json = {
    "type": "object",
    "properties": {
        "topic": {"type": "string", "enum": ["billing", "delivery", "other"]},
        "urgent": {"type": "boolean"},
        "score": {"type": "integer", "minimum": 1, "maximum": 5},
        "why": {"type": "string"},
    },
    "required": ["topic", "urgent", "score", "why"],
    "additionalProperties": False,
}
FORMAT = {"format": {"type": "json_schema", "name": "label", "schema": SCHEMA}}


def jsonl(path: Path, lines: list[Json]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def answer(known: KnownAnswers, asked: Any, schema: Any = None, model: str = "m", seed: int = 0) -> Any:
    body = json.dumps({"model": model, "input": asked}).encode()
    return known.answer(parse_request(Endpoint.RESPONSES, body, seed, None), schema, random_of(seed, b"test"))


async def text_of(gateway: Gateway, body: Json) -> str:
    reply = await send(gateway, body)
    return str(json.loads(reply.body)["output"][-1]["content"][0]["text"])


@pytest.mark.smoke
async def test_a_request_gets_the_answer_that_the_file_has_for_it(tmp_path: Path) -> None:
    requests = [
        {"custom_id": "a", "body": {"model": "m", "input": "Where?"}},
        {"custom_id": "b#2", "body": {"model": "m", "input": [{"role": "user", "content": "How many?"}]}},
    ]
    answers: list[Json] = [
        {"custom_id": "a", "answer": ["Canberra", "canberra"]},
        {"custom_id": "b", "answer": "seven"},
        {"input": "Where is my parcel?", "answer": {"topic": "delivery"}},
    ]
    options = GatewayOptions(
        answers=jsonl(tmp_path / "key.jsonl", answers), requests=jsonl(tmp_path / "requests.jsonl", requests)
    )
    async with Gateway(options) as gateway:
        assert await text_of(gateway, {"model": "m", "input": "Where?"}) == "Canberra"
        assert (
            await text_of(gateway, {"model": "other", "input": [{"role": "user", "content": "How many?"}]}) == "seven"
        )
        asked = [
            {"role": "developer", "content": "Label it."},
            {"role": "user", "content": [{"type": "input_text", "text": "Which topic? Where is my parcel? Thanks."}]},
        ]
        label = json.loads(await text_of(gateway, {"model": "m", "input": asked, "text": FORMAT}))
        assert label["topic"] == "delivery"
        assert set(label) == set(SCHEMA["properties"])  # what the file lacks is invented
        invented = await text_of(gateway, {"model": "m", "input": "Unknown?"})
        assert invented not in ("Canberra", "seven")


async def test_chat_completions_and_tools_get_it_too(tmp_path: Path) -> None:
    key = jsonl(
        tmp_path / "key.jsonl", [{"input": "Paid twice", "topic": "billing", "urgent": True, "note": "no field"}]
    )
    async with Gateway(GatewayOptions(answers=key)) as gateway:
        chat = {"model": "m", "messages": [{"role": "user", "content": "Paid twice"}]}
        wanted = {"type": "json_schema", "json_schema": {"name": "label", "schema": SCHEMA}}
        reply = await send(gateway, chat | {"response_format": wanted}, path="/v1/chat/completions")
        said = json.loads(json.loads(reply.body)["choices"][0]["message"]["content"])
        assert (said["topic"], said["urgent"], "note" in said) == ("billing", True, False)
        tool = {"type": "function", "name": "label", "parameters": SCHEMA}
        reply = await send(gateway, {"model": "m", "input": "Paid twice", "tools": [tool], "tool_choice": "required"})
        said = json.loads(json.loads(reply.body)["output"][-1]["arguments"])
        assert (said["topic"], said["urgent"]) == ("billing", True)


def test_a_table_of_text_serves_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "gold.csv"
    with path.open("w", encoding="utf-8-sig", newline="") as file:
        csv.writer(file).writerows([["input", "topic", "urgent", "score"], ["Where,\nis it?", "other", "TRUE", "4"]])
    said = answer(KnownAnswers(path, 1.0, None), "Where,\nis it?", SCHEMA)
    assert (said["topic"], said["urgent"], said["score"]) == ("other", True, 4)


def test_an_answer_is_that_field_of_the_schema_where_it_has_one(tmp_path: Path) -> None:
    known = KnownAnswers(jsonl(tmp_path / "key.jsonl", [{"input": "2 + 2", "answer": "4"}]), 1.0, None)
    schema = {"type": "object", "properties": {"answer": {"type": "integer"}}, "required": ["answer"]}
    assert answer(known, "2 + 2", schema) == {"answer": 4}


def test_so_large_a_share_is_right_and_each_model_is_wrong_elsewhere(tmp_path: Path) -> None:
    lines: list[Json] = [
        {"input": f"text {n:04}", "topic": "billing", "urgent": False, "score": 3} for n in range(2000)
    ]
    known = KnownAnswers(jsonl(tmp_path / "key.jsonl", lines), 0.9, None)
    right = {"topic": "billing", "urgent": False, "score": 3}
    wrong: dict[tuple[str, int], set[str]] = {}
    for model, seed in (("a", 0), ("b", 0), ("a", 1), ("a", 0)):
        said = {line["input"]: answer(known, line["input"], SCHEMA, model, seed) for line in lines}
        off = {name: [field for field in right if value[field] != right[field]] for name, value in said.items()}
        assert all(len(fields) <= 1 for fields in off.values())
        found = {name for name, fields in off.items() if fields}
        assert wrong.setdefault((model, seed), found) == found  # the same request, the same answer
    assert all(abs(len(found) / 2000 - 0.1) < 0.025 for found in wrong.values())
    assert len(set(map(frozenset, wrong.values()))) == 3


@pytest.mark.parametrize(("accuracy", "share"), [(0.0, 0), (1.0, 100)])
def test_none_or_all_may_be_right(tmp_path: Path, accuracy: float, share: int) -> None:
    lines = [{"input": f"text {n:04}", "answer": str(n % 7)} for n in range(100)]
    known = KnownAnswers(jsonl(tmp_path / "key.jsonl", lines), accuracy, None)
    assert sum(answer(known, line["input"]) == line["answer"] for line in lines) == share


def test_of_several_inputs_that_stand_in_a_message_the_longest_counts(tmp_path: Path) -> None:
    lines = [{"input": "parcel", "answer": "short"}, {"input": "my parcel is late", "answer": "long"}]
    known = KnownAnswers(jsonl(tmp_path / "key.jsonl", lines), 1.0, None)
    assert answer(known, "Label: my parcel is late!") == "long"
    assert answer(known, "a parcel") == "short"
    assert answer(known, "nothing") is None


@pytest.mark.parametrize(
    ("lines", "why"),
    [
        ([{"custom_id": "a"}], "an answer has the form"),
        ([{"answer": "x"}], "an answer has the form"),
        ([{"custom_id": "a", "answer": []}], "an answer has the form"),
        ([], "has no answers"),
        ([{"custom_id": "a", "answer": "x"}], "the request file must be named"),
    ],
)
def test_a_file_that_tells_no_answers_is_refused(tmp_path: Path, lines: list[Json], why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Gateway(GatewayOptions(answers=jsonl(tmp_path / "key.jsonl", lines)))


def test_a_file_that_fits_no_request_is_refused(tmp_path: Path) -> None:
    key = jsonl(tmp_path / "key.jsonl", [{"custom_id": "other", "answer": "x"}])
    requests = jsonl(tmp_path / "requests.jsonl", [{"custom_id": "a", "body": {"model": "m", "input": "Where?"}}])
    with pytest.raises(UsageError, match=r"no request of .* has a custom_id that .* has an answer for"):
        Gateway(GatewayOptions(answers=key, requests=requests))
    for broken in (b"not JSON\n", b"[1]\n"):
        key.write_bytes(broken)
        with pytest.raises(UsageError, match=r"key\.jsonl:1: "):
            Gateway(GatewayOptions(answers=key, requests=requests))
    with pytest.raises(UsageError, match=r"cannot read .*nothing"):
        Gateway(GatewayOptions(answers=tmp_path / "nothing"))


def test_the_lines_that_the_manual_shows_tell_answers(tmp_path: Path) -> None:
    page = (Path(batchrun.__file__).parent / "docs" / "simulator.md").read_text(encoding="utf-8")
    lines = re.findall(r"^\| `(\{.*?\})` \|", page, re.MULTILINE)
    key, requests = tmp_path / "key.jsonl", tmp_path / "requests.jsonl"
    key.write_text("\n".join(lines), encoding="utf-8")
    jsonl(requests, [{"custom_id": name, "body": {"input": name}} for name in ("q-17", "q-18")])
    known = KnownAnswers(key, 1.0, requests)
    assert answer(known, "q-17") == "Canberra"
    assert answer(known, "q-18", SCHEMA) | {"score": 1, "why": ""} == {
        "topic": "billing",
        "urgent": True,
        "score": 1,
        "why": "",
    }
    assert answer(known, "Where is it?")["topic"] == "delivery"


def test_a_share_needs_a_file_and_lies_between_0_and_1(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="accuracy needs answers"):
        GatewayOptions(accuracy=0.5)
    with pytest.raises(ValueError, match="a share from 0 to 1"):
        GatewayOptions(answers=tmp_path / "key.jsonl", accuracy=1.5)
